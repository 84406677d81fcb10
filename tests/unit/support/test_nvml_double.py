# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The double of NVML stays faithful: the real nvidia-ml-py loads it, and it answers as a real H200 did."""
from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest
from ansible_collections.idc.llm.tests.support import nvml
from ansible_collections.idc.llm.tests.support.nvml import Machine

CAPTURE = json.loads((nvml.HERE / "captures" / "h200.json").read_text(encoding="utf-8"))
READER = nvml.HERE / "ask.py"
# nvidia-ml-py starts NVML through nvmlInitWithFlags; other clients of the real library use this one
NOT_ASKED_BY_PYNVML = {"nvmlInit_v2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the machines of this file lie; the library is built once beside them."""
    return tmp_path_factory.mktemp("nvml")


def ask(machine: Machine, where: Path, calls: list[list[Any]], init: bool = True) -> list[Any]:
    """The answers of nvidia-ml-py to calls, in a child process that has the machine's library."""
    installed = machine.install(where)
    return ask_with(installed.environment, calls, init)


def ask_with(environment: dict[str, str], calls: list[list[Any]], init: bool = True) -> list[Any]:
    bare = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "IDC_NVML_MACHINE")}
    done = subprocess.run(
        [sys.executable, str(READER)], input=json.dumps({"init": init, "calls": calls}), text=True, capture_output=True,
        env={**bare, **environment}, timeout=60, check=False,
    )
    assert done.returncode == 0, f"the reader ended with {done.returncode}: {done.stderr}"
    return list(json.loads(done.stdout))


def ok(answers: list[Any]) -> list[Any]:
    assert [answer for answer in answers if "ok" not in answer] == []
    return [answer["ok"] for answer in answers]


def gpu(index: int) -> dict[str, int]:
    return {"gpu": index}


@pytest.fixture
def where(tmp_path: Path, folder: Path) -> Path:
    return folder / tmp_path.name


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(nvml.NoCompiler, match="install gcc"):
        nvml.build(tmp_path / "out")


def test_no_library_at_all_is_a_child_without_the_variable() -> None:
    assert ask_with({}, [], init=True) == [{"error": "NVMLError_LibraryNotFound"}]


def test_symbols_are_those_that_nvidia_ml_py_looks_up(folder: Path) -> None:
    source = Path(pynvml.__file__).read_text(encoding="utf-8")
    asked = set(re.findall(r'_nvmlGetFunctionPointer\("(\w+)"\)', source))
    library = nvml.build(folder / "symbols")
    listing = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[2] for line in listing.splitlines()}
    assert len(exported) > 70
    assert exported - asked == NOT_ASKED_BY_PYNVML


def test_structures_have_the_sizes_that_nvidia_ml_py_gives_them(tmp_path: Path) -> None:
    program = tmp_path / "sizes.c"
    program.write_text(
        '#include <stdio.h>\n#include "nvml_layout.h"\n'
        '#define LAYOUT(ours, theirs) printf("%s %zu\\n", #theirs, sizeof(struct ours));\n'
        "int main(void) { LAYOUTS return 0; }\n", encoding="ascii",
    )
    subprocess.run([nvml.compiler(), f"-I{nvml.HERE}", "-o", str(tmp_path / "sizes"), str(program)], check=True)
    printed = subprocess.run([str(tmp_path / "sizes")], capture_output=True, text=True, check=True).stdout
    ours = {name: int(size) for name, size in map(str.split, printed.splitlines())}
    assert len(ours) == 14
    assert ours == {name: ctypes.sizeof(getattr(pynvml, name)) for name in ours}


# -- the capture of a real H200


@pytest.mark.parametrize("name", ["h200", "facts-h200-1", "facts-h200-2"])
def test_captures_hold_no_identity(name: str) -> None:
    text = (nvml.HERE / "captures" / f"{name}.json").read_text(encoding="utf-8")
    found = re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]+", text, re.IGNORECASE)
    assert found and {identity[:-1] for identity in found} == {"00000000-0000-0000-0000-00000000000"}


def test_h200_answers_the_system_as_captured(where: Path) -> None:
    names = sorted(CAPTURE["system"])
    assert len(names) >= 5
    assert ask(Machine.load("h200-1"), where, [[name] for name in names]) == [CAPTURE["system"][name] for name in names]


def test_h200_answers_each_device_call_as_captured(where: Path) -> None:
    names = sorted(CAPTURE["device"])
    assert len(names) > 40
    answers = ask(Machine.load("h200-1"), where, [[name, gpu(0)] for name in names])
    assert dict(zip(names, answers, strict=True)) == CAPTURE["device"]


def test_h200_answers_calls_with_arguments_as_captured(where: Path) -> None:
    loops = CAPTURE["loops"]
    clocks = {"graphics": 0, "sm": 1, "mem": 2, "video": 3}
    kinds, counters = {"corrected": 0, "uncorrected": 1}, {"volatile": 0, "aggregate": 1}
    wanted: list[tuple[list[Any], Any]] = [
        (["nvmlDeviceGetTemperature", gpu(0), 0], loops["temperature"]),
        (["nvmlDeviceGetTemperatureV", gpu(0), 0], loops["temperature"]),
        (["nvmlDeviceGetMemoryInfo", gpu(0), pynvml.nvmlMemory_v2], loops["memory_info_v2"]),
        (["nvmlDeviceGetRowRemapperHistogram", gpu(0)], loops["row_remapper_histogram"]),
        (["nvmlDeviceGetSupportedEventTypes", gpu(0)], loops["events"]["supported_types"]),
        (["xid", gpu(0)], loops["events"]["wait_200ms"]),
    ]
    for loop, call in (("clock", "nvmlDeviceGetClockInfo"), ("max_clock", "nvmlDeviceGetMaxClockInfo")):
        wanted += [([call, gpu(0), clocks[name]], value) for name, value in loops[loop].items()]
    for name, value in loops["ecc_total"].items():
        kind, counter = name.split("/")
        wanted.append((["nvmlDeviceGetTotalEccErrors", gpu(0), kinds[kind], counters[counter]], value))
    wanted += [(["nvmlDeviceGetMigDeviceHandleByIndex", gpu(0), int(n)], value) for n, value in loops["mig_handles"].items()]
    wanted += [(["fabric", *name.split("/"), gpu(0)], value) for name, value in loops["fabric"].items()]
    assert len(wanted) > 20
    answers = ask(Machine.load("h200-1"), where, [call for call, _value in wanted])
    assert [(call, answer) for (call, _value), answer in zip(wanted, answers, strict=True)] == wanted


def test_h200_counts_errors_by_unit_as_captured(where: Path) -> None:
    units = {"l1": 0, "l2": 1, "dram": 2, "regs": 3, "tex": 4, "shm": 5, "cbu": 6, "sram": 7}
    numbers = {**units, "corrected": 0, "uncorrected": 1, "volatile": 0, "aggregate": 1}
    wanted = _outcomes(CAPTURE["loops"]["ecc_memory"])
    assert len(wanted) == 32
    calls = [["nvmlDeviceGetMemoryErrorCounter", gpu(0), *(numbers[word] for word in name.split("/"))] for name in wanted]
    assert dict(zip(wanted, ask(Machine.load("h200-1"), where, calls), strict=True)) == wanted


def test_h200_has_no_nvlink_as_captured(where: Path) -> None:
    counters = {"replay": 0, "recovery": 1, "crc_flit": 2, "crc_data": 3, "ecc": 4}
    plain = {"state": "State", "version": "Version", "remote_pci": "RemotePciInfo", "remote_type": "RemoteDeviceType"}
    wanted: list[tuple[list[Any], Any]] = []
    for links, every in CAPTURE["loops"]["nvlink"].items():
        for link in map(int, links.split()):
            wanted += [([f"nvmlDeviceGetNvLink{call}", gpu(0), link], every[word]) for word, call in plain.items()]
            wanted += [(["nvmlDeviceGetNvLinkCapability", gpu(0), link, int(n)], v) for n, v in every["capability"].items()]
            wanted += [(["nvmlDeviceGetNvLinkErrorCounter", gpu(0), link, counters[n]], v) for n, v in every["errors"].items()]
    answers = ask(Machine.load("h200-1"), where, [call for call, _value in wanted])
    assert [(call, answer) for (call, _value), answer in zip(wanted, answers, strict=True)] == wanted
    assert len(wanted) == 60


def test_h200_answers_each_field_as_captured(where: Path) -> None:
    wanted = _outcomes(CAPTURE["loops"]["fields"])
    assert len(wanted) > 250
    (answers,) = ok(ask(Machine.load("h200-1"), where, [["fields", gpu(0), [[getattr(pynvml, n), 0] for n in wanted]]]))
    assert dict(zip(wanted, answers, strict=True)) == wanted


def _outcomes(groups: dict[str, Any]) -> dict[str, Any]:
    """name -> {"ok": value} or {"error": class}, of a group by outcome."""
    found = {name: {"ok": value} for name, value in groups["ok"].items()}
    for error, names in groups.items():
        found.update({} if error == "ok" else {name: {"error": error} for name in names})
    return found


# -- every machine


@pytest.mark.parametrize("name", Machine.names())
def test_every_machine_says_its_source_and_answers_every_call(name: str, where: Path) -> None:
    """No call crashes, on any GPU and with arguments out of range; each gives a value or an NVML error."""
    machine = Machine.load(name)
    assert len(machine.words["source"]) > 40
    calls: list[list[Any]] = []
    for index in range(len(machine.gpus) + 1):
        calls += [[call, gpu(index)] for call in sorted(CAPTURE["device"])]
        for link in (0, 3, 17, 18, 35, 4096):
            calls += [[f"nvmlDeviceGetNvLink{what}", gpu(index), link]
                      for what in ("State", "Version", "RemotePciInfo", "RemoteDeviceType")]
        calls += [["fields", gpu(index), [[1, 0], [165, 3], [999, 9]]], ["fabric", "nvmlDeviceGetGpuFabricInfoV",
                  "c_nvmlGpuFabricInfo_v3_t", gpu(index)], ["xid", gpu(index)]]
    answers = ask(machine, where, calls, init=name != "no-driver")
    assert len(answers) == len(calls)
    assert all(set(answer) <= {"ok", "error"} and answer for answer in answers)


@pytest.mark.parametrize(("name", "count", "card", "total"), [
    ("hgx-h100-8", 8, "NVIDIA H100 80GB HBM3", 85520809984), ("hgx-a100-80-8", 8, "NVIDIA A100-SXM4-80GB", 85899345920),
    ("hgx-a100-roce-a", 8, "NVIDIA A100-SXM4-80GB", 85899345920), ("h200-1", 1, "NVIDIA H200", 150754820096),
    ("h200-2", 2, "NVIDIA H200", 150754820096),
    ("l40s-4", 4, "NVIDIA L40S", 48305799168), ("busy-l40s", 4, "NVIDIA L40S", 48305799168),
    ("mig-h100", 2, "NVIDIA H100 80GB HBM3", 85520809984), ("sick-h100", 8, "NVIDIA H100 80GB HBM3", 85520809984),
])
def test_cards_are_those_that_the_file_name_says(name: str, count: int, card: str, total: int, where: Path) -> None:
    machine = Machine.load(name)
    calls: list[list[Any]] = [["nvmlDeviceGetCount"]]
    for index in range(count):
        calls += [["nvmlDeviceGetName", gpu(index)], ["nvmlDeviceGetMemoryInfo", gpu(index)], ["nvmlDeviceGetUUID", gpu(index)]]
    found, *rest = ok(ask(machine, where, calls))
    assert found == count
    assert set(rest[::3]) == {card}
    assert {memory["total"] for memory in rest[1::3]} == {total}
    assert len(set(rest[2::3])) == count


def test_two_hosts_of_one_kind_have_gpus_of_their_own() -> None:
    one, two = ({gpu_["uuid"] for gpu_ in Machine.load(f"hgx-a100-roce-{x}").gpus} for x in "ab")
    assert len(one | two) == 16


def test_a_pair_of_an_hgx_board_keeps_its_links_to_the_switches(where: Path) -> None:
    calls = [["nvmlDeviceGetNvLinkState", gpu(1), 17], ["nvmlDeviceGetNvLinkState", gpu(1), 18],
             ["nvmlDeviceGetNvLinkRemoteDeviceType", gpu(1), 17], ["nvmlDeviceGetP2PStatus", gpu(0), gpu(1), 2],
             ["fields", gpu(1), [[147, 0], [91, 0], [164, 17]]]]
    state, beyond, kind, peer, fields = ask(Machine.load("h200-2"), where, calls)
    assert (state, beyond, kind, peer) == ({"ok": 1}, {"error": "NVMLError_InvalidArgument"}, {"ok": 2}, {"ok": 0})
    assert fields["ok"] == [{"ok": 18}, {"ok": 18}, {"ok": 26562}]


def test_hgx_reaches_every_gpu_over_nvswitches(where: Path) -> None:
    calls = [["nvmlDeviceGetNvLinkState", gpu(2), 17], ["nvmlDeviceGetNvLinkState", gpu(2), 18],
             ["nvmlDeviceGetNvLinkRemoteDeviceType", gpu(2), 0], ["nvmlDeviceGetNvLinkRemotePciInfo", gpu(2), 0],
             ["nvmlDeviceGetP2PStatus", gpu(0), gpu(7), 2], ["fields", gpu(0), [[147, 0], [91, 0], [164, 17]]],
             ["fabric", "nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t", gpu(0)],
             ["nvmlDeviceGetTopologyCommonAncestor", gpu(0), gpu(1)], ["nvmlDeviceGetTopologyCommonAncestor", gpu(0), gpu(7)]]
    state, beyond, kind, remote, peer, fields, fabric, near, far = ask(Machine.load("hgx-h100-8"), where, calls)
    assert (state, beyond, kind, peer) == ({"ok": 1}, {"error": "NVMLError_InvalidArgument"}, {"ok": 2}, {"ok": 0})
    assert remote["ok"]["busId"] == "00000000:07:00.0" and remote["ok"]["pciDeviceId"] == 0x22A310DE
    assert fields["ok"] == [{"ok": 18}, {"ok": 18}, {"ok": 26562}]
    assert fabric["ok"]["struct"]["state"] == pynvml.NVML_GPU_FABRIC_STATE_COMPLETED
    assert (near, far) == ({"ok": pynvml.NVML_TOPOLOGY_NODE}, {"ok": pynvml.NVML_TOPOLOGY_SYSTEM})


def test_pcie_cards_have_no_nvlink_and_a100_pairs_share_switches(where: Path) -> None:
    calls = [["nvmlDeviceGetNvLinkState", gpu(0), 0], ["nvmlDeviceGetP2PStatus", gpu(0), gpu(1), 2]]
    calls += [["nvmlDeviceGetMigMode", gpu(0)]]
    no = {"error": "NVMLError_NotSupported"}
    assert ask(Machine.load("l40s-4"), where, calls) == [no, {"ok": pynvml.NVML_P2P_STATUS_NOT_SUPPORTED}, no]
    levels = [["nvmlDeviceGetTopologyCommonAncestor", gpu(0), gpu(other)] for other in (0, 1, 2, 4)]
    assert ok(ask(Machine.load("hgx-a100-80-8"), where, levels)) == [0, 20, 40, 50]
    assert ok(ask(Machine.load("h200-2"), where, levels[:2])) == [0, 30]
    assert ok(ask(Machine.load("l40s-4"), where / "again", levels[1:3])) == [10, 50]


def test_mig_slices_answer_for_themselves(where: Path) -> None:
    first, past = {"gpu": 1, "mig": 0}, {"gpu": 1, "mig": 3}
    calls = [["nvmlDeviceGetMigMode", gpu(1)], ["nvmlDeviceGetMaxMigDeviceCount", gpu(1)], ["nvmlDeviceGetName", first],
             ["nvmlDeviceGetUUID", first], ["nvmlDeviceGetMemoryInfo", first], ["nvmlDeviceGetAttributes", first],
             ["nvmlDeviceIsMigDeviceHandle", first], ["nvmlDeviceGetComputeRunningProcesses", first],
             ["nvmlDeviceGetName", past], ["nvmlDeviceGetMaxMigDeviceCount", gpu(0)]]
    mode, most, name, uuid, memory, attributes, is_mig, running, beyond, off = ask(Machine.load("mig-h100"), where, calls)
    assert (mode, most, is_mig, off) == ({"ok": [1, 1]}, {"ok": 7}, {"ok": 1}, {"ok": 0})
    assert name["ok"].endswith("MIG 3g.40gb") and uuid["ok"].startswith("MIG-")
    assert memory["ok"]["total"] == 40448 << 20
    assert (attributes["ok"]["multiprocessorCount"], attributes["ok"]["memorySizeMB"]) == (60, 40448)
    assert [process["pid"] for process in running["ok"]] == [7070]
    assert beyond == {"error": "NVMLError_NotFound"}


def test_a_sick_machine_says_what_it_has(where: Path) -> None:
    calls = [["nvmlDeviceGetRemappedRows", gpu(n)] for n in (0, 1, 5)] + [
        ["nvmlDeviceGetTotalEccErrors", gpu(3), 1, 0], ["xid", gpu(5)], ["xid", gpu(6)], ["xid", gpu(0)],
        ["nvmlDeviceGetNvLinkState", gpu(4), 7], ["nvmlDeviceGetNvLinkErrorCounter", gpu(4), 2, 2],
        ["nvmlDeviceGetCurrentClocksEventReasons", gpu(7)], ["fields", gpu(5), [[pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 0]]]]
    *rest, reasons, recovery = ask(Machine.load("sick-h100"), where, calls)
    assert rest == [{"ok": [0, 0, 0, 0]}, {"ok": [0, 9, 0, 1]}, {"ok": [1, 1, 1, 0]}, {"ok": 2}, {"ok": [63, 94]}, {"ok": [79]},
                    {"error": "NVMLError_Timeout"}, {"ok": 0}, {"ok": 113}]
    assert reasons["ok"] == pynvml.nvmlClocksEventReasonHwSlowdown | pynvml.nvmlClocksEventReasonHwThermalSlowdown
    assert recovery["ok"] == [{"ok": 1}]


def test_a_fallen_gpu_is_counted_and_lost(where: Path) -> None:
    machine = Machine.load("fallen-h100")
    calls = [["nvmlDeviceGetCount"], ["nvmlDeviceGetName", gpu(5)], ["nvmlDeviceGetName", gpu(6)],
             ["nvmlDeviceGetHandleByUUID", machine.gpus[5]["uuid"]]]
    count, lost, there, by_uuid = ask(machine, where, calls)
    assert (count, lost, by_uuid) == ({"ok": 8}, {"error": "NVMLError_GpuIsLost"}, {"error": "NVMLError_GpuIsLost"})
    assert "ok" in there
    device = machine.install(where / "again").sysfs / "bus/pci/devices/0000:ab:00.0"
    assert [(device / f"current_link_{word}").read_text() for word in ("speed", "width")] == ["Unknown\n", "63\n"]


def test_no_driver_and_no_devices(where: Path) -> None:
    assert ask(Machine.load("no-driver"), where, []) == [{"error": "NVMLError_DriverNotLoaded"}]
    calls = [["nvmlDeviceGetCount"], ["nvmlSystemGetDriverVersion"], ["nvmlDeviceGetName", gpu(0)]]
    answers = ask(Machine.load("no-devices"), where, calls)
    assert answers == [{"ok": 0}, {"ok": "580.159.04"}, {"error": "NVMLError_InvalidArgument"}]


def test_processes_and_memory_of_a_busy_machine(where: Path) -> None:
    calls = [["nvmlDeviceGetComputeRunningProcesses", gpu(n)] for n in (0, 2, 3)] + [
        ["nvmlDeviceGetGraphicsRunningProcesses", gpu(2)], ["nvmlDeviceGetMemoryInfo", gpu(0)],
        ["nvmlDeviceGetMemoryInfo", gpu(0), pynvml.nvmlMemory_v2]]
    first, third, none, graphics, one, two = ok(ask(Machine.load("busy-l40s"), where, calls))
    assert [(p["pid"], p["usedGpuMemory"]) for p in first] == [(4242, 21458059264)]
    assert [(p["pid"], p["usedGpuMemory"]) for p in third] == [(6060, None)]
    assert (none, [p["pid"] for p in graphics]) == ([], [1999])
    assert one["used"] == two["used"] + two["reserved"]  # version 1 counts the reserved part
    assert two["total"] == two["used"] + two["reserved"] + two["free"]


def test_any_call_of_any_gpu_can_fail(where: Path) -> None:
    machine = Machine.load("l40s-4").with_gpu(1, errors={"nvmlDeviceGetPowerUsage": "NO_PERMISSION"})
    machine = machine.with_gpu(2, errors={"*": "RESET_REQUIRED"}).with_gpu(3, answers={"nvmlDeviceGetPowerUsage": 123456})
    calls = [["nvmlDeviceGetPowerUsage", gpu(n)] for n in range(4)] + [["nvmlDeviceGetName", gpu(2)]]
    assert ask(machine, where, calls) == [{"ok": 35000}, {"error": "NVMLError_NoPermission"}, {"error": "NVMLError_ResetRequired"},
                                          {"ok": 123456}, {"error": "NVMLError_ResetRequired"}]


def test_calls_in_the_wrong_order_are_errors(where: Path) -> None:
    installed = Machine.load("l40s-4").install(where)
    assert ask_with(installed.environment, [["nvmlDeviceGetCount"]], init=False) == [{"error": "NVMLError_Uninitialized"}]
    missing = {**installed.environment, "IDC_NVML_MACHINE": "/nonexistent"}
    assert ask_with(missing, []) == [{"error": "NVMLError_Unknown"}]
    odd = [["nvmlDeviceGetName", None], ["nvmlDeviceGetHandleByUUID", "GPU-none"], ["nvmlErrorString", 15]]
    assert ask_with(installed.environment, odd) == [
        {"error": "NVMLError_InvalidArgument"}, {"error": "NVMLError_NotFound"}, {"ok": "GPU is lost"}]


# -- the trees


@pytest.mark.parametrize("name", Machine.names())
def test_each_tree_has_the_cards_where_nvml_has_them(name: str, where: Path) -> None:
    machine = Machine.load(name)
    sysfs = machine.install(where).sysfs
    for card in machine.gpus:
        address = "0000:" + card["path"].rpartition("/")[2]
        device = sysfs / "bus" / "pci" / "devices" / address
        words = {word: (device / word).read_text().strip() for word in ("vendor", "device", "class", "numa_node")}
        assert words == {"vendor": "0x10de", "device": card["device"], "class": "0x030200", "numa_node": str(card.get("numa", -1))}
        assert (device / "max_link_speed").read_text().endswith("GT/s PCIe\n")
        assert (device / "max_link_width").read_text() == "16\n"
        assert device.resolve().is_relative_to(sysfs.resolve())
    for folder in ("class/infiniband", "class/net", "module", "kernel/iommu_groups", "devices/system/node"):
        assert (sysfs / folder).is_dir()
    for link in (path for path in sysfs.rglob("*") if path.is_symlink()):
        assert link.exists() and not os.path.isabs(os.readlink(link)), link


def test_an_adapter_shares_a_bridge_with_its_gpu(where: Path) -> None:
    sysfs = Machine.load("hgx-h100-8").install(where).sysfs
    devices = sorted(path.name for path in (sysfs / "class" / "infiniband").iterdir())
    layers = [(sysfs / "class/infiniband" / name / "ports/1/link_layer").read_text().strip() for name in devices]
    assert (layers.count("InfiniBand"), layers.count("Ethernet")) == (8, 1)
    card = (sysfs / "bus/pci/devices/0000:18:00.0").resolve()
    paths = {name: (sysfs / "class/infiniband" / name / "device").resolve() for name in devices}
    shared = [name for name, path in paths.items() if Path(os.path.commonpath([card, path])).name == "0000:16:00.0"]
    assert shared == ["mlx5_0"]
    assert (sysfs / "class/infiniband/mlx5_0/ports/1/rate").read_text() == "400 Gb/sec (4X NDR)\n"
    assert {(group / "type").read_text().strip() for group in (sysfs / "kernel/iommu_groups").iterdir()} == {"identity"}


def test_roce_has_a_gid_of_version_2_and_a_port_that_is_down(where: Path) -> None:
    trees = [Machine.load(f"hgx-a100-roce-{x}").install(where / x).sysfs / "class/infiniband" for x in "ab"]
    gids = [(tree / "mlx5_0/ports/1/gids/3").read_text() for tree in trees]
    assert len(set(gids)) == 2 and all(":ffff:" in gid for gid in gids)
    for tree in trees:
        port = tree / "mlx5_0/ports/1"
        assert (port / "gid_attrs/types/3").read_text() == "RoCE v2\n"
        assert (port / "gid_attrs/ndevs/3").read_text() == "ens9f0np0\n"
        assert (port / "rate").read_text().startswith("25 Gb/sec")
        assert (tree / "mlx5_1/ports/1/state").read_text() == "1: DOWN\n"
        assert (tree.parent / "net/ens9f0np0/speed").read_text() == "25000\n"


def test_modules_nodes_and_switches(where: Path) -> None:
    free = Machine.load("no-driver").install(where / "a").sysfs
    assert (free / "module/nouveau").is_dir() and (free / "bus/pci/devices/0000:18:00.0/driver").resolve().name == "nouveau"
    sysfs = Machine.load("hgx-h100-8").install(where / "b").sysfs
    assert (sysfs / "module/nvidia_peermem").is_dir() and not (sysfs / "module/nouveau").exists()
    assert "MemTotal:" in (sysfs / "devices/system/node/node1/meminfo").read_text()
    kinds = [(path / "class").read_text().strip() for path in (sysfs / "bus/pci/devices").iterdir()]
    assert (kinds.count("0x068000"), kinds.count("0x030200"), kinds.count("0x020700")) == (4, 8, 8)


def test_processes_have_control_groups(where: Path) -> None:
    proc = Machine.load("busy-l40s").install(where).proc
    assert (proc / "5151/cgroup").read_text() == "0::/system.slice/idc-vllm@r1-blue-0.service\n"
