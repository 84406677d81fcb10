# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of what was proven, and what an engine's own words mean."""
from __future__ import annotations

import dataclasses
import json

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_watchdog as agent
from ansible_collections.idc.llm.plugins.module_utils import _engine
from ansible_collections.idc.llm.plugins.module_utils import _engine_life as life
from ansible_collections.idc.llm.plugins.module_utils._engine import Spec
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Good
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

from tests.support.watched_engine import Double

SPEC = Spec("tiny", "1.0", {"model": "/m", "host": "10.0.0.1", "port": 8001}, {"A": "1"}, "key-0123456789")
GOOD = Good(SPEC.release_dir, life.target(SPEC, ""), _engine.files(SPEC))
DIED = IdcError("IDC-ENG-007", engine="tiny", reason="r", keeper="systemd", log="l")


def test_the_copy_comes_back_whole():
    file = life.good_file(SPEC, GOOD)
    assert (file.path, file.owner, file.mode) == ("/etc/idc_llm/engines/tiny/good.json", "root", 0o600)
    back = life.read_good(file.text)
    assert (back.release_dir, back.target) == (GOOD.release_dir, GOOD.target)
    assert [dataclasses.replace(file, shown="") for file in GOOD.files] == list(back.files)
    assert life.good_file(SPEC, back).text == file.text


@pytest.mark.parametrize("change", [{"schema": 2}, {"files": [["x"]]}, {"files": []}, {"files": None}, {"target": {"x": 1}}])
def test_a_copy_that_is_no_copy_is_none(change):
    whole = json.loads(life.good_file(SPEC, GOOD).text)
    assert life.read_good(json.dumps({**whole, **change})) is None
    assert life.read_good(json.dumps(whole)[:-9]) is None
    assert life.read_good("") is life.read_good("[]") is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),  # what was proven is what failed
        ({"config": {"model": "/n"}}, True),
        ({"api_key": "other"}, True),
        ({"release": "2.0"}, True),
        ({"drain_timeout": 7}, True),
        ({"config_dir": "/elsewhere"}, False),  # the copy belongs to other files
        ({"config": {"model": "/n", "nnodes": 2}}, False),
    ],
)
def test_there_is_a_way_back_to_what_differs(change, expected):
    wanted = dataclasses.replace(SPEC, **change)
    assert life.way_back(GOOD, _engine.files(wanted), wanted, DIED) is expected


@pytest.mark.parametrize(("probe", "expected"), [("IDC-PROBE-001", True), ("IDC-PROBE-008", False)])
def test_what_was_left_as_it_is_goes_back_only_where_nobody_listens(probe, expected):
    wanted = dataclasses.replace(SPEC, release="2.0")
    missed = IdcError("IDC-ENG-009", engine="tiny", last="l", reason="r", log="l", probe=probe)
    assert life.way_back(GOOD, _engine.files(wanted), wanted, missed) is expected


def test_the_file_on_the_disk_is_read_as_it_was_written_and_as_a_person_mends_it():
    config = {"model": "/m", "host": "::1", "port": 8001, "headless": True, "served-model-name": "port: 7"}
    assert life.on_disk(_engine.yaml_text(config)) == {"host": "::1", "port": 8001, "headless": True}
    assert life.on_disk("host: 10.0.0.1 \nport: 8001\n") == {"host": "10.0.0.1", "port": 8001}
    assert life.on_disk("") == {}


def test_the_watchdogs_words_are_understood():
    engine = Double()
    engine.ranks[0][:2] = [3, 4]
    try:
        seen = agent.wait_drained("127.0.0.1", engine.server_port, 0)[1]
        assert life.counts(seen) == (3, 4)
        engine.mode = "blind"
        assert life.counts(agent.wait_drained("127.0.0.1", engine.server_port, 0)[1]) == (None, None)
    finally:
        engine.shutdown()
        engine.server_close()
    done, seen = agent.wait_drained("127.0.0.1", engine.server_port, 0)
    assert (done, life.counts(seen)) == (True, (0, 0))
