# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RDMA ports, the GPUs that they sit next to, and what NCCL should be told. From sysfs alone. Private to this collection.

sysfs: https://www.kernel.org/doc/Documentation/ABI/stable/sysfs-class-infiniband
NCCL: https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
"""
from __future__ import annotations

import array
import fcntl
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._host import names, numa_node, pci_folder, read

INFINIBAND, ETHERNET = "InfiniBand", "Ethernet"
DISTANCES = ("PIX", "PXB", "PHB", "NODE", "SYS")  # nearest first, as nvidia-smi topo -m says them
# DSCP 26 with ECN, what NVIDIA's RoCE guides put into the lossless class; NCCL's own default is 0, best effort
ROCE_TRAFFIC_CLASS = 106
# at least so many Mbit/s -> helper threads, sockets of each. NCCL's guide: 4 and 4 for 100 Gbit/s, else 1 and 1 are its
# defaults; 2 and 2 between is this collection's choice, since one TCP stream seldom fills 25 Gbit/s.
SOCKETS = ((100_000, 4, 4), (25_000, 2, 2), (0, 1, 1))
_PCI_ROOT, _PCI_DEVICE = re.compile(r"pci[0-9a-f]{4,}:[0-9a-f]{2}"), re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_SIOCGIFCONF, _IFREQ = 0x8912, 40  # the size of struct ifreq on 64-bit Linux


@dataclass(frozen=True)
class Port:
    """A port of an RDMA device. gpus: indices of the nearest GPUs, at that ``distance``; empty where all are a socket away.

    gid_index_v2: GID of RoCE v2 over IPv4; traffic_class: what the host's administrator set for the port.
    """

    device: str
    port: int
    link_layer: Optional[str] = None
    state: Optional[str] = None
    rate_gbps: Optional[float] = None
    netdev: Optional[str] = None
    numa_node: Optional[int] = None
    pci_address: Optional[str] = None
    gid_index_v2: Optional[int] = None
    traffic_class: Optional[int] = None
    distance: Optional[str] = None
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a PCI device sits: the PCI root and bridges on the way to it, and its NUMA node."""

    path: tuple[str, ...]
    numa: Optional[int]


def read_rdma(sysfs: str = "/sys", gpus: Sequence[Optional[str]] = ()) -> tuple[Port, ...]:
    """All ports, by device and number. gpus: PCI addresses by GPU index, None where unknown."""
    places = {index: place(sysfs, address) for index, address in enumerate(gpus) if address}
    root = os.path.join(sysfs, "class", "infiniband")
    found = []
    for device in names(root):
        folder = os.path.join(root, device)
        address = _address(os.path.join(folder, "device"))
        distance, near = nearest(place(sysfs, address), places) if address else (None, ())
        for number in names(os.path.join(folder, "ports")):
            if number.isdigit():
                found.append(_port(sysfs, device, int(number), address, distance, near))
    return tuple(sorted(found, key=lambda port: (_natural(port.device), port.port)))


def _port(sysfs: str, device: str, number: int, address: Optional[str], distance: Optional[str],
          near: tuple[int, ...]) -> Port:
    card = os.path.join(sysfs, "class", "infiniband", device)
    folder = os.path.join(card, "ports", str(number))
    rate = re.match(r"[\d.]+", read(os.path.join(folder, "rate")))  # "400 Gb/sec (4X NDR)"
    # MLNX_OFED and DOCA only: "Global tclass=106"
    traffic = re.search(r"tclass=(\d+)", read(os.path.join(card, "tc", str(number), "traffic_class")))
    layer = read(os.path.join(folder, "link_layer")) or None
    netdevs = names(os.path.join(card, "device", "net"))
    return Port(
        device=device,
        port=number,
        link_layer=layer,
        state=read(os.path.join(folder, "state")).partition(": ")[2] or None,  # "4: ACTIVE"
        rate_gbps=float(rate.group()) if rate else None,
        netdev=read(os.path.join(folder, "gid_attrs", "ndevs", "0")) or (netdevs[0] if netdevs else None),
        numa_node=numa_node(sysfs, address),
        pci_address=address,
        gid_index_v2=_gid_v2(folder) if layer == ETHERNET else None,
        traffic_class=int(traffic.group(1)) if traffic else None,
        distance=distance,
        gpus=near,
    )


def _gid_v2(folder: str) -> Optional[int]:
    """The first GID of RoCE v2 whose address is IPv4 (::ffff:a.b.c.d); None where there is none."""
    for index in sorted(int(name) for name in names(os.path.join(folder, "gids")) if name.isdigit()):
        if read(os.path.join(folder, "gids", str(index))).startswith("0000:0000:0000:0000:0000:ffff:") and read(
                os.path.join(folder, "gid_attrs", "types", str(index))) == "RoCE v2":
            return index
    return None


def _address(device: str) -> Optional[str]:
    """The PCI address of a device folder: its real name, or what its uevent says."""
    name = os.path.basename(os.path.realpath(device))
    if _PCI_DEVICE.fullmatch(name):
        return name
    said = re.search(r"^PCI_SLOT_NAME=(\S+)$", read(os.path.join(device, "uevent"), 4096), re.M)
    return said.group(1) if said else None


def place(sysfs: str, address: str) -> Place:
    """Where the device sits; an empty path where sysfs shows no hierarchy."""
    parts = os.path.realpath(pci_folder(sysfs, address)).split(os.sep)
    roots = [at for at, part in enumerate(parts) if _PCI_ROOT.fullmatch(part)]
    path = parts[roots[-1]:-1] if roots else []
    return Place(tuple(path), numa_node(sysfs, address))


def pci_distance(ours: Place, theirs: Place) -> str:
    """PIX: one bridge or switch between them; PXB: several; PHB: the host bridge; NODE: the NUMA node; SYS: farther."""
    shared = len(os.path.commonprefix([ours.path, theirs.path]))
    if shared > 1:
        return "PIX" if max(len(ours.path), len(theirs.path)) - shared <= 1 else "PXB"
    if shared == 1:
        return "PHB"
    return "NODE" if ours.numa == theirs.numa else "SYS"


def nearest(ours: Place, gpus: Mapping[int, Place]) -> tuple[Optional[str], tuple[int, ...]]:
    """The distance to the nearest GPUs, and their indices; none where even those are on another NUMA node."""
    distances = {index: pci_distance(ours, theirs) for index, theirs in gpus.items()}
    if not distances:
        return None, ()
    best = min(distances.values(), key=DISTANCES.index)
    return best, () if best == "SYS" else tuple(index for index in sorted(distances) if distances[index] == best)


def chosen(ports: Sequence[Port]) -> tuple[Port, ...]:
    """The ports that NCCL should use: active, InfiniBand before Ethernet, no slow ones beside fast ones, near to GPUs.

    Slow: under half the fastest (a management card beside the fabric). Near: behind the same PCIe switch, where any is.
    """
    active = [port for port in ports if port.state == "ACTIVE" and port.link_layer in (INFINIBAND, ETHERNET)]
    layer = [port for port in active if port.link_layer == INFINIBAND] or active
    fastest = max((port.rate_gbps or 0 for port in layer), default=0)
    fast = [port for port in layer if (port.rate_gbps or 0) >= fastest / 2]
    return tuple([port for port in fast if port.distance in DISTANCES[:2]] or fast)


def nccl_environment(ports: Sequence[Port], interface: Optional[str], speed_mbps: Optional[int],
                     debug: str = "WARN") -> dict[str, str]:
    """Environment for engines that span hosts. interface: the one that engines listen on; speed_mbps: None unknown.

    Left out is what the host does not tell: an interface that is not known, a GID index that differs between ports
    (NCCL since 2.21 finds it by itself). The traffic class is the administrator's where the ports agree on one.
    """
    found = {"NCCL_DEBUG": debug}
    if interface:
        found["NCCL_SOCKET_IFNAME"] = "=" + interface  # = : this name, not every name that begins so
        found["GLOO_SOCKET_IFNAME"] = interface
    used = chosen(ports)
    if not used:
        threads, sockets = next((t, s) for least, t, s in SOCKETS if (speed_mbps or 0) >= least)
        return dict(found, NCCL_SOCKET_NTHREADS=str(threads), NCCL_NSOCKS_PERTHREAD=str(sockets))
    found["NCCL_IB_HCA"] = "=" + ",".join(f"{port.device}:{port.port}" for port in used)
    if used[0].link_layer == ETHERNET:
        indices = {port.gid_index_v2 for port in used}
        if len(indices) == 1 and None not in indices:
            found["NCCL_IB_GID_INDEX"] = str(used[0].gid_index_v2)
        classes = {port.traffic_class for port in used}
        agreed = used[0].traffic_class if len(classes) == 1 else None
        found["NCCL_IB_TC"] = str(ROCE_TRAFFIC_CLASS if agreed is None else agreed)
    return found


def addresses() -> dict[str, str]:
    """IPv4 address → interface of this host, by the ioctl SIOCGIFCONF (netdevice(7)); empty where it is refused.

    An alias counts as its interface (eth0:1 as eth0).
    """
    rows = array.array("B", bytes(512 * _IFREQ))
    wish = struct.pack("iL", len(rows), rows.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            used = struct.unpack("iL", fcntl.ioctl(channel.fileno(), _SIOCGIFCONF, wish))[0]
    except OSError:
        return {}
    found = {}
    for at in range(0, used, _IFREQ):
        row = rows[at:at + _IFREQ].tobytes()
        found[socket.inet_ntoa(row[20:24])] = row[:16].partition(b"\0")[0].decode("ascii", "replace").partition(":")[0]
    return found


def interface_of(address: Optional[str], known: Callable[[], Mapping[str, str]] = addresses,
                 proc: str = "/proc") -> Optional[str]:
    """The interface that has the address, else that of the default route; None where there is neither."""
    found = known().get(address) if address else None
    return found or default_interface(read(os.path.join(proc, "net", "route"), 1 << 16))


def default_interface(table: str) -> Optional[str]:
    """The interface of the IPv4 default route with the lowest metric, by the text of /proc/net/route."""
    rows = [line.split() for line in table.splitlines()[1:]]
    defaults = [row for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"]
    return min(defaults, key=lambda row: int(row[6]))[0] if defaults else None


def link_speed(interface: Optional[str], sysfs: str = "/sys") -> Optional[int]:
    """Mbit/s that the interface runs at; None where the kernel does not say (virtual ones say -1)."""
    words = read(os.path.join(sysfs, "class", "net", interface, "speed")) if interface else ""
    return int(words) if words.isdigit() else None


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    """A key by which mlx5_10 comes after mlx5_2."""
    return tuple((word, int(digits or 0)) for word, digits in re.findall(r"(\D*)(\d*)", name))
