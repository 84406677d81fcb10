# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What virtual machines of Debian 12 start from: a root file system, a disk made of it, the kernel, and how QEMU runs it here.

Needs qemu-system-x86_64, mmdebstrap, mkfs.ext4, and root for the owners of files. All lies in the cache.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("IDC_LLM_CACHE", Path.home() / ".cache/idc_llm")) / "vm"
SEARCH = os.environ["PATH"] + ":/usr/sbin:/sbin"
TOOLS = ("qemu-system-x86_64", "mmdebstrap", "mkfs.ext4")
# what each machine's kernel is told
APPEND = ("root=/dev/vda rw console=ttyS0 edd=off net.ifnames=0 mitigations=off audit=0 cryptomgr.notests "
          "no_timer_check quiet systemd.show_status=false")


def missing(*more: str) -> list[str]:
    """Programs that this machine lacks."""
    return [tool for tool in (*TOOLS, *more) if not shutil.which(tool, path=SEARCH)]


def accelerator() -> list[str]:
    """KVM where a stock kernel boots on it, else QEMU's own translation."""
    fast = os.access("/dev/kvm", os.W_OK) and any(os.path.exists(f"/sys/module/{name}") for name in ("kvm_intel", "kvm_amd"))
    return ["-accel", "kvm", "-cpu", "host"] if fast else ["-accel", "tcg,thread=multi", "-cpu", "max"]


@dataclass(frozen=True)
class Image:
    """A root file system: what is installed, and what is done to it afterwards ($1 is the new root)."""

    packages: Sequence[str]
    hooks: Sequence[str]
    options: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Another list of packages or hooks is another image."""
        words = repr((tuple(self.packages), tuple(self.hooks), tuple(self.options)))
        return f"bookworm-{hashlib.sha256(words.encode()).hexdigest()[:12]}"

    def tar(self) -> Path:
        """The root file system, built once."""
        tar = CACHE / f"{self.name}.tar"
        if not tar.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            new = tar.with_suffix(f".{os.getpid()}.tar")
            hooks = [f"--customize-hook={hook}" for hook in self.hooks]
            subprocess.run(["mmdebstrap", "--variant=minbase", "--include=" + ",".join(self.packages), *self.options, *hooks,
                            "bookworm", new], check=True)
            new.rename(tar)
        return tar

    def disk(self, folder: Path, size: str, change: Callable[[Path], None] = lambda root: None) -> None:
        """Writes kernel, initrd and disk to the folder; change: what is done to the root file system first."""
        root = folder / "root"
        root.mkdir(parents=True)
        with tarfile.open(self.tar()) as tar:
            tar.extractall(root, filter="fully_trusted")
        change(root)
        for name, pattern in (("kernel", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            shutil.copy(next((root / "boot").glob(pattern)), folder / name)
        subprocess.run(["mkfs.ext4", "-q", "-d", root, folder / "disk", size], check=True, env={**os.environ, "PATH": SEARCH})
        shutil.rmtree(root)
