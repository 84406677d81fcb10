# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPUs of a host reach each other, and over what: NVLink, NVSwitch or PCIe. Private to this collection."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._nvml import Nvml

# nvmlGpuTopologyLevel_t -> the words of nvidia-smi topo -m; INTERNAL (0) is two GPUs on one board
LEVELS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
NVSWITCH = "nvswitch"
_REMOTES = {1: "npu", 2: NVSWITCH}
_P2P_NVLINK = 2  # NVML_P2P_CAPS_INDEX_NVLINK
# errors key -> its field (Hopper and newer), and the counters of nvmlDeviceGetNvLinkErrorCounter that it sums (older)
_ERRORS = {
    "crc": ("NVLINK_ERROR_DL_CRC", (2, 3)),
    "replay": ("NVLINK_ERROR_DL_REPLAY", (0,)),
    "recovery": ("NVLINK_ERROR_DL_RECOVERY", (1,)),
}


@dataclass(frozen=True)
class Link:
    """One NVLink of a GPU. remote: 'gpu N', 'nvswitch', 'npu' or None; errors: crc, replay, recovery, each a count."""

    link: int
    active: Optional[bool] = None
    remote: Optional[str] = None
    errors: Optional[Mapping[str, Optional[int]]] = None


@dataclass(frozen=True)
class Topology:
    """matrix and links by GPU index; domains: GPUs that reach each other over NVLink, two or more each."""

    link: Optional[str]
    matrix: tuple[tuple[Optional[str], ...], ...]
    links: tuple[tuple[Link, ...], ...]
    domains: tuple[tuple[int, ...], ...]
    nvswitch: bool


def read_topology(nvml: Nvml, handles: Sequence[Any], addresses: Sequence[Optional[str]]) -> Topology:
    """The host's topology; handles and PCI addresses by GPU index, None for a GPU that does not answer."""
    by_address = {address: index for index, address in enumerate(addresses) if address}
    links = [_links(nvml, handle, by_address) if handle is not None else () for handle in handles]
    size = len(handles)
    matrix: list[list[Optional[str]]] = [["X" if row == column else None for column in range(size)] for row in range(size)]
    for row in range(size):
        for column in range(row + 1, size):
            if handles[row] is not None and handles[column] is not None:
                pair = handles[row], handles[column]
                count = nvlinks_between(links[row], links[column], column)
                status = nvml.ask("nvmlDeviceGetP2PStatus", *pair, _P2P_NVLINK) if count else None
                over_nvlink = count and status in (None, 0)
                cell = f"NV{count}" if over_nvlink else LEVELS.get(nvml.ask("nvmlDeviceGetTopologyCommonAncestor", *pair))
                matrix[row][column] = matrix[column][row] = cell
    return arrange(matrix, links)


def arrange(matrix: Sequence[Sequence[Optional[str]]], links: Sequence[Sequence[Link]]) -> Topology:
    """The topology that a matrix and links make."""
    domains = nvlink_domains(matrix)
    answering = sum(any(cell not in ("X", None) for cell in row) for row in matrix)
    return Topology(
        link="nvlink" if domains else "pcie" if answering > 1 else None,
        matrix=tuple(map(tuple, matrix)),
        links=tuple(map(tuple, links)),
        domains=domains,
        nvswitch=any(link.remote == NVSWITCH for row in links for link in row),
    )


def nvlinks_between(ours: Sequence[Link], theirs: Sequence[Link], index: int) -> int:
    """How many NVLinks lead from us to the GPU with that index: direct ones, or those to switches that both have."""
    direct = sum(bool(link.active) and link.remote == f"gpu {index}" for link in ours)
    switched = [sum(bool(link.active) and link.remote == NVSWITCH for link in side) for side in (ours, theirs)]
    return direct or min(switched)


def nvlink_domains(matrix: Sequence[Sequence[Optional[str]]]) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more GPUs that NVLink connects, also by way of others; by lowest index."""
    left = set(range(len(matrix)))
    found = []
    while left:
        group, edge = set(), {min(left)}
        while edge:
            group |= edge
            edge = {peer for at in edge for peer, cell in enumerate(matrix[at]) if (cell or "").startswith("NV")} - group
        left -= group
        if len(group) > 1:
            found.append(tuple(sorted(group)))
    return tuple(found)


def _links(nvml: Nvml, handle: Any, by_address: Mapping[str, int]) -> tuple[Link, ...]:
    """The GPU's NVLinks. Where their number is not known they end with the first that does not answer."""
    count = nvml.fields(handle, ["NVLINK_LINK_COUNT"])["NVLINK_LINK_COUNT"]
    states: list[Any] = []
    for link in range(nvml.constant("NVML_NVLINK_MAX_LINKS", 18) if count is None else count):
        state = nvml.ask("nvmlDeviceGetNvLinkState", handle, link)
        if state is None and count is None:
            break
        states.append(state)
    counted = nvml.fields(handle, [(field, link) for link in range(len(states)) for field, _old in _ERRORS.values()])
    found = []
    for link, state in enumerate(states):
        active = None if state is None else state == 1
        remote = _remote(nvml, handle, link, by_address) if active else None
        errors = {}
        for key, (field, counters) in _ERRORS.items():
            errors[key] = counted[field, link]
            if errors[key] is None and state is not None:
                parts = [nvml.ask("nvmlDeviceGetNvLinkErrorCounter", handle, link, counter) for counter in counters]
                errors[key] = None if None in parts else sum(parts)
        found.append(Link(link, active, remote, None if set(errors.values()) == {None} else errors))
    return tuple(found)


def _remote(nvml: Nvml, handle: Any, link: int, by_address: Mapping[str, int]) -> Optional[str]:
    """What is at the other end. Only a GPU's address is asked for: all switches serve alike."""
    kind = nvml.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link)
    if kind in _REMOTES:
        return _REMOTES[kind]
    pci = nvml.ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
    index = by_address.get(pci_address(pci.busId)) if pci is not None else None
    return None if index is None else f"gpu {index}"


def pci_address(bus_id: Any) -> str:
    """NVML's bus id, bytes or text, as sysfs writes it: '00000000:4A:06.0' -> '0000:4a:06.0'."""
    words = bus_id.decode("ascii", "replace") if isinstance(bus_id, bytes) else str(bus_id)
    domain, _colon, rest = words.lower().partition(":")
    return f"{domain.lstrip('0').rjust(4, '0')}:{rest}"
