# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts measure an all-reduce with which, and when. Pure; private to this collection.

Hosts of one kind stand in a ring, each with two neighbours (two hosts: with one). A round is what can be measured at once: each
host is in one pair of it at most.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

PORT = 29500  # below the rank-0 masters of engines


@dataclass(frozen=True)
class Member:
    """A host as pairing needs it. gpus: how many are measured; card: their kind; wire_gbs: what the ports carry that NCCL is told
    to use; why_not: why it cannot be measured now, empty where it can; known: hosts it was measured with, without an error."""

    name: str
    address: str
    gpus: int
    card: str
    wire_gbs: float = 0.0
    why_not: str = ""
    known: Tuple[str, ...] = ()


def member(name: str, address: Optional[str], fact: Optional[Mapping[str, Any]], engines: str, measure: bool = True) -> Member:
    """A host from its fact idc_llm_gpu and the list of its engines that are up (a text, a line each)."""
    gpu = fact or {}
    rows = [row for row in gpu.get("gpus") or () if row.get("uuid") in (gpu.get("acceptance_gpus") or ())]
    used = str((gpu.get("nccl") or {}).get("NCCL_IB_HCA") or "").lstrip("=").split(",")
    rates = [port.get("rate_gbps") or 0.0 for port in gpu.get("rdma") or () if f"{port.get('device')}:{port.get('port')}" in used]
    verdict = gpu.get("acceptance_now") or {}
    refused = any(not check["ok"] for check in verdict.get("checks") or () if check["kind"] != "pairs")
    if fact is None or not address:
        why = "it was not reached in this run"
    elif not measure:
        why = "acceptance_measure is false"
    elif not rows:
        why = "it has no GPU that can be measured"
    elif not gpu.get("idle") or engines.strip():
        why = "programs run on its GPUs, or nobody can tell"
    elif refused:
        why = "it is not accepted by itself"
    else:
        why = ""
    pairs = (verdict.get("measured") or {}).get("pairs") or {}
    known = () if "pairs" in ((verdict.get("measured") or {}).get("stale") or ()) else tuple(
        sorted(other for other, part in pairs.items() if "error" not in part))
    card = rows[0].get("name") or "" if rows else ""
    return Member(name, address or "", len(rows), card, round(sum(rates) / 8, 1), why, known)


def ring(names: Sequence[str]) -> List[List[Tuple[str, str]]]:
    """The rounds of a ring: neighbours at even places, at odd ones, and where their number is odd the last with the first."""
    count = len(names)
    pairs = [(names[at], names[(at + 1) % count]) for at in range(count if count > 2 else count - 1)]
    rounds = [pairs[0::2], pairs[1::2]] if count % 2 == 0 else [pairs[0:-1:2], pairs[1:-1:2], pairs[-1:]]
    return [one for one in rounds if one]


def rounds(members: Sequence[Member], again: bool = False, port: int = PORT) -> List[List[Dict[str, Any]]]:
    """What is to be measured, round by round: of each pair hosts, meet, world, first (rank, by host), wire_gbs (0: not known).

    Only pairs that have not been measured yet; again: all of them. The ring is made of the hosts that can be measured now: one that
    cannot is closed over, and nobody is judged by a neighbour that is known to be bad.
    """
    kinds: Dict[Tuple[int, str], List[Member]] = {}
    for one in members:
        if not one.why_not:
            kinds.setdefault((one.gpus, one.card), []).append(one)
    found: List[List[Dict[str, Any]]] = []
    for alike in kinds.values():
        by_name = {one.name: one for one in alike}
        for number, pairs in enumerate(ring(list(by_name)) if len(by_name) > 1 else []):
            for first, second in pairs:
                if again or second not in by_name[first].known or first not in by_name[second].known:
                    found += [[] for _more in range(number + 1 - len(found))]
                    found[number].append(_pair(by_name[first], by_name[second], port))
    return [one for one in found if one]


def _pair(first: Member, second: Member, port: int) -> Dict[str, Any]:
    return {"hosts": [first.name, second.name], "meet": f"tcp://{first.address}:{port}", "world": first.gpus + second.gpus,
            "first": {first.name: 0, second.name: first.gpus}, "wire_gbs": min(first.wire_gbs, second.wire_gbs)}


def alone(members: Sequence[Member]) -> Dict[str, str]:
    """Why a host of the ring is in no pair, by host; not of those that were measured before."""
    able = [one for one in members if not one.why_not]
    found = {one.name: one.why_not for one in members if one.why_not and not one.known}
    for one in able:
        if not one.known and not any(other.name != one.name and (other.gpus, other.card) == (one.gpus, one.card) for other in able):
            found[one.name] = "no other host of its kind can be measured now"
    return found


def spanning(deployments: Iterable[Mapping[str, Any]], gpus: Mapping[str, int], plan: Mapping[str, Any]) -> List[str]:
    """Hosts that deployments over several hosts use, in the inventory's order: those of the kept plan's replicas that have ranks,
    and those that a deployment may use whose sizes are more than each of them has GPUs. gpus: of each host that was seen."""
    wanted: Set[str] = set()
    heads: Dict[Tuple[Any, ...], Set[str]] = {}
    for engine in plan.get("engines") or ():
        replica = (engine.get("deployment"), engine.get("slot"), engine.get("replica"))
        heads.setdefault(replica, set()).add(str(engine.get("host")))
    for hosts in heads.values():
        if len(hosts) > 1:
            wanted |= hosts
    for deployment in deployments:
        sizes = [deployment.get(f"{size}_parallel") or 1 for size in ("tensor", "pipeline", "data")]
        if not all(isinstance(size, int) for size in sizes):
            continue  # preflight says what is wrong with it
        here = [host for host in gpus if host in (deployment.get("hosts") or gpus)]
        if here and math.prod(sizes) > max(gpus[host] for host in here):
            wanted.update(here)
    return [host for host in gpus if host in wanted]
