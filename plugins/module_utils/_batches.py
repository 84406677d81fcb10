# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order replicas are started, so that a deployment keeps answering. Pure; private to this collection."""
from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

Rows = Sequence[Mapping[str, Any]]


def engine_batches(engines: Rows, looked: Mapping[str, str], size: int) -> List[Dict[str, List[str]]]:
    """Batches of whole replicas: ``engines``, names of all rows to bring up; ``drain``, those to end before.

    ``engines``: the plan's rows; ``looked``: {name: what a start would do (none, start, restart)} of the rows that this run
    reaches. A replica of which a row is not reached stays out: a part of it alone would not come up again. What is as it should be
    comes first, all at once, then what does not run, ``size`` replicas at a time. Those that serve and would be restarted come
    last, and never two of one deployment together: the others answer meanwhile.
    A replica of which one rank is restarted is restarted whole, since its ranks are one group of processes.
    """
    replicas: Dict[Tuple[Any, ...], List[str]] = {}
    for row in engines:
        replicas.setdefault((row["deployment"], row["revision"], row["slot"], row["replica"]), []).append(row["name"])
    as_is: List[str] = []
    fresh: List[List[str]] = []
    serving: List[Tuple[str, List[str]]] = []
    for key, names in replicas.items():
        if not looked.keys() >= set(names):
            continue
        actions = {looked[name] for name in names}
        if actions == {"none"}:
            as_is += names
        elif "restart" in actions or "none" in actions:  # a part of it runs
            serving.append((key[0], names))
        else:
            fresh.append(names)
    width = max(1, int(size))
    batches = [{"engines": as_is, "drain": []}] if as_is else []
    batches += [{"engines": sum(fresh[at:at + width], []), "drain": []} for at in range(0, len(fresh), width)]
    while serving:
        turn: Dict[str, List[str]] = {}
        for deployment, names in serving:
            if deployment not in turn and len(turn) < width:
                turn[deployment] = names
        serving = [one for one in serving if turn.get(one[0]) is not one[1]]
        together = sum(turn.values(), [])
        batches.append({"engines": together, "drain": together})
    return batches
