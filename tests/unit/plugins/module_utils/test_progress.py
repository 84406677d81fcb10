# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a fetch is: the line, the file, the metric."""
from __future__ import annotations

import json
from collections import deque
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _progress
from ansible_collections.idc.llm.plugins.module_utils._progress import Progress, State, human_seconds, mean_rate, metric_file


def state(**more):
    return State(**{"model": "org/name", "revision": "0123456789abcdef", "phase": "fetching", "total": 1000, **more})


def test_the_line_says_bytes_rate_time_left_and_source():
    seen = state(total=688_600_000_000, done=34_100_000_000, rate=812e6, files=(8, 163), sources=("hf", "http://10.0.0.2:8090"))
    assert seen.line == (
        "org/name 0123456789ab: fetching, 34.1 GB of 688.6 GB (4 %), 8 of 163 files, 812.0 MB/s, 13 min left, "
        "from hf, http://10.0.0.2:8090"
    )
    assert state().line == "org/name 0123456789ab: fetching, 0 B of 1.0 kB (0 %), 0 of 0 files, 0 B/s, time left unknown"
    assert state(phase="proving", done=500).line == "org/name 0123456789ab: proving, 500 B of 1.0 kB (50 %)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89.9, "89 s"), (90, "2 min"), (5000, "83 min"), (9000, "2 h 30 min"), (86400, "24 h 0 min")]
)
def test_seconds_for_a_person(seconds, text):
    assert human_seconds(seconds) == text


def test_the_rate_is_a_mean_and_never_negative():
    assert mean_rate(deque([(10.0, 0), (12.0, 500), (20.0, 3000)])) == 300
    assert mean_rate(deque([(10.0, 0)])) == mean_rate(deque([(10.0, 5), (10.0, 9)])) == mean_rate(deque([(1.0, 9), (2.0, 1)])) == 0


def test_the_metric_names_model_and_revision():
    text = state(done=400, rate=7.9).as_metrics(1234.5)
    labels = '{model="org/name",revision="0123456789abcdef"}'
    assert f"idc_llm_model_fetch_bytes_done{labels} 400\n" in text
    assert f"idc_llm_model_fetch_bytes_per_second{labels} 7\n" in text
    assert f"idc_llm_model_fetch_timestamp_seconds{labels} 1234\n" in text
    assert text.count("# TYPE") == 6
    assert f"idc_llm_model_fetch_complete{labels} 1\n" in state(phase="done").as_metrics(1)
    assert f"idc_llm_model_fetch_failed{labels} 1\n" in state(phase="failed").as_metrics(1)


def test_a_run_writes_while_it_goes_and_leaves_only_the_metric(tmp_path, monkeypatch):
    monkeypatch.setattr(_progress, "EVERY", 0.01)
    file = tmp_path / "partial" / "progress.json"
    file.parent.mkdir()
    with Progress(str(file.parent), "org/name", "r1", str(tmp_path)) as progress:
        progress.phase("fetching", 100, 4)
        progress.keep(30, 1)
        progress.count("hf", 50)
        progress.count("hf", -10)
        progress.finished()
        while json.loads(file.read_text())["bytes_done"] != 70:
            pass
        seen = json.loads(file.read_text())
        assert (seen["files_done"], seen["files"], seen["bytes"], seen["bytes_kept"], seen["sources"]) == (2, 4, 100, 30, ["hf"])
        assert seen["line"].startswith("org/name r1: fetching, 70 B of 100 B (70 %), 2 of 4 files")
    assert list(file.parent.iterdir()) == []
    assert 'complete{model="org/name",revision="r1"} 1' in Path(metric_file(str(tmp_path), "org/name", "r1")).read_text()


def test_a_failed_run_leaves_its_state(tmp_path):
    with pytest.raises(ValueError, match="x"), Progress(str(tmp_path), "org/name", "r1") as progress:
        progress.phase("fetching", 100, 4)
        raise ValueError("x")
    assert json.loads((tmp_path / "progress.json").read_text())["phase"] == "failed"


def test_a_folder_that_cannot_be_written_does_not_stop_the_fetch(tmp_path):
    with Progress(str(tmp_path / "gone"), "org/name", "r1", str(tmp_path / "gone")) as progress:
        progress.phase("fetching", 1, 1)
    assert list(tmp_path.iterdir()) == []
