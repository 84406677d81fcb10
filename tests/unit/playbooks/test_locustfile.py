# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the Locust file can be tried where Locust is not installed: how it reads an answer, and its stages."""
from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest

FILE = Path(__file__).parents[3] / "playbooks/files/locustfile.py"


@pytest.fixture
def locustfile(monkeypatch):
    """The file, with a stand-in for Locust's four names."""
    locust = types.ModuleType("locust")
    locust.HttpUser = locust.LoadTestShape = object
    locust.task = lambda work: work
    hook = types.SimpleNamespace(add_listener=lambda work: work)
    locust.events = types.SimpleNamespace(init_command_line_parser=hook)
    monkeypatch.setitem(sys.modules, "locust", locust)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("locustfile", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ROLE = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}'
TEXT = b'data: {"choices": [{"delta": {"content": "Hel"}}]}'
THOUGHT = b'data: {"choices": [{"delta": {"reasoning": "Hm"}}]}'


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([b": ping", ROLE, TEXT, b"", TEXT, b"data: [DONE]"], (7, True)),
        ([ROLE, THOUGHT, b"data: [DONE]"], (7, True)),
        ([ROLE, b"data: [DONE]"], (None, True)),
        ([ROLE, TEXT], (7, False)),
        ([TEXT, b'data: {"error": {"message": "dead"}}', b"data: [DONE]"], (7, False)),
    ],
)
def test_a_stream_is_read_to_its_end(locustfile, lines, found):
    assert locustfile.read_stream(lines, clock=lambda: 7) == found


def test_the_planned_peak_then_twice_that(locustfile):
    shape = locustfile.TwicePlanned()
    options = types.SimpleNamespace(stage_s=300, planned_peak=64)
    shape.runner = types.SimpleNamespace(environment=types.SimpleNamespace(parsed_options=options))
    seen = []
    for at in (0, 299, 300, 599, 600):
        shape.get_run_time = lambda at=at: at
        seen.append(shape.tick())
    assert seen == [(64, 6.4), (64, 6.4), (128, 6.4), (128, 6.4), None]
