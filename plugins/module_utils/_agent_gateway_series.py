# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway has to say as series: requests by tenant and status, counted from the audit log; tokens; whom it leaves out.

A part of ``_agent_textfile``: standard library only, nothing of ansible, Python 3.9+. The log is read on from where the last run
ended, across a rotation, too; counts and place are one file, so that a run that dies counts nothing twice.
"""
from __future__ import annotations

import json
import os
import sys
import urllib.request
from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

MOST_SERIES = 5000  # more tenants, deployments and statuses than that are counted as one
MOST_BYTES = 64 << 20  # read at once; the rest at the next run
OTHER = ("other", "other", "other")
Sample = Tuple[Mapping[str, str], float]  # labels and value


@dataclass(frozen=True)
class Place:
    """How far the log was read, and what was counted by (tenant, deployment, status)."""

    inode: int = 0
    offset: int = 0
    counts: Mapping[tuple[str, str, str], int] = field(default_factory=dict)


def read_place(path: str) -> Optional[Place]:
    """What an earlier run left; None where none did, or where it is torn."""
    try:
        with open(path, encoding="utf-8") as stream:
            raw = json.load(stream)
        return Place(int(raw["inode"]), int(raw["offset"]), {(a, b, c): int(count) for a, b, c, count in raw["counts"]})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def place_text(place: Place) -> str:
    """What read_place reads."""
    rows = [[*key, count] for key, count in sorted(place.counts.items())]
    return json.dumps({"inode": place.inode, "offset": place.offset, "counts": rows}) + "\n"


def counted(lines: bytes, before: Mapping[tuple[str, str, str], int]) -> dict[tuple[str, str, str], int]:
    """The counts with these lines of the audit log; what is no line of it counts nothing."""
    counts = dict(before)
    for line in lines.splitlines():
        try:
            row = json.loads(line)
            key = (str(row["tenant"]), str(row["deployment"]), str(row["status"]))
        except (ValueError, KeyError, TypeError):
            continue
        if key not in counts and len(counts) >= MOST_SERIES:
            key = OTHER
        counts[key] = counts.get(key, 0) + 1
    return counts


def read_on(log: str, place: Optional[Place]) -> Place:
    """Whole lines since the place; without one, the log counts from now on. Raises OSError."""
    inode = os.stat(log).st_ino
    if place is None:
        return Place(inode, os.stat(log).st_size)
    counts, offset = place.counts, place.offset
    if inode != place.inode:
        old = _of_inode(os.path.dirname(log), place.inode)
        if old:
            counts = counted(_lines(old, offset), counts)
        offset = 0
    elif os.stat(log).st_size < offset:  # somebody emptied it
        offset = 0
    lines = _lines(log, offset)
    return Place(inode, offset + len(lines), counted(lines, counts))


def requests(log: str, kept: str) -> list[Sample]:
    """Requests since this has been counted; the place is kept for the next run."""
    try:
        place = read_on(log, read_place(kept))
    except FileNotFoundError:  # nobody has asked yet
        return []
    except OSError as error:  # the other series of the host are worth having all the same
        base.complain(f"requests are not counted: {error}")
        return []
    base.write(kept, place_text(place))
    return [({"tenant": tenant, "deployment": deployment, "code": code}, float(count))
            for (tenant, deployment, code), count in sorted(place.counts.items())]


def engines(file: str, states: str) -> tuple[list[Sample], list[Sample]]:
    """(share, drained) of each engine of the upstreams: what the prober says, what an operator or a play says."""
    try:
        with open(file, encoding="utf-8") as stream:
            upstreams = json.load(stream)["upstreams"]
        rows = [(str(row["deployment"]), str(server["engine"])) for row in upstreams for server in row["servers"]]
    except (OSError, ValueError, KeyError, TypeError):
        return [], []
    shares: list[Sample] = []
    drained: list[Sample] = []
    for deployment, engine in rows:
        try:
            with open(os.path.join(states, f"{engine}.json"), encoding="utf-8") as stream:
                state = json.load(stream)
            share, out = float(state.get("share", 1)), float(state.get("drained") is True)
        except (OSError, ValueError, TypeError, AttributeError):
            share, out = 1.0, 0.0  # as the balancer has it: what nobody spoke of gets all
        labels = {"deployment": deployment, "engine": engine}
        shares.append((labels, share))
        drained.append((labels, out))
    return shares, drained


def tokens(url: str) -> str:
    """The gateway's own page of tokens, as it is; "" where it does not answer, or answers something else."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            text = str(answer.read(1 << 22).decode())
    except (OSError, ValueError):
        return ""
    good = all(line.startswith(("#", "idc_llm_tokens_total{")) for line in text.splitlines() if line)
    return text if good and "idc_llm_tokens_total{" in text else ""


def _lines(path: str, offset: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(offset)
        found = stream.read(MOST_BYTES)
    return found[:found.rfind(b"\n") + 1]


def _of_inode(folder: str, inode: int) -> str:
    with os.scandir(folder) as entries:
        return next((entry.path for entry in entries if entry.inode() == inode and not entry.name.endswith(".gz")), "")
