# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's NVIDIA GPUs are and whether they are fit, through NVML. Private to this collection."""
from __future__ import annotations

import ctypes
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any, Iterable, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._gpu_topology import Topology, pci_address, read_topology
from ansible_collections.idc.llm.plugins.module_utils._host import PciDevice, numa_node, unit_of
from ansible_collections.idc.llm.plugins.module_utils._nvml import LOST, RESET_REQUIRED, Nvml, of, text

SUBSETS = ("summary", "topology", "health", "rdma")
ARCHITECTURES = {  # nvmlDeviceArchitecture_t
    2: "kepler", 3: "maxwell", 4: "pascal", 5: "volta", 6: "turing", 7: "ampere", 8: "ada", 9: "hopper", 10: "blackwell",
    13: "rubin",
}
# nvmlClocksEventReasons, by bit: https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
THROTTLES = ("idle", "app_clocks", "power_cap", "hw_slowdown", "sync_boost", "sw_thermal", "hw_thermal", "hw_power_brake",
             "display_clocks")
FABRIC = ("not_supported", "not_started", "in_progress", "completed")  # nvmlGpuFabricState_t
RECOVERIES = ("none", "gpu_reset", "node_reboot", "drain_p2p", "drain_and_reset", "recover_imex_domain", "bus_reset",
              "system_reboot")  # nvmlDeviceGpuRecoveryAction_t
_FAULTS = {
    "ecc_enabled": "ECC_CURRENT", "ecc_pending": "ECC_PENDING",
    "ecc_corrected": "ECC_SBE_VOL_TOTAL", "ecc_uncorrected": "ECC_DBE_VOL_TOTAL",
    "ecc_corrected_aggregate": "ECC_SBE_AGG_TOTAL", "ecc_uncorrected_aggregate": "ECC_DBE_AGG_TOTAL",
    "retired_pages_pending": "RETIRED_PENDING", "recovery_action": "GET_GPU_RECOVERY_ACTION",
}
_REMAPPED = {"correctable": "REMAPPED_COR", "uncorrectable": "REMAPPED_UNC",
             "pending": "REMAPPED_PENDING", "failed": "REMAPPED_FAILURE"}


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML tells it; None where the call failed or the subset was not wanted.

    ``health_reasons``, this collection's judgement: why it is not ``healthy``, one sentence each.
    """

    index: int
    uuid: Optional[str] = None
    serial: Optional[str] = None
    name: Optional[str] = None
    architecture: Optional[str] = None
    compute_capability: Optional[str] = None
    pci_address: Optional[str] = None
    pci_device_id: Optional[str] = None
    numa_node: Optional[int] = None
    memory_total_bytes: Optional[int] = None
    memory_reserved_bytes: Optional[int] = None
    memory_used_bytes: Optional[int] = None
    mig_enabled: Optional[bool] = None
    mig_pending: Optional[bool] = None
    mig_instances: tuple[dict[str, Any], ...] = ()
    ecc_enabled: Optional[bool] = None
    ecc_pending: Optional[bool] = None
    ecc_corrected: Optional[int] = None
    ecc_uncorrected: Optional[int] = None
    ecc_corrected_aggregate: Optional[int] = None
    ecc_uncorrected_aggregate: Optional[int] = None
    remapped_rows: Optional[dict[str, Any]] = None
    row_remap_failure: Optional[bool] = None
    retired_pages_pending: Optional[bool] = None
    recovery_action: Optional[str] = None
    fabric: Optional[dict[str, Any]] = None
    processes: Optional[tuple[dict[str, Any], ...]] = None
    power_draw_w: Optional[float] = None
    power_limit_w: Optional[float] = None
    power_min_w: Optional[float] = None
    power_max_w: Optional[float] = None
    power_default_w: Optional[float] = None
    clocks: Optional[dict[str, Optional[int]]] = None
    pcie: Optional[dict[str, Optional[int]]] = None
    temperature_c: Optional[int] = None
    throttle_reasons: Optional[tuple[str, ...]] = None
    persistence: Optional[bool] = None
    healthy: bool = False
    health_reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class NvmlView:
    """A host through NVML: state ok, no_devices, no_driver, no_library or no_binding, and why it is not ok."""

    state: str
    detail: Optional[str] = None
    driver_version: Optional[str] = None
    cuda_version: Optional[str] = None
    nvml_version: Optional[str] = None
    gpus: tuple[Gpu, ...] = ()
    topology: Optional[Topology] = None

    def as_dict(self) -> dict[str, Any]:
        """Plain types for Ansible."""
        data: dict[str, Any] = plain(asdict(self))
        return data


def plain(value: Any) -> Any:
    """The same with lists for tuples, all the way down."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def subsets(gather: Iterable[str]) -> tuple[str, ...]:
    """The subsets that a wish such as [health] or [all] means, in order; summary is always one."""
    wished = set(gather) | {"summary"}
    return tuple(subset for subset in SUBSETS if subset in wished or "all" in wished)


def health_reasons(gpu: Gpu, fatal: Optional[int] = None) -> tuple[str, ...]:
    """Why a GPU must not be used; empty when it may. fatal: NVML's answer that it is lost or must be reset.

    A pending repair counts: until the reset the row is still in use, and the reset ends whatever runs there.
    https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/
    """
    if fatal == RESET_REQUIRED:
        return ("does not answer: reset the GPU",)
    if fatal == LOST:
        return ("does not answer (fallen off the bus)",)
    if gpu.uuid is None:
        return ("does not answer",)
    reasons = []
    if gpu.row_remap_failure:
        reasons.append("row remapping failed")
    if gpu.ecc_uncorrected:
        plural = "" if gpu.ecc_uncorrected == 1 else "s"
        reasons.append(f"{gpu.ecc_uncorrected} uncorrected memory error{plural} since the driver was loaded")
    if (gpu.remapped_rows or {}).get("pending") or gpu.retired_pages_pending:
        reasons.append("a repair is pending: reset the GPU")
    elif gpu.recovery_action not in (None, "none"):
        reasons.append("the driver asks for: {}".format(str(gpu.recovery_action).replace("_", " ")))
    fabric = gpu.fabric or {}
    if fabric.get("state") in ("not_started", "in_progress"):
        reasons.append("the NVLink fabric is not ready ({}): look at nvidia-fabricmanager".format(fabric["state"]))
    elif fabric.get("state") == "completed" and fabric.get("status"):
        reasons.append("the NVLink fabric refused it (NVML status {})".format(fabric["status"]))
    return tuple(reasons)


class NvmlReader:
    """Reads a host through a binding with nvidia-ml-py's names; one failing call makes one field None."""

    def __init__(self, binding: Optional[Any], gather: Iterable[str] = ("all",), sysfs: str = "/sys",
                 proc: str = "/proc") -> None:
        self.nvml = Nvml(binding)
        self.subsets = subsets(gather)
        self.sysfs, self.proc = sysfs, proc

    def read(self) -> NvmlView:
        """The whole host. Never raises for what NVML answers."""
        binding = self.nvml.binding
        if binding is None:
            return NvmlView("no_binding", "the Python module pynvml (nvidia-ml-py) is not there")
        try:
            binding.nvmlInit()
        except binding.NVMLError as exc:
            missing = getattr(exc, "value", None) == binding.NVML_ERROR_LIBRARY_NOT_FOUND
            return NvmlView("no_library" if missing else "no_driver", text(exc))
        try:
            return self._view()
        finally:
            self.nvml.ask("nvmlShutdown")

    def _view(self) -> NvmlView:
        ask = self.nvml.ask
        count = ask("nvmlDeviceGetCount") or 0
        cuda = ask("nvmlSystemGetCudaDriverVersion_v2")
        rows = [self._gpu(index) for index in range(count)]
        gpus = tuple(gpu for _handle, gpu in rows)
        topology = None
        if count and "topology" in self.subsets:
            topology = read_topology(self.nvml, [handle for handle, _gpu in rows], [gpu.pci_address for gpu in gpus])
        return NvmlView(
            state="ok" if count else "no_devices",
            detail=None if count else "the driver answers and has no device",
            driver_version=text(ask("nvmlSystemGetDriverVersion")),
            cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
            nvml_version=text(ask("nvmlSystemGetNVMLVersion")),
            gpus=gpus,
            topology=topology,
        )

    def _gpu(self, index: int) -> tuple[Any, Gpu]:
        """The GPU's handle, None where it does not answer, and what is known of it."""
        self.nvml.fatal = None
        handle = self.nvml.ask("nvmlDeviceGetHandleByIndex", index)
        facts: dict[str, Any] = {}
        if handle is not None:
            facts = {**self._identity(handle), **self._memory(handle), **self._faults(handle),
                     "fabric": self._fabric(handle), "processes": self._processes(handle)}
            if "health" in self.subsets:
                facts.update(self._health(handle))
        gpu = Gpu(index, **facts)
        reasons = health_reasons(gpu, self.nvml.fatal)
        lost = gpu.uuid is None or self.nvml.fatal is not None
        return None if lost else handle, replace(gpu, healthy=not reasons, health_reasons=reasons)

    def _identity(self, handle: Any) -> dict[str, Any]:
        ask = self.nvml.ask
        pci = ask("nvmlDeviceGetPciInfo", handle)
        address = of(pci, lambda info: pci_address(info.busId))
        return {
            "uuid": text(ask("nvmlDeviceGetUUID", handle)),
            "serial": text(ask("nvmlDeviceGetSerial", handle)),
            "name": text(ask("nvmlDeviceGetName", handle)),
            "architecture": ARCHITECTURES.get(ask("nvmlDeviceGetArchitecture", handle)),
            "compute_capability": of(ask("nvmlDeviceGetCudaComputeCapability", handle), lambda v: "{}.{}".format(*v)),
            "pci_address": address,
            "pci_device_id": of(pci, lambda info: f"0x{info.pciDeviceId >> 16:04x}"),  # the lower half is the vendor
            "numa_node": numa_node(self.sysfs, address),
            "pcie": {
                "generation": ask("nvmlDeviceGetCurrPcieLinkGeneration", handle),
                "generation_max": ask("nvmlDeviceGetMaxPcieLinkGeneration", handle),
                "width": ask("nvmlDeviceGetCurrPcieLinkWidth", handle),
                "width_max": ask("nvmlDeviceGetMaxPcieLinkWidth", handle),
                "replays": ask("nvmlDeviceGetPcieReplayCounter", handle),
            },
        }

    def _memory(self, handle: Any) -> dict[str, Any]:
        ask = self.nvml.ask
        mig = ask("nvmlDeviceGetMigMode", handle)
        # version 2: version 1 counts the driver's reserved part as used, so only its total can be believed
        memory = self._bytes(handle)
        instances = []
        for number in range((ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0) if mig and mig[0] else 0):
            part = ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
            if part is not None:
                instances.append({"uuid": text(ask("nvmlDeviceGetUUID", part)), "name": text(ask("nvmlDeviceGetName", part)),
                                  "memory_bytes": self._bytes(part)["memory_total_bytes"]})
        return dict(memory, mig_enabled=of(mig, lambda v: bool(v[0])), mig_pending=of(mig, lambda v: bool(v[1])),
                    mig_instances=tuple(instances))

    def _bytes(self, handle: Any) -> dict[str, Optional[int]]:
        version = self.nvml.constant("nvmlMemory_v2")
        second = self.nvml.ask("nvmlDeviceGetMemoryInfo", handle, version) if version else None
        any_version = second or self.nvml.ask("nvmlDeviceGetMemoryInfo", handle)
        return {
            "memory_total_bytes": of(any_version, lambda v: int(v.total)),
            "memory_reserved_bytes": of(second, lambda v: int(v.reserved)),
            "memory_used_bytes": of(second, lambda v: int(v.used)),
        }

    def _faults(self, handle: Any) -> dict[str, Any]:
        """Memory errors and repairs: one call, and the older calls for the two that decide health where it is silent."""
        fields = self.nvml.fields(handle, [*_FAULTS.values(), *_REMAPPED.values()])
        found = {name: fields[field] for name, field in _FAULTS.items()}
        for name in ("ecc_enabled", "ecc_pending", "retired_pages_pending"):
            found[name] = of(found[name], bool)
        if found["ecc_uncorrected"] is None:
            found["ecc_uncorrected"] = self.nvml.ask(
                "nvmlDeviceGetTotalEccErrors", handle,
                self.nvml.constant("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", 1), self.nvml.constant("NVML_VOLATILE_ECC", 0))
        rows = [fields[field] for field in _REMAPPED.values()]
        if None in rows:
            rows = self.nvml.ask("nvmlDeviceGetRemappedRows", handle)
        remapped = of(rows, lambda v: dict(zip(_REMAPPED, (v[0], v[1], bool(v[2]), bool(v[3])))))
        action = found["recovery_action"]
        found["recovery_action"] = of(action, lambda v: RECOVERIES[v] if v < len(RECOVERIES) else f"action {v}")
        return dict(found, remapped_rows=remapped, row_remap_failure=of(remapped, lambda v: v["failed"]))

    def _fabric(self, handle: Any) -> Optional[dict[str, Any]]:
        """Registration with the NVLink fabric, as the version 2 structure has it; answered since Hopper."""
        structure = self.nvml.constant("c_nvmlGpuFabricInfoV_t")
        if structure is None:
            return None
        info = structure()
        if self.nvml.ask("nvmlDeviceGetGpuFabricInfoV", handle, ctypes.byref(info)) is None:
            return None
        words = bytes(info.clusterUuid).hex()
        return {
            "state": FABRIC[info.state] if info.state < len(FABRIC) else None,
            "status": int(info.status),
            "clique_id": int(info.cliqueId),
            "cluster_uuid": "-".join((words[:8], words[8:12], words[12:16], words[16:20], words[20:])) if any(
                info.clusterUuid) else None,
        }

    def _processes(self, handle: Any) -> Optional[tuple[dict[str, Any], ...]]:
        rows = self.nvml.ask("nvmlDeviceGetComputeRunningProcesses", handle)
        if rows is None:
            return None
        used: dict[int, Optional[int]] = {}
        for row in rows:  # one process has a row for each MIG instance that it uses
            memory = of(row.usedGpuMemory, int)
            used[int(row.pid)] = None if memory is None else memory + (used.get(int(row.pid)) or 0)
        return tuple({"pid": pid, "memory_bytes": used[pid], "unit": unit_of(pid, self.proc)} for pid in sorted(used))

    def _health(self, handle: Any) -> dict[str, Any]:
        ask, constant = self.nvml.ask, self.nvml.constant
        limits = ask("nvmlDeviceGetPowerManagementLimitConstraints", handle) or (None, None)
        milliwatts = {
            "power_draw_w": ask("nvmlDeviceGetPowerUsage", handle),
            "power_limit_w": ask("nvmlDeviceGetPowerManagementLimit", handle),
            "power_min_w": limits[0],
            "power_max_w": limits[1],
            "power_default_w": ask("nvmlDeviceGetPowerManagementDefaultLimit", handle),
        }
        sm, memory = constant("NVML_CLOCK_SM", 1), constant("NVML_CLOCK_MEM", 2)
        throttle = ask("nvmlDeviceGetCurrentClocksEventReasons", handle)
        if throttle is None:  # its name before driver 535
            throttle = ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return {
            **{name: of(value, lambda v: v / 1000) for name, value in milliwatts.items()},
            "clocks": {
                "sm_mhz": ask("nvmlDeviceGetClockInfo", handle, sm),
                "sm_max_mhz": ask("nvmlDeviceGetMaxClockInfo", handle, sm),
                "memory_mhz": ask("nvmlDeviceGetClockInfo", handle, memory),
                "memory_max_mhz": ask("nvmlDeviceGetMaxClockInfo", handle, memory),
            },
            "temperature_c": ask("nvmlDeviceGetTemperature", handle, constant("NVML_TEMPERATURE_GPU", 0)),
            "throttle_reasons": of(throttle, lambda v: tuple(word for bit, word in enumerate(THROTTLES) if v >> bit & 1)),
            "persistence": of(ask("nvmlDeviceGetPersistenceMode", handle), bool),
        }


def summary(view: NvmlView, cards: Sequence[PciDevice], ports: int, nouveau: bool) -> str:
    """One line for a person. ports: active RDMA ports."""
    kinds = Counter((gpu.name or "unknown", of(gpu.memory_total_bytes, lambda v: f", {v / 2**30:.0f} GiB")) for gpu in view.gpus)
    parts = [f"driver {view.driver_version}" if view.driver_version else f"no driver ({view.state})"]
    parts += [f"{count} GPU ({name}{memory or ''})" for (name, memory), count in kinds.items()] or ["no GPU"]
    if view.topology and view.topology.link:
        sizes = Counter(len(domain) for domain in view.topology.domains)
        words = [f"NVLink, {size} in one domain" if count == 1 else f"NVLink, {count} domains of {size}"
                 for size, count in sorted(sizes.items(), reverse=True)]
        parts += words or ["PCIe"]
    if ports:
        parts.append("{} RDMA port{}".format(ports, "" if ports == 1 else "s"))
    lines = [", ".join(parts)]
    sick = ["GPU {} ({})".format(gpu.index, "; ".join(gpu.health_reasons)) for gpu in view.gpus if not gpu.healthy]
    if sick:
        lines.append("unhealthy: " + ", ".join(sick))
    on_bus = Counter(f"{card.vendor} {card.model or card.device_id}" + (f" ({card.note})" if card.note else "") for card in cards)
    lines.append("cards on the PCI bus: " + (", ".join(f"{count} {words}" for words, count in on_bus.items()) or "none"))
    return "; ".join([*lines, "nouveau " + ("loaded" if nouveau else "not loaded")])
