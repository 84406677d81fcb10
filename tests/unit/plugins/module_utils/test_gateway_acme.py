# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site says of its ACME server, and when a certificate is due."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._gateway_acme import acme_due, parse_acme

DIRECTORY = "https://acme.bank.example:8443/acme/acme/directory"
NAMES = ["llm.bank.example", "chat.bank.example"]


@pytest.mark.parametrize("raw", [None, {}])
def test_no_acme_server(raw):
    assert parse_acme(raw, "localhost", []) == {}


def test_the_names_are_those_that_can_be_proven():
    found = parse_acme({"directory": DIRECTORY}, "LLM.bank.example",
                       ["10.0.0.10", "fd00::1", "localhost", "chat.bank.example", "llm.bank.example", "llm"])
    assert found["names"] == [*NAMES, "llm"]
    assert (found["ca"], found["email"], found["eab"]) == ("", "", {})


def test_each_acme_server_has_a_folder_of_its_own():
    one, other = (parse_acme({"directory": at}, NAMES[0], [])["folder"] for at in (DIRECTORY, "https://../../etc/"))
    assert (one, other) == ("acme.bank.example_8443_acme_acme_directory", ".._.._etc")


def test_an_external_account_has_a_key():
    found = parse_acme({"directory": DIRECTORY, "eab": {"kid": "k1"}}, NAMES[0], [], keyed=True)
    assert found["eab"] == {"kid": "k1", "alg": "HS256"}


@pytest.mark.parametrize(("change", "keyed", "word"), [
    ({"directory": "http://acme.bank.example/directory"}, False, "https://"), ({"directory": None}, False, "directory"),
    ({"directry": DIRECTORY}, False, "directory"), ({"email": "ops"}, False, "email"), ({"email": "a@b,c@d"}, False, "email"),
    ({"ca": 7}, False, "ca"), ({"eab": "k1"}, True, "eab"), ({"eab": {"kid": "k1"}}, False, "acme_eab_key"), ({}, True, "kid"),
    ({"eab": {"alg": "HS256"}}, True, "kid"), ({"eab": {"kid": "k1", "alg": "none"}}, True, "HS256"),
    ({"eab": {"kid": "k1", "key": "x"}}, True, "eab.key"),
])
def test_wrong_values_are_named(change, keyed, word):
    with pytest.raises(IdcError) as caught:
        parse_acme({"directory": DIRECTORY, **change}, NAMES[0], [], keyed)
    assert word in str(caught.value.render("en"))


@pytest.mark.parametrize("raw", ["https://acme.bank.example", ["x"], 7])
def test_what_is_no_mapping_is_refused(raw):
    with pytest.raises(IdcError, match="gateway_acme"):
        parse_acme(raw, NAMES[0], [])


@pytest.mark.parametrize("name", ["*.bank.example", "llm_1.bank.example", "-x.example", "a..b", "a" * 64, "a b"])
def test_names_that_nobody_could_sign_are_refused(name):
    with pytest.raises(IdcError, match="gateway_tls_extra_names"):
        parse_acme({"directory": DIRECTORY}, NAMES[0], [name])


def test_addresses_alone_are_no_names():
    with pytest.raises(IdcError, match="IDC-GW-012"):
        parse_acme({"directory": DIRECTORY}, "localhost", ["10.0.0.10"])


def kept(names=tuple(NAMES), renewal=True, third=True):
    return {"subject_alt_name": [f"DNS:{name}" for name in names], "not_after": "20270101000000Z",
            "valid_at": {"renewal": renewal, "third": third}}


@pytest.mark.parametrize(("at_hand", "reason", "lasts"), [
    ({}, "there is none", False),
    (kept(), "", True),
    (kept([*reversed(NAMES)]), "", True),
    (kept(["LLM.bank.example", NAMES[1]]), "", True),
    (kept(renewal=False), "it ends 20270101000000Z", True),
    (kept(renewal=False, third=False), "it ends 20270101000000Z", False),
    (kept([*NAMES, "old.bank.example"]), "it is for chat.bank.example, llm.bank.example, old.bank.example", True),
    (kept(NAMES[:1]), "it is for llm.bank.example", False),
    ({**kept(), "subject_alt_name": None}, "it is for ", False),
])
def test_when_a_certificate_is_due_and_whether_the_one_at_hand_will_do(at_hand, reason, lasts):
    assert acme_due(at_hand, NAMES) == {"reason": reason, "lasts": lasts}
