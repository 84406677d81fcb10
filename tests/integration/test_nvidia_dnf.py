# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nvidia_stack with dnf: a container of Debian 12 that says it is Rocky Linux 9.

dnf, rpm, systemd and modinfo are real, and dnf is the version of RHEL 9 (4.14.0); packages, cards and the kernel's name are not.
What Debian's dnf has otherwise than RHEL's is made here: dnf.conf is RHEL's, rpm's database lies where RHEL has it, dnf's plugins
are taken away, and versionlock comes back as the rpm that the role asks for; /bin/sh is something that an rpm provides.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.box import CGROUP, Box, docker, image
from tests.support.nvidia_host import Cards, give_cards, good, refused, start
from tests.support.nvidia_rpms import Rpms, make_key
from tests.support.nvidia_stub import UNIT

NAME = "nvidia-dnf"
OLD, NEW, NEWER, BRANCH = "580.159.04", "580.178.04", "580.190.01", "595.91.07"
KERNEL = "5.14.0-570.12.1.el9_6.x86_64"
ROCKY = 'NAME="Rocky Linux"\nVERSION="9.6 (Blue Onyx)"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\n' \
    'PLATFORM_ID="platform:el9"\nPRETTY_NAME="Rocky Linux 9.6 (Blue Onyx)"\n'
GRUBBY = """#!/bin/sh
case $1 in
  --info=ALL) echo "index=0"; echo "args=\\"$(cat /srv/args)\\"" ;;
  --update-kernel=ALL) echo "$(cat /srv/args) ${2#--args=}" >/srv/args ;;
esac
"""
SETTINGS = "[main]\ngpgcheck=1\ninstallonly_limit=3\nclean_requirements_on_remove=True\nbest=True\nskip_if_unavailable=False\n"
PLUGIN = ("usr/lib/python3/dist-packages/dnf-plugins/versionlock.py", "etc/dnf/plugins/versionlock.conf",
          "etc/dnf/plugins/versionlock.list")
REPOS = "/srv/www/repos/rhel9/x86_64"
PULLED = {"libnvidia-ml", "nvidia-driver-cuda-libs", "nvidia-kmod-common"}
TOOLKIT = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1")

pytestmark = pytest.mark.skipif(not image(), reason="no image of the fleet here: script/bootstrap fleet")
assert CGROUP


@dataclass
class Host(Cards):
    """A container with cards and a repository of its own."""

    repository: Rpms
    fingerprint: str

    def versions(self) -> dict[str, str]:
        """Installed packages of the driver."""
        said = self.box.sh("rpm -qa --qf '%{NAME} %{VERSION}\\n' '*nvidia*'")
        return dict(line.split() for line in said.splitlines())

    def locks(self) -> dict[str, str]:
        """What versionlock holds, name → version; each once."""
        said = self.box.sh("grep -v '^#' /etc/dnf/plugins/versionlock.list | grep . || true").splitlines()
        found = dict(re.fullmatch(r"(.+?)-(?:\d+:)?(\d[^-]*)-[^-]+", line).groups() for line in said)
        assert len(found) == len(said), said
        return found


def system(box: Box, folder: Path) -> str:
    """What a bare RHEL has and Debian has not: its name, its kernel's, its own repository. Returns the key's fingerprint."""
    box.sh("apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends kmod rpm dnf "
           "dnf-plugins-core gpg gpg-agent createrepo-c && rm -rf /var/lib/apt/lists/* /usr/bin/apt-* /usr/bin/dpkg-query")
    fingerprint = make_key(box)
    (folder / "dnf.conf").write_text(SETTINGS)
    box.put(folder / "dnf.conf", "/etc/dnf/dnf.conf")
    (folder / "os-release").write_text(ROCKY)
    box.put(folder / "os-release", "/usr/lib/os-release")
    box.sh("ln -sf ../usr/lib/os-release /etc/os-release; echo 'Rocky Linux release 9.6 (Blue Onyx)' >/etc/redhat-release")
    name = f'import os; os.uname = lambda: os.uname_result(("Linux", "host", "{KERNEL}", "#1 SMP", "x86_64"))'
    box.sh(f"echo '{name}' >/usr/lib/python3/dist-packages/kernel.pth; mkdir -p /usr/lib/modules/{KERNEL} && "
           f"ln -s /usr/src/kernels/{KERNEL} /usr/lib/modules/{KERNEL}/build")
    base = Rpms(box, folder / "base", "/srv/base", signed=False)
    for path in PLUGIN:
        docker("cp", f"{box.name}:/{path}", str(folder / Path(path).name))
    box.sh("rm -r /usr/lib/python3/dist-packages/dnf-plugins/* /etc/dnf/plugins/*")
    base.rpm("python3-dnf-plugin-versionlock", "4.3.0-1.el9", (), {path: folder / Path(path).name for path in PLUGIN})
    provides = ("system-release = 9.6", "system-release(releasever) = 9", "/bin/sh")
    base.rpm("rocky-release", "9.6-1.el9", more=[f"Provides: {one}" for one in provides])
    version, release, _arch = re.fullmatch(r"(.+)-(.+)\.(.+)", KERNEL).groups()
    base.rpm("kernel-devel", f"{version}-{release}", (), {f"usr/src/kernels/{KERNEL}/Makefile": "all:\n"})
    base.rpm("dkms", "3.2.1-1.el9")  # of EPEL, in truth
    base.rpm("dracut", "057-1.el9", (), {"usr/bin/dracut": '#!/bin/sh\necho "$@" >/srv/dracut\n'})
    base.rpm("grubby", "8.40-1.el9", (), {"usr/bin/grubby": GRUBBY},
             "ln -sf ../bin/grubby /usr/sbin/grubby; echo ro quiet >/srv/args")
    base.publish()
    box.sh("mkdir -p /etc/yum.repos.d /etc/pki/rpm-gpg; printf '[base]\\nname=base\\nbaseurl=file:///srv/base\\ngpgcheck=0\\n' "
           ">/etc/yum.repos.d/base.repo && dnf -q -y install rocky-release dracut grubby")
    return fingerprint


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Iterator[Host]:
    """The host, for all tests in the order of the file: each goes on where the one before ended."""
    folder = tmp_path_factory.mktemp("dnf")
    box = start(NAME, "bookworm")
    fingerprint = system(box, folder)
    give_cards(box, folder, "/usr/lib64")
    repository = Rpms(box, folder / "nvidia", REPOS, KERNEL)
    repository.driver(NEW)
    repository.rpm("datacenter-gpu-manager-4-cuda13", "1:4.5.2-1", (), {"usr/lib/systemd/system/nvidia-dcgm.service": UNIT})
    repository.publish()
    box.sh(f"cp {REPOS}/key.pub {REPOS}/D42D0685.pub")
    docker("exec", "-d", NAME, "python3", "-m", "http.server", "--directory", "/srv/www", "--bind", "127.0.0.1", "8099")
    given = {"nvidia_stack_key_fingerprint": fingerprint, "nvidia_stack_address": "",
             "nvidia_stack_repository": "http://127.0.0.1:8099/repos"}
    yield Host(box, folder, given, repository, fingerprint)
    docker("rm", "-f", NAME)


def test_a_bare_host_can_be_checked(there):
    checked = there.run("--check")
    good(checked, changed=True)
    for package in ("nvidia-driver-cuda: install", "kmod-nvidia-open-dkms: install", "nvidia-fabricmanager: install"):
        assert f"{package} {NEW}-*" in checked.text
    assert f"kernel-devel-{KERNEL}: install" in checked.text
    assert there.versions() == {} and there.box.sh("rpm -q gpg-pubkey || true") == "package gpg-pubkey is not installed"
    assert there.box.sh("ls /etc/yum.repos.d /etc/pki/rpm-gpg /etc/dnf/plugins /etc/dnf/modules.d").split() == [
        "/etc/dnf/modules.d:", "/etc/dnf/plugins:", "/etc/pki/rpm-gpg:", "/etc/yum.repos.d:", "base.repo"]


def test_another_key_is_refused_before_it_is_believed(there):
    refused(there.run(nvidia_stack_key_fingerprint="0" * 40), "IDC-GPU-011", there.fingerprint, "wanted: " + "0" * 40)
    assert there.box.sh("ls /etc/pki/rpm-gpg") == "" and there.versions() == {}


def test_headers_that_no_repository_offers_are_told_once_they_have_been_asked(there):
    there.box.sh("sed -i '$aexcludepkgs=kernel-devel' /etc/yum.repos.d/base.repo")
    refused(there.run("--tags", "nvidia_stack_install"), "IDC-GPU-007", f"no repository offers kernel-devel-{KERNEL}")
    assert there.versions() == {}
    there.box.sh("sed -i '$d' /etc/yum.repos.d/base.repo")


def test_fresh_locked_and_only_once(there):
    fresh = there.run(nvidia_stack_allow_iommu=True)
    good(fresh, changed=True)
    found = there.versions()
    named = {"nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced", "nvidia-fabricmanager", "libnvidia-nscq"}
    assert set(found) == named | PULLED and set(found.values()) == {NEW}
    assert there.locks() == {**found, "datacenter-gpu-manager-4-cuda13": "4.5.2"}
    assert "stream=580-open" in there.box.sh("cat /etc/dnf/modules.d/nvidia-driver.module")
    assert there.box.sh(f"modinfo -k {KERNEL} -F version nvidia") == NEW
    assert "IDC-GPU-014" in fresh.text and "nouveau is loaded" in fresh.text  # asked for, not done
    assert there.box.sh("cat /srv/dracut") == "--force --regenerate-all" and there.box.sh("cat /srv/args") == "ro quiet iommu=pt"
    for unit in ("nvidia-persistenced", "nvidia-fabricmanager", "nvidia-dcgm"):
        assert there.box.sh(f"systemctl is-enabled {unit}; systemctl is-active {unit} || true").split() == ["enabled", "inactive"]
    good(there.run("--diff", nvidia_stack_allow_iommu=True), changed=False)


def test_after_a_boot_everything_runs(there):
    there.box.sh("rm -rf /srv/sys/module/nouveau")
    there.boot(NEW)
    booted = there.run()
    good(booted, changed=True)
    assert f"packages {NEW}, loaded module {NEW}, Fabric Manager {NEW}, NVML {NEW}" in booted.text
    for unit in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert there.box.sh(f"systemctl is-active {unit}") == "active"
    good(there.run("--check"), changed=False)


def test_fabric_manager_one_patch_off_is_told_with_four_versions(there):
    there.box.sh(f"sed -i 's/{NEW}/580.173.02/' /usr/bin/nv-fabricmanager")
    refused(there.run("--tags", "nvidia_stack_verify"), "IDC-GPU-010", f"packages {NEW}, loaded module {NEW}",
            "Fabric Manager 580.173.02", f"NVML {NEW}")
    there.box.sh(f"sed -i 's/580.173.02/{NEW}/' /usr/bin/nv-fabricmanager")


def test_nothing_moves_when_a_newer_driver_is_published(there):
    for version in (OLD, NEWER):
        there.repository.driver(version)
    there.repository.publish()
    before = there.versions()
    offered = there.box.sh("dnf -q --refresh --disableplugin=versionlock list --upgrades")
    assert f"nvidia-driver-cuda.x86_64 3:{NEWER}-1.el9" in re.sub(" +", " ", offered)
    said = there.box.sh("dnf -y upgrade")
    assert "Nothing to do" in said and there.versions() == before
    good(there.run("--tags", "nvidia_stack_install"), changed=False)


def test_a_downgrade_and_a_change_under_engines_are_refused(there):
    before = there.versions()
    refused(there.run(nvidia_stack_version=OLD), "IDC-GPU-008", f"nvidia-driver-cuda is 3:{NEW}-1.el9, wanted: {OLD}-*")
    there.box.sh("printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > /etc/systemd/system/idc-vllm@.service; "
                 "systemctl daemon-reload; systemctl start idc-vllm@tiny-blue-0")
    refused(there.run(nvidia_stack_version=NEWER), "IDC-GPU-009", "tiny-blue-0", "playbooks/drivers.yml")
    assert there.versions() == before
    there.box.sh("systemctl stop idc-vllm@tiny-blue-0")


def moves(there: Host, version: str, **variables) -> None:
    """Check mode says it and does nothing; then all of it is at that version, locked, and a second run does nothing."""
    before, locked = there.versions(), there.locks()
    good(there.run("--check", "--tags", "nvidia_stack_install", **variables), changed=True)
    assert (there.versions(), there.locks()) == (before, locked)
    good(there.run("--tags", "nvidia_stack_install", **variables), changed=True)
    found = there.versions()
    assert set(found.values()) == {version}
    assert there.locks() == {**found, "datacenter-gpu-manager-4-cuda13": "4.5.2"}
    good(there.run("--tags", "nvidia_stack_install", **variables), changed=False)


def test_an_upgrade_by_the_variable_moves_all_of_it_together(there):
    moves(there, NEWER, nvidia_stack_version=NEWER)
    moved = there.run(nvidia_stack_version=NEWER)
    good(moved)
    assert f"the module {NEW} is loaded, {NEWER} is installed" in moved.text and "IDC-GPU-014" in moved.text
    there.boot(NEWER)
    good(there.run(nvidia_stack_version=NEWER), changed=False)


def test_an_allowed_downgrade_goes_back(there):
    moves(there, OLD, nvidia_stack_version=OLD, nvidia_stack_allow_downgrade=True)


def test_another_branch_published_a_minute_ago_is_found_and_its_stream_takes_the_place_of_the_old_one(there):
    there.repository.driver(BRANCH)
    there.repository.publish()  # the lists that dnf has are from before, and good for two days
    moves(there, BRANCH, nvidia_stack_branch=595)
    assert "stream=595-open" in there.box.sh("cat /etc/dnf/modules.d/nvidia-driver.module")


def test_the_other_kernel_modules_take_the_place_of_the_open_ones(there):
    moves(there, BRANCH, nvidia_stack_branch=595, nvidia_stack_modules="proprietary")
    assert "kmod-nvidia-open-dkms" not in there.versions()
    assert there.box.sh(f"modinfo -k {KERNEL} -F license nvidia") == "NVIDIA"


def test_a_sites_own_repository_signs_its_metadata_alone_and_has_no_streams(there):
    there.box.sh("dnf -y remove '*nvidia*' 'datacenter*' && dnf -y module reset nvidia-driver && dnf versionlock clear")
    site = Rpms(there.box, there.here / "site", "/srv/site", KERNEL, signed=False)
    site.driver(NEW)
    for name in TOOLKIT:
        site.rpm(name, "1.19.1-1", (), {"usr/bin/nvidia-ctk": "#!/bin/sh\n"} if name == TOOLKIT[0] else None)
    site.streams.clear()
    site.publish()
    docker("cp", f"{NAME}:/srv/site/key.pub", str(there.here / "key.asc"))
    local = {"nvidia_stack_source": "local", "nvidia_stack_repository": "file:///srv/site", "nvidia_stack_dcgm_enabled": False,
             "nvidia_stack_key_src": str(there.here / "key.asc"), "nvidia_stack_container_toolkit_enabled": True}
    good(there.run("--tags", "nvidia_stack_install", **local), changed=True)
    found = there.versions()
    assert {found.pop(name) for name in TOOLKIT} == {"1.19.1"} and set(found.values()) == {NEW}
    assert there.locks() == there.versions()
    good(there.run("--tags", "nvidia_stack_install", **local), changed=False)
    there.box.sh("echo '<!-- of somebody else -->' >>/srv/site/repodata/repomd.xml")
    refused(there.run("--tags", "nvidia_stack_install", **local, nvidia_stack_version=NEWER), "Bad GPG signature")
    assert there.versions()["nvidia-driver-cuda"] == NEW
