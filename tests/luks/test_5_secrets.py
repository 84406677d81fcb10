"""No key and no passphrase of all the runs before is anywhere that it could be read: not by `ps`, in a log, or from a disk."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.luks.lab import KEYS, STATE, holding


def test_no_process_had_one_in_its_arguments_or_environment(lab):
    assert lab.said("systemctl is-active lab-watch") == ["active"]  # it has not ended on the way
    seen = lab.said("cat /var/log/lab-watch", timeout=240)[0].encode()
    assert b"cryptsetup luksFormat" in seen or b"cryptsetup" in seen and b"clevis" in seen
    assert len(lab.words) >= 8 and not [word for word in lab.words if word in seen]
    noted = tuple(lab.watch.seen)  # it goes on meanwhile
    assert any(b"ansible-playbook" in words for words in noted)
    assert not [words for words in noted for word in lab.words if word in words]


def test_no_journal_log_or_deleted_file_of_the_machines_has_one(lab):
    journal = STATE / "log/journal"
    with open(journal, "wb") as out:
        subprocess.run(["ssh", "-F", lab.dir / "ssh_config", "node1", "sudo journalctl --no-pager --all --output export"],
                       check=True, stdout=out)
    lab.said(f"shred -u {KEYS}/* || true", "sync")
    lab.said("sync", on="tang1")
    files = [journal, lab.node.folder / "root.qcow2", lab.tang.folder / "root.qcow2", lab.node.folder / "console.log"]
    assert all(file.stat().st_size for file in files[:3])
    # the key file lies on the root file system by a permission of its own
    words = lab.words - lab.keyfiles
    assert holding(words, *files) == []


def test_no_log_fact_or_backup_of_the_controller_has_one(lab):
    places = [STATE / "log", STATE / "facts", STATE / "luks", Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", STATE / "log"))]
    assert list((STATE / "log").glob("*.log")) and list((STATE / "facts").glob("*"))
    assert holding(lab.words, *places) == []
