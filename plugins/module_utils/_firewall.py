# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may reach which port of a host's engines, by the plan. Pure; private to this collection."""
from __future__ import annotations

import ipaddress
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Union

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
CLIENTS = ("gateways", "monitors")
MASTERS = ("master-port", "data-parallel-rpc-port")


def network_problem(text: Any, hosts: bool = False) -> str:
    """Why it is no address or network, "" where it is one; hosts: bits beyond the mask are fine, as of a host in its network."""
    try:
        ipaddress.ip_network(str(text), strict=not hosts)
    except ValueError as error:
        return str(error)
    return ""


def network_errors(variable: str, networks: Sequence[Any], host: str) -> List[IdcError]:
    """One error for each entry of a list of addresses and networks that is none."""
    return [IdcError("IDC-ENG-027", host=host, variable=variable, seen=problem,
                     wanted=Said("addresses and networks such as 10.1.2.0/24", "地址或网段，如 10.1.2.0/24"))
            for problem in map(network_problem, networks) if problem]


def rules(plan: Mapping[str, Any], host: str, more: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """One row for each port to guard on a host: port, what (for a person), ip and ip6 (who may reach it, without overlaps).

    An engine's HTTP port is for gateways, monitors, ``more``, and the hosts of the same replica; a master's port for the latter
    alone. An engine that listens on loopback needs none, a rank without HTTP neither.
    """
    for error in network_errors("vllm_firewall_allowed_networks", more, host):
        raise error
    clients = [one["address"] for one in plan["hosts"].values() if set(one["groups"]) & set(CLIENTS) and one["address"]]
    rows: Dict[int, Dict[str, Any]] = {}
    for engine in plan["engines"]:
        if engine["host"] != host or not engine["head"]:
            continue
        config = engine["config"]
        ranks = [one["address"] for one in plan["engines"]
                 if (one["deployment"], one["slot"], one["replica"]) == (engine["deployment"], engine["slot"], engine["replica"])]
        if not _loopback(str(config.get("host") or "")):
            _add(rows, int(config.get("port") or engine["port"]), engine["name"], clients + list(more) + ranks)
        for key in MASTERS:
            if config.get(key):
                _add(rows, int(config[key]), f"{engine['name']}, ranks", ranks)
    return [rows[port] for port in sorted(rows)]


def watch_rules(plan: Mapping[str, Any], host: str, more: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """The same for what watches: a host's exporters, Prometheus and Alertmanager are for monitors and ``more``; udp: that, too."""
    for error in network_errors("exporters_firewall_allowed_networks", more, host):
        raise error
    monitors = [one["address"] for one in plan["hosts"].values() if "monitors" in one["groups"] and one["address"]]
    rows: Dict[int, Dict[str, Any]] = {}
    for row in plan["scrape"]:
        if row["host"] == host and row["job"] != "vllm":
            _add(rows, row["port"], row["job"], monitors + list(more))
            if row["job"] == "alertmanager" and len(monitors) > 1:
                _add(rows, plan["ports"]["alertmanager_cluster"], "alertmanager, its cluster", monitors)
                rows[plan["ports"]["alertmanager_cluster"]]["udp"] = True
    return [rows[port] for port in sorted(rows)]


def _add(rows: Dict[int, Dict[str, Any]], port: int, what: str, allowed: Sequence[str]) -> None:
    networks = [ipaddress.ip_network(one) for one in allowed]
    rows[port] = {"port": port, "what": what, "ip": list(_merged(networks, 4)), "ip6": list(_merged(networks, 6))}


def _merged(networks: Sequence[Network], version: int) -> Iterator[str]:
    """nftables refuses a set whose intervals overlap."""
    own: Any = [one for one in networks if one.version == version]
    for one in ipaddress.collapse_addresses(own):
        yield str(one.network_address if one.num_addresses == 1 else one)


def _loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
