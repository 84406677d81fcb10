# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which port each engine and each master listens on; the collection's own ports. Pure; private to this collection."""
from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.idc.llm.plugins.module_utils._deployment import Deployment
from ansible_collections.idc.llm.plugins.module_utils._placement import Replica, engine_name

PORTS: Dict[str, int] = {
    "gateway": 443, "engine": 8000, "rank0": 29501, "store": 8090, "node": 9100, "nginx": 9113, "blackbox": 9115,
    "gpu": 9400, "prometheus": 9090, "alertmanager": 9093, "alertmanager_cluster": 9094,
}


class Ports:
    """The port of each engine, and of each head's master (what its other ranks meet at). No port twice on a host.

    What a deployment fixes goes first, even where another engine was: its engines on a host have the ports from there on. Then
    those of the last plan are kept, and the rest gets the first that is free and was nobody's.
    """

    def __init__(self, replicas: Sequence[Replica], wanted_ports: Mapping[str, int],
                 previous: Sequence[Mapping[str, Any]]) -> None:
        self.ports: Dict[str, int] = {}
        self.masters: Dict[str, int] = {}
        self.taken: Dict[str, Set[int]] = {}
        self.services = {port for name, port in wanted_ports.items() if name not in ("engine", "rank0")}
        self.old: Dict[str, Mapping[str, Any]] = {engine["name"]: engine for engine in previous}
        self.before: Dict[str, Set[int]] = {}
        for engine in previous:
            self.before.setdefault(engine["host"], set()).update({engine["port"], _master_of(engine) or engine["port"]})
        ranks = list(_ranks(replicas))
        fixed: Dict[Tuple[str, str], List[str]] = {}
        for deployment, name, host in ranks:
            if deployment.port:
                fixed.setdefault((deployment.name, host), []).append(name)
        wanted = {deployment.name: deployment.port for deployment, unused_name, unused_host in ranks}
        for (deployment_name, host), names in fixed.items():
            first = wanted[deployment_name] or 0
            for name in names:
                self._keep(self.ports, name, host, range(first, first + len(names)))
            self._give(self.ports, names, host, first, set())
        loose = [(name, host) for deployment, name, host in ranks if not deployment.port]
        heads = [(engine_name(replica.deployment.name, replica.number), replica.ranks[0].host)
                 for replica in replicas if len(replica.ranks) > 1]
        for name, host in loose:
            self._keep(self.ports, name, host)
        for name, host in heads:
            self._keep(self.masters, name, host)
        for given, rows, first in ((self.ports, loose, wanted_ports["engine"]), (self.masters, heads, wanted_ports["rank0"])):
            for name, host in rows:
                self._give(given, [name], host, first, self.services | self.before.get(host, set()))

    def _keep(self, given: Dict[str, int], name: str, host: str, among: Optional[Sequence[int]] = None) -> None:
        old = self.old.get(name)
        port = (_master_of(old) if given is self.masters else old["port"]) if old and old["host"] == host else None
        taken = self.taken.setdefault(host, set())
        if port and port not in taken and (port not in self.services if among is None else port in among):
            given[name] = port
            taken.add(port)

    def _give(self, given: Dict[str, int], names: Sequence[str], host: str, port: int, avoid: Set[int]) -> None:
        taken = self.taken.setdefault(host, set())
        for name in names:
            if name not in given:
                while port in taken or port in avoid:
                    port += 1
                given[name] = port
                taken.add(port)


def _ranks(replicas: Sequence[Replica]) -> Iterator[Tuple[Deployment, str, str]]:
    """(deployment, engine's name, host) of every rank."""
    for replica in replicas:
        for number, rank in enumerate(replica.ranks):
            yield replica.deployment, engine_name(replica.deployment.name, replica.number, number), rank.host


def _master_of(engine: Mapping[str, Any]) -> Optional[int]:
    """The master port of a kept head; None of other engines."""
    config = engine.get("config") or {}
    return None if engine["rank"] else config.get("master-port") or config.get("data-parallel-rpc-port")
