# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader of GPUs against a small stand-in for the C library's answers; whole machines are in test_gpu_machines."""
from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._gpu import (
    RECOVERIES,
    Gpu,
    NvmlReader,
    subsets,
)
from ansible_collections.idc.llm.plugins.module_utils._nvml import load_binding

GIB = 1 << 30
FIELDS = {"NVML_FI_DEV_ECC_CURRENT": (1, 1), "NVML_FI_DEV_ECC_PENDING": (2, 1), "NVML_FI_DEV_ECC_SBE_VOL_TOTAL": (3, 4),
          "NVML_FI_DEV_ECC_DBE_VOL_TOTAL": (4, 0), "NVML_FI_DEV_ECC_SBE_AGG_TOTAL": (5, 9),
          "NVML_FI_DEV_ECC_DBE_AGG_TOTAL": (6, 1), "NVML_FI_DEV_RETIRED_PENDING": (31, None),
          "NVML_FI_DEV_REMAPPED_COR": (142, 2), "NVML_FI_DEV_REMAPPED_UNC": (143, 1),
          "NVML_FI_DEV_REMAPPED_PENDING": (144, 0), "NVML_FI_DEV_REMAPPED_FAILURE": (145, 0),
          "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION": (230, 0)}


class NvmlError(Exception):
    """As pynvml.NVMLError: carries the C library's number."""

    def __init__(self, value):
        self.value = value
        super().__init__(f"nvml error {value}")


class Fabric(ctypes.Structure):
    """The part of pynvml's structure that is read."""

    _fields_ = [("clusterUuid", ctypes.c_uint8 * 16), ("status", ctypes.c_uint), ("cliqueId", ctypes.c_uint32),
                ("state", ctypes.c_uint)]


def field_values(**changed):
    """nvmlDeviceGetFieldValues with the values above; None is an answer of NotSupported."""
    values = {number: changed.get(name[12:], value) for name, (number, value) in FIELDS.items()}

    def call(_handle, wanted):
        rows = [values.get(number) for number in wanted]
        return [SimpleNamespace(nvmlReturn=3 if value is None else 0, valueType=3, value=SimpleNamespace(ullVal=value))
                for value in rows]

    return call


def binding(gpus=1, init=None, **overrides):
    """A binding of a healthy host with ``gpus`` cards; an override that is a number is an error of that call."""

    def fail(number):
        def call(*_args):
            raise NvmlError(number)

        return call

    def memory(_handle, version=None):
        # what the real card does: version 1 counts the reserved part as used
        return SimpleNamespace(total=140 * GIB, used=0, reserved=GIB) if version else SimpleNamespace(total=140 * GIB, used=GIB)

    def fabric(_handle, pointer):
        info = pointer._obj
        info.state, info.cliqueId, info.clusterUuid[:] = 3, 7, range(16)
        return 0

    names = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.159.04",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 13000,
        "nvmlSystemGetNVMLVersion": lambda: b"13.580.159.04",
        "nvmlDeviceGetCount": lambda: gpus,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
        "nvmlDeviceGetName": lambda handle: b"NVIDIA H200",
        "nvmlDeviceGetArchitecture": lambda handle: 9,
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetPciInfo": lambda handle: SimpleNamespace(busId=f"00000000:0{handle}:06.0", pciDeviceId=0x233510DE),
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetMigMode": lambda handle: [0, 0],
        "nvmlDeviceGetMaxMigDeviceCount": lambda handle: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": fail(6),
        "nvmlDeviceGetFieldValues": field_values(),
        "nvmlDeviceGetTotalEccErrors": lambda handle, kind, counter: 0,
        "nvmlDeviceGetRemappedRows": lambda handle: (0, 0, 0, 0),
        "nvmlDeviceGetGpuFabricInfoV": fabric,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
            SimpleNamespace(pid=7, usedGpuMemory=None), SimpleNamespace(pid=3, usedGpuMemory=2 * GIB)],
        "nvmlDeviceGetPowerUsage": lambda handle: 103129,
        "nvmlDeviceGetPowerManagementLimit": lambda handle: 700000,
        "nvmlDeviceGetPowerManagementLimitConstraints": lambda handle: [200000, 700000],
        "nvmlDeviceGetPowerManagementDefaultLimit": lambda handle: 700000,
        "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 375, 2: 3201}[kind],
        "nvmlDeviceGetMaxClockInfo": lambda handle, kind: {1: 1980, 2: 3201}[kind],
        "nvmlDeviceGetCurrPcieLinkGeneration": lambda handle: 4,
        "nvmlDeviceGetMaxPcieLinkGeneration": lambda handle: 5,
        "nvmlDeviceGetCurrPcieLinkWidth": lambda handle: 8,
        "nvmlDeviceGetMaxPcieLinkWidth": lambda handle: 16,
        "nvmlDeviceGetPcieReplayCounter": lambda handle: 0,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 31,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0b1000101,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 1,
        "nvmlDeviceGetPersistenceMode": lambda handle: 1,
        "nvmlDeviceGetNvLinkState": fail(3),
        "nvmlDeviceGetTopologyCommonAncestor": lambda one, other: 20,
    }
    if init is not None:
        names["nvmlInit"] = fail(init)
    names.update({name: fail(value) if isinstance(value, int) else value for name, value in overrides.items()})
    numbers = {name: number for name, (number, _value) in FIELDS.items()}
    return SimpleNamespace(NVMLError=NvmlError, NVML_ERROR_LIBRARY_NOT_FOUND=12, nvmlMemory_v2=0x2000028,
                           c_nvmlGpuFabricInfoV_t=Fabric, **numbers, **names)


def only(gpu_binding, **arguments):
    return NvmlReader(gpu_binding, **arguments).read().gpus[0]


WHOLE = Gpu(
    index=1,
    uuid="GPU-1",
    name="NVIDIA H200",
    architecture="hopper",
    compute_capability="9.0",
    pci_address="0000:01:06.0",
    pci_device_id="0x2335",
    numa_node=1,
    memory_total_bytes=140 * GIB,
    memory_reserved_bytes=GIB,
    memory_used_bytes=0,
    mig_enabled=False,
    mig_pending=False,
    ecc_enabled=True,
    ecc_pending=True,
    ecc_corrected=4,
    ecc_uncorrected=0,
    ecc_corrected_aggregate=9,
    ecc_uncorrected_aggregate=1,
    remapped_rows={"correctable": 2, "uncorrectable": 1, "pending": False, "failed": False},
    row_remap_failure=False,
    retired_pages_pending=None,
    recovery_action="none",
    fabric={"state": "completed", "status": 0, "clique_id": 7, "cluster_uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f"},
    processes=({"pid": 3, "memory_bytes": 2 * GIB, "unit": "idc-vllm@r1-blue-0.service"},
               {"pid": 7, "memory_bytes": None, "unit": None}),
    power_draw_w=103.129,
    power_limit_w=700.0,
    power_min_w=200.0,
    power_max_w=700.0,
    power_default_w=700.0,
    clocks={"sm_mhz": 375, "sm_max_mhz": 1980, "memory_mhz": 3201, "memory_max_mhz": 3201},
    pcie={"generation": 4, "generation_max": 5, "width": 8, "width_max": 16, "replays": 0},
    temperature_c=31,
    throttle_reasons=("idle", "power_cap", "hw_thermal"),
    persistence=True,
    healthy=True,
)
OF_HEALTH = {"power_draw_w", "power_limit_w", "power_min_w", "power_max_w", "power_default_w", "clocks",
             "temperature_c", "throttle_reasons", "persistence"}


@pytest.fixture
def trees(tmp_path):
    """sysfs and proc folders as arguments of the reader: a NUMA node, a process in a unit."""
    card = tmp_path / "sys/bus/pci/devices/0000:01:06.0"
    card.mkdir(parents=True)
    (card / "numa_node").write_text("1\n")
    (tmp_path / "proc/3").mkdir(parents=True)
    (tmp_path / "proc/3/cgroup").write_text("0::/system.slice/idc-vllm@r1-blue-0.service\n")
    return {"sysfs": str(tmp_path / "sys"), "proc": str(tmp_path / "proc")}


def test_a_healthy_host_is_read_in_full(trees):
    view = NvmlReader(binding(gpus=2), **trees).read()
    assert (view.state, view.detail) == ("ok", None)
    assert (view.driver_version, view.cuda_version, view.nvml_version) == ("580.159.04", "13.0", "13.580.159.04")
    assert view.gpus[1] == WHOLE
    assert view.topology.matrix == (("X", "PXB"), ("PXB", "X"))
    assert view.as_dict()["gpus"][0]["throttle_reasons"] == ["idle", "power_cap", "hw_thermal"]
    assert view.as_dict()["topology"]["matrix"] == [["X", "PXB"], ["PXB", "X"]]


@pytest.mark.parametrize(
    ("wish", "gathered"),
    [
        (["all"], ("summary", "topology", "health", "rdma")),
        (["summary"], ("summary",)),
        ([], ("summary",)),
        (["rdma", "health"], ("summary", "health", "rdma")),
    ],
)
def test_what_a_wish_gathers(wish, gathered):
    assert subsets(wish) == gathered


def test_the_summary_alone_knows_all_but_the_counters_and_the_topology(trees):
    view = NvmlReader(binding(gpus=2), gather=["summary"], **trees).read()
    assert view.gpus[1] == replace(WHOLE, **dict.fromkeys(OF_HEALTH))
    assert view.topology is None
    assert NvmlReader(binding(gpus=2), gather=["topology"], **trees).read().topology is not None


def test_counters_and_links_are_not_asked_for_when_not_wanted():
    asked = []
    names = {name: lambda *_a, name=name: asked.append(name) for name in vars(binding()) if name.startswith("nvmlDeviceGet")}
    listed = {name: getattr(binding(), name) for name in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetCount")}
    NvmlReader(binding(**{**names, **listed}), gather=["summary"]).read()
    assert [n for n in asked if "Power" in n or "Clock" in n or "NvLink" in n or "Topology" in n] == []
    assert asked.count("nvmlDeviceGetFieldValues") == 1


@pytest.mark.parametrize(("number", "state"), [(12, "no_library"), (9, "no_driver"), (18, "no_driver")])
def test_a_host_where_nvml_does_not_start(number, state):
    view = NvmlReader(binding(init=number)).read()
    assert (view.state, view.detail, view.gpus) == (state, f"nvml error {number}", ())


def test_a_host_without_binding():
    assert NvmlReader(None).read().state == "no_binding"


def test_a_driver_without_devices():
    view = NvmlReader(binding(gpus=0)).read()
    assert (view.state, view.driver_version, view.gpus, view.topology) == ("no_devices", "580.159.04", (), None)


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("nvmlDeviceGetName", {"name"}),
        ("nvmlDeviceGetArchitecture", {"architecture"}),
        ("nvmlDeviceGetCudaComputeCapability", {"compute_capability"}),
        ("nvmlDeviceGetPciInfo", {"pci_address", "pci_device_id", "numa_node"}),
        ("nvmlDeviceGetMemoryInfo", {"memory_total_bytes", "memory_reserved_bytes", "memory_used_bytes"}),
        ("nvmlDeviceGetMigMode", {"mig_enabled", "mig_pending"}),
        ("nvmlDeviceGetGpuFabricInfoV", {"fabric"}),
        ("nvmlDeviceGetComputeRunningProcesses", {"processes"}),
        ("nvmlDeviceGetPowerUsage", {"power_draw_w"}),
        ("nvmlDeviceGetPowerManagementLimit", {"power_limit_w"}),
        ("nvmlDeviceGetPowerManagementLimitConstraints", {"power_min_w", "power_max_w"}),
        ("nvmlDeviceGetPowerManagementDefaultLimit", {"power_default_w"}),
        ("nvmlDeviceGetTemperature", {"temperature_c"}),
        ("nvmlDeviceGetPersistenceMode", {"persistence"}),
    ],
)
@pytest.mark.parametrize("number", [3, 4])  # NotSupported, NoPermission
def test_a_call_that_fails_makes_its_fields_null_and_no_others(trees, call, fields, number):
    gpu = NvmlReader(binding(gpus=2, **{call: number}), **trees).read().gpus[1]
    assert gpu == replace(WHOLE, **dict.fromkeys(fields))


def test_a_part_of_a_field_is_null_alone():
    gpu = only(binding(nvmlDeviceGetPcieReplayCounter=3, nvmlDeviceGetClockInfo=3))
    assert gpu.pcie == {"generation": 4, "generation_max": 5, "width": 8, "width_max": 16, "replays": None}
    assert gpu.clocks == {"sm_mhz": None, "sm_max_mhz": 1980, "memory_mhz": None, "memory_max_mhz": 3201}


def test_an_old_driver_is_asked_by_the_older_names():
    gpu = only(binding(nvmlDeviceGetCurrentClocksEventReasons=13))
    assert gpu.throttle_reasons == ("idle",)
    assert only(binding(nvmlDeviceGetCurrentClocksEventReasons=13, nvmlDeviceGetCurrentClocksThrottleReasons=13)
                ).throttle_reasons is None


def test_memory_of_version_1_gives_the_total_only():
    old = binding()
    del old.nvmlMemory_v2
    gpu = only(old)
    assert (gpu.memory_total_bytes, gpu.memory_reserved_bytes, gpu.memory_used_bytes) == (140 * GIB, None, None)


@pytest.mark.parametrize("fields", [3, field_values(ECC_DBE_VOL_TOTAL=None, REMAPPED_FAILURE=None)])
def test_where_fields_are_silent_the_calls_that_decide_health_are_made(fields):
    gpu = only(binding(nvmlDeviceGetFieldValues=fields, nvmlDeviceGetTotalEccErrors=lambda handle, kind, counter: 5,
                       nvmlDeviceGetRemappedRows=lambda handle: (1, 2, 0, 1)))
    assert gpu.ecc_uncorrected == 5
    assert gpu.remapped_rows == {"correctable": 1, "uncorrectable": 2, "pending": False, "failed": True}
    assert gpu.row_remap_failure is True and not gpu.healthy


def test_a_card_that_tells_nothing_about_its_memory_is_not_thought_sick():
    gpu = only(binding(nvmlDeviceGetFieldValues=3, nvmlDeviceGetTotalEccErrors=3, nvmlDeviceGetRemappedRows=3))
    assert (gpu.ecc_enabled, gpu.ecc_uncorrected, gpu.remapped_rows, gpu.row_remap_failure) == (None,) * 4
    assert gpu.healthy


def test_a_binding_that_lacks_a_name_makes_its_field_null():
    old = binding()
    del old.nvmlDeviceGetArchitecture, old.c_nvmlGpuFabricInfoV_t, old.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
    gpu = only(old)
    assert (gpu.architecture, gpu.fabric, gpu.recovery_action) == (None, None, None)
    assert (gpu.ecc_corrected, gpu.healthy) == (4, True)


def test_what_this_code_does_not_know_is_null_or_a_number():
    gpu = only(binding(nvmlDeviceGetArchitecture=lambda handle: 99,
                       nvmlDeviceGetFieldValues=field_values(GET_GPU_RECOVERY_ACTION=42)))
    assert (gpu.architecture, gpu.recovery_action) == (None, "action 42")
    assert gpu.health_reasons == ("the driver asks for: action 42",)


def test_mig_instances_are_listed():
    def part(_handle, number):
        if number != 2:
            return f"{_handle}/{number}"
        raise NvmlError(6)

    gpu = only(binding(nvmlDeviceGetMigMode=lambda handle: [1, 0], nvmlDeviceGetMaxMigDeviceCount=lambda handle: 4,
                       nvmlDeviceGetMigDeviceHandleByIndex=part))
    assert (gpu.mig_enabled, gpu.mig_pending, gpu.healthy) == (True, False, True)
    assert [row["uuid"] for row in gpu.mig_instances] == ["GPU-0/0", "GPU-0/1", "GPU-0/3"]
    assert gpu.mig_instances[0] == {"uuid": "GPU-0/0", "name": "NVIDIA H200", "memory_bytes": 140 * GIB}


def test_a_process_of_several_mig_instances_is_one_row():
    rows = [SimpleNamespace(pid=3, usedGpuMemory=GIB), SimpleNamespace(pid=3, usedGpuMemory=2 * GIB)]
    processes = only(binding(nvmlDeviceGetComputeRunningProcesses=lambda handle: rows)).processes
    assert [(row["pid"], row["memory_bytes"]) for row in processes] == [(3, 3 * GIB)]


@pytest.mark.parametrize(
    ("number", "reason"), [(15, "does not answer (fallen off the bus)"), (16, "does not answer: reset the GPU"),
                           (4, "does not answer")])
def test_a_gpu_that_does_not_answer_is_listed_and_not_healthy(number, reason):
    def handle(index):
        if index == 0:
            raise NvmlError(number)
        return index

    view = NvmlReader(binding(gpus=2, nvmlDeviceGetHandleByIndex=handle)).read()
    assert view.gpus[0] == Gpu(index=0, health_reasons=(reason,))
    assert [gpu.healthy for gpu in view.gpus] == [False, True]
    assert view.topology.matrix == (("X", None), (None, "X"))


@pytest.mark.parametrize(
    ("number", "reason"), [(15, "does not answer (fallen off the bus)"), (16, "does not answer: reset the GPU")])
def test_a_gpu_that_is_lost_is_found_out_also_when_its_name_is_still_known(number, reason):
    gpu = only(binding(nvmlDeviceGetMemoryInfo=number, nvmlDeviceGetFieldValues=number))
    assert (gpu.uuid, gpu.healthy, gpu.health_reasons) == ("GPU-0", False, (reason,))


def test_a_field_that_says_lost_is_enough():
    def lost(_handle, wanted):
        return [SimpleNamespace(nvmlReturn=15, valueType=0, value=None) for _number in wanted]

    assert only(binding(nvmlDeviceGetFieldValues=lost)).health_reasons == ("does not answer (fallen off the bus)",)


def test_nvml_is_shut_down_again():
    calls = []
    NvmlReader(binding(nvmlShutdown=lambda: calls.append("down"))).read()
    assert calls == ["down"]


def test_the_binding_is_found_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    assert load_binding(str(tmp_path / "nothing")) is None
    (tmp_path / "pynvml.py").write_text("MARK = 1\n")
    assert load_binding(str(tmp_path)).MARK == 1
    sys.modules.pop("pynvml")


def test_the_real_binding_without_a_driver_is_a_state():
    pynvml = pytest.importorskip("pynvml")
    assert NvmlReader(pynvml).read().state in ("no_library", "no_driver", "no_devices", "ok")


def test_the_stand_in_has_only_names_that_the_real_binding_has():
    pynvml = pytest.importorskip("pynvml")
    assert [name for name in vars(binding()) if not hasattr(pynvml, name)] == []
    assert {name: getattr(pynvml, name) for name in FIELDS} == {name: number for name, (number, _v) in FIELDS.items()}
    assert {name for name, _kind in Fabric._fields_} <= {name for name, *_rest in pynvml.c_nvmlGpuFabricInfoV_t._fields_}
    assert pynvml.NVML_ERROR_LIBRARY_NOT_FOUND == binding().NVML_ERROR_LIBRARY_NOT_FOUND
    assert (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED) == (15, 16)
    assert (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC, pynvml.NVML_TEMPERATURE_GPU) == (1, 0, 0)
    assert pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN).value == pynvml.NVML_ERROR_UNKNOWN
    actions = [getattr(pynvml, "NVML_GPU_RECOVERY_ACTION_" + word.upper()) for word in RECOVERIES]
    assert actions == list(range(len(RECOVERIES)))
