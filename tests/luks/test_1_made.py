"""After converge: the volumes are as they were asked for, and what must not be done is refused with nothing touched."""
from __future__ import annotations

import json
import subprocess

import pytest

from tests.luks.lab import CACHE, CONTAINERS, CONVERGE, STATE, STORE, digest

LINE = b"weights of a model that nobody else may read"


@pytest.fixture(scope="module", autouse=True)
def _data(lab):
    lab.passphrase()
    lab.learn_keys("models")
    write = "python3 -c \"open('{0}/data', 'wb').write({1!r} * 5000)\"; sync -f {0}/data"
    lab.said(*(write.format(mount, LINE) for mount in (STORE, CACHE)))
    lab.show("before the first reboot")


def test_they_are_luks2_with_a_512_bit_key_and_4096_byte_sectors(lab):
    for device, label in zip(CONTAINERS.values(), ("idc_models", "idc_cache"), strict=True):
        dump, meta, table = lab.said(f"cryptsetup luksDump {device}", f"cryptsetup luksDump --dump-json-metadata {device}",
                                     f"cryptsetup status {label}; dmsetup table {label}")
        assert "Version:       \t2" in dump and f"Label:         \t{label}" in dump, dump
        segment = json.loads(meta)["segments"]["0"]
        assert (segment["encryption"], segment["sector_size"]) == ("aes-xts-plain64", 4096)
        assert json.loads(meta)["keyslots"]["0"]["key_size"] == 64 and "no_read_workqueue no_write_workqueue" in table, table
        assert "allow_discards" not in table and "clevis" in {token["type"] for token in json.loads(meta)["tokens"].values()}


def test_two_disks_are_one_stripe(lab):
    lvs, xfs, ext4 = lab.said("lvs --noheadings -o stripes,devices idc_cache",
                              *(f"findmnt -no FSTYPE {mount}" for mount in (STORE, CACHE)))
    assert lvs.split()[0] == "2" and "/dev/vdc" in lvs and "/dev/vdd" in lvs, lvs
    assert (xfs, ext4) == ("xfs", "ext4")


def test_nothing_of_the_data_is_on_the_disks_in_the_clear(lab):
    for serial in ("models", "cache-a", "cache-b"):
        assert LINE not in lab.node.disk(serial).read_bytes()


def test_headers_are_kept_where_only_the_holder_of_the_age_key_reads_them(lab):
    for name, device in CONTAINERS.items():
        kept = newest(name)
        header = opened(lab, kept)
        assert header.startswith(b"LUKS\xba\xbe") and b"LUKS\xba\xbe" not in kept.read_bytes()
        assert lab.said(f"cryptsetup luksUUID {device}")[0].encode() in header


def test_what_must_not_be_formatted_is_refused_all_at_once_and_untouched(lab):
    volumes = [{"name": "models", "devices": ["/dev/disk/by-id/virtio-models"], "mount": STORE},
               {"name": "other", "devices": ["/dev/disk/by-id/virtio-foreign"], "mount": "/srv/other"},
               {"name": "used", "devices": ["/dev/disk/by-id/virtio-spare"], "mount": "/srv/used"},
               {"name": "absent", "devices": ["/dev/disk/by-id/virtio-absent"], "mount": "/srv/absent"}]
    lab.said("mountpoint -q /mnt || mount /dev/disk/by-id/virtio-spare /mnt; sync")
    before = [digest(lab.node, serial) for serial in ("foreign", "spare")]
    run = lab.run(CONVERGE, "--limit", "node1", luks_storage_volumes=volumes, luks_storage_cipher="sm4-xts-plain64",
                  luks_storage_allow_format=["/dev/disk/by-id/virtio-spare"], luks_storage_unlock=["tang", "keyfile"])
    assert run.rc != 0 and run.total("changed") == 0, run.output[-3000:]
    for code, word in (("004", "virtio-absent"), ("005", "virtio-foreign holds ext4"), ("006", "virtio-spare is in use"),
                       ("008", "aes-xts-plain64"), ("010", "/etc/idc_llm/luks/keys")):
        assert f"IDC-LUKS-{code}" in run.output and word in run.output, f"{code}: {run.output[-4000:]}"
    assert [digest(lab.node, serial) for serial in ("foreign", "spare")] == before
    lab.said("umount /mnt")


def test_a_wrong_passphrase_changes_nothing(lab):
    lab.words.add(b"wrong-wrong-wrong-wrong-wrong")
    before = lab.said(*(f"cryptsetup luksDump {device}" for device in CONTAINERS.values()))
    run = lab.run(CONVERGE, "--limit", "node1", luks_storage_recovery_passphrase="wrong-wrong-wrong-wrong-wrong")
    assert run.rc != 0 and "IDC-LUKS-009" in run.output and run.total("changed") == 0, run.output[-3000:]
    assert lab.said(*(f"cryptsetup luksDump {device}" for device in CONTAINERS.values())) == before


def newest(name: str):
    """The file of a volume's header that the controller's note names."""
    folder = STATE / "luks/node1"
    return folder / json.loads((folder / f"{name}.json").read_text())["file"]


def opened(lab, kept) -> bytes:
    """A header's backup, as who has the private key reads it."""
    return subprocess.run(["age", "--decrypt", "--identity", lab.dir / "age.key", kept], check=True, capture_output=True).stdout
