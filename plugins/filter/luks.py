# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role luks_storage."""
from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.module_utils import _luks, _luks_gone, _luks_keys, _luks_seen, _luks_wanted
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import own_address


def luks_volumes(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The volumes complete: name, devices, mount, filesystem, discard, label, container, keyfile."""
    wanted = _luks_wanted.parse_wanted(given)[0]
    return [_row(volume, wanted.keyfile) for volume in wanted.volumes]


def luks_tang_servers(hosts: Sequence[str], hostvars: Mapping[str, Any], port: int,
                      answers: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, str]]:
    """The Tang servers that the role set up: url, thumbprint ("" where it is not known). answers: of tang-show-keys, by host."""
    shown = {answer["item"]: str(answer.get("stdout", "")) for answer in answers}
    servers = []
    for name in hosts:
        variables = hostvars[name]
        address = own_address(variables) or variables.get("ansible_host") or name
        host = f"[{address}]" if ":" in address else address
        words = shown.get(name, "").split()
        servers.append({"url": f"http://{host}:{port}", "thumbprint": words[0] if words else ""})
    return servers


def luks_errors(given: Mapping[str, Any], lang: str = "en") -> list[str]:
    """What is wrong with the inventory's values."""
    return [error.render(lang) for error in _luks_wanted.parse_wanted(given)[1]]


def luks_plan(given: Mapping[str, Any], seen: Mapping[str, Any], fresh: bool = False, lang: str = "en") -> dict[str, Any]:
    """errors, warnings, actions (in words) and volumes (what the tasks read). fresh: each binding is made anew."""
    wanted, errors = _luks_wanted.parse_wanted(given)
    if errors:
        return {"errors": [error.render(lang) for error in errors], "warnings": [], "actions": [], "volumes": []}
    found = _seen(seen, given.get("notes", ()))
    errors, warnings = _luks.host_errors(wanted, found), _luks.host_warnings(found)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for volume in wanted.volumes:
        plan, wrong = _luks.plan_volume(volume, wanted, found, fresh)
        errors += wrong
        if plan and not plan.format and not fresh and 0 not in seen["opens"][volume.name].get("recovery", ()):
            errors.append(IdcError("IDC-LUKS-009", volume=volume.name, device=volume.container, slot=0))
        if not plan:
            continue
        if plan.keys.strange:
            warnings.append(IdcError("IDC-LUKS-024", volume=volume.name, slots=", ".join(map(str, plan.keys.strange))))
        lines += _luks.actions(plan)
        record = {
            "name": volume.name, "devices": list(volume.devices), "container": volume.container, "mapper": volume.label,
            "mount": volume.mount, "unit": volume.unit, "unlock": list(wanted.unlock),
            "keyfile": f"{wanted.keyfile}/{volume.name}.key", "discard": volume.discard,
            "tang": [url for url, _thumb in wanted.tang.servers]}
        rows.append({**_row(volume, wanted.keyfile), "wipe": list(plan.wipe), "stripe": plan.stripe, "format": plan.format,
                     "open": plan.open, "uuid": plan.uuid, "make": plan.filesystem, "mounted": not plan.mount,
                     "key_plan": asdict(plan.keys), "record": record})
    return {"errors": list(dict.fromkeys(error.render(lang) for error in errors)),
            "warnings": [error.render(lang) for error in warnings], "actions": lines, "volumes": rows}


def luks_headers(seen: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the headers now, by volume: uuid, epoch, cipher, key_bits, offset, slots."""
    found = {name: asdict(header) for name, header in _seen(seen).headers.items()}
    keys = ("uuid", "label", "epoch", "cipher", "key_bits", "offset", "slots")
    return {name: {key: header[key] for key in keys} for name, header in found.items()}


def luks_recovery(volume: Mapping[str, Any], seen: Mapping[str, Any], lang: str = "en") -> list[str]:
    """The steps of rotating the recovery passphrase."""
    name, opens = volume["name"], seen["opens"][volume["name"]]
    slots = luks_headers(seen)[name]["slots"]
    try:
        steps = _luks_keys.recovery_steps(name, volume["container"], slots, opens.get("recovery", ()), opens.get("previous", ()))
    except IdcError as error:
        raise AnsibleFilterError(error.render(lang)) from error
    return list(steps)


def luks_backup_due(kept: Any, header: Mapping[str, Any], recipient: str) -> bool:
    """Whether the newest backup, by the note beside it, is not of this header as it is."""
    return not isinstance(kept, Mapping) or (kept.get("uuid"), kept.get("epoch"), kept.get("recipient")) != (
        header["uuid"], header["epoch"], recipient)


def luks_speed(benchmark: str, read: str) -> dict[str, float]:
    """MiB/s: cipher, of ``cryptsetup benchmark``'s decryption; disk, of what dd said; 0 where it said nothing."""
    cipher = re.findall(r"(?m)^\s*\S+-xts\S*\s+\d+b\s+[\d.]+ MiB/s\s+([\d.]+) MiB/s", benchmark)
    disk = re.findall(r"(\d+) bytes.*?, ([\d.e-]+) s,", read)
    rate = int(disk[-1][0]) / max(float(disk[-1][1]), 1e-6) / 2**20 if disk else 0.0
    return {"cipher": float(cipher[-1]) if cipher else 0.0, "disk": round(rate, 1)}


def luks_gone(record: Mapping[str, Any], seen: Mapping[str, Any], lang: str = "en") -> dict[str, Any]:
    """Of a volume that is given up: errors, and group and labels, which are what is left of a stripe."""
    found = _seen(seen)
    left = _luks_gone.left(record, found)
    return {"errors": [error.render(lang) for error in _luks_gone.gone_errors(record, found)], "group": left.group,
            "labels": list(left.labels)}


def luks_left(wipefs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What still shows on the devices of a volume that was given up: 'crypto_LUKS on /dev/…'."""
    return [f"{word} on {row['item']}" for row in wipefs for word in _luks_seen.parse_signatures(str(row.get("stdout", "")))]


def _row(volume: _luks_wanted.Volume, folder: str) -> dict[str, Any]:
    return {**asdict(volume), "devices": list(volume.devices), "label": volume.label, "container": volume.container,
            "keyfile": f"{folder}/{volume.name}.key"}


def _seen(seen: Mapping[str, Any], notes: Sequence[Mapping[str, Any]] = ()) -> _luks_seen.Seen:
    """What luks_info printed, read. notes: of the headers' backups on the controller."""
    groups = _luks_seen.parse_groups(seen["pvs"])
    disks = {}
    for name, path in seen["paths"].items():
        words = _luks_seen.parse_signatures(seen["signatures"].get(name, ""))
        blank = name in seen["zero"] and not words
        disks[name] = _luks_seen.Disk(path, words, blank, groups.get(path, ""),
                                      _luks_seen.parse_uuids(seen["signatures"].get(name, "")), name in seen["busy"])
    headers = {name: _luks_seen.parse_header(said["text"], said["metadata"]) for name, said in seen["headers"].items()}
    return _luks_seen.Seen(disks, _luks_seen.parse_lsblk(seen["lsblk"]), headers, seen["records"], tuple(seen["full"]),
                           _luks_seen.parse_swaps(seen["swaps"]), seen["crash"], seen["tpm"], groups,
                           {name: tuple(paths) for name, paths in seen["recorded"].items()},
                           {name: tuple(slots) for name, slots in seen["keyfiles"].items()},
                           {_luks_seen.noted(note): str(note["uuid"]) for note in notes if note.get("file")})


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        named = (luks_backup_due, luks_errors, luks_gone, luks_headers, luks_left, luks_plan, luks_recovery, luks_speed,
                 luks_tang_servers, luks_volumes)
        return {function.__name__: function for function in named}
