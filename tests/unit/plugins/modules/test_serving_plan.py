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


CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
          "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192}


def metadata(layers, source):
    """Metadata that shows in the plan where it is from."""
    return {"schema": 1, "config": {**CONFIG, "num_hidden_layers": layers}, "source": source,
            "weights": {"bytes": None, "files": None, "tensors": None}}


def source(answer):
    """Where the plan's figures are from."""
    assert not answer.get("failed"), answer
    return answer["plan"]["deployments"][0]["metadata_source"]


def test_metadata_is_the_deployments_own_then_listed_then_kept_then_the_catalogues(plan, tmp_path):
    (tmp_path / "own.json").write_text(json.dumps(metadata(30, "own")))
    qwen = {"name": "r1", "model": "Qwen/Qwen3-8B", "revision": "abc", "device": "cpu"}
    listed = [{"item": qwen, "metadata": metadata(31, "listed")}]
    failed = [{"item": qwen, "failed": False, "msg": "IDC-FETCH-001: nobody there."}]
    assert source(plan(deployments=[{**qwen, "metadata": str(tmp_path / "own.json")}], listed=failed)) == "own"
    unreached = plan(deployments=[qwen], listed=failed)
    assert "catalogue" in source(unreached) and any("nobody there" in text for text in unreached["plan"]["warnings"])
    assert source(plan(deployments=[qwen], listed=listed)) == "listed"
    assert source(plan(deployments=[qwen], listed=failed)) == "listed"        # kept
    assert source(plan(deployments=[qwen])) == "listed"
    assert "catalogue" in source(plan(deployments=[qwen], profile="l40s-4"))  # on paper nothing that is kept counts


def test_a_metadata_path_that_is_not_there_is_said(plan, tmp_path):
    answer = plan(deployments=[{**WANTED[0], "metadata": str(tmp_path / "nothing")}])
    assert answer["failed"] and answer["error"]["code"].startswith("IDC-FETCH-01") and "nothing" in answer["msg"]


def test_on_paper_each_node_is_of_the_profile_and_nothing_is_kept(plan):
    wanted = [{"name": "r1", "model": "deepseek-ai/DeepSeek-R1", "revision": "abc"}]
    answer = plan(deployments=wanted, hosts=UNSEEN, profile="hgx-h200-8")
    assert not answer["changed"] and not plan.state.exists() and answer["plan"]["provisional"]
    assert answer["table"][1].split()[:5] == ["r1-blue-0", "n1", "192.0.2.1:8000", "8", "TP8+EP"]
    many = plan(deployments=[{**wanted[0], "hosts": ["n1"]}], hosts=UNSEEN, profile="2*hgx-h100-8")
    assert [engine["host"] for engine in many["plan"]["engines"]] == ["hgx-h100-8-1", "hgx-h100-8-2"]
    wrong = plan(deployments=wanted, hosts=UNSEEN, profile="hgx-h100-9")
    assert wrong["error"]["code"] == "IDC-PLAN-014" and "hgx-h100-8" in wrong["msg"]


def test_wrong_deployment_is_an_error_of_the_catalogue(plan):
    assert plan(deployments=[{"name": "r1"}])["error"]["code"] == "IDC-INV-002"
