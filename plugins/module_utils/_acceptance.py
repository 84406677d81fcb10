# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host is fit to serve: checks and verdict. Pure; private to this collection."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping

from ansible_collections.idc.llm.plugins.module_utils._gpu import NvmlView

SCHEMA = 1
FILE = "/var/lib/idc_llm/acceptance.json"


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it holds, what was seen, what was wanted."""

    name: str
    ok: bool
    observed: str
    wanted: str


def checks(view: NvmlView) -> tuple[Check, ...]:
    """The checks of a host, in order."""
    sick = [gpu.uuid or f"index {gpu.index}" for gpu in view.gpus if not gpu.healthy]
    health = "not healthy: {}".format(", ".join(sick)) if sick else f"{len(view.gpus)} healthy"
    return (
        Check("driver_answers", view.state in ("ok", "no_devices"), view.state, "ok"),
        Check("gpus_present", bool(view.gpus), f"{len(view.gpus)} GPU", "at least 1 GPU"),
        Check("gpus_healthy", bool(view.gpus) and not sick, health, "all healthy, at least 1"),
    )


def verdict(view: NvmlView, previous: Any, now: str) -> dict[str, Any]:
    """The verdict {schema, accepted, checks, driver_version, gpu_uuids, date}.

    ``now`` is an ISO 8601 time; the date of a ``previous`` verdict stays where nothing else differs.
    """
    rows = checks(view)
    fresh = {
        "schema": SCHEMA,
        "accepted": all(row.ok for row in rows),
        "checks": [asdict(row) for row in rows],
        "driver_version": view.driver_version,
        "gpu_uuids": sorted(gpu.uuid for gpu in view.gpus if gpu.uuid),
    }
    before = dict(previous) if isinstance(previous, Mapping) else {}
    date = before.pop("date", None)
    return dict(fresh, date=date if before == fresh and isinstance(date, str) else now)
