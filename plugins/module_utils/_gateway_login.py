# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site says of its own login, checked, in the form that _agent_login.py reads. Pure, private."""
from __future__ import annotations

import re
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._deployment import mapping_errors
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._gateway import LOGINS, by_login

BELIEVED_S = 60
Check = tuple[Any, Callable[[Any], bool], str]  # what it is where it is missing (None: it must be there), what it may be, in words


def _text(value: Any) -> bool:
    return isinstance(value, str)


def something(value: Any) -> bool:
    """A text that says something."""
    return isinstance(value, str) and bool(value.strip())


def https(value: Any) -> bool:
    """An address as https://one.example.com/path."""
    return isinstance(value, str) and re.fullmatch(r"https://[^\s/]+\S*", value) is not None


def _uris(value: Any) -> bool:
    return (isinstance(value, Sequence) and not isinstance(value, str) and bool(value)
            and all(isinstance(one, str) and re.fullmatch(r"ldaps://[^\s/]+/?", one) for one in value))


def _filter_of(*places: str) -> Callable[[Any], bool]:
    return lambda value: (isinstance(value, str) and value.startswith("(") and value.endswith(")")
                          and value.count("(") == value.count(")") and any(place in value for place in places))


def _seconds(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10


WAIT: Check = (3, _seconds, "whole seconds from 1 to 10")
CA: Check = ("", _text, "a PEM file on the controller")
WAYS: dict[str, dict[str, Check]] = {
    "ldap": {
        "uris": (None, _uris, "a list of addresses as ldaps://dc1.example.com: a password must not travel in the clear"),
        "ca": CA,
        "base": (None, something, "where users stand, ou=people,dc=example,dc=com"),
        "filter": ("(uid={user})", _filter_of("{user}"), "a filter with {user}, as (uid={user}) or (sAMAccountName={user})"),
        "bind_dn": ("", _text, "the name of an account that may search, or nothing"),
        "group_base": ("", _text, "where groups stand, or nothing for the memberOf of users"),
        "group_filter": ("(member={dn})", _filter_of("{dn}", "{user}"), "a filter with {dn} or {user}, as (member={dn})"),
        "timeout_s": WAIT,
    },
    "oidc": {
        "issuer": (None, something, "who issues the tokens, as it stands in them"),
        "audience": (None, something, "the name under which the issuer knows this service"),
        "jwks_uri": ("", lambda value: value == "" or https(value),
                     "the https:// address of the issuer's keys, or nothing for what it says itself"),
        "ca": CA,
        "groups_claim": ("groups", something, "the name of a claim"),
        "user_claim": ("sub", something, "the name of a claim"),
        "timeout_s": WAIT,
    },
}


def parse_login(raw: Any, tenants: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """The program's settings, {} where there is no login. raw: ``gateway_login``; folder: where CAs stand on the gateway.
    Raises IdcError."""
    place = "gateway_login"
    for error in mapping_errors(raw, place, LOGINS):
        raise error
    rows, raw = by_login(tenants), raw or {}
    missing = sorted({row["by"] for row in rows} - set(raw))
    if missing:
        raise IdcError("IDC-GW-009", tenants=[row["name"] for row in rows if row["by"] in missing], missing=", ".join(missing))
    ways: dict[str, Any] = {}
    for way, entry in raw.items():
        ways[way] = parse_checked(f"{place}.{way}", entry, WAYS[way])
        if way == "oidc" and not ways[way]["jwks_uri"] and not https(ways[way]["issuer"]):
            raise IdcError("IDC-INV-007", name=f"{place}.oidc.issuer", observed=repr(ways[way]["issuer"]),
                           wanted="an https:// address, or jwks_uri beside it")
        if ways[way]["ca"]:
            ways[way]["ca"] = f"{folder}/login_{way}_ca.pem"
    return {**ways, "tenants": rows, "believed_s": BELIEVED_S} if ways else {}


def parse_checked(place: str, entry: Any, known: Mapping[str, Check]) -> dict[str, Any]:
    """A mapping of the inventory with all its values, checked. Raises IdcError."""
    for error in mapping_errors(entry, place, known):
        raise error
    found = {}
    for name, (default, good, words) in known.items():
        given = (entry or {}).get(name)
        value = default if given is None else given
        if not good(value):
            observed = "nothing" if value is None else repr(value)
            raise IdcError("IDC-INV-007", name=f"{place}.{name}", observed=observed, wanted=words)
        found[name] = value
    return found
