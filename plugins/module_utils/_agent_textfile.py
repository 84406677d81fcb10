# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what only this collection knows of a host as series for the node exporter: volumes, store, acceptance, plan, gateway.

Runs on the hosts, each quarter of a minute: standard library only, nothing of ansible, Python 3.9+. What cannot be read has no
series: one that is missing is an alarm's matter, one that is invented would be a lie.
"""
from __future__ import annotations

import argparse
import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence, Tuple

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
    from ansible_collections.idc.llm.plugins.module_utils import _agent_gateway_series as gateway
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]
    import _agent_gateway_series as gateway  # type: ignore[import-not-found,no-redef]

METRIC = "idc_llm_host.prom"
NOTES = ".verify.json"  # of _agent_store_verify
MAPPER_PREFIX = "idc_"  # of _luks_wanted
Sample = Tuple[Mapping[str, str], float]  # labels and value


@dataclass(frozen=True)
class Settings:
    """The JSON file that the role writes. reserved: engine, deployment, gpu (UUID), index, share of each GPU;
    stores: model → folder of each model that the plan wants here; audit_kept: where it is noted how far the audit log was counted;
    units: of which restarts are counted, with systemd's wildcards."""

    metrics_dir: str
    luks_dir: str = "/etc/idc_llm/luks"
    mapper_dir: str = "/dev/mapper"
    store_root: str = ""
    stores: Mapping[str, str] = field(default_factory=dict)
    acceptance_file: str = ""
    audit_file: str = ""
    audit_kept: str = ""
    upstreams_file: str = ""
    upstreams_dir: str = ""
    tokens_url: str = ""
    gpu_expected: int = 0
    reserved: Sequence[Mapping[str, Any]] = ()
    units: Sequence[str] = ()


@dataclass(frozen=True)
class Series:
    """One series' name, kind, words and samples: (labels, value)."""

    name: str
    words: str
    samples: Sequence[Sample]
    kind: str = "gauge"

    def text(self) -> str:
        """As the node exporter reads it; nothing without samples."""
        if not self.samples:
            return ""
        head = f"# HELP {self.name} {self.words}\n# TYPE {self.name} {self.kind}\n"
        return head + "".join(f"{self.name}{_labels(labels)} {value:.10g}\n" for labels, value in self.samples)


def volumes(luks_dir: str, mapper_dir: str) -> list[Sample]:
    """Each volume that a record of this host says is ours and made: 1 where it is open."""
    found: list[Sample] = []
    for name in _listed(luks_dir):
        record = _json(os.path.join(luks_dir, name)) if name.endswith(".json") else None
        if isinstance(record, dict) and record.get("state") == "ready":
            volume = str(record.get("name") or name[:-5])
            found.append(({"volume": volume}, float(os.path.exists(os.path.join(mapper_dir, MAPPER_PREFIX + volume)))))
    return found


def stores(root: str, wanted: Mapping[str, str]) -> tuple[list[Sample], list[Sample]]:
    """(verified, when) of each model: 0 where it is not there or a file was wrong when read last; when: its oldest reading."""
    notes = (_json(os.path.join(root, NOTES)) or {}).get("files") or {}
    verified: list[Sample] = []
    times: list[Sample] = []
    for model, folder in sorted(wanted.items()):
        inside = os.path.relpath(folder, root) + os.sep
        rows = [row for path, row in notes.items() if path.startswith(inside)]
        manifest = os.path.join(folder, "manifest.json")
        there = os.path.isfile(manifest)
        verified.append(({"model": model}, float(there and not any(row.get("problem") for row in rows))))
        made = os.stat(manifest).st_mtime if there else 0.0  # a model that nobody has read again was proven then
        when = min([float(row["at"]) for row in rows if row.get("at")], default=made)
        if when:
            times.append(({"model": model}, when))
    return verified, times


def accepted(path: str) -> list[Sample]:
    """Acceptance's verdict; none where there was none."""
    verdict = (_json(path) or {}).get("accepted") if path else None
    return [] if verdict is None else [({}, float(verdict is True))]


def audited(path: str) -> list[Sample]:
    """When the audit log was written last."""
    try:
        return [({}, os.stat(path).st_mtime)] if path else []
    except OSError:
        return []


def restarts(shown: str) -> list[Sample]:
    """From ``systemctl show -p Id -p NRestarts``: one block of lines for each unit."""
    found: list[Sample] = []
    for block in shown.split("\n\n"):
        words = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if words.get("Id", "").endswith(".service") and words.get("NRestarts", "").isdigit():
            found.append(({"unit": words["Id"]}, float(words["NRestarts"])))
    return sorted(found, key=lambda row: row[0]["unit"])


def show(units: Sequence[str]) -> str:
    """What systemd knows of these units, "" where it does not answer."""
    if not units:
        return ""
    try:
        return subprocess.run(["systemctl", "show", "-p", "Id", "-p", "NRestarts", "--", *units], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def series(own: Settings, ask: Callable[[Sequence[str]], str] = show) -> list[Series]:
    """All that there is to say of this host."""
    verified, times = stores(own.store_root, own.stores) if own.store_root else ([], [])
    reserved: list[Sample] = [
        ({key: str(row[key]) for key in ("engine", "deployment", "gpu", "index")}, float(row["share"])) for row in own.reserved]
    shares, drained = gateway.engines(own.upstreams_file, own.upstreams_dir) if own.upstreams_file else ([], [])
    return [
        Series("idc_llm_luks_volume_open", "Whether an encrypted volume is open.", volumes(own.luks_dir, own.mapper_dir)),
        Series("idc_llm_store_verified", "Whether a model that the plan wants here is complete and was right.", verified),
        Series("idc_llm_store_verified_time_seconds", "When that file was read that was not read for the longest time.", times),
        Series("idc_llm_acceptance_accepted", "Whether acceptance lets this host serve.", accepted(own.acceptance_file)),
        Series("idc_llm_gpu_expected", "GPUs that this host had when the plan was made.", [({}, float(own.gpu_expected))]),
        Series("idc_llm_plan_gpu_memory_share", "Share of a GPU's memory that the plan gives an engine.", reserved),
        Series("idc_llm_gateway_audit_time_seconds", "When the audit log was written last.", audited(own.audit_file)),
        Series("idc_llm_requests_total", "Requests in the audit log, by tenant, deployment and status.",
               gateway.requests(own.audit_file, own.audit_kept) if own.audit_file and own.audit_kept else [], "counter"),
        Series("idc_llm_gateway_engine_share", "Share of its requests that the prober lets an engine have; 0: none.", shares),
        Series("idc_llm_gateway_engine_drained", "Whether an operator or a play has taken an engine out.", drained),
        Series("idc_llm_unit_restarts_total", "Times that systemd has restarted a unit by itself.", restarts(ask(own.units)),
               "counter"),
    ]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point: once."""
    parser = argparse.ArgumentParser(description="Write what this collection knows of the host as series.")
    parser.add_argument("--config", required=True, help="JSON file that the role exporters writes")
    options = parser.parse_args(argv)
    try:
        own: Settings = base.settings(Settings, options.config, {"gpu_expected": 0})
        path = os.path.join(own.metrics_dir, METRIC)
        base.write(path, "".join(one.text() for one in series(own)) + (gateway.tokens(own.tokens_url) if own.tokens_url else ""))
        if stat.S_IMODE(os.stat(path).st_mode) != 0o644:
            raise OSError(f"{path} cannot be read by the exporter")
    except (OSError, ValueError, KeyError, TypeError) as error:
        base.complain(f"the series of this host cannot be written: {error}")
        return 1
    return 0


def _labels(labels: Mapping[str, str]) -> str:
    """Escaped as https://prometheus.io/docs/instrumenting/exposition_formats/ has it."""
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    rows = ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items())
    return f"{{{rows}}}" if rows else ""


def _listed(folder: str) -> Iterable[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    raise SystemExit(main())
