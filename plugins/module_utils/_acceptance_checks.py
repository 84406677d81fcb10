# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of acceptance: of what NVML shows, and of what was measured. Pure; private to this collection.

What was measured is one mapping of parts, each there or not: ``gpus``, ``peers`` and ``all_reduce`` (``_agent_gpu_check.py``) or
``error`` in their place, ``disk`` (``_agent_disk_check.py``), ``dcgm``, ``nvbandwidth`` and ``nccl_tests`` (NVIDIA's programs, read
by ``_acceptance_tools``), ``pairs`` (all-reduce with another host, by its name). A part says ``error`` where it broke off and
``not_run`` where it could not be tried.
"""
from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._acceptance_table import (
    ALIKE,
    NAMES,
    PER_GPU,
    TOGETHER,
    WIRE,
    minimum,
    pcie_wanted,
)
from ansible_collections.idc.llm.plugins.module_utils._gpu import Gpu, NvmlView
from ansible_collections.idc.llm.plugins.module_utils._products import product_by_pci

ENDS = "a measurement that ends"
Part = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it holds, what was seen, what was wanted.

    kind: what it is, without the number of a GPU; value and least: of a figure, least being 0 where any is good; run: False where
    it could not be tried, which is no failure.
    """

    name: str
    ok: bool
    observed: str
    wanted: str
    kind: str
    value: Optional[float] = None
    least: Optional[float] = None
    run: bool = True


def product_name(gpu: Gpu) -> str:
    """The card's name in our table, or NVML's."""
    product = product_by_pci(gpu.pci_device_id) if gpu.pci_device_id else None
    return product.name if product else str(gpu.name)


def measurable(view: NvmlView) -> list[str]:
    """UUIDs of the GPUs that can be measured: not those that are cut into MIG slices."""
    return sorted(gpu.uuid for gpu in view.gpus if gpu.uuid and not gpu.mig_enabled)


def numbers(view: NvmlView) -> dict[str, int]:
    """UUID → NVML's index, the one of nvidia-smi. CUDA, and so torch, counts those that it is shown in the order of our list."""
    return {gpu.uuid: gpu.index for gpu in view.gpus if gpu.uuid}


def checks(view: NvmlView, own: Optional[Mapping[str, float]] = None) -> tuple[Check, ...]:
    """The checks that need no measurement, in order. own: the site's minima."""
    sick = [(gpu.uuid or f"index {gpu.index}") + (f" ({'; '.join(gpu.health_reasons)})" if gpu.health_reasons else "")
            for gpu in view.gpus if not gpu.healthy]
    health = "not healthy: {}".format(", ".join(sick)) if sick else f"{len(view.gpus)} healthy"
    return (
        Check("driver_answers", view.state in ("ok", "no_devices"), view.state, "ok", "driver"),
        Check("gpus_present", bool(view.gpus), f"{len(view.gpus)} GPU", "at least 1 GPU", "present"),
        Check("gpus_healthy", bool(view.gpus) and not sick, health, "all healthy, at least 1", "health"),
        *(row for gpu in view.gpus for row in _lanes(gpu, own or {})),
    )


def _lanes(gpu: Gpu, own: Mapping[str, float]) -> Iterator[Check]:
    """The link's lanes, which are the same at rest and under load. Its generation is not: see ``_pcie``."""
    lanes, most = (gpu.pcie or {}).get("width"), (gpu.pcie or {}).get("width_max")
    if lanes is not None:
        wanted = pcie_wanted(product_name(gpu), (0, most or 0), own)[1]
        yield Check(f"GPU {gpu.index}: PCIe lanes", lanes >= wanted, str(lanes), f"at least {wanted}", "pcie_lanes", lanes, wanted)


def measured_checks(view: NvmlView, measured: Part, own: Mapping[str, float]) -> Iterator[Check]:
    """What a measurement shows. own: the site's minima by figure."""
    kinds = {str(gpu.uuid): product_name(gpu) for gpu in view.gpus if gpu.uuid in measurable(view)}
    if "error" in measured:
        yield Check("measured", False, str(measured["error"] or "it ended without a word"), ENDS, "measured")
    elif "gpus" in measured:
        yield from _gpus(measured, kinds, numbers(view), own)
        yield from _peers(measured.get("peers"), measured["gpus"], view, own)
    yield from _nccl_tests(measured.get("nccl_tests"), kinds, own)
    yield from _nvbandwidth(measured.get("nvbandwidth"), kinds, own)
    yield from _dcgm(measured.get("dcgm"))
    yield from _disk(measured.get("disk"), own)
    yield from _pairs(measured.get("pairs") or {}, own)


def _gpus(measured: Part, kinds: Mapping[str, str], known: Mapping[str, int], own: Mapping[str, float]) -> Iterator[Check]:
    rows, together = measured["gpus"], measured.get("all_reduce")
    missing = sorted(uuid for uuid in kinds if uuid not in {row["uuid"] for row in rows})
    yield Check("gpus_measured", not missing, f"not measured: {', '.join(missing)}" if missing else f"{len(rows)}", f"{len(kinds)}",
                "measured")
    for row in rows:
        name, kind = f"GPU {known.get(row['uuid'], row['uuid'])}", kinds.get(row["uuid"], "")
        wrong, slowed = row["wrong"], row.get("slowed")
        yield Check(f"{name}: results", not wrong, f"{wrong} wrong of a product", "0", "results")
        seen = "not seen, nvidia-smi shows nothing" if slowed is None else ", ".join(slowed) or "not slowed"
        yield Check(f"{name}: clocks under load", not slowed, seen, "not slowed", "clocks", run=slowed is not None)
        yield from _pcie(name, kind, row.get("pcie"), own)
        for figure in PER_GPU:
            least = minimum(figure, kind, len(rows), own)
            alike = [other[figure] for other in rows if kinds.get(other["uuid"]) == kinds.get(row["uuid"])]
            beside = round(ALIKE * statistics.median(alike), 1) if len(alike) > 1 else 0.0
            yield at_least(f"{name}: {NAMES[figure]}", row[figure], max(least or 0.0, beside), figure,
                           "" if least and least >= beside else ", as the host's others")
    if together:
        yield Check("all-reduce: results", not together["wrong"], f"{together['wrong']} wrong", "0", "results")
        yield at_least(NAMES[TOGETHER], together[TOGETHER], _busbw(kinds, together["gpus"], own), TOGETHER)


def _peers(part: Optional[Part], rows: Sequence[Part], view: NvmlView, own: Mapping[str, float]) -> Iterator[Check]:
    """Whether GPUs reach each other's memory. Over PCIe some machines do not let them, which is slow and no fault."""
    if not part:
        return
    known = numbers(view)
    place = {row["index"]: known.get(str(row["uuid"]), int(row["index"])) for row in rows}
    domains = view.topology.domains if view.topology else ()
    pairs = sorted({tuple(sorted(place[index] for index in way)) for way in part["indirect"]})
    cut = [pair for pair in pairs if any(set(pair) <= set(domain) for domain in domains)]
    said = "; ".join(f"GPU {one} and {other} by way of the host" for one, other in cut or pairs)
    yield Check("GPU to GPU: direct", not cut, said or f"all {part['ways']} ways", "all that NVLink joins", "peers")
    yield Check("GPU to GPU: results", not part["wrong"], f"{part['wrong']} wrong", "0", "results")
    yield at_least(f"{NAMES['peer_gbs']}, the slowest", part["gbs"], float(own.get("peer_gbs", 0.0)), "peer_gbs", nothing="any")


def _pcie(name: str, product: str, link: Optional[Part], own: Mapping[str, float]) -> Iterator[Check]:
    """The link while bytes go over it: at rest it may speak an older generation, to save power."""
    if link is None:
        return
    now = (int(link["generation"]), int(link["lanes"]))
    wanted = pcie_wanted(product, (int(link["generation_max"]), int(link["lanes_max"])), own)
    yield Check(f"{name}: PCIe under load", now >= wanted and now[1] >= wanted[1], _link(now), _link(wanted), "pcie")


def _link(link: Tuple[int, int]) -> str:
    return f"Gen{link[0]} x{link[1]}"


def _busbw(kinds: Mapping[str, str], gpus: int, own: Mapping[str, float]) -> float:
    return minimum(TOGETHER, next(iter(kinds.values()), ""), gpus, own) or 0.0


def _not_done(name: str, part: Part, wanted: str, kind: str) -> Optional[Check]:
    """The check of a part that has no result; None where it has one."""
    if "not_run" in part:
        return Check(name, True, f"not run: {part['not_run']}", wanted, kind, run=False)
    if "error" in part:
        return Check(name, False, str(part["error"] or "it ended without a word"), ENDS, kind)
    return None


def _nccl_tests(part: Optional[Part], kinds: Mapping[str, str], own: Mapping[str, float]) -> Iterator[Check]:
    name = "nccl-tests all_reduce_perf"
    done = _not_done(name, part, "bus bandwidth", "nccl_tests") if part else None
    if done:
        yield done
    elif part:
        yield Check(f"{name}: results", not part["wrong"], f"{part['wrong']} wrong", "0", "results")
        yield at_least(f"{name}, GB/s", part[TOGETHER], _busbw(kinds, part["gpus"], own), "nccl_tests")


def _nvbandwidth(part: Optional[Part], kinds: Mapping[str, str], own: Mapping[str, float]) -> Iterator[Check]:
    done = _not_done("nvbandwidth", part, "bandwidths", "nvbandwidth") if part else None
    if done:
        yield done
    elif part:
        slowest = sorted(set(kinds.values()))  # the least that any of the host's kinds must do
        for figure in ("to_gpu_gbs", "from_gpu_gbs", "peer_gbs"):
            if part.get(figure) is not None:
                least = min((minimum(figure, kind, len(kinds), own) or 0.0 for kind in slowest), default=0.0)
                yield at_least(f"nvbandwidth, {NAMES[figure]}, the slowest", part[figure], least, f"nvbandwidth_{figure}")
        seen = ", ".join(part["failed"]) or f"{part['passed']} tests passed"
        yield Check("nvbandwidth: tests", not part["failed"] and part["passed"] > 0, seen, "all passed", "nvbandwidth")


def _dcgm(part: Optional[Part]) -> Iterator[Check]:
    if not part:
        return
    name = f"dcgmi diag -r {part['level']}"
    done = _not_done(name, part, "all passed", "dcgm")
    if done:
        yield done
        return
    bad = [f"{test['name']}: {'; '.join(test['words']) or test['status']}" for test in part["tests"] if test["status"] == "fail"]
    held = [test for test in part["tests"] if test["status"] in ("pass", "warn")]
    warned = [f"{test['name']} warns: {'; '.join(test['words'])}" for test in part["tests"] if test["status"] == "warn"]
    seen = ", ".join(bad) or ", ".join([f"{len(held)} of {len(part['tests'])} tests passed", *warned])
    yield Check(name, not bad and bool(held), seen, "all passed", "dcgm")


def _disk(part: Optional[Part], own: Mapping[str, float]) -> Iterator[Check]:
    if not part:
        return
    least, name = float(own.get("disk_read_gbs", 0.0)), NAMES["disk_read_gbs"]
    if "error" in part and not least:  # nothing is asked of it, so nothing is missed
        yield Check(name, True, f"not run: {part['error']}", "any", "disk", run=False)
        return
    done = _not_done(name, part, f"at least {least:g}", "disk")
    yield done or at_least(name, part["gbs"], least, "disk", nothing="any")


def _pairs(pairs: Mapping[str, Part], own: Mapping[str, float]) -> Iterator[Check]:
    """A pair that fails accuses both of its hosts; one whose other pair is good is believed."""
    good = False
    seen: List[str] = []
    values: List[float] = []
    floors: List[float] = []
    for other, part in sorted(pairs.items()):
        if "error" in part:
            seen.append(f"{other}: {part['error'] or 'it ended without a word'}")
            continue
        least = float(own.get("pair_busbw_gbs", round(WIRE * (part.get("wire_gbs") or 0.0), 1)))
        enough = not part["wrong"] and part[TOGETHER] >= least
        good = good or enough
        floors.append(least)
        values.append(part[TOGETHER])
        seen.append(f"{other}: {part[TOGETHER]:g}" + (f", {part['wrong']} wrong" if part["wrong"] else "")
                    + ("" if enough else f", under {least:g}" if part[TOGETHER] < least else ""))
    if seen:
        least = min(floors, default=float(own.get("pair_busbw_gbs", 0.0)))
        wanted = (f"at least {least:g}" if least else "any") + (" with one of them" if len(seen) > 1 else "")
        yield Check("all-reduce with another host, GB/s", good, "; ".join(seen), wanted, "pairs",
                    max(values) if values else None, least)


def at_least(name: str, seen: float, least: float, kind: str, whose: str = "",
             nothing: str = "any: nothing is known of this card") -> Check:
    """A figure beside what it has to reach; 0: anything."""
    return Check(name, seen >= least, f"{seen:g}", f"at least {least:g}{whose}" if least else nothing, kind, seen, least)
