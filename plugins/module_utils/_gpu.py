# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's accelerators are: NVML through nvidia-ml-py, and cards by PCI id. Private to this collection."""
from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Sequence

BINDING_PATH = "/usr/local/lib/idc_llm"
_DISPLAY, _DISPLAY_3D, _DISPLAY_OTHER, _ACCELERATOR = "0300", "0302", "0380", "1200"
# vendor id -> name, PCI classes of its cards (an NVSwitch is 0680, Huawei's management VGA 0300: neither is a card)
VENDORS = {
    "0x10de": ("nvidia", (_DISPLAY, _DISPLAY_3D)),
    "0x1002": ("amd", (_DISPLAY, _DISPLAY_3D, _DISPLAY_OTHER, _ACCELERATOR)),
    "0x19e5": ("ascend", (_ACCELERATOR,)),
}


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML tells it; None where the call failed. ``healthy`` is this collection's judgement."""

    index: int
    uuid: str | None = None
    name: str | None = None
    compute_capability: str | None = None
    pci_address: str | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    mig_enabled: bool | None = None
    temperature_c: int | None = None
    power_limit_w: float | None = None
    ecc_uncorrected: int | None = None
    row_remap_failure: bool | None = None
    processes: tuple[int, ...] | None = None
    healthy: bool = False


@dataclass(frozen=True)
class NvmlView:
    """A host through NVML: state ok, no_devices, no_driver, no_library or no_binding, and why it is not ok."""

    state: str
    detail: str | None = None
    driver_version: str | None = None
    cuda_version: str | None = None
    nvml_version: str | None = None
    gpus: tuple[Gpu, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain types for Ansible."""
        data = asdict(self)
        data["gpus"] = [dict(gpu, processes=_list(gpu["processes"])) for gpu in data["gpus"]]
        return data


@dataclass(frozen=True)
class PciDevice:
    """A card of a known vendor on the PCI bus; ids as sysfs writes them (0x10de), address as 0000:06:00.0."""

    vendor: str
    vendor_id: str
    device_id: str
    address: str


def is_healthy(gpu: Gpu) -> bool:
    """A GPU that answers, has no failed row remapping and no uncorrected memory error since the driver was loaded."""
    return gpu.uuid is not None and not gpu.row_remap_failure and not gpu.ecc_uncorrected


def load_binding(path: str = BINDING_PATH) -> Any | None:
    """The module pynvml from sys.path or else from the folder; None where it is in neither."""
    if path not in sys.path:
        sys.path.append(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the inactive package of the same name warns
            return importlib.import_module("pynvml")
    except ImportError:
        return None


class NvmlReader:
    """Reads a host through a binding with nvidia-ml-py's names; one failing call makes one field None."""

    def __init__(self, binding: Any | None) -> None:
        self.binding = binding

    def read(self) -> NvmlView:
        """The whole host. Never raises for what NVML answers."""
        nvml = self.binding
        if nvml is None:
            return NvmlView("no_binding", "the Python module pynvml (nvidia-ml-py) is not there")
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as exc:
            missing = getattr(exc, "value", None) == nvml.NVML_ERROR_LIBRARY_NOT_FOUND
            return NvmlView("no_library" if missing else "no_driver", _text(exc))
        try:
            return self._view()
        finally:
            self._ask("nvmlShutdown")

    def _view(self) -> NvmlView:
        count = self._ask("nvmlDeviceGetCount") or 0
        cuda = self._ask("nvmlSystemGetCudaDriverVersion_v2")
        return NvmlView(
            state="ok" if count else "no_devices",
            detail=None if count else "the driver answers and has no device",
            driver_version=_text(self._ask("nvmlSystemGetDriverVersion")),
            cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
            nvml_version=_text(self._ask("nvmlSystemGetNVMLVersion")),
            gpus=tuple(self._gpu(index) for index in range(count)),
        )

    def _gpu(self, index: int) -> Gpu:
        nvml = self.binding
        handle = self._ask("nvmlDeviceGetHandleByIndex", index)
        if handle is None:  # fallen off the bus
            return Gpu(index)
        # version 2: version 1 counts the driver's reserved part as used
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle, getattr(nvml, "nvmlMemory_v2", None))
        pci = self._ask("nvmlDeviceGetPciInfo", handle)
        capability = self._ask("nvmlDeviceGetCudaComputeCapability", handle)
        mig = self._ask("nvmlDeviceGetMigMode", handle)
        power = self._ask("nvmlDeviceGetPowerManagementLimit", handle)
        remapped = self._ask("nvmlDeviceGetRemappedRows", handle)
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", handle)
        gpu = Gpu(
            index=index,
            uuid=_text(self._ask("nvmlDeviceGetUUID", handle)),
            name=_text(self._ask("nvmlDeviceGetName", handle)),
            compute_capability=_of(capability, lambda v: "{}.{}".format(*v)),
            pci_address=_of(pci, lambda v: pci_address(_text(v.busId) or "")),
            memory_total_bytes=_of(memory, lambda v: int(v.total)),
            memory_used_bytes=_of(memory, lambda v: int(v.used)),
            mig_enabled=_of(mig, lambda v: bool(v[0])),
            temperature_c=self._ask("nvmlDeviceGetTemperature", handle, getattr(nvml, "NVML_TEMPERATURE_GPU", 0)),
            power_limit_w=_of(power, lambda v: v / 1000),
            ecc_uncorrected=self._ask(
                "nvmlDeviceGetTotalEccErrors",
                handle,
                getattr(nvml, "NVML_MEMORY_ERROR_TYPE_UNCORRECTED", 1),
                getattr(nvml, "NVML_VOLATILE_ECC", 0),
            ),
            row_remap_failure=_of(remapped, lambda v: bool(v[3])),
            processes=_of(processes, lambda v: tuple(sorted({int(p.pid) for p in v}))),
        )
        return replace(gpu, healthy=is_healthy(gpu))

    def _ask(self, name: str, *args: Any) -> Any:
        """The call's answer, or None where it fails or this binding does not have it."""
        call: Callable[..., Any] | None = getattr(self.binding, name, None)
        if call is None:
            return None
        try:
            return call(*args)
        except self.binding.NVMLError:  # type: ignore[union-attr]
            return None


def pci_address(bus_id: str) -> str:
    """NVML's bus id as sysfs writes it: '00000000:00:06.0' -> '0000:00:06.0'."""
    domain, _colon, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"


def read_pci(sysfs: str = "/sys") -> tuple[PciDevice, ...]:
    """Cards of the vendors above, by address; needs no driver."""
    folder = os.path.join(sysfs, "bus", "pci", "devices")
    try:
        addresses = sorted(os.listdir(folder))
    except OSError:
        return ()
    found = []
    for address in addresses:
        vendor, device, kind = (_word(os.path.join(folder, address, name)) for name in ("vendor", "device", "class"))
        name, classes = VENDORS.get(vendor, ("", ()))
        if kind[2:6] in classes:
            found.append(PciDevice(name, vendor, device, address))
    return tuple(found)


def nouveau_loaded(sysfs: str = "/sys") -> bool:
    """Whether the kernel runs the free driver nouveau, which keeps NVIDIA's from loading."""
    return os.path.isdir(os.path.join(sysfs, "module", "nouveau"))


def summary(view: NvmlView, cards: Sequence[PciDevice], nouveau: bool) -> str:
    """One line for a person."""
    names = sorted({gpu.name or "unknown" for gpu in view.gpus})
    driver = f"driver {view.driver_version}" if view.driver_version else f"no driver ({view.state})"
    gpus = "{} GPU ({})".format(len(view.gpus), ", ".join(names)) if view.gpus else "no GPU"
    on_bus = ", ".join(f"{c.vendor} {c.device_id}" for c in cards) or "none"
    return "{}, {}; cards on the PCI bus: {}; nouveau {}".format(
        driver, gpus, on_bus, "loaded" if nouveau else "not loaded"
    )


def _word(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read(64).strip().lower()
    except OSError:
        return ""


def _text(value: Any) -> str | None:
    """Text of bytes or anything; control characters dropped."""
    if value is None:
        return None
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return re.sub(r"[\x00-\x1f]", "", text)


def _of(value: Any, convert: Callable[[Any], Any]) -> Any:
    return None if value is None else convert(value)


def _list(value: Sequence[int] | None) -> list[int] | None:
    return None if value is None else list(value)
