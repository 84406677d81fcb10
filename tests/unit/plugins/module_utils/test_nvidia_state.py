# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a driver as it runs, and what a reboot mends."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.filter.nvidia import nvidia_engine_errors, nvidia_plan
from ansible_collections.idc.llm.plugins.module_utils._nvidia_seen import parse_seen, same, upstream
from ansible_collections.idc.llm.plugins.module_utils._nvidia_state import mismatch, reboot_reasons
from ansible_collections.idc.llm.tests.unit.plugins.module_utils.nvidia import H100, SWITCH, given, installed

FABRIC = [H100, {**H100, "address": "0000:2a:00.0"}, SWITCH]
FM = ("nvidia-fabricmanager-580", "libnvidia-nscq-580")


def codes(lines):
    return [line.partition(":")[0] for line in lines]


def switched(**changes):
    """A host with NVSwitches on which all fits."""
    return installed("580.178.04", *FM, cards=FABRIC, **{"fabric_manager": "Fabric Manager version is : 580.178.04",
                                                         "fabric_active": True,
                                                         **changes})


def test_a_host_on_which_all_fits():
    plan = nvidia_plan(given(), switched())
    assert plan["problems"] == [] and plan["reboot"] == "" and plan["errors"] == []
    assert set(plan["versions"].values()) == {"580.178.04"}


@pytest.mark.parametrize("change", [
    {"fabric_manager": "Fabric Manager version is : 580.173.02"}, {"nvml": "580.173.02"}, {"nvml": "535.216.01"},
])
def test_one_part_that_differs_is_told_with_all_four_versions(change):
    seen = parse_seen(switched(**change), "gpu01")
    said = mismatch(seen).render("en")
    assert said.startswith("IDC-GPU-010: gpu01") and "packages 580.178.04, loaded module 580.178.04" in said
    assert next(iter(change.values())).split()[-1] in said and "Fabric Manager" in said and "NVML" in said
    assert codes(nvidia_plan(given(), switched(**change))["problems"]) == ["IDC-GPU-010"]
    assert "已加载模块 580.178.04" in mismatch(seen).render("zh")


def test_packages_that_moved_beside_the_loaded_module():
    """An unattended upgrade: the library is new, so is the file of the module, the loaded one is not."""
    said = "Failed to initialize NVML: Driver/library version mismatch"
    moved = switched(loaded="580.173.02", fabric_manager="580.178.04", smi=[18, said])
    plan = nvidia_plan(given(), moved)
    assert plan["reboot"] == "the module 580.173.02 is loaded, 580.178.04 is installed" and not plan["ready"]
    assert mismatch(parse_seen(moved)) is not None  # told with four versions by who asks
    userland = switched(built="580.173.02", loaded="580.173.02", fabric_manager="580.173.02")
    assert codes(nvidia_plan(given(), userland)["problems"]) == ["IDC-GPU-010"]


def test_fabric_manager_counts_only_where_switches_are():
    lonely = installed(fabric_manager="580.1.1")
    assert mismatch(parse_seen(lonely)) is None
    assert nvidia_plan(given(), lonely)["problems"] == []


@pytest.mark.parametrize(("change", "reasons"), [
    ({"loaded": "", "nouveau": True}, ["nouveau is loaded"]),
    ({"loaded": ""}, ["the module 580.178.04 is not loaded"]),
    ({"loaded": "580.159.04"}, ["the module 580.159.04 is loaded, 580.178.04 is installed"]),
    ({}, []), ({"cards": [], "loaded": ""}, []), ({"kernel": "6.8.0-99-generic", "loaded": ""}, []),
])
def test_why_a_host_has_to_boot(change, reasons):
    assert [reason.en for reason in reboot_reasons(parse_seen(installed(**change)))] == reasons


@pytest.mark.parametrize(("change", "loadable"), [
    ({"loaded": ""}, True), ({"loaded": "", "nouveau": True}, False), ({}, False), ({"loaded": "", "built": ""}, False),
    ({"loaded": "", "kernel": "6.8.0-99-generic"}, False),
])
def test_what_needs_no_boot_is_loaded_at_once(change, loadable):
    assert nvidia_plan(given(), installed(**change))["loadable"] is loadable


@pytest.mark.parametrize(("change", "code"), [
    ({"built": ""}, "IDC-GPU-022"), ({"smi": [255, "Unable to determine the device handle\n"]}, "IDC-GPU-023"),
    ({"proc": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.178.04"}, "IDC-GPU-015"),
    ({"fabric_active": False}, "IDC-GPU-013"),
])
def test_what_no_boot_mends(change, code):
    assert codes(nvidia_plan(given(), switched(**change), "gpu01")["problems"]) == [code]


def test_a_module_that_does_not_build_is_told_with_the_compilers_words():
    """As Debian 12's open modules of 2026-11; one that was built since is no problem, whatever an old log says."""
    failed = {"module": "nvidia-open-535.261.03", "error": "kernel-open/nvidia/nv-pci.c:242:9: error: too few arguments"}
    [line] = nvidia_plan(given(), switched(built="", unbuilt=failed), "gpu01")["problems"]
    assert line.startswith("IDC-GPU-033: gpu01: the module nvidia-open-535.261.03 does not build for the kernel 6.8.0-60-generic: "
                           "kernel-open/nvidia/nv-pci.c:242:9: error: too few arguments") and "nvidia_stack_modules" in line
    assert nvidia_plan(given(), switched(unbuilt=failed), "gpu01")["problems"] == []


def test_a_module_that_no_package_brought_is_not_missed():
    """As on a virtual machine of two H200 whose driver came with its image: loaded, and nothing installed."""
    assert nvidia_plan(given(), installed(built="", packages={}), "gpu01")["problems"] == []


@pytest.mark.parametrize(("change", "code"), [
    ({"iommu": "translated"}, "IDC-GPU-019"), ({"acs": ["0000:17:00.0"]}, "IDC-GPU-020"),
    ({"kernels": {"6.8.0-60-generic": "580.178.04", "6.8.0-71-generic": ""}}, "IDC-GPU-024"),
])
def test_advice(change, code):
    plan = nvidia_plan(given(), installed(**change))
    assert codes(plan["warnings"]) == [code] or code in plan["warnings"][0]
    assert plan["errors"] == [] and plan["problems"] == []


def test_advice_on_the_iommu_is_for_bare_metal():
    assert nvidia_plan(given(), installed(iommu="translated", virtual="kvm"))["warnings"] == []
    old = {"6.8.0-60-generic": "580.178.04", "6.8.0-31-generic": ""}
    assert nvidia_plan(given(), installed(kernels=old))["warnings"] == []


def test_what_an_engine_loads_is_held_against_the_driver():
    """torch 2.11 as an H200's image had it: CUDA 13.0, cuDNN 91900, NCCL 2.28.9."""
    said = {"torch": "2.11.0+cu130", "cuda": "13.0", "cudnn": 91900, "nccl": "2.28.9"}
    assert nvidia_engine_errors(said, installed()) == []
    [line] = nvidia_engine_errors(said, installed("550.163.01"), "gpu01")
    assert line.startswith("IDC-GPU-018: gpu01: the driver is 550.163.01, wanted: at least 580.65.06 for CUDA 13.0")
    assert nvidia_engine_errors({**said, "cuda": "12.9"}, installed("550.163.01")) == []
    assert len(nvidia_engine_errors({**said, "nccl": "2.19.3", "cudnn": 8906}, installed())) == 2
    assert nvidia_engine_errors({"torch": "2.13.0+cpu", "cuda": None, "cudnn": None, "nccl": None}, installed()) == []


def test_settings_are_nothing_until_the_site_wants_some():
    assert nvidia_plan(given(), installed())["settings"] == {}
    wanted = given(power_limit="80%", mig=[{"gpu": 0, "profiles": ["3g.71gb"]}], allow_acs=True)
    assert nvidia_plan(wanted, installed())["settings"] == {
        "power_limit": "80%", "clocks": {}, "mig": {"0": ["3g.71gb"]}, "acs_off": True}


@pytest.mark.parametrize(("one", "other", "equal"), [
    ("580.159.04", "580.159", True), ("580.159.04", "580.159.04", True), ("580.159.04", "580.159.03", False),
    ("580", "580.159", False), ("580.15", "580.159.04", False),
])
def test_versions_that_are_the_same(one, other, equal):
    assert same(one, other) is equal


def test_nvidias_version_in_a_packages():
    assert upstream("3:580.178.04-1.el9") == upstream("580.178.04-1ubuntu1") == "580.178.04"
    assert upstream("1:4.5.2-1") == "4.5.2"


def test_containers_are_described_anew_for_another_driver():
    assert nvidia_plan(given(), installed())["describe"]
    assert not nvidia_plan(given(), installed(cdi="580.178.04"))["describe"]
    assert nvidia_plan(given(), installed(cdi="580.159.04"))["describe"]
