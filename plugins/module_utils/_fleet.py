# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts as the planner sees them: from gpu_facts, or from a hardware profile on paper; and what is still free on them.

Pure; private to this collection.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import AbstractSet, Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._layout import Kind, card_of
from ansible_collections.idc.llm.plugins.module_utils._memory import Card, Layout
from ansible_collections.idc.llm.plugins.module_utils._products import GIB, PROFILES, product_by_pci

OURS = re.compile(r"idc-vllm@(.+)\.service")
IDLE_BYTES = GIB           # memory in use that no process explains: above this somebody whom we don't see computes there
PAPER_NETWORK = "192.0.2"  # addresses of hosts on paper: a documentation network (RFC 5737)


@dataclass(frozen=True)
class Gpu:
    """One usable GPU. uuid: ``pci:<address>`` before there is a driver; group: GPUs of one number share NVLink (or, on PCIe
    alone, a NUMA node)."""

    uuid: str
    index: int
    group: int
    card: Card


@dataclass(frozen=True)
class Host:
    """One host as the planner sees it.

    gpus: the usable ones, in index order, all of one card; unusable: indices and uuids of the others; fresh: its facts are of
    this run; accepted: acceptance's verdict, None when there is none; refused: why, where it is False; notes: sentences on what of
    it is left out; nccl: environment of engines that span hosts; cards: how many GPUs there are, usable or not; gpu_watched: a GPU
    exporter runs there; rack: its place, "" where the inventory says none; probed: a caller's TLS hello reaches it without a
    balancer's PROXY line before it.
    """

    name: str
    groups: Tuple[str, ...]
    address: Optional[str] = None
    gpus: Tuple[Gpu, ...] = ()
    unusable: Tuple[str, ...] = ()
    provisional: bool = False
    fresh: bool = True
    accepted: Optional[bool] = None
    refused: str = ""
    nvlink: bool = False
    memory: int = 0
    rdma: float = 0.0
    store_free: Optional[int] = None
    nccl: Mapping[str, str] = field(default_factory=dict)
    notes: Tuple[str, ...] = ()
    cards: int = 0
    gpu_watched: bool = False
    rack: str = ""
    probed: bool = True

    @property
    def kind(self) -> Optional[Kind]:
        """Equal for hosts that can be planned alike; None without a usable GPU."""
        if not self.gpus:
            return None
        sizes: Dict[int, int] = {}
        for gpu in self.gpus:
            sizes[gpu.group] = sizes.get(gpu.group, 0) + 1
        return Kind(self.gpus[0].card, len(self.gpus), max(sizes.values()) if self.nvlink else 1,
                    self.memory // (16 * GIB) * 16 * GIB, self.rdma)


PLANNED = ("index", "uuid", "name", "compute_capability", "memory_total_bytes", "memory_reserved_bytes", "memory_used_bytes",
           "mig_enabled", "healthy", "health_reasons", "processes", "numa_node")


def own_address(variables: Mapping[str, Any]) -> str:
    """What the inventory says, "" where nothing is said, or it is made of facts of a host that this run has not seen: Ansible's
    undefined value, which may be handed on and not looked at."""
    address = variables.get("idc_llm_address")
    return address if isinstance(address, str) else ""


def address_of(variables: Mapping[str, Any]) -> Optional[str]:
    """Of a host, with its facts among its variables: what the inventory says, or that of its default route."""
    facts = variables.get("ansible_facts") or {}
    return own_address(variables) or (facts.get("default_ipv4") or {}).get("address")


def for_planning(fact: Mapping[str, Any]) -> Dict[str, Any]:
    """The part of the fact idc_llm_gpu that planning needs, and that is kept for runs that do not reach the host: no readings."""
    topology = fact.get("topology") or {}
    return {
        **{key: fact.get(key) for key in ("state", "rdma", "nccl", "host", "store", "pci_devices")},
        **{key: _verdict(fact.get(key)) for key in ("acceptance", "acceptance_now")},
        "gpus": [{key: row.get(key) for key in PLANNED} for row in fact.get("gpus") or ()],
        "topology": {"link": topology.get("link"), "domains": topology.get("domains") or []},
    }


def _verdict(found: Any) -> Optional[Dict[str, Any]]:
    """What planning needs of acceptance's verdict: whether, and what failed."""
    if not isinstance(found, Mapping):
        return None
    bad = [check for check in found.get("checks") or () if not check["ok"]]
    failed = [f"{check['name']}: {check['observed']}, wanted {check['wanted']}" for check in bad]
    return {"accepted": found.get("accepted"), "failed": failed or list(found.get("failed") or ())}


def host_from_facts(name: str, entry: Mapping[str, Any], foresee: bool = False) -> Host:
    """A Host from what ``fleet_facts`` gives: address, groups, gpu (the fact idc_llm_gpu, or None), fresh.

    foresee: in check mode, where acceptance has not written its verdict yet, the verdict that it would write counts.
    """
    fact = entry.get("gpu") or {}
    found, notes, provisional = _gpus(name, fact)
    gpus = _of_one_card(found)
    if len(gpus) < len(found):
        notes.append(f"{name}: has cards of several kinds; only its {len(gpus)} × {gpus[0].card.name} are planned.")
    planned = {gpu.index for gpu in gpus}
    others = [row for row in fact.get("gpus") or () if row.get("index") not in planned]
    verdict = _verdict(fact.get("acceptance")) or (_verdict(fact.get("acceptance_now")) if foresee else None) or {}
    failed = list(verdict.get("failed") or ())
    refused = "; ".join(failed[:2] + [f"and {len(failed) - 2} more"] * (len(failed) > 2))
    used = str((fact.get("nccl") or {}).get("NCCL_IB_HCA") or "").lstrip("=").split(",")  # what engines across hosts speak over
    rates = [port.get("rate_gbps") or 0.0 for port in fact.get("rdma") or () if f"{port.get('device')}:{port.get('port')}" in used]
    cards = max(len(fact.get("gpus") or ()), len(gpus))
    notes += [f"{name}: {card['vendor']} {card.get('model') or card['device_id']} at {card['address']} is left out: {card['note']}."
              for card in fact.get("pci_devices") or () if card.get("served") is False]
    return Host(
        name=name, groups=tuple(entry.get("groups") or ()), address=entry.get("address"), gpus=tuple(gpus),
        unusable=tuple(str(row[key]) for row in others for key in ("index", "uuid") if row.get(key) is not None),
        provisional=provisional, fresh=bool(entry.get("fresh", True)), accepted=verdict.get("accepted"),
        refused=refused, nvlink=bool(_domains(fact)), rdma=float(sum(rates)),
        memory=int((fact.get("host") or {}).get("memory_total_bytes") or 0),
        store_free=(fact.get("store") or {}).get("free_bytes"), nccl=dict(fact.get("nccl") or {}), notes=tuple(notes),
        cards=cards, gpu_watched=gpu_watched(str(entry.get("gpu_exporter") or "auto"), cards), rack=str(entry.get("rack") or ""),
        probed=bool(entry.get("probed", True)))


def gpu_watched(wish: str, cards: int) -> bool:
    """Whether a GPU exporter belongs on a host. wish: its C(exporters_gpu); one that names an exporter needs no card to be seen."""
    return wish in ("dcgm", "nvitop") or (wish == "auto" and cards > 0)


def _of_one_card(gpus: Sequence[Gpu]) -> List[Gpu]:
    """Those of the kind of card that there are most of, each with the least memory of them: drivers reserve a bit more here and
    there, and an engine takes the same share of each."""
    alike: Dict[Tuple[str, int, Tuple[int, int]], List[Gpu]] = {}
    for gpu in gpus:
        alike.setdefault((gpu.card.name, gpu.card.total, gpu.card.capability), []).append(gpu)
    most = max(alike.values(), key=len, default=[])
    card = min((gpu.card for gpu in most), key=lambda card: card.memory, default=None)
    return [replace(gpu, card=card) for gpu in most] if card else []


def _gpus(name: str, fact: Mapping[str, Any]) -> Tuple[List[Gpu], List[str], bool]:
    """(usable GPUs, sentences on the others, whether they are known by PCI id only)."""
    rows = fact.get("gpus") or ()
    if not rows and fact.get("state") not in (None, "ok"):
        return _by_pci(name, fact)
    groups = _groups(fact, rows)
    gpus, notes = [], []
    for row in rows:
        reason = left_out(row)
        if reason:
            notes.append(f"{name}: GPU {row.get('index')} is left out: {reason}.")
            continue
        card = card_of(str(row.get("name")), int(row["memory_total_bytes"]), str(row["compute_capability"]),
                       row.get("memory_reserved_bytes"))
        gpus.append(Gpu(row["uuid"], row["index"], groups[row["index"]], card))
    return gpus, notes, False


def _by_pci(name: str, fact: Mapping[str, Any]) -> Tuple[List[Gpu], List[str], bool]:
    """What _gpus says, before there is a driver: cards by their PCI ids."""
    gpus, notes = [], []
    for index, row in enumerate(row for row in fact.get("pci_devices") or () if row.get("vendor") == "nvidia"):
        product = product_by_pci(str(row.get("device_id")))
        if product:
            card = card_of(product.name, product.memory_bytes, product.compute_capability)
            gpus.append(Gpu(f"pci:{row['address']}", index, row.get("numa_node") or 0, card))
        else:
            notes.append(f"{name}: the card at {row.get('address')} is left out: {row.get('device_id')} is not known yet.")
    return gpus, notes, bool(gpus)


def left_out(row: Mapping[str, Any]) -> Optional[str]:
    """Why a GPU of gpu_facts may not be planned; None where it may. Processes of our own engines are ours."""
    if row.get("healthy") is False:
        return "; ".join(row.get("health_reasons") or ()) or "it is not healthy"
    if row.get("mig_enabled"):
        return "it is cut into MIG slices"
    if any(not row.get(key) for key in ("uuid", "memory_total_bytes", "compute_capability")):
        return "its uuid, memory or compute capability is not known"
    if row.get("processes") is None:  # nobody can tell whose they are; ours, after the first run
        return None
    processes = [one for one in row["processes"] if isinstance(one, Mapping)]
    others = [one for one in processes if not OURS.fullmatch(str(one.get("unit") or ""))]
    if others:
        who = ", ".join(sorted({str(one.get("unit") or f"process {one.get('pid')}") for one in others}))
        return f"in use by {who}"
    if not processes and (row.get("memory_used_bytes") or 0) > IDLE_BYTES:
        return f"{(row['memory_used_bytes']) / 1e9:.1f} GB are in use by a process that is not seen"
    return None


def _domains(fact: Mapping[str, Any]) -> List[Sequence[int]]:
    """Indices of the GPUs that reach each other over NVLink; none without."""
    topology = fact.get("topology") or {}
    return [domain for domain in topology.get("domains") or () if len(domain) > 1] if topology.get("link") == "nvlink" else []


def _groups(fact: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Dict[int, int]:
    """NVLink domain of each GPU index (one without a link to others: a number of its own); on PCIe alone its NUMA node."""
    domains = _domains(fact)
    if not domains:
        return {row["index"]: row.get("numa_node") or 0 for row in rows}
    alone = {row["index"]: len(domains) + number for number, row in enumerate(rows)}
    return {**alone, **{index: number for number, domain in enumerate(domains) for index in domain}}


def hosts_on_paper(profile: str, names: Sequence[str]) -> List[Host]:
    """Hosts of hardware profiles: ``hgx-h100-8`` for each of the names, or ``4*hgx-h100-8,2*l40s-4`` instead of them.

    Raises IdcError (IDC-PLAN-014) for what is no profile.
    """
    wanted: List[Tuple[str, str]] = []
    counts: Dict[str, int] = {}
    parts = [part.strip() for part in profile.split(",") if part.strip()]
    for part in parts or [profile]:
        match = re.fullmatch(r"(?:(\d{1,5})\s*[*x×]\s*)?(\S+)", part)
        if not match or match.group(2) not in PROFILES:
            raise IdcError("IDC-PLAN-014", observed=part or "nothing", known=", ".join(sorted(PROFILES)))
        count, kind = match.groups()
        if count is None and len(parts) == 1:
            wanted += [(name, kind) for name in names]
        else:
            first = counts.get(kind, 0)
            counts[kind] = first + int(count or 1)
            wanted += [(f"{kind}-{number}", kind) for number in range(first + 1, counts[kind] + 1)]
    return [_paper_host(name, kind, number) for number, (name, kind) in enumerate(wanted, 1)]


def _paper_host(name: str, kind: str, number: int) -> Host:
    profile = PROFILES[kind]
    card = card_of(profile.product.name, profile.product.memory_bytes, profile.product.compute_capability)
    size = profile.domain if profile.domain > 1 else max(profile.gpus // 2, 1)
    gpus = tuple(Gpu(f"paper-{name}-{index}", index, index // size, card) for index in range(profile.gpus))
    return Host(name=name, groups=("gpu_nodes",), address=f"{PAPER_NETWORK}.{number}" if number < 255 else f"host-{number}.invalid",
                gpus=gpus, cards=len(gpus), gpu_watched=True, provisional=True, accepted=True,
                nvlink=profile.domain > 1, memory=profile.host_memory_bytes,
                rdma=profile.rdma_gbps or 0.0)


@dataclass(frozen=True)
class Rank:
    """One host's part of a replica."""

    host: str
    gpus: Tuple[str, ...]


class Fleet:
    """What is free on each host, while replicas are placed. room: the hosts of each kind that have a free GPU."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.order = {host.name: number for number, host in enumerate(hosts)}
        self.free: Dict[str, List[Gpu]] = {host.name: list(host.gpus) for host in hosts}
        self.engines: Dict[str, int] = {host.name: 0 for host in hosts}
        self.memory: Dict[str, float] = {host.name: float(host.memory) for host in hosts}
        self.cpu: Set[str] = set()
        self.kind_of = _kinds(hosts)
        self.kinds: Dict[Kind, List[str]] = {}
        for name, kind in self.kind_of.items():
            if kind:
                self.kinds.setdefault(kind, []).append(name)
        self.room: Dict[Kind, Set[str]] = {kind: set(names) for kind, names in self.kinds.items()}

    def take(self, rank: Rank, cpu: bool, memory: float = 0.0) -> None:
        """Give these GPUs (or, for CPU, the host) away, and so much of the host's memory."""
        gone = set(rank.gpus)
        self._change(rank.host, [gpu for gpu in self.free[rank.host] if gpu.uuid not in gone], 1, -memory)
        if cpu:
            self.cpu.add(rank.host)

    def give_back(self, rank: Rank, cpu: bool, memory: float = 0.0) -> None:
        """Undo take."""
        held = {gpu.uuid for gpu in self.free[rank.host]}.union(rank.gpus)
        self._change(rank.host, [gpu for gpu in self.hosts[rank.host].gpus if gpu.uuid in held], -1, memory)
        if cpu:
            self.cpu.discard(rank.host)

    def _change(self, host: str, free: List[Gpu], engines: int, memory: float) -> None:
        self.free[host] = free
        self.engines[host] += engines
        self.memory[host] += memory
        kind = self.kind_of[host]
        if kind:
            (self.room[kind].add if free else self.room[kind].discard)(host)

    def accepts(self, host: str, cpu: bool, memory: float) -> bool:
        """Whether one more engine may stand there, GPUs aside: one on CPU needs the whole host."""
        enough = not self.hosts[host].memory or self.memory[host] >= memory
        return enough and host not in self.cpu and not (cpu and self.engines[host])

    def pick(self, host: str, layout: Layout, only: Sequence[str] = (), avoid: AbstractSet[str] = frozenset()
             ) -> Optional[Tuple[str, ...]]:
        """GPUs of this host for one rank, or None: in one NVLink domain (on PCIe: NUMA node), the fullest that has room; else
        whole tensor-parallel groups in each.

        only: indices or uuids that it is confined to; avoid: GPUs to take last.
        """
        free = [gpu for gpu in self.free[host] if not only or gpu.uuid in only or str(gpu.index) in only]
        size, kind = layout.per_node, self.kind_of[host]
        if len(free) < size or kind is None:
            return None
        groups: Dict[int, List[Gpu]] = {}
        for gpu in sorted(free, key=lambda one: one.uuid in avoid):
            groups.setdefault(gpu.group, []).append(gpu)
        whole = [group for group in groups.values() if len(group) >= size]
        if whole:
            chosen = min(whole, key=lambda group: (sum(gpu.uuid in avoid for gpu in group[:size]), len(group), group[0].index))
        else:
            chosen = [gpu for unused_number, group in sorted(groups.items())
                      for gpu in group[:len(group) // layout.tensor * layout.tensor]]
            if len(chosen) < size and layout.tensor > kind.domain:  # no domain is that large: PCIe, or the deployment's own wish
                chosen = free
        return tuple(gpu.uuid for gpu in chosen[:size]) if len(chosen) >= size else None


def _kinds(hosts: Sequence[Host]) -> Dict[str, Optional[Kind]]:
    """The kind of each host. A port of RDMA that is down makes no new kind, one without any does: the best rate counts."""
    found = {host.name: host.kind for host in hosts}
    best: Dict[Kind, float] = {}
    for kind in found.values():
        if kind:
            alike = replace(kind, rdma=float(kind.rdma > 0))
            best[alike] = max(kind.rdma, best.get(alike, 0.0))
    return {name: kind and replace(kind, rdma=best[replace(kind, rdma=float(kind.rdma > 0))]) for name, kind in found.items()}
