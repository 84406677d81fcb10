# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may still be destroyed of a volume that is given up: its record and what was seen give an answer. Pure, private.

The record is "going" until its header is proven gone, then "erased": from then on the disks may be somebody else's.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._luks import ERASED, GOING, behind, held, known, members, strangers
from ansible_collections.idc.llm.plugins.module_utils._luks_seen import Seen
from ansible_collections.idc.llm.plugins.module_utils._luks_wanted import Volume


@dataclass(frozen=True)
class Left:
    """What is left of a stripe. ``group``: whether its group is to be removed; ``labels``: disks that bear LVM's label alone."""

    group: bool = False
    labels: tuple[str, ...] = ()


def gone_errors(record: Mapping[str, Any], seen: Seen) -> list[IdcError]:
    """Why nothing may be destroyed. Nothing is destroyed of what is erased, so that nothing is asked of it."""
    volume = _volume(record)
    if record.get("state") == ERASED:
        return []
    errors = known(volume, seen)
    if errors:
        return errors
    errors = strangers(volume, seen) + behind(volume, seen)
    striped, top = len(volume.devices) > 1, seen.named(f"{volume.label}-data")
    if striped and (top is None or members(volume, seen) != {seen.disks[name].path for name in volume.devices}):
        errors.append(IdcError("IDC-LUKS-004", volume=volume.name, device=volume.container))
    header = seen.headers.get(volume.name)
    if header is None and record.get("state") == GOING:
        return errors + _reused(volume, seen)
    found = header.uuid if header else "no LUKS header"
    if header is None or found != record.get("uuid"):
        uuid = str(record.get("uuid"))
        errors.append(IdcError("IDC-LUKS-007", volume=volume.name, device=volume.container, observed=found, wanted=uuid))
    return errors


def left(record: Mapping[str, Any], seen: Seen) -> Left:
    """What is left of an erased volume, where nobody has taken its disks for something else."""
    volume = _volume(record)
    top = seen.named(f"{volume.label}-data")
    paths = {name: seen.disks[name].path for name in volume.devices}
    whole = bool(members(volume, seen)) and members(volume, seen) == set(paths.values())
    group = len(paths) > 1 and whole and not (top and (top.fstype or top.mounts or top.children))
    groups = ("", volume.label) if group else ("",)
    bare = [name for name in paths if seen.disks[name].signatures == ("LVM2_member",) and seen.disks[name].vg in groups]
    return Left(group, tuple(bare) if len(paths) > 1 else ())


def _volume(record: Mapping[str, Any]) -> Volume:
    return Volume(str(record["name"]), tuple(record["devices"]), str(record["mount"]))


def _reused(volume: Volume, seen: Seen) -> list[IdcError]:
    """The header is gone already: by a run of ours that was killed, or since the disk is another one's now."""
    errors = []
    own = f"{volume.label}-data"
    for name in volume.devices:
        disk = seen.disks[name]
        used = held(disk, seen.node(disk.path), (own,))
        if used:
            errors.append(IdcError("IDC-LUKS-006", device=name, users=", ".join(used)))
        mine = ["LVM2_member"] if disk.vg in ("", volume.label) else []
        foreign = [word for word in disk.signatures if word not in mine]
        if foreign:
            errors.append(_other(volume, name, ", ".join(foreign)))
    top = seen.named(own)
    if top and top.fstype not in ("", "crypto_LUKS"):  # udev may still show the header
        errors.append(_other(volume, volume.container, top.fstype))
    return errors


def _other(volume: Volume, device: str, observed: str) -> IdcError:
    return IdcError("IDC-LUKS-034", volume=volume.name, device=device, observed=observed)
