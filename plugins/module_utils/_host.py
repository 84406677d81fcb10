# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says of a host without any driver's help: PCI cards, modules, IOMMU, memory, store. Private."""
from __future__ import annotations

import http.client
import json
import os
import re
import socket
from dataclasses import dataclass
from typing import Any, Iterable, Optional

from ansible_collections.idc.llm.plugins.module_utils._products import product_by_pci

_DISPLAY, _DISPLAY_3D, _DISPLAY_OTHER, _ACCELERATOR = "0300", "0302", "0380", "1200"
# vendor id -> name, PCI classes of its cards (an NVSwitch is 0680, Huawei's management VGA 0300: neither is a card)
VENDORS = {
    "0x10de": ("nvidia", (_DISPLAY, _DISPLAY_3D)),
    "0x1002": ("amd", (_DISPLAY, _DISPLAY_3D, _DISPLAY_OTHER, _ACCELERATOR)),
    "0x19e5": ("ascend", (_ACCELERATOR,)),
}
SERVED = ("nvidia",)
NOT_SERVED = "not served by this collection yet"
UNLISTED = "not listed by the driver"
_CONTAINER = re.compile(r"/(?:docker/|docker-)([0-9a-f]{64})(?:\.scope)?(?:/|$)")  # Docker with cgroupfs, with systemd


@dataclass(frozen=True)
class PciDevice:
    """A card of a known vendor on the PCI bus; ids as sysfs writes them (0x10de), address as 0000:06:00.0.

    model, memory_bytes: of NVIDIA's cards from the product table, of AMD's from its driver; None where neither says.
    """

    vendor: str
    vendor_id: str
    device_id: str
    address: str
    numa_node: Optional[int] = None
    model: Optional[str] = None
    memory_bytes: Optional[int] = None
    served: bool = True
    note: Optional[str] = None


def read(path: str, size: int = 256) -> str:
    """The start of a small file without blanks around it; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(size).strip()
    except OSError:
        return ""


def names(folder: str) -> list[str]:
    """What lies in a folder, sorted; empty where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def number(words: str) -> Optional[int]:
    """A whole number of digits; None of anything else, and of sysfs's -1 for 'none'."""
    return int(words) if words.isdigit() else None


def pci_folder(sysfs: str, address: str) -> str:
    """Where sysfs describes the device."""
    return os.path.join(sysfs, "bus", "pci", "devices", address)


def numa_node(sysfs: str, address: Optional[str]) -> Optional[int]:
    """NUMA node of a PCI device; None where it has none (sysfs says -1) or nothing is known."""
    return number(read(os.path.join(pci_folder(sysfs, address), "numa_node"))) if address else None


def read_pci(sysfs: str = "/sys", listed: Optional[Iterable[str]] = None) -> tuple[PciDevice, ...]:
    """Cards of the vendors above, by address; needs no driver.

    listed: addresses that NVIDIA's driver answers for, None where there is no driver. A card of NVIDIA that is not among
    them is noted, unless another driver has it (one handed to a virtual machine: vfio-pci).
    """
    known = None if listed is None else set(listed)
    found = []
    for address in names(os.path.join(sysfs, "bus", "pci", "devices")):
        folder = pci_folder(sysfs, address)
        vendor_id, device_id, kind = (read(os.path.join(folder, name)).lower() for name in ("vendor", "device", "class"))
        vendor, classes = VENDORS.get(vendor_id, ("", ()))
        if kind[2:6] not in classes:
            continue
        model, memory = _product(vendor, device_id, folder)
        link = os.path.join(folder, "driver")
        elsewhere = os.path.islink(link) and os.path.basename(os.readlink(link)) != "nvidia"
        unlisted = vendor == "nvidia" and known is not None and address not in known and not elsewhere
        served = vendor in SERVED
        note = NOT_SERVED if not served else UNLISTED if unlisted else None
        found.append(PciDevice(vendor, vendor_id, device_id, address, numa_node(sysfs, address), model, memory, served, note))
    return tuple(found)


def _product(vendor: str, device_id: str, folder: str) -> tuple[Optional[str], Optional[int]]:
    """Model and bytes of memory. AMD: https://docs.kernel.org/gpu/amdgpu/driver-misc.html"""
    if vendor == "nvidia":
        product = product_by_pci(device_id)
        return (product.name, product.memory_bytes) if product else (None, None)
    if vendor == "amd":
        return read(os.path.join(folder, "product_name")) or None, number(read(os.path.join(folder, "mem_info_vram_total")))
    return None, None


def nouveau_loaded(sysfs: str = "/sys") -> bool:
    """Whether the kernel runs the free driver nouveau, which keeps NVIDIA's from loading."""
    return os.path.isdir(os.path.join(sysfs, "module", "nouveau"))


def peermem_loaded(sysfs: str = "/sys") -> bool:
    """Whether nvidia_peermem, by which RDMA cards reach GPU memory, is loaded (DMA-BUF does without it)."""
    return os.path.isdir(os.path.join(sysfs, "module", "nvidia_peermem"))


def iommu_state(sysfs: str = "/sys", cards: Iterable[PciDevice] = ()) -> Optional[str]:
    """off, passthrough or translated: of the cards' groups, or of all groups where cards have none; None unknown.

    Types: https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-kernel-iommu_groups
    """
    if not os.path.isdir(sysfs):
        return None
    root = os.path.join(sysfs, "kernel", "iommu_groups")
    groups = names(root)
    if not groups:
        return "off"
    kinds = {read(os.path.join(pci_folder(sysfs, card.address), "iommu_group", "type")) for card in cards} - {""}
    kinds = kinds or {read(os.path.join(root, group, "type")) for group in groups}
    if any(kind.startswith("DMA") for kind in kinds):
        return "translated"
    return "passthrough" if kinds == {"identity"} else None


def read_host(sysfs: str = "/sys", proc: str = "/proc") -> dict[str, Optional[int]]:
    """memory_total_bytes, cpus (online, threads counted), numa_nodes; None where the kernel does not say."""
    memory = re.search(r"^MemTotal:\s*(\d+) kB", read(os.path.join(proc, "meminfo"), 4096), re.M)
    nodes = [name for name in names(os.path.join(sysfs, "devices", "system", "node")) if re.fullmatch(r"node\d+", name)]
    return {
        "memory_total_bytes": int(memory.group(1)) * 1024 if memory else None,
        "cpus": _count(read(os.path.join(sysfs, "devices", "system", "cpu", "online"), 4096)),
        "numa_nodes": len(nodes) or None,
    }


def _count(ranges: str) -> Optional[int]:
    """How many numbers a kernel list such as 0-3,8 holds."""
    total = 0
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", ranges):
        total += int(last or first) - int(first) + 1
    return total or None


def read_store(path: str, proc: str = "/proc") -> Optional[dict[str, Any]]:
    """{path, filesystem, mount, total_bytes, free_bytes} of where the path is or would be; None where unknown.

    free_bytes: what a user who is not root may still write.
    """
    there = os.path.abspath(path)
    while not os.path.isdir(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    there = os.path.realpath(there)
    try:
        space = os.statvfs(there)
    except OSError:
        return None
    mount, filesystem = mounted(there, read(os.path.join(proc, "self", "mounts"), 1 << 20))
    return {
        "path": path,
        "filesystem": filesystem,
        "mount": mount,
        "total_bytes": space.f_blocks * space.f_frsize,
        "free_bytes": space.f_bavail * space.f_frsize,
    }


def read_verdict(path: str) -> Optional[dict[str, Any]]:
    """The verdict file's mapping; None where it is absent, unreadable or something else."""
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def mounted(path: str, table: str) -> tuple[Optional[str], Optional[str]]:
    """Mount point and filesystem type of a path by the text of /proc/self/mounts; the last of equals hides the others."""
    best: tuple[Optional[str], Optional[str]] = (None, None)
    for line in table.splitlines():
        columns = line.split(" ")
        if len(columns) < 3:
            continue
        point = re.sub(r"\\(\d{3})", lambda found: chr(int(found.group(1), 8)), columns[1])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0] or ""):
            best = (point, columns[2])
    return best


def unit_of(pid: int, proc: str = "/proc", docker: str = "/var/run/docker.sock") -> Optional[str]:
    """The systemd unit that a process runs in (service or scope), from its cgroup; None where unknown.

    An engine that Docker runs counts as the unit that it would be under systemd: whoever has it, it is an engine of ours.
    """
    for line in read(os.path.join(proc, str(pid), "cgroup"), 1 << 16).splitlines():
        hierarchy, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if hierarchy == "0" or controllers == "name=systemd":
            container = _CONTAINER.search(path)
            engine = _engine_of(container.group(1), docker) if container else None
            if engine:
                return f"idc-vllm@{engine}.service"
            for part in path.split("/"):
                if part.endswith((".service", ".scope")):
                    return part
    return None


def _engine_of(container: str, docker: str) -> Optional[str]:
    """The engine that vllm_service has put into a container, by its label; None for another container or without a daemon.

    https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerInspect
    """
    line = http.client.HTTPConnection("localhost", timeout=5)
    line.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.sock.settimeout(5)
    try:
        line.sock.connect(docker)
        line.request("GET", f"/v1.41/containers/{container}/json")
        name = json.loads(line.getresponse().read())["Config"]["Labels"].get("idc.llm.engine")
        return str(name) if name else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException):
        return None
    finally:
        line.close()
