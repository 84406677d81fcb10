# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The company's own login: the real slapd and signed tokens, asked by the role's program behind the role's nginx."""
from __future__ import annotations

import base64
import json
import secrets
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._gateway_login import parse_login
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.company import BASE, Directory, Issuer
from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Gateway, free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"  # the distribution's, as on a gateway, with its python-ldap and PyJWT
KEYS = {name: secrets.token_hex(24) for name in ("plain", "both")}
RESEARCH = f"cn=Research,  ou=groups,{BASE.upper()}"  # as somebody might write it
TENANTS = {
    "plain": {"keys": [KEYS["plain"]]},
    "research": {"require": ["ldap"], "groups": [RESEARCH], "deployments": ["tiny"]},
    "apps": {"require": ["oidc"], "groups": ["llm-apps"]},
    "vault": {"require": ["oidc"], "groups": ["vault"], "acr": ["gold"], "amr": ["otp"]},
    "both": {"keys": [KEYS["both"]], "require": ["key", "oidc"], "groups": ["llm-both"]},
}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
PASSWORDS = {name: f"{name}:pässword {secrets.token_hex(8)}" for name in ("alice", "bob", "carol", "dora", "erin")}


class House:
    """A gateway, its login program, and the company."""

    def __init__(self, folder):
        groups = {"alice": ["research"], "bob": ["ops"]}
        self.folder = folder
        self.directory = Directory(folder / "ldap", {name: (PASSWORDS[name], groups.get(name, ["research"])) for name in PASSWORDS})
        self.issuer = Issuer(folder / "oidc")
        gone = f"ldaps://127.0.0.1:{free_port()}"
        login = {"ldap": {"uris": [gone, self.directory.uri], "ca": "given", "base": f"ou=people,{BASE}",
                          "bind_dn": f"cn=search,{BASE}"},
                 "oidc": {"issuer": self.issuer.url, "audience": "llm", "ca": "given"}}
        settings = parse_login(login, TENANTS, "")
        settings["ldap"]["ca"], settings["oidc"]["ca"] = (str(folder / one / "server.pem") for one in ("ldap", "oidc"))
        (folder / "login.json").write_text(json.dumps(settings))
        (folder / "password").write_text(self.directory.password + "\n")
        self.socket = folder / "login.sock"
        self.start()
        self._engine = serve()
        self.engine = self._engine.__enter__()
        self.gateway = Gateway(folder / "gateway", {"tiny": [self.engine.server_port], "more": []}, TENANTS, ENGINE_KEY,
                               gateway_login=login, __gateway_login_socket=str(self.socket))

    def start(self):
        self.socket.unlink(missing_ok=True)
        with open(self.folder / "login.log", "ab") as log:
            self.program = subprocess.Popen(
                [PYTHON, "-I", ROOT / "plugins/module_utils/_agent_login.py", f"--config={self.folder}/login.json",
                 f"--password-file={self.folder}/password", f"--socket={self.socket}"], stdout=log, stderr=log, cwd="/")
        assert wait_for(lambda: self.socket.exists() or self.program.poll() is not None, 60, 0.05)
        assert self.program.poll() is None, (self.folder / "login.log").read_text()

    def stop(self):
        self.program.terminate()
        self.program.wait(20)

    def login(self, user, password, path="/v1/chat/completions", body=CHAT):
        shown = base64.b64encode(f"{user}:{password}".encode()).decode()
        return self.gateway.ask(path, body=body, Authorization=f"Basic {shown}")

    def close(self):
        self.gateway.close()
        self._engine.__exit__(None, None, None)
        self.issuer.close()
        self.stop()
        self.directory.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = House(tmp_path_factory.mktemp("login"))
    yield made
    made.close()


def test_a_member_of_the_group_is_its_tenant_and_is_on_record(house):
    asked = len(house.engine.seen)
    answer = house.login("alice", PASSWORDS["alice"])
    assert answer.status == 200, answer.body
    line = house.gateway.line(answer)
    assert (line["tenant"], line["user"], line["deployment"], line["key"]) == ("research", "alice", "tiny", "")
    assert line["completion_tokens"] and house.gateway.tokens()["research", "tiny", "completion"] > 0
    models = house.login("alice", PASSWORDS["alice"], "/v1/models", None)
    assert [row["id"] for row in json.loads(models.body)["data"]] == ["tiny"]
    seen = house.engine.seen[asked]["headers"]
    assert seen["Authorization"] == f"Bearer {ENGINE_KEY}", "the password goes no further"
    assert house.directory.binds("alice") == 1, "the second time it was believed"


@pytest.mark.parametrize(("user", "password", "status", "code"), [
    ("alice", "wrong", 401, "invalid_login"), ("nobody", "x", 401, "invalid_login"), ("*", "x", 401, "invalid_login"),
    ("alice)(uid=*", "x", 401, "invalid_login"), ("alice", "", 401, "invalid_api_key"), ("", "x", 401, "invalid_api_key"),
    ("bob", PASSWORDS["bob"], 403, "no_tenant"),
])
def test_who_is_not_let_in_by_the_directory(house, user, password, status, code):
    asked = len(house.engine.seen)
    answer = house.login(user, password)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert ("Basic" in (answer.headers["WWW-Authenticate"] or "")) == (status == 401)
    assert house.gateway.line(answer)["tenant"] == "" and len(house.engine.seen) == asked


def test_keys_are_as_good_as_ever(house):
    assert house.gateway.ask(key=KEYS["plain"], body=CHAT).status == 200
    for wrong in ("", secrets.token_hex(24)):
        answer = house.gateway.ask(key=wrong, body=CHAT)
        assert answer.status == 401 and answer.error["code"] in ("invalid_api_key", "invalid_token")
    assert house.gateway.ask("/metrics").status == 404 and house.gateway.ask("/health").status == 200
    house.gateway.check_configuration()


def test_wrong_passwords_do_not_lock_anybody_out_of_the_directory(house):
    assert house.login("carol", PASSWORDS["carol"]).status == 200
    before = house.directory.binds("carol")
    said = [house.login("carol" if number % 2 else "Carol", f"guess {number}") for number in range(8)]
    assert [one.status for one in said] == [401] * 5 + [429] * 3
    assert said[-1].error["code"] == "too_many_wrong_passwords" and 0 < int(said[-1].headers["Retry-After"]) <= 60
    assert house.directory.binds("carol") - before == 5
    assert house.login("carol", PASSWORDS["carol"]).status == 200, "who is believed still is"


def test_a_directory_that_is_gone_keeps_out_only_whom_nobody_knows(house):
    assert house.login("dora", PASSWORDS["dora"]).status == 200
    house.directory.stop()
    assert house.login("dora", PASSWORDS["dora"]).status == 200
    answer = house.login("erin", PASSWORDS["erin"])
    assert (answer.status, answer.error["code"]) == (503, "login_unavailable") and int(answer.headers["Retry-After"]) > 0
    house.directory.start()
    assert house.login("erin", PASSWORDS["erin"]).status == 200


@pytest.mark.parametrize("kid", ["rsa", "ec"])
def test_a_token_of_the_issuer_is_its_tenant(house, kid):
    answer = house.gateway.ask(key=house.issuer.token("robot-7", ["x", "llm-apps"], kid), body=CHAT)
    assert answer.status == 200, answer.body
    line = house.gateway.line(answer)
    assert (line["tenant"], line["user"]) == ("apps", "robot-7")


def forged(issuer, **claims):
    return issuer.token("mallory", ["llm-apps"], **claims)


@pytest.mark.parametrize(("make", "status", "code"), [
    (lambda issuer: forged(issuer, exp=int(time.time()) - 300), 401, "invalid_token"),
    (lambda issuer: forged(issuer, exp=None), 401, "invalid_token"),
    (lambda issuer: forged(issuer, aud="mail"), 401, "invalid_token"),
    (lambda issuer: forged(issuer, iss="https://evil.example"), 401, "invalid_token"),
    (lambda issuer: forged(issuer, nbf=int(time.time()) + 600), 401, "invalid_token"),
    (lambda issuer: forged(issuer, algorithm="none"), 401, "invalid_token"),
    (lambda issuer: forged(issuer, algorithm="HS256"), 401, "invalid_token"),
    (lambda issuer: forged(issuer, key=rsa.generate_private_key(65537, 2048)), 401, "invalid_token"),
    (lambda issuer: issuer.token(None, ["llm-apps"]), 401, "invalid_token"),
    (lambda issuer: "a.b.c", 401, "invalid_token"),
    (lambda issuer: forged(issuer)[:-8] + "AAAAAAAA", 401, "invalid_token"),
    (lambda issuer: issuer.token("robot", ["others"]), 403, "no_tenant"),
    (lambda issuer: issuer.token("robot", ["vault"]), 403, "login_not_sufficient"),
    (lambda issuer: issuer.token("robot", ["vault"], acr="gold", amr=["pwd"]), 403, "login_not_sufficient"),
    (lambda issuer: issuer.token("robot", ["vault"], acr="silver", amr=["otp"]), 403, "login_not_sufficient"),
    (lambda issuer: issuer.token("robot", ["llm-both"]), 403, "no_tenant"),
])
def test_tokens_that_do_not_count(house, make, status, code):
    asked = len(house.engine.seen)
    answer = house.gateway.ask(key=make(house.issuer), body=CHAT)
    assert (answer.status, answer.error["code"]) == (status, code), answer.body
    assert len(house.engine.seen) == asked


def test_a_second_factor_can_be_demanded(house):
    answer = house.gateway.ask(key=house.issuer.token("robot", ["vault"], acr="gold", amr=["pwd", "otp"]), body=CHAT)
    assert answer.status == 200 and house.gateway.line(answer)["tenant"] == "vault"


@pytest.mark.parametrize(("groups", "status", "code"), [
    (None, 401, "invalid_token"), (["llm-both"], 200, ""), (["llm-apps"], 403, "no_tenant")])
def test_a_key_may_count_only_together_with_a_token(house, groups, status, code):
    headers = {"X-Identity-Token": house.issuer.token("dev", groups)} if groups else {}
    asked = len(house.engine.seen)
    answer = house.gateway.ask(key=KEYS["both"], body=CHAT, **headers)
    assert answer.status == status, answer.body
    if status == 200:
        line = house.gateway.line(answer)
        assert (line["tenant"], line["user"], len(line["key"])) == ("both", "dev", 12)
        assert "X-Identity-Token" not in house.engine.seen[asked]["headers"]
    else:
        assert answer.error["code"] == code and len(house.engine.seen) == asked


def test_without_the_program_callers_are_told_to_come_again(house):
    house.stop()
    answer = house.login("alice", PASSWORDS["alice"])
    assert (answer.status, answer.error["code"]) == (503, "login_unavailable") and int(answer.headers["Retry-After"]) > 0
    assert house.gateway.ask(key=KEYS["plain"], body=CHAT).status == 200
    house.start()
    assert house.login("alice", PASSWORDS["alice"]).status == 200


def test_no_password_and_no_token_is_written_anywhere(house):
    token = house.issuer.token("robot-8", ["llm-apps"])
    assert house.gateway.ask(key=token, body=CHAT).status == 200
    shown = [base64.b64encode(f"{user}:{password}".encode()).decode() for user, password in PASSWORDS.items()]
    text = "".join((house.folder / name).read_text() for name in ("login.log", "gateway/log/audit.log", "gateway/log/error.log"))
    for secret in (token, *PASSWORDS.values(), *shown, house.directory.password):
        assert secret not in text


GROUPS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import _agent_login as login
settings = json.load(open(sys.argv[2]))["ldap"]
user, password, search = sys.stdin.read().split("\\n")
for group_base in ("", sys.argv[3]):
    person = login.Directory({**settings, "group_base": group_base}, search).ask(user, password)
    print(json.dumps(sorted(person.groups) if person else None))
"""


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_groups_are_found_at_the_user_and_by_a_search(house, user):
    for password, count in ((PASSWORDS[user], 1), ("wrong", None)):
        words = [PYTHON, "-c", GROUPS, ROOT / "plugins/module_utils", house.folder / "login.json", f"ou=groups,{BASE}"]
        done = subprocess.run(words, input="\n".join((user, password, house.directory.password)), text=True, check=True,
                              stdout=subprocess.PIPE)
        at_user, searched = map(json.loads, done.stdout.splitlines())
        assert at_user == searched == (count and [f"cn={'research' if user == 'alice' else 'ops'},ou=groups,{BASE}"])


SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import _agent_login as login
now = [0.0]
issuer = login.Issuer(json.load(open(sys.argv[2]))["oidc"], now=lambda: now[0])
for line in sys.stdin:
    at, token = line.split()
    now[0] = float(at)
    try:
        print(issuer.ask(token).user, flush=True)
    except login.Refused as refused:
        print(refused.answer["code"], flush=True)
"""


def test_a_new_key_of_the_issuer_is_found_and_an_issuer_that_is_gone_is_remembered(house, tmp_path):
    issuer = Issuer(tmp_path / "oidc")
    settings = json.loads((house.folder / "login.json").read_text())
    settings["oidc"].update(issuer=issuer.url, ca=str(tmp_path / "oidc/server.pem"))
    (tmp_path / "login.json").write_text(json.dumps(settings))
    child = subprocess.Popen([PYTHON, "-c", SCRIPT, ROOT / "plugins/module_utils", tmp_path / "login.json"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)

    def ask(at, token):
        child.stdin.write(f"{at} {token}\n")
        child.stdin.flush()
        return child.stdout.readline().strip()

    assert ask(0, issuer.token("robot", [])) == "robot"
    issuer.keys["new"] = rsa.generate_private_key(65537, 2048)
    fetched = len(issuer.asked)
    assert ask(1, issuer.token("robot", [], "new")) == "invalid_token", "not more often than every half minute"
    assert ask(2, issuer.token("robot", [], "new")) == "invalid_token" and len(issuer.asked) == fetched
    assert ask(31, issuer.token("robot", [], "new")) == "robot"
    last = issuer.token("robot", [], "new")
    issuer.close()
    assert ask(400, last) == "robot", "its keys are as good as they were"
    child.stdin.close()
    assert child.wait(20) == 0
