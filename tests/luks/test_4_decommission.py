"""Decommission: the disks are read from outside of the machine."""
from __future__ import annotations

import json
import subprocess

import pytest

from tests.luks.lab import CACHE, STATE, STORE, mounted
from tests.luks.test_1_made import LINE, newest

PLAYBOOK, DISKS = "playbooks/decommission.yml", ("cache-a", "cache-b")
MAGIC = (b"LUKS\xba\xbe", b"SKUL\xba\xbe")


@pytest.fixture(scope="module")
def before(lab):
    """A piece of the area of the key slots, and the UUID."""
    lab.said("sync")
    raw = lab.node.disk("cache-a").read_bytes()
    at = raw.index(MAGIC[0])
    slots = raw[at + 0x8000:at + 0x8000 + 4096]
    assert slots.strip(b"\0")
    return slots, lab.said("cryptsetup luksUUID /dev/idc_cache/data")[0]


def test_another_word_of_consent_is_none(lab, before):
    run = lab.run(PLAYBOOK, "--limit", "node1", luks_storage_decommission="cache", idc_llm_confirm="destroy models on node1")
    assert run.rc != 0 and "IDC-LUKS-016" in run.output and "destroy cache on node1" in run.output
    assert mounted(lab, CACHE)


def test_killed_half_way_and_run_again_it_is_destroyed(lab, before):
    given = {"luks_storage_decommission": "cache", "idc_llm_confirm": "destroy cache on node1"}
    assert lab.run(PLAYBOOK, "--limit", "node1", until="Overwrite where the header was", **given).rc < 0
    run = lab.run(PLAYBOOK, "--limit", "node1", **given)
    assert run.rc == 0, run.output[-4000:]
    lab.said("sync")


def test_nothing_on_the_disks_can_be_opened(lab, before):
    slots, _uuid = before
    for serial in DISKS:
        raw = lab.node.disk(serial).read_bytes()
        assert not [word for word in (*MAGIC, slots[:512], LINE, b"idc_cache\0") if word in raw], serial
        assert raw.strip(b"\0"), "what was encrypted is still there, and is noise"
    for answer in lab.ask(*(f"cryptsetup luksDump /dev/disk/by-id/virtio-{serial}" for serial in DISKS)):
        assert answer[0] != 0, answer
    assert lab.ask("ls /dev/mapper/idc_cache")[0][0] != 0
    assert mounted(lab, STORE) and not mounted(lab, CACHE)


def test_the_record_is_signed_and_no_backup_is_left(lab, before):
    _slots, uuid = before
    folder = STATE / "luks/node1"
    record = folder / f"decommissioned.cache.{uuid}.json"
    words = json.loads(record.read_text())
    assert (words["volume"], words["host"], words["uuid"]) == ("cache", "node1", uuid)
    print(record.read_text())
    public, signature = lab.dir / "record.pub", lab.dir / "record.sig"
    subprocess.run(["openssl", "pkey", "-in", lab.dir / "record.pem", "-pubout", "-out", public], check=True)
    subprocess.run(["openssl", "base64", "-d", "-A", "-in", f"{record}.sig", "-out", signature], check=True)
    subprocess.run(["openssl", "dgst", "-sha256", "-verify", public, "-signature", signature, record], check=True)
    assert newest("models").exists() and not list(folder.glob("cache.*.age"))
