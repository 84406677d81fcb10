# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nvidia_stack on containers of Debian 12 and 13: apt, dpkg, systemd and modinfo are real, packages and cards are not.

The cards are a tree like /sys, the packages those of tests/support/nvidia_stub.py. A module is "loaded" by writing its version
into that tree, as a boot would.
"""
from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.box import CGROUP, docker, image
from tests.support.nvidia_host import Cards, give_cards, good, gpus, refused, start
from tests.support.nvidia_stub import UNIT, Repository, kernel

NAME = "nvidia-stack-{}"
OLD, NEW, BROKEN, NEWER = "580.159.04", "580.178.04", "580.180.01", "580.190.01"
FM = {"fabric_manager": "nvidia-fabricmanager", "nscq": "libnvidia-nscq"}
SETTINGS = {"nvidia_stack_power_limit": "80%", "nvidia_stack_clocks_mhz": {"graphics": 1410, "memory": 3201}}

pytestmark = pytest.mark.skipif(not image(), reason="no image of the fleet here: script/bootstrap fleet")
assert CGROUP


@dataclass
class Host(Cards):
    """A container with cards and a repository of its own."""

    repository: Repository
    suite: str

    def publish(self) -> None:
        """Bring the repository as it is now."""
        self.repository.publish()
        self.box.sh(f"rm -rf {self.place} && mkdir -p {self.place}")
        self.box.put(self.repository.folder, self.place)
        self.box.sh(f"cp {self.place}/key.pub {self.place}/3bf863cc.pub")

    @property
    def place(self) -> str:
        """Where the container has it: as NVIDIA's tree is on Debian 12, a folder of the site's on Debian 13."""
        return "/srv/www/repos/debian12/x86_64" if self.suite == "bookworm" else "/srv/local"

    def versions(self) -> dict[str, str]:
        """Installed packages of the driver."""
        said = self.box.sh("dpkg-query -W -f '${Package} ${Version}\\n' '*nvidia*' 'libcuda1' 2>/dev/null | awk 'NF==2'")
        return dict(line.split() for line in said.splitlines())

    def holds(self) -> set[str]:
        """Packages that dpkg holds."""
        return set(self.box.sh("apt-mark showhold").split())


def host(suite: str, folder: Path) -> Host:
    """A fresh one, without a driver, whose repository has one version."""
    name = NAME.format(suite)
    box = start(name, suite)
    box.sh("apt-get update -q && apt-get install -q -y --no-install-recommends kmod && rm -rf /etc/apt/sources.list* "
           "/var/lib/apt/lists/* && mkdir /etc/apt/sources.list.d")
    give_cards(box, folder, "/usr/lib/x86_64-linux-gnu")
    repository = Repository(folder / "repository", kernel())
    repository.driver(NEW)
    repository.companions(NEW)
    headers = {f"usr/lib/modules/{kernel()}/build/Makefile": "all:\n"}
    repository.deb(f"linux-headers-{kernel()}", "6.1.1-1", "", headers)
    given = {"nvidia_stack_key_fingerprint": repository.fingerprint, "nvidia_stack_packages": dict(FM), "nvidia_stack_address": ""}
    if suite == "bookworm":
        repository.deb("datacenter-gpu-manager-4-cuda13", "1:4.5.2-1", "", {"usr/lib/systemd/system/nvidia-dcgm.service": UNIT})
        given |= {"nvidia_stack_repository": "http://127.0.0.1:8099/repos"}
    else:
        (folder / "key.asc").write_text((repository.folder / "key.pub").read_text())
        given |= {"nvidia_stack_source": "local", "nvidia_stack_repository": "file:///srv/local",
                  "nvidia_stack_key_src": str(folder / "key.asc")}
    made = Host(box, folder, given, repository, suite)
    made.publish()
    if suite == "bookworm":
        docker("exec", "-d", name, "python3", "-m", "http.server", "--directory", "/srv/www", "--bind", "127.0.0.1", "8099")
    return made


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def there(request, tmp_path_factory) -> Iterator[Host]:
    """The host of one suite, for all tests in the order of the file: each goes on where the one before ended."""
    if not image(request.param):
        pytest.skip("no image of this suite: script/bootstrap fleet")
    made = host(request.param, tmp_path_factory.mktemp(request.param))
    yield made
    made.repository.close()
    docker("rm", "-f", made.box.name)


def test_hosts_without_cards_and_hosts_that_others_look_after_are_only_looked_at(there):
    for run in (there.run("-e", "__nvidia_stack_sysfs=/nonexistent"), there.run(nvidia_stack_enabled=False)):
        good(run, changed=False)
        assert "cards on the PCI bus" in run.text
    amd = "/srv/amd/bus/pci/devices/0000:c1:00.0"
    there.box.sh(f"mkdir -p {amd}; cd {amd}; echo 0x1002 > vendor; echo 0x74a1 > device; echo 0x120000 > class")
    refused(there.run("-e", "__nvidia_stack_sysfs=/srv/amd"), "IDC-GPU-005", "1 cards of AMD", "ROCm")
    assert there.versions() == {}


def test_a_bare_host_can_be_checked(there):
    checked = there.run("--check")
    good(checked, changed=True)
    assert f"nvidia-driver-cuda: install {NEW}-1*" in checked.text
    assert there.versions() == {}
    assert there.box.sh("ls /etc/apt/sources.list.d /etc/modprobe.d 2>/dev/null | grep idc || true") == ""


def test_another_key_is_refused_before_it_is_believed(there):
    refused(there.run(nvidia_stack_key_fingerprint="0" * 40), "IDC-GPU-011", there.repository.fingerprint, "wanted: " + "0" * 40)
    assert there.box.sh("ls /etc/apt/keyrings/idc-llm-* 2>/dev/null || true") == "" and there.versions() == {}


def test_fresh_pinned_held_and_only_once(there):
    fresh = there.run()
    good(fresh, changed=True)
    found = there.versions()
    named = {"nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced", "nvidia-fabricmanager", "libnvidia-nscq"}
    assert named | {"libcuda1", "libnvidia-ml1"} <= set(found) and set(found.values()) == {f"{NEW}-1"}
    assert set(found) <= there.holds()
    assert there.box.sh(f"modinfo -k {kernel()} -F version nvidia") == NEW
    assert "IDC-GPU-014" in fresh.text and "nouveau is loaded" in fresh.text  # asked for, not done
    assert there.box.sh("ls /etc/default/grub.d 2>/dev/null || true") == ""
    for unit in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert there.box.sh(f"systemctl is-enabled {unit}; systemctl is-active {unit} || true").split() == ["enabled", "inactive"]
    assert "blacklist nouveau" in there.box.sh("cat /etc/modprobe.d/idc-llm-nouveau.conf")
    assert "NCCL_IB_HCA" not in there.box.sh("cat /etc/nccl.conf")  # the container's own interfaces, which have no RDMA
    again = there.run("--diff")
    good(again, changed=False)
    dcgm = there.box.sh("dpkg-query -W -f '${Version}' datacenter-gpu-manager-4-cuda13 2>/dev/null || true")
    if there.suite == "bookworm":
        assert dcgm == "1:4.5.2-1" and "datacenter-gpu-manager-4-cuda13" in there.holds()
    else:
        assert dcgm == "" and "IDC-GPU-027" in again.text


def test_after_a_boot_everything_runs_and_settings_hold(there):
    there.box.sh("rm -rf /srv/sys/module/nouveau")
    there.boot(NEW)
    booted = there.run(**SETTINGS)
    good(booted, changed=True)
    assert "IDC-GPU-014" not in booted.text
    assert f"packages {NEW}, loaded module {NEW}, Fabric Manager {NEW}, NVML {NEW}" in booted.text
    for unit in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert there.box.sh(f"systemctl is-active {unit}") == "active"
    state = json.loads(there.box.sh("cat /srv/gpus.json"))
    assert [(gpu["power.limit"], gpu["clocks.applications.graphics"]) for gpu in state["gpus"]] == [(560.0, 1410)] * 2
    assert there.box.sh("systemctl is-enabled idc-llm-gpu-settings.service") == "enabled"
    state["gpus"] = gpus()  # a boot forgets them; the unit sets them again
    (there.here / "gpus.json").write_text(json.dumps(state))
    there.box.put(there.here / "gpus.json", "/srv/gpus.json")
    there.box.sh("systemctl restart idc-llm-gpu-settings.service")
    assert json.loads(there.box.sh("cat /srv/gpus.json"))["gpus"][1]["power.limit"] == 560.0
    good(there.run(**SETTINGS), changed=False)


def test_nothing_moves_when_a_newer_driver_is_published(there):
    there.repository.driver(NEWER)
    there.repository.companions(NEWER)
    there.publish()
    there.box.sh("apt-get update -q")
    before = there.versions()
    said = there.box.sh("DEBIAN_FRONTEND=noninteractive apt-get -y dist-upgrade")
    assert there.versions() == before, said
    # the pins alone keep it, too
    there.box.sh("apt-mark unhold $(apt-mark showhold)")
    there.box.sh("DEBIAN_FRONTEND=noninteractive apt-get -y dist-upgrade")
    assert there.versions() == before
    good(there.run("--tags", "nvidia_stack_install"), changed=True)
    assert set(before) <= there.holds()


def test_fabric_manager_one_patch_off_is_told_with_four_versions(there):
    there.box.sh(f"sed -i 's/{NEW}/580.173.02/' /usr/bin/nv-fabricmanager")
    refused(there.run("--tags", "nvidia_stack_verify"), "IDC-GPU-010", f"packages {NEW}, loaded module {NEW}",
            "Fabric Manager 580.173.02", f"NVML {NEW}")
    there.box.sh(f"sed -i 's/580.173.02/{NEW}/' /usr/bin/nv-fabricmanager")
    good(there.run("--tags", "nvidia_stack_verify"), changed=False)


def test_a_downgrade_and_a_change_under_engines_are_refused(there):
    there.repository.driver(OLD)
    there.repository.companions(OLD)
    there.publish()
    before = there.versions()
    refused(there.run(nvidia_stack_version=OLD), "IDC-GPU-008", f"nvidia-driver-cuda is {NEW}-1, wanted: {OLD}-1*")
    there.box.sh("printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > /etc/systemd/system/idc-vllm@.service; "
                 "systemctl daemon-reload; systemctl start idc-vllm@tiny-blue-0")
    refused(there.run(nvidia_stack_version=NEWER), "IDC-GPU-009", "tiny-blue-0", "playbooks/drivers.yml")
    assert there.versions() == before
    there.box.sh("systemctl stop idc-vllm@tiny-blue-0")


def test_an_upgrade_by_the_variable_moves_all_of_it_together(there):
    there.box.sh(f"dpkg --unpack {there.place}/nvidia-persistenced_{NEWER}-1_amd64.deb")  # as a run that was killed leaves it
    moved = there.run(nvidia_stack_version=NEWER, **SETTINGS)
    good(moved, changed=True)
    assert set(there.versions().values()) == {f"{NEWER}-1"} and set(there.versions()) <= there.holds()
    assert f"the module {NEW} is loaded, {NEWER} is installed" in moved.text and "IDC-GPU-014" in moved.text
    there.boot(NEWER)
    good(there.run(nvidia_stack_version=NEWER, **SETTINGS), changed=False)


def test_an_allowed_downgrade_goes_back(there):
    back = {"nvidia_stack_version": OLD, "nvidia_stack_allow_downgrade": True}
    good(there.run("--tags", "nvidia_stack_install", **back), changed=True)
    assert set(there.versions().values()) == {f"{OLD}-1"} and set(there.versions()) <= there.holds()
    good(there.run("--tags", "nvidia_stack_install", **back), changed=False)


def test_a_module_that_does_not_build_is_told_and_another_version_mends_it(there):
    there.repository.driver(BROKEN, error="nv-pci.c:242:9: error: too few arguments to function")
    there.repository.companions(BROKEN)
    there.publish()
    for _run in range(2):
        refused(there.run("--tags", "nvidia_stack_install", nvidia_stack_version=BROKEN), "IDC-GPU-033",
                f"nvidia-{BROKEN} does not build for the kernel {kernel()}: nv-pci.c:242:9: error: too few arguments")
    good(there.run("--tags", "nvidia_stack_install", nvidia_stack_version=NEWER), changed=True)
    assert set(there.versions().values()) == {f"{NEWER}-1"} and set(there.versions()) <= there.holds()
    assert there.box.sh(f"modinfo -k {kernel()} -F version nvidia") == NEWER
