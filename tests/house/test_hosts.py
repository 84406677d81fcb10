"""What site.yml left on the hosts: owners, modes, services, listeners; no secret where it does not belong."""
from __future__ import annotations

import json
import stat

import pytest

from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def engine(fleet):
    """The plan's first engine."""
    return fleet.plan["engines"][0]


def test_engine_runs_as_its_own_user_from_a_pinned_release(fleet, on, engine):
    node = on(engine["host"])
    unit = f"idc-vllm@{engine['name']}"
    assert node.service(unit).is_running and node.service(unit).is_enabled
    pid = node.check_output("systemctl show -p MainPID --value %s", unit)
    assert node.check_output("ps -o user= -p %s", pid) == "vllm"
    link = node.file(f"/opt/idc_llm/deployments/{engine['name']}/current")
    assert link.linked_to == f"/opt/idc_llm/releases/{engine['release']}"


def test_secrets_are_roots_alone(fleet, on, engine):
    node, gateway = on(engine["host"]), on("gateways")
    env = node.file(f"/etc/idc_llm/engines/{engine['name']}/env")
    assert (env.user, env.mode) == ("root", 0o600)
    assert "VLLM_API_KEY" in env.content_string
    for name in ("keys.map", "engine_key.conf", "own.key"):
        file = gateway.file(f"/etc/nginx/idc_llm/{name}")
        assert file.exists and (file.user, file.mode) == ("root", 0o600), name
    for path in (fleet.state / "key-demo", fleet.state / "ca/ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_no_key_in_processes_journals_logs_or_plan(fleet, on, engine):
    keys = [fleet.key, (fleet.state / "key-engine").read_text().strip()]
    assert all(len(key) >= 32 for key in keys)
    for host in fleet.variables:
        seen = on(host).check_output("ps axww; journalctl --no-pager; cat /etc/idc_llm/plan.json; "
                                     "cat /var/log/nginx/*.log 2>/dev/null; true")
        assert seen.count("\n") > 20
        for key in keys:
            assert key not in seen, host


def test_the_plan_is_the_same_everywhere(fleet, on):
    for host in fleet.variables:
        assert json.loads(on(host).file("/etc/idc_llm/plan.json").content_string) == fleet.plan


def test_store_is_complete_and_proven(fleet, on):
    for host, rows in fleet.plan["stores"].items():
        for row in rows:
            manifest = json.loads(on(host).file(row["path"] + "/manifest.json").content_string)
            assert {"config.json", "model.safetensors"} <= {entry["path"] for entry in manifest["files"]}
            for entry in manifest["files"]:
                assert on(host).file(f"{row['path']}/{entry['path']}").sha256sum == entry["sha256"]


def test_nothing_but_the_gateway_and_ssh_listens_on_all_addresses(fleet, on):
    for host in fleet.variables:
        gateway = host in fleet.groups["gateways"]
        listening = on(host).check_output("ss -Htln").splitlines()
        sockets = [line.split()[3].rsplit(":", 1) for line in listening]
        wide = {port for address, port in sockets if address in ("0.0.0.0", "[::]", "*")}
        assert wide <= ({"22", "443"} if gateway else {"22"}), listening


def test_the_engine_asks_for_its_key_and_prometheus_needs_none(fleet, on, engine):
    base = f"http://{engine['address']}:{engine['port']}"
    curl = "curl -s -o /dev/null -w '%%{http_code}' "
    assert on("gateways").check_output(curl + "%s", f"{base}/v1/models") == "401"
    assert on("monitors").check_output(curl + "%s", f"{base}/metrics") == "200"


def test_prometheus_scrapes_everything_in_the_plan(fleet, on):
    plan = fleet.plan
    monitor = on("monitors")
    address = plan["hosts"][fleet.groups["monitors"][0]]["address"]
    listening = monitor.check_output("ss -Htln sport = :%s", str(plan["ports"]["prometheus"])).split()[3]
    assert listening.rsplit(":", 1)[0] in ("127.0.0.1", address)
    answer = json.loads(monitor.check_output("curl -sG http://%s/api/v1/query --data-urlencode query=up", listening))
    up = {row["metric"]["instance"]: row["value"][1] for row in answer["data"]["result"]}
    for row in plan["scrape"]:
        assert up.get(f"{row['address']}:{row['port']}") == "1", (row["job"], row["host"], up)


def test_the_audit_line_names_the_tenant(fleet, on):
    answer = fleet.chat()
    assert answer.status == 200
    asked = answer.headers["X-Request-Id"]  # Prometheus asks at the same time, and a line comes after its answer
    line = wait_for(lambda: on("gateways").run("grep -F %s /var/log/idc_llm/audit.log", f'"request_id":"{asked}"').stdout, 10)
    line = json.loads(line)
    assert line["tenant"] == "demo" and str(line["status"]) == "200"
