# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who somebody is: the decisions. The real slapd and real tokens: tests/integration/test_gateway_login.py."""
from __future__ import annotations

import base64

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_login as login
from ansible_collections.idc.llm.plugins.module_utils._agent_login import Login, Memory, Person, Refused, same_dn, shown, tenant_of

ROW = {"name": "one", "by": "oidc", "groups": ["a"], "acr": [], "amr": [], "keyed": False}


def basic(text):
    return "Basic " + base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


@pytest.mark.parametrize(("header", "wanted"), [
    ("Bearer x.y.z", "x.y.z"), ("bearer  x", "x"), (basic("a:b"), ("a", "b")), (basic("ä:ö:ü"), ("ä", "ö:ü")),
])
def test_what_a_caller_shows(header, wanted):
    assert shown(header) == wanted


@pytest.mark.parametrize("header", [
    "", "Bearer ", "Digest x", "Basic ???", "Basic", basic("alone"), basic("a:"), basic(":b"), basic("a\n:b"), basic(b"\xff:b"),
    basic("a" * 257 + ":b"), basic("a:b\0c"),
])
def test_what_nobody_can_use(header):
    with pytest.raises(Refused) as caught:
        shown(header)
    assert caught.value.answer["status"] == 401


@pytest.mark.parametrize(("groups", "claims", "known", "wanted"), [
    (["a"], {}, "", "one"), (["b"], {}, "", "two"), (["b", "a"], {}, "", "one"), (["c"], {}, "", "no_tenant"),
    (["s"], {"acr": "gold", "amr": ["pwd", "otp"]}, "", "strong"), (["s"], {"acr": "gold", "amr": "otp"}, "", "strong"),
    (["s"], {"acr": "gold"}, "", "login_not_sufficient"), (["s"], {"acr": "tin", "amr": ["otp"]}, "", "login_not_sufficient"),
    (["s", "b"], {}, "", "two"), (["k"], {}, "", "no_tenant"), (["k"], {}, "keyed", "keyed"), (["a"], {}, "keyed", "no_tenant"),
])
def test_the_first_tenant_that_a_person_belongs_to(groups, claims, known, wanted):
    rows = [ROW, {**ROW, "name": "strong", "groups": ["s"], "acr": ["gold"], "amr": ["otp"]},
            {**ROW, "name": "two", "groups": ["b"]},
            {**ROW, "name": "keyed", "groups": ["k"], "keyed": True}, {**ROW, "name": "staff", "by": "ldap", "groups": ["*"]}]
    try:
        found = tenant_of(Person("p", frozenset(groups), claims), "oidc", rows, known)
    except Refused as refused:
        found = refused.answer["code"]
    assert found == wanted
    assert tenant_of(Person("p"), "ldap", rows) == "staff", "whoever can log in"


def test_a_name_is_the_same_however_it_is_written():
    assert same_dn("CN=LLM Users, OU=Groups,dc=Bank") == same_dn("cn=llm users,ou = groups, DC=bank") != same_dn("cn=llm,ou=groups")


def test_passwords_are_believed_and_refused_for_a_while():
    now = [0.0]
    memory, person = Memory(60, lambda: now[0]), Person("a")
    assert memory.find("a", "good") is None
    memory.keep("a", "good", person)
    memory.keep("a", "bad 0", None)
    assert memory.find("a", "good") is person and memory.find("b", "good") is None
    with pytest.raises(Refused, match="password is wrong"):
        memory.find("a", "bad 0")
    for number in range(1, login.WRONG):
        assert memory.find("A", f"bad {number}") is None
        memory.keep("A", f"bad {number}", None)
    with pytest.raises(Refused) as caught:
        memory.find("a", "another")
    assert (caught.value.answer["status"], caught.value.answer["retry"]) == (429, 60)
    assert memory.find("a", "good") is person
    now[0] = 60
    assert memory.find("a", "good") is None and memory.find("a", "bad 0") is None


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(login, "MOST_KEPT", 3)
    now = [0.0]
    memory = Memory(60, lambda: now[0])
    for number in range(9):
        now[0] += 30
        memory.keep(f"a{number}", "good", Person("x"))
        memory.keep(f"b{number}", "bad", None)
    assert len(memory._good) <= 3 and len(memory._wrong) <= 4


@pytest.mark.parametrize(("question", "code"), [
    ({"authorization": basic("a:b"), "token": "", "tenant": ""}, "invalid_api_key"),
    ({"authorization": "Bearer x", "token": "", "tenant": ""}, "invalid_api_key"),
    ({"authorization": "Bearer key", "token": "", "tenant": "one"}, "invalid_token"),
])
def test_a_way_that_the_site_does_not_have(question, code):
    assert Login({"tenants": [ROW], "believed_s": 60}, "").answer(question)["code"] == code
