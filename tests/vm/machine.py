# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real virtual machine of Debian 12 that boots, runs one unit, tells by its serial console what it saw, and powers off.

Needs qemu-system-x86_64, mmdebstrap and mkfs.ext4. Without a usable KVM it takes a minute or two for each boot.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("IDC_LLM_CACHE", Path.home() / ".cache/idc_llm")) / "vm"
PACKAGES = ("linux-image-cloud-amd64", "initramfs-tools", "systemd", "systemd-sysv", "udev", "dbus", "python3", "nftables",
            "iproute2", "kmod")
HOOKS = ('chroot "$1" useradd --system --home-dir /var/lib/vllm --shell /usr/sbin/nologin vllm',
         'rm -rf "$1"/usr/share/doc "$1"/usr/share/locale "$1"/var/cache/apt "$1"/var/lib/apt/lists/*',
         ': > "$1/etc/machine-id"; echo vm > "$1/etc/hostname"')
TOOLS = ("qemu-system-x86_64", "mmdebstrap", "mkfs.ext4")
MARK = "RESULT "


def missing() -> list[str]:
    """Programs that this machine lacks."""
    return [tool for tool in TOOLS if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]


def base() -> Path:
    """The root file system as a tar, built once for each list of packages."""
    name = hashlib.sha256(repr((PACKAGES, HOOKS)).encode()).hexdigest()[:12]
    tar = CACHE / f"bookworm-{name}.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        new = tar.with_suffix(".new.tar")
        hooks = [f"--customize-hook={hook}" for hook in HOOKS]
        subprocess.run(["mmdebstrap", "--variant=minbase", "--include=" + ",".join(PACKAGES), *hooks, "bookworm", new], check=True)
        new.rename(tar)
    return tar


@dataclass(frozen=True)
class Machine:
    """A disk with the wanted files on it, and the kernel that boots it."""

    folder: Path

    @classmethod
    def made(cls, folder: Path, files: Mapping[str, tuple[str, str, int]], links: Mapping[str, str]) -> Machine:
        """files: path → (text, group, mode); links: path → target; both on top of the base."""
        root = folder / "root"
        root.mkdir(parents=True)
        with tarfile.open(base()) as tar:
            tar.extractall(root, filter="fully_trusted")
        groups = {words[0]: int(words[2]) for words in (line.split(":") for line in (root / "etc/group").read_text().splitlines())}
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
        for name, pattern in (("kernel", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            shutil.copy(next((root / "boot").glob(pattern)), folder / name)
        subprocess.run(["mkfs.ext4", "-q", "-d", root, folder / "disk", "1500M"], check=True,
                       env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        shutil.rmtree(root)
        return cls(folder)

    def boot(self, seconds: int) -> dict[str, Any]:
        """What the machine said before it powered off."""
        fast = os.access("/dev/kvm", os.W_OK) and any(os.path.exists(f"/sys/module/{name}") for name in ("kvm_intel", "kvm_amd"))
        accelerator = ["-accel", "kvm", "-cpu", "host"] if fast else ["-accel", "tcg", "-cpu", "max"]
        command = ["qemu-system-x86_64", *accelerator, "-smp", "1", "-m", "1024", "-nographic", "-nic", "none", "-no-reboot",
                   "-kernel", self.folder / "kernel", "-initrd", self.folder / "initrd",
                   "-drive", f"file={self.folder / 'disk'},format=raw,if=virtio", "-device", "virtio-rng-pci",
                   "-append", "root=/dev/vda rw console=ttyS0 edd=off net.ifnames=0 quiet systemd.show_status=false"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds,
                                  stdin=subprocess.DEVNULL).stdout
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"not done after {seconds} s:\n{(late.stdout or b'').decode(errors='replace')[-4000:]}") from late
        line = next((line for line in said.splitlines() if MARK in line), None)
        assert line, said[-6000:]
        return json.loads(line.partition(MARK)[2])
