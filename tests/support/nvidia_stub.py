# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository as NVIDIA's is: signed, with packages of the right names and versions that hold next to nothing.

The key is made at run time. What the packages hold is what the role looks at: a kernel module with a version (an ELF file that no
kernel would load), the library's name, nvidia-smi (a stand-in), units.
"""
from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.nvml import compiler

HERE = Path(__file__).parent
LIB = "usr/lib/x86_64-linux-gnu"
UNIT = "[Unit]\nDescription=stub\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


def module(folder: Path, version: str, licence: str = "Dual MIT/GPL") -> Path:
    """nvidia.ko as modinfo reads it."""
    source = folder / "module.s"
    source.write_text(f'.section .modinfo,"a"\n.asciz "version={version}"\n.asciz "license={licence}"\n.asciz "name=nvidia"\n')
    path = folder / "nvidia.ko"
    subprocess.run([compiler(), "-c", "-o", path, source], check=True)
    return path


class Repository:
    """A folder to publish packages in. kernel: the one that modules are for."""

    def __init__(self, folder: Path, kernel: str) -> None:
        self.folder, self.kernel = folder, kernel
        folder.mkdir(parents=True, exist_ok=True)
        self.home = Path(tempfile.mkdtemp(prefix="idc-gpg-"))  # short: gpg-agent's socket lies in it
        self._gpg("--quick-gen-key", "--passphrase", "", "Stub <stub@example.internal>", "ed25519", "sign", "never")
        (folder / "key.pub").write_text(self._gpg("--armor", "--export"))
        rows = self._gpg("--list-keys", "--with-colons").splitlines()
        self.fingerprint = next(row.split(":")[9] for row in rows if row.startswith("fpr"))

    def _gpg(self, *words: str) -> str:
        argv = ["gpg", "--batch", "--yes", "--quiet", "--homedir", self.home, *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        """Let the key's agent end, and forget the key."""
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def deb(self, name: str, version: str, depends: str = "", files: Mapping[str, str | Path] | None = None,
            postinst: str = "") -> None:
        """Build one package. files: path → text, or a file to take."""
        with tempfile.TemporaryDirectory() as work:
            root = Path(work) / "root"
            (root / "DEBIAN").mkdir(parents=True)
            lines = [f"Package: {name}", f"Version: {version}", "Architecture: amd64", "Maintainer: Stub <stub@example.internal>",
                     "Section: misc", "Priority: optional", "Description: stub"]
            (root / "DEBIAN/control").write_text("\n".join(lines + ([f"Depends: {depends}"] if depends else [])) + "\n")
            if postinst:
                (root / "DEBIAN/postinst").write_text(f"#!/bin/sh\nset -e\n{postinst}\n")
                (root / "DEBIAN/postinst").chmod(0o755)
            for path, content in (files or {}).items():
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
                target.chmod(0o755 if "/bin/" in path else 0o644)
            plain = version.replace(":", "%3a")
            subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Znone", root, self.folder / f"{name}_{plain}_amd64.deb"],
                           check=True, capture_output=True)

    def driver(self, version: str, revision: str = "1", error: str = "") -> None:
        """Publish a driver as NVIDIA's Debian repository has it: named packages, and what they pull in at the same version.

        error: the compiler's, where DKMS cannot build the module.
        """
        full = f"{version}-{revision}"
        with tempfile.TemporaryDirectory() as work:
            built = {} if error else {f"usr/lib/modules/{self.kernel}/updates/dkms/nvidia.ko": module(Path(work), version)}
            log = f"/var/lib/dkms/nvidia/{version}/build/make.log"
            head = f"DKMS make.log for nvidia-{version} for kernel {self.kernel} (x86_64)"
            broken = f"mkdir -p $(dirname {log})\nprintf '%s\\n' '{head}' '{error}' >{log}\nexit 10\n" if error else ""
            self.deb("nvidia-kernel-open-dkms", full, "kmod", built, postinst=f"depmod {self.kernel}\n{broken}")
        self.deb("libnvidia-ml1", full, "", {f"{LIB}/libnvidia-ml.so.{version}": "library\n"},
                 postinst=f"ln -sf libnvidia-ml.so.{version} /{LIB}/libnvidia-ml.so.1")
        self.deb("libcuda1", full, f"libnvidia-ml1 (= {full})", {f"{LIB}/libcuda.so.{version}": "library\n"})
        self.deb("nvidia-driver-cuda", full, f"libcuda1 (= {full}), python3-minimal | python3",
                 {"usr/bin/nvidia-smi": "#!/usr/bin/python3\n" + (HERE / "nvml/nvidia_smi.py").read_text(encoding="utf-8")})
        self.deb("nvidia-persistenced", full, "", {"usr/lib/systemd/system/nvidia-persistenced.service": UNIT})

    def companions(self, version: str, revision: str = "1") -> None:
        """Publish what an NVSwitch host needs beside it."""
        full = f"{version}-{revision}"
        said = f"#!/bin/sh\necho 'Fabric Manager version is : {version}'\n"
        self.deb("nvidia-fabricmanager", full, "", {"usr/lib/systemd/system/nvidia-fabricmanager.service": UNIT,
                                                    "usr/bin/nv-fabricmanager": said})
        self.deb("libnvidia-nscq", full, "", {f"{LIB}/libnvidia-nscq.so.{version}": "library\n"})

    def publish(self) -> None:
        """Index and sign what lies there."""
        stanzas = []
        for path in sorted(self.folder.glob("*.deb")):
            control = subprocess.run(["dpkg-deb", "--field", path], check=True, capture_output=True, text=True).stdout
            data = path.read_bytes()
            stanzas.append(f"{control}Filename: ./{path.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
        packages = "\n".join(stanzas).encode()
        (self.folder / "Packages").write_bytes(packages)
        release = ("Origin: NVIDIA\nLabel: NVIDIA CUDA\nArchitectures: amd64\nDate: Mon, 30 Nov 2026 00:00:00 UTC\nSHA256:\n"
                   f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n")
        (self.folder / "Release").write_text(release)
        self._gpg("--clearsign", "--output", str(self.folder / "InRelease"), str(self.folder / "Release"))


def kernel() -> str:
    """The one that runs here, and so in a container."""
    return os.uname().release
