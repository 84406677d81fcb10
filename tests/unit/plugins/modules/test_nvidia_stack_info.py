# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia_stack_info sees is what the filters plan from."""
from __future__ import annotations

import json

import pytest
from ansible_collections.idc.llm.plugins.filter.nvidia import nvidia_plan
from ansible_collections.idc.llm.plugins.modules import nvidia_stack_info as info
from ansible_collections.idc.llm.tests.unit.plugins.module_utils.nvidia import given

from tests.support.nvml import Machine

WINDOWS = {"resource": "0x10000000 0x10ffffff 0x14220c\n0x0 0x0 0x0\n0x100000000000 0x103fffffffff 0x14220c"}
SAID = {
    "dpkg-query": (0, "libcuda1\t580.178.04-1\tii \nbash\t5.2\tii \n"),
    "apt-mark": (0, "libcuda1\n"),
    "apt-cache": (0, "linux-headers-k:\n  Candidate: 6.1\n"),
    "modinfo": (0, "580.178.04\n"),
    "nv-fabricmanager": (0, "Fabric Manager version is : 580.178.04\n"),
    "nvidia-smi": (0, "0, GPU-x\n"),
    "systemd-detect-virt": (1, "none\n"),
    "docker": (0, "boxed-blue-0\n"),
}


def run(argv):
    if argv[0] == "systemctl":
        units = ("idc-vllm@tiny-blue-0.service loaded active running An engine\n"
                 "idc-vllm@r1-blue-1.service loaded activating start-pre\n")
        return (0, units) if argv[1] == "list-units" else (0, "active\n")
    return SAID.get(argv[0], (127, ""))


@pytest.fixture
def look(tmp_path, monkeypatch):
    """look(machine): what the module sees of it."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/libnvidia-ml.so.1").symlink_to("libnvidia-ml.so.580.178.04")
    monkeypatch.setattr(info, "LIBRARIES", (str(tmp_path / "nowhere"), str(tmp_path / "lib")))
    monkeypatch.setattr(info, "RUNFILES", (str(tmp_path / "nvidia-installer"),))

    def call(machine):
        tree = machine.with_(gpus={"defaults": {"sysfs": WINDOWS}}).install(tmp_path / "machines").sysfs
        (tmp_path / "driver/nvidia").mkdir(parents=True, exist_ok=True)
        (tmp_path / "driver/nvidia/version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.178.04\n")
        asked = {"sysfs": str(tree), "proc": str(tmp_path), "kernel": "", "candidates": ["linux-headers-{kernel}"], "keyrings": []}
        return json.loads(json.dumps(info.look(asked, run)))

    return call


def test_an_hgx_host_is_seen_whole(look):
    seen = look(Machine.load("hgx-h100-8").with_(driver="580.178.04"))
    kinds = [(card["class"][2:6], card["device"]) for card in seen["cards"]]
    assert kinds.count(("0302", "0x2330")) == 8 and kinds.count(("0680", "0x22a3")) == 4
    assert {card["bar_bytes"] for card in seen["cards"] if card["class"] == "0x030200"} == {1 << 38}
    assert (seen["loaded"], seen["built"], seen["nvml"]) == ("580.178.04",) * 3 and not seen["nouveau"]
    assert seen["engines"] == ["boxed-blue-0", "r1-blue-1", "tiny-blue-0"]
    assert [row["name"] for row in seen["packages"]] == ["libcuda1"] and seen["packages"][0]["held"]
    assert seen["virtual"] == "none" and seen["iommu"] == "passthrough" and seen["fabric_active"]
    ubuntu = {**seen, "os": {"id": "ubuntu", "version": "24.04", "codename": "noble"}}
    plan = nvidia_plan(given(), {**ubuntu, "engines": []}, "gpu01")
    assert plan["manage"] and plan["errors"] == [] and "nvidia-fabricmanager" in plan["services"]


def test_nouveau_and_no_driver(look):
    seen = look(Machine.load("hgx-h100-8").with_(sysfs={"modules": ["nouveau"]}))
    assert seen["nouveau"] and seen["loaded"] == "" and {card["driver"] for card in seen["cards"]} == {"nouveau", ""}


def test_this_machine_is_seen_without_any_driver(look):
    asked = {"sysfs": "/sys", "proc": "/proc", "kernel": "no-such-kernel", "candidates": [], "keyrings": ["/nonexistent"]}
    seen = info.look(asked, lambda argv: (127, ""))
    assert seen["packages"] == [] and seen["built"] == "" and not seen["headers"] and seen["fingerprints"] == {"/nonexistent": []}


def test_dnf_is_asked_for_missing_headers_alone():
    asked = []

    def repoquery(argv):
        asked.append(argv[-1])
        return 0, "5.14.0-570.12.1.el9_6\n" if argv[-1] == "kernel-devel-k" else ""

    wanted = ["linux-headers-k", "kernel-devel-k"]
    assert info.devel(repoquery, wanted, False) == {"kernel-devel-k": "5.14.0-570.12.1.el9_6"}
    assert info.devel(repoquery, ["kernel-devel-k"], True) == {}
    assert info.devel(repoquery, ["kernel-devel-other"], False) == {} and asked == ["kernel-devel-k", "kernel-devel-other"]
    assert info.devel(lambda argv: (1, "no cache"), ["kernel-devel-k"], False) == {}


def test_debian_calls_the_module_otherwise():
    asked = []

    def modinfo(argv):
        asked.append(argv[-1])
        return (0, "550.163.01\n") if argv[-1] == "nvidia-current-open" else (1, "modinfo: ERROR: Module nvidia not found.\n")

    assert info.module_version(modinfo, "6.12.118+deb13-amd64") == "550.163.01" and asked == ["nvidia", "nvidia-current-open"]
    assert info.module_version(lambda argv: (1, ""), "k") == ""


def test_what_dkms_could_not_build_is_read_from_its_log(tmp_path, monkeypatch):
    """Header and errors as DKMS 3.0.10 and gcc 12 write them."""
    monkeypatch.setattr(info, "DKMS", str(tmp_path))
    assert info.unbuilt("6.1.0-57-amd64") == {}
    log = tmp_path / "nvidia-open/535.261.03/build/make.log"
    log.parent.mkdir(parents=True)
    log.write_text("DKMS make.log for nvidia-open-535.261.03 for kernel 6.1.0-57-amd64 (x86_64)\nMon Nov 30 14:10:00 UTC 2026\n"
                   "  CC [M]  nv-pci.o\nnv-pci.c: In function 'nv_resize_pcie_bars':\n"
                   "nv-pci.c:242:9: error: too few arguments to function 'pci_resize_resource'\n"
                   "make[2]: *** [scripts/Makefile.build:250: nv-pci.o] Error 1\n")
    assert info.unbuilt("6.1.0-57-amd64") == {
        "module": "nvidia-open-535.261.03", "error": "nv-pci.c:242:9: error: too few arguments to function 'pci_resize_resource'"}
    assert info.unbuilt("6.1.0-42-amd64") == {}


@pytest.mark.parametrize(("said", "kind"), [((0, "kvm\n"), "kvm"), ((1, "none\n"), "none"), ((127, "it is not there"), "")])
def test_the_kind_of_machine(said, kind):
    assert info.virtual(lambda argv: said) == kind


@pytest.mark.parametrize(("said", "known"), [
    ((0, "/var/lib/dkms/mok.pub is already enrolled\n"), True), ((1, "/var/lib/dkms/mok.pub is not enrolled\n"), False),
    ((127, ""), None),
])
def test_the_key_that_dkms_signs_with(said, known, tmp_path, monkeypatch):
    key = tmp_path / "mok.pub"
    monkeypatch.setattr(info, "MOK_KEYS", (str(key),))
    assert info.enrolled(lambda argv: said) is None
    key.write_text("")
    assert info.enrolled(lambda argv: said) is known


def test_secure_boot_by_the_firmwares_variable(tmp_path):
    path = tmp_path / info.SECURE_BOOT
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x06\0\0\0\x01")
    assert info.secure_boot(str(tmp_path))
    path.write_bytes(b"\x06\0\0\0\0")
    assert not info.secure_boot(str(tmp_path)) and not info.secure_boot(str(tmp_path / "elsewhere"))


def test_the_driver_that_containers_were_described_for():
    assert info.specification("- containerPath: /usr/lib/libcuda.so.580.178.04\n") == "580.178.04" and info.specification("") == ""
