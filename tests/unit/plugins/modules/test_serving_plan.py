"""serving_plan as Ansible calls it: keeps state, is a fixed point, keeps nothing in check mode, says what is damaged."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
HOSTS = {"n1": {"groups": ["gpu_nodes"], "address": "10.0.0.1", "gpu": {"state": "no_library", "gpus": []}, "fresh": True}}
UNSEEN = {"n1": {"groups": ["gpu_nodes"], "address": None, "gpu": None, "fresh": False}}
WANTED = [{"name": "r1", "model": "org/r1", "revision": "abc", "device": "cpu"}]


@pytest.fixture()
def plan(tmp_path):
    """Runs the module in a process of its own; gives its answer. The state folder is tmp_path/state."""
    def run(hosts=None, check=False, **change):
        params = {"deployments": WANTED, "hosts": hosts or HOSTS, "state_dir": str(tmp_path / "state"), "release": "1.0",
                  "allow_unaccepted": True, **change, "_ansible_check_mode": check, "_ansible_diff": True}
        code = ("import sys, json; from ansible.module_utils.testing import patch_module_args\n"
                "from ansible_collections.idc.llm.plugins.modules import serving_plan\n"
                "with patch_module_args(json.loads(sys.argv[1])): serving_plan.main()")
        done = subprocess.run([sys.executable, "-c", code, json.dumps(params)], capture_output=True, text=True, cwd=tmp_path,
                              env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")}, check=False)
        assert done.stdout, done.stderr
        return json.loads(done.stdout.splitlines()[-1])
    run.state = tmp_path / "state"
    return run


def test_first_run_keeps_plan_and_facts_second_run_changes_nothing(plan):
    first = plan()
    assert first["changed"] and json.loads((plan.state / "plan.json").read_text()) == first["kept"]
    assert json.loads((plan.state / "facts/n1.json").read_text())["address"] == "10.0.0.1"
    assert first["table"][1].split()[:3] == ["r1-blue-0", "n1", "10.0.0.1:8000"]
    second = plan()
    assert not second["changed"] and second["plan"] == first["plan"]


def test_check_mode_decides_the_same_and_keeps_nothing(plan):
    checked = plan(check=True)
    assert checked["changed"] and "r1-blue-0" in checked["diff"]["after"] and not plan.state.exists()
    assert checked["plan"] == plan()["plan"]


def test_a_host_out_of_reach_is_planned_from_its_kept_facts(plan):
    first = plan()
    second = plan(hosts=UNSEEN)
    assert not second["changed"] and second["plan"]["engines"] == first["plan"]["engines"]
    assert second["plan"]["hosts"]["n1"]["stale"] is True


def test_damaged_state_is_said_and_left_alone(plan):
    plan()
    (plan.state / "plan.json").write_text("{")
    answer = plan(lang="zh")
    assert answer["failed"] and answer["error"]["code"] == "IDC-PLAN-003" and "无法读取" in answer["msg"]
    assert (plan.state / "plan.json").read_text() == "{"


def test_state_that_cannot_be_written_is_said(plan):
    plan.state.write_text("a file where the folder should be")
    assert plan()["error"]["code"] in ("IDC-PLAN-003", "IDC-PLAN-004")


def test_wrong_deployment_is_an_error_of_the_catalogue(plan):
    assert plan(deployments=[{"name": "r1"}])["error"]["code"] == "IDC-INV-002"
