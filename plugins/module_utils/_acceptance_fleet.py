# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdicts of a fleet in one mapping, and what of them stands side by side. Pure; private to this collection.

A host that a run did not reach keeps its row of the last report, with its date; nothing in the mapping says when it was made.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._acceptance_checks import product_name
from ansible_collections.idc.llm.plugins.module_utils._gpu import Gpu

SCHEMA = 1
# rows of the report, in order; a kind of check that is not here stands behind them
KINDS = ("driver", "present", "health", "measured", "results", "clocks", "pcie_lanes", "pcie", "matmul_tflops", "memory_gbs",
         "to_gpu_gbs", "from_gpu_gbs", "peers", "peer_gbs", "busbw_gbs", "nccl_tests", "nvbandwidth", "nvbandwidth_to_gpu_gbs",
         "nvbandwidth_from_gpu_gbs", "nvbandwidth_peer_gbs", "dcgm", "disk", "pairs")


def host_row(name: str, fact: Mapping[str, Any], verdict: Mapping[str, Any], machine: Mapping[str, Any],
             release: str) -> Dict[str, Any]:
    """A host in the report. fact: idc_llm_gpu; verdict: acceptance's; machine: product_name, system_vendor, product_serial as
    ansible_facts has them; release: the engine's version there."""
    measured = verdict.get("measured") or {}
    words = [str(machine.get(key) or "").strip() for key in ("system_vendor", "product_name")]
    return {
        "name": name,
        "accepted": bool(verdict.get("accepted")),
        "measured": bool(measured.get("gpus")),
        "date": verdict.get("date"),
        "machine": " ".join(word for word in words if word and word != "NA"),
        "serial": re.sub(r"^NA$", "", str(machine.get("product_serial") or "").strip()),
        "versions": {"driver": verdict.get("driver_version"), "cuda": measured.get("cuda") or fact.get("cuda_version"),
                     "nccl": measured.get("nccl"), "torch": measured.get("torch"), "engine": release or None,
                     "dcgm": (measured.get("dcgm") or {}).get("version")},
        "gpus": [{"index": row.get("index"), "name": _card(row), "uuid": row.get("uuid"), "serial": row.get("serial"),
                  "pci_address": row.get("pci_address")} for row in fact.get("gpus") or ()],
        "checks": list(verdict.get("checks") or ()),
        "drift": list(verdict.get("drift") or ()),
    }


def _card(row: Mapping[str, Any]) -> str:
    return product_name(Gpu(row.get("index") or 0, name=row.get("name"), pci_device_id=row.get("pci_device_id")))


def fleet(names: Sequence[str], seen: Mapping[str, Mapping[str, Any]], kept: Any, site: Mapping[str, str]) -> Dict[str, Any]:
    """The fleet's report {schema, site, customer, contractor, accepted, date, hosts}.

    names: of its GPU hosts; seen: rows of this run; kept: the last report. A host without a row in either has no verdict, and
    without verdicts of all the fleet is not accepted.
    """
    known = isinstance(kept, Mapping) and kept.get("schema") == SCHEMA
    old = {row["name"]: row for row in kept.get("hosts") or ()} if known else {}
    hosts = [dict(seen.get(name) or old.get(name) or {"name": name, "accepted": None}) for name in names]
    dates = [row["date"] for row in hosts if row.get("date")]
    return {"schema": SCHEMA, **{key: str(site.get(key) or "") for key in ("site", "customer", "contractor")},
            "accepted": bool(hosts) and all(row["accepted"] for row in hosts), "date": max(dates, default=None), "hosts": hosts}


@dataclass(frozen=True)
class Cell:
    """What a host shows of one kind of check: state ok, failed, not_run or none, its words, and least of its figures (0: any)."""

    state: str = "none"
    text: str = ""
    least: Tuple[float, ...] = ()
    wanted: str = ""


def cell(checks: Sequence[Mapping[str, Any]]) -> Cell:
    """All checks of one kind on one host: what fails by name, else the range of the figures, else what was seen."""
    if not checks:
        return Cell()
    least = tuple(sorted({check["least"] for check in checks if check["value"] is not None}))
    wanted = checks[0]["wanted"]
    bad = [check for check in checks if not check["ok"]]
    if bad:
        text = "; ".join(f"{whose(check['name'])}{check['observed']}" for check in bad)
        return Cell("failed", text, least, wanted)
    run = [check for check in checks if check["run"]]
    if not run:
        return Cell("not_run", checks[0]["observed"], least, wanted)
    values = [check["value"] for check in run if check["value"] is not None]
    if values:
        return Cell("ok", span(values), least, wanted)
    texts = list(dict.fromkeys(check["observed"] for check in run))
    return Cell("ok", "; ".join(texts), least, wanted)


def whose(name: str) -> str:
    """GPU 3 with a colon, where the check's name says so."""
    found = re.match(r"GPU \d+: ", name)
    return found.group() if found else ""


def matrix(hosts: Sequence[Mapping[str, Any]]) -> List[Tuple[str, List[Cell]]]:
    """Kind by kind, in the order of the report: what each host shows of it. Kinds that no host has are left out."""
    kinds = {check["kind"]: None for host in hosts for check in host.get("checks") or ()}
    order = [kind for kind in KINDS if kind in kinds] + sorted(kind for kind in kinds if kind not in KINDS)
    return [(kind, [cell(_of(host, kind)) for host in hosts]) for kind in order]


def _of(host: Mapping[str, Any], kind: str) -> List[Mapping[str, Any]]:
    return [check for check in host.get("checks") or () if check["kind"] == kind]


def threshold(cells: Sequence[Cell]) -> Optional[str]:
    """What figures have to reach, over a row of hosts; None where the row has no figures or any is good."""
    least = [value for one in cells for value in one.least if value]
    if not least:
        return None
    return f"≥ {span(least)}"


def span(values: Sequence[float]) -> str:
    """The least and the greatest, without digits that say nothing."""
    low, high = (f"{value:.0f}" if value >= 1000 else f"{value:g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} – {high}"


def versions_of(host: Mapping[str, Any]) -> Dict[str, str]:
    """The versions that a host tells."""
    return {key: str(value) for key, value in (host.get("versions") or {}).items() if value}


def common(hosts: Sequence[Mapping[str, Any]]) -> Dict[str, str]:
    """Versions that all hosts with a verdict have alike."""
    told = [versions_of(host) for host in hosts if host.get("versions")]
    return {key: value for key, value in told[0].items() if all(one.get(key) == value for one in told)} if told else {}
