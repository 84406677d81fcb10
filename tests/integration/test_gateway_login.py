# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The company's own login: the real slapd and signed tokens, asked by the role's program behind the role's nginx."""
from __future__ import annotations

import base64
import json
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._gateway_login import parse_login
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.company import BASE, Directory, Issuer, b64
from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Gateway, free_port
from tests.support.waiting import together, wait_for

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
PEOPLE = ("alice", "bob", "carol", "dora", "erin", "frank", "grace")
PASSWORDS = {name: f"{name}:pässword {secrets.token_hex(8)}" for name in PEOPLE}


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
        settings = parse_login(login, {**TENANTS, "ghost": {"require": ["oidc"], "groups": ["ghosts"]}}, "")
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

    def settings(self, **changed):
        """Rewrite what the program reads; what was there."""
        before = json.loads((self.folder / "login.json").read_text())
        beside = self.folder / "login.new"
        beside.write_text(json.dumps({**before, **changed}))
        beside.rename(self.folder / "login.json")
        return before

    def login(self, user, password, path="/v1/chat/completions"):
        shown = base64.b64encode(f"{user}:{password}".encode()).decode()
        return self.gateway.ask(path, body=None if path == "/v1/models" else CHAT, Authorization=f"Basic {shown}")

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
    models = house.login("alice", PASSWORDS["alice"], "/v1/models")
    assert [row["id"] for row in json.loads(models.body)["data"]] == ["tiny"]
    seen = house.engine.seen[asked]["headers"]
    assert seen["Authorization"] == f"Bearer {ENGINE_KEY}", "the password goes no further"
    assert house.directory.binds("alice") == 1, "the second time it was believed"


@pytest.mark.parametrize(("user", "password", "status", "code"), [
    ("alice", "wrong", 401, "invalid_login"), ("nobody", "x", 401, "invalid_login"), ("*", "x", 401, "invalid_login"),
    ("alice)(uid=*", "x", 401, "invalid_login"),
    ("ali*", PASSWORDS["alice"], 401, "invalid_login"), ("alice", "", 401, "invalid_api_key"), ("", "x", 401, "invalid_api_key"),
    ("bob", PASSWORDS["bob"], 403, "no_tenant"),
])
def test_who_is_not_let_in_by_the_directory(house, user, password, status, code):
    asked = len(house.engine.seen)
    answer = house.login(user, password)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert ("Basic" in (answer.headers["WWW-Authenticate"] or "")) == (status == 401)
    line = house.gateway.line(answer)
    assert line["tenant"] == "" and line["user"] == (user if code != "invalid_api_key" else "") and len(house.engine.seen) == asked


def test_the_record_has_the_name_that_the_directory_has(house):
    assert house.gateway.line(house.login("ALICE", PASSWORDS["alice"]))["user"] == "alice"


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
    names = ("carol", "Carol", "carol ", " carol", "carol  ", "CAROL", "carol", "carol   ")  # all of them are she to the directory
    said = [house.login(name, f"guess {number}") for number, name in enumerate(names)]
    assert [one.status for one in said] == [401] * 3 + [429] * 5
    assert said[-1].error["code"] == "too_many_wrong_passwords" and 0 < int(said[-1].headers["Retry-After"]) <= 900
    assert house.login("carol", "guess 0").status == 401, "it is known to be wrong"
    assert house.directory.binds("carol") - before == 3
    assert house.login("carol  ", PASSWORDS["carol"]).status == 200, "the one that was right is tried all the same"


def test_many_guesses_at_once_are_not_more(house):
    said = together(12, lambda number: house.login("frank", f"guess {number}"))
    assert sorted(answer.status for answer in said) == [401] * 3 + [429] * 9 and house.directory.binds("frank") == 3


def test_one_address_holds_so_many_questions_and_no_more(house):
    house.program.send_signal(signal.SIGSTOP)
    waking = threading.Timer(3, house.program.send_signal, [signal.SIGCONT])
    waking.start()
    said = together(24, lambda number: house.login("grace", PASSWORDS["grace"], "/v1/models"))
    waking.join()
    assert Counter(answer.status for answer in said) == {200: 16, 429: 8}
    assert {answer.headers["Retry-After"] for answer in said if answer.status == 429} == {"1"}
    assert house.gateway.ask("/v1/models", KEYS["plain"]).status == 200


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
    assert (answer.status, answer.error["code"]) == (503, "login_unavailable")
    assert len(answer.headers.get_all("Retry-After")) == 1 and int(answer.headers["Retry-After"]) > 0
    assert house.gateway.ask(key=KEYS["plain"], body=CHAT).status == 200
    house.start()
    assert house.login("alice", PASSWORDS["alice"]).status == 200


def test_a_tenant_that_the_gateway_does_not_know_yet_is_told_to_come_again(house):
    answer = house.gateway.ask(key=house.issuer.token("robot", ["ghosts"]), body=CHAT)
    assert (answer.status, answer.error["code"]) == (503, "login_unavailable")


def test_a_server_that_takes_connections_and_never_speaks_is_passed_by(house):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = json.loads((house.folder / "login.json").read_text())["ldap"]
        uris = [f"ldaps://127.0.0.1:{silent.getsockname()[1]}", house.directory.uri]
        before = house.settings(ldap={**settings, "uris": uris, "timeout_s": 1})
        try:
            assert house.login("alice", PASSWORDS["alice"]).status == 200
            house.settings(ldap={**settings, "uris": uris[:1], "timeout_s": 2})
            asking = threading.Thread(target=lambda: answers.append(house.login("alice", PASSWORDS["alice"])))
            answers = []
            asking.start()
            time.sleep(0.5)
            house.stop()  # what it has in hand is answered
            asking.join()
            assert [answer.error["message"] for answer in answers] == ["The directory cannot be asked now. Please try again."]
            house.start()
        finally:
            house.settings(**before)
    assert house.login("alice", PASSWORDS["alice"]).status == 200


def test_who_is_taken_out_in_the_settings_is_out_with_the_next_request(house):
    assert house.login("alice", PASSWORDS["alice"]).status == 200
    before = house.settings(tenants=[])
    try:
        assert house.login("alice", PASSWORDS["alice"]).status == 403
        (house.folder / "login.json").write_text("{")
        assert house.login("alice", PASSWORDS["alice"]).status == 503
    finally:
        (house.folder / "login.json").write_text(json.dumps(before))
    assert house.login("alice", PASSWORDS["alice"]).status == 200


@pytest.mark.parametrize("shown", [b"Bearer \xff\xfe", b"Basic \xff", f"Bearer {b64(b'[' * 3000)}.e30.x".encode()])
def test_what_nobody_can_read_is_the_callers_fault(house, shown):
    plain = socket.create_connection(("127.0.0.1", house.gateway.ports["gateway"]), timeout=20)
    with house.gateway.context.wrap_socket(plain, server_hostname="localhost") as link:
        link.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: " + shown + b"\r\n\r\n")
        assert link.recv(100).startswith(b"HTTP/1.1 401 ")


def test_no_password_and_no_token_is_written_anywhere(house):
    token = house.issuer.token("robot-8", ["llm-apps", "llm-both"])
    assert house.gateway.ask(key=token, body=CHAT).status == 200
    assert house.gateway.ask(key=KEYS["both"], body=CHAT, **{"X-Identity-Token": token}).status == 200
    assert house.login("erin", PASSWORDS["dora"]).status == 401
    shown = [base64.b64encode(f"{user}:{password}".encode()).decode() for user, password in PASSWORDS.items()]
    text = "".join((house.folder / name).read_text() for name in ("login.log", "gateway/log/audit.log", "gateway/log/error.log"))
    for secret in (token, *(password.split()[1] for password in PASSWORDS.values()), *shown, house.directory.password):
        assert secret not in text
