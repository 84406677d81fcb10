# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the driver of a host as it runs, and whether a reboot is what it takes. Pure; private to this collection."""
from __future__ import annotations

import re
from typing import Any, List, Mapping, Optional

from ansible_collections.idc.llm.plugins.module_utils import _nvidia_table as table
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said
from ansible_collections.idc.llm.plugins.module_utils._nvidia import Stack, Wanted
from ansible_collections.idc.llm.plugins.module_utils._nvidia_seen import Seen, numbers, same, upstream

# Packages that hold libcuda: the driver as programs see it. By system, in the order in which they are looked for.
USERLAND = ("libcuda1", *dict.fromkeys(row.open[0] for row in table.ROWS.values()), "nvidia-driver-cuda-libs")


def userland(seen: Seen) -> str:
    """Version of the packages that programs load, "" where none is installed."""
    return next((upstream(seen.packages[name].version) for name in USERLAND if name in seen.packages), "")


def four_versions(seen: Seen) -> dict[str, str]:
    """Of the driver's packages, the loaded module, Fabric Manager and NVML; "-" for one that is not there."""
    found = {"userland": userland(seen), "module": seen.loaded, "fabric_manager": seen.fabric_manager, "nvml": seen.nvml}
    return {name: version or "-" for name, version in found.items()}


def mismatch(seen: Seen) -> Optional[IdcError]:
    """Versions that differ among those that are there; Fabric Manager counts where NVSwitches want it."""
    versions = four_versions(seen)
    if not seen.fabric:
        versions = {**versions, "fabric_manager": "-"}
    there = [version for version in versions.values() if version != "-"]
    if all(same(one, there[0]) for one in there):
        return None
    return IdcError("IDC-GPU-010", host=seen.host, **four_versions(seen))


def reboot_reasons(seen: Seen) -> List[Said]:
    """Why the host has to boot before its GPUs can be used as its packages mean it; none where it need not."""
    reasons: List[Said] = []
    if not seen.gpus or not seen.built or seen.kernel != seen.running:
        return reasons
    if seen.nouveau:
        reasons.append(Said("nouveau is loaded", "已加载 nouveau"))
    if not seen.loaded:
        if not seen.nouveau:
            reasons.append(Said(f"the module {seen.built} is not loaded", f"模块 {seen.built} 尚未加载"))
    elif not same(seen.loaded, seen.built):
        reasons.append(Said(f"the module {seen.loaded} is loaded, {seen.built} is installed",
                            f"已加载的模块是 {seen.loaded}，已安装的是 {seen.built}"))
    return reasons


def unbuilt(seen: Seen) -> Optional[IdcError]:
    """The module that does not build for the host's kernel; None where that is not so."""
    if seen.built or not seen.unbuilt:
        return None
    return IdcError("IDC-GPU-033", host=seen.host, kernel=seen.kernel, module=seen.unbuilt["module"],
                    observed=seen.unbuilt["error"][:300] or "-")


def problems(wanted: Wanted, seen: Seen) -> List[IdcError]:
    """What is wrong now and no reboot mends: the verify stage's question."""
    found: List[IdcError] = []
    if not seen.built and (userland(seen) or not seen.loaded):  # one that no package brought is nobody's of ours
        found.append(unbuilt(seen) or IdcError("IDC-GPU-022", host=seen.host, kernel=seen.kernel))
        return found
    if reboot_reasons(seen):
        return found
    wrong = mismatch(seen)
    if wrong:
        found.append(wrong)
    elif seen.loaded and seen.smi:
        found.append(IdcError("IDC-GPU-023", host=seen.host, observed=seen.smi[:300]))
    if seen.loaded and seen.open_loaded is not None and seen.open_loaded != (wanted.modules == "open"):
        found.append(IdcError("IDC-GPU-015", host=seen.host, observed="open" if seen.open_loaded else "proprietary",
                              wanted=wanted.modules))
    if seen.loaded and seen.fabric and wanted.fabric != "absent" and not seen.fabric_active and not wrong:
        found.append(IdcError("IDC-GPU-013", host=seen.host))
    return found


def warnings(made: Optional[Stack], seen: Seen) -> List[IdcError]:
    """What a site should know; nothing of it is changed without an allow."""
    found: List[IdcError] = []
    if made and made.left_out:
        found.append(IdcError("IDC-GPU-027", host=seen.host, part=", ".join(made.left_out), system=seen.system))
    if seen.virtual == "none" and seen.iommu == "translated":
        found.append(IdcError("IDC-GPU-019", host=seen.host))
    if seen.acs:
        found.append(IdcError("IDC-GPU-020", host=seen.host, count=len(seen.acs), bridges=", ".join(seen.acs[:4])))
    if seen.built:
        bare = [kernel for kernel, version in seen.kernels.items() if not version and numbers(kernel) > numbers(seen.running)]
        if bare:
            found.append(IdcError("IDC-GPU-024", host=seen.host, kernel=bare[-1], version=seen.built))
    return found


def engine_errors(said: Mapping[str, Any], seen: Seen) -> List[IdcError]:
    """CUDA, cuDNN and NCCL as the engine's Python loads them, held against what they need. said: of _agent_cuda_report.py."""
    found: List[IdcError] = []
    cuda = str(said.get("cuda") or "")
    least = table.MINIMUM_DRIVER.get(numbers(cuda)[0], "") if numbers(cuda) else ""
    driver = seen.loaded or userland(seen)

    def low(what: str, observed: Any, wanted: str) -> None:
        torch = said.get("torch") or "-"
        found.append(IdcError("IDC-GPU-018", host=seen.host, what=what, observed=observed, wanted=wanted, torch=torch))

    if least and driver and numbers(driver) < numbers(least):
        low("the driver", driver, f"{least} for CUDA {cuda}")
    if said.get("nccl") and numbers(str(said["nccl"])) < numbers(table.MINIMUM_NCCL):
        low("NCCL", said["nccl"], table.MINIMUM_NCCL)
    if said.get("cudnn") and int(said["cudnn"]) < table.MINIMUM_CUDNN:
        low("cuDNN", said["cudnn"], str(table.MINIMUM_CUDNN))
    return found


def settings_errors(given: Mapping[str, Any]) -> List[IdcError]:
    """What is wrong with the wanted settings, before any card is asked."""
    errors: List[IdcError] = []

    def wrong(name: str, observed: Any, wanted: str) -> None:
        errors.append(IdcError("IDC-INV-007", name=f"nvidia_stack_{name}", observed=repr(observed), wanted=wanted))

    power = str(given["power_limit"] or "")
    if power and not re.fullmatch(r"[1-9]\d{1,4}|(?:[1-9]\d?|100)%", power):
        wrong("power_limit", given["power_limit"], "watts (400), percent of the card's own limit ('80%'), or nothing")
    clocks = given["clocks"]
    whole = all(isinstance(megahertz, int) and megahertz > 0 for megahertz in clocks.values())
    if clocks and not (whole and set(clocks) == {"graphics", "memory"}):
        wrong("clocks_mhz", clocks, "{graphics: MHz, memory: MHz}, a pair of nvidia-smi -q -d SUPPORTED_CLOCKS")
    seen = set()
    for row in given["mig"]:
        name = str(row.get("gpu", ""))
        if not re.fullmatch(r"all|\d+|GPU-[0-9a-f-]+", name):
            wrong("mig", row, "gpu: all, an index or a UUID")
        elif name in seen:
            wrong("mig", row, f"one entry for {name}")
        seen.add(name)
        bad = [word for word in row.get("profiles", ()) if not re.fullmatch(r"\d+g\.\d+gb(?:\+\w+(?:\.\w+)?)?", str(word))]
        if bad:
            wrong("mig", bad, "profiles as nvidia-smi mig -lgip names them: 3g.40gb")
    pages = given["hugepages"]
    if not str(pages).isdigit():
        wrong("hugepages", pages, "a number of pages, 0 to leave them")
    if given["rdma"] not in ("dmabuf", "peermem", "none"):
        wrong("rdma", given["rdma"], "dmabuf | peermem | none")
    return errors


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """What _agent_gpu_settings.py reads; empty where the site wants nothing of the cards."""
    clocks, mig = given["clocks"], {str(row["gpu"]): list(row.get("profiles", ())) for row in given["mig"]}
    if not (given["power_limit"] or clocks or mig or given["allow_acs"]):
        return {}
    return {"power_limit": str(given["power_limit"] or ""), "clocks": dict(clocks), "mig": mig, "acs_off": bool(given["allow_acs"])}
