"""Where logs go, and what is kept of runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _logs as logs
from ansible_collections.idc.llm.plugins.module_utils._runs import Run, kept, recap


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ({}, {}),
        ("", {}),
        (None, {}),
        ("log", {"address": "log", "port": 6514, "tls": True, "ca": "", "name": "log"}),
        ({"address": "10.0.0.1", "tls": False}, {"address": "10.0.0.1", "port": 514, "tls": False, "ca": "", "name": "10.0.0.1"}),
        (
            {"address": "10.0.0.1", "port": 999, "ca": "/ca.pem", "name": "log"},
            {"address": "10.0.0.1", "port": 999, "tls": True, "ca": "/ca.pem", "name": "log"},
        ),
    ],
)
def test_a_log_host_is_spoken_to_by_tls_unless_it_says_otherwise(raw, target):
    assert logs.log_host_errors(raw) == [] and logs.log_target(raw) == target


@pytest.mark.parametrize(
    "raw",
    [
        {"host": "x"},
        {"port": 514},
        {"address": "a b"},
        {"address": "x", "port": 0},
        {"address": "x", "port": "s"},
        {"address": "x", "tls": "perhaps"},
        {"address": "x", "ca": "ca.pem"},
        ["x"],
        {"address": 'x"evil'},
    ],
)
def test_a_log_host_that_is_none(raw):
    assert logs.log_host_errors(raw)


NOW = datetime(2026, 11, 30, tzinfo=UTC)


def line(days: int) -> str:
    return json.dumps({"time": (NOW - timedelta(days=days)).isoformat()})


def test_lines_go_when_they_are_old_and_odd_ones_stay():
    assert kept([line(191), line(189), "odd", line(0)], NOW, 190) == [line(189), "odd", line(0)]


def test_a_run_says_what_it_changed_on_each_host():
    stats = SimpleNamespace(processed={"n1": 1, "n2": 1}, ok={"n1": 5}, changed={"n1": 2}, failures={}, dark={"n2": 1}, skipped={})
    began = Run("1f", "2026-11-30T00:00:00+00:00", "ops", "ctl", "site.yml", "/inv", "abc")
    run = began.ended("2026-11-30T00:01:00+00:00", 60, recap(stats))
    said = json.loads(run.line())
    assert (said["run"], said["event"], said["seconds"], said["time"]) == ("1f", "ended", 60, "2026-11-30T00:01:00+00:00")
    assert said["hosts"]["n1"] == {"ok": 5, "changed": 2, "failures": 0, "dark": 0, "skipped": 0}
    assert said["hosts"]["n2"]["dark"] == 1 and "\n" not in run.line()
