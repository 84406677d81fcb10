# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who somebody is: the decisions. The real slapd and real tokens: tests/integration/test_gateway_login.py."""
from __future__ import annotations

import base64
import threading

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_login as login
from ansible_collections.idc.llm.plugins.module_utils._agent_identity import Person, Refused, claim, same_dn, texts
from ansible_collections.idc.llm.plugins.module_utils._agent_login import Login, Memory, shown, tenant_of

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
    assert same_dn(r"cn=a\, b,dc=x") != same_dn(r"cn=a\,b,dc=x")


def test_a_claim_is_one_text_or_several():
    assert texts("a") == {"a"} and texts(["a", {"b": 1}, 7]) == {"a"} and texts(None) == frozenset()


def test_a_good_password_is_believed_for_a_while():
    now = [0.0]
    memory, person = Memory(60, lambda: now[0]), Person("a")
    assert memory.find("a", "good") is None
    memory.take("cn=a", "good")
    memory.give("cn=a", "good", "a", person)
    assert memory.find("a", "good") is person and memory.find("b", "good") is None and memory.find("a", "bad") is None
    now[0] = 60
    assert memory.find("a", "good") is None


def test_so_many_wrong_passwords_are_tried_and_no_more():
    now = [0.0]
    memory, person = Memory(60, lambda: now[0]), Person("a")
    memory.take("cn=a", "good")
    memory.give("cn=a", "good", "a", person)
    for number in range(login.WRONG):
        now[0] += 10
        memory.take("cn=a", f"bad {number}")
        memory.give("cn=a", f"bad {number}", "a", None)
        with pytest.raises(Refused, match="password is wrong"):
            memory.take("cn=a", f"bad {number}")
    with pytest.raises(Refused) as caught:
        memory.take("cn=a", "another")
    assert (caught.value.answer["status"], caught.value.answer["retry"]) == (429, login.WRONG_S - 20)
    memory.take("cn=a", "good")  # who was right before is heard
    memory.take("cn=b", "another")
    memory.give("cn=a", "good", "a", None)
    with pytest.raises(Refused, match="password is wrong"):
        memory.take("cn=a", "good")  # it was changed meanwhile
    now[0] = 100 + login.WRONG_S
    memory.take("cn=a", "another")


def test_a_directory_that_says_nothing_costs_no_turn():
    memory = Memory(60)
    for number in range(2 * login.WRONG):
        memory.take("cn=a", f"maybe {number}")
        memory.give("cn=a", f"maybe {number}", "a", None, known=False)


def test_who_asks_what_is_being_tried_waits_for_what_is_said():
    memory, said = Memory(60), []

    def ask():
        try:
            memory.take("cn=a", "x")
            said.append("right")
        except Refused as refused:
            said.append(refused.answer["code"])

    for person, wanted in ((None, "invalid_login"), (Person("a"), "right")):
        memory, said = Memory(60), []
        memory.take("cn=a", "x")
        asking = [threading.Thread(target=ask) for _number in range(3)]
        for thread in asking:
            thread.start()
        memory.give("cn=a", "x", "a", person)
        for thread in asking:
            thread.join()
        assert said == [wanted] * 3


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(login, "MOST_KEPT", 3)
    memory = Memory(60)
    for number in range(9):
        for password, person in (("good", Person("x")), ("bad", None)):
            memory.take(f"cn={number}", password)
            memory.give(f"cn={number}", password, f"a{number}", person)
    assert {len(memory._good), len(memory._right), len(memory._tried)} == {3} and not memory._trying
    assert memory.find("a8", "good") and not memory.find("a0", "good"), "the oldest go first"


@pytest.mark.parametrize(("name", "wanted"), [
    ("groups", ["a"]), ("realm_access.roles", ["b"]), ("https://x.y/roles", ["c"]), ("realm_access.none.deep", None),
    ("groups.a", None),
])
def test_a_claim_is_found_by_its_name_or_its_path(name, wanted):
    assert claim({"groups": ["a"], "realm_access": {"roles": ["b"]}, "https://x.y/roles": ["c"]}, name) == wanted


@pytest.mark.parametrize(("question", "code"), [
    ({"authorization": basic("a:b"), "token": "", "tenant": ""}, "invalid_api_key"),
    ({"authorization": "Bearer x", "token": "", "tenant": ""}, "invalid_api_key"),
    ({"authorization": "Bearer key", "token": "", "tenant": "one"}, "invalid_token"),
])
def test_a_way_that_the_site_does_not_have(question, code):
    assert Login({"tenants": [ROW], "believed_s": 60}, "").answer(question)["code"] == code
