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
  - Turns the wanted deployments and what is known of the hosts into one plan, the fact C(idc_llm_plan), that all roles only read.
  - Runs on the controller. Keeps the plan and each host's last facts in O(state_dir); both are inputs of the next run, so that
    hosts outside C(--limit) or unreachable keep their engines, and planning again changes nothing.
  - Parallel sizes are taken as the deployments say them; a replica stays on one host in this version.
  - Refuses with an error of the catalogue (C(IDC-INV-*), C(IDC-PLAN-*)) when something cannot be placed.
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
    - V(engines) are vLLM processes (host, address, port, GPU uuids, C(--config) mapping, environment),
      V(stores) the models each host needs, V(gateway) the upstreams, V(scrape) the exporters' endpoints,
      V(warnings) sentences, V(left_out) hosts with the reason.
  returned: success
  type: dict
  sample: {schema: 1, provisional: false, warnings: [], left_out: [], engines: [{name: tiny-blue-0, host: node1, port: 8000}]}
kept:
  description: The plan as it is kept in O(state_dir) and on each host, without what only this run saw.
  returned: success
  type: dict
table:
  description: A heading and one line per engine for a person to read.
  returned: success
  type: list
  elements: str
  sample:
    - engine       host   listens on         gpus  model         release
    - tiny-blue-0  node1  172.30.77.11:8000  cpu   demo/tiny@r1  0.32.0
"""

import json
import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._plan import (
    PORTS,
    Wishes,
    aligned,
    host_from_facts,
    make_plan,
    to_keep,
)


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


def table(plan: dict[str, Any]) -> list[str]:
    """One aligned line per engine."""
    models = {d["name"]: f"{d['model']}@{d['revision']}" for d in plan["deployments"]}
    return aligned([{"engine": e["name"], "host": e["host"], "listens on": f"{e['address']}:{e['port']}",
                     "gpus": str(len(e["gpus"]) or "cpu"), "model": models[e["deployment"]],
                     "release": e["release"]} for e in plan["engines"]])


def with_kept_facts(hosts: dict[str, Any], facts_dir: str) -> dict[str, Any]:
    """Each host's entry; one that was not seen in this run gets its last facts, with its groups as they are now."""
    entries = {}
    for name, entry in hosts.items():
        kept = None if entry["fresh"] else read_json(os.path.join(facts_dir, name + ".json"))
        entries[name] = {**entry, **(kept or {})}
    return entries


def run(module: AnsibleModule) -> dict[str, Any]:
    """Read what is kept, decide, keep the outcome unless in check mode."""
    params = module.params
    deployments = [parse_deployment(raw, position) for position, raw in enumerate(params["deployments"], 1)]
    facts_dir = os.path.join(params["state_dir"], "facts")
    plan_path = os.path.join(params["state_dir"], "plan.json")
    entries = with_kept_facts(params["hosts"], facts_dir)
    wishes = Wishes(release=params["release"], store_root=params["store_root"].rstrip("/"),
                    ports={**PORTS, **{name: int(port) for name, port in params["ports"].items()}},
                    allow_unaccepted=params["allow_unaccepted"])
    before = read_json(plan_path)
    hosts = [host_from_facts(name, entry, module.check_mode) for name, entry in entries.items()]
    plan = make_plan(deployments, hosts, wishes, before)
    kept = to_keep(plan)
    if not module.check_mode:
        for name, entry in entries.items():
            facts = {key: entry.get(key) for key in ("address", "gpu")}
            path = os.path.join(facts_dir, name + ".json")
            if entry["fresh"] and read_json(path) != facts:
                write_json(path, facts)
        if before != kept:
            write_json(plan_path, kept)
    text = [json.dumps(side, indent=1, sort_keys=True) + "\n" if side else "" for side in (before, kept)]
    return {"changed": before != kept, "plan": plan, "kept": kept, "table": table(plan),
            "diff": {"before": text[0], "after": text[1], "before_header": plan_path, "after_header": plan_path}}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "deployments": {"type": "list", "elements": "dict", "required": True},
            "hosts": {"type": "dict", "required": True},
            "state_dir": {"type": "path", "required": True},
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
