# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role gateway."""
from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.module_utils import _gateway, _gateway_acme, _gateway_given, _gateway_login
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError


def gateway_zones(tenants: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The zones of nginx's that these tenants' limits need: name, rate (a minute), burst, most (at once)."""
    return [{"name": zone.name, **asdict(zone)} for zone in _gateway.zones(tenants)]


def gateway_by_certificate(tenants: Mapping[str, Any]) -> list[dict[str, str]]:
    """Who is known by a certificate alone: subject, tenant."""
    return _gateway.by_certificate(tenants)


def gateway_login(login: Any, tenants: Mapping[str, Any], folder: str, lang: str = "en") -> dict[str, Any]:
    """What _agent_login.py reads: ldap, oidc, tenants, believed_s; nothing where the site has no login of its own."""
    try:
        return _gateway_login.parse_login(login, tenants, folder)
    except IdcError as error:
        raise AnsibleFilterError(error.render(lang)) from error


def gateway_acme(acme: Any, domain: str, more: Sequence[str], keyed: bool = False, lang: str = "en") -> dict[str, Any]:
    """The site's ACME server: directory, ca, email, eab, names, folder; nothing where it has none."""
    try:
        return _gateway_acme.parse_acme(acme, domain, more, keyed)
    except IdcError as error:
        raise AnsibleFilterError(error.render(lang)) from error


def gateway_acme_due(kept: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Why a certificate has to be asked for (reason), and whether the one at hand will do for now (lasts)."""
    return _gateway_acme.acme_due(kept, names)


def gateway_errors(given: Mapping[str, Any], host: str = "", lang: str = "en", only: Sequence[str] = ()) -> list[str]:
    """What is wrong with the role's variables, given by name without ``gateway_``; deployments: those of the plan, or None."""
    return [error.render(lang) for error in _gateway_given.given_errors(given, host, only)]


def gateway_upstreams(plan: Mapping[str, Any], affinity: Mapping[str, Any], lang: str = "en") -> list[dict[str, Any]]:
    """The plan's upstreams: deployment, servers, affinity ("", header or prefix), with which each server has max_conns, and tried,
    whether it is a canary that has engines, whose servers have behind, the deployment in whose place it is tried."""
    rows = plan["gateway"]["upstreams"]
    try:
        found = _gateway.affinities(affinity, [row["deployment"] for row in rows])
    except IdcError as error:
        raise AnsibleFilterError(error.render(lang)) from error
    made = []
    for row in rows:
        own = found.get(row["deployment"])
        more = {**({"max_conns": own["at_once"]} if own else {}), **({"behind": row["canary"]["of"]} if row.get("canary") else {})}
        made.append({"deployment": row["deployment"], "servers": [{**server, **more} for server in row["servers"]],
                     "affinity": own["by"] if own else "", "tried": bool(row.get("canary") and row["servers"])})
    return made


def gateway_rights(tenants: Mapping[str, Any], plan: Mapping[str, Any], affinity: Mapping[str, Any]) -> str:
    """What idc_gateway.lua reads, as JSON."""
    contexts = {engine["deployment"]: engine["config"].get("max-model-len") for engine in plan["engines"]}
    upstreams = plan["gateway"]["upstreams"]
    deployments = {row["deployment"]: contexts.get(row["deployment"]) for row in upstreams}
    found = _gateway.affinities(affinity, list(deployments))
    serving = [row["deployment"] for row in upstreams if row["servers"]]
    return json.dumps(_gateway.rights(tenants, deployments, found, _canaries(plan), serving), indent=1, sort_keys=True)


def gateway_proofs(tenants: Mapping[str, Any], plan: Mapping[str, Any]) -> list[dict[str, str]]:
    """By whose key each deployment of the plan is proven: deployment, tenant."""
    return _gateway.proofs(tenants, [upstream["deployment"] for upstream in plan["gateway"]["upstreams"]], _canaries(plan))


def _canaries(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {row["deployment"]: row["canary"] for row in plan["gateway"]["upstreams"] if row.get("canary")}


def gateway_usage(gateways: Sequence[Sequence[Mapping[str, Any]]], shape: str = "table") -> Any:
    """What tenants used by all gateways together: lines of a table or of CSV, or rows."""
    if shape not in _gateway.USAGE_SHAPES:
        raise AnsibleFilterError(f"idc_llm_usage_format is {shape}; wanted {', '.join(_gateway.USAGE_SHAPES)}")
    return _gateway.usage(gateways, shape)


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        named = (gateway_acme, gateway_acme_due, gateway_by_certificate, gateway_errors, gateway_login,
                 gateway_proofs, gateway_rights, gateway_upstreams, gateway_usage, gateway_zones)
        return {function.__name__: function for function in named}
