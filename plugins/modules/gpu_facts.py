#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about a host's accelerators. Thin over module_utils/_gpu, _host, _rdma and _acceptance."""
from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
short_description: Facts about a host's accelerators
version_added: 0.1.0
author:
  - The idc.llm founders (@idc-llm)
description:
  - Asks NVML through nvidia-ml-py (the Python module C(pynvml)), and sysfs and procfs for all that needs no driver.
  - A host without GPU, driver, library or Python module is a success. RV(ansible_facts.idc_llm_gpu.state) says which.
  - One NVML call that fails makes that field null. A GPU that does not answer is listed and is not healthy.
  - No program is run and nothing is written.
extends_documentation_fragment:
  - idc.llm._common
  - idc.llm._acceptance
options:
  gather:
    description:
      - What to look at. V(summary) is always looked at, whatever is named. It is what the plan and acceptance need
        (identity, memory, MIG, memory errors, processes, health, PCIe link, cards on the PCI bus, host, store).
      - V(topology) adds NVLink, NVSwitch and PCIe between the GPUs. V(health) adds power, clocks, temperature, throttling
        and persistence mode. V(rdma) adds RDMA devices and RV(ansible_facts.idc_llm_gpu.nccl). V(all) is all of it.
    type: list
    elements: str
    choices: [summary, topology, health, rdma, all]
    default: [all]
  address:
    description:
      - The IPv4 address that this host's engines listen on. The interface that has it goes into C(NCCL_SOCKET_IFNAME) and
        C(GLOO_SOCKET_IFNAME).
      - Without it, or where no interface has it, the interface of the default route is taken.
    type: str
  store_path:
    description: Path of the model store. Its filesystem is reported, or that of the nearest parent that exists.
    type: path
    default: /var/lib/idc_llm/store
  nccl_debug:
    description: How much NCCL shall log, for C(NCCL_DEBUG). V(INFO) is for finding a fault, it writes much.
    type: str
    choices: [WARN, INFO]
    default: WARN
  binding_path:
    description: Folder where C(pynvml.py) lies if Python does not find it by itself.
    type: path
    default: /usr/local/lib/idc_llm
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
notes:
  - C(NCCL_IB_TC) on RoCE is the traffic class that the administrator has set for the ports, where the RDMA driver tells
    it (MLNX_OFED and DOCA, C(/sys/class/infiniband/DEVICE/tc/PORT/traffic_class)) and all chosen ports agree. Else it is
    106, which is DSCP 26 with ECN, the mark that NVIDIA's guides give to the lossless class of a RoCE fabric. NCCL's own
    default is 0, best effort. A fabric whose switches keep another mark lossless needs that one, so set it on the ports.
"""

EXAMPLES = r"""
- name: See the accelerators
  idc.llm.gpu_facts:

- name: Say how many there are
  ansible.builtin.debug:
    msg: "{{ ansible_facts['idc_llm_gpu'].gpus | length }} GPUs"

- name: Only what decides whether the host may serve
  idc.llm.gpu_facts:
    gather: [summary]

- name: See what engines that span hosts should be told, with NCCL's own log
  idc.llm.gpu_facts:
    gather: [rdma]
    address: "{{ idc_llm_address }}"
    nccl_debug: INFO

- name: Name the GPUs that must not be used, and why
  ansible.builtin.debug:
    msg: "GPU {{ item.index }}: {{ item.health_reasons | join(', ') }}"
  loop: "{{ ansible_facts['idc_llm_gpu'].gpus | rejectattr('healthy') }}"
  loop_control:
    label: "{{ item.index }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts, under one key.
  returned: always
  type: dict
  contains:
    idc_llm_gpu:
      description: The host's accelerators. A field is null where it is not known, its call failed or its subset was not gathered.
      type: dict
      returned: always
      contains:
        state: {type: str,
          description: "V(ok) with at least one GPU, V(no_devices) where the driver answers and has none, V(no_driver) where it does
            not answer, V(no_library) without C(libnvidia-ml.so.1), V(no_binding) without C(pynvml)."}
        detail: {description: "Why the state is not V(ok), as NVML says it. Null when it is.", type: str}
        summary:
          description: All of it in one line for a person.
          type: str
          sample: >-
            driver 580.159.04, 8 GPU (NVIDIA H200, 140 GiB), NVLink, 8 in one domain, 8 RDMA ports; cards on the PCI bus: 8
            nvidia H200 SXM; nouveau not loaded
        gathered: {description: "What was looked at, of V(summary), V(topology), V(health), V(rdma).", type: list, elements: str}
        driver_version: {description: "Version of the kernel driver. Null if unknown.", type: str, sample: 580.159.04}
        cuda_version: {description: "Highest CUDA version that the driver serves. Null if unknown.", type: str, sample: "13.0"}
        nvml_version: {description: "Version of the NVML library. Null if unknown.", type: str, sample: 13.580.159.04}
        gpus:
          description: One row per GPU of the driver, by NVML index.
          type: list
          elements: dict
          contains:
            index: {description: "NVML's index.", type: int}
            uuid: {description: "The GPU's UUID. Null for one that does not answer.", type: str}
            serial: {description: "The board's serial number, as on its label. Null where the driver tells none.", type: str}
            name: {description: "Product name.", type: str, sample: NVIDIA H200}
            architecture: {type: str,
              description: "V(volta), V(turing), V(ampere), V(ada), V(hopper), V(blackwell) and so on. Null for one that is not
                known."}
            compute_capability: {description: "CUDA compute capability, C(major.minor).", type: str, sample: "9.0"}
            pci_address: {description: "PCI address as sysfs writes it.", type: str, sample: "0000:06:00.0"}
            pci_device_id: {description: "PCI device id without the vendor, lower case.", type: str, sample: "0x2335"}
            numa_node: {description: "NUMA node that the card sits at. Null where the kernel says that it has none.", type: int}
            memory_total_bytes: {description: "Memory in bytes, with what the driver reserves.", type: int, sample: 150754820096}
            memory_reserved_bytes: {description: "Memory that the driver and firmware keep, in bytes.", type: int}
            memory_used_bytes: {type: int,
              description: "Memory in use, in bytes, without what the driver reserves (NVML's memory version 2)."}
            mig_enabled: {description: "Whether the GPU is in MIG mode now. Null where it has none.", type: bool}
            mig_pending: {description: "Whether it will be in MIG mode after its next reset.", type: bool}
            mig_instances:
              description: The MIG devices of the GPU. Empty without MIG.
              type: list
              elements: dict
              contains:
                uuid: {description: "The MIG device's UUID.", type: str}
                name: {description: "Its name.", type: str, sample: NVIDIA H100 80GB HBM3 MIG 3g.40gb}
                memory_bytes: {description: "Its memory in bytes.", type: int}
            ecc_enabled: {description: "Whether ECC is on now.", type: bool}
            ecc_pending: {description: "Whether ECC will be on after the next reset.", type: bool}
            ecc_corrected: {description: "Corrected memory errors since the driver was loaded, a count.", type: int}
            ecc_uncorrected: {description: "Uncorrected memory errors since the driver was loaded, a count.", type: int}
            ecc_corrected_aggregate: {description: "Corrected memory errors of the card's life, a count.", type: int}
            ecc_uncorrected_aggregate: {description: "Uncorrected memory errors of the card's life, a count.", type: int}
            remapped_rows:
              description: Memory rows that were replaced by spare ones. Null before Ampere.
              type: dict
              contains:
                correctable: {description: "Rows remapped because of corrected errors, a count.", type: int}
                uncorrectable: {description: "Rows remapped because of uncorrected errors, a count.", type: int}
                pending: {description: "Whether a remapping waits for a reset.", type: bool}
                failed: {description: "Whether a remapping has failed.", type: bool}
            row_remap_failure: {description: "Whether remapping a bad memory row has failed, as C(failed) above.", type: bool}
            retired_pages_pending: {type: bool,
              description: "Whether retiring a memory page waits for a reset. Null on cards that remap rows."}
            recovery_action: {type: str,
              description: "What the driver wants done, V(none), V(gpu_reset), V(node_reboot), V(drain_p2p), V(drain_and_reset) and
                so on. Null where the driver is too old to tell."}
            fabric:
              description: Registration with the NVLink fabric. Null where the card does not tell (before Hopper).
              type: dict
              contains:
                state: {type: str,
                  description: "V(not_supported), V(not_started), V(in_progress) or V(completed). Null for one that is not known."}
                status: {description: "NVML's result code of the registration, 0 is success. Counts when V(completed).", type: int}
                clique_id: {description: "GPUs with the same clique and cluster reach each other over NVLink.", type: int}
                cluster_uuid: {description: "The fabric's UUID. Null where there is none.", type: str}
            processes:
              description: Processes that compute on it, by process id.
              type: list
              elements: dict
              contains:
                pid: {description: "Process id on the host.", type: int}
                memory_bytes: {description: "GPU memory it uses, in bytes. Null where NVML does not say.", type: int}
                unit: {type: str, sample: idc-vllm@r1-blue-0.service,
                  description: "The systemd unit it runs in; an engine in a container counts as its unit. Null where nobody knows."}
            power_draw_w: {type: float,
              description: "Power drawn in watts. From V(health), as all that follows up to C(persistence)."}
            power_limit_w: {description: "Power limit in watts.", type: float}
            power_min_w: {description: "Lowest limit that can be set, in watts.", type: float}
            power_max_w: {description: "Highest limit that can be set, in watts.", type: float}
            power_default_w: {description: "Limit after a reset, in watts.", type: float}
            clocks:
              description: Clocks in MHz.
              type: dict
              contains:
                sm_mhz: {description: "The processors' clock now.", type: int}
                sm_max_mhz: {description: "Their highest.", type: int}
                memory_mhz: {description: "The memory's clock now.", type: int}
                memory_max_mhz: {description: "Its highest.", type: int}
            pcie:
              description: The PCIe link. An idle card may run at a lower generation.
              type: dict
              contains:
                generation: {description: "PCIe generation now.", type: int}
                generation_max: {description: "What card and slot can do together.", type: int}
                width: {description: "Lanes now.", type: int}
                width_max: {description: "What card and slot can do together, in lanes.", type: int}
                replays: {description: "Packets sent again since the driver was loaded, a count.", type: int}
            temperature_c: {description: "Temperature of the chip in degrees Celsius.", type: int}
            throttle_reasons: {type: list, elements: str,
              description: "Why the clock is not higher now. Of V(idle), V(app_clocks), V(power_cap), V(hw_slowdown), V(sync_boost),
                V(sw_thermal), V(hw_thermal), V(hw_power_brake), V(display_clocks)."}
            persistence: {type: bool,
              description: "Whether persistence mode is on, so that the driver stays loaded without a client."}
            healthy: {description: "Whether it may be used, that is, C(health_reasons) is empty.", type: bool}
            health_reasons: {type: list, elements: str, sample: ["row remapping failed"],
              description: "Why it must not be used, one sentence each."}
        topology:
          description: How the GPUs reach each other. Null without GPUs or where V(topology) was not gathered.
          type: dict
          contains:
            link: {type: str,
              description: "V(nvlink) where NVLink joins at least two GPUs, V(pcie) where none are joined so, null with less than
                two GPUs."}
            matrix: {type: list, elements: list,
              description: "Rows and columns by GPU index. V(X) on the diagonal, C(NV) and the number of NVLinks, or the way over
                PCIe as C(nvidia-smi topo -m) says it. That is V(PIX) for one switch, V(PXB) several, V(PHB) the host bridge,
                V(NODE) the NUMA node, V(SYS) between sockets. Null for a GPU that does not answer."}
            links: {type: list, elements: list,
              description: "By GPU index, one row per NVLink with C(link) (its number), C(active), C(remote) (V(nvswitch), V(npu),
                C(gpu) and an index, or null) and C(errors) (counts C(crc), C(replay), C(recovery), or null). Empty without
                NVLink."}
            domains: {type: list, elements: list, sample: [[0, 1, 2, 3, 4, 5, 6, 7]],
              description: "Indices of GPUs that reach each other over NVLink, directly, through NVSwitch or through each other.
                Groups of two or more."}
            nvswitch: {description: "Whether any GPU is connected to an NVSwitch.", type: bool}
        rdma:
          description: One row per port of an RDMA device. Empty where V(rdma) was not gathered.
          type: list
          elements: dict
          contains:
            device: {description: "Name of the device.", type: str, sample: mlx5_0}
            port: {description: "Number of the port.", type: int}
            link_layer: {description: "V(InfiniBand) or V(Ethernet) (RoCE).", type: str}
            state: {description: "V(ACTIVE) when it can be used.", type: str}
            rate_gbps: {description: "Rate in Gbit/s.", type: float, sample: 400.0}
            netdev: {description: "Network interface of the port. Null without one.", type: str}
            numa_node: {description: "NUMA node that the card sits at. Null where it has none.", type: int}
            pci_address: {description: "PCI address. Null for one that is not on PCI.", type: str}
            gid_index_v2: {type: int,
              description: "Index of the GID for RoCE v2 over IPv4. Null on InfiniBand and without an IPv4 address."}
            traffic_class: {type: int,
              description: "Traffic class that the administrator has set for the port. Null where the driver does not tell."}
            distance: {description: "How near the nearest GPUs are, in the words of the matrix. Null without GPUs.", type: str}
            gpus: {type: list, elements: int,
              description: "Indices of those nearest GPUs. Empty where all are on another NUMA node."}
        nccl:
          description:
            - Environment for engines that span hosts, name to text. Empty where V(rdma) was not gathered. See the notes for
              C(NCCL_IB_TC).
          type: dict
          sample: {NCCL_DEBUG: WARN, NCCL_IB_HCA: "=mlx5_0:1,mlx5_1:1", NCCL_SOCKET_IFNAME: "=eth0", GLOO_SOCKET_IFNAME: eth0}
        pci_devices:
          description: Cards of NVIDIA, AMD and Huawei Ascend on the PCI bus, with or without a driver, by address.
          type: list
          elements: dict
          contains:
            vendor: {description: "V(nvidia), V(amd) or V(ascend).", type: str}
            vendor_id: {description: "PCI vendor id.", type: str, sample: "0x10de"}
            device_id: {description: "PCI device id.", type: str, sample: "0x2335"}
            address: {description: "PCI address.", type: str}
            numa_node: {description: "NUMA node that the card sits at. Null where it has none.", type: int}
            model: {type: str,
              description: "Product name, for NVIDIA from a table by device id, for AMD from its driver. Null where neither knows
                it."}
            memory_bytes: {description: "Memory in bytes, from the same source. Null where neither knows it.", type: int}
            served: {description: "Whether this collection serves models on this vendor's cards.", type: bool}
            note: {type: str,
              description: "What is to be said about it, V(not served by this collection yet) or V(not listed by the driver). Null
                if nothing is."}
        nouveau_loaded: {description: "Whether the kernel runs nouveau, which keeps NVIDIA's driver from loading.", type: bool}
        peermem_loaded: {type: bool,
          description: "Whether nvidia_peermem is loaded, by which RDMA cards reach GPU memory. Not needed where DMA-BUF is used."}
        iommu: {type: str,
          description: "V(off), V(passthrough) or V(translated) (slow between GPUs), of the cards' IOMMU groups. Null if unknown."}
        host:
          description: The host itself.
          type: dict
          contains:
            memory_total_bytes: {description: "Memory in bytes.", type: int}
            cpus: {description: "Processors that are online, threads counted.", type: int}
            numa_nodes: {description: "Number of NUMA nodes.", type: int}
        store:
          description: The filesystem at O(store_path). Null where it cannot be asked.
          type: dict
          contains:
            path: {description: "The path that was asked for.", type: str}
            filesystem: {description: "Its type. Null if unknown.", type: str, sample: xfs}
            mount: {description: "Where it is mounted. Null if unknown.", type: str}
            total_bytes: {description: "Its size in bytes.", type: int}
            free_bytes: {description: "What one who is not root can still write, in bytes.", type: int}
        acceptance_gpus: {description: "UUIDs of GPUs that can be measured, not those in MIG slices.", type: list, elements: str}
        idle: {description: "Whether no program uses the GPUs, as far as NVML shows.", type: bool}
        acceptance: {description: "The verdict in O(acceptance_file). Null where there is none that can be read.", type: dict}
        acceptance_now:
          description:
            - The verdict that these facts give, of the same form. Its C(date) is that of
              RV(ansible_facts.idc_llm_gpu.acceptance) where nothing else differs, so that writing it again changes nothing.
          type: dict
          contains:
            schema: {description: "Version of this layout.", type: int}
            accepted: {description: "Whether all checks hold.", type: bool}
            checks: {type: list, elements: dict,
              description: "C(name), C(ok), C(observed) and C(wanted) of each check, its C(kind), of a figure C(value) and C(least),
                and C(run), whether it could be tried."}
            driver_version: {description: "The driver that was judged.", type: str}
            gpu_uuids: {description: "The GPUs that were judged, sorted.", type: list, elements: str}
            measured: {description: "What was measured, part by part. Null where nothing was.", type: dict}
            due: {description: "Whether a measurement of the GPUs is wanted, none was made of these with this driver.", type: bool}
            due_beside: {description: "Whether one of the disk and by NVIDIA's programs is wanted.", type: bool}
            drift: {description: "Figures that were lower than in C(best).", type: list, elements: str}
            best: {description: "The last measurement that was accepted.", type: dict}
            date: {description: "When, in UTC, ISO 8601.", type: str}
"""

from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils import _gpu, _host, _rdma
from ansible_collections.idc.llm.plugins.module_utils._acceptance import ACCEPTANCE_ARGUMENTS, idle, verdict
from ansible_collections.idc.llm.plugins.module_utils._acceptance_checks import measurable
from ansible_collections.idc.llm.plugins.module_utils._nvml import BINDING_PATH, load_binding

ARGUMENTS: dict[str, Any] = {
    "gather": {"type": "list", "elements": "str", "choices": [*_gpu.SUBSETS, "all"], "default": ["all"]},
    "address": {"type": "str"},
    "store_path": {"type": "path", "default": "/var/lib/idc_llm/store"},
    "nccl_debug": {"type": "str", "choices": ["WARN", "INFO"], "default": "WARN"},
    "binding_path": {"type": "path", "default": BINDING_PATH},
    **ACCEPTANCE_ARGUMENTS,
    "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
}


def gather(given: Mapping[str, Any], now: str, sysfs: str = "/sys", proc: str = "/proc") -> dict[str, Any]:
    """The facts under idc_llm_gpu. given: the module's arguments; now: an ISO 8601 time."""
    view = _gpu.NvmlReader(load_binding(given["binding_path"]), given["gather"], sysfs, proc).read()
    gathered = _gpu.subsets(given["gather"])
    listed = [gpu.pci_address for gpu in view.gpus if gpu.pci_address] if view.state in ("ok", "no_devices") else None
    cards = _host.read_pci(sysfs, listed)
    nouveau, nccl = _host.nouveau_loaded(sysfs), {}
    ports: tuple[_rdma.Port, ...] = ()
    if "rdma" in gathered:
        ports = _rdma.read_rdma(sysfs, [gpu.pci_address for gpu in view.gpus])
        interface = _rdma.interface_of(given["address"], proc=proc)
        nccl = _rdma.nccl_environment(ports, interface, _rdma.link_speed(interface, sysfs), given["nccl_debug"])
    previous = _host.read_verdict(given["acceptance_file"])
    own = {figure: least for figure, least in (given["acceptance_thresholds"] or {}).items() if least is not None}
    asked = (given["acceptance_measured"], own, given["acceptance_measure"], given["acceptance_dcgm_level"])
    return dict(
        view.as_dict(),
        summary=_gpu.summary(view, cards, sum(port.state == "ACTIVE" for port in ports), nouveau),
        gathered=list(gathered),
        rdma=_gpu.plain([asdict(port) for port in ports]),
        nccl=nccl,
        pci_devices=[asdict(card) for card in cards],
        nouveau_loaded=nouveau,
        peermem_loaded=_host.peermem_loaded(sysfs),
        iommu=_host.iommu_state(sysfs, cards),
        host=_host.read_host(sysfs, proc),
        store=_host.read_store(given["store_path"], proc),
        acceptance=previous,
        acceptance_now=verdict(view, previous, now, *asked),
        acceptance_gpus=measurable(view),
        idle=idle(view),
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    module.exit_json(changed=False, ansible_facts={"idc_llm_gpu": gather(module.params, now)})


if __name__ == "__main__":
    main()
