# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vllm_service needs of the one who runs engines, systemd or Docker. Private to this collection."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol, Sequence

from ansible_collections.idc.llm.plugins.module_utils._engine import Plan, Spec
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Good
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._ready import Unit


@dataclass(frozen=True)
class Look:
    """An engine as it is now. ``unit`` in systemd's words, whoever runs it; ``enabled``: comes up at boot; ``unread``: its unit
    changed since systemd read it; ``digest``: what the running process was started with, "" = none runs."""

    unit: Unit = Unit()
    enabled: bool = False
    unread: bool = False
    digest: str = ""


class Runtime(Protocol):
    """Who runs engines. Only ``apply`` and ``forget`` change anything."""

    def missing(self, spec: Spec) -> Optional[IdcError]:
        """Why the wanted release cannot be started here; None where it can."""

    def lost(self, good: Good) -> Optional[IdcError]:
        """The same of the configuration that was proven last."""

    def arguments(self, spec: Spec) -> str:
        """Path of the list of what the wanted release understands."""

    def made_of(self, spec: Spec) -> str:
        """What the wanted release consists of, in a word that changes with it."""

    def description(self, spec: Spec) -> str:
        """The container's description; "" where unit files stand for it."""

    def look(self, spec: Spec) -> Look:
        """The engine as it is now."""

    def log(self, spec: Spec, since: float) -> Sequence[str]:
        """What it said since a time (seconds since 1970), the last 2000 lines, and what its end looked like."""

    def apply(self, spec: Spec, plan: Plan, kill: bool) -> None:
        """Carry out a plan. ``kill``: with SIGKILL for all its processes, because it takes no SIGTERM; every other stop is ended
        after the drain time and a margin."""

    def own(self, spec: Spec) -> Sequence[str]:
        """Its files beside the engine's folder and link."""

    def forget(self, spec: Spec, gone: Sequence[str]) -> None:
        """Remove these files and whatever else there is of a stopped engine."""
