# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for an engine on a clock that the test turns."""
from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._ready import NotReady, Unit, World, confirm, wait_ready

UP = Unit("active", "running")
TOKEN = {"text": "hello"}


class Engine:
    """A scripted engine: the unit by second, the second it opens its port, the second it gives a token."""

    def __init__(self, units=(UP,), healthy_at=0.0, token_at=0.0, code="IDC-PROBE-005"):
        self.now, self.asked = 0.0, 0
        self.units, self.healthy_at, self.token_at, self.code = units, healthy_at, token_at, code

    def ask(self):
        self.asked += 1
        if self.now >= self.token_at:
            return TOKEN
        raise IdcError(self.code, url="u", model="m", status=500, detail="d")

    def sleep(self, seconds):
        self.now += seconds

    def world(self):
        return World(
            unit=lambda: self.units[min(int(self.now), len(self.units) - 1)],
            healthy=lambda: self.now >= self.healthy_at,
            ask=self.ask,
            clock=lambda: self.now,
            sleep=self.sleep,
        )


def test_waits_for_health_and_then_for_a_token():
    engine = Engine(healthy_at=20, token_at=25)
    assert wait_ready(engine.world(), 60) == TOKEN
    assert engine.now == 25
    assert engine.asked == 6  # not before it is healthy


@pytest.mark.parametrize(
    "unit",
    [Unit("active", "running", restarts=1), Unit("activating", "auto-restart"), Unit("failed", "failed"), Unit()],
)
def test_a_death_ends_the_wait_at_once(unit):
    engine = Engine(units=(UP, UP, UP, unit), healthy_at=999)
    with pytest.raises(NotReady) as caught:
        wait_ready(engine.world(), 600)
    assert (caught.value.kind, engine.now) == ("died", 3)


def test_restarts_from_before_do_not_count():
    assert wait_ready(Engine(units=(Unit("active", "running", restarts=4),)).world(), 60, restarts=4) == TOKEN


def test_health_alone_is_not_ready():
    engine = Engine(token_at=999)
    with pytest.raises(NotReady) as caught:
        wait_ready(engine.world(), 30)
    assert caught.value.kind == "late"
    assert "IDC-PROBE-005" in caught.value.last


def test_what_waiting_cannot_mend_is_raised_at_once():
    engine = Engine(token_at=999, code="IDC-PROBE-003")
    with pytest.raises(IdcError, match="IDC-PROBE-003"):
        wait_ready(engine.world(), 600)
    assert engine.now == 0


def test_an_unchanged_engine_is_asked_once():
    engine = Engine(units=(Unit("active", "running", 0, age_s=9999),))
    assert confirm(engine.world(), 600) == TOKEN
    assert (engine.asked, engine.now) == (1, 0)


@pytest.mark.parametrize(("code", "age_s"), [("IDC-PROBE-005", 1), ("IDC-PROBE-008", 1), ("IDC-PROBE-001", 9999)])
def test_an_unchanged_engine_that_gives_no_token_is_an_error(code, age_s):
    engine = Engine(units=(Unit("active", "running", 0, age_s),), token_at=999, code=code)
    with pytest.raises(IdcError, match=code):
        confirm(engine.world(), 600)
    assert engine.asked == 1


def test_an_engine_that_is_still_loading_gets_the_rest_of_its_time():
    engine = Engine(units=(Unit("active", "running", 0, 10),), healthy_at=30, token_at=30, code="IDC-PROBE-001")
    assert confirm(engine.world(), 600) == TOKEN
    late = Engine(units=(Unit("active", "running", 0, 590),), healthy_at=30, token_at=30, code="IDC-PROBE-001")
    with pytest.raises(NotReady):
        confirm(late.world(), 600)
    assert late.now == 10


@pytest.mark.parametrize(("breaks", "expected"), [(False, TOKEN), (True, None)])
def test_the_token_that_counts_comes_after_the_warm_up(breaks, expected):
    engine, warmed = Engine(), []

    def warm():
        warmed.append(engine.asked)
        engine.token_at = 999 if breaks else 0

    world = dataclasses.replace(engine.world(), warm=warm)
    if breaks:
        with pytest.raises(NotReady):
            wait_ready(world, 30)
    else:
        assert wait_ready(world, 30) == expected
        assert engine.asked == 2
    assert warmed == [1]  # once, after the first token
