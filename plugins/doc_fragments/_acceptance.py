# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of gpu_facts about the acceptance verdict. Private to this collection."""
from __future__ import annotations


class ModuleDocFragment:
    """The options about judging a host."""

    DOCUMENTATION = r"""
options:
  acceptance_file:
    description: The host's acceptance verdict, as the role P(idc.llm.acceptance#role) writes it.
    type: path
    default: /var/lib/idc_llm/acceptance.json
  acceptance_measure:
    description: Whether what was measured counts. V(false) judges health alone.
    type: bool
    default: true
  acceptance_measured:
    description:
      - Parts of a measurement that were made just now, as P(idc.llm.acceptance_measured#filter) gives them. The parts that are not
        in it count as in the last verdict.
    type: dict
  acceptance_dcgm_level:
    description: The level of DCGM's diagnosis that is wanted. A verdict with a lower one is due.
    type: int
    default: 0
  acceptance_thresholds:
    description: The least that is good enough on this host, in the place of what the collection expects of its cards.
    type: dict
    suboptions:
      matmul_tflops:
        description: A bf16 product of matrices of one GPU, in TFLOP/s.
        type: float
      memory_gbs:
        description: GPU memory, read and written, in GB/s.
        type: float
      to_gpu_gbs:
        description: From pinned host memory to a GPU, in GB/s.
        type: float
      from_gpu_gbs:
        description: From a GPU to pinned host memory, in GB/s.
        type: float
      busbw_gbs:
        description: Bus bandwidth of an all-reduce over all GPUs of the host, in GB/s.
        type: float
      pcie_generation:
        description: PCIe generation of a GPU's link under load.
        type: float
      pcie_lanes:
        description: Lanes of a GPU's link, at rest and under load.
        type: float
      disk_read_gbs:
        description: Direct reads of the filesystem where the store lies, in GB/s.
        type: float
      peer_gbs:
        description: Copies from GPU to GPU by nvbandwidth, the slowest of them, in GB/s.
        type: float
      pair_busbw_gbs:
        description: Bus bandwidth of an all-reduce over the GPUs of two hosts, in GB/s.
        type: float
"""
