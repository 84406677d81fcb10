# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who somebody is, by the company's own login: a password of its directory (LDAP), or a token that it signed (OpenID Connect).

Runs on gateways: Python 3.9+ and, as far as the site uses them, the distribution's python-ldap and PyJWT. idc_login.lua asks over a
Unix socket, a line of JSON each way, one of them per connection:

    {"authorization": header, "token": header, "tenant": who its key says it is, or ""}
    {"tenant": name, "user": name}   or   {"status": 401, 403, 429 or 503, "code": …, "message": …, "retry": seconds or 0}

A good password is believed for ``believed_s`` without asking again; it is kept as a keyed hash, in memory. Somebody who gave WRONG
wrong passwords within ``believed_s`` is sent away for as long, so that nobody can lock a user out of the directory from here.
"""
from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import math
import os
import secrets
import socket
import socketserver
import ssl
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional, Sequence, Union

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

WRONG = 5
MOST_KEPT = 10_000
RETRY_S = 5
AT_ONCE = 64  # questions to the directory
LONGEST = 1 << 16  # bytes of a question
LEEWAY_S = 60  # between the clocks of who signs and who reads
KEYS_S, KEYS_ANEW_S = 300.0, 30.0  # how long keys are taken as they are; how soon an unknown one makes them be fetched again
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]  # by a public key only
ANYBODY = "*"


@dataclass(frozen=True)
class Person:
    """Somebody who showed who it is. claims: what an OIDC token says beside it (amr, acr)."""

    user: str
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """What the caller is told: status, code (for programs), message, and where it may come again, after how many seconds."""

    def __init__(self, status: int, code: str, message: str, retry: int = 0) -> None:
        super().__init__(message)
        self.answer = {"status": status, "code": code, "message": message, "retry": retry}


# --- decisions -------------------------------------------------------------------------------------------------------


def shown(authorization: str) -> Union[tuple[str, str], str]:
    """(user, password) or a token, of the header Authorization. Raises Refused."""
    scheme, _space, rest = authorization.partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            user, colon, password = base64.b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user = colon = password = ""
        # an empty password binds as nobody, which a directory grants: RFC 4513, 5.1.2
        if colon and password and 0 < len(user) <= 256 and user.isprintable() and "\0" not in password:
            return user, password
    raise Refused(401, "invalid_api_key", "No API key or login was given, or one that cannot be read.")


def tenant_of(person: Person, by: str, tenants: Sequence[Mapping[str, Any]], known: str = "") -> str:
    """The first tenant that this person belongs to. by: ldap or oidc; known: the one that its key says. Raises Refused."""
    rows = [row for row in tenants if row["by"] == by and (row["name"] == known if known else not row["keyed"])]
    mine = [row for row in rows if ANYBODY in row["groups"] or person.groups & set(row["groups"])]
    if not mine:
        raise Refused(403, "no_tenant", f"{person.user} is in no group that may use this service.")
    for row in mine:
        methods = person.claims.get("amr") or []
        if set(row["amr"]) <= set(methods if isinstance(methods, list) else [methods]) and (
                not row["acr"] or person.claims.get("acr") in row["acr"]):
            return str(row["name"])
    raise Refused(403, "login_not_sufficient", "This service wants a stronger login, with a second factor perhaps.")


class Memory:
    """Good passwords for a while, and who gave wrong ones. now: seconds that only grow."""

    def __init__(self, believed_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._for, self._now, self._salt, self._lock = believed_s, now, secrets.token_bytes(32), threading.Lock()
        self._good: dict[bytes, tuple[float, Person]] = {}
        self._wrong: dict[str, dict[bytes, float]] = {}

    def _mark(self, user: str, password: str) -> bytes:
        return hmac.digest(self._salt, f"{user}\0{password}".encode(), hashlib.sha256)

    def find(self, user: str, password: str) -> Optional[Person]:
        """Who gave this lately and was right. Raises Refused where it was wrong, or where too many others were."""
        mark, now = self._mark(user, password), self._now()
        with self._lock:
            until, person = self._good.get(mark, (0.0, None))
            if person and now < until:
                return person
            wrong = {one: at for one, at in self._wrong.get(user.lower(), {}).items() if now - at < self._for}
        if mark in wrong:
            raise _nobody()
        if len(wrong) >= WRONG:
            raise Refused(429, "too_many_wrong_passwords", "Too many wrong passwords for this user.", math.ceil(self._for))
        return None

    def keep(self, user: str, password: str, person: Optional[Person]) -> None:
        """What the directory said; nobody: it was wrong."""
        mark, now = self._mark(user, password), self._now()
        with self._lock:
            if len(self._good) >= MOST_KEPT:
                self._good.clear()
            if len(self._wrong) >= MOST_KEPT:  # the names are whatever callers write
                self._wrong = {one: marks for one, marks in self._wrong.items() if now - max(marks.values()) < self._for}
            if person:
                self._good[mark] = now + self._for, person
            else:
                before = self._wrong.get(user.lower(), {})
                self._wrong[user.lower()] = {**{one: at for one, at in before.items() if now - at < self._for}, mark: now}


def _nobody() -> Refused:
    return Refused(401, "invalid_login", "There is no such user, or the password is wrong.")


def _unavailable(what: str) -> Refused:
    return Refused(503, "login_unavailable", f"{what} cannot be asked now. Please try again.", RETRY_S)


# --- the directory ---------------------------------------------------------------------------------------------------


class Directory:
    """LDAP; settings: uris, ca, base, filter, bind_dn, group_base, group_filter, timeout_s. https://www.python-ldap.org"""

    def __init__(self, settings: Mapping[str, Any], password: str) -> None:
        import ldap.filter  # type: ignore[import-not-found]  # of the distribution, on gateways that use it

        self._ldap, self._set, self._password = ldap, settings, password
        self._turn = threading.Semaphore(AT_ONCE)

    def _connect(self, user: str, password: str) -> Any:
        """Bound as this user, at the first server that answers. Raises what ldap raises."""
        problem: Exception = self._ldap.SERVER_DOWN()
        for uri in self._set["uris"]:
            link = self._ldap.initialize(uri)
            link.set_option(self._ldap.OPT_NETWORK_TIMEOUT, self._set["timeout_s"])
            link.set_option(self._ldap.OPT_TIMEOUT, self._set["timeout_s"])
            link.set_option(self._ldap.OPT_REFERRALS, 0)
            link.set_option(self._ldap.OPT_X_TLS_REQUIRE_CERT, self._ldap.OPT_X_TLS_DEMAND)
            if self._set["ca"]:
                link.set_option(self._ldap.OPT_X_TLS_CACERTFILE, self._set["ca"])
            link.set_option(self._ldap.OPT_X_TLS_NEWCTX, 0)
            try:
                link.simple_bind_s(user, password)
                return link
            except (self._ldap.SERVER_DOWN, self._ldap.CONNECT_ERROR, self._ldap.TIMEOUT, self._ldap.UNAVAILABLE,
                    self._ldap.BUSY) as error:
                problem = error
                link.unbind_ext_s()
            except self._ldap.LDAPError:
                link.unbind_ext_s()
                raise
        raise problem

    def ask(self, user: str, password: str) -> Optional[Person]:
        """Who this is; None for nobody. Raises Refused where no server can say."""
        with self._turn:
            try:
                return self._ask(user, password)
            except self._ldap.LDAPError as error:
                words = error.args[0] if error.args and isinstance(error.args[0], Mapping) else {}
                base.complain(f"the directory: {type(error).__name__} {words.get('desc', '')} {words.get('info', '')}".rstrip())
                raise _unavailable("The directory") from error

    def _ask(self, user: str, password: str) -> Optional[Person]:
        escape, subtree = self._ldap.filter.escape_filter_chars, self._ldap.SCOPE_SUBTREE
        link = self._connect(self._set["bind_dn"], self._password)
        try:
            rows = link.search_s(self._set["base"], subtree, self._set["filter"].replace("{user}", escape(user)), ["memberOf"])
            found = [(dn, entry) for dn, entry in rows if dn]  # without referrals
            if len(found) != 1:
                return None
            (dn, entry), = found
            groups = [value.decode("utf-8", "replace") for value in entry.get("memberOf", [])]
            if self._set["group_base"]:
                wanted = self._set["group_filter"].replace("{dn}", escape(dn)).replace("{user}", escape(user))
                groups += [group for group, _entry in link.search_s(self._set["group_base"], subtree, wanted, ["1.1"]) if group]
        finally:
            link.unbind_ext_s()
        try:
            self._connect(dn, password).unbind_ext_s()
        except (self._ldap.INVALID_CREDENTIALS, self._ldap.UNWILLING_TO_PERFORM, self._ldap.INAPPROPRIATE_AUTH):
            return None
        return Person(user, frozenset(same_dn(group) for group in groups))


def same_dn(text: str) -> str:
    """A group's name as all who mean it write it: directories take no notice of case, nor of spaces around commas."""
    return ",".join("=".join(part.strip() for part in one.split("=", 1)) for one in text.lower().split(","))


# --- tokens ----------------------------------------------------------------------------------------------------------


class Issuer:
    """OpenID Connect; settings: issuer, audience, jwks_uri, ca, groups_claim, user_claim, timeout_s. https://pyjwt.readthedocs.io"""

    def __init__(self, settings: Mapping[str, Any], now: Callable[[], float] = time.monotonic) -> None:
        import jwt  # type: ignore[import-not-found]  # of the distribution, on gateways that use it

        self._jwt, self._set, self._now, self._lock = jwt, settings, now, threading.Lock()
        self._context = ssl.create_default_context(cafile=settings["ca"] or None)
        self._keys: dict[str, Any] = {}
        self._fetched = -KEYS_S

    def _get(self, url: str) -> Any:
        with urllib.request.urlopen(url, timeout=self._set["timeout_s"], context=self._context) as reply:
            return json.loads(reply.read(1 << 20))

    def _fetch(self) -> None:
        """The keys that sign now. Where the issuer does not answer, those before stay: a token is as good as it was."""
        self._fetched = self._now()
        try:
            about = f"{self._set['issuer'].rstrip('/')}/.well-known/openid-configuration"
            uri = self._set["jwks_uri"] or self._get(about)["jwks_uri"]
            self._keys = {key.key_id: key.key for key in self._jwt.PyJWKSet.from_dict(self._get(uri)).keys if key.key_id}
        except (OSError, ValueError, KeyError, TypeError, self._jwt.PyJWTError) as error:
            base.complain(f"the keys of {self._set['issuer']} cannot be read: {error}")

    def _key(self, name: str) -> Any:
        with self._lock:
            age = self._now() - self._fetched
            if age >= KEYS_S or name not in self._keys and age >= KEYS_ANEW_S:
                self._fetch()
            if not self._keys:
                raise _unavailable("Who signs the tokens")
            return self._keys.get(name)

    def ask(self, token: str) -> Person:
        """Who this is. Raises Refused."""
        try:
            key = self._key(str(self._jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise self._jwt.InvalidTokenError("no key of this name signs")
            claims = self._jwt.decode(token, key, algorithms=ALGORITHMS, audience=self._set["audience"], issuer=self._set["issuer"],
                                      leeway=LEEWAY_S, options={"require": ["exp", "iss", "aud"]})
        except (self._jwt.PyJWTError, ValueError, TypeError) as error:
            raise Refused(401, "invalid_token", f"The token is not good: {error}") from error
        groups, user = claims.get(self._set["groups_claim"]) or [], claims.get(self._set["user_claim"])
        if not isinstance(user, str) or not user:
            raise Refused(401, "invalid_token", f"The token does not say who it is for: {self._set['user_claim']} is missing.")
        return Person(user, frozenset(map(str, groups if isinstance(groups, list) else [groups])), claims)


# --- what is asked ---------------------------------------------------------------------------------------------------


class Login:
    """Answers questions. settings: of the role's login.json: ldap, oidc (either may be missing), tenants, believed_s."""

    def __init__(self, settings: Mapping[str, Any], password: str) -> None:
        self.tenants = [{**row, "groups": [same_dn(one) for one in row["groups"]] if row["by"] == "ldap" else row["groups"]}
                        for row in settings["tenants"]]
        self.directory = Directory(settings["ldap"], password) if settings.get("ldap") else None
        self.issuer = Issuer(settings["oidc"]) if settings.get("oidc") else None
        self.memory = Memory(settings["believed_s"])

    def answer(self, question: Mapping[str, str]) -> dict[str, Any]:
        """What the gateway does with the request."""
        try:
            known = question["tenant"]
            what = question["token"] if known else shown(question["authorization"])
            if isinstance(what, str):
                if not (self.issuer and what):
                    raise Refused(401, "invalid_token" if known else "invalid_api_key",
                                  "This key counts only together with a token of the company's login, in X-Identity-Token." if known
                                  else "No API key or a wrong one was given.")
                person, by = self.issuer.ask(what), "oidc"
            else:
                person, by = self._password(*what), "ldap"
            return {"tenant": tenant_of(person, by, self.tenants, known), "user": person.user}
        except Refused as refused:
            return refused.answer

    def _password(self, user: str, password: str) -> Person:
        if not self.directory:
            raise Refused(401, "invalid_api_key", "No API key or a wrong one was given.")
        person = self.memory.find(user, password)
        if person is None:
            person = self.directory.ask(user, password)
            self.memory.keep(user, password, person)
        if person is None:
            raise _nobody()
        return person


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads, request_queue_size = True, 256


def serve(login: Login, path: str) -> _Server:
    """Listens at the path, or on the socket that systemd opened (it stays while this program begins anew)."""

    class Handler(socketserver.StreamRequestHandler):
        timeout = 10

        def handle(self) -> None:
            try:
                question = json.loads(self.rfile.readline(LONGEST))
                answer = login.answer(question)
            except (OSError, ValueError, KeyError, TypeError) as error:
                base.complain(f"a question that cannot be read: {type(error).__name__}")  # its text may hold a password
                return
            except Exception as error:  # whatever a library raises: the next question is answered
                base.complain(f"a question could not be answered: {type(error).__name__}: {error}")
                answer = _unavailable("The login").answer
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    if os.environ.get("LISTEN_FDS") == "1":
        server = _Server(path, Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = socket.socket(fileno=3)
    else:
        server = _Server(path, Handler)
    return server


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Says who somebody is, by the company's login.")
    parser.add_argument("--config", required=True)
    parser.add_argument("--password-file", required=True, help="of the account that searches the directory")
    parser.add_argument("--socket", required=True)
    options = parser.parse_args(argv)
    try:
        with open(options.config, encoding="utf-8") as stream:
            login = Login(json.load(stream), base.read(options.password_file).rstrip("\n"))
        server = serve(login, options.socket)
    except (OSError, ValueError, KeyError, ImportError) as error:
        base.complain(f"the login cannot begin: {type(error).__name__}: {error}")
        return 2
    base.notify("READY=1")
    server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
