#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which engine runs where, once for the whole fleet."""
from __future__ import annotations

DOCUMENTATION = r"""
module: serving_plan
short_description: Decide once, for the whole fleet, which engine runs where
version_added: "0.1.0"
author:
  - The idc.llm founders (@idc-llm)
description:
  - Turns the wanted deployments, their models' metadata and what is known of the hosts into one plan, the fact C(idc_llm_plan),
    that all roles only read.
  - Runs on the controller. Keeps the plan and each host's last facts in O(state_dir); both are inputs of the next run, so that
    hosts outside C(--limit) or unreachable keep their engines, and planning again changes nothing.
  - Chooses tensor, pipeline, data and expert parallel sizes where a deployment says none, so that weights and the KV cache
    of at least one sequence of the full context fit; sizes that it says are only checked. A replica may span equal hosts.
  - What is known of a model comes from, in this order, the deployment's own C(metadata) path, O(listed), what an earlier run kept,
    and a shipped catalogue.
  - Refuses with an error of the catalogue (C(IDC-INV-*), C(IDC-PLAN-*)) when something cannot be placed, with the nearest fit.
extends_documentation_fragment:
  - idc.llm._common
options:
  deployments:
    description: The list C(idc_llm_deployments) of the inventory.
    type: list
    elements: dict
    required: true
  hosts:
    description: What the filter P(idc.llm.fleet_facts#filter) gives, by host name.
    type: dict
    required: true
  state_dir:
    description: Folder on the controller that keeps the last plan and facts. It is made when it is missing.
    type: path
    required: true
  listed:
    description:
      - Results of M(idc.llm.model_fetch) with C(state=listed) and C(metadata=true), one for each deployment (C(item) being the
        deployment). A failed or skipped one counts as not there.
    type: list
    elements: dict
    default: []
  profile:
    description:
      - Plan on paper for hardware that nobody has yet, instead of O(hosts).
        The name of a profile (V(hgx-h200-8)) stands for each of
        C(gpu_nodes); V(4*hgx-h100-8,2*l40s-4) for so many new hosts, instead of the inventory's. Nothing is kept.
    type: str
  release:
    description: Engine release of deployments that name none.
    type: str
    required: true
  store_root:
    description: Root of the model store on the hosts.
    type: path
    default: /var/lib/idc_llm/store
  ports:
    description: Ports that differ from the collection's own, by name.
    type: dict
    default: {}
  allow_unaccepted:
    description: Also use hosts whose acceptance failed or is missing.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Decide once for the fleet
  idc.llm.serving_plan:
    deployments: "{{ idc_llm_deployments }}"
    hosts: "{{ hostvars | idc.llm.fleet_facts(groups) }}"
    state_dir: "{{ inventory_dir }}/../.state/prod"
    release: "0.33.0"
  delegate_to: localhost
  become: false
  run_once: true
  register: __plan
"""

RETURN = r"""
plan:
  description:
    - The plan, as design and roles know it.
    - V(engines) are vLLM processes (host, address, port, GPU uuids, rank, layout, memory, C(--config) mapping, environment),
      V(deployments) what holds each back and whether a second slot fits, V(stores) the models each host needs,
      V(gateway) the upstreams, V(scrape) the exporters' endpoints, V(warnings) sentences, V(left_out) hosts with the reason.
    - In C(memory) of an engine, sizes are bytes of its fullest GPU, C(kv_tokens) the tokens of KV cache of the whole replica,
      C(sequences) how many of C(context) tokens fit at once.
    - C(ready_timeout_s) of an engine are the seconds that it may take from its start to the first token, C(leader) of a rank of a
      replica that spans hosts where its head answers; null on heads.
  returned: success
  type: dict
  sample: {schema: 2, provisional: false, warnings: [], left_out: [], engines: [{name: tiny-blue-0, host: node1, port: 8000}]}
kept:
  description: The plan as it is kept in O(state_dir) and on each host, without what only this run saw.
  returned: success
  type: dict
table:
  description: A heading and one line per engine for a person to read, then what holds each deployment back, then the warnings.
  returned: success
  type: list
  elements: str
  sample:
    - "engine     host   listens-on     gpus  layout  weights/GPU  KV/GPU  KV-tokens  context  at-once  release"
    - "r1-blue-0  gpu01  10.0.0.1:8000  8     TP8+EP  85.9GB       48.6GB  690,927    163,840  4.2      0.33.0"
"""

import json
import os
import tempfile
from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._deployment import Deployment, parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import host_from_facts, hosts_on_paper
from ansible_collections.idc.llm.plugins.module_utils._model_reader import read_metadata
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan, to_keep
from ansible_collections.idc.llm.plugins.module_utils._plan_view import plan_notes, plan_table
from ansible_collections.idc.llm.plugins.module_utils._ports import PORTS


def read_json(path: str) -> Any:
    """The parsed file, or None when it is not there. A damaged file is an error of the catalogue."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise IdcError("IDC-PLAN-003", path=path, observed=error) from error


def write_json(path: str, value: Any) -> None:
    """Replace the file in one step, so that a run that dies half-way leaves the old one."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.write("\n")
        os.replace(temporary, path)
    except OSError as error:
        raise IdcError("IDC-PLAN-004", path=path, observed=error) from error


def with_kept_facts(hosts: dict[str, Any], facts_dir: str) -> dict[str, Any]:
    """Each host's entry; one that was not seen in this run gets its last facts, with its groups as they are now."""
    entries = {}
    for name, entry in hosts.items():
        kept = None if entry["fresh"] else read_json(os.path.join(facts_dir, name + ".json"))
        entries[name] = {**entry, **(kept or {})}
    return entries


class Models:
    """Finds each deployment's metadata: its own path, what was listed in this run, what was kept, the shipped catalogue."""

    def __init__(self, listed: list[dict[str, Any]], folder: str, on_paper: bool) -> None:
        self.listed = {row["item"]["name"]: row for row in listed if isinstance(row.get("item"), dict)}
        self.folder, self.on_paper = folder, on_paper
        self.notes: list[str] = []

    def path(self, deployment: Deployment) -> str:
        """Where it is kept between runs."""
        return os.path.join(self.folder, f"{deployment.model.replace('/', '--')}@{deployment.revision}.json")

    def find(self, deployment: Deployment) -> Any:
        """The metadata, or None. A deployment's own path that cannot be read is an error of the catalogue."""
        if deployment.metadata:
            return read_metadata(deployment.metadata)
        if not self.on_paper:
            seen = (self.listed.get(deployment.name) or {}).get("metadata") or read_json(self.path(deployment))
            if seen:
                return seen
        found, row = metadata_for(deployment.model), self.listed.get(deployment.name) or {}
        if row and not row.get("skipped") and not self.on_paper:
            self.notes.append(f"{deployment.name}: {row.get('msg', 'its model could not be listed')} "
                              f"Planned from {found['source'] if found else 'what the deployment says alone'}.")
        return found

    def keep(self, deployment: Deployment) -> None:
        """Keep what was listed, for runs that do not reach its host."""
        listed = (self.listed.get(deployment.name) or {}).get("metadata")
        if listed and read_json(self.path(deployment)) != listed:
            write_json(self.path(deployment), listed)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Read what is kept, decide, keep the outcome unless in check mode or on paper."""
    params = module.params
    on_paper = bool(params["profile"])
    deployments = [parse_deployment(raw, position) for position, raw in enumerate(params["deployments"], 1)]
    facts_dir = os.path.join(params["state_dir"], "facts")
    plan_path = os.path.join(params["state_dir"], "plan.json")
    wishes = Wishes(release=params["release"], store_root=params["store_root"].rstrip("/"),
                    ports={**PORTS, **{name: int(port) for name, port in params["ports"].items()}},
                    allow_unaccepted=params["allow_unaccepted"])
    models = Models(params["listed"], os.path.join(params["state_dir"], "models"), on_paper)
    metadata = {deployment.name: models.find(deployment) for deployment in deployments}
    if on_paper:
        nodes = [name for name, entry in params["hosts"].items() if "gpu_nodes" in entry["groups"]]
        hosts = hosts_on_paper(params["profile"], nodes)
        if {host.name for host in hosts} != set(nodes):  # new hosts instead of the inventory's: nobody is named yet
            deployments = [replace(deployment, hosts=()) for deployment in deployments]
        plan = make_plan(deployments, hosts, wishes, None, metadata)
        return {"changed": False, "plan": plan, "kept": to_keep(plan), "table": plan_table(plan) + plan_notes(plan)}
    entries = with_kept_facts(params["hosts"], facts_dir)
    before = read_json(plan_path)
    hosts = [host_from_facts(name, entry, module.check_mode) for name, entry in entries.items()]
    plan = make_plan(deployments, hosts, wishes, before, metadata)
    plan["warnings"] += models.notes
    kept = to_keep(plan)
    if not module.check_mode:
        for name, entry in entries.items():
            facts = {key: entry.get(key) for key in ("address", "gpu")}
            path = os.path.join(facts_dir, name + ".json")
            if entry["fresh"] and read_json(path) != facts:
                write_json(path, facts)
        for deployment in deployments:
            models.keep(deployment)
        if before != kept:
            write_json(plan_path, kept)
    text = [json.dumps(side, indent=1, sort_keys=True) + "\n" if side else "" for side in (before, kept)]
    return {"changed": before != kept, "plan": plan, "kept": kept, "table": plan_table(plan) + plan_notes(plan),
            "diff": {"before": text[0], "after": text[1], "before_header": plan_path, "after_header": plan_path}}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "deployments": {"type": "list", "elements": "dict", "required": True},
            "hosts": {"type": "dict", "required": True},
            "state_dir": {"type": "path", "required": True},
            "listed": {"type": "list", "elements": "dict", "default": []},
            "profile": {"type": "str"},
            "release": {"type": "str", "required": True},
            "store_root": {"type": "path", "default": "/var/lib/idc_llm/store"},
            "ports": {"type": "dict", "default": {}},
            "allow_unaccepted": {"type": "bool", "default": False},
            "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except IdcError as error:
        module.fail_json(**error.as_result(module.params["lang"]))


if __name__ == "__main__":
    main()
