# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack is for the package manager: specifications, sources, pins, holds. Pure; private to this collection."""
from __future__ import annotations

import fnmatch
import re
from dataclasses import asdict
from typing import Any, Dict, List

from ansible_collections.idc.llm.plugins.module_utils._nvidia import Part, Stack, Wanted
from ansible_collections.idc.llm.plugins.module_utils._nvidia_seen import Seen
from ansible_collections.idc.llm.plugins.module_utils._nvidia_table import PINNED, PINNED_RPMS

NOTE = "# Written by the role idc.llm.nvidia_stack; changes made here are lost.\n"
PIN, PIN_BACK = 1000, 1001  # above 1000 apt goes back to an older version, too
# unit, and the word in a package's name by which it is there; persistence always is
SERVICES = (("nvidia-persistenced", ""), ("nvidia-fabricmanager", "fabric"), ("nvidia-imex", "imex"),
            ("nvidia-dcgm", "datacenter-gpu-manager"))


def tasks(made: Stack, wanted: Wanted, seen: Seen) -> Dict[str, Any]:
    """What the tasks of the install and service stages read."""
    return {
        "manager": made.manager,
        "version": made.version,
        "changes": bool(made.changes),
        "driver_changes": made.driver_changes,
        "changing": [change.part.name for change in made.changes],
        "specs": [spec(part, made.manager) for part in made.parts],
        "stream": made.stream if made.stream != seen.stream else "",
        "repositories": [asdict(one) for one in made.repositories],
        "sources": sources(made),
        "preferences": preferences(made, wanted, seen),
        "blacklist": blacklist(made),
        "hold": [name for name in held(made, seen) if not seen.packages[name].held],
        "torn": [name for name, package in seen.packages.items() if not package.whole],
        "moving": moving(made, seen),
        "replaces": replaced(made, seen),
        "services": [unit for unit, word in SERVICES if not word or any(word in part.name for part in made.parts)],
    }


def lines(made: Stack) -> List[str]:
    """What an install would do, for a person."""
    found = []
    for change in made.changes:
        to = f" {change.part.version}" if change.part.version else ""
        found.append(f"{change.part.name}: {change.found} →{to}" if change.found else f"{change.part.name}: install{to}")
    return found


def spec(part: Part, manager: str) -> str:
    """As the package manager takes it. dnf knows name-version, with no pattern needed behind it."""
    if not part.version:
        return part.name
    return f"{part.name}={part.version}" if manager == "apt" else f"{part.name}-{part.version}"


def sources(made: Stack) -> Dict[str, str]:
    """Name of a file → its text: deb822 for apt, an empty mapping for dnf."""
    texts: Dict[str, str] = {}
    if made.manager != "apt":
        return texts
    for one in made.repositories:
        stanza = f"Types: deb\nURIs: {one.uri}\nSuites: {one.suite}\n"
        if one.components:
            stanza += f"Components: {' '.join(one.components)}\n"
        if one.keyring:
            stanza += f"Signed-By: {one.keyring}\n"
        texts[one.name] = texts.get(one.name, NOTE).rstrip("\n") + f"\n\n{stanza}"
    return texts


def _ours(name: str) -> bool:
    apart = name.startswith(("nvidia-container", "libnvidia-container"))  # has versions of its own
    return not apart and any(fnmatch.fnmatch(name, pattern) for pattern in PINNED_RPMS)


def _headers(name: str) -> bool:
    return name.startswith(("linux-headers-", "kernel-devel-"))


def held(made: Stack, seen: Seen) -> List[str]:
    """Installed packages that nobody but this role moves: what was asked for, and what of the driver came with it."""
    named = {part.name for part in made.parts if not _headers(part.name)}
    return sorted(name for name in seen.packages if name in named or _ours(name))


def moving(made: Stack, seen: Seen) -> List[str]:
    """Held packages that an install moves: those asked for that change, and with the driver all that came with it."""
    names = {change.part.name for change in made.changes}
    return [name for name in held(made, seen)
            if seen.packages[name].held and (name in names or (made.driver_changes and _ours(name)))]


def replaced(made: Stack, seen: Seen) -> List[str]:
    """Modules of the other kind, which make way: apt takes them away by itself, dnf has to be told that it may."""
    named = {part.name for part in made.parts}
    return [name for name in seen.packages if name.startswith("kmod-nvidia-") and name not in named]


def preferences(made: Stack, wanted: Wanted, seen: Seen) -> str:
    """apt's pins. What has no version of its own is pinned at what is installed, once it is."""
    priority = PIN_BACK if wanted.allow_downgrade else PIN
    text = NOTE

    def pin(names: str, version: str) -> str:
        return f"\nPackage: {names}\nPin: version {version}\nPin-Priority: {priority}\n"

    glob = made.pinned or (f"{made.version}-*" if made.version and made.driver_changes else "")
    if glob:
        text += pin(" ".join(PINNED), glob)
    for part in made.parts:
        if part.version and not part.driver:
            text += pin(part.name, part.version)
    if not made.changes:
        loose = {part.name for part in made.parts if not part.version and not _headers(part.name)}
        for name in held(made, seen):
            if name in loose or (not made.pinned and _ours(name)):
                text += pin(name, seen.packages[name].version)
    return text


def blacklist(made: Stack) -> str:
    """What unattended-upgrades leaves alone; the beginnings of names, as it takes them for patterns."""
    parts = {part.name for part in made.parts if not _headers(part.name)}
    names = sorted({pattern.rstrip("*") for pattern in PINNED} | parts)
    rows = "".join(f'    "^{re.escape(name)}";\n' for name in names).replace("\\-", "-")
    return NOTE.replace("#", "//", 1) + "Unattended-Upgrade::Package-Blacklist {\n" + rows + "};\n"
