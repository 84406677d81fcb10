# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What luks_info sees is what the filters plan from."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.filter import luks
from ansible_collections.idc.llm.plugins.modules import luks_info

FIXTURE = json.loads((Path(__file__).parents[1] / "module_utils/luks-header.json").read_text())
SECRET = "a passphrase of twenty letters"


class Commands:
    """Answers as a host with one disk would; notes what was asked."""

    def __init__(self, disk: str, header: bool = False, signature: str = "", opens: tuple[int, ...] = (0,)) -> None:
        self.disk, self.header, self.signature, self.opens = disk, header, signature, opens
        self.asked: list[list[str]] = []

    def __call__(self, argv, data=None):
        self.asked.append(list(argv))
        if argv[0] == "lsblk":
            root = {"name": "vda", "path": "/dev/vda", "type": "disk", "fstype": "ext4", "mountpoints": ["/"], "size": 1}
            disk = {"name": "vdb", "path": self.disk, "type": "disk", "mountpoints": [None]}
            return 0, json.dumps({"blockdevices": [root, disk]})
        if argv[0] == "pvs":
            return 0, json.dumps({"report": [{"pv": [{"pv_name": self.disk, "vg_name": "data"}]}]})
        if argv[0] == "wipefs":
            return 0, json.dumps({"signatures": [{"type": self.signature}] if self.signature else []})
        if argv[1] == "luksDump" and self.header:
            return 0, json.dumps(FIXTURE["metadata"]) if "--dump-json-metadata" in argv else FIXTURE["dump"]
        if argv[1] == "open" and data is None:
            return 0, ""
        if argv[1] == "open":
            return (0 if data == SECRET and int(argv[4]) in self.opens else 2), ""
        return 1, ""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """One volume on a file that stands for a disk."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"\0" * 8192)
    monkeypatch.setattr(luks._luks_wanted, "BY_ID", luks.re.compile(r"/.*"))
    monkeypatch.setattr(luks._luks_wanted, "EARLY", ())
    given = {"volumes": [{"name": "models", "devices": [str(disk)], "mount": str(tmp_path / "store")}], "cipher": "aes-xts-plain64",
             "allow_format": [], "unlock": ["passphrase"], "tang": {}, "tpm2": {}, "keyfile": "/keys", "allow_plain_keyfile": False,
             "allow_plain_memory": True, "recipient": "age1" + "q" * 58, "recovery": 30, "dry": False}
    (tmp_path / "records").mkdir()

    def look(commands):
        return luks_info.look(luks.luks_volumes(given), str(tmp_path / "records"), {"recovery": SECRET, "previous": None}, commands)

    return given, look, disk, tmp_path


def test_a_blank_disk_is_planned(site):
    given, look, disk, _tmp = site
    plan = luks.luks_plan(given, look(Commands(str(disk))))
    assert plan["errors"] == [] and plan["actions"][0] == f"models: format {disk} as LUKS2"
    row = plan["volumes"][0]
    assert (row["filesystem"], row["make"], row["format"], row["wipe"], row["mounted"]) == ("xfs", True, True, [], False)
    assert row["record"]["unlock"] == ["passphrase"] and "state" not in row["record"]


def test_what_is_not_zero_and_what_has_a_signature_is_refused(site):
    given, look, disk, _tmp = site
    assert "IDC-LUKS-005" in luks.luks_plan(given, look(Commands(str(disk), signature="ext4")))["errors"][0]
    disk.write_bytes(b"\0" * 4096 + b"x")
    plan = luks.luks_plan(given, look(Commands(str(disk))), False, "zh")
    assert len(plan["errors"]) == 1 and "未改动任何内容" in plan["errors"][0] and plan["volumes"] == []


def test_a_disk_that_is_gone(site):
    given, look, disk, _tmp = site
    disk.unlink()
    assert "IDC-LUKS-004" in luks.luks_plan(given, look(Commands(str(disk))))["errors"][0]


def test_the_passphrase_is_held_against_what_is_there(site):
    given, look, disk, tmp = site
    uuid = next(line.split()[1] for line in FIXTURE["dump"].splitlines() if line.startswith("UUID:"))
    (tmp / "records/models.json").write_text(json.dumps({"state": "ready", "uuid": uuid, "devices": [str(disk)]}))
    commands = Commands(str(disk), header=True)
    seen = look(commands)
    assert seen["opens"] == {"models": {"recovery": [0]}}
    assert not any(SECRET in word for argv in commands.asked for word in argv)
    assert SECRET not in json.dumps(seen)
    assert luks.luks_plan(given, seen)["errors"] == []
    assert luks.luks_headers(seen)["models"]["slots"] == (0, 2, 3)
    assert luks.luks_recovery(given["volumes"][0] | {"container": str(disk)}, seen) == []
    wrong = look(Commands(str(disk), header=True, opens=()))
    assert "IDC-LUKS-009" in luks.luks_plan(given, wrong)["errors"][0]
    with pytest.raises(AnsibleFilterError, match="IDC-LUKS-009"):
        luks.luks_recovery(given["volumes"][0] | {"container": str(disk)}, wrong)


def test_a_torn_record_is_none(site):
    given, look, disk, tmp = site
    (tmp / "records/models.json").write_text("{")
    assert look(Commands(str(disk)))["records"] == {"models": {}}


def test_records_of_volumes_that_left_the_inventory_are_seen(site):
    given, look, disk, tmp = site
    old = {"state": "ready", "uuid": "u", "devices": [str(disk), "/dev/not/there"]}
    (tmp / "records/old.json").write_text(json.dumps(old))
    (tmp / "records/list.json").write_text("[]")
    seen = look(Commands(str(disk)))
    assert seen["records"] == {"list": {}, "models": {}, "old": old} and seen["recorded"]["old"] == [str(disk), ""]
    assert "IDC-LUKS-030" in luks.luks_plan({**given, "allow_format": [str(disk)]}, seen)["errors"][0]


def test_names_of_lsblk_and_lvm_are_followed_to_where_they_lead(site):
    given, look, disk, tmp = site
    (tmp / "mapper").symlink_to(disk)
    seen = look(Commands(str(tmp / "mapper")))
    assert luks.luks_plan(given, seen)["errors"] == []
    assert json.loads(seen["pvs"])["report"][0]["pv"][0]["pv_name"] == str(disk)


def test_a_disk_that_the_kernel_holds_is_in_use(site, monkeypatch):
    given, look, disk, _tmp = site

    def refuse(_path, _flags):
        raise OSError(luks_info.errno.EBUSY, "")

    assert look(Commands(str(disk)))["busy"] == []
    monkeypatch.setattr(luks_info.os, "open", refuse)
    assert luks_info.busy(str(disk))


@pytest.mark.parametrize("there", [True, False])
def test_a_key_file_is_tried_where_it_is_to_lie(site, there):
    given, look, disk, tmp = site
    (tmp / "keys").mkdir()
    if there:
        (tmp / "keys/models.key").write_text("k")
    given["keyfile"] = str(tmp / "keys")
    assert look(Commands(str(disk), header=True))["keyfiles"] == {"models": [3] if there else []}


def test_wrong_values_stop_the_plan(site):
    """Also where only the part that plans is run."""
    given, look, disk, _tmp = site
    plan = luks.luks_plan({**given, "recovery": 3}, look(Commands(str(disk))))
    assert "recovery_passphrase" in plan["errors"][0] and plan["volumes"] == []


def test_a_decommission_reads_the_same(site):
    _given, look, disk, tmp = site
    record = {"name": "models", "state": "ready", "uuid": "other", "devices": [str(disk)], "mount": "/srv"}
    gone = luks.luks_gone(record, look(Commands(str(disk), header=True)))
    assert "IDC-LUKS-007" in gone["errors"][0] and (gone["group"], gone["labels"]) == (False, [])


def test_files_where_the_volume_is_to_be_mounted_are_seen(site):
    given, look, disk, tmp = site
    (tmp / "store").mkdir()
    (tmp / "store/kept").touch()
    assert "IDC-LUKS-012" in luks.luks_plan(given, look(Commands(str(disk))))["errors"][0]


def test_tang_servers_are_known_by_address_and_thumbprint():
    hostvars = {"t1": {"idc_llm_address": "10.0.0.5"}, "t2": {"ansible_host": "fd00::1"}, "t3": {}}
    answers = [{"item": "t1", "stdout": "thumb\nother"}, {"item": "t2", "stdout": ""}]
    assert luks.luks_tang_servers(list(hostvars), hostvars, 7500, answers) == [
        {"url": "http://10.0.0.5:7500", "thumbprint": "thumb"}, {"url": "http://[fd00::1]:7500", "thumbprint": ""},
        {"url": "http://t3:7500", "thumbprint": ""}]


def test_rates_are_read():
    said = "# Algorithm |  Key |  Encryption |  Decryption\n    aes-xts        512b      2000.1 MiB/s      2100.5 MiB/s\n"
    read = "32+0 records in\n32+0 records out\n33554432 bytes (34 MB, 32 MiB) copied, 0.5 s, 67 MB/s\n"
    assert luks.luks_speed(said, read) == {"cipher": 2100.5, "disk": 64.0}
    assert luks.luks_speed("", "") == {"cipher": 0.0, "disk": 0.0}


def test_a_backup_is_due_when_the_header_or_the_key_has_changed():
    header = {"uuid": "u", "epoch": 4}
    note = {"uuid": "u", "epoch": 4, "recipient": "age1a"}
    assert not luks.luks_backup_due(note, header, "age1a")
    assert luks.luks_backup_due({}, header, "age1a")
    assert luks.luks_backup_due(note, {**header, "epoch": 5}, "age1a")
    assert luks.luks_backup_due(note, header, "age1b")


def test_what_is_left_on_a_disk_is_named():
    looked = [{"item": "/dev/x", "stdout": '{"signatures": [{"type": "crypto_LUKS"}]}'}, {"item": "/dev/y", "stdout": ""}]
    assert luks.luks_left(looked) == ["crypto_LUKS on /dev/x"]
