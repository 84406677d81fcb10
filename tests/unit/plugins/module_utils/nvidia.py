# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia_stack_info says of hosts, for the tests of the decisions."""
from __future__ import annotations

import copy
from typing import Any

H100 = {"address": "0000:18:00.0", "vendor": "0x10de", "device": "0x2330", "class": "0x030200", "driver": "nvidia",
        "bar_bytes": 1 << 37}
SWITCH = {"address": "0000:07:00.0", "vendor": "0x10de", "device": "0x22a3", "class": "0x068000", "driver": "",
          "bar_bytes": 1 << 25}
GIVEN: dict[str, Any] = {
    "source": "nvidia", "branch": 580, "version": "", "modules": "open", "repository": "", "container_repository": "",
    "key_given": False,
    "fingerprint": "", "packages": {}, "versions": {}, "fabric": "auto", "dcgm": True, "container_toolkit": False,
    "cuda_toolkit": "",
    "allow_downgrade": False, "power_limit": "", "clocks": {}, "mig": [], "rdma": "dmabuf", "hugepages": 0, "allow_acs": False}
BARE: dict[str, Any] = {
    "os": {"id": "ubuntu", "version": "24.04", "codename": "noble"}, "arch": "x86_64", "kernel": "6.8.0-60-generic",
    "running": "6.8.0-60-generic", "cards": [H100], "packages": [], "candidates": {}, "offered": {}, "loaded": "", "proc": "",
    "built": "",
    "kernels": {"6.8.0-60-generic": ""}, "nvml": "", "fabric_manager": "", "fabric_active": False, "smi": [127, "not there"],
    "nouveau": False, "headers": True, "secure_boot": False, "key_enrolled": None, "runfile": False, "unbuilt": {}, "engines": [],
    "virtual": "none",
    "iommu": "passthrough", "acs": [], "fingerprints": {}, "archives": [], "cdi": "", "stream": ""}
ROW = ("libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580", "nvidia-compute-utils-580")


def given(**changes: Any) -> dict[str, Any]:
    """The role's defaults, some changed."""
    return {**GIVEN, **changes}


def raw(**changes: Any) -> dict[str, Any]:
    """A bare Ubuntu 24.04 with one H100, some of it changed."""
    return {**copy.deepcopy(BARE), **changes}


def installed(version: str = "580.178.04", *more: str, revision: str = "1ubuntu1", **changes: Any) -> dict[str, Any]:
    """The same with a driver that runs."""
    rows = [{"name": name, "version": f"{version}-{revision}", "held": True} for name in (*ROW, *more)]
    proc = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build"
    dcgm = {"name": "datacenter-gpu-manager-4-cuda13", "version": "1:4.5.2-1", "held": True}
    return raw(**{"packages": [*rows, dcgm], "loaded": version, "proc": proc, "built": version, "nvml": version,
                  "smi": [0, "0, GPU-x"],
                  "kernels": {"6.8.0-60-generic": version}, **changes})
