# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server with NVIDIA's cards has and a container lacks: cards, a repository of drivers, and boots.

    python -m tests.support.nvidia_root FOLDER     makes FOLDER/root.tar (to unpack at /), key.asc and fingerprint

The cards are a tree like /sys in /srv/sys; the packages are those of nvidia_stub. A boot is a new start of the container: the unit
fleet-boot gives it a number of its own, which in a container is the kernel's, and "loads" the module that is installed, unless
/srv/refused names its version.
"""
from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.support.nvidia_stub import Repository, kernel
from tests.support.nvml import Machine

OLD, NEW, NEWER = "580.159.04", "580.178.04", "580.190.01"
HALF = "580.185.01"  # of which a library has not arrived
WINDOWS = {"resource": "0x10000000 0x10ffffff 0x14220c\n0x100000000000 0x103fffffffff 0x14220c"}
SMI = {"library": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "module": "/srv/sys/module/nvidia/version",
       "gpus": [{"index": number, "uuid": f"GPU-{number:08x}", "instances": [], "apps": False} for number in range(8)]}
UNIT = """[Unit]
Description=What a boot does to a server, and a new start of a container does not
DefaultDependencies=false
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=true
ExecStart=/usr/local/sbin/fleet-boot
[Install]
WantedBy=sysinit.target
"""
BOOT = """#!/bin/sh
set -e
cat /proc/sys/kernel/random/uuid > /run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
if [ -e /etc/modprobe.d/idc-llm-nouveau.conf ]; then rm -rf /srv/sys/module/nouveau; fi
rm -rf /srv/sys/module/nvidia /srv/proc
mkdir -p /srv/proc
version=$(modinfo -F version nvidia 2>/dev/null) || exit 0
if grep -qsxF "$version" /srv/refused; then exit 0; fi
mkdir -p /srv/sys/module/nvidia /srv/proc/driver/nvidia
echo "$version" > /srv/sys/module/nvidia/version
echo "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  $version  Release Build" > /srv/proc/driver/nvidia/version
"""


def make(folder: Path) -> None:
    """All of it; root.tar last, which says that it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        repository = Repository(work / "repository", kernel())
        try:
            for version in (OLD, NEW, NEWER, HALF):
                repository.driver(version)
                repository.companions(version)
            (repository.folder / f"libcuda1_{HALF}-1_amd64.deb").unlink()
            headers = {f"usr/lib/modules/{kernel()}/build/Makefile": "all:\n"}
            repository.deb(f"linux-headers-{kernel()}", "6.1.1-1", "", headers)
            repository.publish()
        finally:
            repository.close()
        machine = Machine.load("hgx-h100-8").with_(gpus={"defaults": {"sysfs": WINDOWS}}, sysfs={"modules": ["nouveau"]})
        files = {"srv/gpus.json": json.dumps(SMI), "etc/systemd/system/fleet-boot.service": UNIT, "usr/local/sbin/fleet-boot": BOOT}
        trees = {"srv/nvidia": repository.folder, "srv/sys": machine.install(work / "machine").sysfs}
        (folder / "key.asc").write_text((repository.folder / "key.pub").read_text())
        (folder / "fingerprint").write_text(repository.fingerprint)
        whole = folder / "root.tar"
        with tarfile.open(work / "root.tar", "w") as tar:
            for place, text in files.items():
                path = work / Path(place).name
                path.write_text(text)
                path.chmod(0o755 if "/sbin/" in place else 0o644)
                tar.add(path, place)
            for place, tree in trees.items():
                tar.add(tree, place)
        whole.write_bytes((work / "root.tar").read_bytes())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
