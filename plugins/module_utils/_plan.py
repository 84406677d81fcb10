# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: which engine runs where, with what. Pure: same input, same plan. Private to this collection.

Models are weighed in ``_model``, ``_kv`` and ``_memory``, cut in ``_layout``, hosts are read in ``_fleet``, replicas placed in
``_placement``; here it is put together.
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.idc.llm.plugins.module_utils._deployment import SLO, Deployment, canary_errors
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import Host
from ansible_collections.idc.llm.plugins.module_utils._layout import (
    Way,
    bottleneck,
    check_deployment,
    engine_arguments,
    falls_back,
)
from ansible_collections.idc.llm.plugins.module_utils._memory import UTILISATION
from ansible_collections.idc.llm.plugins.module_utils._model import Model, model_from
from ansible_collections.idc.llm.plugins.module_utils._model_store import revision_path
from ansible_collections.idc.llm.plugins.module_utils._placement import SLOT, Placer, Replica, engine_name
from ansible_collections.idc.llm.plugins.module_utils._ports import PORTS, Ports

SCHEMA = 2
READY = "VLLM_ENGINE_READY_TIMEOUT_S"
READY_BASE_S = 600   # what vLLM gives whatever model (vllm/envs.py), which compiling, warming up and capturing graphs stay in
MONITORS = ("blackbox", "prometheus", "alertmanager")  # what each monitor runs, and every monitor asks
READ_BYTES_S = 0.5e9  # one SATA disk's. vLLM's docs on InstantTensor say 160 s for DeepSeek-R1 on 8 × H200: 4.3e9 from NVMe disks
START_S = 60         # Python's imports, before vLLM begins to count, and the first tokens, after it
KEPT = ("name", "deployment", "replica", "rank", "host", "port", "gpus")  # what an engine of the last plan must say to count


@dataclass(frozen=True)
class Wishes:
    """What the site wants, besides the deployments."""

    release: str
    store_root: str
    ports: Mapping[str, int] = field(default_factory=lambda: PORTS)
    allow_unaccepted: bool = False


def make_plan(deployments: Sequence[Deployment], hosts: Sequence[Host], wishes: Wishes,
              previous: Optional[Mapping[str, Any]] = None, metadata: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """One plan for the fleet, a fixed point: planning again with its own result as previous changes nothing.

    metadata: of each deployment's model, by the deployment's name; one without is placed by the sizes that it says itself.
    Raises IdcError (IDC-PLAN-…) when something cannot be placed, with what was wanted and what there is.
    """
    names = [deployment.name for deployment in deployments]
    for name in names:
        if names.count(name) > 1:
            raise IdcError("IDC-INV-011", deployment=name)
    for error in canary_errors(deployments):
        raise error
    known = {host.name: host for host in sorted(hosts, key=_by_name) if host.address}
    left_out = [{"host": name, "reason": "no facts: never seen, or not reached yet"}
                for name in sorted({host.name for host in hosts} - set(known))]
    usable: List[Host] = []
    for host in known.values():
        if "gpu_nodes" not in host.groups:
            continue
        if host.accepted is True or wishes.allow_unaccepted:
            usable.append(host)
        else:
            why = "failed" if host.accepted is False else "is missing"
            left_out.append({"host": host.name, "reason": f"acceptance {why}" + (f": {host.refused}" if host.refused else "")})
    models = {one.name: _model(one, (metadata or {}).get(one.name)) for one in deployments}
    for deployment in deployments:
        _check_named(deployment, known, usable)
    engines_before = [engine for engine in (previous or {}).get("engines") or () if set(engine) >= set(KEPT)]
    placer = Placer(usable, models, engines_before)
    replicas = placer.place(deployments)
    engines = _Engines(known, wishes, models, engines_before).of(replicas)
    return {
        "schema": SCHEMA,
        "provisional": any(host.provisional for host in usable),
        "warnings": _warnings(known, left_out, replicas, models, previous or {}, wishes) + _moves(engines_before, engines)
        + _shorter(deployments, engines),
        "left_out": left_out,
        "deployments": [_deployment(one, replicas, models, placer, wishes) for one in deployments],
        "engines": engines,
        "stores": _stores(deployments, engines, usable, wishes),
        "gateway": {"upstreams": [_upstream(one, engines) for one in deployments]},
        "scrape": _scrape(engines, known, wishes.ports),
        "probes": _probes(known, wishes.ports),
        "ports": dict(wishes.ports),
        "hosts": {h.name: {"address": h.address, "groups": list(h.groups), "stale": not h.fresh, "gpus": h.cards,
                           **({"rack": h.rack} if h.rack else {})} for h in known.values()},
    }


def to_keep(plan: Mapping[str, Any]) -> Dict[str, Any]:
    """The plan without what only this run saw (stale hosts, warnings, where metadata came from), so that neither ``--limit``
    nor a store that has its model by now changes a kept plan."""
    hosts = {name: {key: value for key, value in host.items() if key != "stale"} for name, host in plan["hosts"].items()}
    deployments = [{key: value for key, value in one.items() if key != "metadata_source"} for one in plan["deployments"]]
    return {**{key: value for key, value in plan.items() if key != "warnings"}, "hosts": hosts, "deployments": deployments}


def _by_name(host: Host) -> Tuple[str, str]:
    """gpu9 before gpu10, whatever order the inventory came in."""
    return re.sub(r"\d+", lambda match: match.group().zfill(12), host.name), host.name


def _model(deployment: Deployment, metadata: Optional[Mapping[str, Any]]) -> Optional[Model]:
    if metadata is None:
        if deployment.device == "cuda" and deployment.sizes is None:
            raise IdcError("IDC-PLAN-010", deployment=deployment.name, architecture=deployment.model, missing="any metadata")
        return None
    model = model_from(deployment.name, metadata)
    check_deployment(deployment, model)
    return model


def _check_named(deployment: Deployment, known: Mapping[str, Host], usable: Sequence[Host]) -> None:
    """Hosts and GPUs that a deployment names must be known."""
    unseen = [name for name in deployment.hosts if name not in known]
    if deployment.hosts and len(unseen) == len(deployment.hosts):
        raise IdcError("IDC-PLAN-009", deployment=deployment.name, hosts=", ".join(deployment.hosts), observed=", ".join(unseen))
    here = [host for host in usable if not deployment.hosts or host.name in deployment.hosts]
    names = {name for host in here for gpu in host.gpus for name in (gpu.uuid, str(gpu.index))}
    names.update(name for host in here for name in host.unusable)
    for gpu in deployment.gpus:
        if gpu not in names:
            seen = "; ".join(f"{host.name}: " + ", ".join(f"{one.index} ({one.uuid})" for one in host.gpus) for host in here[:3])
            raise IdcError("IDC-PLAN-008", deployment=deployment.name, gpu=gpu, observed=seen or "no usable GPU")


class _Engines:
    """Writes the engines of placed replicas."""

    def __init__(self, hosts: Mapping[str, Host], wishes: Wishes, models: Mapping[str, Optional[Model]],
                 previous: Sequence[Mapping[str, Any]]) -> None:
        self.hosts, self.wishes, self.models, self.previous = hosts, wishes, models, previous

    def of(self, replicas: Sequence[Replica]) -> List[Dict[str, Any]]:
        """The engines: a row for each rank of each replica."""
        ports = Ports(replicas, self.wishes.ports, self.previous)
        return [self._engine(replica, rank, ports) for replica in replicas for rank in range(len(replica.ranks))]

    def _engine(self, replica: Replica, rank: int, ports: Ports) -> Dict[str, Any]:
        deployment, part = replica.deployment, replica.ranks[rank]
        host, head = self.hosts[part.host], self.hosts[replica.ranks[0].host]
        name = engine_name(deployment.name, replica.number, rank)
        lead = engine_name(deployment.name, replica.number)
        port, master = ports.ports[name], ports.masters.get(lead)
        environment = self._environment(replica, host)
        held = replica.way.estimate if replica.way else None
        measured = held if self.models.get(deployment.name) else None
        return {
            "name": name,
            "deployment": deployment.name,
            "revision": deployment.revision,
            "slot": SLOT,
            "replica": replica.number,
            "rank": rank,
            "head": rank == 0,
            "leader": {"engine": lead, "address": head.address, "port": ports.ports[lead]} if rank else None,
            "host": part.host,
            "address": host.address,
            "port": port,
            "release": deployment.release or self.wishes.release,
            "gpus": list(part.gpus),
            "layout": dict(vars(held.layout)) if held else None,
            "memory": {"weights_bytes": int(measured.weights), "reserve_bytes": int(measured.reserve), "kv_bytes": int(measured.kv),
                       "kv_tokens": measured.tokens, "context": measured.context, "sequences": measured.sequences}
            if measured else None,
            "config": self._config(replica, rank, host, port, head.address, master),
            "environment": environment,
            "ready_timeout_s": int(environment[READY]) + START_S,
        }

    def _config(self, replica: Replica, rank: int, host: Host, port: int, head: Optional[str],
                master: Optional[int]) -> Dict[str, Any]:
        """vLLM's ``--config`` YAML: https://docs.vllm.ai/en/latest/configuration/serve_args.html"""
        deployment, model = replica.deployment, self.models.get(replica.deployment.name)
        layout = replica.way.estimate.layout if replica.way else None
        tensor, pipeline, data = (layout.tensor, layout.pipeline, layout.data) if layout else (deployment.sizes or (1, 1, 1))
        config: Dict[str, Any] = {
            "model": store_path(deployment, self.wishes), "served-model-name": deployment.served_names,
            "host": host.address, "port": port,
            "tensor-parallel-size": tensor, "pipeline-parallel-size": pipeline,
        }
        if data > 1:
            config["data-parallel-size"] = data
        if layout and layout.expert:
            config["enable-expert-parallel"] = True
        context = replica.way.estimate.context if replica.way and model else None
        if deployment.max_model_len or context:
            config["max-model-len"] = deployment.max_model_len or context
        if deployment.device == "cuda":
            config["gpu-memory-utilization"] = UTILISATION
        if layout and layout.nodes > 1:
            config.update(_across(layout.nodes, data, rank, head, master))
        config.update(engine_arguments(deployment, model))
        return config

    def _environment(self, replica: Replica, host: Host) -> Dict[str, str]:
        """Without VLLM_HOST_IP vLLM's internal sockets pick an address themselves; nothing is asked of a hub."""
        environment = {"VLLM_HOST_IP": str(host.address), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if len(replica.ranks) > 1:
            environment.update({str(key): str(value) for key, value in host.nccl.items()})
        model = self.models.get(replica.deployment.name)
        environment[READY] = str(engine_ready_s(model.download if model else 0.0))
        environment.update({str(key): str(value) for key, value in replica.deployment.environment.items()})
        if not re.fullmatch("[1-9][0-9]*", environment[READY]):
            raise IdcError("IDC-INV-004", deployment=replica.deployment.name, key=f"environment.{READY}",
                           observed=environment[READY] or "empty", wanted="seconds, a whole number")
        return environment


def engine_ready_s(checkpoint: float) -> int:
    """Seconds that vLLM's server waits for its engine: a base, and what a slow disk takes for the whole checkpoint (bytes).

    Whole, because each rank looks through all of its files; once, because the ranks of a host share the page cache.
    """
    return 60 * math.ceil((READY_BASE_S + checkpoint / READ_BYTES_S) / 60)


def _across(nodes: int, data: int, rank: int, head: Optional[str], master: Optional[int]) -> Dict[str, Any]:
    """Options of a replica that spans hosts, without Ray: https://docs.vllm.ai/en/latest/serving/parallelism_scaling.html

    Data-parallel ranks are started host by host; else tensor and pipeline groups form one world of nodes.
    """
    if data % nodes == 0 and data > 1:
        options: Dict[str, Any] = {"data-parallel-size-local": data // nodes, "data-parallel-address": head,
                                   "data-parallel-rpc-port": master}
        if rank:
            options.update({"data-parallel-start-rank": rank * (data // nodes), "headless": True})
        return options
    options = {"nnodes": nodes, "node-rank": rank, "master-addr": head, "master-port": master}
    return {**options, "headless": True} if rank else options


def store_path(deployment: Deployment, wishes: Wishes) -> str:
    """Folder of a deployment's model on the hosts."""
    return revision_path(wishes.store_root, deployment.model, deployment.revision)


def _deployment(deployment: Deployment, replicas: Sequence[Replica], models: Mapping[str, Optional[Model]], placer: Placer,
                wishes: Wishes) -> Dict[str, Any]:
    own = [replica for replica in replicas if replica.deployment.name == deployment.name]
    model = models.get(deployment.name)
    first = own[0] if own else None
    held_back = "an unknown model: memory was not checked"
    if deployment.device == "cpu":
        held_back = "the CPU"
    elif first is None:
        held_back = "having no replica"
    elif model and first.way:
        held_back = bottleneck(first.way, placer.fleet.hosts[first.ranks[0].host].nvlink)
    return {"name": deployment.name, "model": deployment.model, "revision": deployment.revision, "slot": SLOT,
            "release": deployment.release or wishes.release, "store_path": store_path(deployment, wishes),
            "weights_bytes": int(model.download) if model else None, "metadata_source": model.source if model else None,
            "slo": {**SLO, **deployment.slo}, "bottleneck": held_back,
            "change": _change(deployment, len(own), placer.spare(deployment))}


def _change(deployment: Deployment, count: int, spare: int) -> Dict[str, Any]:
    """Whether a second slot fits beside the first, and what a change of revision costs: share that serves meanwhile."""
    if count and spare >= count:
        return {"mode": "side_by_side", "spare": spare, "serving": 1.0, "sentence": "A second slot fits beside it."}
    if spare:
        return {"mode": "batches", "spare": spare, "serving": 1.0,
                "sentence": f"A second slot fits {spare} replica(s) at a time: change it in batches, at full capacity."}
    serving = round((count - 1) / count, 3) if count else 0.0
    cost = f"{serving:.0%} of its capacity serves meanwhile" if serving else "nothing serves meanwhile"
    return {"mode": "rolling", "spare": 0, "serving": serving,
            "sentence": f"No room for a second slot: change it one by one, {cost}."}


def _stores(deployments: Sequence[Deployment], engines: Sequence[Mapping[str, Any]], hosts: Sequence[Host],
            wishes: Wishes) -> Dict[str, Any]:
    """What each host needs: the models of the engines that stand there."""
    by_name = {deployment.name: deployment for deployment in deployments}
    order = {deployment.name: number for number, deployment in enumerate(deployments)}
    here: Dict[str, Set[Any]] = {}
    for engine in engines:
        here.setdefault(engine["host"], set()).add(engine["deployment"])
    needed: Dict[str, Any] = {}
    for host in hosts:
        rows: Dict[str, Dict[str, Any]] = {}
        for name in sorted(here.get(host.name, ()), key=lambda one: order[one]):
            one, path = by_name[name], store_path(by_name[name], wishes)
            rows.setdefault(path, {"model": one.model, "revision": one.revision, "sources": list(one.sources), "path": path})
        if rows:
            needed[host.name] = list(rows.values())
    return needed


def _upstream(deployment: Deployment, engines: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """The heads, weighted by the tokens of KV cache that they have, and of a canary the requests that it gets."""
    heads = [e for e in engines if e["deployment"] == deployment.name and e["head"]]
    tokens = [(e.get("memory") or {}).get("kv_tokens") or 0 for e in heads]
    least = min(tokens, default=0)
    canary = deployment.canary
    return {"deployment": deployment.name, **({"canary": {**vars(canary), "tenants": list(canary.tenants)}} if canary else {}),
            "servers": [{"engine": e["name"], "address": e["address"], "port": e["port"],
                         "weight": max(1, min(100, round(own / least))) if least else 1} for e, own in zip(heads, tokens)]}


def _scrape(engines: Sequence[Mapping[str, Any]], hosts: Mapping[str, Host], ports: Mapping[str, int]) -> List[Dict[str, Any]]:
    rows: List[Dict[str, Any]] = [
        {"job": "vllm", "host": e["host"], "address": e["address"], "port": e["port"],
         "labels": {"deployment": e["deployment"], "engine": e["name"], "revision": e["revision"], "slot": e["slot"],
                    "replica": str(e["replica"])}} for e in engines if e["head"]]
    for host in hosts.values():
        jobs = ["node"] + ["nginx"] * ("gateways" in host.groups) + ["gpu"] * host.gpu_watched
        jobs += MONITORS if "monitors" in host.groups else ()
        rows += [{"job": job, "host": host.name, "address": host.address, "port": ports[job], "labels": {}} for job in jobs]
    return [{**row, "labels": {**row["labels"], **_where(hosts[row["host"]])}} for row in rows]


def _probes(hosts: Mapping[str, Host], ports: Mapping[str, int]) -> List[Dict[str, Any]]:
    """What the monitors ask as a caller would: each gateway, for itself; one that speaks to balancers alone does not answer."""
    return [{"url": f"https://{h.address}:{ports['gateway']}/health", "host": h.name, "labels": _where(h)}
            for h in hosts.values() if "gateways" in h.groups and h.probed]


def _where(host: Host) -> Dict[str, str]:
    return {"rack": host.rack} if host.rack else {}


def _warnings(known: Mapping[str, Host], left_out: Sequence[Mapping[str, str]], replicas: Sequence[Replica],
              models: Mapping[str, Optional[Model]], previous: Mapping[str, Any], wishes: Wishes) -> List[str]:
    warnings = [f"{entry['host']} is left out: {entry['reason']}." for entry in left_out]
    warnings += [note for host in known.values() for note in host.notes]
    stale = [host.name for host in known.values() if not host.fresh]
    if stale:
        warnings.append(f"Planned from kept facts, not seen in this run: {', '.join(stale)}.")
    seen = set()
    for replica in replicas:
        deployment, model, way = replica.deployment, models.get(replica.deployment.name), replica.way
        if way is None:
            continue
        for text in _way_warnings(deployment, model, way):
            if text not in seen:
                seen.add(text)
                warnings.append(text)
        for rank in replica.ranks:
            told = known[rank.host].nccl  # empty on paper
            if len(replica.ranks) > 1 and told and "GLOO_SOCKET_IFNAME" not in {**told, **deployment.environment}:
                warnings.append(f"{rank.host}: no network interface is known for {deployment.name}, which spans hosts; NCCL and "
                                "Gloo guess one. Set idc_llm_address to an address of the host.")
            free, path = known[rank.host].store_free, store_path(deployment, wishes)
            there = any(row["path"] == path for row in (previous.get("stores") or {}).get(rank.host, ()))
            if model and free is not None and free < model.download and not there:
                warnings.append(f"{rank.host}: {free / 1e9:.0f} GB are free for the store, {deployment.name} needs "
                                f"{model.download / 1e9:.0f} GB unless its files are there already.")
    return warnings


def _moves(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> List[str]:
    """A sentence for each engine that stands on another host than in the last plan."""
    hosts = {engine["name"]: engine["host"] for engine in before}
    return [f"{engine['name']} moves from {hosts[engine['name']]} to {engine['host']}." for engine in after
            if hosts.get(engine["name"], engine["host"]) != engine["host"]]


def _shorter(deployments: Sequence[Deployment], engines: Sequence[Mapping[str, Any]]) -> List[str]:
    """A sentence for each canary that refuses requests which the engines in whose place it is tried would take."""
    least: Dict[str, int] = {}
    for engine in engines:
        context = engine["config"].get("max-model-len")
        if context:
            least[engine["deployment"]] = min(context, least.get(engine["deployment"], context))
    return [f"{one.name}: its max-model-len is {least[one.name]}, that of {one.canary.of} is {least[one.canary.of]}: longer "
            "requests fail on the canary." for one in deployments
            if one.canary and least.get(one.name, 0) < least.get(one.canary.of, 0) and one.name in least]


def _way_warnings(deployment: Deployment, model: Optional[Model], way: Way) -> List[str]:
    if model is None:
        return [f"{deployment.name}: nothing is known of {deployment.model}; its sizes are taken as said, memory is not checked."]
    texts = list(model.warnings)
    if not way.whole_context:
        texts.append(f"{deployment.name}: one sequence of the model's {model.context} tokens does not fit on {way.kind}; "
                     f"max-model-len is {way.estimate.context}.")
    if falls_back(model, way.kind.card):
        texts.append(f"{deployment.name}: {way.kind.card.name} has no units for {model.quantisation}; vLLM unpacks the weights in "
                     "the kernel: the memory is saved, the speed is that of 16 bits.")
    return texts
