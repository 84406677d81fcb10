"""Rotation of all keys: killed on the controller, its host's power cut, and run again; nothing is lost on the way."""
from __future__ import annotations

import json
import re
import secrets

import pytest

from tests.luks.lab import CACHE, CONTAINERS, CONVERGE, HEAL_S, STORE, mounted
from tests.luks.test_1_made import newest
from tests.luks.test_2_reboot import intact
from tests.support.waiting import wait_for

ROTATE, WORDS = "playbooks/rotate_keys.yml", "rotate the keys"


def opens(lab, text: str) -> set[str]:
    """The slots that a passphrase opens, as volume/slot."""
    found = set()
    for name, device in CONTAINERS.items():
        slots = json.loads(lab.said(f"cryptsetup luksDump --dump-json-metadata {device}")[0])["keyslots"]
        # the passphrase by a file in memory: in no process's arguments
        lab.put("/run/lab-passphrase", text)
        answers = lab.ask(*(f"cryptsetup open --test-passphrase --key-slot {slot} --key-file /run/lab-passphrase {device}"
                            for slot in slots))
        found |= {f"{name}/{slot}" for slot, (code, _text) in zip(slots, answers, strict=True) if code == 0}
    lab.said("rm /run/lab-passphrase")
    return found


@pytest.fixture(scope="module")
def rotation(lab):
    """What an operator gives: old and new passphrase, and TPM2 and key file beside Tang from now on."""
    old = lab.passphrase()
    new = lab.passphrase(secrets.token_hex(20))
    return {"luks_storage_recovery_passphrase": new, "luks_storage_recovery_previous": old,
            "luks_storage_unlock": ["tang", "tpm2", "keyfile"], "luks_storage_allow_plain_keyfile": True}


def test_without_the_word_of_consent_nothing_is_done(lab, rotation):
    run = lab.run(ROTATE, "--limit", "node1", **rotation)
    assert run.rc != 0 and "IDC-LUKS-016" in run.output and WORDS in run.output and run.total("changed") == 0, run.output[-3000:]


def test_killed_half_way_the_volumes_still_open(lab, rotation):
    old, new = rotation["luks_storage_recovery_previous"], rotation["luks_storage_recovery_passphrase"]
    run = lab.run(ROTATE, "--limit", "node1", until="Remove the old passphrase", idc_llm_confirm=WORDS, **rotation)
    assert run.rc < 0, run.output[-3000:]
    wait_for(lambda: not lab.ask("pgrep cryptsetup")[0][1], HEAL_S)
    assert {"models/1"} <= opens(lab, new) and {"cache/0"} <= opens(lab, old)


def test_run_again_and_cut_from_power_it_comes_back_by_its_tpm(lab, rotation):
    def cut():
        lab.tang.ask("stop")
        lab.node.ask("stop")

    run = lab.run(ROTATE, "--limit", "node1", until="Bind a slot to Tang servers or the TPM2", times=2, then=cut,
                  idc_llm_confirm=WORDS, **rotation)
    assert run.rc < 0, run.output[-3000:]
    lab.node.ask("system_reset")
    lab.node.ask("cont")
    try:
        lab.up()
        assert wait_for(lambda: mounted(lab, STORE), HEAL_S), lab.ask("journalctl -b --no-pager -u 'idc-llm-luks*' | tail -60")
        assert "models opened by tpm2" in lab.said("journalctl -b --no-pager -u idc-llm-luks@models")[0]
    finally:
        lab.tang.ask("cont")
    assert wait_for(lambda: mounted(lab, STORE, CACHE), HEAL_S), lab.ask("journalctl -b --no-pager -u 'idc-llm-luks*' | tail -60")
    assert intact(lab)


def test_run_to_its_end_only_the_new_keys_open(lab, rotation):
    old, new = rotation["luks_storage_recovery_previous"], rotation["luks_storage_recovery_passphrase"]
    run = lab.run(ROTATE, "--limit", "node1", idc_llm_confirm=WORDS, **rotation)
    assert run.rc == 0, run.output[-4000:]
    assert opens(lab, old) == set() and opens(lab, new) == {"models/0", "cache/0"}
    for device in CONTAINERS.values():
        header = json.loads(lab.said(f"cryptsetup luksDump --dump-json-metadata {device}")[0])
        assert len(header["keyslots"]) == 4 and len(header["tokens"]) == 3, header
    lab.learn_keys("models")
    for name, device in CONTAINERS.items():  # the backup is of the header as it is now
        epoch = re.search(r"(?m)^Epoch:\s*(\d+)", lab.said(f"cryptsetup luksDump {device}")[0])
        assert epoch and newest(name).exists() and newest(name).name.split(".")[2] == epoch[1], newest(name)
    lab.show("after the rotation")


def test_afterwards_there_is_nothing_to_do(lab, rotation):
    given = {name: value for name, value in rotation.items() if name != "luks_storage_recovery_previous"}
    run = lab.run(CONVERGE, "--limit", "node1", "--check", **given)
    assert run.rc == 0 and run.total("changed") == 0, run.output[-4000:]
