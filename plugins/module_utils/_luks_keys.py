# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key slots: which binding each one is, what has to be added, proven and removed. Pure, private.

Slot 0 is the recovery passphrase's, 1 is where a new one waits until it has proven itself, the others are bindings'.
A binding is known by the token that belongs to its slot: clevis writes its own, a key file's is ours.
"""
from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._luks_seen import Header, Token
from ansible_collections.idc.llm.plugins.module_utils._luks_wanted import Tang, Wanted

RECOVERY, WAITING, FIRST, SLOTS = 0, 1, 2, 32
KEYFILE_TOKEN = "idc-llm-keyfile"


@dataclass(frozen=True)
class Binding:
    """A way to unlock without a person, as it stands in a header. ``servers``: address → thumbprints of the keys that it trusts."""

    kind: str
    slot: int
    servers: Mapping[str, frozenset[str]]
    threshold: int = 1
    pcr_ids: str = ""
    pcr_bank: str = ""


@dataclass(frozen=True)
class Bind:
    """A binding to add: clevis' pin and its configuration, "" for a key file."""

    kind: str
    slot: int
    pin: str = ""
    config: str = ""


@dataclass(frozen=True)
class KeyPlan:
    """What to do with a header's slots, in this order: orphans (tokens without a slot: clevis would remove them by itself and
    give their numbers to new ones), add, prove (kept ones too), remove, tokens (of removed slots); ``stay``: what is bound then.
    ``strange``: slots that nobody owns."""

    orphans: tuple[int, ...] = ()
    add: tuple[Bind, ...] = ()
    prove: tuple[Bind, ...] = ()
    remove: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    strange: tuple[int, ...] = ()
    stay: tuple[Bind, ...] = ()


def plan_keys(header: Optional[Header], wanted: Wanted, fresh: bool = False, keyfile: Sequence[int] = ()) -> KeyPlan:
    """header: None where the volume is still to be formatted; fresh: every binding is made anew, and what nobody owns is removed;
    keyfile: the slots that the key file opens where it is to lie.

    Raises IdcError where a binding is needed and the thumbprint of a Tang server is not known.
    """
    taken = set(header.slots) if header else {RECOVERY}
    tokens = header.tokens if header else ()
    there = [one for one in map(_binding, tokens) if one and one.slot in taken - {RECOVERY, WAITING} and one.kind != "other"]
    kinds = [kind for kind in wanted.unlock if kind != "passphrase"]
    add, kept = [], []
    free = iter(sorted(set(range(FIRST, SLOTS)) - taken))
    for kind in kinds:
        good = [] if fresh else [one for one in there if one.kind == kind and _as_wanted(one, wanted, keyfile)]
        if good:
            kept.append(good[0])
        else:
            add.append(_bind(kind, next(free), wanted))
    remove = {one.slot for one in there} - {one.slot for one in kept}
    strange = taken - {one.slot for one in there} - {RECOVERY, WAITING}
    if fresh:
        remove |= strange
    stay = (*(Bind(one.kind, one.slot) for one in kept), *add)
    orphans = tuple(token.number for token in tokens if _ours(token) and not set(token.slots) & taken)
    stale = tuple(token.number for token in tokens
                  if _ours(token) and token.number not in orphans and not set(token.slots) & (taken - remove))
    told = () if fresh else tuple(sorted(strange))
    return KeyPlan(orphans, tuple(add), stay if remove else tuple(add), tuple(sorted(remove)), stale, told, stay)


def recovery_steps(volume: str, device: str, slots: Sequence[int], new: Sequence[int], old: Sequence[int]) -> tuple[str, ...]:
    """How the new recovery passphrase gets into slot 0, from wherever an earlier run was killed.

    new, old: of slots 0 and 1, those which that passphrase opens. The steps:
    wait (add the new one in slot 1, by the old one), clear (remove slot 0, proven by slot 1), settle (add it in slot 0), finish
    (remove slot 1). Raises IdcError where neither opens what it would have to.
    """
    if RECOVERY in new:
        return ("finish",) if WAITING in slots else ()
    if WAITING in new:
        return ("clear", "settle", "finish") if RECOVERY in slots else ("settle", "finish")
    if not set(old) & {RECOVERY, WAITING}:
        raise IdcError("IDC-LUKS-009", volume=volume, device=device, slot="0")
    if RECOVERY not in old:  # the old one waits in slot 1: settled first, by a rotation that was killed before this one
        raise IdcError("IDC-LUKS-025", volume=volume)
    return ("clear_waiting", "wait", "clear", "settle", "finish") if WAITING in slots else ("wait", "clear", "settle", "finish")


def _ours(token: Token) -> bool:
    return token.type in ("clevis", KEYFILE_TOKEN)


def _as_wanted(binding: Binding, wanted: Wanted, keyfile: Sequence[int]) -> bool:
    if binding.kind == "tang":
        return binding.threshold == wanted.tang.threshold and _same_servers(binding.servers, wanted.tang)
    if binding.kind == "tpm2":
        return (binding.pcr_ids, binding.pcr_bank) == (wanted.pcr_ids, wanted.pcr_bank)
    return binding.slot in keyfile


def _same_servers(bound: Mapping[str, frozenset[str]], tang: Tang) -> bool:
    """A thumbprint that is not known now is not compared: a server that is away is no reason to bind anew."""
    return set(bound) == {url for url, _thumb in tang.servers} and all(
        not thumbprint or thumbprint in bound[url] for url, thumbprint in tang.servers)


def _bind(kind: str, slot: int, wanted: Wanted) -> Bind:
    if kind == "keyfile":
        return Bind(kind, slot)
    if kind == "tpm2":
        return Bind(kind, slot, "tpm2", _json({"pcr_bank": wanted.pcr_bank, "pcr_ids": wanted.pcr_ids}))
    unknown = [url for url, thumbprint in wanted.tang.servers if not thumbprint and not wanted.dry]
    if unknown:
        raise IdcError("IDC-LUKS-014", servers=", ".join(unknown))
    servers = [{"url": url, "thp": thumbprint} for url, thumbprint in wanted.tang.servers]
    return Bind(kind, slot, "sss", _json({"t": wanted.tang.threshold, "pins": {"tang": servers}}))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _binding(token: Token) -> Optional[Binding]:
    """None where the token is not ours or belongs to no slot."""
    if not token.slots or not _ours(token):
        return None
    slot = token.slots[0]
    if token.type == KEYFILE_TOKEN:
        return Binding("keyfile", slot, {})
    try:
        return _clevis(token, slot)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # not as clevis writes it: nobody's
        return Binding("other", slot, {})


def _clevis(token: Token, slot: int) -> Binding:
    pin = _pin(str(token.body["jwe"]["protected"]))
    inner = [pin] if pin["pin"] != "sss" else [_pin(jwe) for jwe in pin["sss"]["jwe"]]
    kinds = {one["pin"] for one in inner}
    if kinds == {"tang"}:
        servers: dict[str, frozenset[str]] = {}
        for one in inner:
            url = str(one["tang"]["url"]).rstrip("/")
            servers[url] = servers.get(url, frozenset()) | _thumbprints(one["tang"]["adv"])
        return Binding("tang", slot, servers, int(pin["sss"]["t"]) if pin["pin"] == "sss" else 1)
    if kinds == {"tpm2"} and len(inner) == 1:
        return Binding("tpm2", slot, {}, 1, str(inner[0]["tpm2"].get("pcr_ids", "")), str(inner[0]["tpm2"].get("pcr_bank", "")))
    return Binding("other", slot, {})  # clevis', of a kind that this role does not make


def _pin(protected: str) -> Mapping[str, Any]:
    """clevis' part of a JWE's protected header (or of a compact JWE, which begins with it)."""
    text = protected.split(".", 1)[0]
    found: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["clevis"]
    return found


def _thumbprints(advertised: Mapping[str, Any]) -> frozenset[str]:
    """RFC 7638, SHA-256, of the keys that sign the advertisement, as tang-show-keys prints them."""
    found = set()
    for key in advertised["keys"]:
        if "verify" in key.get("key_ops", ()):
            members = {name: key[name] for name in {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}[key["kty"]]}
            digest = hashlib.sha256(_json(members).encode()).digest()
            found.add(base64.urlsafe_b64encode(digest).rstrip(b"=").decode())
    return frozenset(found)
