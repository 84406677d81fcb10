"""What operators do on a fleet that serves, and what happens to it: each leaves the rest serving."""
from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.support.fleet import FLEET, playbook
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(FLEET == "single", reason="proven on the fleet of three; `single` proves the first install")


def test_check_mode_on_a_fleet_that_stands_reports_no_change():
    run = playbook("site.yml", "--check", "--diff")
    assert run.rc == 0, run.output[-4000:]
    assert run.recap and run.total("changed") == 0, run.output[-4000:]


def test_two_tags_alone_change_nothing_and_need_no_sudo_on_the_controller(fleet, tmp_path):
    sudo = tmp_path / "sudo"
    sudo.write_text("#!/bin/sh\necho 'no sudo on the controller' >&2\nexit 1\n")
    sudo.chmod(0o755)
    run = playbook("playbooks/site.yml", "--tags", "model_store,gateway", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert run.rc == 0 and run.total("changed") == 0, run.output[-4000:]
    assert "model_fetch" in run.output or "model_store" in run.output
    assert fleet.chat().status == 200


def test_limit_to_one_host_leaves_the_others_in_the_plan(fleet):
    before = fleet.plan
    run = playbook("site.yml", "--limit", "node1")
    assert run.rc == 0, run.output[-4000:]
    assert set(run.recap) - {"localhost"} == {"node1"} and run.total("changed") == 0, run.output[-4000:]
    assert fleet.plan == before and {engine["host"] for engine in before["engines"]} == {"node1", "node2"}
    assert fleet.chat().status == 200


def test_status_shows_each_engine(fleet):
    run = playbook("playbooks/status.yml")
    assert run.rc == 0 and run.total("changed") == 0, run.output[-4000:]
    for engine in fleet.plan["engines"]:
        line = next(line for line in run.output.splitlines() if f"- {engine['name']} " in line)
        assert engine["host"] in line and "now, after" in line and line.rstrip().endswith("no"), line


def test_verify_proves_a_token_and_changes_nothing():
    run = playbook("playbooks/verify.yml")
    assert run.rc == 0 and run.total("changed") == 0, run.output[-4000:]
    assert "TLSv1.3" in run.output


def test_a_killed_engine_is_healed_without_anyone(fleet, on):
    engine = fleet.plan["engines"][0]
    node, unit = on(engine["host"]), f"idc-vllm@{engine['name']}"

    def pid():
        return node.check_output("systemctl show -p MainPID --value %s", unit)

    old = pid()
    assert int(old) > 1
    node.check_output("kill -9 %s", old)
    assert [fleet.chat().status for _turn in range(4)] == [200] * 4  # the other engine takes over
    start = time.monotonic()
    key = node.check_output(". /etc/idc_llm/engines/%s/env; echo $VLLM_API_KEY", engine["name"])
    ask = ("curl -sf -m 20 -H @- -H 'Content-Type: application/json' http://%s:%s/v1/chat/completions -d "
           "'{\"model\":\"tiny\",\"max_tokens\":4,\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'")
    healed = wait_for(lambda: node.run(f"echo 'Authorization: Bearer {key}' | " + ask, engine["address"],
                                       str(engine["port"])).rc == 0, 180, 2)
    assert healed, node.check_output("journalctl -u %s -n 50 --no-pager", unit)
    assert pid() not in ("0", old)
    print(f"token {time.monotonic() - start:.0f} s after the kill")
    assert wait_for(lambda: fleet.chat().status == 200, 30)


def test_one_host_down_leaves_the_rest_serving_and_it_comes_back_by_itself(fleet):
    container = fleet.variables["node2"]["fleet_container"]
    before = fleet.plan
    subprocess.run(["docker", "stop", "-t", "20", container], check=True, capture_output=True)
    try:
        assert [fleet.chat().status for _turn in range(4)] == [200] * 4
        run = playbook("site.yml")
        assert run.recap["node2"]["unreachable"] >= 1, run.output[-4000:]
        assert run.total("failed") == 0 and run.total("changed") == 0, run.output[-6000:]
        assert "not seen in this run: node2" in run.output
        assert fleet.plan == before
        assert [fleet.chat().status for _turn in range(4)] == [200] * 4
    finally:
        subprocess.run(["docker", "start", container], check=True, capture_output=True)
    assert wait_for(lambda: playbook("playbooks/status.yml").output.count("now, after") == 2, 180, 3)
