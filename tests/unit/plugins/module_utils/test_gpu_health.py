# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What healthy means, and the line for a person. Pure."""
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._gpu import Gpu, NvmlView, health_reasons, summary
from ansible_collections.idc.llm.plugins.module_utils._gpu_topology import Topology
from ansible_collections.idc.llm.plugins.module_utils._host import PciDevice

GOOD = Gpu(index=0, uuid="GPU-0", name="NVIDIA H200", memory_total_bytes=140 << 30, healthy=True)


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({}, ()),
        ({"uuid": None}, ("does not answer",)),
        ({"row_remap_failure": True}, ("row remapping failed",)),
        ({"ecc_uncorrected": 1}, ("1 uncorrected memory error since the driver was loaded",)),
        ({"ecc_uncorrected": 2, "row_remap_failure": True},
         ("row remapping failed", "2 uncorrected memory errors since the driver was loaded")),
        ({"remapped_rows": {"pending": True}}, ("a repair is pending: reset the GPU",)),
        ({"retired_pages_pending": True, "recovery_action": "gpu_reset"}, ("a repair is pending: reset the GPU",)),
        ({"recovery_action": "drain_and_reset"}, ("the driver asks for: drain and reset",)),
        ({"fabric": {"state": "in_progress", "status": 0}},
         ("the NVLink fabric is not ready (in_progress): look at nvidia-fabricmanager",)),
        ({"fabric": {"state": "completed", "status": 999}}, ("the NVLink fabric refused it (NVML status 999)",)),
        ({"fabric": {"state": "not_supported", "status": 3}}, ()),
        ({"row_remap_failure": None, "ecc_uncorrected": None, "remapped_rows": None}, ()),
        ({"ecc_corrected": 5, "ecc_uncorrected_aggregate": 5, "mig_enabled": True}, ()),
    ],
)
def test_what_healthy_means(fields, reasons):
    good = {"uuid": "GPU-0", "row_remap_failure": False, "ecc_uncorrected": 0, "recovery_action": "none"}
    assert health_reasons(Gpu(index=0, **{**good, **fields})) == reasons


CARD = PciDevice("nvidia", "0x10de", "0x2335", "0000:06:00.0", model="H200 SXM")


@pytest.mark.parametrize(
    ("domains", "said"),
    [((), "PCIe"), (((0, 1),), "NVLink, 2 in one domain"), (((0, 1), (2, 3)), "NVLink, 2 domains of 2")],
)
def test_the_summary_says_how_gpus_are_linked(domains, said):
    topology = Topology("nvlink" if domains else "pcie", (), (), domains, False)
    view = NvmlView("ok", driver_version="580.159.04", gpus=tuple(replace(GOOD, index=at) for at in range(4)), topology=topology)
    assert summary(view, [CARD] * 4, 8, False) == (
        f"driver 580.159.04, 4 GPU (NVIDIA H200, 140 GiB), {said}, 8 RDMA ports; "
        "cards on the PCI bus: 4 nvidia H200 SXM; nouveau not loaded")


def test_the_summary_names_what_is_wrong():
    sick = [replace(GOOD, index=at, healthy=False, health_reasons=("one", "two")[:at + 1]) for at in range(2)]
    view = NvmlView("ok", driver_version="580.159.04", gpus=tuple(sick), topology=Topology("pcie", (), (), (), False))
    unlisted = replace(CARD, note="not listed by the driver")
    assert summary(view, [CARD, unlisted], 1, False) == (
        "driver 580.159.04, 2 GPU (NVIDIA H200, 140 GiB), PCIe, 1 RDMA port; "
        "unhealthy: GPU 0 (one), GPU 1 (one; two); "
        "cards on the PCI bus: 1 nvidia H200 SXM, 1 nvidia H200 SXM (not listed by the driver); nouveau not loaded")


def test_the_summary_of_a_host_with_nothing():
    assert summary(NvmlView("no_binding"), (), 0, True) == (
        "no driver (no_binding), no GPU; cards on the PCI bus: none; nouveau loaded")
