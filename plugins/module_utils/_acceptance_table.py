# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a card is expected to do in acceptance. Private to this collection.

Only figures that were measured or published are here, each with where it comes from. Cards without a row are compared with the
other cards of their host, and with what the site says (``acceptance_thresholds``), which stands in the place of any of these.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

FLOOR = 0.9  # of what is expected
ALIKE = 0.9  # of the median of a host's cards of one kind
# of what the network ports carry that NCCL is told to use: our own judgement, for nobody publishes a figure for every network. NCCL
# that has fallen back to TCP over the management network is under a twentieth of it (https://github.com/gpustack/gpustack/issues/4182)
WIRE = 0.5
PER_GPU = ("matmul_tflops", "memory_gbs", "to_gpu_gbs", "from_gpu_gbs")
TOGETHER = "busbw_gbs"
FIGURES = (*PER_GPU, TOGETHER)
# without a figure of our own: reported, and judged where the site says one. Disks differ, and so do the links between cards.
REPORTED = ("disk_read_gbs", "peer_gbs")
THRESHOLDS = (*FIGURES, "pcie_generation", "pcie_lanes", *REPORTED, "pair_busbw_gbs")
NAMES = {"matmul_tflops": "bf16 matmul, TFLOP/s", "memory_gbs": "GPU memory, GB/s", "to_gpu_gbs": "host to GPU, GB/s",
         "from_gpu_gbs": "GPU to host, GB/s", TOGETHER: "all-reduce bus bandwidth, GB/s",
         "disk_read_gbs": "disk of the store, read, GB/s", "peer_gbs": "GPU to GPU, GB/s"}


@dataclass(frozen=True)
class Expected:
    """Figures of one GPU, busbw_gbs of an all-reduce over so many of them in one host, pcie: (generation, lanes)."""

    per_gpu: Mapping[str, float] = field(default_factory=dict)
    busbw_gbs: Mapping[int, float] = field(default_factory=dict)
    pcie: Optional[Tuple[int, int]] = None


# PCIe, by NVIDIA's data sheets: H100 "PCIe Gen5: 128GB/s" and the H200 the same, A100 "PCIe Gen4: 64GB/s", L40S "PCIe Gen4 x16:
# 64GB/s bidirectional", each of which takes 16 lanes. NVML says the lanes that card *and slot* can do: a slot of eight looks whole.
GEN4, GEN5 = (4, 16), (5, 16)
EXPECTED: Dict[str, Expected] = {
    # two cards of an HGX board, passed through, 700 W, driver 580.159.04, NCCL without NVLS, 2026-11-30:
    # docs/guides/acceptance.md. Eight, which NVLink SHARP takes (a ring reaches 370 at most):
    # https://github.com/NVIDIA/nccl-tests/issues/272
    "H200 SXM": Expected({"matmul_tflops": 670, "memory_gbs": 4240, "to_gpu_gbs": 55, "from_gpu_gbs": 55}, {2: 320, 8: 475}, GEN5),
    # NCCL's maintainer: https://github.com/NVIDIA/nccl-tests/issues/212
    "H100 SXM5 80GB": Expected(busbw_gbs={8: 480}, pcie=GEN5),
    # the lower end of what is published for HGX A100, 230 to 250
    "A100 SXM4 80GB": Expected(busbw_gbs={8: 235}, pcie=GEN4),
    "A100 SXM4 40GB": Expected(busbw_gbs={8: 235}, pcie=GEN4),
    "A100 PCIe 80GB": Expected(pcie=GEN4),
    "A100 PCIe 40GB": Expected(pcie=GEN4),
    "L40S": Expected(pcie=GEN4),
}


def minimum(figure: str, product: str, gpus: int, own: Mapping[str, float]) -> Optional[float]:
    """The least that is good enough: the site's word, or FLOOR of what is expected; None where neither is known."""
    if figure in own:
        return float(own[figure])
    expected = EXPECTED.get(product, Expected())
    found = expected.busbw_gbs.get(gpus) if figure == TOGETHER else expected.per_gpu.get(figure)
    return None if found is None else round(FLOOR * found, 1)


def pcie_wanted(product: str, seen: Tuple[int, int], own: Mapping[str, float]) -> Tuple[int, int]:
    """Generation and lanes that a card's link has to have: the site's word, or the more of what the card is made for and what NVML
    says that card and slot can do (``seen``)."""
    made = EXPECTED.get(product, Expected()).pcie or (0, 0)
    return int(own.get("pcie_generation", max(made[0], seen[0]))), int(own.get("pcie_lanes", max(made[1], seen[1])))
