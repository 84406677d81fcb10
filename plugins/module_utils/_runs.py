# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of each run of a playbook: who, which commit, which hosts, what it changed. Pure; private to this collection.

Two lines with one run id: one when it starts, one when it ends. A run that was killed has the first alone.
"""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Mapping, Sequence

COUNTS = ("ok", "changed", "failures", "dark", "skipped")  # as Ansible's own recap has them; dark is unreachable


@dataclass(frozen=True)
class Run:
    """One line about a run of ansible-playbook.

    run: its id; time: of this line; event: started or ended; pattern: which hosts its plays name; of a run that ended also hosts:
    the recap by host, and seconds: how long it took.
    """

    run: str
    time: str
    user: str
    controller: str
    playbook: str
    inventory: str
    commit: str
    event: str = "started"
    pattern: Sequence[str] = ()
    check: bool = False
    limit: str = ""
    tags: Sequence[str] = ()
    seconds: int = 0
    hosts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    def ended(self, time: str, seconds: int, hosts: Mapping[str, Mapping[str, int]]) -> Run:
        """The same run, when it is over."""
        return replace(self, event="ended", time=time, seconds=seconds, hosts=hosts)


def recap(stats: Any) -> Dict[str, Dict[str, int]]:
    """The counts by host of Ansible's AggregateStats; localhost, where only files are written, counts like any other."""
    return {host: {name: int(getattr(stats, name, {}).get(host, 0)) for name in COUNTS} for host in sorted(stats.processed)}


def kept(lines: Sequence[str], now: datetime, days: int) -> List[str]:
    """Those lines that are younger than so many days; what is not a line of ours stays, since nobody knows its age."""
    oldest = now - timedelta(days=days)
    found = []
    for line in lines:
        try:
            when = datetime.fromisoformat(str(json.loads(line)["time"]))
        except (ValueError, KeyError, TypeError):
            found.append(line)
            continue
        if (when if when.tzinfo else when.replace(tzinfo=timezone.utc)) >= oldest:
            found.append(line)
    return found
