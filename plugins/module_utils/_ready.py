# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for an engine: up, healthy, and a real token came back. Everything outside comes in as a callable.

Private to this collection.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._probe import TRANSIENT

LOADING = "IDC-PROBE-001"  # connection refused: vLLM opens its port when the model is loaded


class NotReady(Exception):
    """The engine did not get ready. ``kind``: died or late; ``last``: what the last look saw."""

    def __init__(self, kind: str, last: str) -> None:
        self.kind = kind
        self.last = last
        super().__init__(f"{kind}: {last}")


@dataclass(frozen=True)
class Unit:
    """systemd's view of an engine. ``restarts``: automatic ones since the last start by hand; ``age_s``: up for."""

    active: str = "inactive"
    sub: str = "dead"
    restarts: int = 0
    age_s: float = 0.0


@dataclass(frozen=True)
class World:
    """What waiting needs from outside. ``ask`` gives the probe's values or raises IdcError; ``warm`` sends what a cold engine needs
    to be fast, and raises nothing."""

    unit: Callable[[], Unit]
    healthy: Callable[[], bool]
    ask: Callable[[], dict[str, Any]]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    warm: Optional[Callable[[], None]] = None


def wait_ready(world: World, timeout: float, restarts: int = 0) -> dict[str, Any]:
    """The probe's values once the engine answers; NotReady as soon as it died, or after ``timeout`` seconds.

    Healthy is not warm (the first prompts make vLLM compile kernels), and a warm-up may kill a weak engine: it comes after the
    first token, and the token that counts comes after it.

    ``restarts``: the automatic restarts there were before; one more is a death.
    """
    end = world.clock() + timeout
    last, cold = "the port is not open yet", world.warm
    while True:
        unit = world.unit()
        if unit.restarts > restarts or unit.sub == "auto-restart" or unit.active in ("failed", "inactive"):
            raise NotReady("died", f"unit {unit.active}/{unit.sub}, {unit.restarts} restart(s)")
        if world.healthy():
            try:
                answer = world.ask()
                if cold is None:
                    return answer
                warm, cold = cold, None
                warm()
                return world.ask()
            except IdcError as error:
                if error.code not in TRANSIENT:
                    raise
                last = error.render()
        if world.clock() >= end:
            raise NotReady("late", last)
        world.sleep(1.0)


def confirm(world: World, timeout: float) -> dict[str, Any]:
    """One probe of an engine that was left as it is; one that is still loading gets the rest of its time."""
    unit = world.unit()
    try:
        return world.ask()
    except IdcError as error:
        if error.code != LOADING or unit.age_s >= timeout:
            raise
    return wait_ready(world, timeout - unit.age_s, unit.restarts)
