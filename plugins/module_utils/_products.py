# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cards by PCI id, and hardware profiles for plans on paper. Private to this collection.

PCI ids: the product table of NVIDIA's open kernel modules (https://github.com/NVIDIA/open-gpu-kernel-modules, README.md) and, for
cards newer than the copy read, https://github.com/pciutils/pciids. Memory: the MiB that nvidia-smi prints as total, which is NVML's
total (version 2 of the structure, reserved part included); measured on an H200: 150754820096 bytes = 143771 MiB exactly. Cards with
GDDR memory lose a part to ECC: the figure is for the state that the card is delivered in (ECC on: A10, A40, L4, L20, L40, L40S, T4,
RTX PRO 6000; off: GeForce, RTX A6000, RTX 6000 Ada).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True)
class Product:
    """One kind of card. ``memory_bytes``: NVML's total; ``nvlink``: it has NVLink ports (connected or not: a profile says)."""

    name: str
    pci_ids: Tuple[str, ...]
    architecture: str
    compute_capability: str
    memory_bytes: int
    nvlink: bool
    vendor: str = "nvidia"


@dataclass(frozen=True)
class Profile:
    """A kind of host. ``domain``: GPUs that share NVLink (1 = PCIe only); ``rdma_gbps``: of one port, None = no RDMA."""

    name: str
    product: Product
    gpus: int
    domain: int
    host_memory_bytes: int
    rdma_gbps: Optional[float] = None


def _card(name: str, ids: str, architecture: str, capability: str, mib: int, nvlink: bool = False) -> Product:
    return Product(name, tuple("0x" + i for i in ids.split()), architecture, capability, mib * MIB, nvlink)


# Name and PCI ids, architecture, compute capability, MiB (nvidia-smi's total), NVLink ports. "seen": printed by nvidia-smi in
# public logs of that card; "derived": from a card with the same memory, no printout of its own found.
PRODUCTS: Tuple[Product, ...] = (
    _card("Tesla V100 SXM2 16GB", "1db1 1df5", "volta", "7.0", 16384, True),  # seen; pci.ids
    _card("Tesla V100 PCIe 16GB", "1db4", "volta", "7.0", 16384),  # seen; pci.ids
    _card("Tesla V100 SXM2 32GB", "1db5", "volta", "7.0", 32768, True),  # seen; pci.ids
    _card("Tesla V100 PCIe 32GB", "1db6", "volta", "7.0", 32768),  # derived from SXM2; pci.ids
    _card("Tesla V100 SXM3 32GB", "1db8", "volta", "7.0", 32768, True),  # derived from SXM2; pci.ids
    _card("Tesla V100S PCIe 32GB", "1df6", "volta", "7.0", 32768),  # derived from SXM2; pci.ids
    _card("Tesla T4", "1eb8", "turing", "7.5", 15360),  # seen; pci.ids
    _card("A100 SXM4 40GB", "20b0", "ampere", "8.0", 40960, True),  # derived from the PCIe card; NVIDIA's table
    _card("A100 PCIe 40GB", "20f1", "ampere", "8.0", 40960, True),  # seen; NVIDIA's table
    _card("A100 SXM4 80GB", "20b2", "ampere", "8.0", 81920, True),  # seen; NVIDIA's table
    _card("A100 PCIe 80GB", "20b5", "ampere", "8.0", 81920, True),  # seen; NVIDIA's table
    _card("A800 SXM4 40GB", "20bd", "ampere", "8.0", 40960, True),  # derived from A100; NVIDIA's table
    _card("A800 SXM4 80GB", "20f3", "ampere", "8.0", 81920, True),  # seen; NVIDIA's table
    _card("A800 PCIe 80GB", "20f5", "ampere", "8.0", 81920, True),  # seen; NVIDIA's table
    _card("A800 40GB Active", "20f6", "ampere", "8.0", 40960, True),  # derived from A100; NVIDIA's table
    _card("A30", "20b7", "ampere", "8.0", 24576, True),  # seen; NVIDIA's table
    _card("A10", "2236", "ampere", "8.6", 23028),  # seen; NVIDIA's table
    _card("A10G", "2237", "ampere", "8.6", 23028),  # derived from A10; NVIDIA's table
    _card("A40", "2235", "ampere", "8.6", 46068, True),  # seen; NVIDIA's table
    _card("RTX A6000", "2230", "ampere", "8.6", 49140, True),  # derived from RTX 6000 Ada (both 48 GB, ECC off); NVIDIA's table
    _card("GeForce RTX 4090", "2684", "ada", "8.9", 24564),  # seen; NVIDIA's table
    _card("GeForce RTX 4090 D", "2685", "ada", "8.9", 24564),  # derived from RTX 4090; NVIDIA's table
    _card("RTX 6000 Ada", "26b1", "ada", "8.9", 49140),  # seen; NVIDIA's table
    _card("L4", "27b8", "ada", "8.9", 23034),  # seen; NVIDIA's table
    _card("L20", "26ba", "ada", "8.9", 46068),  # seen (49140 with ECC off, also seen); NVIDIA's table
    _card("L40", "26b5", "ada", "8.9", 46068),  # seen; NVIDIA's table
    _card("L40S", "26b9", "ada", "8.9", 46068),  # seen; NVIDIA's table
    _card("H100 SXM5 80GB", "2330", "hopper", "9.0", 81559, True),  # seen; NVIDIA's table
    _card("H100 PCIe", "2331", "hopper", "9.0", 81559, True),  # seen; NVIDIA's table
    _card("H100 NVL", "2321", "hopper", "9.0", 95830, True),  # seen; NVIDIA's table
    _card("H800 SXM5", "2324", "hopper", "9.0", 81559, True),  # seen; NVIDIA's table
    _card("H800 PCIe", "2322", "hopper", "9.0", 81559, True),  # derived from H100 PCIe; NVIDIA's table
    _card("H20 96GB", "2329", "hopper", "9.0", 97871, True),  # seen; NVIDIA's table
    _card("H20 141GB", "232c", "hopper", "9.0", 143771, True),  # seen (named H20-3e); NVIDIA's table
    _card("H200 SXM", "2335", "hopper", "9.0", 143771, True),  # measured, byte-exact; NVIDIA's table
    _card("H200 NVL", "233b", "hopper", "9.0", 143771, True),  # seen; pci.ids
    _card("B200", "2901", "blackwell", "10.0", 183359, True),  # seen; pci.ids
    _card("GB200", "2941", "blackwell", "10.0", 189471, True),  # seen; pci.ids
    _card("B300 SXM6", "3182", "blackwell", "10.3", 275040, True),  # seen; pci.ids
    # seen on trays of four (a DGX Station's single GB300 prints 256703); ids from public PCI tables
    _card("GB300", "31c2 31c3", "blackwell", "10.3", 284208, True),
    _card("GeForce RTX 5090", "2b85", "blackwell", "12.0", 32607),  # seen; pci.ids
    _card("RTX PRO 6000 Blackwell", "2bb1 2bb4 2bb5", "blackwell", "12.0", 97887),  # seen; pci.ids
)
_BY_PCI: Dict[str, Product] = {pci_id: product for product in PRODUCTS for pci_id in product.pci_ids}
_BY_NAME: Dict[str, Product] = {product.name: product for product in PRODUCTS}


def product_by_pci(device_id: str) -> Optional[Product]:
    """The card of a PCI device id as sysfs writes it (``0x2335``, any case); None where the table does not know it."""
    return _BY_PCI.get(device_id.lower())


def _profile(name: str, product: str, gpus: int, domain: int, host_gib: int, rdma_gbps: Optional[float] = None) -> Profile:
    return Profile(name, _BY_NAME[product], gpus, domain, host_gib * GIB, rdma_gbps)


# Host memory and network are ASSUMPTIONS: what such a host is commonly ordered with (HGX boards: NVIDIA's own DGX of that
# generation; PCIe servers: this collection's judgement). Bridges between PCIe cards are optional, so those count as PCIe only, but
# for H200 NVL (bridged in fours) and H100 NVL (in pairs).
PROFILES: Dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _profile("hgx-v100-32-8", "Tesla V100 SXM2 32GB", 8, 8, 512, 100.0),
        _profile("hgx-a100-40-8", "A100 SXM4 40GB", 8, 8, 1024, 200.0),
        _profile("hgx-a100-80-4", "A100 SXM4 80GB", 4, 4, 1024, 200.0),
        _profile("hgx-a100-80-8", "A100 SXM4 80GB", 8, 8, 2048, 200.0),
        _profile("hgx-a800-80-8", "A800 SXM4 80GB", 8, 8, 2048, 200.0),
        _profile("hgx-h100-4", "H100 SXM5 80GB", 4, 4, 1024, 400.0),
        _profile("hgx-h100-8", "H100 SXM5 80GB", 8, 8, 2048, 400.0),
        _profile("hgx-h800-8", "H800 SXM5", 8, 8, 2048, 400.0),
        _profile("hgx-h20-8", "H20 96GB", 8, 8, 2048, 400.0),
        _profile("hgx-h20-141-8", "H20 141GB", 8, 8, 2048, 400.0),
        _profile("hgx-h200-4", "H200 SXM", 4, 4, 1024, 400.0),
        _profile("hgx-h200-8", "H200 SXM", 8, 8, 2048, 400.0),
        _profile("hgx-b200-8", "B200", 8, 8, 2048, 400.0),
        _profile("hgx-b300-8", "B300 SXM6", 8, 8, 2048, 800.0),
        _profile("gb200-4", "GB200", 4, 4, 960, 400.0),  # one compute tray of an NVL72, seen as a host of its own
        _profile("gb300-4", "GB300", 4, 4, 960, 800.0),  # likewise
        _profile("a100-40-pcie-4", "A100 PCIe 40GB", 4, 1, 512),
        _profile("a100-80-pcie-4", "A100 PCIe 80GB", 4, 1, 512),
        _profile("a100-80-pcie-8", "A100 PCIe 80GB", 8, 1, 1024),
        _profile("a800-80-pcie-8", "A800 PCIe 80GB", 8, 1, 1024),
        _profile("a30-4", "A30", 4, 1, 256),
        _profile("a10-4", "A10", 4, 1, 256),
        _profile("a40-4", "A40", 4, 1, 512),
        _profile("t4-4", "Tesla T4", 4, 1, 256),
        _profile("l4-4", "L4", 4, 1, 256),
        _profile("l4-8", "L4", 8, 1, 512),
        _profile("l20-4", "L20", 4, 1, 512),
        _profile("l20-8", "L20", 8, 1, 1024),
        _profile("l40-4", "L40", 4, 1, 512),
        _profile("l40s-1", "L40S", 1, 1, 128),
        _profile("l40s-2", "L40S", 2, 1, 256),
        _profile("l40s-4", "L40S", 4, 1, 512),
        _profile("l40s-8", "L40S", 8, 1, 1024),
        _profile("h100-pcie-1", "H100 PCIe", 1, 1, 256),
        _profile("h100-pcie-2", "H100 PCIe", 2, 1, 512),
        _profile("h100-pcie-4", "H100 PCIe", 4, 1, 512),
        _profile("h100-pcie-8", "H100 PCIe", 8, 1, 1024),
        _profile("h100-nvl-2", "H100 NVL", 2, 2, 512),
        _profile("h100-nvl-4", "H100 NVL", 4, 2, 1024),
        _profile("h200-1", "H200 SXM", 1, 1, 126),  # the machine that the figures of this collection were measured on
        _profile("h200-2", "H200 SXM", 2, 2, 256),  # two cards of an HGX board, passed through
        _profile("h200-nvl-4", "H200 NVL", 4, 4, 1024),
        _profile("h200-nvl-8", "H200 NVL", 8, 4, 2048),
        _profile("rtx-4090-8", "GeForce RTX 4090", 8, 1, 512),
        _profile("rtx-5090-8", "GeForce RTX 5090", 8, 1, 512),
        _profile("rtx-6000-ada-4", "RTX 6000 Ada", 4, 1, 512),
        _profile("rtx-pro-6000-4", "RTX PRO 6000 Blackwell", 4, 1, 768),
        _profile("rtx-pro-6000-8", "RTX PRO 6000 Blackwell", 8, 1, 1024),
    )
}
