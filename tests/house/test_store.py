"""The store that hosts share: who serves it, who may read it, and that the files are the same everywhere."""
from __future__ import annotations

import json

import pytest

from tests.support.fleet import playbook

UNIT, TIMER = "idc-llm-store.service", "idc-llm-store-verify.timer"


@pytest.fixture(scope="module")
def nodes(fleet):
    """Hosts with a store, in order."""
    return sorted(fleet.plan["stores"])


def base(fleet, host: str) -> str:
    """Where a host's store is served."""
    return f"http://{fleet.plan['hosts'][host]['address']}:{fleet.plan['ports']['store']}"


def status(host, url: str, *options: str) -> str:
    """What a host is answered: the status, 000 for none."""
    return host.run("curl -s -o /dev/null -m 10 --noproxy '*' -w '%%{http_code}' " + " ".join(options) + " %s", url).stdout


def test_the_server_is_a_unit_of_its_own_without_privileges(fleet, on, nodes):
    for name in nodes:
        node = on(name)
        assert node.service(UNIT).is_running and node.service(UNIT).is_enabled, node.check_output("journalctl -u %s -n 50", UNIT)
        assert node.service(TIMER).is_running and node.service(TIMER).is_enabled
        pid = node.check_output("systemctl show -p MainPID --value %s", UNIT)
        assert node.check_output("ps -o user:20= -p %s", pid).strip() == "idc-llm-store"
        assert node.check_output("awk '/^CapEff/ {print $2}' /proc/%s/status", pid).strip("0") == ""


def test_it_listens_on_the_hosts_address_alone(fleet, on, nodes):
    for name in nodes:
        wanted = f"{fleet.plan['hosts'][name]['address']}:{fleet.plan['ports']['store']}"
        listening = on(name).check_output("ss -Htln sport = :%s", str(fleet.plan["ports"]["store"])).splitlines()
        assert {line.split()[3] for line in listening} == {wanted}, listening


def test_the_distributions_site_never_starts_where_there_is_no_gateway(fleet, on, nodes):
    for name in set(nodes) - set(fleet.groups["gateways"]):
        assert not on(name).service("nginx.service").is_running and not on(name).service("nginx.service").is_enabled
    for name in fleet.groups["gateways"]:
        assert on(name).service("nginx.service").is_running and on(name).service("nginx.service").is_enabled


def test_every_node_reads_every_other_ones_store(fleet, on, nodes):
    for name in nodes:
        for row in fleet.plan["stores"][name]:
            for other in nodes:
                ask = f"{base(fleet, name)}/{row['model']}/{row['revision']}/"
                listing = json.loads(on(other).check_output("curl -sf -m 10 --noproxy '*' %s", ask))
                sizes = {entry["name"]: entry.get("size") for entry in listing}
                manifest = json.loads(on(name).file(f"{row['path']}/manifest.json").content_string)
                for file in manifest["files"]:
                    if "/" not in file["path"] and not file["path"].startswith("."):
                        assert sizes[file["path"]] == file["size"], (name, other, file["path"])


def test_only_what_is_finished_is_read_and_nobody_writes(fleet, on, nodes):
    row = fleet.plan["stores"][nodes[0]][0]
    file = f"{base(fleet, nodes[0])}/{row['model']}/{row['revision']}/manifest.json"
    assert status(on(nodes[-1]), file) == "200"
    assert status(on(nodes[-1]), file, "-X PUT -d x") == "403"
    for path in ("/", f"/{row['model']}/", "/.verify.json", f"/{row['model']}/.lock-{row['revision']}"):
        assert status(on(nodes[-1]), base(fleet, nodes[0]) + path) == "404", path


def test_a_host_that_serves_nothing_is_refused(fleet, on, nodes):
    strangers = [name for name in fleet.variables if name not in fleet.groups["gpu_nodes"]]
    if not strangers:
        pytest.skip("every host of this fleet is a GPU node; proven on default")
    row = fleet.plan["stores"][nodes[0]][0]
    file = f"{base(fleet, nodes[0])}/{row['model']}/{row['revision']}/manifest.json"
    for name in strangers:
        assert status(on(name), file) == "403", name


def test_the_files_are_the_same_on_every_node(fleet, on, nodes):
    digests = {}
    for name in nodes:
        for row in fleet.plan["stores"][name]:
            for file in json.loads(on(name).file(f"{row['path']}/manifest.json").content_string)["files"]:
                path = f"{row['path']}/{file['path']}"
                digests.setdefault(path, set()).add(on(name).check_output("sha256sum %s", path).split()[0])
                digests[path].add(file["sha256"])
    assert digests and {path: found for path, found in digests.items() if len(found) != 1} == {}


def test_the_daily_reading_runs_as_its_unit_says_and_tells_a_metric(fleet, on, nodes):
    node = on(nodes[0])
    assert node.run("systemctl start idc-llm-store-verify.service").rc == 0, node.check_output(
        "journalctl -u idc-llm-store-verify -n 30 --no-pager")
    metric = node.check_output("curl -sf -m 10 --noproxy '*' http://%s:%s/metrics", fleet.plan["hosts"][nodes[0]]["address"],
                               str(fleet.plan["ports"]["node"]))
    lines = dict(line.rsplit(" ", 1) for line in metric.splitlines() if line.startswith("idc_llm_store_"))
    assert float(lines["idc_llm_store_files_verified"]) > 0 and float(lines["idc_llm_store_files_wrong"]) == 0
    assert float(lines["idc_llm_store_verified_timestamp_seconds"]) > 1e9


def test_a_lost_file_comes_back_from_the_neighbour(fleet, on, nodes):
    """The source is there too; the neighbour is asked first, and its journal says that it gave the file."""
    if len(nodes) < 2:
        pytest.skip("this fleet has no neighbours; proven on default")
    row = fleet.plan["stores"][nodes[0]][0]
    giver, taker = on(nodes[1]), on(nodes[0])
    since = giver.check_output("date '+%Y-%m-%d %H:%M:%S'")
    taker.check_output("rm %s", f"{row['path']}/model.safetensors")
    run = playbook("playbooks/site.yml", "--tags", "model_store", "--limit", nodes[0])
    assert run.rc == 0 and run.total("changed") == 1, run.output[-4000:]
    manifest = json.loads(taker.file(f"{row['path']}/manifest.json").content_string)
    source = {file["path"]: file["source"] for file in manifest["files"]}["model.safetensors"]
    assert source == base(fleet, nodes[1])
    journal = giver.check_output("journalctl --no-pager -u %s --since %s", UNIT, since)
    address = fleet.plan["hosts"][nodes[0]]["address"]
    assert f"{address} \"GET /{row['model']}/{row['revision']}/model.safetensors\" 200" in journal
