"""The engines' life under load, on the real vLLM: changed, upgraded, hung, killed, misconfigured. What a user sees of each.

Named so that it comes last: it leaves the fleet with another release.
"""
from __future__ import annotations

import json
import subprocess
import time

import pytest
import yaml

from tests.support.ask_engine import token
from tests.support.fleet import FLEET, ROOT, playbook
from tests.support.load import Load
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(FLEET == "single", reason="proven on the fleet of three, where another engine takes over")
OTHER = "0.32.0+1"


@pytest.fixture
def with_deployment(tmp_path):
    """Arguments of a run in which the fleet's deployment differs: with_deployment(release="…", engine_args={…: None removes})."""
    def changed(**values):
        rows = yaml.safe_load((ROOT / "inventories/demo/group_vars/all/site.yml").read_text())["idc_llm_deployments"]
        rows[0]["replicas"] = 2
        rows[0]["engine_args"].update(values.pop("engine_args", {}))
        rows[0].update(values)
        place = tmp_path / "deployments.json"
        place.write_text(json.dumps({"idc_llm_deployments": rows}))
        return ["--extra-vars", f"@{place}"]
    return changed


def engines_at_work(on, fleet):
    """{engine: (main PID, release)} as systemd and the links say."""
    found = {}
    for engine in fleet.plan["engines"]:
        node = on(engine["host"])
        pid = node.check_output("systemctl show -p MainPID --value idc-vllm@%s", engine["name"])
        link = node.check_output("readlink /opt/idc_llm/deployments/%s/current", engine["name"])
        found[engine["name"]] = (pid, link.rpartition("/")[2])
    return found


def core(node, engine):
    """PID of the engine's core process."""
    group = node.check_output("systemctl show -p ControlGroup --value idc-vllm@%s", engine)
    for pid in node.check_output("cat /sys/fs/cgroup/systemd%s/cgroup.procs /sys/fs/cgroup%s/cgroup.procs 2>/dev/null || true",
                                 group, group).split():
        if "EngineCore" in node.run("cat /proc/%s/cmdline", pid).stdout:
            return pid
    return None


def test_a_changed_option_restarts_one_engine_after_the_other_and_cuts_nothing(fleet, on, with_deployment):
    before = engines_at_work(on, fleet)
    changed = with_deployment(engine_args={"max-num-seqs": 24})
    with Load(fleet) as load:
        run = playbook("site.yml", "--tags", "vllm", *changed)
    print(load.said("a changed option on both engines"))
    assert run.rc == 0, run.output[-4000:]
    assert load.problems == [] and len(load.requests) > 10
    after = engines_at_work(on, fleet)
    assert all(after[name][0] not in ("0", before[name][0]) for name in before)


def test_a_configuration_that_dies_while_it_loads_is_put_back_and_nobody_notices(fleet, on, with_deployment):
    """The option is fine for vLLM's parser; that not one prompt fits in so small a KV cache comes out half a minute later."""
    before = engines_at_work(on, fleet)
    with Load(fleet) as load:
        run = playbook("site.yml", "--tags", "vllm", *with_deployment(engine_args={"kv-cache-memory-bytes": "16K"}))
    print(load.said("a configuration that dies while it loads"))
    assert run.rc != 0
    assert "IDC-ENG-018" in run.output and "KV cache" in run.output, run.output[-4000:]
    assert load.problems == [] and len(load.requests) > 10
    after = engines_at_work(on, fleet)
    names = sorted(before)
    assert after[names[0]][0] != before[names[0]][0] and after[names[1]] == before[names[1]]  # the second was never touched
    assert all(token(on(engine["host"]), engine) for engine in fleet.plan["engines"])
    config = on("node1").check_output("cat /etc/idc_llm/engines/%s/config.yaml", names[0])
    assert 'kv-cache-memory-bytes: "64M"' in config
    assert " down; #" not in on("gateways").check_output("cat /etc/nginx/idc_llm/engines/*.conf")


def test_an_option_that_vllm_does_not_have_is_refused_before_anything_is_touched(fleet, on, with_deployment):
    before = engines_at_work(on, fleet)
    run = playbook("site.yml", "--tags", "vllm", *with_deployment(engine_args={"max-num-seq": 24}))
    assert run.rc != 0 and "max-num-seqs" in run.output and "IDC-ENG-015" in run.output, run.output[-3000:]
    assert run.total("changed") <= 4  # the plan, kept on the controller and on each host
    assert engines_at_work(on, fleet) == before


def test_a_release_that_is_not_there_stops_no_engine(fleet, on, with_deployment):
    """As with one tag alone: nothing installs it in this run. What serves is left as it is."""
    before = engines_at_work(on, fleet)
    run = playbook("site.yml", "--tags", "vllm_service", *with_deployment(release="9.9.9"))
    assert run.rc != 0 and "releases/9.9.9/bin/vllm" in run.output, run.output[-3000:]
    assert engines_at_work(on, fleet) == before
    assert all(token(on(engine["host"]), engine) for engine in fleet.plan["engines"])


def restarts_by_watchdog(node, engine):
    """The counters in the textfile that the node exporter reads, of all reasons."""
    text = node.check_output("cat /var/lib/prometheus/node-exporter/idc_llm_watchdog_%s.prom", engine)
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("idc_llm_watchdog_restarts_total{"))


def test_an_engine_whose_core_hangs_is_started_anew_by_its_watchdog(fleet, on):
    engine = fleet.plan["engines"][0]
    node = on(engine["host"])
    pid = core(node, engine["name"])
    assert pid, "no core process found"
    assert token(node, engine)
    before, work = restarts_by_watchdog(node, engine["name"]), engines_at_work(on, fleet)[engine["name"]]
    gateway = on("gateways")
    since = gateway.check_output("date +%s")
    with Load(fleet) as load:
        node.check_output("kill -STOP %s", pid)
        began = time.monotonic()
        assert node.run("curl -sf -m 5 http://%s:%s/health", engine["address"], str(engine["port"])).rc == 0  # so it says
        assert wait_for(lambda: engines_at_work(on, fleet)[engine["name"]] != work, 150, 1), node.check_output(
            "journalctl -u idc-vllm-watchdog@%s -n 30 --no-pager", engine["name"])
        found = time.monotonic() - began
        assert wait_for(lambda: token(node, engine), 200, 1)
        print(f"the hang was ended after {found:.0f} s, the next token came after {time.monotonic() - began:.0f} s")
    print(load.said("a hung core"))
    complete = [request for request in load.requests if not request.problem]
    assert len(complete) > 10, load.problems
    assert restarts_by_watchdog(node, engine["name"]) == before + 1
    records = node.check_output("ls /var/lib/idc_llm/watchdog")
    assert engine["name"] in records

    def said():
        return gateway.check_output("journalctl -u idc-llm-prober --no-pager --since=@%s", since)
    assert f"{engine['name']}: share 1 -> 0: " in said(), said()
    assert wait_for(lambda: f"{engine['name']}: share 0 -> " in said(), 30), said()


def test_a_killed_core_is_healed_and_the_other_engine_answers(fleet, on):
    engine = fleet.plan["engines"][1]
    node = on(engine["host"])
    pid = core(node, engine["name"])
    assert token(node, engine)
    with Load(fleet) as load:
        node.check_output("kill -KILL %s", pid)
        began = time.monotonic()
        time.sleep(3)
        assert wait_for(lambda: token(node, engine), 200, 1)
        print(f"token {time.monotonic() - began:.0f} s after the kill of its core")
    print(load.said("a killed core"))
    cut = [request for request in load.requests if request.problem and not request.problem.startswith("cut")]
    assert cut == []  # what had not begun was answered by the other engine
    assert len(load.problems) <= 3  # one stream of each user at most


def test_two_plays_at_once_on_one_engine_are_one_too_many(fleet, on):
    """The second is told who works on it."""
    engine = fleet.plan["engines"][0]
    node = on(engine["host"])
    held = subprocess.Popen(["docker", "exec", fleet.variables[engine["host"]]["fleet_container"], "flock", "--exclusive",
                             f"/run/idc-vllm/{engine['name']}.lock", "sleep", "120"])
    try:
        assert wait_for(lambda: node.run("flock -n /run/idc-vllm/%s.lock true", engine["name"]).rc == 1, 60, 0.5)
        run = playbook("site.yml", "--tags", "vllm_service", "--limit", engine["host"])
        assert run.rc != 0 and "IDC-ENG-020" in run.output, run.output[-3000:]
    finally:
        node.run("pkill -f '[s]leep 120'")
        held.wait(20)


def test_the_engines_unit_is_well_shut(on, fleet):
    text = on("node1").check_output("systemd-analyze security --no-pager idc-vllm@%s.service", fleet.plan["engines"][0]["name"])
    exposure = float(text.rsplit("Overall exposure level", 1)[1].split(":")[1].split()[0])
    print(f"systemd-analyze security: {exposure}")
    assert exposure <= 3.0, text


def test_another_release_takes_over_engine_by_engine(fleet, on, with_deployment):
    for host in ("node1", "node2"):
        on(host).check_output(
            "cd /opt/idc_llm/releases && { test -d %s || { cp -al 0.32.0 .b && for program in .b/bin/*; do "
            "if head -c 64 $program | grep -q '^#!/opt/idc_llm/releases/0.32.0/'; "
            "then sed -i 's,releases/0.32.0/,releases/%s/,' $program; fi; done; mv .b %s; }; }", OTHER, OTHER, OTHER)
    with Load(fleet) as load:
        run = playbook("site.yml", "--tags", "vllm", *with_deployment(release=OTHER))
    print(load.said(f"an upgrade to {OTHER}"))
    assert run.rc == 0, run.output[-4000:]
    assert load.problems == [] and len(load.requests) > 10
    assert {release for _pid, release in engines_at_work(on, fleet).values()} == {OTHER}
    for engine in fleet.plan["engines"]:
        command = on(engine["host"]).check_output(
            "tr '\\0' ' ' < /proc/$(systemctl show -p MainPID --value idc-vllm@%s)/cmdline", engine["name"])
        assert command.startswith(f"/opt/idc_llm/releases/{OTHER}/bin/python"), command
        assert token(on(engine["host"]), engine)
