# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's JSON as the answers of NVML's calls: what the real library would say, one line a call.

Words of a GPU (defaults for all, overrides for each; null removes what a default says, so that the calls answer
NOT_SUPPORTED): name uuid serial architecture compute_capability device subsystem path numa memory mig ecc_mode ecc
remapped_rows histogram retired_pages_pending repair power clocks pcie temperature event_reasons persistence
compute_mode processes nvlink fabric events xid fields vbios part utilization virtualization. Beside them
``answers`` gives a call's values as they are, ``errors`` its error ("*": every call of this GPU).
"""
from __future__ import annotations

import uuid
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import pynvml

Key = Tuple[str, str, str]  # scope, function, arguments
Rows = Dict[Key, Tuple[int, str]]
CLOCKS = {"graphics": 0, "sm": 1, "memory": 2, "video": 3}
LINK_ERRORS = {"replay": 0, "recovery": 1, "crc_flit": 2, "crc_data": 3, "ecc": 4}
PCIE_GT = {1: "2.5", 2: "5.0", 3: "8.0", 4: "16.0", 5: "32.0", 6: "64.0"}
SINGLE, MULTIPLE, HOSTBRIDGE, NODE, SYSTEM = 10, 20, 30, 40, 50
# driver 580 takes these fields and these links for invalid arguments, on a card with NVLink or without: captures/h200.json
NO_FIELD = {274, *range(289, 294), *range(296, 301), *range(303, pynvml.NVML_FI_MAX)}
NO_LINK = 18
NOT_AVAILABLE = (1 << 64) - 1
SWITCH, PEER = pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH, pynvml.NVML_NVLINK_DEVICE_TYPE_GPU


def code_of(name: str) -> int:
    """NVML's number of an error by its name without the prefix: GPU_IS_LOST."""
    return int(getattr(pynvml, f"NVML_ERROR_{name}"))


def full_path(path: str) -> List[str]:
    """A short PCI path in full: 15/15:01.0/18:00.0 -> pci0000:15, 0000:15:01.0, 0000:18:00.0."""
    root, *rest = path.split("/")
    return [f"pci0000:{root}"] + [f"0000:{part}" for part in rest]


def address_of(gpu: Dict[str, Any]) -> str:
    """0000:18:00.0"""
    return full_path(gpu["path"])[-1]


def gpus_of(machine: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Every GPU with its defaults and names filled in."""
    section = machine.get("gpus", {})
    found = []
    for index, own in enumerate(section.get("each", [])):
        gpu = {**section.get("defaults", {}), **own}
        gpu = {word: value for word, value in gpu.items() if value is not None}
        name = f"{machine.get('identity', machine['name'])}/{index}"
        gpu.setdefault("uuid", f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, name)}")
        gpu.setdefault("serial", str(uuid.uuid5(uuid.NAMESPACE_DNS, name).int)[:13])
        found.append(gpu)
    return found


def flatten(machine: Dict[str, Any]) -> str:
    """The table that the library reads."""
    rows = dict(_system(machine))
    gpus = gpus_of(machine)
    if "init" not in machine.get("errors", {}):
        rows.update(_handles(gpus))
        for index, gpu in enumerate(gpus):
            rows.update(_overridden(str(index), dict(_gpu(index, gpu, gpus)), gpu))
            for number, slice_ in enumerate(gpu.get("mig", {}).get("slices", [])):
                scope = f"{index}.{number}"
                rows.update(_overridden(scope, dict(_slice(index, scope, slice_)), slice_))
    lines = []
    for (scope, function, arguments), (code, values) in sorted(rows.items()):
        lines.append(f"{' '.join(filter(None, (scope, function, arguments)))}\t{code}\t{values}\n")
    return "".join(lines)


def _ok(scope: str, function: str, *values: Any, of: Sequence[Any] = ()) -> Tuple[Key, Tuple[int, str]]:
    return (scope, function, " ".join(map(str, of))), (0, " ".join(str(v) for v in values))


def _no(scope: str, function: str, error: str, of: Sequence[Any] = ()) -> Tuple[Key, Tuple[int, str]]:
    return (scope, function, " ".join(map(str, of))), (code_of(error), "")


def _overridden(scope: str, rows: Rows, words: Dict[str, Any]) -> Rows:
    """The rows with this device's own answers and errors in place of what they replace."""
    for function, values in words.get("answers", {}).items():
        rows = {key: value for key, value in rows.items() if key[1] != function}
        rows.update([_ok(scope, function, *(values if isinstance(values, list) else [values]))])
    for function, error in words.get("errors", {}).items():
        rows = {key: value for key, value in rows.items() if function not in ("*", key[1])}
        rows.update([_no(scope, function, error)])
    return rows


def _system(machine: Dict[str, Any]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    errors = machine.get("errors", {})
    for code, text in pynvml.NVMLError._errcode_to_string.items():
        yield _ok("-", "nvmlErrorString", text, of=[code])
    if "init" in errors:
        yield _no("-", "nvmlInit", errors["init"])
        return
    yield _ok("-", "nvmlInit")
    yield _ok("-", "nvmlSystemGetDriverVersion", machine["driver"])
    yield _ok("-", "nvmlSystemGetNVMLVersion", machine["nvml"])
    yield _ok("-", "nvmlSystemGetCudaDriverVersion", machine["cuda"])
    yield _ok("-", "nvmlSystemGetCudaDriverVersion_v2", machine["cuda"])
    yield _ok("-", "nvmlDeviceGetCount_v2", len(machine.get("gpus", {}).get("each", [])))
    for function, error in errors.items():
        yield _no("-", function, error)


def _handles(gpus: Sequence[Dict[str, Any]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    by = ("nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetHandleByPciBusId_v2")
    yield _no("-", by[0], "INVALID_ARGUMENT")
    yield _no("-", by[1], "NOT_FOUND")
    yield _no("-", by[2], "NOT_FOUND")
    for index, gpu in enumerate(gpus):
        address = address_of(gpu).upper()
        for function, name in zip((*by, by[2]), (index, gpu["uuid"], address, f"0000{address}"), strict=True):
            if "handle" in gpu.get("errors", {}):
                yield _no("-", function, gpu["errors"]["handle"], of=[name])
            else:
                yield _ok("-", function, index, of=[name])
        for number, slice_ in enumerate(gpu.get("mig", {}).get("slices", [])):
            yield _ok("-", by[1], f"{index}.{number}", of=[slice_["uuid"]])


def _gpu(index: int, gpu: Dict[str, Any], gpus: Sequence[Dict[str, Any]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    scope = str(index)
    prefix = "nvmlDeviceGet"
    yield _ok(scope, f"{prefix}Index", index)
    yield _ok(scope, f"{prefix}MinorNumber", index)
    yield _ok(scope, "nvmlDeviceIsMigDeviceHandle", 0)
    yield _ok(scope, f"{prefix}FieldValues")
    for function in ("GpuInstanceId", "ComputeInstanceId", "DeviceHandleFromMigDeviceHandle"):
        yield _no(scope, prefix + function, "INVALID_ARGUMENT")
    yield _ok(scope, f"{prefix}PciInfo_v3", *_pci(address_of(gpu)), int(gpu["device"], 16) << 16 | 0x10DE,
              int(gpu["subsystem"], 16) << 16 | 0x10DE)
    plain = {"name": "Name", "uuid": "UUID", "serial": "Serial", "vbios": "VbiosVersion", "part": "BoardPartNumber",
             "architecture": "Architecture", "compute_capability": "CudaComputeCapability", "ecc_mode": "EccMode",
             "remapped_rows": "RemappedRows", "histogram": "RowRemapperHistogram", "repair": "RepairStatus",
             "retired_pages_pending": "RetiredPagesPendingStatus", "persistence": "PersistenceMode",
             "compute_mode": "ComputeMode", "performance_state": "PerformanceState", "utilization": "UtilizationRates",
             "virtualization": "VirtualizationMode", "numa_node_id": "NumaNodeId"}
    for word, function in plain.items():
        if word in gpu:
            yield _ok(scope, prefix + function, *(gpu[word] if isinstance(gpu[word], list) else [gpu[word]]))
    if "event_reasons" in gpu:
        yield _ok(scope, f"{prefix}CurrentClocksEventReasons", gpu["event_reasons"])
        yield _ok(scope, f"{prefix}CurrentClocksThrottleReasons", gpu["event_reasons"])
    if "temperature" in gpu:
        for function in ("Temperature", "TemperatureV"):
            yield _no(scope, prefix + function, "INVALID_ARGUMENT")
            yield _ok(scope, prefix + function, gpu["temperature"], of=[0])
    yield from _memory(scope, gpu.get("memory"))
    yield from _power(scope, gpu.get("power"))
    yield from _ecc(scope, gpu.get("ecc"))
    yield from _mig(scope, gpu.get("mig"))
    yield from _processes(scope, gpu)
    for word, number in CLOCKS.items():
        if word in gpu.get("clocks", {}):
            now, most = gpu["clocks"][word]
            yield _ok(scope, f"{prefix}ClockInfo", now, of=[number])
            yield _ok(scope, f"{prefix}MaxClockInfo", most, of=[number])
    if "pcie" in gpu:
        for word, function in (("generation", "Generation"), ("width", "Width")):
            yield _ok(scope, f"{prefix}CurrPcieLink{function}", gpu["pcie"][word][0])
            yield _ok(scope, f"{prefix}MaxPcieLink{function}", gpu["pcie"][word][1])
        yield _ok(scope, f"{prefix}GpuMaxPcieLinkGeneration", gpu["pcie"]["generation"][1])
        yield _ok(scope, f"{prefix}PcieReplayCounter", gpu["pcie"].get("replays", 0))
    if "events" in gpu:
        yield _ok(scope, f"{prefix}SupportedEventTypes", gpu["events"])
        yield _ok(scope, "nvmlDeviceRegisterEvents")
    for number, xid in enumerate(gpu.get("xid", [])):
        yield _ok(scope, "xid", xid, of=[number])
    yield from _nvlink(scope, gpu.get("nvlink"), gpus)
    yield from _fabric(scope, gpu.get("fabric"))
    yield from _pairs(index, gpus)
    yield from _fields(scope, gpu)


def _pci(address: str) -> Tuple[int, int, int]:
    """Domain, bus, device of 0000:18:00.0."""
    domain, bus, device = address.split(":")
    return int(domain, 16), int(bus, 16), int(device.split(".")[0], 16)


def _memory(scope: str, memory: Optional[Dict[str, int]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """Version 1 counts what the driver reserves as used (measured on an H200)."""
    if memory is None:
        return
    total, reserved, used = memory["total"], memory.get("reserved", 0), memory.get("used", 0)
    free = total - reserved - used
    yield _ok(scope, "nvmlDeviceGetMemoryInfo", total, free, used + reserved)
    yield _ok(scope, "nvmlDeviceGetMemoryInfo_v2", total, reserved, free, used)


def _power(scope: str, power: Optional[Dict[str, int]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """Milliwatts."""
    if power is None:
        return
    yield _ok(scope, "nvmlDeviceGetPowerUsage", power["draw"])
    yield _ok(scope, "nvmlDeviceGetPowerManagementLimit", power["limit"])
    yield _ok(scope, "nvmlDeviceGetEnforcedPowerLimit", power["limit"])
    yield _ok(scope, "nvmlDeviceGetPowerManagementDefaultLimit", power["default"])
    yield _ok(scope, "nvmlDeviceGetPowerManagementLimitConstraints", power["min"], power["max"])


def _ecc(scope: str, ecc: Optional[Dict[str, List[int]]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """corrected, uncorrected: [volatile, aggregate]; all in DRAM, SRAM without errors, other units not supported."""
    for kind, name in enumerate(("corrected", "uncorrected") if ecc else ()):
        for counter, value in enumerate(ecc[name] if ecc else ()):
            yield _ok(scope, "nvmlDeviceGetTotalEccErrors", value, of=[kind, counter])
            yield _ok(scope, "nvmlDeviceGetMemoryErrorCounter", value, of=[kind, counter, pynvml.NVML_MEMORY_LOCATION_DRAM])
            yield _ok(scope, "nvmlDeviceGetMemoryErrorCounter", 0, of=[kind, counter, pynvml.NVML_MEMORY_LOCATION_SRAM])


def _mig(scope: str, mig: Optional[Dict[str, Any]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """mode [now, after a reset], slices; the greatest count is 0 where MIG is off (measured on an H200)."""
    if mig is None:
        return
    yield _ok(scope, "nvmlDeviceGetMigMode", *mig["mode"])
    yield _ok(scope, "nvmlDeviceGetMaxMigDeviceCount", 7 if mig["mode"][0] else 0)
    yield _no(scope, "nvmlDeviceGetMigDeviceHandleByIndex", "NOT_FOUND")
    for number, _slice_words in enumerate(mig.get("slices", [])):
        yield _ok(scope, "nvmlDeviceGetMigDeviceHandleByIndex", f"{scope}.{number}", of=[number])


def _slice(index: int, scope: str, words: Dict[str, Any]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """A MIG device: uuid, name, ids [GPU instance, compute instance], memory, attributes."""
    yield _ok(scope, "nvmlDeviceGetUUID", words["uuid"])
    yield _ok(scope, "nvmlDeviceGetName", words["name"])
    yield _ok(scope, "nvmlDeviceIsMigDeviceHandle", 1)
    yield _ok(scope, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", index)
    yield _ok(scope, "nvmlDeviceGetGpuInstanceId", words["ids"][0])
    yield _ok(scope, "nvmlDeviceGetComputeInstanceId", words["ids"][1])
    yield _ok(scope, "nvmlDeviceGetAttributes_v2", *words["attributes"])
    yield from _memory(scope, words["memory"])
    yield from _processes(scope, words)


def _processes(scope: str, words: Dict[str, Any]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """[pid, bytes or null where NVML cannot tell, MIG instances]; without MIG the instance ids are all ones."""
    for kind in ("Compute", "Graphics", "MPSCompute"):
        function = f"nvmlDeviceGet{kind}RunningProcesses_v3"
        found = words.get("processes", {}).get(kind.lower(), [])
        yield _ok(scope, function, len(found))
        for number, (pid, size, *own) in enumerate(found):
            ids = own or words.get("ids", [0xFFFFFFFF, 0xFFFFFFFF])
            yield _ok(scope, function, pid, NOT_AVAILABLE if size is None else size, *ids, of=[number])


def remotes(nvlink: Dict[str, Any]) -> List[Any]:
    """What is at the other end of each link: a switch's PCI address or a GPU's index; {"to": [[remote, links]…]}."""
    return [remote for remote, count in nvlink["to"] for _number in range(count)]


def _nvlink(scope: str, nvlink: Optional[Dict[str, Any]], gpus: Sequence[Dict[str, Any]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """A link beyond the last is an invalid argument (NVML's reference)."""
    prefix = "nvmlDeviceGetNvLink"
    if nvlink is None:
        yield _no(scope, f"{prefix}Capability", "INVALID_ARGUMENT")
        for link in range(NO_LINK):
            for capability in range(pynvml.NVML_NVLINK_CAP_COUNT):
                yield _no(scope, f"{prefix}Capability", "NOT_SUPPORTED", of=[link, capability])
        return
    for function in ("State", "Version", "RemotePciInfo_v2", "RemoteDeviceType", "Capability", "ErrorCounter"):
        yield _no(scope, prefix + function, "INVALID_ARGUMENT")
    for link, remote in enumerate(remotes(nvlink)):
        active = int(link not in nvlink.get("inactive", []))
        switch = isinstance(remote, str)
        yield _ok(scope, f"{prefix}State", active, of=[link])
        yield _ok(scope, f"{prefix}Version", nvlink["version"], of=[link])
        if active:
            there = remote if switch else address_of(gpus[remote])
            device = nvlink["switch_device"] if switch else gpus[remote]["device"]
            yield _ok(scope, f"{prefix}RemotePciInfo_v2", *_pci(there), int(device, 16) << 16 | 0x10DE, 0, of=[link])
            yield _ok(scope, f"{prefix}RemoteDeviceType", SWITCH if switch else PEER, of=[link])
        for capability in range(pynvml.NVML_NVLINK_CAP_COUNT):
            yield _ok(scope, f"{prefix}Capability", int(capability not in (4,)), of=[link, capability])
        for name, counter in LINK_ERRORS.items():
            value = nvlink.get("errors", {}).get(str(link), {}).get(name, 0)
            yield _ok(scope, f"{prefix}ErrorCounter", value, of=[link, counter])


def _fabric(scope: str, fabric: Optional[Dict[str, Any]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    if fabric is None:
        return
    words = [fabric["state"], fabric.get("status", 0), fabric.get("clique", 0), fabric.get("mask", 0),
             fabric.get("summary", 0), fabric.get("cluster", "0" * 32)]
    yield _ok(scope, "nvmlDeviceGetGpuFabricInfo", *words)
    yield _ok(scope, "nvmlDeviceGetGpuFabricInfoV", *words)


def ancestor(one: Dict[str, Any], two: Dict[str, Any]) -> int:
    """How far apart two GPUs are on the PCI bus, from their paths: one switch, several, one root, one socket, two."""
    if one.get("numa", -1) != two.get("numa", -1):
        return SYSTEM
    here, there = full_path(one["path"]), full_path(two["path"])
    shared = sum(1 for _pair in _common(here, there))
    if not shared:
        return NODE
    if shared == 1:
        return HOSTBRIDGE
    return SINGLE if max(len(here), len(there)) - shared <= 2 else MULTIPLE


def _common(here: Sequence[str], there: Sequence[str]) -> Iterator[str]:
    for left, right in zip(here, there, strict=False):
        if left != right:
            return
        yield left


def _pairs(index: int, gpus: Sequence[Dict[str, Any]]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """A GPU and itself: an internal ancestor, and no peer (an invalid argument)."""
    one, ok = gpus[index], pynvml.NVML_P2P_STATUS_OK
    yield _ok(str(index), "nvmlDeviceGetTopologyCommonAncestor", 0, of=[index])
    yield _no(str(index), "nvmlDeviceGetP2PStatus", "INVALID_ARGUMENT")
    for number, two in enumerate(gpus):
        if number == index:
            continue
        yield _ok(str(index), "nvmlDeviceGetTopologyCommonAncestor", ancestor(one, two), of=[number])
        linked = "nvlink" in one and "nvlink" in two and _reach(index, one, number, two)
        plain = ok if linked or one.get("p2p", True) else pynvml.NVML_P2P_STATUS_CHIPSET_NOT_SUPPORTED
        for capability in range(5):
            nvlink = ok if linked else pynvml.NVML_P2P_STATUS_NOT_SUPPORTED
            value = nvlink if capability in (pynvml.NVML_P2P_CAPS_INDEX_NVLINK, pynvml.NVML_P2P_CAPS_INDEX_ATOMICS) else plain
            yield _ok(str(index), "nvmlDeviceGetP2PStatus", value, of=[number, capability])


def _reach(index: int, one: Dict[str, Any], number: int, two: Dict[str, Any]) -> bool:
    here, there = set(map(str, remotes(one["nvlink"]))), set(map(str, remotes(two["nvlink"])))
    return str(number) in here or any(":" in remote for remote in here & there)


def _fields(scope: str, gpu: Dict[str, Any]) -> Iterator[Tuple[Key, Tuple[int, str]]]:
    """Fields that follow from the rest, then the machine's own ("name" or "name/link")."""
    found: Dict[str, Any] = {}
    for word, names in (("ecc_mode", ("ECC_CURRENT", "ECC_PENDING")),
                        ("remapped_rows", ("REMAPPED_COR", "REMAPPED_UNC", "REMAPPED_PENDING", "REMAPPED_FAILURE"))):
        found.update(zip(names, gpu.get(word, []), strict=False))
    for kind, name in (("SBE", "corrected"), ("DBE", "uncorrected")):
        names = (f"ECC_{kind}_VOL_TOTAL", f"ECC_{kind}_AGG_TOTAL")
        found.update(zip(names, gpu.get("ecc", {}).get(name, []), strict=False))
    power = gpu.get("power", {})
    for word, names in {"limit": ("CURRENT_LIMIT", "REQUESTED_LIMIT"), "min": ("MIN_LIMIT",), "max": ("MAX_LIMIT",),
                        "default": ("DEFAULT_LIMIT",), "draw": ("AVERAGE",)}.items():
        found.update({f"POWER_{name}": power[word] for name in names if word in power})
    if "pcie" in gpu:
        found["PCIE_REPLAY_COUNTER"] = gpu["pcie"].get("replays", 0)
    found.update(_link_fields(gpu.get("nvlink")))
    found.update(gpu.get("fields", {}))
    for name, value in found.items():
        field, _slash, link = name.partition("/")
        kind = 0 if isinstance(value, float) else 5 if value < 0 else 3
        yield _ok(scope, "field", kind, value, of=[getattr(pynvml, f"NVML_FI_DEV_{field}"), link or 0])
    for field in NO_FIELD:
        yield _no(scope, "field", "INVALID_ARGUMENT", of=[field, 0])


def _link_fields(nvlink: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    if nvlink is None:
        return {}
    links = remotes(nvlink)
    found: Dict[str, Any] = {"NVLINK_LINK_COUNT": len(links)}
    found["NVSWITCH_CONNECTED_LINK_COUNT"] = sum(isinstance(remote, str) for remote in links)
    totals = dict.fromkeys(("CRC_FLIT", "CRC_DATA", "REPLAY", "RECOVERY"), 0)
    for link in range(len(links)):
        errors = nvlink.get("errors", {}).get(str(link), {})
        active = int(link not in nvlink.get("inactive", []))
        found.update({f"NVLINK_GET_STATE/{link}": active, f"NVLINK_GET_VERSION/{link}": nvlink["version"],
                      f"NVLINK_GET_SPEED/{link}": nvlink["mbps"] if active else 0,
                      f"NVLINK_ERROR_DL_CRC/{link}": errors.get("crc_flit", 0) + errors.get("crc_data", 0),
                      f"NVLINK_ERROR_DL_REPLAY/{link}": errors.get("replay", 0),
                      f"NVLINK_ERROR_DL_RECOVERY/{link}": errors.get("recovery", 0)})
        for name in totals:
            totals[name] += errors.get(name.lower(), 0)
    found.update({f"NVLINK_{name}_ERROR_COUNT_TOTAL": value for name, value in totals.items()})
    return found
