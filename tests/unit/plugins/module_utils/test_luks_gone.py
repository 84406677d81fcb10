# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume that is given up: nothing of anybody else's is destroyed, also by a run after one that was killed."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _luks_gone, _luks_seen
from ansible_collections.idc.llm.plugins.module_utils._luks_seen import Disk, Seen

A, B = "/dev/disk/by-id/virtio-A", "/dev/disk/by-id/virtio-B"
FIXTURE = json.loads((Path(__file__).parent / "luks-header.json").read_text())
HEADER = _luks_seen.parse_header(FIXTURE["dump"], json.dumps(FIXTURE["metadata"]))


def record(state: str, *devices: str) -> dict[str, Any]:
    return {"name": "cache", "state": state, "uuid": HEADER.uuid, "devices": list(devices or (A,)), "mount": "/srv/cache"}


def node(path: str, kind: str = "disk", **more: Any) -> dict[str, Any]:
    return {"name": path.rsplit("/", 1)[1], "path": path, "type": kind, **more}


def host(*nodes: dict[str, Any], header: bool = False, **disks: Disk) -> Seen:
    found = {A: disks.get("a", Disk("/dev/vdb")), B: disks.get("b", Disk("/dev/vdc"))}
    groups = {disk.path: disk.vg for disk in found.values()}
    lsblk = _luks_seen.parse_lsblk(json.dumps({"blockdevices": nodes or [node("/dev/vdb"), node("/dev/vdc")]}))
    return Seen(found, lsblk, {"cache": HEADER} if header else {}, groups=groups)


def striped(top: dict[str, Any] | None = None, header: bool = False) -> Seen:
    above = top or node("/dev/mapper/idc_cache-data", "lvm")
    disks = {name: Disk(path, ("LVM2_member",), vg="idc_cache") for name, path in (("a", "/dev/vdb"), ("b", "/dev/vdc"))}
    return host(node("/dev/vdb", children=[above]), node("/dev/vdc", children=[above]), header=header, **disks)


def codes(given: dict[str, Any], seen: Seen) -> list[str]:
    return [error.code for error in _luks_gone.gone_errors(given, seen)]


def test_a_volume_is_destroyed_where_its_header_is() -> None:
    assert codes(record("ready"), host(header=True)) == []
    assert codes(record("ready", A, B), striped(header=True)) == []
    assert codes(record("going"), host(header=True)) == []


@pytest.mark.parametrize("state", ["ready", "going", "making"])
def test_another_header_is_not(state: str) -> None:
    assert codes({**record(state), "uuid": "other"}, host(header=True)) == ["IDC-LUKS-007"]


def test_no_header_is_believed_of_a_killed_run_only() -> None:
    assert codes(record("ready"), host()) == ["IDC-LUKS-007"]
    assert codes(record("going"), host()) == []
    assert codes(record("going", A, B), striped()) == []


@pytest.mark.parametrize(("seen", "code"), [
    (host(a=Disk("/dev/vdb", ("ext4",))), "IDC-LUKS-034"),
    (host(a=Disk("/dev/vdb", ("LVM2_member",), vg="data")), "IDC-LUKS-034"),
    (host(a=Disk("/dev/vdb", busy=True)), "IDC-LUKS-006"),
    (host(node("/dev/vdb", mountpoints=["/srv"])), "IDC-LUKS-006"),
    (host(node("/dev/vdb", children=[node("/dev/md0", "raid1")])), "IDC-LUKS-006"),
    (host(a=Disk()), "IDC-LUKS-004"),
])
def test_a_disk_that_was_used_again_is_left(seen: Seen, code: str) -> None:
    assert codes(record("going"), seen) == [code]


def test_a_stripe_must_be_the_one_that_was_recorded() -> None:
    assert codes(record("going", A, B), host()) == ["IDC-LUKS-004"], "not active: nothing was proven"
    other = replace(striped(header=True), groups={"/dev/vdb": "idc_cache", "/dev/vdc": "idc_cache", "/dev/vdx": "idc_cache"})
    assert codes(record("ready", A, B), other)[0] == "IDC-LUKS-029"
    assert codes(record("going", A, B), striped(node("/dev/mapper/idc_cache-data", "lvm", fstype="xfs"))) == ["IDC-LUKS-034"]


def test_of_an_erased_volume_only_a_bare_stripe_is_taken_apart() -> None:
    assert codes(record("erased"), host(a=Disk("/dev/vdb", ("ext4",), busy=True))) == []
    assert _luks_gone.left(record("erased", A, B), striped()) == _luks_gone.Left(True, (A, B))
    used = striped(node("/dev/mapper/idc_cache-data", "lvm", fstype="xfs"))
    assert _luks_gone.left(record("erased", A, B), used) == _luks_gone.Left()
    apart = host(a=Disk("/dev/vdb", ("LVM2_member",)), b=Disk("/dev/vdc", ("ext4",)))
    assert _luks_gone.left(record("erased", A, B), apart) == _luks_gone.Left(False, (A,))
    assert _luks_gone.left(record("erased"), host(a=Disk("/dev/vdb", ("LVM2_member",)))) == _luks_gone.Left()
