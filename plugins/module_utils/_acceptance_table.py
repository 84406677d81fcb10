# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a card is expected to do under ``_agent_gpu_check.py``. Private to this collection.

Only figures that were measured or published are here, each with where it comes from. Cards without a row are compared with the
other cards of their host, and with what the site says (``acceptance_thresholds``).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional

FLOOR = 0.9  # of what is expected
ALIKE = 0.9  # of the median of a host's cards of one kind
PER_GPU = ("matmul_tflops", "memory_gbs", "to_gpu_gbs", "from_gpu_gbs")
TOGETHER = "busbw_gbs"
FIGURES = (*PER_GPU, TOGETHER)
NAMES = {"matmul_tflops": "bf16 matmul, TFLOP/s", "memory_gbs": "GPU memory, GB/s", "to_gpu_gbs": "host to GPU, GB/s",
         "from_gpu_gbs": "GPU to host, GB/s", TOGETHER: "all-reduce bus bandwidth, GB/s"}


@dataclass(frozen=True)
class Expected:
    """Figures of one GPU, and busbw_gbs of an all-reduce over so many of them in one host."""

    per_gpu: Mapping[str, float] = field(default_factory=dict)
    busbw_gbs: Mapping[int, float] = field(default_factory=dict)


EXPECTED: Dict[str, Expected] = {
    # two cards of an HGX board, passed through, 700 W, driver 580.159.04, NCCL without NVLS, 2026-11-30:
    # docs/guides/acceptance.md. Eight, which NVLink SHARP takes (a ring reaches 370 at most): https://github.com/NVIDIA/nccl-tests/issues/272
    "H200 SXM": Expected({"matmul_tflops": 670, "memory_gbs": 4240, "to_gpu_gbs": 55, "from_gpu_gbs": 55}, {2: 320, 8: 475}),
    # NCCL's maintainer: https://github.com/NVIDIA/nccl-tests/issues/212
    "H100 SXM5 80GB": Expected(busbw_gbs={8: 480}),
    # the lower end of what is published for HGX A100, 230 to 250
    "A100 SXM4 80GB": Expected(busbw_gbs={8: 235}),
    "A100 SXM4 40GB": Expected(busbw_gbs={8: 235}),
}


def minimum(figure: str, product: str, gpus: int, own: Mapping[str, float]) -> Optional[float]:
    """The least that is good enough: the site's word, or FLOOR of what is expected; None where neither is known."""
    if figure in own:
        return float(own[figure])
    expected = EXPECTED.get(product, Expected())
    found = expected.busbw_gbs.get(gpus) if figure == TOGETHER else expected.per_gpu.get(figure)
    return None if found is None else round(FLOOR * found, 1)
