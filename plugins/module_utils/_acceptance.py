# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host is fit to serve: checks and verdict. Pure; private to this collection.

What was measured under load (``_agent_gpu_check.py``) stays with the verdict for as long as driver and GPUs are the same; what was
not good enough stays until there is another. It is judged anew each time, so that another threshold needs no other measurement.
"""
from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any, Iterator, Mapping, Optional

from ansible_collections.idc.llm.plugins.module_utils._acceptance_table import ALIKE, FIGURES, NAMES, PER_GPU, TOGETHER, minimum
from ansible_collections.idc.llm.plugins.module_utils._gpu import Gpu, NvmlView
from ansible_collections.idc.llm.plugins.module_utils._products import product_by_pci

SCHEMA = 2
IDLE_BYTES = 1 << 30  # a card that holds less is idle: its driver and a desktop take some
FILE = "/var/lib/idc_llm/acceptance.json"
DRIFT = 0.95  # a figure that is under so much of the last accepted one is told, though it may be good enough


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


def measurable(view: NvmlView) -> list[str]:
    """UUIDs of the GPUs that can be measured: not those that are cut into MIG slices."""
    return sorted(gpu.uuid for gpu in view.gpus if gpu.uuid and not gpu.mig_enabled)


def idle(view: NvmlView) -> bool:
    """Whether no program uses the GPUs, as far as NVML shows; what it does not show is no proof."""
    return all(gpu.processes is not None and not gpu.processes and (gpu.memory_used_bytes or 0) <= IDLE_BYTES for gpu in view.gpus)


def measured_checks(view: NvmlView, measured: Mapping[str, Any], own: Mapping[str, float]) -> Iterator[Check]:
    """What a measurement shows. own: the site's minima by figure."""
    if "error" in measured:
        yield Check("measured", False, str(measured["error"] or "it ended without a word"), "a measurement that ends")
        return
    rows, together = measured["gpus"], measured.get("all_reduce")
    kinds = {gpu.uuid: _kind(gpu) for gpu in view.gpus if gpu.uuid in measurable(view)}
    missing = sorted(str(uuid) for uuid in kinds if uuid not in {row["uuid"] for row in rows})
    yield Check("gpus_measured", not missing, f"not measured: {', '.join(missing)}" if missing else f"{len(rows)}", f"{len(kinds)}")
    for row in rows:
        name = f"GPU {row['index']}"
        wrong, slowed = row["wrong"], row.get("slowed")
        yield Check(f"{name}: results", not wrong, f"{wrong} wrong of a product", "0")
        seen = "not seen, nvidia-smi shows nothing" if slowed is None else ", ".join(slowed) or "not slowed"
        yield Check(f"{name}: clocks under load", not slowed, seen, "not slowed")
        for figure in PER_GPU:
            least = minimum(figure, kinds.get(row["uuid"], ""), len(rows), own)
            alike = [other[figure] for other in rows if kinds.get(other["uuid"]) == kinds.get(row["uuid"])]
            beside = round(ALIKE * statistics.median(alike), 1) if len(alike) > 1 else 0.0
            yield _at_least(f"{name}: {NAMES[figure]}", row[figure], max(least or 0.0, beside),
                            "" if least and least >= beside else ", as the host's others")
    if together:
        least = minimum(TOGETHER, next(iter(kinds.values()), ""), together["gpus"], own)
        yield Check("all-reduce: results", not together["wrong"], f"{together['wrong']} wrong", "0")
        yield _at_least(NAMES[TOGETHER], together[TOGETHER], least or 0.0, "")


def _kind(gpu: Gpu) -> str:
    product = product_by_pci(gpu.pci_device_id) if gpu.pci_device_id else None
    return product.name if product else str(gpu.name)


def _at_least(name: str, seen: float, least: float, whose: str) -> Check:
    return Check(name, seen >= least, f"{seen:g}", f"at least {least:g}{whose}" if least else "any: nothing is known of this card")


def drifts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Sentences on figures that are lower than those of an accepted run before."""
    said = []
    old = {row["uuid"]: row for row in before.get("gpus", ())}
    pairs = [(f"GPU {row['index']}: ", old[row["uuid"]], row) for row in now.get("gpus", ()) if row["uuid"] in old]
    if before.get("all_reduce") and now.get("all_reduce"):
        pairs.append(("", before["all_reduce"], now["all_reduce"]))
    for name, was, row in pairs:
        said += [f"{name}{NAMES[figure]}: {row[figure]:g}, was {was[figure]:g}" for figure in FIGURES
                 if figure in row and figure in was and row[figure] < DRIFT * was[figure]]
    return said


def lines(found: Mapping[str, Any]) -> list[str]:
    """A verdict in words: what it is, each check that does not hold, each figure, and what became slower."""
    bad = [check for check in found["checks"] if not check["ok"]]
    good = "accepted: all checks hold" if found.get("measured") else "accepted by health alone, the GPUs were not measured"
    said = [f"not accepted: {len(bad)} of {len(found['checks'])} checks failed" if bad else good]
    said += [f"{check['name']}: {check['observed']}, wanted {check['wanted']}" for check in bad]
    figures = set(NAMES.values())
    said += [f"{check['name']}: {check['observed']}" for check in found["checks"]
             if check["ok"] and check["name"].rpartition(": ")[2] in figures]
    return said + [f"slower than before: {drift}" for drift in found.get("drift") or ()]


def verdict(view: NvmlView, previous: Any, now: str, measured: Optional[Mapping[str, Any]] = None,
            own: Optional[Mapping[str, float]] = None, measure: bool = True) -> dict[str, Any]:
    """The verdict {schema, accepted, checks, driver_version, gpu_uuids, measured, due, drift, best, date}.

    ``now`` is an ISO 8601 time; the date of a ``previous`` verdict stays where nothing else differs. measured: what
    _agent_gpu_check.py said just now; without it that of the previous verdict counts, if it was of this driver and these GPUs, or
    was not good enough. measure: False where health alone is to be judged. due: a measurement is wanted. best: figures of the last
    measurement that was accepted, which drift compares with.
    """
    before = dict(previous) if isinstance(previous, Mapping) and previous.get("schema") == SCHEMA else {}
    uuids = sorted(gpu.uuid for gpu in view.gpus if gpu.uuid)
    same = (before.get("driver_version"), before.get("gpu_uuids")) == (view.driver_version, uuids)
    best, drift = before.get("best"), list(before.get("drift") or ())
    if not measure:
        measured, drift = None, []
    elif measured is not None:
        same, drift = True, drifts(best or {}, measured)
    elif same or before.get("measured") and not before.get("accepted"):
        measured = before["measured"]
    rows = [*checks(view), *(measured_checks(view, measured, own or {}) if measured else ())]
    accepted = all(row.ok for row in rows)
    fresh = {
        "schema": SCHEMA,
        "accepted": accepted,
        "checks": [asdict(row) for row in rows],
        "driver_version": view.driver_version,
        "gpu_uuids": uuids,
        "measured": measured,
        "due": measure and view.state == "ok" and bool(measurable(view)) and (not same or not measured or "error" in measured),
        "drift": drift if measured and same else [],
        "best": measured if measured and accepted else best,
    }
    before = dict(previous) if isinstance(previous, Mapping) else {}
    date = before.pop("date", None)
    return dict(fresh, date=date if before == fresh and isinstance(date, str) else now)
