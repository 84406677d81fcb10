# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real virtual machine of Debian 12 that boots, runs one unit, tells by its serial console what it saw, and powers off.

Without a usable KVM it takes a minute or two for each boot.
"""
from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.vm.image import APPEND, Image, accelerator

IMAGE = Image(packages=("linux-image-cloud-amd64", "initramfs-tools", "systemd", "systemd-sysv", "udev", "dbus", "python3",
                        "nftables", "iproute2", "kmod"),
              hooks=('chroot "$1" useradd --system --home-dir /var/lib/vllm --shell /usr/sbin/nologin vllm',
                     'rm -rf "$1"/usr/share/doc "$1"/usr/share/locale "$1"/var/cache/apt "$1"/var/lib/apt/lists/*',
                     ': > "$1/etc/machine-id"; echo vm > "$1/etc/hostname"'))
MARK = "RESULT "


@dataclass(frozen=True)
class Machine:
    """A disk with the wanted files on it, and the kernel that boots it."""

    folder: Path

    @classmethod
    def made(cls, folder: Path, files: Mapping[str, tuple[str, str, int]], links: Mapping[str, str]) -> Machine:
        """files: path → (text, group, mode); links: path → target; both on top of the base."""
        def change(root: Path) -> None:
            lines = (root / "etc/group").read_text().splitlines()
            groups = {words[0]: int(words[2]) for words in (line.split(":") for line in lines)}
            for path, (text, group, mode) in files.items():
                target = root / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
                os.chown(target, 0, groups[group])
                target.chmod(mode)
            for path, to in links.items():
                target = root / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(to)

        IMAGE.disk(folder, "1500M", change)
        return cls(folder)

    def boot(self, seconds: int) -> dict[str, Any]:
        """What the machine said before it powered off."""
        command = ["qemu-system-x86_64", *accelerator(), "-smp", "1", "-m", "1024", "-nographic", "-nic", "none", "-no-reboot",
                   "-kernel", self.folder / "kernel", "-initrd", self.folder / "initrd",
                   "-drive", f"file={self.folder / 'disk'},format=raw,if=virtio", "-device", "virtio-rng-pci", "-append", APPEND]
        try:
            said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds,
                                  stdin=subprocess.DEVNULL).stdout
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"not done after {seconds} s:\n{(late.stdout or b'').decode(errors='replace')[-4000:]}") from late
        line = next((line for line in said.splitlines() if MARK in line), None)
        assert line, said[-6000:]
        return json.loads(line.partition(MARK)[2])
