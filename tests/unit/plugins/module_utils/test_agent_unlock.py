# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that opens volumes: ways in their order, keys by pipes alone, waiting without an end."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_unlock as unlock

FIXTURE = json.loads((Path(__file__).parent / "luks-header.json").read_text())
KEY = b"the-key-of-the-slot"
VOLUME = unlock.Volume("models", "ready", "u-1", ["/dev/disk/by-id/virtio-A"], "/dev/disk/by-id/virtio-A", "idc_models", "/srv",
                       "srv.mount", ["tang", "keyfile"], "/keys/models.key", False, ["http://10.0.0.5:7500"])


class Host:
    """Answers commands; notes them."""

    def __init__(self, tang: bool = True, keyfile: bool = True, uuid: str = "u-1", asked: bytes = b"") -> None:
        self.tang, self.keyfile, self.uuid, self.asked = tang, keyfile, uuid, asked
        self.calls: list[tuple[list[str], bytes]] = []
        self.limits: list[float] = []

    def __call__(self, argv, data, limit_s, needless=None):
        self.calls.append((list(argv), data))
        self.limits.append(limit_s)
        words = " ".join(argv)
        if "luksUUID" in words:
            return 0, self.uuid.encode() + b"\n", ""
        if "luksDump" in words:
            return 0, json.dumps(FIXTURE["metadata"]).encode(), ""
        if words.startswith("clevis"):
            return (0, KEY, "") if self.tang else (1, b"", "Error communicating with server")
        if words.startswith("systemd-ask-password"):
            return (0, self.asked + b"\n", "") if self.asked else (1, b"", "")
        if "/keys/models.key" in words:
            return (0, b"", "") if self.keyfile else (2, b"", "No key available")
        return (0, b"", "") if data in (KEY, b"secret") else (2, b"", "No key available")

    def words(self):
        return [" ".join(argv) for argv, _data in self.calls]


def shut():
    return False


def nothing(_volume, _is_open):
    pass


def test_the_slots_of_a_real_header_are_known_by_their_way():
    assert unlock.slots(FIXTURE["metadata"]) == {"tang": [2], "keyfile": [3]}


def test_the_first_way_that_works_opens_it_and_the_key_is_in_no_argument():
    host = Host()
    assert unlock.attempt(VOLUME, host) == ""
    assert host.words()[-1].endswith("/dev/disk/by-id/virtio-A idc_models --key-slot 2 --key-file -")
    assert host.calls[-1][1] == KEY
    assert not any(KEY.decode() in words for words in host.words())
    assert "--allow-discards" not in host.words()[-1]


def test_the_order_is_the_sites():
    host = Host()
    assert unlock.attempt(replace(VOLUME, unlock=["keyfile", "tang"], discard=True), host) == ""
    assert not any(words.startswith("clevis") for words in host.words())
    assert "--allow-discards" in host.words()[-1]


def test_why_no_way_opened_it_is_said_with_the_servers():
    reason = unlock.attempt(VOLUME, Host(tang=False, keyfile=False))
    assert reason == ("tang of http://10.0.0.5:7500: Error communicating with server; "
                      "keyfile /keys/models.key: No key available")
    assert unlock.attempt(replace(VOLUME, unlock=["tpm2"]), Host()) == "tpm2: no key slot"
    assert "passphrase" in unlock.attempt(replace(VOLUME, unlock=["passphrase"]), Host())


def test_another_disk_is_not_asked_for_keys():
    host = Host(uuid="u-2")
    assert "is not the disk that it was" in unlock.attempt(VOLUME, host)
    assert len(host.calls) == 1


def test_a_person_may_give_the_passphrase_between_rounds():
    slept = []
    host = Host(asked=b"secret")
    unlock.wait(replace(VOLUME, unlock=["tang", "passphrase"]), shut, host, slept.append)
    assert host.calls[-1][1] == b"secret"
    unlock.wait(VOLUME, shut, Host(), slept.append)
    assert slept == [unlock.PAUSE_S]


def test_a_person_has_time_to_type():
    """All the time where nobody else opens it."""
    for unlocks, timeout, limit in ((["tang", "passphrase"], "--timeout=90", 110), (["passphrase"], "--timeout=0", float("inf"))):
        host = Host(asked=b"secret")
        unlock.wait(replace(VOLUME, unlock=unlocks), shut, host)
        assert timeout in host.calls[0][0] and host.limits[0] == limit


def test_a_question_ends_when_it_is_needless():
    code, _out, _why = unlock.run(["sleep", "30"], b"", float("inf"), lambda: True)
    assert code == 1


def test_a_token_that_cannot_be_read_is_skipped():
    tokens = {**FIXTURE["metadata"]["tokens"], "7": {"type": "clevis", "keyslots": ["7"], "jwe": {}}, "8": {"type": "clevis"},
              "9": {"type": "clevis", "keyslots": ["9"], "jwe": {"protected": "e30"}}}
    assert unlock.slots({"tokens": tokens}) == {"tang": [2], "keyfile": [3]}


def test_what_fails_in_a_round_is_a_reason_not_the_end():
    told, rounds = [], [ValueError("torn"), None]

    def try_(_volume):
        error = rounds.pop(0)
        if error:
            raise error
        return ""

    unlock.open_volume(VOLUME, shut, told.append, try_, nothing)
    assert told == ["ValueError: torn"] and rounds == []


def test_it_waits_until_a_way_works_and_tells_each_reason_once():
    reasons, told = ["away", "away", "refused", ""], []
    unlock.open_volume(VOLUME, lambda: False, told.append, lambda _volume: reasons.pop(0), nothing)
    assert told == ["away", "refused"]


def test_it_ends_when_somebody_else_opened_it():
    answers = [False, False, True]
    unlock.open_volume(VOLUME, lambda: answers.pop(0), lambda _reason: None, lambda _volume: "away", nothing)
    assert answers == []


def test_who_takes_too_long_is_ended_with_its_children():
    code, out, why = unlock.run(["sh", "-c", "sleep 30 & sleep 30"], b"", 0.3)
    assert (code, out) == (1, b"") and "no answer" in why
    assert unlock.run(["cat"], b"x")[:2] == (0, b"x")
    assert unlock.run(["/does/not/exist"])[0] == 1


@pytest.mark.parametrize("text", ["{}", '{"name": 1'])
def test_broken_settings_are_said(tmp_path, monkeypatch, capsys, text):
    monkeypatch.setattr(unlock, "FOLDER", str(tmp_path))
    (tmp_path / "models.json").write_text(text)
    monkeypatch.setattr("sys.argv", ["unlock.py", "open", "models"])
    assert unlock.main() == 2
    assert capsys.readouterr().err


def test_locked_says_why_and_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(unlock, "RUN", str(tmp_path))
    (tmp_path / "models").write_text("models is locked: away\n")
    monkeypatch.setattr("sys.argv", ["unlock.py", "locked", "models"])
    assert unlock.main() == 1
    assert "away" in capsys.readouterr().err
