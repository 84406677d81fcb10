# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks/drivers.yml does on a host when its turn comes. Pure; private to this collection."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

DRIVER = ("versions", "reboot", "problems", "torn")  # of the role's plan: what engines run with


@dataclass(frozen=True)
class Turn:
    """change: the driver changes or the host boots, so it is drained; start: engines to bring up, drained or not; known, errors:
    why it cannot be, in the role's words and in ours."""

    change: bool = False
    start: Tuple[str, ...] = ()
    known: Tuple[str, ...] = ()
    errors: Tuple[IdcError, ...] = ()


def run_errors(at_once: Any, nodes: Sequence[str], hosts: Sequence[str]) -> List[IdcError]:
    """What is wrong with how the playbook was called. Ansible takes 0, and a word for 0, for all hosts at once."""
    errors = []
    if isinstance(at_once, bool) or not re.fullmatch(r"[1-9]\d*", str(at_once)):
        errors.append(IdcError("IDC-INV-007", name="hosts_at_once", observed=repr(at_once), wanted="a whole number from 1"))
    if not set(nodes) & set(hosts):
        errors.append(IdcError("IDC-GPU-028", observed=", ".join(hosts), known=", ".join(nodes)))
    return errors


def turn_of(plan: Mapping[str, Any], engines: Sequence[str], enabled: bool, host: str) -> Turn:
    """plan: of the filter nvidia_plan; engines: what the serving plan has on this host.

    An engine that does not run is brought up where nothing else is to be done, too: a run that ended half-way has left it so.
    """
    if not enabled:
        return Turn()
    known = tuple(plan["errors"])
    if not plan["manage"]:
        return Turn(known=known)
    running = plan["engines"]
    if not (plan.get("driver_changes") or plan["reboot"]):
        return Turn(start=tuple(name for name in engines if name not in running), known=known)
    strange = sorted(set(running) - set(engines))
    errors = (IdcError("IDC-GPU-030", host=host, engines=", ".join(strange)),) if strange else ()
    return Turn(True, tuple(engines), known, errors)


@dataclass(frozen=True)
class Looked:
    """A host before the run, in the order of their turns. change: it will be drained; running: its engines that run now."""

    host: str
    change: bool
    running: Tuple[str, ...] = ()


def outages(plan: Mapping[str, Any], looked: Sequence[Looked], lost: Sequence[str], at_once: int) -> List[IdcError]:
    """Deployments that would have no replica while a batch of ``at_once`` hosts is away, one error a batch.

    lost: hosts that were to be looked at and gave no answer, whose engines are not counted on; those of hosts that this run was
    not to touch are. A deployment that has none before its batch loses nothing.
    """
    rows = plan["engines"]
    seen = {one.host for one in looked} | set(lost)
    up = {name for one in looked for name in one.running} | {row["name"] for row in rows if row["host"] not in seen}
    errors = []
    for start in range(0, len(looked), at_once):
        batch = looked[start:start + at_once]
        away = [one.host for one in batch if one.change]
        gone = _served(rows, up) - _served(rows, up - {row["name"] for row in rows if row["host"] in away})
        if gone:
            errors.append(IdcError("IDC-GPU-034", host=", ".join(away), deployments=", ".join(sorted(gone))))
        up |= {row["name"] for row in rows if row["host"] in {one.host for one in batch}}
    return errors


def _served(rows: Sequence[Mapping[str, Any]], up: Set[str]) -> Set[str]:
    """Deployments with a replica all of whose engines are up."""
    whole: Dict[Tuple[Any, ...], bool] = {}
    for row in rows:
        key = _replica(row)
        whole[key] = whole.get(key, True) and row["name"] in up
    return {key[0] for key, is_up in whole.items() if is_up}


def _replica(row: Mapping[str, Any]) -> Tuple[Any, ...]:
    return row["deployment"], row["slot"], row["replica"]


def as_before(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a host on which engines ran has the driver that they ran with. Both: of the filter nvidia_plan."""
    return bool(before.get("engines")) and all(before.get(name) == now.get(name) for name in DRIVER)


def replicas(plan: Mapping[str, Any], hosts: Sequence[str]) -> Dict[str, Any]:
    """Of hosts: the names of their engines, and the serving plan's rows of the heads of their replicas."""
    own = [row for row in plan["engines"] if row["host"] in hosts]
    keys = {_replica(row) for row in own}
    heads = [row for row in plan["engines"] if row["head"] and _replica(row) in keys]
    return {"engines": [row["name"] for row in own], "heads": heads}
