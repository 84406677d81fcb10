# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who somebody is, by the company's own login: a password of its directory (LDAP), or a token that it signed (OpenID Connect).

Runs on gateways: Python 3.9+ and, as far as the site uses them, the distribution's python-ldap and PyJWT. idc_login.lua asks over a
Unix socket, a line of JSON each way, one of them per connection:

    {"authorization": header, "token": header, "tenant": who its key says it is, or ""}
    {"tenant": name, "user": name}   or   {"status": 401, 403, 429 or 503, "code", "message", "retry": seconds or 0, "user"}

A good password is believed for ``believed_s`` without asking again; it is kept as a keyed hash, in memory. The directory is asked
about WRONG wrong passwords of a user within WRONG_S at most, so that callers cannot lock anybody out of it from here; a password
that was right before may always be tried. What stands in the files is read anew when it changes.
"""
from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import math
import os
import secrets
import signal
import socket
import socketserver
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Callable, Mapping, Optional, Sequence, Union

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
    from ansible_collections.idc.llm.plugins.module_utils._agent_identity import (
        Directory,
        Issuer,
        Person,
        Refused,
        same_dn,
        texts,
        unavailable,
    )
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]
    from _agent_identity import Directory, Issuer, Person, Refused, same_dn, texts, unavailable  # type: ignore[import-not-found,no-redef]

WRONG, WRONG_S = 3, 900.0  # fewer than the five to ten in ten to thirty minutes at which directories shut a user out
MOST_KEPT = 10_000
IN_HAND, WAIT_S, STUCK_S = 256, 25.0, 90.0  # questions at once; to wait for another one's answer; no question takes so long
LONGEST = 1 << 16  # bytes of a question
ANYBODY = "*"


# --- decisions -------------------------------------------------------------------------------------------------------


def shown(authorization: str) -> Union[tuple[str, str], str]:
    """(user, password) or a token, of the header Authorization. Raises Refused."""
    scheme, _space, rest = authorization.partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            user, colon, password = base64.b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")
        except ValueError:
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
        if set(row["amr"]) <= texts(person.claims.get("amr")) and (not row["acr"] or person.claims.get("acr") in row["acr"]):
            return str(row["name"])
    raise Refused(403, "login_not_sufficient", "This service wants a stronger login, with a second factor perhaps.")


class Memory:
    """Good passwords for a while, and who had wrong ones tried. now: seconds that only grow."""

    def __init__(self, believed_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._for, self._now, self._salt, self._told = believed_s, now, secrets.token_bytes(32), threading.Condition()
        self._good: OrderedDict[bytes, tuple[float, Person]] = OrderedDict()
        self._right: OrderedDict[str, bytes] = OrderedDict()  # dn: the last password that was right
        self._tried: OrderedDict[str, dict[bytes, float]] = OrderedDict()  # dn: those that were not, or are being tried
        self._trying: set[bytes] = set()

    def _mark(self, name: str, password: str) -> bytes:
        return hmac.digest(self._salt, f"{name}\0{password}".encode(), hashlib.sha256)

    def find(self, user: str, password: str) -> Optional[Person]:
        """Who gave this lately and was right."""
        until, person = self._good.get(self._mark(user, password), (0.0, None))
        return person if self._now() < until else None

    def take(self, dn: str, password: str) -> None:
        """A turn to try this password at the directory; one that is being tried is waited for. Raises Refused where it was wrong,
        where too many were, or where nobody said for a long time."""
        mark = self._mark(dn, password)
        with self._told:
            if not self._told.wait_for(lambda: mark not in self._trying, WAIT_S):
                raise unavailable("The directory")
            now = self._now()
            if self._right.get(dn) == mark:
                return
            tried = {one: at for one, at in self._tried.get(dn, {}).items() if now - at < WRONG_S}
            if mark in tried:
                raise _nobody()
            if len(tried) >= WRONG:
                left = math.ceil(WRONG_S - (now - min(tried.values())))
                raise Refused(429, "too_many_wrong_passwords", "Too many wrong passwords for this user.", left)
            self._keep(self._tried, dn, {**tried, mark: now})
            self._trying.add(mark)

    def give(self, dn: str, password: str, user: str, person: Optional[Person], known: bool = True) -> None:
        """What the directory said: who it is, or that the password was wrong; not known: it said nothing."""
        mark = self._mark(dn, password)
        with self._told:
            self._trying.discard(mark)
            self._told.notify_all()
            if person or not known:
                self._tried.get(dn, {}).pop(mark, None)
            elif self._right.get(dn) == mark:  # it was changed; who goes on with the old one must not lock the user out
                del self._right[dn]
                self._keep(self._tried, dn, {**self._tried.get(dn, {}), mark: self._now()})
            if person:
                self._keep(self._right, dn, mark)
                self._keep(self._good, self._mark(user, password), (self._now() + self._for, person))

    @staticmethod
    def _keep(rows: OrderedDict[Any, Any], key: Any, value: Any) -> None:
        rows[key] = value
        rows.move_to_end(key)
        while len(rows) > MOST_KEPT:
            rows.popitem(last=False)


def _nobody() -> Refused:
    return Refused(401, "invalid_login", "There is no such user, or the password is wrong.")


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
        user = ""
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
                user = what[0]
                person, by = self._password(*what), "ldap"
            user = person.user
            return {"tenant": tenant_of(person, by, self.tenants, known), "user": user}
        except Refused as refused:
            return {**refused.answer, "user": user}

    def _password(self, user: str, password: str) -> Person:
        if not self.directory:
            raise Refused(401, "invalid_api_key", "No API key or a wrong one was given.")
        person = self.memory.find(user, password)
        if person:
            return person
        entry = self.directory.find(user)
        if not entry:
            raise _nobody()
        self.memory.take(entry.dn, password)  # by the name that the directory has: it takes many for the same
        try:
            right = self.directory.opens(entry.dn, password)
        except Exception:
            self.memory.give(entry.dn, password, user, None, known=False)
            raise
        self.memory.give(entry.dn, password, user, entry.person if right else None)
        if not right:
            raise _nobody()
        return entry.person


class Current:
    """The login as its files have it now: what a play wrote counts from the next question on, whatever becomes of that play."""

    def __init__(self, config: str, password: str) -> None:
        self._files, self._lock = (config, password), threading.Lock()
        self._stamp: Any = None
        self._login: Optional[Login] = None
        self.take()

    def take(self) -> Login:
        """Raises what reading the files raises."""
        with self._lock:
            stamp = [(state.st_mtime_ns, state.st_ino) for state in map(os.stat, self._files)]
            if self._login is None or stamp != self._stamp:
                config, password = (_text(path) for path in self._files)
                self._login, self._stamp = Login(json.loads(config), password.rstrip("\n")), stamp
            return self._login


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Ends when what it has in hand is answered. What comes while IN_HAND are, waits in the socket."""

    request_queue_size = 256

    def __init__(self, current: Current, path: str, inherited: bool) -> None:
        self.current, self.begun = current, OrderedDict[int, float]()
        self._room = threading.Semaphore(IN_HAND)
        super().__init__(path, Handler, bind_and_activate=not inherited)
        if inherited:
            self.socket.close()
            self.socket = socket.socket(fileno=3)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        me = threading.get_ident()
        self.begun[me] = time.monotonic()
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.begun.pop(me, None)
            self._room.release()

    def watch(self) -> None:
        """A question that no timeout ends ends the program, and the socket keeps those who come then."""
        while True:
            time.sleep(5)
            if any(time.monotonic() - at > STUCK_S for at in list(self.begun.values())):
                base.complain(f"a question has no answer after {STUCK_S:.0f} s: beginning anew")
                os._exit(1)


class Handler(socketserver.StreamRequestHandler):
    """One question."""

    timeout = 10
    server: _Server

    def handle(self) -> None:
        """Read it and answer it."""
        try:
            question = json.loads(self.rfile.readline(LONGEST).decode("utf-8", "replace"))
        except (OSError, ValueError) as error:
            base.complain(f"a question that cannot be read: {type(error).__name__}")  # its text may hold a password
            return
        try:
            answer = self.server.current.take().answer(question)
        except Exception as error:  # whatever a library or a file raises: the next question is answered
            base.complain(f"a question could not be answered: {type(error).__name__}: {error}")
            answer = unavailable("The login").answer
        with suppress(OSError):  # the caller may be gone
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Says who somebody is, by the company's login.")
    parser.add_argument("--config", required=True)
    parser.add_argument("--password-file", required=True, help="of the account that searches the directory")
    parser.add_argument("--socket", required=True, help="to listen at, unless systemd brings one, which stays over a restart")
    options = parser.parse_args(argv)
    try:
        current = Current(options.config, options.password_file)
        server = _Server(current, options.socket, os.environ.get("LISTEN_FDS") == "1")
    except (OSError, ValueError, KeyError, ImportError) as error:
        base.complain(f"the login cannot begin: {type(error).__name__}: {error}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_args: threading.Thread(target=server.shutdown).start())
    threading.Thread(target=server.watch, daemon=True).start()
    base.notify("READY=1")
    server.serve_forever()
    base.notify("STOPPING=1")
    server.server_close()  # when the last one is answered
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
