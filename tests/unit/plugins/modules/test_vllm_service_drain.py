# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an engine is stopped: after its last request, within a bound, and at once while it loads."""
from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _engine, _engine_host
from ansible_collections.idc.llm.plugins.module_utils import _engine_files as disk
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

from tests.support.engine_unit import KILLED, LISTENS, LOADS, Systemd, longer, make_spec, run
from tests.support.watched_engine import Double

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files get root as their owner")


@pytest.fixture
def spec(tmp_path):
    return make_spec(tmp_path)


@pytest.fixture
def busy(spec):
    """(its spec, systemd, the engine) of one that runs with two requests and one more in its queue."""
    engine = Double()
    engine.ranks[0][:2] = [2, 1]
    spec = dataclasses.replace(spec, config={**spec.config, "port": engine.server_port})
    unit = start(spec, engine)
    yield spec, unit, engine
    unit.end("inactive")


def start(spec, engine):
    unit = Systemd(spec)
    for file in _engine.files(spec):
        disk.write(file)
    unit.server = engine
    unit.state.update(ActiveState="active", SubState="running", UnitFileState="enabled")
    running = Path(spec.run_dir, spec.name)
    running.mkdir()
    running.joinpath("digest").write_text(_engine.files(spec)[-1].text)
    return unit


def clock(monkeypatch, tick):
    """Waiting calls ``tick`` with the seconds that passed and takes no time."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds
        tick(now[0])

    monkeypatch.setattr(_engine_host, "wait_drained", functools.partial(
        _engine_host.wait_drained, clock=lambda: now[0], sleep=sleep))
    return now


def bare(spec, drain=120):
    """What a playbook says of an engine that it only wants drained."""
    return dataclasses.replace(spec, config={}, release="", drain_timeout=drain)


def test_drained_waits_for_the_last_request_and_stops_then(busy, monkeypatch):
    spec, unit, engine = busy
    stopped_at = []

    def tick(second):
        stopped_at.append(list(unit.done))
        if second == 40:
            engine.ranks[0][:2] = [1, 0]
        if second == 60:
            engine.ranks[0][:2] = [0, 0]

    now = clock(monkeypatch, tick)
    result = run(unit, bare(spec), "drained")
    assert (result["drained"], result["running"], result["waiting"], result["changed"]) == (True, 0, 0, True)
    assert now[0] >= 60
    assert stopped_at == [[]] * len(stopped_at)
    assert unit.did() == ["disable", "stop"]
    again = run(unit, bare(spec), "drained")
    assert (again["drained"], again["changed"], unit.did()) == (True, False, [])
    assert os.path.exists(f"{spec.config_dir}/{spec.name}/env")


def test_what_is_not_idle_in_time_is_stopped_with_a_warning(busy, monkeypatch):
    spec, unit, engine = busy
    now = clock(monkeypatch, lambda second: None)
    result = run(unit, bare(spec, 30), "drained")
    assert now[0] == 30
    assert (result["drained"], result["running"], result["waiting"]) == (False, 2, 1)
    assert unit.did() == ["disable", "stop"]
    [warning] = result["told"]
    assert warning.code == "IDC-ENG-021"
    assert "2 requests run, 1 wait" in warning.render()
    assert "at most 120 s" in warning.render()
    assert "2 个请求在运行" in warning.render("zh")


def test_an_engine_that_would_cut_its_requests_is_not_stopped(spec, monkeypatch):
    engine = Double()
    engine.ranks[0][:2] = [1, 0]
    spec = dataclasses.replace(spec, config={**spec.config, "port": engine.server_port, "shutdown-timeout": 0})
    unit = start(spec, engine)
    clock(monkeypatch, lambda second: None)
    with pytest.raises(IdcError, match="IDC-ENG-022.*1 requests run"):
        run(unit, bare(spec, 30), "drained")
    assert (unit.did(), unit.state["ActiveState"]) == ([], "active")
    unit.end("inactive")


def test_an_engine_without_counters_is_not_called_drained(busy, monkeypatch):
    spec, unit, engine = busy
    engine.mode = "blind"
    clock(monkeypatch, lambda second: None)
    result = run(unit, bare(spec, 5), "drained")
    assert (result["drained"], result["running"], result["waiting"]) == (False, None, None)
    assert "no counters" in result["told"][0].render()
    assert "没有计数器" in result["told"][0].render("zh")


def test_check_mode_looks_once_at_what_an_engine_has(busy, monkeypatch):
    spec, unit, _engine_there = busy
    now = clock(monkeypatch, lambda second: None)
    result = run(unit, bare(spec), "drained", dry=True)
    assert (result["action"], result["drained"], result["running"], result["waiting"]) == ("stop", False, 2, 1)
    assert (now[0], unit.did(), "told" in result) == (0, [], False)


def test_an_engine_that_is_stopped_has_nothing_to_drain_whoever_has_its_port(busy, monkeypatch):
    spec, unit, _engine_there = busy
    unit.state.update(ActiveState="inactive", SubState="dead")
    now = clock(monkeypatch, lambda second: None)
    result = run(unit, bare(spec), "drained")
    assert (result["drained"], result["action"], now[0]) == (True, "none", 0)


def test_a_headless_rank_is_stopped_without_being_asked(busy):
    spec, unit, engine = busy
    head = dataclasses.replace(spec, config={**spec.config, "headless": True})
    for file in _engine.files(head):
        disk.write(file)
    assert run(unit, bare(spec), "drained")["drained"] is True
    assert unit.did() == ["disable", "stop"]


@pytest.mark.parametrize("state", ["drained", "stopped", "absent"])
def test_an_engine_that_loads_is_ended_at_once(spec, state):
    unit = Systemd(spec, lambda text: LOADS)
    run(unit, spec, wait=False)
    unit.did()
    result = run(unit, bare(spec), state)
    assert unit.did()[:4] == ["disable", *KILLED, "stop"]
    assert (unit.state["ActiveState"], result["changed"]) == ("inactive", True)


def test_an_engine_that_loads_is_restarted_at_once(spec):
    unit = Systemd(spec, lambda text: LOADS)
    run(unit, spec, wait=False)
    unit.did()
    run(unit, longer(spec, 7), wait=False)
    assert unit.did() == [*KILLED, "restart"]


def test_an_engine_whose_port_is_not_known_is_never_killed(spec):
    """A run was cut after it wrote another port: the process serves on the old one."""
    unit = Systemd(spec, lambda text: LISTENS)
    run(unit, spec, wait=False)
    moved = dataclasses.replace(spec, config={**spec.config, "port": spec.config["port"] - 1})
    for file in _engine.files(moved):
        disk.write(file)
    unit.did()
    run(unit, moved, wait=False)
    assert unit.did() == ["restart"]
    unit.end("inactive")
