#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a host's accelerators. Thin over module_utils/_gpu and _acceptance."""
from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
short_description: Facts about a host's accelerators
version_added: 0.1.0
author:
  - The idc.llm founders (@idc-llm)
description:
  - Asks NVML through nvidia-ml-py (the Python module C(pynvml)), and the PCI bus for cards that have no driver yet.
  - A host without GPU, driver, library or Python module is a success. RV(ansible_facts.idc_llm_gpu.state) says which.
  - One NVML call that fails makes that field null.
extends_documentation_fragment:
  - idc.llm._common
options:
  binding_path:
    description: Folder where C(pynvml.py) lies if Python does not find it by itself.
    type: path
    default: /usr/local/lib/idc_llm
  acceptance_file:
    description: The host's acceptance verdict, as the role P(idc.llm.acceptance#role) writes it.
    type: path
    default: /var/lib/idc_llm/acceptance.json
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: N/A
    description: Changes nothing.
  facts:
    support: full
    description: Returns ansible_facts.
"""

EXAMPLES = r"""
- name: See the accelerators
  idc.llm.gpu_facts:

- name: Say how many there are
  ansible.builtin.debug:
    msg: "{{ ansible_facts['idc_llm_gpu'].gpus | length }} GPUs"
"""

RETURN = r"""
ansible_facts:
  description: The facts, under one key.
  returned: always
  type: dict
  contains:
    idc_llm_gpu:
      description: The host's accelerators.
      type: dict
      returned: always
      contains:
        state:
          description:
            - V(ok) with at least one GPU, V(no_devices) where the driver answers and has none, V(no_driver) where
              it does not answer, V(no_library) without C(libnvidia-ml.so.1), V(no_binding) without C(pynvml).
          type: str
          returned: always
        detail:
          description: Why the state is not V(ok), as NVML says it. Null when it is.
          type: str
          returned: always
        summary:
          description: All of it in one line for a person.
          type: str
          returned: always
          sample: "driver 580.159.04, 1 GPU (NVIDIA H200); cards on the PCI bus: nvidia 0x2335; nouveau not loaded"
        driver_version:
          description: Version of the kernel driver. Null if unknown.
          type: str
          returned: always
          sample: 580.159.04
        cuda_version:
          description: Highest CUDA version that the driver serves. Null if unknown.
          type: str
          returned: always
          sample: "13.0"
        nvml_version:
          description: Version of the NVML library. Null if unknown.
          type: str
          returned: always
          sample: 13.580.159.04
        gpus:
          description: One row per GPU of the driver, by NVML index.
          type: list
          elements: dict
          returned: always
          contains:
            index:
              description: NVML's index.
              type: int
              returned: always
            uuid:
              description: The GPU's UUID. Null for one that does not answer.
              type: str
              returned: always
            name:
              description: Product name.
              type: str
              returned: always
              sample: NVIDIA H200
            compute_capability:
              description: CUDA compute capability, C(major.minor).
              type: str
              returned: always
              sample: "9.0"
            pci_address:
              description: PCI address as sysfs writes it.
              type: str
              returned: always
              sample: "0000:00:06.0"
            memory_total_bytes:
              description: Memory in bytes.
              type: int
              returned: always
            memory_used_bytes:
              description: Memory in use, in bytes, without what the driver reserves (NVML's memory version 2).
              type: int
              returned: always
            mig_enabled:
              description: Whether the GPU is in MIG mode now.
              type: bool
              returned: always
            temperature_c:
              description: Temperature of the chip in degrees Celsius.
              type: int
              returned: always
            power_limit_w:
              description: Power limit in watts.
              type: float
              returned: always
            ecc_uncorrected:
              description: Uncorrected memory errors since the driver was loaded, a count.
              type: int
              returned: always
            row_remap_failure:
              description: Whether remapping a bad memory row has failed.
              type: bool
              returned: always
            processes:
              description: Process ids that compute on it, sorted.
              type: list
              elements: int
              returned: always
            healthy:
              description: It answers, has no failed row remapping and no uncorrected memory error.
              type: bool
              returned: always
        pci_devices:
          description: Cards of NVIDIA, AMD and Huawei Ascend on the PCI bus, with or without a driver, by address.
          type: list
          elements: dict
          returned: always
          contains:
            vendor:
              description: V(nvidia), V(amd) or V(ascend). The last two are not served by this collection yet.
              type: str
              returned: always
            vendor_id:
              description: PCI vendor id.
              type: str
              returned: always
              sample: "0x10de"
            device_id:
              description: PCI device id.
              type: str
              returned: always
              sample: "0x2335"
            address:
              description: PCI address.
              type: str
              returned: always
        nouveau_loaded:
          description: Whether the kernel runs nouveau, which keeps NVIDIA's driver from loading.
          type: bool
          returned: always
        acceptance:
          description: The verdict in O(acceptance_file). Null where there is none that can be read.
          type: dict
          returned: always
        acceptance_now:
          description:
            - The verdict that these facts give, of the same form. Its C(date) is that of
              RV(ansible_facts.idc_llm_gpu.acceptance) where nothing else differs, so that writing it again changes
              nothing.
          type: dict
          returned: always
          contains:
            schema:
              description: Version of this layout.
              type: int
              returned: always
            accepted:
              description: Whether all checks hold.
              type: bool
              returned: always
            checks:
              description: C(name), C(ok), C(observed) and C(wanted) of each check.
              type: list
              elements: dict
              returned: always
            driver_version:
              description: The driver that was judged.
              type: str
              returned: always
            gpu_uuids:
              description: The GPUs that were judged, sorted.
              type: list
              elements: str
              returned: always
            date:
              description: When, in UTC, ISO 8601.
              type: str
              returned: always
"""

import json
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils._acceptance import FILE, verdict
from ansible_collections.idc.llm.plugins.module_utils._gpu import (
    BINDING_PATH,
    NvmlReader,
    load_binding,
    nouveau_loaded,
    read_pci,
    summary,
)


def gather(binding_path: str, acceptance_file: str, now: str, sysfs: str = "/sys") -> dict[str, Any]:
    """The facts under idc_llm_gpu; ``now`` is an ISO 8601 time."""
    view = NvmlReader(load_binding(binding_path)).read()
    cards = read_pci(sysfs)
    nouveau = nouveau_loaded(sysfs)
    previous = read_verdict(acceptance_file)
    return dict(
        view.as_dict(),
        summary=summary(view, cards, nouveau),
        pci_devices=[asdict(card) for card in cards],
        nouveau_loaded=nouveau,
        acceptance=previous,
        acceptance_now=verdict(view, previous, now),
    )


def read_verdict(path: str) -> dict[str, Any] | None:
    """The verdict file's mapping; None where it is absent, unreadable or something else."""
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "binding_path": {"type": "path", "default": BINDING_PATH},
            "acceptance_file": {"type": "path", "default": FILE},
            "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
        },
        supports_check_mode=True,
    )
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    facts = gather(module.params["binding_path"], module.params["acceptance_file"], now)
    module.exit_json(changed=False, ansible_facts={"idc_llm_gpu": facts})


if __name__ == "__main__":
    main()
