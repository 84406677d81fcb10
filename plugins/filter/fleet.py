# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that give the pure questions of preflight and planner what the playbook knows."""
from __future__ import annotations

import json
from typing import Any, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _firewall, _fleet, _inventory, _plan_view
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment


def fleet_facts(hostvars: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What is known of each host of the fleet in this run: groups, address, gpu (of idc_llm_gpu, what planning needs), fresh;
    and what the inventory says for watching it: rack, gpu_exporter, probed."""
    fleet: dict[str, Any] = {}
    for group in _inventory.GROUPS:
        for name in groups.get(group, ()):
            fleet.setdefault(name, {"groups": []})["groups"].append(group)
    for name, entry in fleet.items():
        variables = hostvars[name]
        facts = variables.get("ansible_facts") or {}
        gpu = facts.get("idc_llm_gpu")
        entry["address"] = _fleet.address_of(variables)
        entry["gpu"] = None if gpu is None else _fleet.for_planning(gpu)
        entry["rack"] = variables.get("idc_llm_rack") or ""
        entry["gpu_exporter"] = variables.get("exporters_gpu") or "auto" if "gpu_nodes" in entry["groups"] else "none"
        entry["probed"] = not variables.get("gateway_proxy_protocol")
        entry["fresh"] = gpu is not None if "gpu_nodes" in entry["groups"] else "default_ipv4" in facts
    return fleet


def inventory_errors(hostvars: Mapping[str, Any], groups: Mapping[str, Sequence[str]], variables: Mapping[str, Any],
                     need_secrets: bool = True, lang: str = "en") -> list[str]:
    """Sentences about all that is wrong with the inventory; empty when it is sound."""
    names = [name for host in groups.get("all", ()) for name in hostvars[host]]
    site = _inventory.Site(groups=groups, variables=variables, names=names)
    return [error.render(lang) for error in _inventory.inventory_errors(site, need_secrets)]


def python_error(seen: str, host: str, core: str, lang: str = "en") -> str:
    """One sentence about a Python that this ansible-core cannot use, or an empty string."""
    error = _inventory.python_error(host, seen, core)
    return error.render(lang) if error else ""


def form_errors(results: Sequence[Mapping[str, Any]], host: str, lang: str = "en") -> dict[str, list[str]]:
    """Role → sentences about its variables that are not of their type; results: of validate_argument_spec, in a loop over roles."""
    found = {row["item"]: _inventory.form_errors(host, row) for row in results}
    return {role: [error.render(lang) for error in errors] for role, errors in found.items() if errors}


def network_errors(networks: Sequence[Any], variable: str, host: str, lang: str = "en") -> list[str]:
    """Sentences about entries of a list of addresses and networks that are none."""
    return [error.render(lang) for error in _firewall.network_errors(variable, networks, host)]


def media_paths(deployments: Sequence[Any], store_root: str) -> list[str]:
    """Manifests to look for on a host before anything is changed there."""
    parsed = [parse_deployment(raw, position) for position, raw in enumerate(deployments, 1)]
    return _inventory.media_paths(parsed, store_root)


def host_errors(facts: Mapping[str, Any], host: str, deployments: Sequence[Any], stats: Sequence[Mapping[str, Any]],
                address: Optional[str], store_root: str, engine: Sequence[str], serves: bool,
                lang: str = "en", unpushed: str = "") -> list[str]:
    """Sentences about all that makes a host unfit; stats: results of ansible.builtin.stat over the paths looked for."""
    parsed = [parse_deployment(raw, position) for position, raw in enumerate(deployments, 1)]
    state = _inventory.HostState(
        name=host, os_family=facts.get("os_family", ""), distribution=facts.get("distribution", "unknown"),
        service_manager=facts.get("service_mgr", "none"), addresses=facts.get("all_ipv4_addresses") or [],
        address=address or "", paths={row["item"]: row["stat"]["exists"] for row in stats if "stat" in row})
    return [error.render(lang) for error in _inventory.host_errors(state, parsed, store_root, engine, serves, unpushed)]


def status_table(hostvars: Mapping[str, Any], plan: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """A table of the engines: where, with what, whether a token came back just now, whether gateways leave it out."""
    probes = {}
    for host in groups.get("gpu_nodes", ()):
        for row in (hostvars[host].get("__idc_llm_probes") or {}).get("results") or ():
            probes[row["item"]["name"]] = row
    gateways: dict[str, Optional[Mapping[str, Any]]] = {}
    for host in groups.get("gateways", ()):
        said = (hostvars[host].get("__gateway_status") or {}).get("stdout")
        gateways[host] = json.loads(said) if said else None
    return _plan_view.aligned(_plan_view.status_rows(plan, probes, gateways))


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Any]:
        """Name → function, as Ansible wants it."""
        return {"fleet_facts": fleet_facts, "inventory_errors": inventory_errors, "python_error": python_error,
                "form_errors": form_errors, "network_errors": network_errors, "media_paths": media_paths,
                "host_errors": host_errors, "status_table": status_table}
