# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site says of its ACME server (RFC 8555), checked, and whether its certificate has to be asked for anew. Pure, private."""
from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._gateway_login import CA, Check, https, parse_checked, something

PLACE = "gateway_acme"
ADDRESS = re.compile(r"[0-9.]+|.*:.*")
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
NAME = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*")
KNOWN: dict[str, Check] = {
    "directory": (None, https, "the https:// address of the ACME server's directory"),
    "ca": CA,
    "email": ("", lambda value: isinstance(value, str) and (value == "" or re.fullmatch(r"[^@\s,?]+@[^@\s,?]+", value) is not None),
              "an address as ops@example.com, or nothing"),
    "eab": ({}, lambda value: isinstance(value, Mapping), "a mapping with kid"),
}
EAB: dict[str, Check] = {
    "kid": (None, something, "the number or name of the key that the server's people gave"),
    "alg": ("HS256", lambda value: value in ("HS256", "HS384", "HS512"), "HS256, HS384 or HS512"),
}


def parse_acme(raw: Any, domain: str, more: Sequence[str], keyed: bool = False) -> dict[str, Any]:
    """``gateway_acme`` complete, with ``names`` to ask for and ``folder``, which is this server's own; {} where there is none.

    domain, more: gateway_domain and gateway_tls_extra_names; keyed: whether there is a key for ``eab``. Raises IdcError.
    """
    found = parse_checked(PLACE, raw, KNOWN) if raw or not isinstance(raw, Mapping) and raw is not None else {}
    if not found:
        return {}
    if found["eab"]:
        found["eab"] = parse_checked(f"{PLACE}.eab", found["eab"], EAB)
    if bool(found["eab"]) != keyed:
        observed = "a key without kid" if keyed else "no idc_llm_secrets.acme_eab_key"
        raise IdcError("IDC-INV-007", name=f"{PLACE}.eab", observed=observed,
                       wanted="kid here and its key in idc_llm_secrets.acme_eab_key, or neither")
    folder = re.sub(r"[^A-Za-z0-9.-]+", "_", found["directory"][len("https://"):]).strip("_")
    return {**found, "names": _names(domain, more), "folder": folder}


def _names(domain: str, more: Sequence[str]) -> list[str]:
    """Those that an ACME server can sign by http-01 at the gateway's own name: no addresses, not localhost."""
    names = []
    for place, name in (("gateway_domain", domain), *(("gateway_tls_extra_names", one) for one in more)):
        lower = str(name).lower()
        if ADDRESS.fullmatch(lower) or lower == "localhost":
            continue
        if not NAME.fullmatch(lower):
            raise IdcError("IDC-INV-007", name=place, observed=repr(name),
                           wanted="a name as llm.example.com, without *: http-01 proves no more")
        names.append(lower)
    if not names:
        raise IdcError("IDC-GW-012", domain=domain)
    return list(dict.fromkeys(names))


def acme_due(kept: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """``reason`` why a certificate has to be asked for, "" for none; ``lasts``: whether the one at hand will do for now.

    kept: subject_alt_name, not_after and valid_at (renewal, third) as x509_certificate_info has them; empty for no certificate.
    """
    if not kept:
        return {"reason": "there is none", "lasts": False}
    signed = {name[len("DNS:"):].lower() for name in kept["subject_alt_name"] or () if name.startswith("DNS:")}
    reason = ""
    if signed != set(names):
        reason = f"it is for {', '.join(sorted(signed))}"
    elif not kept["valid_at"]["renewal"]:
        reason = f"it ends {kept['not_after']}"
    return {"reason": reason, "lasts": kept["valid_at"]["third"] and set(names) <= signed}
