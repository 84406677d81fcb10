# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NVIDIA's driver and its companions are called, by branch and system. A table of facts; private to this collection.

A name that was seen nowhere is absent, never guessed: ``None`` in a row, no row, or no key. A site that has seen it says so in
``nvidia_stack_packages``. {branch} stands for the branch.

Sources, named in each row by their letter:
  G  NVIDIA's Driver Installation Guide (docs.nvidia.com/datacenter/tesla/driver-installation-guide, 590 to 620): kernel modules,
     version locking, compute-only installation
  F  file names in NVIDIA's repositories as published logs and lists show them
  A  Amazon Linux 2023's lists of the packages that NVIDIA's own repository for it holds (580.126.20, 595.91.07)
  D  DCGM's installation page (docs.nvidia.com/datacenter/dcgm/latest/installation.html)
  V  NVSDM's installation page (docs.nvidia.com/datacenter/tesla/nvsdm/installation.html)
  K  fingerprints of the repositories' keys as published configurations pin them
  R  field reports: HGX B200 needs nvlsm; NVIDIA's words in a bug report that libnvidia-nscq of 595 has no suffix
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Mapping, Optional, Tuple

BASE = "https://developer.download.nvidia.com/compute/cuda/repos"
TOOLKIT_BASE = "https://nvidia.github.io/libnvidia-container/stable"
BRANCHES: Mapping[int, str] = {580: "long-term support until 06-2028", 595: "production branch until 03-2027"}
# The driver that a branch means where the site names none: the newest that was seen published (F).
VERSIONS: Mapping[int, str] = {580: "580.178.04", 595: "595.91.07"}
# Companions that have versions of their own (F). nvlsm goes by date and has to be named by the site: the newest is not known.
COMPANION_VERSIONS: Mapping[str, str] = {"dcgm": "4.5.2", "container_toolkit": "1.19.1"}


@dataclass(frozen=True)
class Key:
    """A repository's OpenPGP key: its file there, and its fingerprint, "" where that was not seen in full."""

    file: str
    fingerprint: str


_DEB = Key("3bf863cc.pub", "EB693B3035CD5710E231E123A4B469963BF863CC")  # K
_DEB13 = Key("8793F200.pub", "02182E60104FCDC26EAE1B8597A5D4CB8793F200")  # K
_RPM = Key("D42D0685.pub", "610C7B14E068A878070DA4E99CD0A493D42D0685")  # K
_RPM10 = Key("CDF6BA43.pub", "")  # F: the file; its fingerprint was not seen
# K. It signs the metadata alone: NVIDIA's nvidia-container-toolkit.repo has repo_gpgcheck=1 and gpgcheck=0
TOOLKIT_KEY = Key("gpgkey", "C95B321B61E88C1809C4F759DDCAE044F796ECB0")


@dataclass(frozen=True)
class Row:
    """One branch on one system in NVIDIA's repository. Companions are None where their name is not known.

    pinning: what holds a branch beside our own pins: NVIDIA's package of apt pins, a module stream, or versionlock alone.
    """

    system: str
    branch: int
    manager: str  # apt, dnf
    repository: str
    arches: Tuple[str, ...]  # as the repository calls them
    key: Key
    pinning: str
    stream: Mapping[str, str]  # modules → stream of the dnf module nvidia-driver; empty where there are no streams
    open: Tuple[str, ...]
    proprietary: Tuple[str, ...]
    headers: str  # of the kernel {kernel}
    fabric_manager: Optional[str]
    nscq: Optional[str]
    nvsdm: Optional[str]
    imex: Optional[str]
    nvlsm: Optional[str]
    dcgm: Optional[str]
    cuda_toolkit: str  # {cuda}: 13-0
    container_toolkit: Tuple[str, ...]
    source: str


_TOOLKIT = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1")
_DCGM = "datacenter-gpu-manager-4-cuda13"
_UBUNTU_580 = Row(
    system="ubuntu2404", branch=580, manager="apt", repository="ubuntu2404", arches=("x86_64", "sbsa"), key=_DEB,
    pinning="nvidia-driver-pinning-580", stream={},
    open=("libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580", "nvidia-compute-utils-580"),
    proprietary=("libnvidia-compute-580", "nvidia-dkms-580", "nvidia-utils-580", "nvidia-compute-utils-580"),
    headers="linux-headers-{kernel}", fabric_manager="nvidia-fabricmanager-580", nscq="libnvidia-nscq-580", nvsdm="libnvsdm-580",
    imex="nvidia-imex-580", nvlsm="nvlsm", dcgm=_DCGM, cuda_toolkit="cuda-toolkit-{cuda}", container_toolkit=_TOOLKIT,
    source="G F V R; nvidia-smi and nvidia-persistenced are in the packages utils and compute-utils (F)")
_UBUNTU_595 = replace(
    _UBUNTU_580, branch=595, pinning="nvidia-driver-pinning-595",
    open=("libnvidia-compute", "nvidia-dkms-open", "nvidia-persistenced"),
    proprietary=("libnvidia-compute", "nvidia-dkms", "nvidia-persistenced"),
    fabric_manager="nvidia-fabricmanager", nscq="libnvidia-nscq", nvsdm="libnvsdm", imex="nvidia-imex",
    source="G (names without a suffix from 590) F R; which package brings nvidia-smi was not seen, the verify stage finds out")
_DEBIAN_580 = Row(
    system="debian12", branch=580, manager="apt", repository="debian12", arches=("x86_64",), key=_DEB,
    pinning="nvidia-driver-pinning-580", stream={},
    open=("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"),
    proprietary=("nvidia-driver-cuda", "nvidia-kernel-dkms", "nvidia-persistenced"),
    headers="linux-headers-{kernel}", fabric_manager=None, nscq=None, nvsdm=None, imex=None, nvlsm=None, dcgm=_DCGM,
    cuda_toolkit="cuda-toolkit-{cuda}", container_toolkit=_TOOLKIT,
    source="G D F; Fabric Manager was seen for 550, 565 and 570 only (nvidia-fabricmanager-570), so it is absent here")
_RHEL_580 = Row(
    system="rhel9", branch=580, manager="dnf", repository="rhel9", arches=("x86_64", "sbsa"), key=_RPM,
    pinning="module nvidia-driver and versionlock", stream={"open": "580-open", "proprietary": "580-dkms"},
    open=("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-persistenced"),
    proprietary=("nvidia-driver-cuda", "kmod-nvidia-latest-dkms", "nvidia-persistenced"),
    headers="kernel-devel-{kernel}", fabric_manager="nvidia-fabricmanager", nscq="libnvidia-nscq", nvsdm="libnvsdm",
    imex="nvidia-imex", nvlsm="nvlsm", dcgm=_DCGM, cuda_toolkit="cuda-toolkit-{cuda}", container_toolkit=_TOOLKIT,
    source="G F D K; companions by A (up to 580.65.06 Fabric Manager was called nvidia-fabric-manager)")
_RHEL_595 = replace(_RHEL_580, branch=595, stream={"open": "595-open", "proprietary": "595-dkms"},
                    source="G (streams are called BRANCH-open and BRANCH-dkms) D K; companions by A")
_RHEL_10 = replace(_RHEL_580, system="rhel10", repository="rhel10", arches=("x86_64",), key=_RPM10, pinning="versionlock",
                   stream={}, source="G F D; companions by A; the key's fingerprint was not seen, the site has to give it")


def _debian_13(row: Row) -> Row:
    return replace(row, system="debian13", repository="debian13", arches=("x86_64", "sbsa"), key=_DEB13, dcgm=None,
                   source="G F K; D lists Debian 12, not 13")


_DEBIAN_595 = replace(_DEBIAN_580, branch=595, pinning="nvidia-driver-pinning-595", source="G D F; companions were not seen")
_ROWS: Tuple[Row, ...] = (
    replace(_UBUNTU_580, system="ubuntu2204", repository="ubuntu2204", arches=("x86_64",)),
    replace(_UBUNTU_595, system="ubuntu2204", repository="ubuntu2204", arches=("x86_64",)),
    _UBUNTU_580, _UBUNTU_595, _DEBIAN_580, _DEBIAN_595, _debian_13(_DEBIAN_580), _debian_13(_DEBIAN_595),
    replace(_RHEL_580, system="rhel8", repository="rhel8", arches=("x86_64",)),
    replace(_RHEL_595, system="rhel8", repository="rhel8", arches=("x86_64",)),
    _RHEL_580, _RHEL_595, _RHEL_10, replace(_RHEL_10, branch=595),
    replace(_RHEL_580, system="kylin10", repository="kylin10", arches=("x86_64",), source="G F; names as on RHEL 8, not run"),
    replace(_RHEL_595, system="kylin10", repository="kylin10", arches=("x86_64",), source="G F; names as on RHEL 8, not run"),
)
ROWS: Mapping[Tuple[str, int], Row] = {(row.system, row.branch): row for row in _ROWS}


@dataclass(frozen=True)
class Distribution:
    """The driver of a distribution's own archive, at the version that the release has; companions are not in it."""

    system: str
    branch: int
    open: Tuple[str, ...]
    proprietary: Tuple[str, ...]
    components: Tuple[str, ...]
    headers: str
    source: str


# Debian's archive was looked at. Ubuntu's own packages (nvidia-headless-580-server-open and kin) were seen, but not which of them
# go together on each release: no row.
DISTRIBUTIONS: Mapping[str, Distribution] = {
    "debian12": Distribution(
        "debian12", 535, ("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
        ("nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
        ("contrib", "non-free", "non-free-firmware"), "linux-headers-{kernel}", "Debian 12's archive, 535"),
    "debian13": Distribution(
        "debian13", 550, ("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
        ("nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
        ("contrib", "non-free", "non-free-firmware"), "linux-headers-{kernel}", "Debian 13's archive, 550"),
}

# (ID of os-release, its version's start) → the system whose packages fit, by glibc: 2.28 as RHEL 8, 2.34 as RHEL 9.
SYSTEMS: Tuple[Tuple[str, str, str], ...] = (
    ("ubuntu", "22.04", "ubuntu2204"), ("ubuntu", "24.04", "ubuntu2404"),
    ("debian", "12", "debian12"), ("debian", "13", "debian13"),
    *((name, major, f"rhel{major}") for name in ("rhel", "rocky", "almalinux", "centos", "ol") for major in ("8", "9", "10")),
    ("openeuler", "20.03", "rhel8"), ("openeuler", "22.03", "rhel9"), ("openeuler", "24.03", "rhel9"), ("kylin", "v10", "kylin10"),
)
ARCHES: Mapping[str, str] = {"x86_64": "x86_64", "aarch64": "sbsa"}

# Versions of all that a driver's release consists of are pinned by these names: what the named packages pull in moves with them.
PINNED: Tuple[str, ...] = (
    "nvidia-*", "libnvidia-*", "libcuda1", "libcudadebugger1", "libnvcuvid1", "libnvoptix1", "libnvsdm*", "cuda-drivers*",
    "firmware-nvidia-*", "xserver-xorg-video-nvidia*")
PINNED_RPMS: Tuple[str, ...] = (*PINNED, "kmod-nvidia-*")

# Kernel modules that an architecture needs: the open ones know Turing and later (G), Blackwell has no others.
MODULES: Mapping[str, str] = {"maxwell": "proprietary", "pascal": "proprietary", "volta": "proprietary", "blackwell": "open"}

# CUDA's major version in the engine's torch → the oldest driver that it runs on (CUDA release notes, table 3: minor compatibility).
MINIMUM_DRIVER: Dict[int, str] = {12: "525.60.13", 13: "580.65.06"}
MINIMUM_NCCL = "2.21"  # finds the GID index by itself: _rdma.nccl_environment relies on that
MINIMUM_CUDNN = 90000  # cudnnGetVersion(): vLLM's torch since 2.4 is built with 9

# PCI vendors of accelerators that the house does not serve, and what would have to be there.
OTHERS: Mapping[str, Tuple[str, str]] = {
    "0x1002": ("AMD", "ROCm's driver (amdgpu-dkms), a vLLM build for ROCm, facts through amdsmi"),
    "0x19e5": ("Huawei Ascend", "Ascend's driver and CANN, vllm-ascend, facts through npu-smi"),
    "0x8086": ("Intel", "Intel's GPU driver and oneAPI, a vLLM build for XPU, facts through Level Zero"),
    "0x1da3": ("Intel Gaudi", "Gaudi's driver and software suite, vllm-gaudi, facts through hl-smi"),
    "0xcabc": ("Cambricon", "Cambricon's driver and CNToolkit, its build of vLLM, facts through cnmon"),
    "0x1ed5": ("Moore Threads", "Moore Threads' driver and MUSA, its build of vLLM, facts through mthreads-gmi"),
    "0x1d94": ("Hygon DCU", "Hygon's driver and DTK, its build of vLLM, facts through hy-smi"),
    "0x1e36": ("Enflame", "Enflame's driver and TopsRider, its build of vLLM, facts through efsmi"),
    "0x1e3e": ("Iluvatar", "Iluvatar's driver and CoreX, its build of vLLM, facts through ixsmi"),
    "0x1d22": ("Kunlunxin", "Kunlunxin's driver and XRE, its build of vLLM, facts through xpu-smi"),
}


def system_of(identifier: str, version: str) -> str:
    """The table's name for a system by os-release's ID and VERSION_ID; "" for one that it does not know."""
    for name, start, system in SYSTEMS:
        words = version.lower()
        if name == identifier.lower() and (words == start or words.startswith((start + ".", start + "-", start + " "))):
            return system
    return ""
