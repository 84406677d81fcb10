# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""llm_probe beyond one request, as Ansible runs it: limits, baseline, golden answers, and what it never shows."""
from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _measure
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._expect import Expect
from ansible_collections.idc.llm.plugins.module_utils._golden import Golden
from ansible_collections.idc.llm.plugins.module_utils._load import Load
from ansible_collections.idc.llm.plugins.module_utils._measure import Plan, measure, prepare
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe

from tests.support.openai_server import KEY, MODEL, serve

CODE = (
    "from ansible.module_utils.testing import patch_module_args\n"
    "import json, sys\n"
    "from ansible_collections.idc.llm.plugins.modules import llm_probe\n"
    "with patch_module_args(json.load(sys.stdin)['ANSIBLE_MODULE_ARGS']): llm_probe.main()\n"
)


def run(server, check=False, **arguments):
    """The module's result, and all that it printed."""
    given = {"url": server.url, "model": MODEL, "api_key": KEY, "timeout": 5, "_ansible_check_mode": check, **arguments}
    done = subprocess.run([sys.executable, "-c", CODE], input=json.dumps({"ANSIBLE_MODULE_ARGS": given}), capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": ".collections"}, check=False)
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


def code(result):
    return (result.get("error") or {}).get("code")


def test_a_sound_run_returns_figures_beside_the_first_answer():
    with serve() as server:
        result, _said = run(server, requests=4, concurrency=2, slo={"ttft_p99_ms": 5000, "itl_p99_ms": 5000, "e2e_p99_ms": 5000})
        assert len(server.seen) == 5
    assert (result["text"], result["status"], result["changed"]) == ("Hello there!", 200, False)
    assert result["load"]["good"] == 4
    assert [row["ok"] for row in result["slo"]] == [True] * 4


def test_a_missed_objective_fails_and_still_returns_the_figures():
    with serve() as server:
        result, _said = run(server, requests=3, slo={"ttft_p99_ms": 1})
    assert result["failed"] is True and code(result) == "IDC-PROBE-014"
    assert f"ttft_p99_ms={result['load']['ttft_ms']['p99']:g} (<= 1)" in result["msg"]
    assert result["load"]["good"] == 3
    assert {row["name"]: row["ok"] for row in result["slo"]} == {"ttft_p99_ms": False, "error_rate": True}


def test_failed_requests_fail_the_run_unless_they_are_allowed():
    with serve("", "429", "") as server:
        result, _said = run(server, requests=4)
    assert code(result) == "IDC-PROBE-014" and "error_rate=0.25 (<= 0): status 1" in result["msg"]
    assert result["load"]["statuses"] == {"200": 3, "429": 1}
    with serve("", "429", "") as server:
        result, _said = run(server, requests=4, slo={"error_rate": 0.25})
    assert "failed" not in result and result["load"]["failed"] == 1


def test_synthetic_prompts_have_the_length_that_was_asked_for():
    with serve() as server:
        result, _said = run(server, requests=3, prompt_tokens=100)
        payloads = [request["payload"] for request in server.seen]
    assert result["load"]["prompt_tokens"] == {"min": 100, "max": 100, "mean": 100.0}
    assert len({payload["messages"][0]["content"] for payload in payloads[-3:]}) == 3
    assert all(payload["ignore_eos"] for payload in payloads[-3:])
    assert "ignore_eos" not in payloads[0]


def test_expectations_of_one_answer():
    with serve() as server:
        assert code(run(server, expect={"regex": "^Good"})[0]) == "IDC-PROBE-013"
        refused, _said = run(server, api_key="nobody-" + secrets.token_hex(8), expect={"status": 401, "regex": "Unauthorized"})
        assert (refused["status"], refused.get("failed")) == (401, None)
        assert code(run(server, expect={"status": 401})[0]) == "IDC-PROBE-013"
        server.tokens = ('{"cards"', ": ", "8}")
        schema = {"type": "object", "properties": {"cards": {"type": "integer", "maximum": 8}}}
        assert "failed" not in run(server, expect={"json_schema": schema})[0]
        schema["properties"]["cards"]["maximum"] = 7
        assert "$.cards is 8, wanted at most 7" in run(server, expect={"json_schema": schema})[0]["msg"]


def test_a_schema_that_is_not_understood_is_refused_before_anything_is_asked():
    with serve() as server:
        result, _said = run(server, expect={"json_schema": {"oneOf": []}})
        assert server.seen == []
    assert code(result) == "IDC-PROBE-012" and "oneOf" in result["msg"]


def test_a_baseline_is_saved_and_compared_with(tmp_path):
    path = tmp_path / "baseline.json"
    with serve() as server:
        saved, _said = run(server, requests=3, golden=["Say hello."], baseline_save=str(path))
        assert saved["changed"] is True
        document = json.loads(path.read_text())
        assert (document["schema"], document["model"]) == (1, MODEL)
        assert document["figures"]["ttft_p99_ms"] == saved["load"]["ttft_ms"]["p99"]
        assert "Say hello." not in path.read_text() and "Hello there!" not in path.read_text() and KEY not in path.read_text()

        same, _said = run(server, requests=3, golden=["Say hello."], baseline=str(path))
        assert same["changed"] is False and same["comparison"]["date"] == document["date"]
        assert same["golden"]["difference"] == 0.0 and same["golden"]["ok"] is True
        wanted = round(same["load"]["e2e_ms"]["p50"] / document["figures"]["e2e_p50_ms"], 4)
        assert same["comparison"]["ratios"]["e2e_p50"] == wanted

        server.pace = 0.1  # five times slower
        slow, _said = run(server, requests=3, baseline=str(path), regression={"itl_p50": 2.0, "ttft_p99": 100})
        assert code(slow) == "IDC-PROBE-015" and "itl_p50=" in slow["msg"] and "ttft_p99=" not in slow["msg"]
        assert slow["load"]["good"] == 3

        asked = len(server.seen)
        other, _said = run(server, requests=3, concurrency=2, baseline=str(path))
        assert code(other) == "IDC-PROBE-017" and "concurrency 1, now 2" in other["msg"]
        assert len(server.seen) == asked


def test_a_run_that_misses_a_limit_is_no_baseline(tmp_path):
    with serve() as server:
        result, _said = run(server, requests=2, slo={"ttft_p99_ms": 1}, baseline_save=str(tmp_path / "b.json"))
    assert result["changed"] is False and list(tmp_path.iterdir()) == []


PROMPTS = [f"prompt {number}" for number in range(5)]


def test_an_engine_that_changes_one_answer_in_five_is_found_and_exported(tmp_path):
    path = str(tmp_path / "b.json")
    with serve() as server:
        run(server, golden=PROMPTS, golden_repeat=2, baseline_save=path)
        assert json.loads((tmp_path / "b.json").read_text())["golden"]["noise"] == 0.0
        asked = server.seen[1]["payload"]
        assert (asked["temperature"], asked["seed"], asked["max_tokens"]) == (0, 0, 64)
    # the first request, then each prompt once: the third answer differs at its third token
    with serve("", "", "", "other 2", "", "") as server:
        result, _said = run(server, golden=PROMPTS, golden_repeat=1, baseline=path, metrics_dir=str(tmp_path))
        assert server.most == 1
    golden = result["golden"]
    assert code(result) == "IDC-PROBE-016" and "1/5" in result["msg"]
    assert (golden["unit"], golden["answers"], golden["positions"]) == ("tokens", 5, 4 * 4 + 3)
    assert golden["parted"] == [{"prompt": 2, "position": 2}]
    assert golden["difference"] == round(1 / 19, 6)
    metric = (tmp_path / "idc_llm_output_difference_tiny.prom").read_text()
    assert f'\nidc_llm_output_difference_ratio{{deployment="tiny"}} {1 / 19:.6g}\n' in metric

    with serve("", "", "", "other 2", "", "") as server:
        allowed, _said = run(server, golden=PROMPTS, golden_repeat=1, baseline=path, golden_limit=0.06)
    assert "failed" not in allowed


def test_the_noise_of_the_unchanged_engine_is_measured_and_forgiven(tmp_path):
    path = str(tmp_path / "b.json")
    with serve("", "", "", "", "other 1", "") as server:  # one of four answers differs in the second round
        saved, _said = run(server, golden=PROMPTS[:2], golden_repeat=2, baseline_save=path)
        assert saved["golden"]["noise"] == round(1 / 6, 6)
        assert "own noise" in str(saved["warnings"])
    with serve("", "other 1", "") as server:
        result, _said = run(server, golden=PROMPTS[:2], golden_repeat=1, baseline=path)
        assert result["golden"]["difference"] == result["golden"]["baseline_noise"] and result["golden"]["ok"] is True
    with serve("", "other 1") as server:
        worse, _said = run(server, golden=PROMPTS[:2], golden_repeat=1, baseline=path)
        assert code(worse) == "IDC-PROBE-016"


def test_words_are_compared_where_the_server_gives_no_tokens(tmp_path):
    path = str(tmp_path / "b.json")
    with serve() as server:
        server.gives_ids = False
        saved, _said = run(server, golden=PROMPTS[:1], baseline_save=path)
        assert saved["golden"]["unit"] == "words"
        server.gives_ids = True
        result, _said = run(server, golden=PROMPTS[:1], baseline=path)
    assert code(result) == "IDC-PROBE-017" and "counts words" in result["msg"]


def test_a_golden_answer_that_breaks_off_is_an_error_and_no_difference(tmp_path):
    with serve("", "", "cut") as server:
        result, _said = run(server, golden=PROMPTS, baseline_save=str(tmp_path / "b.json"))
    assert code(result) == "IDC-PROBE-009" and result["text"] == "Hello there!" and list(tmp_path.iterdir()) == []


def test_check_mode_asks_and_writes_nothing(tmp_path):
    path = tmp_path / "b.json"
    with serve() as server:
        result, _said = run(server, True, requests=2, golden=PROMPTS[:1], baseline_save=str(path))
        assert len(server.seen) == 1 + 2 + 2
        assert result["changed"] is True and result["load"]["good"] == 2 and not path.exists()
        run(server, golden=PROMPTS[:1], baseline_save=str(path))
        compared, _said = run(server, True, golden=PROMPTS[:1], baseline=str(path), metrics_dir=str(tmp_path))
        assert compared["golden"]["ok"] is True
    assert [file.name for file in tmp_path.iterdir()] == ["b.json"]


def test_several_misses_are_all_named(tmp_path):
    path = str(tmp_path / "b.json")
    with serve() as server:
        run(server, requests=2, golden=PROMPTS[:1], baseline_save=path)
    with serve("", "other 0") as server:
        result, _said = run(server, requests=2, golden=PROMPTS[:1], baseline=path, slo={"e2e_p99_ms": 1}, lang="zh")
    assert code(result) == "IDC-PROBE-016"
    assert "IDC-PROBE-016" in result["msg"] and "IDC-PROBE-014" in result["msg"] and "e2e_p99_ms=" in result["msg"]


def test_a_key_is_never_shown(tmp_path):
    """Neither of a server that repeats it in its refusals, nor of one that says it as an answer."""
    key = "key-" + secrets.token_hex(16)
    with serve("") as server:
        result, said = run(server, api_key=key, requests=2, golden=PROMPTS)
        assert code(result) == "IDC-PROBE-003" and key not in said
        server.tokens = ("you are ", KEY)
        result, said = run(server, requests=2, golden=PROMPTS, expect={"regex": "nothing of the kind"})
        assert code(result) == "IDC-PROBE-013" and KEY not in said
        result, said = run(server, requests=2, golden=PROMPTS, baseline_save=str(tmp_path / "b.json"))
        assert "failed" not in result and KEY not in said + (tmp_path / "b.json").read_text()


def test_a_folder_that_is_missing_is_said_before_the_run(tmp_path):
    with serve() as server:
        for option in ("baseline_save", "metrics_dir"):
            result, _said = run(server, requests=2, **{option: str(tmp_path / "none" / "b")})
            assert code(result) == "IDC-PROBE-018"
        assert server.seen == []


def test_a_full_disk_loses_no_figures(tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_measure, "write_text", full)
    with serve() as server:
        plan = Plan(Probe(server.url, MODEL, KEY, timeout=5.0), Load(2), baseline_save=str(tmp_path / "b.json"))
        done = measure(plan, prepare(plan))
    assert done.results["load"]["good"] == 2
    assert [miss.code for miss in done.misses] == ["IDC-PROBE-018"] and "No space left" in done.misses[0].render()


def test_the_deadline_bounds_golden_answers():
    with serve() as server:
        times = iter(range(0, 1000, 3))  # each look at the clock is three seconds later
        plan = Plan(Probe(server.url, MODEL, KEY, timeout=5.0), golden=Golden(tuple(PROMPTS), 2), deadline=10.0)
        done = measure(plan, None, clock=lambda: next(times))
    assert [miss.code for miss in done.misses] == ["IDC-PROBE-008"] and "3 of 10 golden answers" in done.misses[0].render()


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"load": Load(0)}, "requests"),
        ({"load": Load(10001)}, "requests"),
        ({"load": Load(10, 0)}, "concurrency"),
        ({"load": Load(10, 513)}, "concurrency"),
        ({"load": Load(10, 1, 0)}, "prompt_tokens"),
        ({"load": Load(10000), "probe": Probe("http://h", "m", max_tokens=501)}, "requests * max_tokens"),
        ({"probe": Probe("http://h", "m", max_tokens=0)}, "max_tokens"),
        ({"probe": Probe("http://h", "m", expect=Expect(regex="("))}, "expect.regex"),
        ({"golden": Golden(())}, "the number of golden prompts"),
        ({"golden": Golden(("a",), 11)}, "golden_repeat"),
        ({"golden": Golden(("a",), 1, 0)}, "golden_max_tokens"),
        ({"golden": Golden(("a",), limit=2)}, "golden_limit"),
        ({"deadline": 0}, "deadline"),
        ({"slo": {"error_rate": 0}}, "requests"),
        ({"baseline_save": "/b"}, "requests"),
        ({"load": Load(2), "regression": {"ttft_p50": 2.0}}, "baseline"),
    ],
)
def test_a_run_is_bounded_and_makes_sense(changes, option):
    plan = Plan(**{"probe": Probe("http://h", "m"), **changes})
    with pytest.raises(IdcError, match="IDC-PROBE-012") as caught:
        prepare(plan)
    assert caught.value.details["option"] == option


def test_what_is_in_bounds_is_not_refused():
    assert prepare(Plan(Probe("http://h", "m"), Load(10000, 512), Golden(("a",)))) is None
