# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the gateway's own variables, all of it at once. Pure; private to this collection."""
from __future__ import annotations

import re
from typing import Any, Callable, Iterator, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._firewall import network_problem
from ansible_collections.idc.llm.plugins.module_utils._gateway import affinities
from ansible_collections.idc.llm.plugins.module_utils._gateway_acme import parse_acme
from ansible_collections.idc.llm.plugins.module_utils._gateway_login import parse_login

KEPT_DAYS = 184  # six months of audit log; docs/guides/gateway.md names the laws
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
KEY = re.compile(r"[A-Za-z0-9._~+/=-]{1,200}")

Given = Mapping[str, Any]
Errors = Iterator[IdcError]


def _certificate(given: Given, host: str) -> Errors:
    pair = [bool(given["tls_certificate"]), bool(given["tls_key"])]
    if pair[0] != pair[1] or not (pair[0] or given["ca_dir"]):
        yield IdcError("IDC-GW-001", host=host)
    acme, error = _parsed(lambda: parse_acme(given["acme"], given["domain"], given["tls_extra_names"], bool(given["acme_eab_key"])))
    if error:
        yield error
    if acme and pair[0]:
        yield IdcError("IDC-GW-011", host=host)
    if acme.get("ca") and "BEGIN CERTIFICATE" not in given["acme_ca"]:
        yield _wrong("acme.ca", acme["ca"], "a PEM file on the controller")


def _login(given: Given, _host: str) -> Errors:
    login, error = _parsed(lambda: parse_login(given["login"], given["tenants"], ""))
    if error:
        yield error
    account = login.get("ldap", {}).get("bind_dn")
    if account and not given["login_password"]:
        yield IdcError("IDC-GW-010", account=account)


def _affinity(given: Given, _host: str) -> Errors:
    known = given["deployments"]
    _found, error = _parsed(lambda: affinities(given["affinity"], list(given["affinity"] or {}) if known is None else known))
    if error:
        yield error


def _audit(given: Given, _host: str) -> Errors:
    days = given["audit_keep_days"]
    if not given["audit_allow_short_retention"] and not (re.fullmatch(r"\d+", str(days)) and int(days) >= KEPT_DAYS):
        yield IdcError("IDC-GW-005", days=days)


def _tenants(given: Given, _host: str) -> Errors:
    """Only counts of keys are told: a message must not carry one."""
    tenants: Mapping[str, Any] = given["tenants"]
    odd = [name for name in tenants if not TENANT.fullmatch(str(name))]
    if odd:
        yield IdcError("IDC-GW-002", tenants=odd)
    keys = [str(key) for tenant in tenants.values() for key in tenant.get("keys") or ()]
    keys += [given["engine_key"]] if given["engine_key"] else []
    good = {key.lower() for key in keys if KEY.fullmatch(key)}  # nginx compares them without regard to case
    if len(good) != len(keys):
        yield IdcError("IDC-GW-003", count=len(keys) - len(good))
    certified = [name for name, tenant in tenants.items() if "certificates" in tenant]
    if certified and not given["client_ca"]:
        yield IdcError("IDC-GW-006", tenants=certified)


def _front(given: Given, _host: str) -> Errors:
    proxies: Sequence[Any] = given["trusted_proxies"]
    odd = [value for value in proxies if network_problem(value)]
    if odd:
        yield IdcError("IDC-GW-007", seen=odd)
    if given["proxy_protocol"] and (not proxies or given["http3"]):
        wanted = "gateway_trusted_proxies with the load balancer's addresses, and no gateway_http3 (the PROXY protocol is TCP's)"
        yield _wrong("proxy_protocol", f"gateway_trusted_proxies: {proxies}, gateway_http3: {given['http3']}", wanted)
    rate = given["connections_per_address_s"]
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 0:
        yield _wrong("connections_per_address_s", rate, "a whole number from 0")
    address = str(given["virtual_address"])
    if address and ("/" not in address or network_problem(address, hosts=True)):
        yield IdcError("IDC-GW-008", seen=address)


def _parsed(parse: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], IdcError | None]:
    try:
        return parse(), None
    except IdcError as error:
        return {}, error


def _wrong(name: str, observed: Any, wanted: str) -> IdcError:
    return IdcError("IDC-INV-007", name=f"gateway_{name}", observed=observed, wanted=wanted)


CHECKS: dict[str, Callable[[Given, str], Errors]] = {
    "certificate": _certificate, "login": _login, "affinity": _affinity, "audit": _audit, "tenants": _tenants, "front": _front}


def given_errors(given: Given, host: str, only: Sequence[str] = ()) -> list[IdcError]:
    """given: the role's variables by name, without ``gateway_``; ``deployments``: those of the plan, None before there is one.
    only: these of CHECKS, as where secrets have not been read."""
    return [error for name in only or CHECKS for error in CHECKS[name](given, host)]
