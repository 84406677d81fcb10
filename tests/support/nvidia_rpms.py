# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository as NVIDIA's for RHEL 9 is, made in a container of Debian, which has dnf, rpmbuild and createrepo_c as packages.

Signed packages that hold next to nothing, signed lists, and the module nvidia-driver with its stream. The host takes itself for
Rocky 9 by its os-release alone.
"""
from __future__ import annotations

from tests.support.box import Box

PLACE = "/srv/www/repos/rhel9/x86_64"
TOOLS = "dnf dnf-plugins-core python3-dnf createrepo-c rpm gnupg kmod gcc libc6-dev"
ROCKY = 'NAME="Rocky Linux"\\nID="rocky"\\nID_LIKE="rhel centos fedora"\\nVERSION_ID="9.6"\\nPLATFORM_ID="platform:el9"\\n'
UNIT = "[Unit]\\nDescription=stub\\n[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"
STREAMS = ("580-open", "580-dkms")


def prepare(box: Box, kernel: str) -> str:
    """Tools, a key, a module on disk; the key's fingerprint."""
    box.sh(f"apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends {TOOLS}")
    box.sh(f"mkdir -p {PLACE} /etc/yum.repos.d /etc/pki/rpm-gpg /root/rpmbuild /lib/modules/{kernel}/build "
           f"/lib/modules/{kernel}/updates")
    box.sh(f"rm /etc/os-release; printf '{ROCKY}' > /etc/os-release")
    box.sh("gpg --batch --quiet --quick-gen-key --passphrase '' stub@example.internal rsa2048 sign never")
    box.sh(f"gpg --armor --export > {PLACE}/D42D0685.pub")
    box.sh("echo '%_gpg_name stub@example.internal' > /root/.rpmmacros")
    return box.sh("gpg --list-keys --with-colons | awk -F: '/^fpr/ {print $10; exit}'")


def built(box: Box, kernel: str, version: str) -> None:
    """The module as DKMS would have built it."""
    source = f'.section .modinfo,"a"\\n.asciz "version={version}"\\n.asciz "name=nvidia"\\n'
    box.sh(f"cd /lib/modules/{kernel}/updates && printf '{source}' > m.s && gcc -c -o nvidia.ko m.s && depmod {kernel}")


def rpm(box: Box, name: str, version: str, epoch: int = 3, unit: str = "", provides: str = "") -> None:
    """One package, signed."""
    lines = [f"Name: {name}", f"Epoch: {epoch}", f"Version: {version}", "Release: 1.el9", "Summary: stub", "License: MIT"]
    lines += [f"Provides: {provides}"] if provides else []
    units = "/usr/lib/systemd/system"
    install = f"mkdir -p %{{buildroot}}{units}; printf '{UNIT}' > %{{buildroot}}{units}/{unit}" if unit else ""
    files = f"{units}/{unit}" if unit else ""
    spec = "\n".join([*lines, "%description", "stub", "%install", install, "%files", files])
    box.sh(f"cat > /root/stub.spec <<'END'\n{spec}\nEND\nrpmbuild -bb --quiet --target x86_64 /root/stub.spec 2>&1")
    box.sh(f"rpmsign --addsign /root/rpmbuild/RPMS/x86_64/{name}-{version}-1.el9.x86_64.rpm >/dev/null 2>&1; "
           f"cp /root/rpmbuild/RPMS/x86_64/{name}-{version}-1.el9.x86_64.rpm {PLACE}/")


def driver(box: Box, version: str) -> None:
    """Publish a driver."""
    rpm(box, "nvidia-driver-cuda", version)
    rpm(box, "kmod-nvidia-open-dkms", version)
    rpm(box, "nvidia-persistenced", version, unit="nvidia-persistenced.service")


def publish(box: Box, *versions: str) -> None:
    """Index, name the streams, sign."""
    documents = []
    for stream in STREAMS:
        names = ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced")
        rpms = "".join(f"\n      - {name}-3:{version}-1.el9.x86_64" for version in versions for name in names)
        documents.append("---\ndocument: modulemd\nversion: 2\ndata:\n  name: nvidia-driver\n"
                         f"  stream: {stream}\n  version: 1\n  context: c0ffee42\n"
                         "  arch: x86_64\n  summary: stub\n  description: stub\n  license:\n    module: [MIT]\n"
                         f"  artifacts:\n    rpms:{rpms}\n...\n")
    box.sh(f"cat > /srv/modules.yaml <<'END'\n{''.join(documents)}END\ncd {PLACE} && rm -rf repodata && createrepo_c --quiet . && "
           "modifyrepo_c --mdtype=modules /srv/modules.yaml repodata >/dev/null && "
           "gpg --batch --yes --armor --detach-sign repodata/repomd.xml")
