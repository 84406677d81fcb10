# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has to be given, and what is refused: pure decisions over what was seen."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.filter.nvidia import nvidia_errors, nvidia_plan
from ansible_collections.idc.llm.tests.unit.plugins.module_utils.nvidia import H100, SWITCH, given, installed, raw

ROCKY = {"id": "rocky", "version": "9.6", "codename": ""}
FABRIC = [H100, {**H100, "address": "0000:2a:00.0"}, SWITCH]
B200 = [{**H100, "device": "0x2901"}, {**H100, "device": "0x2901", "address": "0000:2a:00.0"}]


def codes(plan):
    return [line.partition(":")[0] for line in plan["errors"]]


def test_a_bare_host_gets_the_branchs_driver_at_one_version():
    plan = nvidia_plan(given(), raw(), "gpu01")
    assert plan["manage"] and plan["errors"] == [] and plan["driver_changes"]
    assert plan["specs"][:2] == ["libnvidia-compute-580=580.178.04-1*", "nvidia-dkms-580-open=580.178.04-1*"]
    assert "datacenter-gpu-manager-4-cuda13=*4.5.2-*" in plan["specs"]
    assert plan["services"] == ["nvidia-persistenced", "nvidia-dcgm"]
    [repository] = plan["repositories"]
    assert repository["uri"] == "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64"
    assert repository["fetch"] == repository["uri"] + "/3bf863cc.pub" and not repository["have_key"]
    assert "Pin: version 580.178.04-1*\nPin-Priority: 1000\n" in plan["preferences"]
    assert '"^nvidia-";' in plan["blacklist"] and '"^libcuda1";' in plan["blacklist"]
    assert plan["hold"] == []


def test_an_installed_one_is_left_and_held():
    plan = nvidia_plan(given(), installed(), "gpu01")
    assert not plan["changes"] and plan["hold"] == [] and plan["reboot"] == "" and plan["problems"] == [] and plan["ready"]
    loose = installed()
    for row in loose["packages"]:
        row["held"] = False
    assert "nvidia-dkms-580-open" in nvidia_plan(given(), loose)["hold"]


def test_a_change_lets_go_of_what_it_moves_and_of_nothing_else():
    more = {"name": "libnvidia-cfg1-580", "version": "580.178.04-1ubuntu1", "held": True}
    toolkit = {"name": "nvidia-container-toolkit", "version": "1.19.1-1", "held": True}
    there = installed()
    there["packages"] += [more, toolkit]
    assert nvidia_plan(given(), there)["moving"] == []
    moves = set(nvidia_plan(given(version="580.190.01"), there)["moving"])
    assert {"libnvidia-cfg1-580", "nvidia-dkms-580-open"} <= moves
    assert not {"nvidia-container-toolkit", "datacenter-gpu-manager-4-cuda13"} & moves


def test_a_distributions_package_of_the_same_driver_is_another():
    plan = nvidia_plan(given(), installed(revision="0ubuntu0.24.04.1"))
    assert plan["driver_changes"] and plan["errors"] == []


@pytest.mark.parametrize(("cards", "names"), [
    ([H100], ()),
    (FABRIC, ("nvidia-fabricmanager-580", "libnvidia-nscq-580")),
    (B200, ("nvidia-fabricmanager-580", "libnvidia-nscq-580", "nvlsm", "libnvsdm-580")),
    ([{**H100, "device": "0x2941"}], ("nvidia-imex-580",)),
])
def test_companions_follow_the_cards(cards, names):
    plan = nvidia_plan(given(), raw(cards=cards))
    assert plan["errors"] == []
    parts = {spec.partition("=")[0] for spec in plan["specs"]}
    known = {"nvidia-fabricmanager-580", "libnvidia-nscq-580", "nvlsm", "libnvsdm-580", "nvidia-imex-580"}
    assert parts & known == set(names)
    exact = [spec for spec in plan["specs"] if spec.startswith(("nvidia-fabric", "libnvidia-nscq"))]
    assert all(spec.endswith("=580.178.04-1*") for spec in exact)
    assert plan["load"] == (["ib_umad"] if cards is B200 else [])


def test_fabric_by_the_sites_word():
    assert "nvidia-fabricmanager" not in nvidia_plan(given(fabric="absent"), raw(cards=FABRIC))["services"]
    assert "nvidia-fabricmanager" in nvidia_plan(given(fabric="present"), raw())["services"]


def test_a_companion_whose_name_nobody_knows_is_refused_until_the_site_names_it():
    debian = {"os": {"id": "debian", "version": "12", "codename": "bookworm"}, "cards": FABRIC}
    plan = nvidia_plan(given(), raw(**debian), "gpu01")
    assert codes(plan) == ["IDC-GPU-002", "IDC-GPU-002"]
    assert "gpu01: the package of fabric_manager is not known for debian12" in plan["errors"][0]
    named = given(packages={"fabric_manager": "nvidia-fabricmanager-580", "nscq": "libnvidia-nscq-580"})
    plan = nvidia_plan(named, raw(**debian))
    assert plan["errors"] == [] and "nvidia-fabricmanager-580=580.178.04-1*" in plan["specs"]


@pytest.mark.parametrize(("system", "arch"), [
    ({"id": "ubuntu", "version": "26.04", "codename": ""}, "x86_64"), ({"id": "debian", "version": "12", "codename": ""},
                                                                       "aarch64"),
    ({"id": "fedora", "version": "43", "codename": ""}, "x86_64"),
])
def test_a_system_without_a_row_is_refused_with_those_that_have_one(system, arch):
    plan = nvidia_plan(given(), raw(os=system, arch=arch), "gpu01")
    assert codes(plan) == ["IDC-GPU-001"] and "debian13 (x86_64, sbsa)" in plan["errors"][0]


def test_a_key_that_nobody_knows_has_to_be_said():
    rhel = raw(os={"id": "rhel", "version": "10.0", "codename": ""})
    assert codes(nvidia_plan(given(), rhel)) == ["IDC-GPU-012"]
    plan = nvidia_plan(given(fingerprint="AB" * 20), rhel)
    assert plan["errors"] == [] and plan["manager"] == "dnf" and plan["stream"] == ""
    assert plan["specs"][0] == "nvidia-driver-cuda-580.178.04-*"


def test_rocky_gets_the_branchs_stream():
    plan = nvidia_plan(given(modules="proprietary"), raw(os=ROCKY))
    assert plan["stream"] == "580-dkms" and "kmod-nvidia-latest-dkms-580.178.04-*" in plan["specs"]
    assert plan["repositories"][0]["keyring"] == "/etc/pki/rpm-gpg/RPM-GPG-KEY-idc-llm-nvidia" and plan["sources"] == {}


@pytest.mark.parametrize(("enabled", "stream"), [("", "580-open"), ("580-open", ""), ("580-dkms", "580-open")])
def test_a_stream_is_chosen_where_it_is_not_the_one(enabled, stream):
    assert nvidia_plan(given(), raw(os=ROCKY, stream=enabled))["stream"] == stream


def test_the_other_kernel_modules_make_way_and_their_lock_goes():
    rows = [{"name": name, "version": "3:580.178.04-1.el9", "held": True}
            for name in ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced", "nvidia-kmod-common")]
    there = raw(os=ROCKY, packages=rows, stream="580-open")
    assert nvidia_plan(given(dcgm=False), there)["replaces"] == []
    plan = nvidia_plan(given(dcgm=False, modules="proprietary"), there)
    assert plan["changes"] and plan["replaces"] == ["kmod-nvidia-open-dkms"] and "kmod-nvidia-open-dkms" in plan["moving"]


@pytest.mark.parametrize(("changes", "signed"), [
    ({"container_toolkit": True}, [True, False]), ({"source": "local", "repository": "https://a/b"}, [False]),
])
def test_whose_packages_bear_a_signature(changes, signed):
    plan = nvidia_plan(given(**changes), raw(os=ROCKY))
    assert [one["packages_signed"] for one in plan["repositories"]] == signed


@pytest.mark.parametrize(("change", "code"), [
    ({"runfile": True}, "IDC-GPU-004"), ({"secure_boot": True}, "IDC-GPU-006"), ({"secure_boot": True, "key_enrolled": False},
                                                                                 "IDC-GPU-006"),
    ({"virtual": "kvm", "cards": [{**H100, "bar_bytes": 32 << 20}]}, "IDC-GPU-016"),
    ({"cards": [{**H100, "device": "0x1db5"}]}, "IDC-GPU-021"),
])
def test_hosts_that_cannot_have_it(change, code):
    assert codes(nvidia_plan(given(), raw(**change))) == [code]


def test_hosts_that_can():
    for change in ({"secure_boot": True, "key_enrolled": True}, {"virtual": "kvm"},
                   {"virtual": "", "cards": [{**H100, "bar_bytes": 32 << 20}]}):
        assert nvidia_plan(given(), raw(**change))["errors"] == []
    assert codes(nvidia_plan(given(modules="proprietary"), raw(cards=B200))) == ["IDC-GPU-021"]
    assert nvidia_plan(given(modules="proprietary"), raw(cards=[{**H100, "device": "0x1db5"}]))["errors"] == []


def test_headers_that_nobody_offers():
    bare = raw(headers=False)
    assert nvidia_plan(given(), bare)["errors"] == []  # nobody has been asked
    assert codes(nvidia_plan(given(), bare, asked=True)) == ["IDC-GPU-007"]
    offered = raw(headers=False, candidates={"linux-headers-6.8.0-60-generic": "6.8.0-60.63"})
    plan = nvidia_plan(given(), offered, asked=True)
    assert plan["errors"] == [] and "linux-headers-6.8.0-60-generic" in plan["specs"]


def test_an_older_driver_only_when_allowed():
    newer = installed("580.190.01")
    assert "IDC-GPU-008" in codes(nvidia_plan(given(version="580.178.04"), newer))
    plan = nvidia_plan(given(version="580.178.04", allow_downgrade=True), newer)
    assert plan["errors"] == [] and "Pin-Priority: 1001" in plan["preferences"]
    assert nvidia_plan(given(version="580.190.01"), installed())["errors"] == []


def test_a_version_that_nobody_offers_is_refused_once_they_have_been_asked():
    typo, name = given(version="580.178.4"), "libnvidia-compute-580"
    assert nvidia_plan(typo, raw())["errors"] == [] and name in nvidia_plan(typo, raw())["changing"]
    plan = nvidia_plan(typo, raw(offered={name: ["580.178.04-1ubuntu1", "580.190.01-1ubuntu1"]}), "gpu01", asked=True)
    assert codes(plan) == ["IDC-GPU-029"] and "580.178.4-1*" in plan["errors"][0]
    assert "580.178.04-1ubuntu1, 580.190.01-1ubuntu1" in plan["errors"][0]
    assert codes(nvidia_plan(typo, raw(offered={name: []}), asked=True)) == ["IDC-GPU-029"]
    right = raw(offered={name: ["580.178.04-1ubuntu1"], "datacenter-gpu-manager-4-cuda13": ["1:4.5.2-1"]})
    assert nvidia_plan(given(version="580.178.04"), right, asked=True)["errors"] == []


def test_what_a_change_would_be_on_a_host_that_is_drained_by_then():
    serving = installed(engines=["tiny-blue-0"])
    plan = nvidia_plan(given(version="580.190.01"), serving, drained=True)
    assert plan["errors"] == [] and plan["driver_changes"] and plan["engines"] == ["tiny-blue-0"] and not plan["serves"]
    assert nvidia_plan(given(), serving)["serves"] and not nvidia_plan(given(), installed())["serves"]


def test_nothing_is_changed_under_engines():
    serving = installed(engines=["tiny-blue-0"])
    assert nvidia_plan(given(), serving)["errors"] == []
    plan = nvidia_plan(given(version="580.190.01"), serving, "gpu01")
    assert codes(plan) == ["IDC-GPU-009"] and "tiny-blue-0" in plan["errors"][0]


def test_other_vendors_are_refused_by_name_and_a_host_without_cards_is_left():
    amd = {"address": "0000:c1:00.0", "vendor": "0x1002", "device": "0x74a1", "class": "0x120000", "driver": "amdgpu",
           "bar_bytes": 1}
    plan = nvidia_plan(given(), raw(cards=[amd, {**amd, "address": "0000:c2:00.0"}]), "gpu09")
    assert not plan["manage"] and codes(plan) == ["IDC-GPU-005"]
    assert "gpu09 has 2 cards of AMD" in plan["errors"][0] and "ROCm" in plan["errors"][0]
    ascend = {**amd, "vendor": "0x19e5"}
    assert "CANN" in nvidia_plan(given(), raw(cards=[ascend]))["errors"][0]
    assert nvidia_plan(given(), raw(cards=[]))["errors"] == [] and not nvidia_plan(given(), raw(cards=[]))["manage"]
    handed = {**H100, "driver": "vfio-pci"}
    assert not nvidia_plan(given(), raw(cards=[handed]))["manage"] and nvidia_plan(given(), raw(cards=[handed]))["errors"] == []


def test_the_distributions_driver_is_held_at_what_came():
    debian = {"os": {"id": "debian", "version": "12", "codename": "bookworm"},
              "archives": [{"uris": ["http://a/debian"], "suites": ["bookworm", "bookworm-updates"], "components": ["main"],
                            "signed": "/k.gpg"}]}
    plan = nvidia_plan(given(source="distribution", dcgm=False), raw(**debian))
    assert plan["errors"] == [] and plan["specs"] == ["nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"]
    text = plan["sources"]["distribution"]
    assert text.count("Components: contrib non-free non-free-firmware") == 2 and "Signed-By: /k.gpg" in text
    asked = {"nvidia-open-kernel-dkms": "535.261.03-1"}  # whose libraries a security update has moved to 535.309.01
    plan = nvidia_plan(given(source="distribution", dcgm=False), raw(**debian, candidates=asked))
    assert plan["specs"] == ["nvidia-open-kernel-dkms=535.261.03-*", "nvidia-smi=535.261.03-*", "libcuda1=535.261.03-*",
                             "nvidia-persistenced"]
    assert "Pin: version 535.261.03-*" in plan["preferences"]
    names = [spec.partition("=")[0] for spec in plan["specs"]]
    rows = [{"name": name, "version": "535.261.03-1", "held": False} for name in (*names, "libnvidia-ml1")]
    again = nvidia_plan(given(source="distribution", dcgm=False), raw(packages=rows, **debian))
    assert not again["changes"] and set(again["hold"]) == {row["name"] for row in rows}
    assert "Package: libnvidia-ml1\nPin: version 535.261.03-1\n" in again["preferences"]
    have = [{**debian["archives"][0], "components": ["main", "contrib", "non-free", "non-free-firmware"]}]
    assert nvidia_plan(given(source="distribution"), raw(**{**debian, "archives": have}))["sources"] == {}
    assert codes(nvidia_plan(given(source="distribution"), raw())) == ["IDC-GPU-003"]
    assert "IDC-GPU-002" in codes(nvidia_plan(given(source="distribution"), raw(cards=FABRIC, **debian)))


def test_a_site_repository_and_docker():
    local = given(source="local", repository="file:///srv/nvidia/", key_given=True, fingerprint="AB" * 20, container_toolkit=True)
    plan = nvidia_plan(local, raw())
    assert [(one["uri"], one["fetch"]) for one in plan["repositories"]] == [("file:///srv/nvidia", "")]
    assert "nvidia-container-toolkit=1.19.1-*" in plan["specs"]
    plan = nvidia_plan(given(container_toolkit=True), raw())
    assert [one["uri"] for one in plan["repositories"]][1] == "https://nvidia.github.io/libnvidia-container/stable/deb/amd64"
    assert plan["repositories"][1]["fetch"] == "https://nvidia.github.io/libnvidia-container/gpgkey"


@pytest.mark.parametrize(("changes", "words"), [
    ({"source": "cloud"}, "nvidia | distribution | local"), ({"branch": 570}, "580 | 595"), ({"version": "580"}, "580.178.04"),
    ({"version": "595.91.07"}, "a version of the branch 580"), ({"modules": "both"}, "open | proprietary"),
    ({"packages": {"fm": "x"}}, "fabric_manager"),
    ({"source": "local"}, "the address of a repository"), ({"fingerprint": "ABCD"}, "40 or 64"), ({"cuda_toolkit": "13.0"}, "13-0"),
    ({"power_limit": "120%"}, "percent"), ({"power_limit": "lots"}, "watts"), ({"clocks": {"graphics": 1400}}, "memory"),
    ({"mig": [{"gpu": "first", "profiles": []}]}, "an index or a UUID"), ({"mig": [{"gpu": "0", "profiles": ["half"]}]}, "3g.40gb"),
    ({"mig": [{"gpu": "0"}, {"gpu": 0}]}, "one entry for 0"), ({"hugepages": "many"}, "a number"), ({"rdma": "magic"}, "dmabuf"),
])
def test_wrong_values_are_told_with_what_is_wanted(changes, words):
    [line] = nvidia_errors(given(**changes))
    assert line.startswith("IDC-INV-007: nvidia_stack_") and words in line


def test_good_values_are_silent():
    assert nvidia_errors(given()) == []
    assert nvidia_errors(given(power_limit=400, clocks={"graphics": 1410, "memory": 1593}, source="distribution", branch=550,
                               mig=[{"gpu": "all", "profiles": ["1g.18gb+me"]}, {"gpu": "0"}])) == []
    assert "应为" in nvidia_errors(given(branch=1), "zh")[0]


def test_a_driver_of_the_branch_that_is_there_stays_where_nobody_names_a_version():
    plan = nvidia_plan(given(), installed("580.159.04"))
    assert (plan["version"], plan["changes"]) == ("580.159.04", False)
    assert nvidia_plan(given(version="580.178.04"), installed("580.159.04"))["changes"]
