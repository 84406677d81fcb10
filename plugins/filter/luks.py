# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role luks_storage."""
from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict
from typing import Any, Callable, Iterator, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.module_utils import _luks, _luks_keys, _luks_seen, _luks_wanted
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError


def luks_volumes(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The volumes complete: name, devices, mount, filesystem, discard, label, container."""
    return [_row(volume) for volume in _luks_wanted.parse_wanted(given)[0].volumes]


def luks_tang_servers(answers: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any], port: int) -> list[dict[str, str]]:
    """The Tang servers that the role set up: url, thumbprint ("" where one did not answer). answers: of tang-show-keys, by host."""
    servers = []
    for answer in answers:
        variables = hostvars[answer["item"]]
        address = variables.get("idc_llm_address") or variables.get("ansible_host") or answer["item"]
        host = f"[{address}]" if ":" in address else address
        words = str(answer.get("stdout", "")).split()
        servers.append({"url": f"http://{host}:{port}", "thumbprint": words[0] if words else ""})
    return servers


def luks_errors(given: Mapping[str, Any], lang: str = "en") -> list[str]:
    """What is wrong with the inventory's values."""
    return [error.render(lang) for error in _luks_wanted.parse_wanted(given)[1]]


def luks_plan(given: Mapping[str, Any], seen: Mapping[str, Any], fresh: bool = False, lang: str = "en") -> dict[str, Any]:
    """errors, warnings, actions (in words) and volumes (what the tasks read). fresh: each binding is made anew."""
    wanted, found = _luks_wanted.parse_wanted(given)[0], _seen(given, seen)
    errors, warnings = _luks.host_errors(wanted, found), _luks.host_warnings(found)
    rows, lines = [], []
    for volume in wanted.volumes:
        plan, wrong = _luks.plan_volume(volume, wanted, found, fresh)
        errors += wrong
        if not plan:
            continue
        if plan.keys.strange:
            warnings.append(IdcError("IDC-LUKS-024", volume=volume.name, slots=", ".join(map(str, plan.keys.strange))))
        words = _luks.actions(plan)
        lines += words
        rows.append({**asdict(plan), **_row(volume), "volume": volume.name, "actions": words, "record": {
            "devices": list(volume.devices), "container": volume.container, "mapper": volume.label, "mount": volume.mount,
            "unlock": list(wanted.unlock), "keyfile": f"{wanted.keyfile}/{volume.name}.key", "discard": volume.discard,
            "tang": [url for url, _thumb in wanted.tang.servers], "name": volume.name}})
    return {"errors": [error.render(lang) for error in errors], "warnings": [error.render(lang) for error in warnings],
            "actions": lines, "volumes": rows}


def luks_headers(given: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the headers now, by volume: uuid, epoch, cipher, key_bits, offset, slots."""
    found = {name: asdict(header) for name, header in _seen(given, seen).headers.items()}
    keys = ("uuid", "label", "epoch", "cipher", "key_bits", "offset", "slots")
    return {name: {key: header[key] for key in keys} for name, header in found.items()}


def luks_recovery(tests: Sequence[Mapping[str, Any]], volume: Mapping[str, Any], slots: Sequence[int], lang: str = "en") -> list[str]:
    """The steps of rotating the recovery passphrase. tests: of new and old on slots 0 and 1 (item: which, slot; rc)."""
    good = [row["item"] for row in tests if row.get("rc") == 0]
    opens = {which: [one["slot"] for one in good if one["which"] == which] for which in ("new", "old")}
    try:
        return list(_luks_keys.recovery_steps(volume["name"], volume["container"], slots, opens["new"], opens["old"]))
    except IdcError as error:
        raise AnsibleFilterError(error.render(lang)) from error


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


def luks_left(wipefs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What still shows on the devices of a volume that was given up: 'crypto_LUKS on /dev/…'."""
    return [f"{word} on {row['item']}" for row in wipefs for word in _luks_seen.parse_signatures(str(row.get("stdout", "")))]


def _row(volume: _luks_wanted.Volume) -> dict[str, Any]:
    return {**asdict(volume), "devices": list(volume.devices), "label": volume.label, "container": volume.container}


def _seen(given: Mapping[str, Any], seen: Mapping[str, Any]) -> _luks_seen.Seen:
    """Of the registered results of the tasks in observe.yml."""
    groups = _luks_seen.parse_groups(seen["pvs"])
    signatures = {row["item"]: _luks_seen.parse_signatures(text) for row, text in _texts(seen["wipefs"])}
    zero = {row["item"]: row.get("rc") == 0 for row in seen["zero"]}
    disks = {}
    for row in seen["stats"]:
        name, stat = row["item"], row.get("stat") or {}
        path = (stat.get("lnk_source") or name) if stat.get("exists") else ""
        words = signatures.get(name, ())
        disks[name] = _luks_seen.Disk(path, words, bool(path) and not words and zero.get(name, False), groups.get(path, ""))
    metadata = {row["item"]["name"]: text for row, text in _texts(seen["metadata"])}
    headers = {row["item"]["name"]: _luks_seen.parse_header(text, metadata[row["item"]["name"]])
               for row, text in _texts(seen["dumps"]) if metadata.get(row["item"]["name"])}
    records = {row["item"]["name"]: json.loads(base64.b64decode(row["content"])) for row in seen["records"] if row.get("content")}
    full = tuple(row["item"]["mount"] for row in seen["folders"] if int(row.get("matched") or 0) > 0)
    return _luks_seen.Seen(disks, _luks_seen.parse_lsblk(seen["lsblk"]), headers, records, full,
                           _luks_seen.parse_swaps(seen["swaps"]), seen["crash"].strip() == "1", bool(seen["tpm"]))


def _texts(results: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Those that a command answered."""
    for row in results:
        if row.get("rc") == 0 and str(row.get("stdout", "")).strip():
            yield row, row["stdout"]


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        named = (luks_backup_due, luks_errors, luks_headers, luks_left, luks_plan, luks_recovery, luks_speed, luks_tang_servers,
                 luks_volumes)
        return {function.__name__: function for function in named}
