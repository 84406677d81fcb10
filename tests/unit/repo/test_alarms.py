# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alarms: Prometheus' own tool takes the rules and proves their times; each is complete, tested both ways, and on time."""
from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.idc.llm.tests.support import rules
from ansible_collections.idc.llm.tests.unit.repo import tree

ALERTS = rules.alerts()
CASES = list(rules.cases())
FAULT, IN_TIME = rules.seconds("1m15s"), rules.seconds("3m15s")  # when faults begin in tests/alarms, and when a page must be out
# Pages that take longer than two minutes, and why.
SLOW = {
    "EngineKvCacheFull": "five minutes are asked for: a cache that is full for a moment is a cache well used",
    "ErrorBudgetBurns": "by its kind: 1 % for hours; the fast one is on time",
}
ALWAYS = "Watchdog"  # the one that must never be silent
TEXTS = ("summary", "summary_zh", "description", "description_zh")


def promtool(*argv: str | Path) -> None:
    """Fails rather than skips where it is not there: script/bootstrap tests brings it."""
    assert shutil.which("promtool"), "no promtool: run script/bootstrap tests (Debian's package prometheus)"
    tree.run("promtool", *map(str, argv))


def test_there_are_rules() -> None:
    assert len(ALERTS) > 40
    assert {path.stem for path in rules.RULES} == {"host", "gpu", "engine", "slo", "gateway", "store", "watching", "recording"}


@pytest.mark.parametrize("path", rules.RULES, ids=lambda path: path.stem)
def test_prometheus_takes_each_file_as_it_is(path: Path) -> None:
    promtool("check", "rules", path)
    assert set(yaml.safe_load(path.read_text(encoding="utf-8"))) == {"groups"}


@pytest.mark.parametrize("path", rules.PROVEN, ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_series_say_what_they_should(path: Path) -> None:
    promtool("test", "rules", path)


def test_an_alert_has_one_place() -> None:
    names = [rule["alert"] for _path, rule in rules.rules() if "alert" in rule]
    assert sorted(names) == sorted(set(names))
    recorded = [rule["record"] for _path, rule in rules.rules() if "record" in rule]
    assert sorted(recorded) == sorted(set(recorded))
    assert [name for name in recorded if not name.startswith("idc_llm:")] == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_who_what_and_what_to_do_in_both_languages(name: str) -> None:
    rule = ALERTS[name]
    assert rules.seconds(rule["for"]) > 0
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in rules.SEVERITIES
    notes: dict[str, str] = rule["annotations"]
    assert set(notes) == {*TEXTS, "runbook"}
    assert [key for key in TEXTS if not notes[key].strip()] == []
    assert [key for key in TEXTS if bool(re.search("[\u4e00-\u9fff]", notes[key])) != key.endswith("_zh")] == []
    assert notes["runbook"] == f"docs/runbooks/{name}.md"
    used = {key: set(re.findall(r"\$labels\.(\w+)", notes[key])) for key in TEXTS}
    assert used["summary"] == used["summary_zh"], "one language names what the other does not"


def wanted(name: str) -> list[dict[str, str]]:
    """The label sets with which the tests see an alert fire."""
    return [row for case in CASES if case.alert == name and not case.silent for _at, rows in case.looks for row in rows]


@pytest.mark.parametrize("name", ALERTS)
def test_what_an_alert_names_is_among_its_labels(name: str) -> None:
    """A label that is not there would leave a hole in the sentence; inside {{ with }} it may be missing."""
    seen = wanted(name)
    for key in TEXTS:
        text = re.sub(r"{{ with .*?{{ end }}", "", ALERTS[name]["annotations"][key])
        missing = {label for label in re.findall(r"\$labels\.(\w+)", text) for row in seen if label not in row}
        assert missing == set(), key
    severity = ALERTS[name]["labels"]["severity"]
    assert [row for row in seen if row["severity"] != severity] == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_seen_firing_and_seen_silent_on_the_same_series(name: str) -> None:
    fires = [case for case in CASES if case.alert == name and not case.silent]
    silent = [case for case in CASES if case.alert == name and case.silent]
    assert wanted(name), "never seen firing"
    assert all(any(rows for _at, rows in case.looks) for case in fires)
    if name == ALWAYS:
        return
    assert silent, "never seen silent"
    assert all(case.looks and not any(rows for _at, rows in case.looks) for case in silent)
    assert all(any(not rows for _at, rows in case.looks) for case in fires), "seen firing, but not that it did not before"
    told = {metric for case in fires for metric in case.inputs}
    for case in silent:
        assert case.inputs and case.inputs <= told, "a near miss must be of the same series, or a misspelt one would pass"


@pytest.mark.parametrize("name", [name for name, rule in ALERTS.items() if rule["labels"]["severity"] == "page"])
def test_a_page_is_out_within_two_minutes(name: str) -> None:
    if name in SLOW:
        return
    assert rules.seconds(ALERTS[name]["for"]) <= 60
    for case in CASES:
        if case.alert == name and not case.silent:
            assert min(at for at, rows in case.looks if rows) <= IN_TIME
            assert any(at < FAULT and not rows for at, rows in case.looks)


def test_every_case_is_of_an_alert_and_slow_ones_exist() -> None:
    assert {case.alert for case in CASES} == set(ALERTS)
    assert set(SLOW) <= set(ALERTS)


# --- a card that works is no alarm --------------------------------------------------------------------------------------

LABELS = 'job="gpu", host="g1", gpu="0", UUID="GPU-aa"'
OF = {"used_mib": "FB_USED", "free_mib": "FB_FREE", "utilisation_percent": "GPU_UTIL", "temperature_c": "GPU_TEMP",
      "power_w": "POWER_USAGE", "sm_clock_mhz": "SM_CLOCK", "clocks_event_reasons": "CLOCKS_EVENT_REASONS",
      "ecc_dbe_volatile": "ECC_DBE_VOL_TOTAL", "remapped_uncorrectable": "UNCORRECTABLE_REMAPPED_ROWS",
      "remap_failure": "ROW_REMAP_FAILURE"}


def replay(times: int, **other: float) -> dict[str, Any]:
    """promtool's test of an H200 that works: what was measured, as DCGM would tell it, the load ``times`` over.

    other: values in the place of a column's.
    """
    lines = (tree.ROOT / "tests/alarms/h200_load.csv").read_text(encoding="utf-8").splitlines()[1:]
    rows = list(csv.DictReader(lines))
    busy = [row for row in rows if float(row["utilisation_percent"]) > 0]
    rows = rows[:6] + busy * times + rows[-3:]
    last = 15 * (len(rows) - 1)
    series = [{"series": f"DCGM_FI_DEV_{field}{{{LABELS}}}",
               "values": " ".join(str(other.get(column, row[column])) for row in rows)} for column, field in OF.items()]
    steady = {f"DCGM_FI_DEV_XID_ERRORS{{{LABELS}}}": 0, 'up{job="gpu", host="g1"}': 1, 'up{job="node", host="g1"}': 1,
              'idc_llm_gpu_expected{job="node", host="g1"}': 1,
              'idc_llm_plan_gpu_memory_share{job="node", host="g1", gpu="GPU-aa", engine="r1-blue-0", deployment="r1"}': 0.92}
    series += [{"series": name, "values": f"{value}x{len(rows)}"} for name, value in steady.items()]
    firing = 'count_over_time(ALERTS{alertname!="Watchdog", alertstate="firing"}[2h])'
    looks = [{"expr": firing, "eval_time": f"{last}s", "exp_samples": []},
             {"expr": "count(idc_llm:gpu_power:watts > 600)", "eval_time": "300s", "exp_samples": [{"labels": "{}", "value": 1}]}]
    groups = [group["name"] for path in rules.RULES for group in tree.load(path)["groups"]]
    return {"rule_files": [str(path) for path in rules.RULES], "evaluation_interval": "15s",
            "group_eval_order": sorted(groups, key=lambda name: not name.endswith("_series")),
            "tests": [{"interval": "15s", "input_series": series, "promql_expr_test": looks}]}


def write(path: Path, test: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(test, sort_keys=False), encoding="utf-8")
    return path


def test_an_h200_under_full_load_fires_nothing(tmp_path: Path) -> None:
    """690 W, 100 %, power cap in force, 0.92 of the memory; and with what vLLM itself takes on such a card (134333 MiB)."""
    promtool("test", "rules", write(tmp_path / "measured.yml", replay(3)))
    promtool("test", "rules", write(tmp_path / "vllm.yml", replay(1, used_mib=134333, free_mib=8824)))


def test_the_replay_would_notice(tmp_path: Path) -> None:
    """The same card with somebody else's program on it: the test above can fail."""
    with pytest.raises(AssertionError, match="GpuMemoryAbovePlan"):
        promtool("test", "rules", write(tmp_path / "more.yml", replay(1, used_mib=140000, free_mib=3157)))
