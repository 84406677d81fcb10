# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's JSON as a tree like /sys, and one like /proc for its GPU processes.

Words of ``sysfs``: pci (devices beside GPUs and adapters; ``files`` are written as they are), nics (network adapters:
defaults and each; with ``name`` they are RDMA devices), modules, iommu (a group's type, or null where it is off),
nodes (NUMA: cpulist, memory_kb), cgroups (pid -> control group).
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from . import _table

BRIDGE, GPU, INFINIBAND, ETHERNET = "0x060400", "0x030200", "0x020700", "0x020000"
MELLANOX, NVIDIA, INTEL = "0x15b3", "0x10de", "0x8086"


def write(machine: Dict[str, Any], sysfs: Path, proc: Path) -> None:
    """Both trees; the folders must not be there yet."""
    words = machine.get("sysfs", {})
    modules = words.get("modules", [])
    for folder in ("bus/pci/devices", "class/infiniband", "class/net", "module", "kernel/iommu_groups", "devices/system/node"):
        (sysfs / folder).mkdir(parents=True)
    for module in modules:
        (sysfs / "module" / module).mkdir()
    if "nvidia" in modules:
        _put(sysfs / "module" / "nvidia" / "version", machine["driver"])
    for device in _devices(machine):
        _device(sysfs, device)
    for nic in _nics(words):
        _nic(sysfs, nic)
    for node, own in words.get("nodes", {}).items():
        folder = sysfs / "devices" / "system" / "node" / f"node{node}"
        _put(folder / "cpulist", own["cpulist"])
        _put(folder / "meminfo", f"Node {node} MemTotal:       {own['memory_kb']} kB")
    nodes = sorted(map(int, words.get("nodes", {})))
    if nodes:
        span = f"{nodes[0]}-{nodes[-1]}" if len(nodes) > 1 else str(nodes[0])
        for name in ("online", "possible"):
            _put(sysfs / "devices" / "system" / "node" / name, span)
    if words.get("iommu"):
        _iommu(sysfs, words["iommu"])
    proc.mkdir(parents=True)
    for pid, group in words.get("cgroups", {}).items():
        _put(proc / pid / "cgroup", f"0::{group}")


def _devices(machine: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    driver = next((name for name in ("nvidia", "nouveau") if name in machine.get("sysfs", {}).get("modules", [])), None)
    for gpu in _table.gpus_of(machine):
        now, most = gpu["pcie"]["generation"]
        width, widest = gpu["pcie"]["width"]
        files = {"current_link_speed": f"{_table.PCIE_GT[now]} GT/s PCIe", "current_link_width": width,
                 "max_link_speed": f"{_table.PCIE_GT[most]} GT/s PCIe", "max_link_width": widest}
        yield {"path": gpu["path"], "vendor": NVIDIA, "device": gpu["device"], "class": GPU, "numa": gpu.get("numa", -1),
               "driver": driver, "files": {**files, **gpu.get("sysfs", {})}}
    words = machine.get("sysfs", {})
    yield from words.get("pci", [])
    for nic in _nics(words):
        kind = INFINIBAND if nic.get("link_layer") == "InfiniBand" else ETHERNET
        yield {"vendor": MELLANOX, "class": kind, "driver": "mlx5_core", **nic}


def _nics(words: Dict[str, Any]) -> List[Dict[str, Any]]:
    section = words.get("nics", {})
    return [{**section.get("defaults", {}), **own} for own in section.get("each", [])]


def _device(sysfs: Path, device: Dict[str, Any]) -> None:
    """The device and the bridges above it, each with its link in bus/pci/devices."""
    folder = sysfs / "devices"
    names = _table.full_path(device["path"])
    for depth, name in enumerate(names):
        folder = folder / name
        if not depth or (folder / "class").exists():
            continue
        bridge = depth < len(names) - 1
        own = {"vendor": INTEL, "device": "0x352a", "class": BRIDGE} if bridge else device
        for word in ("vendor", "device", "class"):
            _put(folder / word, own[word])
        _put(folder / "numa_node", device.get("numa", -1))
        _link(sysfs / "bus" / "pci" / "devices" / name, folder)
        for file, content in ({} if bridge else device.get("files", {})).items():
            _put(folder / file, content)
        if not bridge and device.get("driver"):
            (sysfs / "bus" / "pci" / "drivers" / device["driver"]).mkdir(parents=True, exist_ok=True)
            _link(folder / "driver", sysfs / "bus" / "pci" / "drivers" / device["driver"])


def _nic(sysfs: Path, nic: Dict[str, Any]) -> None:
    """An adapter's RDMA device (where it has a name) and network interface."""
    pci = (sysfs / "devices").joinpath(*_table.full_path(nic["path"]))
    if "netdev" in nic:
        folder = pci / "net" / nic["netdev"]
        _put(folder / "operstate", nic.get("operstate", "up"))
        if nic.get("speed"):
            _put(folder / "speed", nic["speed"])
        _link(folder / "device", pci)
        _link(sysfs / "class" / "net" / nic["netdev"], folder)
    if "name" not in nic:
        return
    folder = pci / "infiniband" / nic["name"]
    port = folder / "ports" / "1"
    _put(folder / "node_type", "1: CA")
    _put(folder / "node_guid", "0000:0000:0000:{:04x}".format(int(nic["name"].rpartition("_")[2]) + 1))
    _link(folder / "device", pci)
    _link(sysfs / "class" / "infiniband" / nic["name"], folder)
    for word in ("link_layer", "rate", "state"):
        _put(port / word, nic[word])
    _put(port / "phys_state", "5: LinkUp" if nic["state"].endswith("ACTIVE") else "3: Disabled")
    for number, (gid, kind) in enumerate(nic.get("gids", [])):
        _put(port / "gids" / str(number), gid)
        _put(port / "gid_attrs" / "types" / str(number), kind)
        _put(port / "gid_attrs" / "ndevs" / str(number), nic.get("netdev", ""))


def _iommu(sysfs: Path, kind: str) -> None:
    """A group for each device."""
    for number, link in enumerate(sorted((sysfs / "bus" / "pci" / "devices").iterdir())):
        group = sysfs / "kernel" / "iommu_groups" / str(number)
        _put(group / "type", kind)
        (group / "devices").mkdir()
        _link(group / "devices" / link.name, link.resolve())
        _link(link.resolve() / "iommu_group", group)


def _put(path: Path, content: Optional[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n", encoding="ascii")


def _link(path: Path, target: Path) -> None:
    """A relative link, as sysfs has them, so that the tree can be moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))
