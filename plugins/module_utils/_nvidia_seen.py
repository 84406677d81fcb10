# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia_stack_info saw, read: versions, packages, cards, what is loaded. Private to this collection."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._nvidia_table import ARCHES, system_of
from ansible_collections.idc.llm.plugins.module_utils._products import product_by_pci

NVIDIA = "0x10de"
DISPLAY, ACCELERATOR, BRIDGE = ("0300", "0302", "0380"), "1200", "0680"
HIDDEN_SWITCHES = ("B200", "B300 SXM6")  # their NVSwitches sit behind ConnectX bridges and are no PCI devices of the host
RACK = ("GB200", "GB300")  # an NVLink domain over several hosts
_DRIVER = re.compile(r"\b(\d{3}\.\d+(?:\.\d+)?)\b")


@dataclass(frozen=True)
class Card:
    """A PCI device: an accelerator or an NVSwitch. bar_bytes: its largest memory window, 0 where the firmware gave none."""

    address: str
    vendor: str
    device: str
    kind: str  # PCI class: 0302
    driver: str
    bar_bytes: int

    @property
    def gpu(self) -> bool:
        """One of NVIDIA's GPUs that this host may drive; one handed to a virtual machine is not."""
        return self.vendor == NVIDIA and self.kind in DISPLAY and self.driver != "vfio-pci"

    @property
    def product(self) -> str:
        """Its name in the product table; "" where that does not know it."""
        known = product_by_pci(self.device)
        return known.name if known else ""

    @property
    def architecture(self) -> str:
        """volta, hopper…; "" where the product table does not know it."""
        known = product_by_pci(self.device)
        return known.architecture if known else ""


@dataclass(frozen=True)
class Package:
    """An installed package."""

    version: str
    held: bool
    whole: bool = True  # unpacked and configured; a run that was killed may have left one that is not


@dataclass(frozen=True)
class Seen:
    """A host. Versions are "" where there is none; kernel: the one that the module has to be there for.

    offered: of packages that were asked for, what the repositories have.
    """

    host: str
    system: str
    os: str
    arch: str
    kernel: str
    running: str
    cards: Tuple[Card, ...]
    packages: Mapping[str, Package]
    candidates: Mapping[str, str]
    offered: Mapping[str, Tuple[str, ...]]
    stream: str  # of dnf's module nvidia-driver that is enabled
    loaded: str
    open_loaded: Optional[bool]
    built: str
    unbuilt: Mapping[str, str]  # module, error: of the build for kernel that DKMS broke off
    kernels: Mapping[str, str]  # installed ones → version of their module nvidia
    nvml: str
    fabric_manager: str
    fabric_active: bool
    smi: str  # "" it answers; else what it said
    nouveau: bool
    headers: bool
    secure_boot: bool
    key_enrolled: Optional[bool]
    runfile: bool
    engines: Tuple[str, ...]
    virtual: str  # none on bare metal, "" where nothing says
    iommu: str
    acs: Tuple[str, ...]
    fingerprints: Mapping[str, Tuple[str, ...]]
    archives: Tuple[Mapping[str, Any], ...]
    cdi: str

    @property
    def gpus(self) -> Tuple[Card, ...]:
        """NVIDIA's GPUs of this host."""
        return tuple(card for card in self.cards if card.gpu)

    @property
    def fabric(self) -> bool:
        """Whether NVSwitches join the GPUs: seen on the bus, or known of the card."""
        switches = any(card.vendor == NVIDIA and card.kind == BRIDGE for card in self.cards)
        return switches or (len(self.gpus) > 1 and self.hidden_switches)

    @property
    def hidden_switches(self) -> bool:
        """HGX B200 and B300: their fabric needs nvlsm, and ib_umad loaded."""
        return any(card.product in HIDDEN_SWITCHES for card in self.gpus)

    @property
    def rack(self) -> bool:
        """GPUs of an NVLink domain that spans hosts."""
        return any(card.product in RACK for card in self.gpus)


def upstream(version: str) -> str:
    """NVIDIA's version in a package's: 580.178.04 of 3:580.178.04-1.el9; what stands before the revision where there is none."""
    found = _DRIVER.search(version)
    return found.group(1) if found else re.sub(r"^\d+:", "", version).rpartition("-")[0] or version


def numbers(version: str) -> Tuple[int, ...]:
    """To compare: 580.178.04 → (580, 178, 4)."""
    return tuple(int(digits) for digits in re.findall(r"\d+", version))


def same(one: str, other: str) -> bool:
    """Whether two say the same version; nvidia-smi leaves the last number out (580.159 for 580.159.04)."""
    left, right = numbers(one), numbers(other)
    shared = min(len(left), len(right))
    return shared >= 2 and left[:shared] == right[:shared]


def parse_seen(raw: Mapping[str, Any], host: str = "") -> Seen:
    """The module's answer, read."""
    smi_rc, smi_said = raw["smi"]
    return Seen(
        host=host,
        system=system_of(raw["os"]["id"], raw["os"]["version"]),
        os=f'{raw["os"]["id"]} {raw["os"]["version"]}'.strip(),
        arch=ARCHES.get(raw["arch"], raw["arch"]),
        kernel=raw["kernel"],
        running=raw["running"],
        cards=tuple(Card(row["address"], row["vendor"], row["device"], row["class"][2:6], row["driver"], row["bar_bytes"])
                    for row in raw["cards"]),
        packages={row["name"]: Package(row["version"], row["held"], row.get("whole", True)) for row in raw["packages"]},
        candidates=raw["candidates"],
        offered={name: tuple(versions) for name, versions in raw["offered"].items()},
        stream=raw["stream"],
        loaded=raw["loaded"],
        open_loaded=("Open Kernel Module" in raw["proc"]) if raw["proc"] else None,
        built=raw["built"],
        unbuilt=raw["unbuilt"],
        kernels=raw["kernels"],
        nvml=raw["nvml"],
        fabric_manager=_first(raw["fabric_manager"]),
        fabric_active=raw["fabric_active"],
        smi="" if smi_rc == 0 else " ".join(smi_said.split()) or f"exit status {smi_rc}",
        nouveau=raw["nouveau"],
        headers=raw["headers"],
        secure_boot=raw["secure_boot"],
        key_enrolled=raw["key_enrolled"],
        runfile=raw["runfile"],
        engines=tuple(raw["engines"]),
        virtual=raw["virtual"],
        iommu=raw["iommu"],
        acs=tuple(raw["acs"]),
        fingerprints={name: tuple(found) for name, found in raw["fingerprints"].items()},
        archives=tuple(raw["archives"]),
        cdi=raw["cdi"],
    )


def _first(text: str) -> str:
    found = _DRIVER.search(text)
    return found.group(1) if found else ""


def parse_dpkg(listed: str, held: str) -> List[Dict[str, Any]]:
    """Rows of dpkg-query (name, version, status) and apt-mark showhold: what is installed, configured or not."""
    holds = {name.partition(":")[0] for name in held.split()}
    rows = []
    for line in listed.splitlines():
        name, version, status = (line.split("\t") + ["", ""])[:3]
        if version and len(status) > 1 and status[1] not in "nc":  # not installed, only its settings left
            rows.append({"name": name, "version": version, "held": name in holds, "whole": status[1:3].strip() == "i"})
    return rows


def parse_rpm(listed: str, locked: str) -> List[Dict[str, Any]]:
    """Rows of rpm (name, epoch:version-release) and the list of dnf's versionlock."""
    lines = [line.strip() for line in locked.splitlines() if line.strip() and not line.startswith("#")]
    rows = []
    for line in listed.splitlines():
        name, _tab, version = line.partition("\t")
        if version:
            rows.append({"name": name, "version": version, "held": any(re.match(re.escape(name) + r"-\d", lock) for lock in lines)})
    return rows


def parse_stream(text: str) -> str:
    """The stream that dnf's state of a module says is enabled; "" for none."""
    fields = dict(re.findall(r"(?m)^(\w+)=(.*)$", text))
    return fields.get("stream", "").strip() if fields.get("state", "").strip() == "enabled" else ""


def parse_policy(text: str) -> Dict[str, str]:
    """Package → candidate, of apt-cache policy; without those that have none."""
    found: Dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            name = line.rstrip(":")
        candidate = re.match(r"\s+Candidate: (\S+)", line)
        if candidate and candidate.group(1) != "(none)":
            found[name] = candidate.group(1)
    return found


def parse_offers(text: str) -> Dict[str, List[str]]:
    """Package → versions that a repository has, of apt-cache policy: what is only installed is not among them."""
    found: Dict[str, List[str]] = {}
    name = version = ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            name = line.rstrip(":")
            found[name] = []
        entry = re.match(r"(?: \*\*\*|    ) (\S+) -?\d+", line)
        if entry:
            version = entry.group(1)
        elif re.match(r" {6,}-?\d+ (?!/var/lib/dpkg/status$)", line) and version not in found.setdefault(name, []):
            found[name].append(version)
    return found


def parse_archives(texts: Sequence[str]) -> List[Dict[str, Any]]:
    """The apt sources of some files, one-line and deb822: uris, suites, components, signed (by which keyring)."""
    rows: List[Dict[str, Any]] = []
    for text in texts:
        for line in text.splitlines():
            words = re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)", line)
            if words:
                signed = re.search(r"signed-by=(\S+)", words.group(1) or "")
                rows.append({"uris": [words.group(2)], "suites": [words.group(3)], "components": words.group(4).split(),
                             "signed": signed.group(1) if signed else ""})
        for stanza in re.split(r"\n\s*\n", text):
            fields = {name.lower(): value for name, value in re.findall(r"(?m)^([A-Za-z-]+):[ \t]*(.*)$", stanza)}
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no":
                rows.append({"uris": fields.get("uris", "").split(), "suites": fields.get("suites", "").split(),
                             "components": fields.get("components", "").split(), "signed": fields.get("signed-by", "")})
    return rows
