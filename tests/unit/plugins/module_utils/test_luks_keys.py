# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key slots: bindings are known, made, and removed only after another one has proven itself."""
from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _luks_keys, _luks_seen, _luks_wanted
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._luks_seen import Header, Token

FIXTURE = json.loads((Path(__file__).parent / "luks-header.json").read_text())  # slot 2: sss of one Tang server, slot 3: a key file
HEADER = _luks_seen.parse_header(FIXTURE["dump"], json.dumps(FIXTURE["metadata"]))
URL, THUMBPRINT = "http://127.0.0.1:7599", FIXTURE["thumbprint"]


def wanted(*unlock: str, servers: Any = ((URL, THUMBPRINT),), threshold: int = 1) -> _luks_wanted.Wanted:
    return _luks_wanted.Wanted((), "aes-xts-plain64", (), unlock, _luks_wanted.Tang(tuple(servers), threshold), "7", "sha256",
                               "/keys", False, False)


def work(header: Header, site: _luks_wanted.Wanted) -> _luks_keys.KeyPlan:
    """What there is to do, where the key file opens slot 3."""
    return replace(_luks_keys.plan_keys(header, site, keyfile=(3,)), stay=())


def tpm2(number: int, slot: int, ids: str = "7") -> Token:
    head = {"clevis": {"pin": "tpm2", "tpm2": {"hash": "sha256", "key": "ecc", "pcr_bank": "sha256", "pcr_ids": ids}}}
    protected = base64.urlsafe_b64encode(json.dumps(head).encode()).rstrip(b"=").decode()
    return Token(number, "clevis", (slot,), {"jwe": {"protected": protected}})


def test_a_real_header_is_read() -> None:
    assert (HEADER.label, HEADER.cipher, HEADER.key_bits, HEADER.offset) == ("idc_models", "aes-xts-plain64", 512, 16 << 20)
    assert HEADER.slots == (0, 2, 3)
    assert [(token.type, token.slots) for token in HEADER.tokens] == [("clevis", (2,)), ("idc-llm-keyfile", (3,))]


def test_bindings_as_wanted_stay() -> None:
    assert work(HEADER, wanted("tang", "keyfile")) == _luks_keys.KeyPlan()
    assert work(HEADER, wanted("keyfile", "tang", servers=[(URL, "")])) == _luks_keys.KeyPlan()


def test_a_new_volume_gets_each_binding_in_a_slot_of_its_own() -> None:
    plan = _luks_keys.plan_keys(None, wanted("tang", "tpm2", "keyfile", "passphrase"))
    assert [(one.kind, one.slot, one.pin) for one in plan.add] == [("tang", 2, "sss"), ("tpm2", 3, "tpm2"), ("keyfile", 4, "")]
    assert json.loads(plan.add[0].config) == {"t": 1, "pins": {"tang": [{"url": URL, "thp": THUMBPRINT}]}}
    assert json.loads(plan.add[1].config) == {"pcr_bank": "sha256", "pcr_ids": "7"}
    assert plan.prove == plan.stay == plan.add and plan.remove == ()


@pytest.mark.parametrize("site", [
    wanted("tang", servers=[("http://10.0.0.9", "x" * 43)]),
    wanted("tang", servers=[(URL, "another-key")]),
    wanted("tang", servers=[(URL, THUMBPRINT), ("http://10.0.0.9", "x" * 43)], threshold=2),
])
def test_another_server_key_or_threshold_is_bound_anew_before_the_old_one_goes(site: _luks_wanted.Wanted) -> None:
    plan = _luks_keys.plan_keys(HEADER, site)
    assert [one.slot for one in plan.add] == [4]
    assert [one.slot for one in plan.prove] == [4]
    assert plan.remove == (2, 3)
    assert plan.tokens == (0, 1)


def test_what_stays_is_proven_before_another_way_is_removed() -> None:
    plan = _luks_keys.plan_keys(HEADER, wanted("tang"))
    assert (plan.add, [one.slot for one in plan.prove], plan.remove) == ((), [2], (3,))


def test_a_server_of_unknown_key_is_not_bound_to() -> None:
    with pytest.raises(IdcError, match="IDC-LUKS-014"):
        _luks_keys.plan_keys(None, wanted("tang", servers=[(URL, "")]))
    assert _luks_keys.plan_keys(None, replace(wanted("tang", servers=[(URL, "")]), dry=True)).add


def test_rotation_makes_all_anew_and_removes_what_nobody_owns() -> None:
    header = replace(HEADER, slots=(0, 2, 3, 5))
    assert _luks_keys.plan_keys(header, wanted("tang", "keyfile")).strange == (5,)
    plan = _luks_keys.plan_keys(header, wanted("tang", "keyfile"), fresh=True)
    assert [(one.kind, one.slot) for one in plan.add] == [("tang", 4), ("keyfile", 6)]
    assert plan.remove == (2, 3, 5) and plan.strange == ()


def test_a_rotation_that_was_killed_ends_with_one_binding() -> None:
    token = replace(HEADER.tokens[0], number=2, slots=(4,))
    header = replace(HEADER, slots=(0, 2, 4), tokens=(HEADER.tokens[0], token))
    assert _luks_keys.plan_keys(header, wanted("tang")).remove == (4,)
    plan = _luks_keys.plan_keys(header, wanted("tang"), fresh=True)
    assert ([one.slot for one in plan.add], plan.remove) == ([3], (2, 4))


def test_tokens_without_a_slot_go() -> None:
    header = replace(HEADER, slots=(0, 2), tokens=(HEADER.tokens[0], replace(HEADER.tokens[1], slots=())))
    assert work(header, wanted("tang")) == _luks_keys.KeyPlan(orphans=(1,))


def test_a_rotation_cut_between_slot_and_token_does_not_lose_the_next_binding() -> None:
    """Token 0 has lost its slot: what is bound next gets its number, so that it goes before that, and never after."""
    bound = replace(HEADER.tokens[0], number=1, slots=(3,))
    header = replace(HEADER, slots=(0, 3), tokens=(replace(HEADER.tokens[0], slots=()), bound))
    plan = _luks_keys.plan_keys(header, wanted("tang"), fresh=True)
    assert (plan.orphans, [one.slot for one in plan.add], plan.remove, plan.tokens) == ((0,), [2], (3,), (1,))


def test_a_tpm2_binding_is_compared_by_its_registers() -> None:
    header = Header("u", "idc_models", 1, "aes-xts-plain64", 512, 1 << 24, (0, 2), (tpm2(0, 2),))
    assert work(header, wanted("tpm2")) == _luks_keys.KeyPlan()
    other = replace(header, tokens=(tpm2(0, 2, "1,7"),))
    assert _luks_keys.plan_keys(other, wanted("tpm2")).remove == (2,)


def test_the_waiting_passphrase_and_the_recovery_are_nobody_elses() -> None:
    assert _luks_keys.plan_keys(replace(HEADER, slots=(0, 1, 2, 3)), wanted("tang", "keyfile")).strange == ()


def test_a_key_file_that_opens_nothing_is_made_anew() -> None:
    """It is lost, or to lie elsewhere."""
    plan = _luks_keys.plan_keys(HEADER, wanted("keyfile"), keyfile=())
    assert ([(one.kind, one.slot) for one in plan.add], plan.remove) == ([("keyfile", 4)], (2, 3))


def test_the_passphrases_slots_are_never_removed_whatever_a_token_says() -> None:
    tokens = (replace(HEADER.tokens[0], slots=(0,)), replace(HEADER.tokens[1], slots=(1,)))
    header = replace(HEADER, slots=(0, 1), tokens=tokens)
    for fresh in (False, True):
        assert _luks_keys.plan_keys(header, wanted("passphrase"), fresh).remove == ()


@pytest.mark.parametrize("body", [{}, {"jwe": {"protected": "?"}}, {"jwe": {"protected": "e30"}}])
def test_a_binding_that_the_role_does_not_make_is_told_and_left(body: dict[str, Any]) -> None:
    header = replace(HEADER, slots=(0, 5), tokens=(Token(0, "clevis", (5,), body),))
    plan = _luks_keys.plan_keys(header, wanted("passphrase"))
    assert (plan.strange, plan.remove, plan.tokens) == ((5,), (), ())
    assert _luks_keys.plan_keys(header, wanted("passphrase"), fresh=True).remove == (5,)


STEPS = {  # slots taken, those that the new one opens, those that the old one opens
    ((0,), (0,), ()): (),
    ((0,), (), (0,)): ("wait", "clear", "settle", "finish"),
    ((0, 1), (1,), (0,)): ("clear", "settle", "finish"),
    ((1,), (1,), ()): ("settle", "finish"),
    ((0, 1), (0, 1), ()): ("finish",),
    ((0, 1), (), (0,)): ("clear_waiting", "wait", "clear", "settle", "finish"),
}


@pytest.mark.parametrize(("slots", "new", "old"), STEPS)
def test_a_passphrase_is_rotated_from_wherever_it_was_killed(slots: Any, new: Any, old: Any) -> None:
    assert _luks_keys.recovery_steps("models", "/dev/x", slots, new, old) == STEPS[slots, new, old]


def test_each_step_leaves_a_state_from_which_the_rest_follows() -> None:
    """Killed after any step, the steps of the next run end where the first would have."""
    slots, new, old = {0}, set[int](), {0}
    todo = _luks_keys.recovery_steps("models", "/dev/x", sorted(slots), sorted(new), sorted(old))
    while todo:
        step, rest = todo[0], todo[1:]
        if step == "wait":
            slots.add(1)
            new.add(1)
        elif step == "clear":
            slots.discard(0)
            old.discard(0)
        elif step == "settle":
            slots.add(0)
            new.add(0)
        elif step == "finish":
            slots.discard(1)
            new.discard(1)
        assert new | old, "nobody can open it"
        todo = _luks_keys.recovery_steps("models", "/dev/x", sorted(slots), sorted(new), sorted(old))
        assert todo == rest
    assert (slots, new, old) == ({0}, {0}, set())


@pytest.mark.parametrize(("slots", "old", "code"), [((0,), (), "IDC-LUKS-009"), ((0, 1), (1,), "IDC-LUKS-025")])
def test_a_passphrase_that_opens_nothing_changes_nothing(slots: Any, old: Any, code: str) -> None:
    with pytest.raises(IdcError, match=code):
        _luks_keys.recovery_steps("models", "/dev/x", slots, (), old)
