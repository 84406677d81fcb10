# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done to a host's encrypted volumes: the inventory and what was seen give a plan, or typed errors. Pure, private.

A disk is touched only where it is blank, where the site has named that very disk, or where an earlier run of ours was killed in the
middle, which the volume's record on the host says.
"""
from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, Mapping, Optional

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._luks_keys import KeyPlan, plan_keys
from ansible_collections.idc.llm.plugins.module_utils._luks_seen import Disk, Header, Node, Seen, users
from ansible_collections.idc.llm.plugins.module_utils._luks_wanted import CIPHERS, PREFIX, Volume, Wanted

MAKING, READY, GOING, ERASED = "making", "ready", "going", "erased"  # what a volume's record says


@dataclass(frozen=True)
class VolumePlan:
    """One volume: what is done to it. ``wipe``: devices whose signatures are removed first."""

    volume: Volume
    wipe: tuple[str, ...]
    stripe: bool
    format: bool
    open: bool
    filesystem: bool
    mount: bool
    keys: KeyPlan
    uuid: str


def plan_volume(volume: Volume, wanted: Wanted, seen: Seen, fresh: bool = False) -> tuple[Optional[VolumePlan], list[IdcError]]:
    """Nothing is planned where there is an error. fresh: each binding is made anew."""
    errors = known(volume, seen)
    if errors:
        return None, errors
    record = seen.records.get(volume.name, {})
    if record.get("state") in (GOING, ERASED):
        return None, [IdcError("IDC-LUKS-026", volume=volume.name)]
    # A group of that name on other disks is another one's, and so is the header in it.
    header = seen.headers.get(volume.name) if len(volume.devices) == 1 or members(volume, seen) == _paths(volume, seen) else None
    errors = strangers(volume, seen) + behind(volume, seen)
    made = record.get("state") == READY
    there = header.uuid if header else ""
    torn = header is not None and _torn(volume, record, header)
    ours = header is not None and not torn and (header.uuid == record.get("uuid") if made else header.label == volume.label)
    if made:
        errors += _recorded(volume, record, header)
    elif record.get("state") != MAKING and seen.notes.get(volume.name, there) != there:
        errors.append(IdcError("IDC-LUKS-035", volume=volume.name, device=volume.container, observed=there or "no LUKS header",
                               wanted=seen.notes[volume.name]))
    elif not ours:
        errors += _free(volume, wanted, seen, record, torn)
        if header and not torn and len(volume.devices) > 1 and not set(volume.devices) <= set(wanted.allow_format):
            found = f"crypto_LUKS ({header.label})"
            errors.append(IdcError("IDC-LUKS-005", volume=volume.name, device=volume.container, found=found))
    if ours and header:
        errors += _as_formatted(volume, wanted, header)
    opened = seen.named(volume.label)
    errors += _mount(volume, seen, opened is not None)
    if opened and ours and (opened.fstype or record.get("state") != MAKING) and opened.fstype != volume.filesystem:
        seen_there = opened.fstype or "no filesystem"
        errors.append(IdcError("IDC-LUKS-017", volume=volume.name, observed=seen_there, wanted=volume.filesystem))
    keys = KeyPlan()
    try:
        keys = plan_keys(header if ours else None, wanted, fresh, seen.keyfiles.get(volume.name, ()))
    except IdcError as error:
        errors.append(error)
    if errors:
        return None, errors
    striped = len(volume.devices) > 1
    wipe = tuple(name for name in volume.devices if not ours and seen.disks[name].signatures
                 and not (striped and seen.disks[name].vg == volume.label))
    if striped and header and not ours:
        wipe += (volume.container,)
    empty = not ours or record.get("state") == MAKING and not (opened and opened.fstype)
    return VolumePlan(volume, wipe, striped and not ours, not ours, opened is None, empty, seen.mounted(volume.mount) is None, keys,
                      there if ours else ""), []


def known(volume: Volume, seen: Seen) -> list[IdcError]:
    """Each disk must be there, and lsblk must know what stands on it."""
    errors = []
    for name in volume.devices:
        path = seen.disks[name].path
        if not path:
            errors.append(IdcError("IDC-LUKS-004", volume=volume.name, device=name))
        elif seen.node(path) is None:
            errors.append(IdcError("IDC-LUKS-028", volume=volume.name, device=name, path=path))
    return errors


def members(volume: Volume, seen: Seen) -> set[str]:
    """The disks of the volume group that has the volume's name."""
    return {path for path, group in seen.groups.items() if group == volume.label}


def _paths(volume: Volume, seen: Seen) -> set[str]:
    return {seen.disks[name].path for name in volume.devices}


def strangers(volume: Volume, seen: Seen) -> list[IdcError]:
    """A stripe's group has no disks but the volume's."""
    other = members(volume, seen) - _paths(volume, seen)
    if len(volume.devices) == 1 or not other:
        return []
    return [IdcError("IDC-LUKS-029", volume=volume.name, group=volume.label, devices=", ".join(sorted(other)))]


def behind(volume: Volume, seen: Seen) -> list[IdcError]:
    """What is open by the volume's name must stand on the volume's container."""
    base = seen.node(seen.disks[volume.devices[0]].path) if len(volume.devices) == 1 else seen.named(f"{volume.label}-data")
    there = [child for child in base.children if child.name == volume.label and child.type == "crypt"] if base else []
    if there or seen.named(volume.label) is None:
        return []
    return [IdcError("IDC-LUKS-032", volume=volume.name, mapper=volume.label, device=volume.container)]


def _torn(volume: Volume, record: Mapping[str, Any], header: Header) -> bool:
    """Formatting was killed before the header had its first key: nobody can have used it."""
    return not header.slots and record.get("state") == MAKING and header.label == volume.label


def held(disk: Disk, node: Optional[Node], own: tuple[str, ...]) -> list[str]:
    """What uses a disk, also what lsblk does not show."""
    found = users(node, own)
    ours = node is not None and any(one.name in own for one in node.walk())
    return found or (["something that holds it open"] if disk.busy and not ours else [])


def _owner(volume: Volume, disk: Disk, seen: Seen) -> str:
    """The other volume that a disk belongs to, by a record on the host or by its own label; "" where there is none."""
    for name, record in seen.records.items():
        if name != volume.name and (disk.path in seen.recorded.get(name, ()) or (record.get("uuid") or None) in disk.uuids):
            return name
    labels = [word.split("(", 1)[1].rstrip(")") for word in disk.signatures if word.startswith("crypto_LUKS (")] + [disk.vg]
    return next((label for label in labels if label.startswith(PREFIX) and label != volume.label), "")


def _recorded(volume: Volume, record: Mapping[str, Any], header: Optional[Header]) -> list[IdcError]:
    """A volume that was made once must be there as it was made, on the same disks."""
    devices, uuid, mount = list(record.get("devices", ())), str(record.get("uuid", "")), record.get("mount", volume.mount)
    if mount != volume.mount:
        return [IdcError("IDC-LUKS-036", volume=volume.name, observed=volume.mount, wanted=mount)]
    if devices != list(volume.devices):
        return [IdcError("IDC-LUKS-007", volume=volume.name, device=", ".join(volume.devices), observed="the inventory's list",
                         wanted=", ".join(devices))]
    if header is None:
        return [IdcError("IDC-LUKS-019", volume=volume.name, device=volume.container, wanted=uuid)]
    if header.uuid != uuid:
        return [IdcError("IDC-LUKS-007", volume=volume.name, device=volume.container, observed=header.uuid, wanted=uuid)]
    return []


def _free(volume: Volume, wanted: Wanted, seen: Seen, record: Mapping[str, Any], torn: bool) -> list[IdcError]:
    """Whether each disk may be formatted. That the site names it does not make another volume's disk ours."""
    errors = []
    began = record.get("state") == MAKING and list(record.get("devices", ())) == list(volume.devices)
    for name in volume.devices:
        disk = seen.disks[name]
        used = held(disk, seen.node(disk.path), (f"{volume.label}-data",) if began else ())
        if used:
            errors.append(IdcError("IDC-LUKS-006", device=name, users=", ".join(used)))
        owner = _owner(volume, disk, seen)
        if owner:
            errors.append(IdcError("IDC-LUKS-030", volume=volume.name, device=name, other=owner))
            continue
        own = ["LVM2_member"] if began and disk.vg in ("", volume.label) else []
        own += [f"crypto_LUKS ({volume.label})"] if torn else []
        foreign = [word for word in disk.signatures if word not in own]
        if name in wanted.allow_format or began and not foreign or disk.blank:
            continue
        found = ", ".join(foreign) or "data without a signature"
        found += f" of {disk.vg}" if disk.vg else ""
        errors.append(IdcError("IDC-LUKS-005", volume=volume.name, device=name, found=found))
    return errors


def _as_formatted(volume: Volume, wanted: Wanted, header: Header) -> list[IdcError]:
    bits = CIPHERS.get(wanted.cipher, 0)
    if header.cipher == wanted.cipher and header.key_bits == bits:
        return []
    return [IdcError("IDC-LUKS-008", volume=volume.name, observed=f"{header.cipher}, {header.key_bits} bits",
                     wanted=f"{wanted.cipher}, {bits} bits")]


def _mount(volume: Volume, seen: Seen, opened: bool) -> list[IdcError]:
    """The folder must be empty, so that nothing hides below, and nobody else's."""
    at = seen.mounted(volume.mount)
    if at and not (opened and at.name == volume.label):
        return [IdcError("IDC-LUKS-012", mount=volume.mount, observed=f"{at.path} is mounted there")]
    if not at and volume.mount in seen.full:
        return [IdcError("IDC-LUKS-012", mount=volume.mount, observed="it holds files")]
    return []


def host_errors(wanted: Wanted, seen: Seen) -> list[IdcError]:
    """What is wrong with the host as a whole: where keys would come to lie in the clear."""
    errors = _twice(wanted, seen)
    if "keyfile" in wanted.unlock and not wanted.allow_plain_keyfile and not seen.encrypted(wanted.keyfile):
        errors.append(IdcError("IDC-LUKS-010", path=wanted.keyfile))
    if "tpm2" in wanted.unlock and not seen.tpm:
        errors.append(IdcError("IDC-LUKS-015"))
    plain = [] if wanted.allow_plain_memory else seen.plain_swaps()
    if seen.crash_kernel and not wanted.allow_plain_memory and not seen.encrypted("/var/crash"):
        plain.append("kdump")
    return errors + ([IdcError("IDC-LUKS-011", places=", ".join(plain))] if plain else [])


def _twice(wanted: Wanted, seen: Seen) -> list[IdcError]:
    """One disk by two names, or a disk and a part of it."""
    errors = []
    for one, other in combinations([name for volume in wanted.volumes for name in volume.devices], 2):
        nodes = [seen.node(seen.disks[name].path) for name in (one, other)]
        below = [[node.real for node in top.walk()] if top else [] for top in nodes]
        if any(top and top.real in reals for top, reals in zip(nodes, reversed(below))):
            errors.append(IdcError("IDC-LUKS-031", device=one, other=other))
    return errors


def host_warnings(seen: Seen) -> list[IdcError]:
    """What a site should know."""
    return [] if seen.encrypted("/") else [IdcError("IDC-LUKS-020")]


def actions(plan: VolumePlan) -> list[str]:
    """The plan in words, one line for each thing that would be done; nothing where all is as it should be."""
    volume = plan.volume
    lines = [f"wipe the signatures of {name}" for name in plan.wipe]
    if plan.stripe:
        lines.append(f"stripe {', '.join(volume.devices)}")
    if plan.format:
        lines.append(f"format {volume.container} as LUKS2")
    if plan.open:
        lines.append(f"open it as {volume.label}")
    if plan.filesystem:
        lines.append(f"make {volume.filesystem}")
    lines += [f"remove token {number}, which has no slot" for number in plan.keys.orphans]
    lines += [f"bind slot {one.slot} to {one.kind}" for one in plan.keys.add]
    lines += [f"remove slot {slot}" for slot in plan.keys.remove]
    lines += [f"remove token {number} of a removed slot" for number in plan.keys.tokens]
    if plan.mount:
        lines.append(f"mount it at {volume.mount}")
    return [f"{volume.name}: {line}" for line in lines]
