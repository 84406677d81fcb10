# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which replica stands on which GPUs of which hosts. Pure and deterministic; private to this collection.

So that as little as possible moves, what stands is kept first: on its very GPUs, else on others of the same hosts. Then come the
replicas that are owed (a number that the deployment says, else one): on what is free, else in the place of extra ones. What is
left is filled with extra ones, the deployments in turn.
"""
from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import count as numbers
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._deployment import Deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import Fleet, Host, Rank
from ansible_collections.idc.llm.plugins.module_utils._layout import Kind, Way, no_such_cut, refuse, ways
from ansible_collections.idc.llm.plugins.module_utils._memory import Estimate, Layout
from ansible_collections.idc.llm.plugins.module_utils._model import Model

SLOT = "blue"
NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Replica:
    """A placed replica: its number within the deployment, its ranks (the head first), the way it is cut (None on CPU)."""

    deployment: Deployment
    number: int
    ranks: Tuple[Rank, ...]
    way: Optional[Way] = None


def engine_name(deployment: str, replica: int, rank: int = 0) -> str:
    """deployment-slot-replica, and the rank's number behind it where it is not the head."""
    return f"{deployment}-{SLOT}-{replica}" + (f"-rank{rank}" if rank else "")


class Placer:
    """Places the replicas of all deployments. models: by deployment name, None where no metadata is to be had."""

    def __init__(self, hosts: Sequence[Host], models: Mapping[str, Optional[Model]], previous: Iterable[Mapping[str, Any]]) -> None:
        self.hosts = list(hosts)
        self.models = models
        self.standing = _standing(previous)
        self.fleet = Fleet(hosts)
        self.placed: Dict[str, Dict[int, Replica]] = {}
        self._ways: Dict[Tuple[str, Kind], List[Way]] = {}

    def place(self, deployments: Sequence[Deployment]) -> List[Replica]:
        """The replicas in the deployments' order. Raises IdcError when one that is owed finds no place.

        Spread over the hosts; where that leaves no room for one that is owed, packed; at last packed without regard to what stands.
        """
        for packed, keep in ((False, True), (True, True), (True, False)):
            self.fleet, self.placed = Fleet(self.hosts), {deployment.name: {} for deployment in deployments}
            lacking = self._owed(deployments, packed, keep)
            if not lacking:
                break
        else:
            self._refuse(lacking[0])
        self._extra(deployments)
        return [replica for deployment in deployments for replica in self._of(deployment)]

    def spare(self, deployment: Deployment) -> int:
        """How many second copies of this deployment's replicas the free GPUs would hold now (at most as many as there are)."""
        chooser = _Chooser(self, deployment)
        found: List[Replica] = []
        while len(found) < len(self._of(deployment)):
            chosen = chooser.next()
            if chosen is None:
                break
            found.append(Replica(deployment, 0, *chosen))
            self._take(found[-1])
        for replica in found:
            self._give_back(replica)
        return len(found)

    def candidates(self, deployment: Deployment) -> List[str]:
        """Hosts on which it may run, in order."""
        return [host.name for host in self.hosts if not deployment.hosts or host.name in deployment.hosts]

    def host_bytes(self, deployment: Deployment) -> float:
        """What a replica keeps in the memory of each of its hosts."""
        model = self.models.get(deployment.name)
        return model.host if model else 0.0

    def ways(self, deployment: Deployment, kind: Kind) -> List[Way]:
        """How it can be cut on this kind of host, best first."""
        key = (deployment.name, kind)
        if key not in self._ways:
            count = sum(self.fleet.kind_of.get(name) == kind for name in deployment.hosts) if deployment.hosts \
                else len(self.fleet.kinds.get(kind, ()))
            model = self.models.get(deployment.name)
            self._ways[key] = ways(deployment, model, kind, count) if model else _unmeasured(deployment, kind, count)
        return self._ways[key]

    def _of(self, deployment: Deployment) -> List[Replica]:
        return [replica for unused_number, replica in sorted(self.placed[deployment.name].items())]

    def _owed(self, deployments: Sequence[Deployment], packed: bool, keep: bool) -> List[Deployment]:
        """Keep what stands, place what is owed; the deployments that lack a replica then."""
        for exact in (True, False) if keep else ():
            self._keep_all(deployments, _owed_count, exact)
            self._keep_all(deployments, _most_count, exact)
        for deployment in deployments:
            self._fill(deployment, _Chooser(self, deployment, packed, least=None))
        lacking = [deployment for deployment in deployments if self._lacks(deployment)]
        if not lacking:
            return []
        extra = [replica for deployment in deployments for replica in self._of(deployment)[_owed_count(deployment):]]
        for replica in extra:
            self._give_back(replica)
            del self.placed[replica.deployment.name][replica.number]
        for deployment in lacking:
            self._fill(deployment, _Chooser(self, deployment, packed, extra))
        for replica in extra:
            if self._free(replica):
                self._note(replica)
        return [deployment for deployment in lacking if self._lacks(deployment)]

    def _lacks(self, deployment: Deployment) -> bool:
        return len(self.placed[deployment.name]) < _owed_count(deployment)

    def _fill(self, deployment: Deployment, chooser: _Chooser) -> None:
        while self._lacks(deployment) and self._put(deployment, chooser):
            pass

    def _extra(self, deployments: Sequence[Deployment]) -> None:
        filling = []
        for deployment in deployments:
            if deployment.replicas is None:
                least = min((_context(replica.way) for replica in self._of(deployment)), default=0)
                filling.append((deployment, _Chooser(self, deployment, least=least, extra_one=True)))
        while filling:
            filling = [(one, chooser) for one, chooser in filling if self._put(one, chooser)]

    def _keep_all(self, deployments: Sequence[Deployment], most: Callable[[Deployment], int], exact: bool) -> None:
        for deployment in deployments:
            placed = self.placed[deployment.name]
            for number, ranks in sorted(self.standing.get(deployment.name, {}).items()):
                if number not in placed and len(placed) < most(deployment):
                    self._keep(deployment, number, ranks, exact)

    def _keep(self, deployment: Deployment, number: int, ranks: Sequence[Mapping[str, Any]], exact: bool) -> None:
        """Place a replica where it stands, if everything there still holds. Not exact: on other GPUs of those hosts, too."""
        hosts = [rank["host"] for rank in ranks]
        kinds = {self.fleet.kind_of.get(host) for host in hosts}
        allowed = deployment.hosts or self.fleet.hosts
        if len(kinds) > 1 or any(host not in self.fleet.hosts or host not in allowed for host in hosts):
            return
        way: Optional[Way] = None
        gpus: List[Optional[Tuple[str, ...]]] = [() for unused_host in hosts]
        if deployment.device == "cuda":
            kind, sizes = kinds.pop(), _sizes(ranks[0])
            way = next((way for way in self.ways(deployment, kind) if _cut(way) == sizes), None) if kind else None
            if way is None:
                return
            gpus = [tuple(rank["gpus"]) if exact else self.fleet.pick(rank["host"], way.estimate.layout, deployment.gpus)
                    for rank in ranks]
        nodes = way.estimate.layout.nodes if way else 1
        replica = Replica(deployment, number, tuple(Rank(host, found or ()) for host, found in zip(hosts, gpus)), way)
        if nodes == len(hosts) == len(set(hosts)) and self._free(replica):
            self._note(replica)

    def _free(self, replica: Replica) -> bool:
        """Whether all that it takes is there and free, and the deployment may have it."""
        deployment, way = replica.deployment, replica.way
        size, wanted = way.estimate.layout.per_node if way else 0, deployment.gpus
        for rank in replica.ranks:
            if not self.fleet.accepts(rank.host, way is None, self.host_bytes(deployment)) or len(rank.gpus) != size:
                return False
            free = {gpu.uuid: str(gpu.index) for gpu in self.fleet.free[rank.host]}
            if len(set(rank.gpus)) < size or not all(
                    gpu in free and (not wanted or gpu in wanted or free[gpu] in wanted) for gpu in rank.gpus):
                return False
        return True

    def _put(self, deployment: Deployment, chooser: _Chooser) -> bool:
        chosen = chooser.next()
        if chosen is None:
            return False
        number = next(number for number in numbers(chooser.number) if number not in self.placed[deployment.name])
        chooser.number = number + 1
        self._note(Replica(deployment, number, *chosen))
        return True

    def _note(self, replica: Replica) -> None:
        self._take(replica)
        self.placed[replica.deployment.name][replica.number] = replica

    def _take(self, replica: Replica) -> None:
        for rank in replica.ranks:
            self.fleet.take(rank, replica.way is None, self.host_bytes(replica.deployment))

    def _give_back(self, replica: Replica) -> None:
        for rank in replica.ranks:
            self.fleet.give_back(rank, replica.way is None, self.host_bytes(replica.deployment))

    def _refuse(self, deployment: Deployment) -> None:
        names = self.candidates(deployment)
        kinds: Dict[Kind, List[str]] = {}
        for name in names:
            kind = self.fleet.kind_of[name]
            if kind and deployment.device == "cuda":
                kinds.setdefault(kind, []).append(name)
        if kinds and not any(self.ways(deployment, kind) for kind in kinds):
            model = self.models.get(deployment.name)
            raise refuse(deployment, model, kinds) if model else no_such_cut(deployment, kinds)
        seen = _shortened([f"{name}: {len(self.fleet.hosts[name].gpus)} GPUs, {len(self.fleet.free[name])} free"
                           if deployment.device == "cuda" else f"{name}: {self.fleet.engines[name]} engines" for name in names])
        raise IdcError("IDC-PLAN-001", deployment=deployment.name, wanted=_owed_count(deployment),
                       placed=len(self.placed[deployment.name]), observed=seen or "no usable host")


class _Chooser:
    """Finds the next place for one deployment, from the best way on the best host downwards.

    Hosts only fill up while it is in use. So one that has no room for a way never gets some again, and is dropped; and a key in
    the heap never gets smaller (but by packing, where nobody else places meanwhile), so the top, its key renewed, is the best.

    displaced: replicas that would have to go for it, the fewer the better; least: tokens of context that a way must leave, None
    for as many as the best way on any host.
    """

    def __init__(self, placer: Placer, deployment: Deployment, packed: bool = False, displaced: Sequence[Replica] = (),
                 least: Optional[int] = 0, extra_one: bool = False) -> None:
        self.placer, self.deployment, self.packed = placer, deployment, packed
        self.number = 0
        self.bytes = placer.host_bytes(deployment)
        self.avoid = frozenset(gpu for replica in displaced for rank in replica.ranks for gpu in rank.gpus)
        self.displaced = _by_host(displaced)
        self.own = _by_host(placer.placed[deployment.name].values())
        self.home = {rank["host"] for ranks in placer.standing.get(deployment.name, {}).values() for rank in ranks}
        self.gpu_hosts = not extra_one or bool(deployment.hosts)  # what runs on CPU is extra where it wastes no GPUs only
        self.heap: Optional[List[Tuple[Any, str]]] = None
        self.last: List[str] = []
        self.ways: List[Dict[Optional[Kind], Way]] = [{}]
        if deployment.device == "cuda":
            found = [way for kind in placer.fleet.kinds for way in placer.ways(deployment, kind)]
            found.sort(key=lambda way: way.rank)
            least = _context(found[0]) if found and least is None else least or 0
            alike: Dict[Any, Dict[Optional[Kind], Way]] = {}  # over all kinds of host, but for ranks of one replica
            for way in found:
                if _context(way) >= least:
                    key = (way.rank, _cut(way), way.kind if way.estimate.layout.nodes > 1 else None)
                    alike.setdefault(key, {})[way.kind] = way
            self.ways = list(alike.values())

    def next(self) -> Optional[Tuple[Tuple[Rank, ...], Optional[Way]]]:
        """The ranks of one more replica and how it is cut, or None when nothing is left."""
        while self.ways:
            ranks = self._ranks(self.ways[0])
            if ranks:
                return ranks, self.ways[0].get(self.placer.fleet.kind_of[ranks[0].host])
            self.ways.pop(0)
            self.heap, self.last = None, []
        return None

    def _ranks(self, ways_here: Mapping[Optional[Kind], Way]) -> Optional[Tuple[Rank, ...]]:
        if self.heap is None:
            self.heap = [(self._key(name), name) for name in self._hosts(ways_here)]
            heapq.heapify(self.heap)
        for name in self.last:  # it may have room for another
            heapq.heappush(self.heap, (self._key(name), name))
        found: List[Rank] = []
        wanted = max((way.estimate.layout.nodes for way in ways_here.values()), default=1)
        while self.heap and len(found) < wanted:
            key, name = heapq.heappop(self.heap)
            now = self._key(name)
            if now > key:  # another deployment has been there since
                heapq.heappush(self.heap, (now, name))
                continue
            rank = self._rank(ways_here.get(self.placer.fleet.kind_of[name]), name)
            if rank:
                found.append(rank)
        if len(found) < wanted:
            return None
        self.last = [rank.host for rank in found]
        for name in self.last:
            self.own[name] = self.own.get(name, 0) + 1
        return tuple(found)

    def _hosts(self, ways_here: Mapping[Optional[Kind], Way]) -> List[str]:
        fleet, allowed = self.placer.fleet, set(self.deployment.hosts)
        if self.deployment.device == "cpu":
            names = [name for name, host in fleet.hosts.items() if self.gpu_hosts or not host.gpus]
        else:
            names = [name for way in ways_here.values() for name in fleet.room[way.kind]
                     if len(fleet.free[name]) >= way.estimate.layout.per_node]
        return [name for name in names if not allowed or name in allowed]

    def _key(self, name: str) -> Tuple[Any, ...]:
        """Smaller is better: seen in this run, little to displace, few replicas of its own and few engines (packed: few free
        GPUs), no GPUs to waste, its files there perhaps, then the inventory's order."""
        fleet = self.placer.fleet
        full = (0, len(fleet.free[name])) if self.packed else (self.own.get(name, 0), fleet.engines[name])
        idle = len(fleet.free[name]) if self.deployment.device == "cpu" else 0
        return (not fleet.hosts[name].fresh, self.displaced.get(name, 0), *full, idle, name not in self.home, fleet.order[name])

    def _rank(self, way: Optional[Way], name: str) -> Optional[Rank]:
        fleet = self.placer.fleet
        if not fleet.accepts(name, way is None, self.bytes):
            return None
        gpus = fleet.pick(name, way.estimate.layout, self.deployment.gpus, self.avoid) if way else ()
        return None if gpus is None else Rank(name, gpus)


def _owed_count(deployment: Deployment) -> int:
    return 1 if deployment.replicas is None else deployment.replicas


def _most_count(deployment: Deployment) -> int:
    return NO_LIMIT if deployment.replicas is None else deployment.replicas


def _context(way: Optional[Way]) -> int:
    return (way.estimate.context or 0) if way else 0


def _by_host(replicas: Iterable[Replica]) -> Dict[str, int]:
    found: Dict[str, int] = {}
    for replica in replicas:
        for rank in replica.ranks:
            found[rank.host] = found.get(rank.host, 0) + 1
    return found


def _standing(previous: Iterable[Mapping[str, Any]]) -> Dict[str, Dict[int, List[Mapping[str, Any]]]]:
    """Engines of the last plan: deployment → number of the replica → its ranks in order."""
    standing: Dict[str, Dict[int, List[Mapping[str, Any]]]] = {}
    for engine in previous:
        standing.setdefault(engine["deployment"], {}).setdefault(int(engine["replica"]), []).append(engine)
    for engines in standing.values():
        for ranks in engines.values():
            ranks.sort(key=lambda engine: int(engine["rank"]))
    return standing


def _sizes(engine: Mapping[str, Any]) -> Tuple[Any, ...]:
    """(tensor, pipeline, data) of an engine of the last plan, from what vLLM was told."""
    config = engine.get("config") or {}
    return tuple(config.get(f"{name}-parallel-size", 1) for name in ("tensor", "pipeline", "data"))


def _cut(way: Way) -> Tuple[Any, ...]:
    layout = way.estimate.layout
    return layout.tensor, layout.pipeline, layout.data


def _unmeasured(deployment: Deployment, kind: Kind, hosts: int) -> List[Way]:
    """The one way of a deployment whose model is not known: the sizes that it says, memory unchecked."""
    tensor, pipeline, data = deployment.sizes or (1, 1, 1)
    total = tensor * pipeline * data
    nodes = -(-total // kind.gpus)
    if nodes > hosts or total % nodes or tensor > total // nodes:
        return []
    return [Way(kind, Estimate(Layout(tensor, pipeline, data, bool(deployment.expert_parallel), nodes), 0.0, 0.0, 0.0))]


def _shortened(rows: Sequence[str], most: int = 12) -> str:
    return ", ".join(rows[:most]) + (f" and {len(rows) - most} more" if len(rows) > most else "")
