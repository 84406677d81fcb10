# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a company knows its people from: the program's own code with the real slapd, python-ldap and PyJWT, and another clock."""
from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._gateway_login import parse_login
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.company import BASE, Directory, Issuer
from tests.support.real_gateway import certificate, free_port

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"  # the distribution's, as on a gateway
GROUPS = {"alice": "research", "bob": "ops"}
PASSWORDS = {name: f"pässword {secrets.token_hex(8)}" for name in GROUPS}
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import _agent_identity as identity
settings, now = json.load(sys.stdin), [0.0]
if "ldap" in settings:
    directory = identity.Directory(settings["ldap"], settings["search"], now=lambda: now[0])
else:
    issuer = identity.Issuer(settings["oidc"], now=lambda: now[0])
while True:
    line = sys.stdin.readline()
    if not line:
        break
    try:
        if "ldap" in settings:
            user, password = json.loads(line)
            entry = directory.find(user)
            said = entry and directory.opens(entry.dn, password) and [entry.person.user, sorted(entry.person.groups)]
        else:
            now[0], token = json.loads(line)
            said = issuer.ask(token).user
    except identity.Refused as refused:
        said = refused.answer["code"]
    print(json.dumps(said), flush=True)
"""


class Asked:
    """The real libraries behind the program's own code, with another clock."""

    def __init__(self, wanted):
        code = SCRIPT.replace("json.load(sys.stdin)", "json.loads(sys.stdin.readline())")
        self.child = subprocess.Popen([PYTHON, "-c", code, ROOT / "plugins/module_utils"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._say(wanted)

    def _say(self, what):
        self.child.stdin.write(json.dumps(what) + "\n")
        self.child.stdin.flush()

    def __call__(self, *what):
        self._say(what)
        return json.loads(self.child.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.child.stdin.close()
        assert self.child.wait(20) == 0


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = Directory(tmp_path_factory.mktemp("people") / "ldap", {user: (PASSWORDS[user], [GROUPS[user]]) for user in GROUPS})
    yield made
    made.stop()


def settings(way, **given):
    return parse_login({way: given}, {}, "")[way]


@pytest.fixture
def ldap(directory):
    made = settings("ldap", uris=[directory.uri], base=f"ou=people,{BASE}", bind_dn=f"cn=search,{BASE}")
    return {**made, "ca": str(directory.folder / "server.pem")}


@pytest.mark.parametrize("user", ["alice", "bob"])
@pytest.mark.parametrize("group_base", ["", f"ou=groups,{BASE}"], ids=["memberOf", "search"])
def test_groups_are_found_at_the_user_and_by_a_search(directory, ldap, user, group_base):
    with Asked({"ldap": {**ldap, "group_base": group_base}, "search": directory.password}) as ask:
        assert ask(user, PASSWORDS[user]) == [user, [f"cn={GROUPS[user]},ou=groups,{BASE}"]]
        assert ask(user, "wrong") is False and ask("nobody", "x") is None


class Forwarder:
    """127.0.0.2 stands for another machine that shows the directory's certificate, which does not name it."""

    def __init__(self, port):
        self._to, self._listener = port, socket.create_server(("127.0.0.2", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                one, other = self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                for come, go in ((one, other), (other, one)):
                    threading.Thread(target=self._pump, args=(come, go), daemon=True).start()

    @staticmethod
    def _pump(come, go):
        with contextlib.suppress(OSError):
            while data := come.recv(4096):
                go.sendall(data)
            go.shutdown(socket.SHUT_WR)

    def close(self):
        self._listener.close()


def test_only_the_directory_itself_is_told_a_password(directory, ldap, tmp_path):
    certificate(tmp_path)
    elsewhere = Forwarder(directory.port)
    try:
        for wrong in ({"ca": str(tmp_path / "server.pem")}, {"ca": ""}, {"uris": [f"ldaps://127.0.0.2:{elsewhere.port}"]}):
            with Asked({"ldap": {**ldap, **wrong}, "search": directory.password}) as ask:
                assert ask("alice", PASSWORDS["alice"]) == "login_unavailable", wrong
    finally:
        elsewhere.close()


@pytest.fixture
def issuer(tmp_path):
    made = Issuer(tmp_path / "oidc")
    yield made
    made.close()


@pytest.fixture
def oidc(issuer, tmp_path):
    return {"oidc": {**settings("oidc", issuer=issuer.url, audience="llm"), "ca": str(tmp_path / "oidc/server.pem")}}


def test_a_new_key_of_the_issuer_is_found_and_an_issuer_that_is_gone_is_remembered(issuer, oidc):
    with Asked(oidc) as ask:
        assert ask(0, issuer.token("robot", [])) == "robot"
        issuer.keys["new"] = rsa.generate_private_key(65537, 2048)
        fetched = len(issuer.asked)
        assert ask(1, issuer.token("robot", [], "new")) == "invalid_token", "not more often than every half minute"
        assert ask(2, issuer.token("robot", [], "new")) == "invalid_token" and len(issuer.asked) == fetched
        assert ask(31, issuer.token("robot", [], "new")) == "robot"
        last = issuer.token("robot", [], "new")
        issuer.close()
        assert ask(400, last) == "robot", "its keys are as good as they were"


def test_keys_of_other_kinds_stand_beside_those_that_are_used(issuer, oidc):
    issuer.more = [{"kid": "ed", "kty": "OKP", "crv": "Ed448", "x": "AAAA"}, {"kid": "enc", "kty": "RSA", "use": "enc"}, "odd", {}]
    with Asked(oidc) as ask:
        assert ask(0, issuer.token("robot", [])) == "robot"
        assert ask(1, issuer.token("robot", [], user_is={"name": "r"}, sub=7)) == "invalid_token"


@pytest.mark.parametrize("wrong", ["ca", "issuer", "http", "moved"])
def test_keys_are_taken_from_the_issuer_itself_alone(issuer, oidc, tmp_path, wrong):
    if wrong == "ca":
        certificate(tmp_path)
        oidc["oidc"]["ca"] = str(tmp_path / "server.pem")
    elif wrong == "issuer":
        issuer.says = "https://evil.example"
    elif wrong == "http":
        oidc["oidc"]["jwks_uri"] = f"http://127.0.0.1:{free_port()}/keys"
    else:
        issuer.moved = "https://evil.example"
    with Asked(oidc) as ask:
        assert ask(0, issuer.token("robot", [])) == "login_unavailable"
