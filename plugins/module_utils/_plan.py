# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: which engine runs where, with what. Pure: same input, same plan. Private to this collection."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._deployment import Deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

SCHEMA = 1
SLOT = "blue"
PORTS: dict[str, int] = {
    "gateway": 443, "engine": 8000, "rank0": 29501, "store": 8090, "node": 9100, "nginx": 9113, "blackbox": 9115,
    "gpu": 9400, "prometheus": 9090, "alertmanager": 9093,
}


@dataclass(frozen=True)
class Host:
    """One host as the planner sees it.

    gpus: usable GPUs by uuid, in index order (``pci:<address>`` before there is a driver); fresh: its facts are of
    this run; accepted: acceptance's verdict, None when there is none.
    """

    name: str
    groups: tuple[str, ...]
    address: Optional[str] = None
    gpus: tuple[str, ...] = ()
    provisional: bool = False
    fresh: bool = True
    accepted: Optional[bool] = None


@dataclass(frozen=True)
class Wishes:
    """What the site wants, besides the deployments."""

    release: str
    store_root: str
    ports: Mapping[str, int] = field(default_factory=lambda: PORTS)
    allow_unaccepted: bool = False


def host_from_facts(name: str, entry: Mapping[str, Any], foresee: bool = False) -> Host:
    """A Host from what ``fleet_facts`` gives: address, groups, gpu (the fact idc_llm_gpu, or None), fresh.

    foresee: in check mode, where acceptance has not written its verdict yet, the verdict that it would write counts.
    """
    gpu = entry.get("gpu") or {}
    gpus = tuple(g["uuid"] for g in gpu.get("gpus") or () if g.get("uuid") and g.get("healthy") is not False)
    provisional = False
    if not gpus and gpu.get("state") not in (None, "ok"):
        gpus = tuple(f"pci:{d['address']}" for d in gpu.get("pci_devices") or () if d.get("vendor") == "nvidia")
        provisional = bool(gpus)
    verdict = (gpu.get("acceptance") or (gpu.get("acceptance_now") if foresee else None) or {}).get("accepted")
    return Host(name=name, groups=tuple(entry.get("groups") or ()), address=entry.get("address"), gpus=gpus,
                provisional=provisional, fresh=bool(entry.get("fresh", True)), accepted=verdict)


def make_plan(deployments: Sequence[Deployment], hosts: Sequence[Host], wishes: Wishes,
              previous: Optional[Mapping[str, Any]] = None) -> dict[str, Any]:
    """One plan for the fleet, a fixed point: planning again with its own result as previous changes nothing.

    Raises IdcError (IDC-PLAN-…) when something cannot be placed, with what was wanted and what there is.
    """
    known = {host.name: host for host in hosts if host.address}
    left_out = [{"host": host.name, "reason": "no facts: never seen, or not reached yet"} for host in hosts if not host.address]
    nodes = [host for host in known.values() if "gpu_nodes" in host.groups]
    usable: list[Host] = []
    for host in nodes:
        if host.accepted is True or wishes.allow_unaccepted:
            usable.append(host)
        else:
            verdict = "failed" if host.accepted is False else "is missing"
            left_out.append({"host": host.name, "reason": f"acceptance {verdict}"})
    engines = _Placer(usable, wishes, previous or {}).place(deployments)
    return {
        "schema": SCHEMA,
        "provisional": any(host.provisional for host in usable),
        "warnings": _warnings(known, left_out),
        "left_out": left_out,
        "deployments": [
            {"name": d.name, "model": d.model, "revision": d.revision, "slot": SLOT,
             "release": d.release or wishes.release, "store_path": _store_path(d, wishes)} for d in deployments],
        "engines": engines,
        "stores": _stores(deployments, engines, usable, wishes),
        "gateway": {"upstreams": [_upstream(d, engines) for d in deployments]},
        "scrape": _scrape(engines, known, wishes.ports),
        "ports": dict(wishes.ports),
        "hosts": {h.name: {"address": h.address, "groups": list(h.groups), "stale": not h.fresh} for h in known.values()},
    }


def to_keep(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan without what only this run saw (stale hosts, warnings), so that ``--limit`` changes no kept plan."""
    hosts = {name: {key: value for key, value in host.items() if key != "stale"} for name, host in plan["hosts"].items()}
    return {**{key: value for key, value in plan.items() if key != "warnings"}, "hosts": hosts}


class _Placer:
    """Gives each replica a host, a port and GPUs; what the previous plan gave and still holds is kept."""

    def __init__(self, hosts: Sequence[Host], wishes: Wishes, previous: Mapping[str, Any]) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.wishes = wishes
        self.previous = {engine["name"]: engine for engine in previous.get("engines") or ()}
        self.free = {host.name: list(host.gpus) for host in hosts}
        self.ports: dict[str, set[int]] = {host.name: set() for host in hosts}
        self.count = {host.name: 0 for host in hosts}

    def place(self, deployments: Sequence[Deployment]) -> list[dict[str, Any]]:
        """The engines of all deployments, in their order, replica by replica."""
        wanted = [(d, f"{d.name}-{SLOT}-{replica}") for d in deployments for replica in range(d.replicas)]
        engines: dict[str, dict[str, Any]] = {}
        for deployment, name in wanted:  # first those that stand already, so that a newcomer never takes their place
            old = self.previous.get(name)
            if old and old["host"] in self._candidates(deployment) and self._fits(deployment, old["host"], old):
                engines[name] = self._engine(deployment, name, old["host"], old)
        for deployment, name in wanted:
            if name not in engines:
                placed = sum(engine["deployment"] == deployment.name for engine in engines.values())
                engines[name] = self._engine(deployment, name, self._choose(deployment, placed), None)
        return [engines[name] for _deployment, name in wanted]

    def _candidates(self, deployment: Deployment) -> list[str]:
        return [name for name in self.hosts if not deployment.hosts or name in deployment.hosts]

    def _fits(self, deployment: Deployment, host: str, old: Optional[Mapping[str, Any]]) -> bool:
        if old and deployment.port is None and old["port"] in self.ports[host]:
            return False
        if old and any(gpu not in self.free[host] for gpu in old["gpus"]):
            return False
        if deployment.device == "cpu":  # a CPU engine takes the whole host
            return not any(e for e in self.ports[host])
        return len(self.free[host]) >= deployment.gpus_per_replica

    def _choose(self, deployment: Deployment, placed: int) -> str:
        """The host with the fewest engines, in the inventory's order; hosts of this run before stale ones."""
        fitting = [name for name in self._candidates(deployment) if self._fits(deployment, name, None)]
        if not fitting:
            self._refuse(deployment, placed)
        return min(fitting, key=lambda name: (not self.hosts[name].fresh, self.count[name]))

    def _refuse(self, deployment: Deployment, placed: int) -> None:
        seen = ", ".join(
            f"{name}: {len(self.hosts[name].gpus)} GPUs, {len(self.free[name])} free"
            if deployment.device == "cuda" else f"{name}: {self.count[name]} engines"
            for name in self._candidates(deployment)) or "no usable host"
        largest = max((len(self.hosts[name].gpus) for name in self._candidates(deployment)), default=0)
        if deployment.device == "cuda" and self._candidates(deployment) and largest < deployment.gpus_per_replica:
            raise IdcError("IDC-PLAN-002", deployment=deployment.name, wanted=deployment.gpus_per_replica,
                           tensor=deployment.tensor_parallel, pipeline=deployment.pipeline_parallel,
                           data=deployment.data_parallel, observed=seen)
        raise IdcError("IDC-PLAN-001", deployment=deployment.name, wanted=deployment.replicas, placed=placed, observed=seen)

    def _engine(self, deployment: Deployment, name: str, host: str, old: Optional[Mapping[str, Any]]) -> dict[str, Any]:
        gpus = list(old["gpus"]) if old and len(old["gpus"]) == deployment.gpus_per_replica else \
            self.free[host][:deployment.gpus_per_replica]
        self.free[host] = [gpu for gpu in self.free[host] if gpu not in gpus]
        port = old["port"] if old and deployment.port is None else self._port(deployment, host)
        self.ports[host].add(port)
        self.count[host] += 1
        address = self.hosts[host].address
        return {
            "name": name,
            "deployment": deployment.name,
            "revision": deployment.revision,
            "slot": SLOT,
            "replica": int(name.rsplit("-", 1)[1]),
            "rank": 0,
            "head": True,
            "host": host,
            "address": address,
            "port": port,
            "release": deployment.release or self.wishes.release,
            "gpus": gpus,
            "config": _config(deployment, address, port, _store_path(deployment, self.wishes)),
            "environment": _environment(deployment, address),
        }

    def _port(self, deployment: Deployment, host: str) -> int:
        port = deployment.port or self.wishes.ports["engine"]
        taken = self.ports[host] | {e["port"] for e in self.previous.values() if e["host"] == host and not deployment.port}
        while port in taken:
            port += 1
        return port


def _config(deployment: Deployment, address: Optional[str], port: int, path: str) -> dict[str, Any]:
    """vLLM's ``--config`` YAML: https://docs.vllm.ai/en/latest/configuration/serve_args.html"""
    config: dict[str, Any] = {
        "model": path, "served-model-name": deployment.name, "host": address, "port": port,
        "tensor-parallel-size": deployment.tensor_parallel, "pipeline-parallel-size": deployment.pipeline_parallel,
    }
    if deployment.data_parallel > 1:
        config["data-parallel-size"] = deployment.data_parallel
    if deployment.max_model_len:
        config["max-model-len"] = deployment.max_model_len
    config.update({str(key).lstrip("-").replace("_", "-"): value for key, value in deployment.engine_args.items()})
    return config


def _environment(deployment: Deployment, address: Optional[str]) -> dict[str, str]:
    """Without VLLM_HOST_IP vLLM's internal sockets pick an address themselves; nothing is asked of a hub."""
    environment = {"VLLM_HOST_IP": str(address), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    environment.update({str(key): str(value) for key, value in deployment.environment.items()})
    return environment


def _store_path(deployment: Deployment, wishes: Wishes) -> str:
    return f"{wishes.store_root}/{deployment.model}/{deployment.revision}"


def _stores(deployments: Sequence[Deployment], engines: Sequence[Mapping[str, Any]], hosts: Sequence[Host],
            wishes: Wishes) -> dict[str, Any]:
    """What each host needs: the models of the engines that stand there."""
    needed: dict[str, Any] = {}
    for host in hosts:
        rows: list[dict[str, Any]] = []
        for d in deployments:
            row = {"model": d.model, "revision": d.revision, "sources": list(d.sources), "path": _store_path(d, wishes)}
            here = any(e["host"] == host.name and e["deployment"] == d.name for e in engines)
            if here and row["path"] not in [r["path"] for r in rows]:
                rows.append(row)
        if rows:
            needed[host.name] = rows
    return needed


def _upstream(deployment: Deployment, engines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    heads = [e for e in engines if e["deployment"] == deployment.name and e["head"]]
    return {"deployment": deployment.name,
            "servers": [{"engine": e["name"], "address": e["address"], "port": e["port"], "weight": 1} for e in heads]}


def _scrape(engines: Sequence[Mapping[str, Any]], hosts: Mapping[str, Host], ports: Mapping[str, int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"job": "vllm", "host": e["host"], "address": e["address"], "port": e["port"],
         "labels": {"deployment": e["deployment"], "engine": e["name"], "revision": e["revision"], "slot": e["slot"],
                    "replica": str(e["replica"])}} for e in engines if e["head"]]
    rows += [{"job": "node", "host": h.name, "address": h.address, "port": ports["node"], "labels": {}} for h in hosts.values()]
    rows += [{"job": "nginx", "host": h.name, "address": h.address, "port": ports["nginx"], "labels": {}}
             for h in hosts.values() if "gateways" in h.groups]
    return rows


def _warnings(known: Mapping[str, Host], left_out: Sequence[Mapping[str, str]]) -> list[str]:
    warnings = [f"{entry['host']} is left out: {entry['reason']}." for entry in left_out]
    stale = [host.name for host in known.values() if not host.fresh]
    if stale:
        warnings.append(f"Planned from kept facts, not seen in this run: {', '.join(stale)}.")
    return warnings


def status_rows(plan: Mapping[str, Any], probes: Mapping[str, Any],
                upstreams: Mapping[str, Optional[str]]) -> list[dict[str, str]]:
    """One row per engine for a person: where it is, whether a token came back just now, whether gateways send to it.

    probes: llm_probe's result by engine name (none: its host was not reached); upstreams: text of each gateway's
    upstream file by host, None when it could not be read.
    """
    rows = []
    for engine in plan["engines"]:
        probe = probes.get(engine["name"])
        if probe is None:
            token = "unknown: host not reached"
        elif probe.get("failed") or "ttft_s" not in probe:
            token = f"none: {probe.get('msg', 'no answer')}"
        else:
            token = f"now, after {probe['ttft_s']:.3f} s"
        lines = [line.split() for text in upstreams.values() if text for line in text.splitlines()]
        sent = [line for line in lines if line[:2] == ["server", f"{engine['address']}:{engine['port']}"]]
        drained = "unknown" if None in upstreams.values() or not upstreams else \
            "no" if sent and not any("down;" in line for line in sent) else "yes"
        rows.append({"engine": engine["name"], "host": engine["host"], "gpus": str(len(engine["gpus"]) or "cpu"),
                     "release": engine["release"], "last token": token, "drained": drained})
    return rows


def aligned(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Rows as lines of a table with a heading; no rows, no lines."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)] if rows else []
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))] if lines else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
