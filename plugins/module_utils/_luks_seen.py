# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen of disks and LUKS headers, read from what lsblk, wipefs, cryptsetup and pvs print. Pure, private."""
from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping, Optional, Sequence


@dataclass(frozen=True)
class Node:
    """A block device of lsblk with all that stands on it. ``above``: types of what it stands on; ``real``: path without links."""

    path: str
    name: str
    type: str
    fstype: str
    mounts: tuple[str, ...]
    size: int
    serial: str
    model: str
    children: tuple[Node, ...] = ()
    above: tuple[str, ...] = ()
    real: str = ""

    def walk(self) -> Iterator[Node]:
        """This one and all that stands on it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Disk:
    """What is behind a by-id name. ``path``, without links, is "" where nothing is; ``blank``: no signature, and zeros at first.

    ``uuids``: of its signatures; ``busy``: the kernel holds it for somebody.
    """

    path: str = ""
    signatures: tuple[str, ...] = ()
    blank: bool = False
    vg: str = ""
    uuids: tuple[str, ...] = ()
    busy: bool = False


@dataclass(frozen=True)
class Token:
    """A LUKS2 token: what it is, and the key slots that it belongs to."""

    number: int
    type: str
    slots: tuple[int, ...]
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Header:
    """A LUKS2 header."""

    uuid: str
    label: str
    epoch: int
    cipher: str
    key_bits: int
    offset: int
    slots: tuple[int, ...]
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One host. ``disks``: by by-id name; ``headers``, ``records``: by volume; ``full``: folders to mount at that hold files.

    ``groups``: physical volume → its volume group, ``recorded``: volume with a record → its disks, both by paths without links;
    ``keyfiles``: by volume, the slots that its key file opens; ``notes``: by volume, the UUID of the header whose backup the
    controller has.
    """

    disks: Mapping[str, Disk] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    headers: Mapping[str, Header] = field(default_factory=dict)
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    full: tuple[str, ...] = ()
    swaps: tuple[str, ...] = ()
    crash_kernel: bool = False
    tpm: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)
    recorded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keyfiles: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def walk(self) -> Iterator[Node]:
        """Every node, those that stand on several disks more than once."""
        for node in self.nodes:
            yield from node.walk()

    def node(self, path: str) -> Optional[Node]:
        """By its path without links."""
        return next((node for node in self.walk() if node.real == path), None)

    def named(self, name: str) -> Optional[Node]:
        """By the device mapper's name."""
        return next((node for node in self.walk() if node.name == name), None)

    def mounted(self, folder: str) -> Optional[Node]:
        """What is mounted at a folder."""
        return next((node for node in self.walk() if folder in node.mounts), None)

    def encrypted(self, folder: str) -> bool:
        """Whether a path lies on an encrypted disk, or on none (memory)."""
        at = max((mount for node in self.walk() for mount in node.mounts
                  if mount.startswith("/") and (folder + "/").startswith(mount.rstrip("/") + "/")), key=len, default="")
        nodes = [node for node in self.walk() if at and at in node.mounts]
        return bool(nodes) and all("crypt" in (node.type, *node.above) for node in nodes)

    def plain_swaps(self) -> list[str]:
        """Swap that is written to a disk in the clear."""
        found = []
        for path in self.swaps:
            nodes = [node for node in self.walk() if path in (node.real, node.path, f"/dev/{node.name}")]
            crypt = all("crypt" in (node.type, *node.above) for node in nodes) if nodes else self.encrypted(path)
            if not crypt and not path.startswith("/dev/zram"):
                found.append(path)
        return found


def parse_lsblk(text: str) -> tuple[Node, ...]:
    """Of ``lsblk --json --bytes``."""
    rows = json.loads(text)["blockdevices"] if text.strip() else ()
    return tuple(_node(row, ()) for row in rows)


def _node(row: Mapping[str, Any], above: tuple[str, ...]) -> Node:
    kind = str(row.get("type") or "")
    children = tuple(_node(child, (*above, kind)) for child in row.get("children") or ())
    mounts = tuple(mount for mount in row.get("mountpoints") or () if mount)
    words = [str(row.get(key) or "").strip() for key in ("path", "name", "fstype", "serial", "model")]
    path, name, fstype, serial, model = words
    real = str(row.get("real") or path)
    return Node(path, name, kind, fstype, mounts, int(row.get("size") or 0), serial, model, children, above, real)


def parse_signatures(text: str) -> tuple[str, ...]:
    """The kinds that ``wipefs --json --no-act`` found, with label where there is one, each once."""
    rows = json.loads(text).get("signatures", ()) if text.strip() else ()
    words = [f"{row['type']} ({row['label']})" if row.get("label") else str(row["type"]) for row in rows]
    return tuple(dict.fromkeys(words))


def parse_uuids(text: str) -> tuple[str, ...]:
    """Of the same."""
    rows = json.loads(text).get("signatures", ()) if text.strip() else ()
    return tuple(dict.fromkeys(str(row["uuid"]) for row in rows if row.get("uuid")))


def parse_groups(text: str) -> dict[str, str]:
    """{physical volume: volume group} of ``pvs --reportformat json``."""
    if not text.strip():
        return {}
    return {row["pv_name"]: row["vg_name"] for report in json.loads(text)["report"] for row in report["pv"]}


def parse_header(text: str, metadata: str) -> Header:
    """Of ``cryptsetup luksDump`` and the same with ``--dump-json-metadata``."""
    said = {key: value.strip() for key, value in re.findall(r"(?m)^(UUID|Label|Epoch):(.*)$", text)}
    data = json.loads(metadata)
    segment: Mapping[str, Any] = next(iter(data["segments"].values()), {})
    digests = {int(slot) for digest in data["digests"].values() for slot in digest["keyslots"]}
    sizes = [int(slot["key_size"]) * 8 for number, slot in data["keyslots"].items() if int(number) in digests]
    tokens = tuple(Token(int(number), str(token["type"]), tuple(map(int, token["keyslots"])), token)
                   for number, token in sorted(data["tokens"].items(), key=lambda row: int(row[0])))
    label = said.get("Label", "")
    return Header(said.get("UUID", ""), "" if label == "(no label)" else label, int(said.get("Epoch") or 0),
                  str(segment.get("encryption", "")), max(sizes, default=0), int(segment.get("offset") or 0),
                  tuple(sorted(map(int, data["keyslots"]))), tokens)


def noted(note: Mapping[str, Any]) -> str:
    """The volume that a note is about: NAME.UUID.EPOCH.header.age is the file's name."""
    return str(note["file"]).split(".", 1)[0]


def parse_swaps(text: str) -> tuple[str, ...]:
    """Of /proc/swaps."""
    return tuple(line.split()[0] for line in text.splitlines()[1:] if line.strip())


def users(node: Optional[Node], own: Sequence[str]) -> list[str]:
    """What uses a disk: mounts, and what is active on it; own: names that may."""
    if node is None:
        return []
    found: list[str] = []
    for one in node.walk():
        if one.name in own:
            continue
        found += [f"{one.path} at {mount}" for mount in one.mounts]
        if one is not node and not one.mounts and one.type != "part":  # of whatever kind: what is active on it holds it
            found.append(f"{one.type} {one.name}")
    return list(dict.fromkeys(found))
