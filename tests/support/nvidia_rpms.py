# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories as NVIDIA's and the system's own are on RHEL 9, of rpms that hold next to nothing; see nvidia_stub.py.

rpm's tools are those of the container that the packages are for. Epochs, the split into packages and what requires and
conflicts with what follow NVIDIA's packaging sources; the streams of the module nvidia-driver hide what is not of the enabled one.
"""
from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.box import Box
from tests.support.nvidia_stub import HERE, UNIT, module

LIB = "usr/lib64"
MAKE = "/root/stub-make"
KEYS = "/root/stub-keys"
GPG = f"gpg --batch --yes --quiet --homedir {KEYS}"
# Debian's rpm keeps its database in the home of whoever calls it
MACROS = f"""%_dbpath /var/lib/rpm
%_rpmdir {MAKE}/out
%_build_name_fmt %%{{NAME}}-%%{{VERSION}}-%%{{RELEASE}}.rpm
%__os_install_post %{{nil}}
%debug_package %{{nil}}
%__gpg /usr/bin/gpg
%_gpg_path {KEYS}
%_gpg_name stub@example.internal
"""


def make_key(box: Box) -> str:
    """Settings for rpm's tools and a key of NVIDIA's kind, RSA, in the container; its fingerprint."""
    box.sh(f"mkdir -p /etc/rpm && cat >/etc/rpm/macros <<'END'\n{MACROS}END\nmkdir -m 700 {KEYS}")
    box.sh(f"{GPG} --passphrase '' --quick-gen-key 'Stub <stub@example.internal>' rsa2048 sign never")
    rows = box.sh(f"{GPG} --list-keys --with-colons").splitlines()
    return next(row.split(":")[9] for row in rows if row.startswith("fpr"))


class Rpms:
    """One repository. place: its folder in the container; kernel: the one that modules are for; signed: its packages are, too."""

    def __init__(self, box: Box, here: Path, place: str, kernel: str = "", signed: bool = True) -> None:
        self.box, self.here, self.place, self.kernel, self.signed = box, here, place, kernel, signed
        self.streams: dict[str, list[str]] = {}
        here.mkdir(parents=True, exist_ok=True)

    def rpm(self, name: str, version: str, requires: Iterable[str] = (), files: Mapping[str, str | Path] | None = None,
            post: str = "", streams: Iterable[str] = (), more: Iterable[str] = ()) -> None:
        """Describe a package, to be built when it is published. version: epoch:version-release; more: lines of its head."""
        epoch, _colon, rest = version.rpartition(":")
        number, release = rest.rsplit("-", 1)
        root = self.here / f"{name}-{rest}"
        body = [f"Name: {name}", f"Epoch: {epoch or 0}", f"Version: {number}", f"Release: {release}", "Summary: stub",
                "License: none", "AutoReqProv: no", *(f"Requires: {one}" for one in requires), *more, "%description", "stub"]
        for path, content in (files or {}).items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
            target.chmod(0o755 if "/bin/" in path else 0o644)
        if files:
            body += ["%install", f"mkdir -p %{{buildroot}} && cp -a {MAKE}/{root.name}/. %{{buildroot}}/"]
        body += ["%post", post] if post else []
        body += ["%files", *(f"/{path}" for path in files or ())]
        (self.here / f"{root.name}.spec").write_text("\n".join(body) + "\n")
        for stream in streams:
            self.streams.setdefault(stream, []).append(f"{name}-{epoch or 0}:{rest}.x86_64")

    def driver(self, version: str) -> None:
        """A driver: named packages, what they pull in at the same version, both kinds of kernel modules, companions."""
        branch, base, full, plain = version.partition(".")[0], f"3:{version}", f"3:{version}-1.el9", f"{version}-1"
        both = (f"{branch}-open", f"{branch}-dkms")
        for stream, licence, name, other in (("open", "Dual MIT/GPL", "open", "latest"), ("dkms", "NVIDIA", "latest", "open")):
            with tempfile.TemporaryDirectory() as work:
                self.rpm(f"kmod-nvidia-{name}-dkms", full, ["dkms", f"nvidia-kmod-common = {base}"],
                         {f"usr/lib/modules/{self.kernel}/extra/nvidia.ko": module(Path(work), version, licence)},
                         f"depmod {self.kernel}", [f"{branch}-{stream}"],
                         [f"Provides: nvidia-kmod = {base}", f"Conflicts: kmod-nvidia-{other}-dkms"])
        self.rpm("nvidia-kmod-common", full, [f"nvidia-kmod = {base}"], streams=both)
        self.rpm("libnvidia-ml", full, (), {f"{LIB}/libnvidia-ml.so.{version}": "library\n"},
                 f"ln -sf libnvidia-ml.so.{version} /{LIB}/libnvidia-ml.so.1", both)
        self.rpm("nvidia-driver-cuda-libs", full, [f"libnvidia-ml = {full}"], {f"{LIB}/libcuda.so.{version}": "library\n"},
                 streams=both)
        smi = "#!/usr/bin/python3\n" + (HERE / "nvml/nvidia_smi.py").read_text(encoding="utf-8")
        pulled = ("nvidia-driver-cuda-libs", "nvidia-kmod-common", "nvidia-persistenced")
        self.rpm("nvidia-driver-cuda", full, [f"{name} = {full}" for name in pulled], {"usr/bin/nvidia-smi": smi}, streams=both)
        self.rpm("nvidia-persistenced", full, (), {"usr/lib/systemd/system/nvidia-persistenced.service": UNIT}, streams=both)
        said = f"#!/bin/sh\necho 'Fabric Manager version is : {version}'\n"
        self.rpm("nvidia-fabricmanager", plain, (), {"usr/lib/systemd/system/nvidia-fabricmanager.service": UNIT,
                                                     "usr/bin/nv-fabricmanager": said}, streams=both)
        self.rpm("libnvidia-nscq", plain, (), {f"{LIB}/libnvidia-nscq.so.{version}": "library\n"}, streams=both)

    def modules(self) -> str:
        """The streams of the module nvidia-driver, as modules.yaml has them."""
        text = ""
        for stream, packages in self.streams.items():
            rows = "".join(f"      - {one}\n" for one in packages)
            text += ("---\ndocument: modulemd\nversion: 2\ndata:\n  name: nvidia-driver\n"
                     f'  stream: "{stream}"\n  version: {len(packages)}\n  context: stub\n  arch: x86_64\n  summary: stub\n'
                     f"  description: stub\n  license:\n    module: [MIT]\n  artifacts:\n    rpms:\n{rows}...\n")
        return text

    def publish(self) -> None:
        """Build what is new; index and sign all of it."""
        if self.streams:
            (self.here / "modules.yaml").write_text(self.modules())  # createrepo_c takes it
        self.box.sh(f"rm -rf {MAKE} && mkdir -p {MAKE} {self.place}")
        self.box.put(self.here, MAKE)
        for one in [*self.here.glob("*.spec")]:
            one.unlink()
        self.box.sh(f"""
            set -e
            cd {MAKE}
            {{ nice rpmbuild --quiet -bb *.spec{' && rpmsign --addsign out/*.rpm' if self.signed else ''}; }} >log 2>&1 ||
                {{ tail log; exit 1; }}
            mv out/*.rpm {'modules.yaml' if self.streams else ''} {self.place}
            cd {self.place}
            rm -rf repodata
            createrepo_c --quiet .
            {GPG} --armor --detach-sign repodata/repomd.xml
            {GPG} --armor --export >key.pub""")
