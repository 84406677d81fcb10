# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host is fit to serve: the verdict. Pure; private to this collection.

What was measured under load stays with the verdict for as long as driver and GPUs are the same; what was not good enough stays
until there is another. It is judged anew each time, so that another threshold needs no other measurement. The checks are in
_acceptance_checks.
"""
from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.idc.llm.plugins.module_utils._acceptance_checks import checks, measurable, measured_checks, numbers
from ansible_collections.idc.llm.plugins.module_utils._acceptance_table import NAMES, PER_GPU, THRESHOLDS, TOGETHER
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._gpu import NvmlView

SCHEMA = 3
IDLE_BYTES = 1 << 30  # a card that holds less is idle: its driver and a desktop take some
ACCEPTANCE_ARGUMENTS: Dict[str, Any] = {  # of gpu_facts; doc_fragments/_acceptance says what they are
    "acceptance_file": {"type": "path", "default": "/var/lib/idc_llm/acceptance.json"},
    "acceptance_measure": {"type": "bool", "default": True},
    "acceptance_measured": {"type": "dict"},
    "acceptance_dcgm_level": {"type": "int", "default": 0},
    "acceptance_thresholds": {"type": "dict", "options": {figure: {"type": "float"} for figure in THRESHOLDS}},
}
NUMBERS = {"seconds": (1, 600), "dcgm_level": (0, 3), "disk_mib": (64, 1 << 20), "port": (1024, 65535)}  # variables of the role
DRIFT = 0.95  # a figure that is under so much of the last accepted one is told, though it may be good enough
OF_GPUS = ("gpus", "peers", "all_reduce", "torch", "cuda", "nccl", "error")  # of _agent_gpu_check.py, or why it gave none
# which sentence of the catalogue is for which kind of check; all others are figures
CODES = {"driver": "IDC-ACC-001", "present": "IDC-ACC-001", "health": "IDC-ACC-001", "measured": "IDC-ACC-002",
         "results": "IDC-ACC-003", "clocks": "IDC-ACC-004", "pcie": "IDC-ACC-006", "pcie_lanes": "IDC-ACC-006",
         "dcgm": "IDC-ACC-007", "pairs": "IDC-ACC-008", "peers": "IDC-ACC-010"}


def given_errors(given: Mapping[str, Any]) -> List[IdcError]:
    """What is wrong with the role's numbers, given by name without ``acceptance_``."""
    return [IdcError("IDC-INV-007", name=f"acceptance_{name}", observed=given[name],
                     wanted=f"a whole number from {least} to {most}") for name, (least, most) in NUMBERS.items()
            if not re.fullmatch(r"\d+", str(given[name])) or not least <= int(given[name]) <= most]


def idle(view: NvmlView) -> bool:
    """Whether no program uses the GPUs, as far as NVML shows; what it does not show is no proof."""
    return all(gpu.processes is not None and not gpu.processes and (gpu.memory_used_bytes or 0) <= IDLE_BYTES for gpu in view.gpus)


def figures(measured: Mapping[str, Any], known: Mapping[str, int]) -> Dict[Tuple[str, str], Tuple[str, float]]:
    """All figures of a measurement: (whose, which) → (name, value). known: of ``numbers``."""
    found: Dict[Tuple[str, str], Tuple[str, float]] = {}
    for row in measured.get("gpus") or ():
        for figure in PER_GPU:
            if figure in row:
                found[row["uuid"], figure] = (f"GPU {known.get(row['uuid'], row['uuid'])}: {NAMES[figure]}", row[figure])
    if "gbs" in (measured.get("peers") or {}):
        found["peers", "gbs"] = (NAMES["peer_gbs"], measured["peers"]["gbs"])
    for part, whose, wanted in (("all_reduce", "", (TOGETHER,)), ("nccl_tests", "nccl-tests, ", (TOGETHER,)),
                                ("nvbandwidth", "nvbandwidth, ", ("to_gpu_gbs", "from_gpu_gbs", "peer_gbs"))):
        for figure in wanted:
            value = (measured.get(part) or {}).get(figure)
            if value is not None:
                found[part, figure] = (f"{whose}{NAMES[figure]}", value)
    if "gbs" in (measured.get("disk") or {}):
        found["disk", "gbs"] = (NAMES["disk_read_gbs"], measured["disk"]["gbs"])
    for other, pair in sorted((measured.get("pairs") or {}).items()):
        if TOGETHER in pair:
            found["pairs", other] = (f"all-reduce with {other}, GB/s", pair[TOGETHER])
    return found


def drifts(before: Mapping[str, Any], now: Mapping[str, Any], known: Mapping[str, int]) -> list[str]:
    """Sentences on figures that are lower than those of an accepted run before. known: of ``numbers``."""
    was = figures(before, known)
    return [f"{name}: {value:g}, was {was[key][1]:g}" for key, (name, value) in figures(now, known).items()
            if key in was and value < DRIFT * was[key][1]]


def lines(found: Mapping[str, Any]) -> list[str]:
    """A verdict in words: what it is, each check that does not hold, each figure, what was not run, and what became slower."""
    bad = [check for check in found["checks"] if not check["ok"]]
    good = "accepted: all checks hold" if (found.get("measured") or {}).get("gpus") else \
        "accepted by health alone, the GPUs were not measured"
    said = [f"not accepted: {len(bad)} of {len(found['checks'])} checks failed" if bad else good]
    said += [f"{check['name']}: {check['observed']}, wanted {check['wanted']}" for check in bad]
    said += [f"{check['name']}: {check['observed']}" for check in found["checks"]
             if check["ok"] and (check["value"] is not None or not check["run"])]
    return said + [f"slower than before: {drift}" for drift in found.get("drift") or ()]


def code_of(check: Mapping[str, Any]) -> str:
    """The code of the catalogue for a check that does not hold."""
    return CODES.get(check["kind"], "IDC-ACC-005")


def errors(host: str, found: Optional[Mapping[str, Any]]) -> List[IdcError]:
    """What keeps a host from being accepted, one error for each code of the catalogue; none for one that is."""
    if not found:
        return [IdcError("IDC-ACC-009", host=host)]
    by_code: Dict[str, List[str]] = {}
    for check in found["checks"]:
        if not check["ok"]:
            by_code.setdefault(code_of(check), []).append(
                f"{check['name']}: {check['observed']} (wanted: {check['wanted']})")
    return [IdcError(code, host=host, observed="; ".join(said)) for code, said in sorted(by_code.items())]


def merged(kept: Optional[Mapping[str, Any]], now: Mapping[str, Any]) -> Dict[str, Any]:
    """What was measured just now over what is kept, part by part; pairs host by host."""
    anew = {*now, *(OF_GPUS if "gpus" in now or "error" in now else ())}
    stale = [name for name in (kept or {}).get("stale") or () if name not in anew]
    found = {**{name: part for name, part in (kept or {}).items() if name not in {*anew, "stale"}}, **now}
    if "pairs" in now:
        found["pairs"] = {**((kept or {}).get("pairs") or {}), **now["pairs"]}
    return {**found, "stale": stale} if stale else found


def verdict(view: NvmlView, previous: Any, now: str, measured: Optional[Mapping[str, Any]] = None,
            own: Optional[Mapping[str, float]] = None, measure: bool = True, dcgm_level: int = 0) -> dict[str, Any]:
    """The verdict {schema, accepted, checks, driver_version, gpu_uuids, measured, due, due_beside, drift, best, date}.

    ``now`` is an ISO 8601 time; the date of a ``previous`` verdict stays where nothing else differs. measured: parts that were
    measured just now; without them those of the previous verdict count, if it was of this driver and these GPUs, or was not good
    enough (``stale`` names the parts of another driver or other GPUs). measure: False where health alone is to be judged. due: a
    measurement of the GPUs is wanted; due_beside: of the disk and by NVIDIA's programs. best: figures of the last measurement that
    was accepted, which drift compares with.
    """
    before = dict(previous) if isinstance(previous, Mapping) and previous.get("schema") == SCHEMA else {}
    uuids = sorted(gpu.uuid for gpu in view.gpus if gpu.uuid)
    same = (before.get("driver_version"), before.get("gpu_uuids")) == (view.driver_version, uuids)
    best, drift = before.get("best"), list(before.get("drift") or ())
    kept = before.get("measured")
    if kept and not same:
        kept, drift = None if before.get("accepted") else {**kept, "stale": sorted({*kept} - {"stale"})}, []
    judged = kept
    if not measure:
        judged, drift = None, []
    elif measured is not None:
        judged = merged(kept, measured)
        drift = drifts(best or {}, judged, numbers(view))
    rows = [*checks(view, own), *(measured_checks(view, judged, own or {}) if judged else ())]
    accepted, parts = all(row.ok for row in rows), judged or {}
    stale = set(parts.get("stale") or ())
    there = measure and view.state == "ok"
    fresh = {
        "schema": SCHEMA,
        "accepted": accepted,
        "checks": [asdict(row) for row in rows],
        "driver_version": view.driver_version,
        "gpu_uuids": uuids,
        "measured": judged,
        "due": there and bool(measurable(view)) and ("gpus" not in parts or "gpus" in stale),
        "due_beside": there and ("disk" not in parts or "disk" in stale or (parts.get("dcgm") or {}).get("level", 0) < dcgm_level),
        "drift": drift if judged else [],
        "best": judged if parts.get("gpus") and accepted else best,
    }
    before = dict(previous) if isinstance(previous, Mapping) else {}
    date = before.pop("date", None)
    return dict(fresh, date=date if before == fresh and isinstance(date, str) else now)
