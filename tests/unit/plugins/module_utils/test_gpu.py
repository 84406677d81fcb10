# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader against a small stand-in for the C library's answers; PCI cards from a tree of files."""
from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._gpu import (
    Gpu,
    NvmlReader,
    is_healthy,
    load_binding,
    nouveau_loaded,
    pci_address,
    read_pci,
    summary,
)

GIB = 1 << 30


class NvmlError(Exception):
    """As pynvml.NVMLError: carries the C library's number."""

    def __init__(self, value):
        self.value = value
        super().__init__(f"nvml error {value}")


def binding(gpus=1, init=None, **overrides):
    """A binding of a healthy host with ``gpus`` cards; an override that is a number is an error of that call."""

    def fail(number):
        def call(*_args):
            raise NvmlError(number)

        return call

    def memory(_handle, version=None):
        # what the real card does: version 1 counts the reserved part as used
        return SimpleNamespace(total=140 * GIB, used=0 if version else GIB)

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
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetPciInfo": lambda handle: SimpleNamespace(busId=f"00000000:0{handle}:06.0"),
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetMigMode": lambda handle: [0, 0],
        "nvmlDeviceGetTemperature": lambda handle, sensor: 31,
        "nvmlDeviceGetPowerManagementLimit": lambda handle: 700000,
        "nvmlDeviceGetTotalEccErrors": lambda handle, kind, counter: 0,
        "nvmlDeviceGetRemappedRows": lambda handle: (0, 0, 0, 0),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=7), SimpleNamespace(pid=3)],
    }
    if init is not None:
        names["nvmlInit"] = fail(init)
    names.update({name: fail(value) if isinstance(value, int) else value for name, value in overrides.items()})
    return SimpleNamespace(NVMLError=NvmlError, NVML_ERROR_LIBRARY_NOT_FOUND=12, nvmlMemory_v2=0x2000028, **names)


def test_a_healthy_host_is_read_in_full():
    view = NvmlReader(binding(gpus=2)).read()
    assert (view.state, view.detail) == ("ok", None)
    assert (view.driver_version, view.cuda_version, view.nvml_version) == ("580.159.04", "13.0", "13.580.159.04")
    assert view.gpus[1] == Gpu(
        index=1,
        uuid="GPU-1",
        name="NVIDIA H200",
        compute_capability="9.0",
        pci_address="0000:01:06.0",
        memory_total_bytes=140 * GIB,
        memory_used_bytes=0,
        mig_enabled=False,
        temperature_c=31,
        power_limit_w=700.0,
        ecc_uncorrected=0,
        row_remap_failure=False,
        processes=(3, 7),
        healthy=True,
    )
    assert view.as_dict()["gpus"][0]["processes"] == [3, 7]


@pytest.mark.parametrize(("number", "state"), [(12, "no_library"), (9, "no_driver"), (18, "no_driver")])
def test_a_host_where_nvml_does_not_start(number, state):
    view = NvmlReader(binding(init=number)).read()
    assert (view.state, view.detail, view.gpus) == (state, f"nvml error {number}", ())


def test_a_host_without_binding():
    assert NvmlReader(None).read().state == "no_binding"


def test_a_driver_without_devices():
    view = NvmlReader(binding(gpus=0)).read()
    assert (view.state, view.driver_version, view.gpus) == ("no_devices", "580.159.04", ())


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("nvmlDeviceGetName", "name"),
        ("nvmlDeviceGetMemoryInfo", "memory_used_bytes"),
        ("nvmlDeviceGetPciInfo", "pci_address"),
        ("nvmlDeviceGetMigMode", "mig_enabled"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetPowerManagementLimit", "power_limit_w"),
        ("nvmlDeviceGetTotalEccErrors", "ecc_uncorrected"),
        ("nvmlDeviceGetRemappedRows", "row_remap_failure"),
        ("nvmlDeviceGetComputeRunningProcesses", "processes"),
        ("nvmlDeviceGetCudaComputeCapability", "compute_capability"),
    ],
)
def test_a_call_that_fails_makes_its_field_null_and_no_other(call, field):
    whole = NvmlReader(binding()).read().gpus[0]
    gpu = NvmlReader(binding(**{call: 3})).read().gpus[0]
    assert getattr(whole, field) is not None
    assert getattr(gpu, field) is None
    assert (gpu.uuid, gpu.healthy) == ("GPU-0", True)


def test_a_call_that_an_old_binding_lacks_makes_its_field_null():
    old = binding()
    del old.nvmlDeviceGetRemappedRows
    assert NvmlReader(old).read().gpus[0].row_remap_failure is None


def test_a_gpu_fallen_off_the_bus_is_listed_and_not_healthy():
    def handle(index):
        if index == 0:
            raise NvmlError(15)
        return index

    view = NvmlReader(binding(gpus=2, nvmlDeviceGetHandleByIndex=handle)).read()
    assert view.gpus[0] == Gpu(index=0)
    assert [gpu.healthy for gpu in view.gpus] == [False, True]


def test_nvml_is_shut_down_again():
    calls = []
    NvmlReader(binding(nvmlShutdown=lambda: calls.append("down"))).read()
    assert calls == ["down"]


@pytest.mark.parametrize(
    ("fields", "healthy"),
    [
        ({}, True),
        ({"row_remap_failure": True}, False),
        ({"ecc_uncorrected": 2}, False),
        ({"row_remap_failure": None, "ecc_uncorrected": None}, True),
        ({"uuid": None}, False),
    ],
)
def test_what_healthy_means(fields, healthy):
    good = {"uuid": "GPU-0", "row_remap_failure": False, "ecc_uncorrected": 0}
    assert is_healthy(Gpu(index=0, **{**good, **fields})) is healthy


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


def test_bus_ids_are_written_as_sysfs_does():
    assert pci_address("00000000:4A:06.0") == "0000:4a:06.0"


def card(root, address, vendor, device, kind):
    folder = root / "bus" / "pci" / "devices" / address
    folder.mkdir(parents=True)
    for name, value in (("vendor", vendor), ("device", device), ("class", kind)):
        (folder / name).write_text(value + "\n")


def test_cards_are_known_by_pci_without_a_driver(tmp_path):
    card(tmp_path, "0000:b0:00.0", "0x19e5", "0xd802", "0x120000")  # Ascend
    card(tmp_path, "0000:02:00.0", "0x19e5", "0x1711", "0x030000")  # Huawei's management VGA
    card(tmp_path, "0000:06:00.0", "0x10de", "0x2335", "0x030200")  # H200
    card(tmp_path, "0000:07:00.0", "0x10de", "0x22a3", "0x068000")  # NVSwitch
    card(tmp_path, "0000:0c:00.0", "0x1002", "0x74a1", "0x120000")  # MI300X
    card(tmp_path, "0000:00:1f.0", "0x8086", "0x1234", "0x030000")
    (tmp_path / "bus/pci/devices/0000:ff:00.0").mkdir()
    assert [(c.vendor, c.vendor_id, c.device_id, c.address) for c in read_pci(str(tmp_path))] == [
        ("nvidia", "0x10de", "0x2335", "0000:06:00.0"),
        ("amd", "0x1002", "0x74a1", "0000:0c:00.0"),
        ("ascend", "0x19e5", "0xd802", "0000:b0:00.0"),
    ]


def test_no_pci_bus_is_no_card(tmp_path):
    assert read_pci(str(tmp_path)) == ()


def test_nouveau(tmp_path):
    assert not nouveau_loaded(str(tmp_path))
    (tmp_path / "module" / "nouveau").mkdir(parents=True)
    assert nouveau_loaded(str(tmp_path))


def test_the_summary_says_all_in_one_line(tmp_path):
    card(tmp_path, "0000:06:00.0", "0x10de", "0x2335", "0x030200")
    cards = read_pci(str(tmp_path))
    assert summary(NvmlReader(binding()).read(), cards, False) == (
        "driver 580.159.04, 1 GPU (NVIDIA H200); cards on the PCI bus: nvidia 0x2335; nouveau not loaded"
    )
    assert summary(NvmlReader(None).read(), (), True) == (
        "no driver (no_binding), no GPU; cards on the PCI bus: none; nouveau loaded"
    )


def test_the_stand_in_has_only_names_that_the_real_binding_has():
    pynvml = pytest.importorskip("pynvml")
    assert [name for name in vars(binding()) if not hasattr(pynvml, name)] == []
    assert pynvml.NVML_ERROR_LIBRARY_NOT_FOUND == binding().NVML_ERROR_LIBRARY_NOT_FOUND
    assert (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC, pynvml.NVML_TEMPERATURE_GPU) == (1, 0, 0)
    assert pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN).value == pynvml.NVML_ERROR_UNKNOWN
