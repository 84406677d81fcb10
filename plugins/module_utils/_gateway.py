# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each tenant may use and how much of it, in the form that the gateway's nginx reads. Pure, private.

nginx's limits are fixed for a zone, so each pair of rate and burst, and each number of connections, is a zone of its own; a
request falls under it when the zone's variable holds a key. https://nginx.org/en/docs/http/ngx_http_limit_req_module.html
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Container, Iterable, Iterator, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._deployment import mapping_errors, nearest
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._plan_view import aligned

WHOLE = ("body_max_kib", "tokens_per_minute", "tokens_per_day", "deployments")  # of a tenant, not of one of its deployments
USAGE_SHAPES = ("table", "csv", "json")
REQUIRE, KEY_ALONE, LOGINS = ("key", "mtls", "ldap", "oidc"), ("key",), ("ldap", "oidc")
SUBJECT = re.compile(r"[A-Za-z]+=[^\"\\$\x00-\x1f]{1,300}")  # as nginx shows it, RFC 2253, within quotes of its configuration
AFFINITY = ("by", "header", "at_once")
LIMITS = ("requests_per_minute", "burst", "concurrent_requests", *WHOLE)


@dataclass(frozen=True)
class Zone:
    """One zone of nginx's. rate: requests a minute, 0 for a zone of connections, which then has ``most`` at once."""

    rate: int = 0
    burst: int = 0
    most: int = 0

    @property
    def name(self) -> str:
        """Its name, and that of its variable."""
        return f"idc_rate_{self.rate}_{self.burst}" if self.rate else f"idc_concurrent_{self.most}"


def parse_limits(tenant: str, raw: Any, deployments: Sequence[str], inner: bool = False) -> dict[str, Any]:
    """A tenant's ``limits``, checked: whole numbers, known names. Raises IdcError."""
    place = f"idc_llm_secrets.tenants.{tenant}.limits"
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise IdcError("IDC-INV-007", name=place, observed=type(raw).__name__, wanted="a mapping")
    known = [name for name in LIMITS if not (inner and name in WHOLE)]
    for name, value in raw.items():
        if name not in known:
            raise IdcError("IDC-GW-004", tenant=tenant, name=name, nearest=nearest(str(name), known))
        if name == "deployments":
            if not isinstance(value, Mapping):
                raise IdcError("IDC-INV-007", name=f"{place}.deployments", observed=type(value).__name__, wanted="a mapping")
            for deployment, own in value.items():
                if deployment not in deployments:
                    raise IdcError("IDC-INV-017", tenant=tenant, deployment=deployment, nearest=nearest(deployment, deployments))
                parse_limits(tenant, own, deployments, inner=True)
        elif isinstance(value, bool) or not isinstance(value, int) or value < (0 if name == "burst" else 1):
            raise IdcError("IDC-INV-007", name=f"{place}.{name}", observed=repr(value),
                           wanted="a whole number from 0" if name == "burst" else "a whole number from 1")
    if "burst" in raw and "requests_per_minute" not in raw:
        raise IdcError("IDC-INV-007", name=f"{place}.burst", observed="no requests_per_minute", wanted="both, or neither")
    return dict(raw)


def parse_access(tenant: str, raw: Mapping[str, Any]) -> Sequence[str]:
    """What a tenant must show, checked: ``require``; with mtls the subjects of its ``certificates``, with ldap or oidc the
    ``groups`` of the company's login that are its own, with oidc perhaps ``acr`` and ``amr``. Raises IdcError."""
    place = f"idc_llm_secrets.tenants.{tenant}"

    def wrong(name: str, observed: Any, wanted: str) -> IdcError:
        return IdcError("IDC-INV-007", name=f"{place}.{name}", observed=observed, wanted=wanted)

    require, subjects = raw.get("require", KEY_ALONE), raw.get("certificates", [])
    if not _texts(require) or not require or set(require) - set(REQUIRE):
        raise wrong("require", repr(require), f"a list of {', '.join(REQUIRE)}")
    if "ldap" in require and set(require) & {"key", "oidc"}:
        raise wrong("require", repr(require), "ldap alone or with mtls: a password stands where the key would")
    if not _texts(subjects) or bool(subjects) != ("mtls" in require):
        raise wrong("certificates", repr(subjects), "a list of subjects where require has mtls, and none elsewhere")
    for subject in subjects:
        if not SUBJECT.fullmatch(subject):
            raise wrong("certificates", repr(subject),
                        "a subject as openssl x509 -noout -subject -nameopt RFC2253 shows it, CN=app,O=Bank")
    if raw.get("keys") and "key" not in require:
        raise wrong("keys", "keys", "none, or key in require")
    groups = raw.get("groups", [])
    if not _texts(groups) or bool(groups) != bool(set(require) & set(LOGINS)):
        raise wrong("groups", repr(groups),
                    "a list of groups where require has ldap or oidc ('*' for whoever can log in), and none elsewhere")
    for name in ("acr", "amr"):
        if not _texts(raw.get(name, [])) or raw.get(name) and "oidc" not in require:
            raise wrong(name, repr(raw[name]), "a list of values of the token, where require has oidc")
    return tuple(require)


def _texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)


def affinities(raw: Any, deployments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{deployment: by, at_once, and with by=header the name of nginx's variable} of gateway_affinity, checked. Raises IdcError."""
    place = "gateway_affinity"
    for error in mapping_errors(raw, place, deployments):
        raise error
    found = {}
    for deployment, entry in (raw or {}).items():
        for error in mapping_errors(entry, f"{place}.{deployment}", AFFINITY):
            raise error
        entry = entry or {}
        by, most = entry.get("by"), entry.get("at_once")
        header = str(entry.get("header", "X-Session-Id"))
        if by not in ("header", "prefix"):
            raise IdcError("IDC-INV-007", name=f"{place}.{deployment}.by", observed=repr(by), wanted="header or prefix")
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise IdcError("IDC-INV-007", name=f"{place}.{deployment}.at_once", observed=repr(most), wanted="a whole number from 1")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", header) or ("header" in entry and by != "header"):
            raise IdcError("IDC-INV-007", name=f"{place}.{deployment}.header", observed=repr(entry.get("header")),
                           wanted="the name of a header, with by: header")
        found[deployment] = {"by": by, "at_once": most}
        if by == "header":
            found[deployment]["variable"] = "http_" + header.lower().replace("-", "_")
    return found


def by_certificate(tenants: Mapping[str, Any]) -> list[dict[str, str]]:
    """Who is known by a certificate alone: subject, tenant."""
    return [{"subject": subject, "tenant": name} for name, tenant in tenants.items()
            if set(tenant.get("require", KEY_ALONE)) == {"mtls"} for subject in tenant["certificates"]]


def by_login(tenants: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Whom the company's login lets in, for _agent_login.py: name, by (ldap or oidc), groups, acr, amr, keyed (needs a key too)."""
    return [{"name": name, "by": by, "groups": tenant["groups"], "acr": tenant.get("acr", []), "amr": tenant.get("amr", []),
             "keyed": "key" in tenant["require"]}
            for name, tenant in tenants.items() for by in LOGINS if by in tenant.get("require", KEY_ALONE)]


def _zones(limits: Mapping[str, Any]) -> Iterator[Zone]:
    rate = limits.get("requests_per_minute")
    if rate:
        yield Zone(rate, limits.get("burst", max(1, math.ceil(rate / 6))))  # ten seconds' worth at once
    if limits.get("concurrent_requests"):
        yield Zone(most=limits["concurrent_requests"])


def zones(tenants: Mapping[str, Any]) -> list[Zone]:
    """The zones that these tenants need, each once."""
    found: set[Zone] = set()
    for tenant in tenants.values():
        limits = tenant.get("limits") or {}
        for one in (limits, *(limits.get("deployments") or {}).values()):
            found.update(_zones(one or {}))
    return sorted(found, key=lambda zone: (zone.rate, zone.burst, zone.most))


def allowed(tenant: Mapping[str, Any], deployments: Iterable[str], canaries: Container[str] = ()) -> list[str]:
    """The deployments that a tenant may ask for by name: those that it lists, or all that are no canaries."""
    listed = tenant.get("deployments")
    return [one for one in listed or deployments if one in deployments and (listed or one not in canaries)]


def shares(tenant: str, canaries: Mapping[str, Mapping[str, Any]]) -> dict[str, list[tuple[str, int]]]:
    """{deployment: (canary, the hundredth below which a request of this tenant is its)} of what _deployment.Canary says."""
    found: dict[str, list[tuple[str, int]]] = {}
    for name, canary in canaries.items():
        row = found.setdefault(canary["of"], [])
        row.append((name, canary["percent"] + (row[-1][1] if row else 0)))
    for name, canary in canaries.items():
        if tenant in canary["tenants"]:
            found[canary["of"]] = [(name, 100)]
    return {of: [one for one in row if one[1]] for of, row in found.items() if row[-1][1]}


def rights(tenants: Mapping[str, Any], deployments: Mapping[str, Optional[int]],
           affinity: Optional[Mapping[str, Mapping[str, Any]]] = None,
           canaries: Optional[Mapping[str, Mapping[str, Any]]] = None, serving: Optional[Container[str]] = None) -> dict[str, Any]:
    """What idc_gateway.lua reads. deployments: name → longest context in tokens, None where unknown; affinity: of affinities;
    canaries: name → of, percent, tenants; serving: deployments that have engines, if not all."""
    rows: dict[str, dict[str, Any]] = {}
    canaries = canaries or {}
    tried = {name: one for name, one in canaries.items() if serving is None or name in serving}
    for name, tenant in tenants.items():
        names = allowed(tenant, deployments, canaries)
        limits = tenant.get("limits") or {}
        under: dict[str, list[Sequence[str]]] = {}
        for deployment in names:
            own = (limits.get("deployments") or {}).get(deployment) or {}
            keys = {zone.name: name for zone in _zones(limits)}
            keys.update({zone.name: f"{name} {deployment}" for zone in _zones(own)})
            under[deployment] = list(keys.items())
        rates = [zone.rate for zone in zones({name: tenant}) if zone.rate]
        rows[name] = {"deployments": names, "limits": under, "retry": str(math.ceil(60 / min(rates)) if rates else 1)}
        row = {of: pairs for of, pairs in shares(name, tried).items() if of in names}
        if row:
            rows[name]["canaries"] = row
        if limits.get("body_max_kib"):
            rows[name]["body_max"] = limits["body_max_kib"] << 10
        if tenant.get("certificates"):
            rows[name]["certificates"] = dict.fromkeys(tenant["certificates"], True)
        if {"key", "oidc"} <= set(tenant.get("require", KEY_ALONE)):
            rows[name]["login"] = True
        quota = {window: limits[f"tokens_per_{window}"] for window in ("minute", "day") if limits.get(f"tokens_per_{window}")}
        if quota:
            rows[name]["tokens"] = quota
    models = {name: {"context": context, **({"affinity": affinity[name]} if affinity and name in affinity else {})}
              for name, context in deployments.items()}
    return {"deployments": models, "tenants": rows}


def proofs(tenants: Mapping[str, Any], deployments: Sequence[str], canaries: Container[str] = ()) -> list[dict[str, str]]:
    """By whose key each deployment is proven: a tenant without limits where there is one, so that a proof uses up nobody's. One
    that must show more than a key proves nothing: the play has none."""
    rows = []
    for deployment in deployments:
        able = [name for name, tenant in tenants.items() if tuple(tenant.get("require", KEY_ALONE)) == KEY_ALONE
                and deployment in allowed(tenant, deployments, canaries)]
        able.sort(key=lambda name: bool(tenants[name].get("limits")))
        rows += [{"deployment": deployment, "tenant": name} for name in able[:1]]
    return rows


def usage(gateways: Sequence[Sequence[Mapping[str, Any]]], shape: str) -> Any:
    """The rows of all gateways (``_agent_audit.usage``) added up by day, tenant and deployment, as USAGE_SHAPES has it."""
    by = ("day", "tenant", "deployment")
    added: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in (row for rows in gateways for row in rows):
        one = added.setdefault(tuple(row[key] for key in by), {key: row[key] for key in by})
        for name, value in row.items():
            if name not in by:
                one[name] = one.get(name, 0) + value
    rows = [added[key] for key in sorted(added)]
    if shape == "json":
        return rows
    if shape == "csv":
        lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)] if rows else []
        return lines  # names of tenants and deployments hold no comma
    return aligned([{key: str(value) or "-" for key, value in row.items()} for row in rows])
