# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted volumes: what is refused, what is planned."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _luks, _luks_seen, _luks_wanted
from ansible_collections.idc.llm.plugins.module_utils._luks_seen import Disk, Seen

A, B = "/dev/disk/by-id/virtio-A", "/dev/disk/by-id/virtio-B"
STORE = "/var/lib/idc_llm/store"
FIXTURE = json.loads((Path(__file__).parent / "luks-header.json").read_text())  # cryptsetup 2.6.1, clevis 19, tang 11
HEADER = _luks_seen.parse_header(FIXTURE["dump"], json.dumps(FIXTURE["metadata"]))
GIVEN: dict[str, Any] = {
    "volumes": [{"name": "models", "devices": [A], "mount": STORE}],
    "cipher": "aes-xts-plain64", "allow_format": [], "unlock": ["passphrase"],
    "tang": {"servers": [], "threshold": 1}, "tpm2": {"pcr_ids": "7", "pcr_bank": "sha256"}, "keyfile": "/etc/idc_llm/luks/keys",
    "allow_plain_keyfile": False, "allow_plain_memory": False, "recipient": "age1" + "q" * 58, "recovery": 24, "dry": False,
}
STRIPE = [{"name": "models", "devices": [A, B], "mount": STORE}]
RECORD = {"state": "ready", "uuid": HEADER.uuid, "devices": [A]}


def given(**changes: Any) -> dict[str, Any]:
    return {**GIVEN, **changes}


def wanted(**changes: Any) -> _luks_wanted.Wanted:
    found, errors = _luks_wanted.parse_wanted(given(**changes))
    assert errors == []
    return found


def row(path: str, kind: str = "disk", mounts: Any = (), fstype: str | None = None, children: Any = ()) -> dict[str, Any]:
    return {"name": path.rsplit("/", 1)[1], "path": path, "type": kind, "fstype": fstype, "mountpoints": [*mounts] or [None],
            "size": 1 << 30, "serial": "A", "model": None, "children": [*children]}


def mapper(mounts: Any = (), fstype: str | None = "xfs", name: str = "idc_models") -> dict[str, Any]:
    return row(f"/dev/mapper/{name}", "crypt", mounts, fstype)


ROOT = row("/dev/vda", mounts=["/"], fstype="ext4")


def seen(disk: dict[str, Any] | None = None, found: Disk | None = None, **changes: Any) -> Seen:
    nodes = _luks_seen.parse_lsblk(json.dumps({"blockdevices": [ROOT, disk or row("/dev/vdb"), row("/dev/vdc")]}))
    disks = {A: found or Disk("/dev/vdb", blank=True), B: Disk("/dev/vdc", blank=True)}
    return replace(Seen(disks, nodes), **changes)


LUKS = Disk("/dev/vdb", ("crypto_LUKS (idc_models)",))


def ready(disk: dict[str, Any] | None = None, **changes: Any) -> Seen:
    """A volume that an earlier run has made; open and mounted unless a disk is given."""
    made = {"headers": {"models": HEADER}, "records": {"models": RECORD}, **changes}
    return seen(disk or row("/dev/vdb", fstype="crypto_LUKS", children=[mapper([STORE])]), LUKS, **made)


def planned(host: Seen, **changes: Any) -> _luks.VolumePlan:
    site = wanted(**changes)
    plan, errors = _luks.plan_volume(site.volumes[0], site, host)
    assert errors == [] and plan
    return plan


def refused(host: Seen, **changes: Any) -> list[str]:
    site = wanted(**changes)
    plan, errors = _luks.plan_volume(site.volumes[0], site, host)
    assert plan is None
    return [error.code for error in errors]


def test_a_blank_disk_is_made_from_nothing() -> None:
    plan = planned(seen())
    assert _luks.actions(plan) == [
        f"models: format {A} as LUKS2", "models: open it as idc_models", "models: make xfs", f"models: mount it at {STORE}"]
    assert plan.wipe == ()


def test_a_volume_that_is_as_wanted_has_nothing_to_do() -> None:
    header = replace(HEADER, slots=(0,), tokens=())
    plan = planned(ready(headers={"models": header}))
    assert _luks.actions(plan) == []
    assert plan.uuid == HEADER.uuid


def test_a_closed_volume_is_opened_and_mounted_and_never_formatted() -> None:
    plan = planned(ready(row("/dev/vdb", fstype="crypto_LUKS"), headers={"models": replace(HEADER, slots=(0,), tokens=())}))
    assert _luks.actions(plan) == ["models: open it as idc_models", f"models: mount it at {STORE}"]


@pytest.mark.parametrize("found", [
    ("ext4",), ("xfs (data)",), ("gpt", "PMBR"), ("LVM2_member",), ("linux_raid_member",), ("crypto_LUKS (home)",), ()])
def test_what_is_not_ours_is_refused_unless_the_site_names_that_very_disk(found: tuple[str, ...]) -> None:
    host = seen(None, Disk("/dev/vdb", found))
    assert refused(host) == ["IDC-LUKS-005"]
    assert refused(host, allow_format=[B]) == ["IDC-LUKS-005"]
    assert planned(host, allow_format=[A]).wipe == ((A,) if found else ())


def test_luks_of_another_owner_is_refused() -> None:
    host = seen(None, Disk("/dev/vdb", ("crypto_LUKS (home)",)), headers={"models": replace(HEADER, label="home")})
    assert refused(host) == ["IDC-LUKS-005"]


@pytest.mark.parametrize("disk", [
    row("/dev/vdb", mounts=["/srv"], fstype="ext4"),
    row("/dev/vdb", children=[row("/dev/vdb1", "part", ["/srv"], "ext4")]),
    row("/dev/vdb", mounts=["[SWAP]"], fstype="swap"),
    row("/dev/vdb", children=[row("/dev/mapper/vg-data", "lvm")]),
    row("/dev/vdb", children=[row("/dev/md0", "raid1")]),
    row("/dev/vdb", children=[mapper(name="home")]),
    row("/dev/vdb", children=[row("/dev/md0", "linear")]),
    row("/dev/vdb", children=[row("/dev/mapper/isw", "dmraid")]),
])
def test_a_disk_in_use_is_refused_whatever_is_allowed(disk: dict[str, Any]) -> None:
    assert "IDC-LUKS-006" in refused(seen(disk, Disk("/dev/vdb", ("ext4",))), allow_format=[A])


def test_partitions_that_nobody_uses_are_foreign_but_not_in_use() -> None:
    host = seen(row("/dev/vdb", children=[row("/dev/vdb1", "part", fstype="ext4")]), Disk("/dev/vdb", ("gpt",)))
    assert refused(host) == ["IDC-LUKS-005"]
    assert planned(host, allow_format=[A]).format


def test_a_disk_that_is_not_there_is_refused() -> None:
    assert refused(seen(None, Disk())) == ["IDC-LUKS-004"]


def test_a_swapped_disk_is_refused_even_if_it_is_blank_or_named() -> None:
    blank = seen(records={"models": RECORD})
    assert refused(blank, allow_format=[A]) == ["IDC-LUKS-019"]
    assert refused(ready(headers={"models": replace(HEADER, uuid="other")})) == ["IDC-LUKS-007"]
    assert refused(ready(records={"models": {**RECORD, "devices": [B]}})) == ["IDC-LUKS-007"]


def test_a_volume_of_ours_without_its_record_is_taken_on() -> None:
    """The system was installed anew, the disk kept."""
    plan = planned(ready(row("/dev/vdb", fstype="crypto_LUKS"), records={}))
    assert not plan.format and not plan.filesystem and plan.open


def test_a_run_that_was_killed_goes_on() -> None:
    began = {"models": {"state": "making", "devices": [A]}}
    halfway = planned(seen(None, Disk("/dev/vdb"), records=began))  # a torn header: no signature, not blank
    assert halfway.format
    formatted = planned(seen(row("/dev/vdb", fstype="crypto_LUKS"), LUKS, records=began, headers={"models": HEADER}))
    assert not formatted.format and formatted.open and formatted.filesystem
    opened = planned(ready(row("/dev/vdb", children=[mapper(fstype=None)]), records=began))
    assert opened.filesystem
    foreign = seen(None, Disk("/dev/vdb", ("ext4",)), records=began)
    assert refused(foreign) == ["IDC-LUKS-005"]


def test_a_decommission_that_was_killed_is_not_taken_for_a_new_disk() -> None:
    for state in ("going", "erased"):
        assert refused(seen(records={"models": {**RECORD, "state": state}})) == ["IDC-LUKS-026"]


def test_another_cipher_and_another_filesystem_are_errors() -> None:
    assert refused(ready(), cipher="sm4-xts-plain64") == ["IDC-LUKS-008"]
    other = row("/dev/vdb", children=[mapper([STORE], "ext4")])
    assert refused(ready(other)) == ["IDC-LUKS-017"]
    assert refused(ready(row("/dev/vdb", children=[mapper(fstype=None)]))) == ["IDC-LUKS-017"]


def test_the_folder_must_be_free() -> None:
    assert refused(seen(full=(STORE,))) == ["IDC-LUKS-012"]
    other = _luks_seen.parse_lsblk(json.dumps({"blockdevices": [row("/dev/vdx", mounts=[STORE])]}))
    assert refused(replace(seen(), nodes=seen().nodes + other)) == ["IDC-LUKS-012"]


def test_several_disks_are_striped_under_one_header() -> None:
    plan = planned(seen(), volumes=STRIPE)
    assert plan.volume.container == "/dev/mapper/idc_models-data"
    assert _luks.actions(plan)[:2] == [f"models: stripe {A}, {B}", "models: format /dev/mapper/idc_models-data as LUKS2"]
    began = {"models": {"state": "making", "devices": [A, B]}}
    ours = {A: Disk("/dev/vdb", ("LVM2_member",), vg="idc_models"), B: Disk("/dev/vdc", blank=True)}
    groups = {"/dev/vdb": "idc_models"}
    again = planned(replace(seen(records=began), disks=ours, groups=groups), volumes=STRIPE)
    assert again.stripe and again.wipe == ()
    assert refused(replace(seen(), disks=ours, groups=groups), volumes=STRIPE) == ["IDC-LUKS-005"]


def stripe(header: bool = True, group: tuple[str, ...] = ("/dev/vdb", "/dev/vdc"), **changes: Any) -> Seen:
    """Two disks with an LVM group of the volume's name on some disks."""
    top = row("/dev/mapper/idc_models-data", "lvm")
    rows = [ROOT, *(row(path, children=[top]) for path in ("/dev/vdb", "/dev/vdc"))]
    nodes = _luks_seen.parse_lsblk(json.dumps({"blockdevices": rows}))
    disks = {name: Disk(path, ("LVM2_member",), vg="idc_models" if path in group else "") for name, path in
             ((A, "/dev/vdb"), (B, "/dev/vdc"))}
    return replace(Seen(disks, nodes, {"models": HEADER} if header else {}, groups=dict.fromkeys(group, "idc_models")), **changes)


def test_a_group_of_the_same_name_on_other_disks_is_not_taken_for_the_stripe() -> None:
    record = {"models": {**RECORD, "devices": [A, B]}}
    assert planned(stripe(records=record), volumes=STRIPE).uuid == HEADER.uuid
    assert refused(stripe(group=("/dev/vdx", "/dev/vdy"), records=record), volumes=STRIPE) == ["IDC-LUKS-029", "IDC-LUKS-019"]
    assert "IDC-LUKS-029" in refused(stripe(group=("/dev/vdb", "/dev/vdc", "/dev/vdx")), volumes=STRIPE, allow_format=[A, B])
    assert refused(stripe(group=("/dev/vdb",), records=record), volumes=STRIPE) == ["IDC-LUKS-019"]


def test_a_disk_of_another_volume_is_refused_although_the_site_names_it() -> None:
    """The volume was renamed."""
    was = {"records": {"old": RECORD}, "headers": {"models": replace(HEADER, label="idc_old")}}
    foreign = Disk("/dev/vdb", ("crypto_LUKS",))
    assert planned(seen(None, foreign, **was), allow_format=[A]).format
    assert refused(seen(None, foreign, **was, recorded={"old": ("/dev/vdb",)}), allow_format=[A]) == ["IDC-LUKS-030"]
    moved = replace(foreign, uuids=(HEADER.uuid,))
    assert refused(seen(None, moved, **was, recorded={"old": ("/dev/vdx",)}), allow_format=[A]) == ["IDC-LUKS-030"]
    labelled = replace(foreign, signatures=("crypto_LUKS (idc_old)",))
    assert refused(seen(None, labelled), allow_format=[A]) == ["IDC-LUKS-030"]
    assert refused(seen(None, Disk("/dev/vdb", ("LVM2_member",), vg="idc_old")), allow_format=[A]) == ["IDC-LUKS-030"]


def test_a_disk_that_is_held_by_something_that_lsblk_does_not_show_is_in_use() -> None:
    assert refused(seen(None, Disk("/dev/vdb", ("btrfs",), busy=True)), allow_format=[A]) == ["IDC-LUKS-006"]
    began = {"models": {"state": "making", "devices": [A, B]}}
    host = stripe(header=False, records=began)
    busy = {name: replace(disk, busy=True) for name, disk in host.disks.items()}
    assert planned(replace(host, disks=busy), volumes=STRIPE).format, "our own stripe holds them"


def test_a_disk_is_known_by_what_its_name_leads_to() -> None:
    """A by-id name of a multipath device leads to /dev/dm-3, which lsblk calls by its name."""
    path = row("/dev/sdb", children=[{**row("/dev/mapper/mpatha", "mpath", ["/srv"]), "real": "/dev/dm-3"}])
    assert "IDC-LUKS-006" in refused(seen(path, Disk("/dev/dm-3", blank=True)))
    assert refused(seen(None, Disk("/dev/dm-3", blank=True))) == ["IDC-LUKS-028"]


def test_one_disk_by_two_names_is_refused() -> None:
    host = seen()
    assert _luks.host_errors(wanted(volumes=STRIPE), host) == []
    same = replace(host, disks={A: Disk("/dev/vdb"), B: Disk("/dev/vdb")})
    assert [error.code for error in _luks.host_errors(wanted(volumes=STRIPE), same)] == ["IDC-LUKS-031"]
    parted = seen(row("/dev/vdb", children=[row("/dev/vdb1", "part")]))
    for pair in (("/dev/vdb", "/dev/vdb1"), ("/dev/vdb1", "/dev/vdb")):
        part = replace(parted, disks={name: Disk(path) for name, path in zip((A, B), pair, strict=True)})
        assert [error.code for error in _luks.host_errors(wanted(volumes=STRIPE), part)] == ["IDC-LUKS-031"]


@pytest.mark.parametrize("kind", ["crypt", "lvm"])
def test_what_is_open_by_the_volumes_name_must_stand_on_its_disk(kind: str) -> None:
    other = row("/dev/vdx", children=[row("/dev/mapper/idc_models", kind)])
    nodes = seen().nodes + _luks_seen.parse_lsblk(json.dumps({"blockdevices": [other]}))
    assert refused(replace(seen(), nodes=nodes)) == ["IDC-LUKS-032"]
    assert refused(ready(row("/dev/vdb"), nodes=nodes))[0] == "IDC-LUKS-032"


def test_a_header_without_a_key_is_formatted_again() -> None:
    """Killed in the middle of luksFormat."""
    began, torn = {"models": {"state": "making", "devices": [A]}}, {"models": replace(HEADER, slots=(), tokens=(), key_bits=0)}
    plan = planned(seen(row("/dev/vdb", fstype="crypto_LUKS"), LUKS, records=began, headers=torn))
    assert plan.format and plan.wipe == (A,)
    assert refused(seen(None, LUKS, records={"models": {**RECORD, "devices": [A]}}, headers=torn)) == ["IDC-LUKS-008"]
    both = {"models": {"state": "making", "devices": [A, B]}}
    striped = planned(stripe(records=both, headers=torn), volumes=STRIPE)
    assert striped.format and striped.wipe == ("/dev/mapper/idc_models-data",)
    foreign = {"models": replace(HEADER, label="home")}
    assert refused(stripe(records=both, headers=foreign), volumes=STRIPE) == ["IDC-LUKS-005"]


def test_keys_and_memory_do_not_come_to_lie_in_the_clear() -> None:
    codes = [error.code for error in _luks.host_errors(wanted(unlock=["keyfile"]), seen(swaps=("/swap.img",), crash_kernel=True))]
    assert codes == ["IDC-LUKS-010", "IDC-LUKS-011"]
    accepted = wanted(unlock=["keyfile"], allow_plain_keyfile=True, allow_plain_memory=True)
    assert _luks.host_errors(accepted, seen(swaps=("/swap.img",))) == []
    assert [error.code for error in _luks.host_errors(wanted(unlock=["tpm2"]), seen())] == ["IDC-LUKS-015"]
    crypt_root = _luks_seen.parse_lsblk(json.dumps({"blockdevices": [row("/dev/vda", children=[mapper(["/"], "ext4", "root")])]}))
    encrypted = Seen(nodes=crypt_root, swaps=("/swap.img", "/dev/zram0"), crash_kernel=True)
    assert _luks.host_errors(wanted(unlock=["keyfile"]), encrypted) == []
    assert _luks.host_warnings(encrypted) == []
    assert [error.code for error in _luks.host_warnings(seen())] == ["IDC-LUKS-020"]


@pytest.mark.parametrize(("changes", "place"), [
    ({"volumes": {}}, "volumes"),
    ({"volumes": [{"name": "Models", "devices": [A], "mount": STORE}]}, "volumes[0].name"),
    ({"volumes": [{"name": "models", "devices": ["/dev/sdb"], "mount": STORE}]}, "volumes[0].devices"),
    ({"volumes": [{"name": "models", "devices": [], "mount": STORE}]}, "volumes[0].devices"),
    ({"volumes": [{"name": "models", "devices": [A], "mount": "/"}]}, "volumes[0].mount"),
    ({"volumes": [{"name": "models", "devices": [A], "mount": "/a/../b"}]}, "volumes[0].mount"),
    ({"volumes": [{"name": "models", "devices": [A], "mount": STORE, "filesystem": "ntfs"}]}, "volumes[0].filesystem"),
    ({"volumes": [{"name": "models", "devices": [A], "mount": STORE, "fs": "xfs"}]}, "volumes[0]"),
    ({"volumes": [{"name": n, "devices": [A], "mount": f"/{n}"} for n in ("a", "b")]}, "volumes[].devices"),
    ({"volumes": [{"name": n, "devices": [d], "mount": "/m"} for n, d in (("a", A), ("b", B))]}, "volumes[].mount"),
    ({"volumes": [{"name": n, "devices": [d], "mount": m} for n, d, m in (("a", A, "/m"), ("b", B, "/m/n"))]}, "volumes[].mount"),
    *(({"volumes": [{"name": "models", "devices": [A], "mount": mount}]}, "volumes[0].mount")
      for mount in ("/tmp", "/var/tmp/x", "/var/log", "/var/log/journal")),
    ({"cipher": "aes-cbc-essiv"}, "cipher"),
    ({"allow_format": ["/dev/sdb"]}, "allow_format"),
    ({"unlock": []}, "unlock"),
    ({"unlock": ["tpm2", "tpm2"]}, "unlock"),
    ({"unlock": ["tang"]}, "tang.servers"),
    ({"unlock": ["tang"], "tang": {"servers": [{"url": "ftp://x"}]}}, "tang.servers[].url"),
    ({"unlock": ["tang"], "tang": {"servers": [{"url": "http://x"}], "threshold": 2}}, "tang.threshold"),
    ({"tpm2": {"pcr_ids": "seven"}}, "tpm2.pcr_ids"),
    ({"recovery": 19}, "recovery_passphrase"),
    ({"recipient": "AGE-SECRET-KEY-1"}, "backup_recipient"),
])
def test_wrong_values_are_named(changes: dict[str, Any], place: str) -> None:
    _found, errors = _luks_wanted.parse_wanted(given(**changes))
    assert [error.details["name"] for error in errors if error.code.startswith("IDC-INV")] == [f"luks_storage_{place}"]


@pytest.mark.parametrize(("mount", "unit"), [
    (STORE, "var-lib-idc_llm-store.mount"), ("/srv/a-b/.c", "srv-a\\x2db-.c.mount"), ("/.a", "\\x2ea.mount")])
def test_a_mount_has_the_name_that_systemd_gives_it(mount: str, unit: str) -> None:
    assert _luks_wanted.Volume("models", (A,), mount).unit == unit


def test_where_there_are_no_volumes_nothing_else_is_asked_for() -> None:
    assert _luks_wanted.parse_wanted(given(volumes=[], recovery=0, recipient="", unlock=["tang"]))[1] == []


NOTED = {"models": HEADER.uuid}


@pytest.mark.parametrize("host", [
    seen(found=Disk("/dev/vdb", ("gpt",)), notes=NOTED),
    seen(notes=NOTED),
    ready(records={}, headers={"models": replace(HEADER, uuid="of-another")}, notes=NOTED),
])
def test_what_the_controller_has_a_header_of_is_not_formatted_though_host_and_disk_forgot_it(host: Seen) -> None:
    assert refused(host, allow_format=[A]) == ["IDC-LUKS-035"]


def test_a_host_that_was_installed_anew_takes_its_volume_on() -> None:
    plan = planned(ready(records={}, notes=NOTED))
    assert not plan.format and plan.uuid == HEADER.uuid


def test_a_killed_first_run_goes_on_though_an_older_note_is_there() -> None:
    assert planned(seen(records={"models": {**RECORD, "state": "making", "uuid": ""}}, notes={"models": "older"})).format


def test_a_volume_stays_where_it_is_mounted() -> None:
    assert refused(ready(records={"models": {**RECORD, "mount": "/srv/elsewhere"}})) == ["IDC-LUKS-036"]


@pytest.mark.parametrize("folder", [STORE, f"{STORE}/keys", "/run/keys", "/tmp/keys"])
def test_a_key_file_that_is_away_when_it_is_needed_is_refused(folder: str) -> None:
    errors = _luks_wanted.parse_wanted(given(unlock=["keyfile"], keyfile=folder))[1]
    assert [str(error.details["name"]) for error in errors] == ["luks_storage_keyfile"]


def test_a_word_is_no_truth_value() -> None:
    errors = _luks_wanted.parse_wanted(given(volumes=[{**GIVEN["volumes"][0], "discard": "false"}]))[1]
    assert [error.details["name"] for error in errors] == ["luks_storage_volumes[0].discard"]
