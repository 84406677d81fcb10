# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a company knows its people from: its directory (LDAP), and the issuer of its tokens (OpenID Connect).

For _agent_login.py, on gateways: Python 3.9+ and, as far as the site uses them, the distribution's python-ldap and PyJWT.
"""
from __future__ import annotations

import json
import math
import os
import re
import socket
import ssl
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

RETRY_S = 5
AT_ONCE = 64  # questions to the directory
TURN_S, DIRECTORY_S = 5.0, 15.0  # to wait for a turn; to go on to the next server
SYSTEM_CAS = "/etc/ssl/certs/ca-certificates.crt"
LEEWAY_S = 60  # between the clocks of who signs and who reads
KEYS_S, KEYS_ANEW_S = 300.0, 30.0  # how long keys are taken as they are; how soon an unknown one makes them be fetched again
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]  # by a public key only


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
        self.answer: dict[str, Any] = {"status": status, "code": code, "message": message, "retry": retry, "user": ""}


def unavailable(what: str) -> Refused:
    return Refused(503, "login_unavailable", f"{what} cannot be asked now. Please try again.", RETRY_S)


def texts(value: Any) -> frozenset[str]:
    """A claim that is one text or a list of them."""
    return frozenset(one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by a path as realm_access.roles; None where there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


# --- the directory ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """Somebody whom the directory knows, and who has not shown a password yet."""

    dn: str
    person: Person


class Directory:
    """LDAP; settings: uris, ca, base, filter, bind_dn, group_base, group_filter, timeout_s. https://www.python-ldap.org"""

    def __init__(self, settings: Mapping[str, Any], password: str, now: Callable[[], float] = time.monotonic) -> None:
        import ldap.filter  # type: ignore[import-not-found]  # of the distribution, on gateways that use it

        self._ldap, self._set, self._password, self._now = ldap, settings, password, now
        self._ca = settings["ca"] or SYSTEM_CAS
        self._context = ssl.create_default_context(cafile=self._ca)
        self._turn = threading.Semaphore(AT_ONCE)
        self._silent: dict[str, float] = {}  # uri: when it last did not answer
        named = re.search(r"\(([\w;.-]+)=\{user\}\)", settings["filter"])
        self._attribute = named.group(1) if named else ""

    def _answers(self, uri: str) -> None:
        """Knock first: libldap waits for ever for a server that takes a connection and never speaks TLS. Raises OSError."""
        host, _colon, port = uri[len("ldaps://"):].rstrip("/").rpartition(":")
        if not port.isdigit() or host.endswith(":"):
            host, port = uri[len("ldaps://"):].rstrip("/"), "636"
        host = host.strip("[]")
        with socket.create_connection((host, int(port)), timeout=self._set["timeout_s"]) as plain:
            self._context.wrap_socket(plain, server_hostname=host).close()

    def _connect(self, user: str, password: str) -> Any:
        """Bound as this user, at the first server that answers. Raises what ldap raises, or OSError."""
        began = self._now()
        problem: Exception = OSError("no server was asked")
        for uri in sorted(self._set["uris"], key=lambda uri: self._now() - self._silent.get(uri, -math.inf) < 30):
            if self._now() - began > DIRECTORY_S:
                break
            try:
                self._answers(uri)
                return self._bind(uri, user, password)
            except (OSError, self._ldap.SERVER_DOWN, self._ldap.CONNECT_ERROR, self._ldap.TIMEOUT, self._ldap.UNAVAILABLE,
                    self._ldap.BUSY) as error:
                self._silent[uri] = self._now()
                base.complain(f"{uri}: {self._words(error)}")
                problem = error
        raise problem

    def _bind(self, uri: str, user: str, password: str) -> Any:
        link = self._ldap.initialize(uri)
        wait = self._set["timeout_s"]
        for option, value in (("NETWORK_TIMEOUT", wait), ("TIMEOUT", wait), ("REFERRALS", 0), ("X_TLS_CACERTFILE", self._ca),
                              ("X_TLS_REQUIRE_CERT", self._ldap.OPT_X_TLS_DEMAND), ("X_TLS_NEWCTX", 0)):
            link.set_option(getattr(self._ldap, f"OPT_{option}"), value)
        try:
            link.simple_bind_s(user, password)
        except self._ldap.LDAPError:
            link.unbind_ext_s()
            raise
        return link

    @staticmethod
    def _words(error: Exception) -> str:
        said = error.args[0] if error.args and isinstance(error.args[0], Mapping) else {}
        return f"{type(error).__name__} {said.get('desc', '')} {said.get('info', '')}".rstrip() if said else f"{error}"

    def _said(self, what: Callable[[], Any]) -> Any:
        """What the directory says. Raises Refused where no server can say."""
        if not self._turn.acquire(timeout=TURN_S):
            raise unavailable("The directory")
        try:
            return what()
        except (OSError, self._ldap.LDAPError) as error:
            base.complain(f"the directory cannot be asked: {self._words(error)}")
            raise unavailable("The directory") from error
        finally:
            self._turn.release()

    def find(self, user: str) -> Optional[Entry]:
        """Who that is; None for nobody. Raises Refused."""
        return self._said(lambda: self._find(user))  # type: ignore[no-any-return]

    def _find(self, user: str) -> Optional[Entry]:
        escape, subtree = self._ldap.filter.escape_filter_chars, self._ldap.SCOPE_SUBTREE
        link = self._connect(self._set["bind_dn"], self._password)
        try:
            wanted = self._set["filter"].replace("{user}", escape(user))
            rows = link.search_s(self._set["base"], subtree, wanted, ["memberOf", *filter(None, [self._attribute])])
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
        names = {name.lower(): values for name, values in entry.items()}.get(self._attribute.lower()) or [user.encode()]
        return Entry(dn, Person(names[0].decode("utf-8", "replace"), frozenset(same_dn(group) for group in groups)))

    def opens(self, dn: str, password: str) -> bool:
        """Whether the password is this one's. Raises Refused."""
        return self._said(lambda: self._opens(dn, password))  # type: ignore[no-any-return]

    def _opens(self, dn: str, password: str) -> bool:
        no = (self._ldap.INVALID_CREDENTIALS, self._ldap.UNWILLING_TO_PERFORM, self._ldap.INAPPROPRIATE_AUTH,
              self._ldap.CONSTRAINT_VIOLATION)  # the last one: 389's and FreeIPA's word for a user who is shut out
        try:
            self._connect(dn, password).unbind_ext_s()
        except no:
            return False
        return True


def same_dn(text: str) -> str:
    """A group's name as all who mean it write it: directories take no notice of case, nor of spaces around commas."""
    return ",".join("=".join(part.strip() for part in one.split("=", 1)) for one in re.split(r"(?<!\\),", text.lower()))


# --- tokens ----------------------------------------------------------------------------------------------------------


class _Stay(urllib.request.HTTPRedirectHandler):
    """An issuer's keys stand where it says, and nowhere else."""

    def redirect_request(self, *_args: Any) -> None:
        """No."""


class Issuer:
    """OpenID Connect; settings: issuer, audience, jwks_uri, ca, groups_claim, user_claim, timeout_s. https://pyjwt.readthedocs.io"""

    def __init__(self, settings: Mapping[str, Any], now: Callable[[], float] = time.monotonic) -> None:
        import jwt  # type: ignore[import-not-found]  # of the distribution, on gateways that use it

        self._jwt, self._set, self._now, self._lock = jwt, settings, now, threading.Lock()
        context = ssl.create_default_context(cafile=settings["ca"] or None)
        self._web = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Stay)
        self._keys: dict[str, Any] = {}
        self._asked = -math.inf  # when the keys were last asked for

    def _get(self, url: str) -> Any:
        if not url.startswith("https://"):
            raise ValueError(f"{url} is no https:// address")
        with self._web.open(url, timeout=self._set["timeout_s"]) as reply:
            return json.loads(reply.read(1 << 20))

    def _fetch(self) -> None:
        """The keys that sign now. Where the issuer does not answer, those before stay: a token is as good as it was."""
        try:
            uri = self._set["jwks_uri"]
            if not uri:
                about = self._get(f"{self._set['issuer'].rstrip('/')}/.well-known/openid-configuration")
                if about["issuer"] != self._set["issuer"]:
                    raise ValueError(f"it says that it is {about['issuer']}")
                uri = about["jwks_uri"]
            keys = {}
            for row in self._get(uri)["keys"]:
                with suppress(Exception):  # of a kind that this PyJWT does not know
                    if row.get("use", "sig") == "sig" and isinstance(row["kid"], str):
                        keys[row["kid"]] = self._jwt.PyJWK(row).key
            self._keys = keys
        except Exception as error:  # whatever comes from there must not keep known keys from being used
            base.complain(f"the keys of {self._set['issuer']} cannot be read: {type(error).__name__}: {error}")

    def _key(self, name: str) -> Any:
        with self._lock:
            age = self._now() - self._asked
            stale = age >= KEYS_S or (name not in self._keys and age >= KEYS_ANEW_S)
            if stale:
                self._asked = self._now()
        if stale:  # one asks, and nobody waits who has a key that is known
            self._fetch()
        if not self._keys:
            raise unavailable("Who signs the tokens")
        return self._keys.get(name)

    def ask(self, token: str) -> Person:
        """Who this is. Raises Refused."""
        try:
            key = self._key(str(self._jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise self._jwt.InvalidTokenError("no key of this name signs")
            claims = self._jwt.decode(token, key, algorithms=ALGORITHMS, audience=self._set["audience"], issuer=self._set["issuer"],
                                      leeway=LEEWAY_S, options={"require": ["exp", "iss", "aud"]})
        except (self._jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise Refused(401, "invalid_token", f"The token is not good: {error}") from error
        user = claim(claims, self._set["user_claim"])
        if not isinstance(user, str) or not user:
            raise Refused(401, "invalid_token", f"The token does not say who it is for: {self._set['user_claim']} is missing.")
        return Person(user, texts(claim(claims, self._set["groups_claim"])), claims)
