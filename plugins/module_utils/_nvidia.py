# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of NVIDIA's driver and its companions a host has to be given. Pure; private to this collection."""
from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.idc.llm.plugins.module_utils import _nvidia_table as table
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said
from ansible_collections.idc.llm.plugins.module_utils._nvidia_seen import NVIDIA, Seen, numbers, upstream

SOURCES = ("nvidia", "distribution", "local")
COMPANIONS = ("fabric_manager", "nscq", "nvsdm", "imex", "nvlsm", "dcgm")
_VERSION = re.compile(r"\d{3}\.\d+(\.\d+)?")
_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
SMALL_WINDOWS = 32 << 20  # registers have 16 and 32 MiB; the window on the memory is larger, and missing where firmware lacks room
KEYRINGS = {"apt": "/etc/apt/keyrings/idc-llm-{}.asc", "dnf": "/etc/pki/rpm-gpg/RPM-GPG-KEY-idc-llm-{}"}


@dataclass(frozen=True)
class Wanted:
    """The role's variables, without their prefix."""

    source: str = "nvidia"
    branch: int = 580
    version: str = ""
    modules: str = "open"
    packages: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    fabric: str = "auto"
    dcgm: bool = True
    container_toolkit: bool = False
    cuda_toolkit: str = ""
    repository: str = ""
    container_repository: str = ""
    key_given: bool = False
    fingerprint: str = ""
    allow_downgrade: bool = False
    drained: bool = False  # by then no engine runs any more, whatever runs now


@dataclass(frozen=True)
class Part:
    """A package to be there. version: a pattern of the package manager's, "" for what the repository offers, which is held then.

    driver: it belongs to one release of the driver: its change needs a reboot.
    """

    name: str
    version: str = ""
    driver: bool = False


@dataclass(frozen=True)
class Change:
    """What an install would do to a package; found: its version now, "" where it is not there."""

    part: Part
    found: str
    downgrade: bool = False


@dataclass(frozen=True)
class Repository:
    """Where packages come from. suites: "/" where the folder itself is one; fetch: the key's address, "" where it is brought.

    packages_signed: its rpms bear a signature of this key, too; those of others are known by the checksums in the signed metadata.
    """

    name: str
    uri: str
    suite: str
    components: Tuple[str, ...]
    keyring: str
    fingerprint: str
    fetch: str
    have_key: bool
    packages_signed: bool = False


@dataclass(frozen=True)
class Stack:
    """The whole of it. pinned: pattern of the driver's version for all names of PINNED, "" where each has its own."""

    manager: str
    version: str
    parts: Tuple[Part, ...]
    repositories: Tuple[Repository, ...]
    changes: Tuple[Change, ...]
    stream: str
    pinned: str
    left_out: Tuple[str, ...]

    @property
    def driver_changes(self) -> bool:
        """Whether what is loaded now would not fit any more."""
        return any(change.part.driver for change in self.changes)


def parse_wanted(given: Mapping[str, Any]) -> Tuple[Wanted, List[IdcError]]:
    """The variables, and all that is wrong with them; nothing of the host is looked at."""
    errors: List[IdcError] = []

    def wrong(name: str, observed: Any, wanted: str) -> None:
        errors.append(IdcError("IDC-INV-007", name=f"nvidia_stack_{name}", observed=repr(observed), wanted=wanted))

    for name, known in (("source", SOURCES), ("modules", ("open", "proprietary")), ("fabric", ("auto", "present", "absent"))):
        if given[name] not in known:
            wrong(name, given[name], " | ".join(known))
    branch = int(given["branch"]) if str(given["branch"]).isdigit() else 0
    if given["source"] != "distribution" and branch not in table.BRANCHES:
        wrong("branch", given["branch"], " | ".join(map(str, table.BRANCHES)))
    version = str(given["version"] or "")
    if version and not _VERSION.fullmatch(version):
        wrong("version", version, "a driver's version: 580.178.04")
    elif version and given["source"] != "distribution" and not version.startswith(f"{branch}."):
        wrong("version", version, f"a version of the branch {branch}, or another nvidia_stack_branch")
    keys = {"packages": COMPANIONS, "versions": ("dcgm", "nvlsm", "container_toolkit", "cuda_toolkit")}
    for name in keys:
        for key in given[name]:
            if key not in keys[name]:
                wrong(name, key, " | ".join(keys[name]))
    if given["cuda_toolkit"] and not re.fullmatch(r"\d+-\d+", str(given["cuda_toolkit"])):
        wrong("cuda_toolkit", given["cuda_toolkit"], "13-0")
    if given["source"] == "local" and not given["repository"]:
        wrong("repository", given["repository"], "the address of a repository: https://…, or file:///… on each host")
    fingerprint = str(given["fingerprint"]).replace(" ", "").upper()
    if fingerprint and not _FINGERPRINT.fullmatch(fingerprint):
        wrong("key_fingerprint", given["fingerprint"], "40 or 64 hexadecimal digits")
    names = {name: given[name] for name in ("source", "modules", "packages", "versions", "fabric", "dcgm", "container_toolkit",
                                            "repository", "container_repository", "key_given", "allow_downgrade")}
    return Wanted(branch=branch, version=version, fingerprint=fingerprint, cuda_toolkit=str(given["cuda_toolkit"]), **names), errors


def stack(wanted: Wanted, seen: Seen) -> Tuple[Optional[Stack], List[IdcError]]:
    """What this host has to have, or why that cannot be said."""
    if wanted.source == "distribution":
        return _distribution(wanted, seen)
    row = table.ROWS.get((seen.system, wanted.branch))
    if row is None or seen.arch not in row.arches:
        known = sorted({f"{one.system} ({', '.join(one.arches)})" for one in table.ROWS.values() if one.branch == wanted.branch})
        return None, [IdcError("IDC-GPU-001", host=seen.host, system=f"{seen.os} ({seen.arch})", branch=wanted.branch,
                               known=", ".join(known))]
    errors: List[IdcError] = []
    version = wanted.version or _kept(wanted, row, seen) or table.VERSIONS[wanted.branch]
    # NVIDIA's packages are revision 1 (580.178.04-1ubuntu1); a distribution's own of the same driver (-0ubuntu0.24.04.1) are others
    pattern = f"{version}-1*" if row.manager == "apt" else f"{version}-*"
    parts = [Part(name, pattern, True) for name in (row.open if wanted.modules == "open" else row.proprietary)]
    left_out: List[str] = []
    for name, reason in _companions(wanted, seen):
        package = wanted.packages.get(name) or getattr(row, name)
        if not package and name == "dcgm":
            left_out.append(name)
        elif not package:
            errors.append(IdcError("IDC-GPU-002", host=seen.host, part=name, system=row.system, branch=row.branch, reason=reason))
        elif name in ("dcgm", "nvlsm"):
            own = wanted.versions.get(name) or table.COMPANION_VERSIONS.get(name, "")
            parts.append(Part(package, f"*{own}-*" if own and row.manager == "apt" else own and f"{own}-*"))
        else:
            parts.append(Part(package, pattern, True))
    if wanted.cuda_toolkit:
        parts.append(Part(row.cuda_toolkit.format(cuda=wanted.cuda_toolkit), wanted.versions.get("cuda_toolkit", "")))
    if wanted.container_toolkit:
        own = wanted.versions.get("container_toolkit") or table.COMPANION_VERSIONS["container_toolkit"]
        parts += [Part(name, f"{own}-*") for name in row.container_toolkit]
    parts += _headers(row.headers, seen)
    repositories, wrong = _repositories(wanted, seen, row)
    made = Stack(manager=row.manager, version=version, parts=tuple(parts), repositories=repositories,
                 changes=_changes(parts, seen), stream=row.stream.get(wanted.modules, ""), pinned=pattern, left_out=tuple(left_out))
    return made, errors + wrong + change_errors(made, wanted, seen)


def _kept(wanted: Wanted, row: table.Row, seen: Seen) -> str:
    """The driver of the branch that is there: where nobody asks for another version, a newer collection moves no driver."""
    name = (row.open if wanted.modules == "open" else row.proprietary)[0]
    there = upstream(seen.packages[name].version) if name in seen.packages else ""
    return there if there.startswith(f"{wanted.branch}.") else ""


def _companions(wanted: Wanted, seen: Seen) -> List[Tuple[str, Said]]:
    """What beside the driver, and why."""
    found = []
    fabric = seen.fabric if wanted.fabric == "auto" else wanted.fabric == "present"
    if fabric:
        why = Said("its GPUs are joined by NVSwitches", "其 GPU 由 NVSwitch 互联")
        found += [("fabric_manager", why), ("nscq", why)]
        if seen.hidden_switches:
            hgx = Said("HGX B200 and B300 manage their NVSwitches with it", "HGX B200、B300 用它管理 NVSwitch")
            found += [("nvlsm", hgx), ("nvsdm", hgx)]
    if seen.rack:
        found.append(("imex", Said("its NVLink domain spans hosts", "其 NVLink 域跨越多台主机")))
    if wanted.dcgm:
        found.append(("dcgm", Said("nvidia_stack_dcgm_enabled is true", "nvidia_stack_dcgm_enabled 为 true")))
    return found


def _headers(name: str, seen: Seen) -> List[Part]:
    return [Part(name.format(kernel=seen.kernel))] if not seen.headers or name.format(kernel=seen.kernel) in seen.packages else []


def _distribution(wanted: Wanted, seen: Seen) -> Tuple[Optional[Stack], List[IdcError]]:
    """The distribution's own driver, held at what was installed.

    The module's package leads: Debian's security updates move the libraries and leave the open modules behind, and apt finds no way
    then to install both.
    """
    own = table.DISTRIBUTIONS.get(seen.system)
    if own is None or seen.arch != "x86_64":
        known = ", ".join(f"{one.system} ({one.branch})" for one in table.DISTRIBUTIONS.values())
        return None, [IdcError("IDC-GPU-003", host=seen.host, system=f"{seen.os} ({seen.arch})", known=known)]
    errors: List[IdcError] = []
    for name, reason in _companions(wanted, seen):
        if name != "dcgm":
            place = f"{own.system}'s own archive"
            errors.append(IdcError("IDC-GPU-002", host=seen.host, part=name, system=place, branch=own.branch, reason=reason))
    names = own.open if wanted.modules == "open" else own.proprietary
    leads = seen.packages.get(names[0])
    version = wanted.version or upstream(leads.version if leads else seen.candidates.get(names[0], ""))
    parts = []
    for name in names:
        there = seen.packages.get(name)
        follows = version and name != "nvidia-persistenced"  # which has a version of its own there
        parts.append(Part(name, f"{version}-*" if follows else there.version if there else "", True))
    parts += _headers(own.headers, seen)
    made = Stack(manager="apt", version=version, parts=tuple(parts), repositories=_archive(wanted, own, seen),
                 changes=_changes(parts, seen), stream="", pinned="",
                 left_out=("dcgm",) if wanted.dcgm else ())
    return made, errors + change_errors(made, wanted, seen)


def _archive(wanted: Wanted, own: table.Distribution, seen: Seen) -> Tuple[Repository, ...]:
    """The components that the host's own sources lack, from where these get main: the release, its updates, its security."""
    if wanted.repository:
        rows = [{"uris": [wanted.repository], "suites": seen.archives[0]["suites"] if seen.archives else [], "signed": "",
                 "components": ["main"]}]
    else:
        rows = [dict(row) for row in seen.archives if "main" in row["components"]]
    have = {(uri, suite, component) for row in seen.archives for uri in row["uris"] for suite in row["suites"]
            for component in row["components"]}
    found: Dict[Tuple[str, str], Repository] = {}
    for row in rows:
        for uri in row["uris"]:
            for suite in row["suites"]:
                lacks = tuple(name for name in own.components if (uri, suite, name) not in have)
                if lacks:
                    found[uri, suite] = Repository("distribution", uri, suite, lacks, row["signed"], "", "", True)
    return tuple(found.values())


def _repositories(wanted: Wanted, seen: Seen, row: table.Row) -> Tuple[Tuple[Repository, ...], List[IdcError]]:
    """NVIDIA's repository or the site's copy, and that of the container toolkit where Docker runs engines."""
    local = wanted.source == "local"
    base = (wanted.repository or table.BASE).rstrip("/")
    uri = base if local else f"{base}/{row.repository}/{seen.arch}"
    places = [("nvidia", uri, row.key)]
    if wanted.container_toolkit and not local:
        kind = "rpm" if row.manager == "dnf" else "deb"
        arch = {"x86_64": "amd64", "sbsa": "arm64"} if kind == "deb" else {"x86_64": "x86_64", "sbsa": "aarch64"}
        root = (wanted.container_repository or table.TOOLKIT_BASE).rstrip("/")
        places.append(("container-toolkit", f"{root}/{kind}/{arch[seen.arch]}", table.TOOLKIT_KEY))
    found, errors = [], []
    for name, address, key in places:
        first = name == "nvidia"
        fingerprint = (wanted.fingerprint if first else "") or key.fingerprint
        if not fingerprint:
            errors.append(IdcError("IDC-GPU-012", host=seen.host, file=f"{address}/{key.file}"))
        keyring = KEYRINGS[row.manager].format(name)
        here = seen.fingerprints.get(keyring, ())
        parent = address if first else address.rsplit("/", 3)[0]
        fetch = "" if first and wanted.key_given else f"{parent}/{key.file}"
        signed = first and not local  # a site signs its metadata, seldom NVIDIA's packages anew
        found.append(Repository(name, address, "/", (), keyring, fingerprint, fetch, here == (fingerprint,), signed))
    return tuple(found), errors


def fits(version: str, pattern: str) -> bool:
    """Whether an installed version is what a pattern says; the epoch may be left out of it."""
    return not pattern or fnmatch.fnmatch(version, pattern) or fnmatch.fnmatch(version.partition(":")[2] or version, pattern)


def _changes(parts: List[Part], seen: Seen) -> Tuple[Change, ...]:
    found = []
    for part in parts:
        there = seen.packages.get(part.name)
        if there is None:
            found.append(Change(part, ""))
        elif not fits(there.version, part.version):
            older = part.driver and numbers(upstream(part.version)) < numbers(upstream(there.version))
            found.append(Change(part, there.version, older))
    return tuple(found)


def change_errors(made: Stack, wanted: Wanted, seen: Seen) -> List[IdcError]:
    """Why a driver must not be changed so."""
    errors = []
    for change in made.changes:
        if change.downgrade and not wanted.allow_downgrade:
            errors.append(IdcError("IDC-GPU-008", host=seen.host, package=change.part.name, observed=change.found,
                                   wanted=change.part.version))
    if made.driver_changes and seen.engines and not wanted.drained:
        errors.append(IdcError("IDC-GPU-009", host=seen.host, engines=", ".join(seen.engines),
                               packages=", ".join(change.part.name for change in made.changes if change.part.driver)))
    return errors


def host_errors(wanted: Wanted, seen: Seen) -> List[IdcError]:
    """Why a driver cannot be given to this host, whatever its packages are called."""
    errors = []
    if seen.runfile:
        errors.append(IdcError("IDC-GPU-004", host=seen.host))
    for card in seen.gpus:
        needs = table.MODULES.get(card.architecture)
        if needs and needs != wanted.modules:
            errors.append(IdcError("IDC-GPU-021", host=seen.host, card=card.product, observed=wanted.modules, wanted=needs))
            break
    if seen.secure_boot and seen.key_enrolled is not True:
        errors.append(IdcError("IDC-GPU-006", host=seen.host))
    for card in seen.gpus:
        if seen.virtual not in ("", "none") and card.bar_bytes <= SMALL_WINDOWS:
            errors.append(IdcError("IDC-GPU-016", host=seen.host, card=card.address, observed=card.bar_bytes >> 20,
                                   virtual=seen.virtual))
    return errors


def other_vendors(seen: Seen) -> List[IdcError]:
    """A refusal for each vendor of a host that has none of NVIDIA's GPUs."""
    if any(card.vendor == NVIDIA for card in seen.cards):
        return []
    found: Dict[str, int] = {}
    for card in seen.cards:
        if card.vendor in table.OTHERS:
            found[card.vendor] = found.get(card.vendor, 0) + 1
    return [IdcError("IDC-GPU-005", host=seen.host, count=count, vendor=table.OTHERS[vendor][0], missing=table.OTHERS[vendor][1])
            for vendor, count in found.items()]


def offer_errors(made: Stack, seen: Seen) -> List[IdcError]:
    """Versions that nobody offers, of packages that the repositories have been asked for."""
    found = []
    for change in made.changes:
        name, wanted = change.part.name, change.part.version
        offered = seen.offered.get(name)
        if offered is not None and wanted and not any(fits(version, wanted) for version in offered):
            found.append(IdcError("IDC-GPU-029", host=seen.host, package=name, wanted=wanted, observed=", ".join(offered) or "-"))
    return found


def header_errors(made: Stack, seen: Seen) -> List[IdcError]:
    """Headers that nobody offers, once the repositories have been asked."""
    missing = [change.part.name for change in made.changes if re.match(r"linux-headers-|kernel-devel-", change.part.name)]
    return [IdcError("IDC-GPU-007", host=seen.host, kernel=seen.kernel, package=name) for name in missing
            if name not in seen.candidates]
