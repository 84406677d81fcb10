# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica over two hosts, and a gateway: the real vLLM in two containers with systemd, by the collection's own units.

The release is kept beside the fleet's media; the first run on a machine installs it, which takes minutes.
"""
from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._fleet import Gpu, Host
from ansible_collections.idc.llm.plugins.module_utils._layout import card_of
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan

from tests.support.fleet import ROOT, Fleet, Run, playbook
from tests.support.waiting import wait_for

FLEET, SUBNET, PORT = "group", "172.30.96", 8447  # beside those of inventories/demo/group_vars/all/fleet.yml
NODES = ("node1", "node2")
ADDRESSES = (f"{SUBNET}.11", f"{SUBNET}.12")
HEAD, RANK = "tiny-blue-0", "tiny-blue-0-rank1"
CACHE = os.environ.get("IDC_LLM_CACHE") or os.path.expanduser("~/.cache/idc_llm")
PATIENCE_S = 600  # one load of the engine, on cores that may be busy
TINY = {"name": "tiny", "model": "demo/tiny", "revision": "r1", "replicas": 1, "tensor_parallel": 1, "pipeline_parallel": 2,
        "max_model_len": 512, "engine_args": {"dtype": "float32", "attention-backend": "CPU_MLA", "enforce-eager": True,
                                              "kv-cache-memory-bytes": "64M"},
        # What vLLM compiles at the first token of a tensor-parallel engine needs a C++ compiler on the hosts.
        "environment": {"TORCHDYNAMO_DISABLE": "1"}}


def plan_of(nccl: dict[str, dict[str, str]]) -> dict:
    """The planner's own plan for two hosts with a GPU each, as far as the CPU build can carry it out.

    That has no pipeline stages over hosts (they die of the first request), but tensor parallel; and it wants a core for each rank.
    """
    card = card_of("H100", 80 << 30, "9.0")
    hosts = [Host(name, ("gpu_nodes",), address, (Gpu(f"GPU-{name}", 0, 0, card),), accepted=True, nccl=nccl[name])
             for name, address in zip(NODES, ADDRESSES, strict=True)] + [Host("gw1", ("gateways",), f"{SUBNET}.21")]
    plan = make_plan([parse_deployment(TINY, 1)], hosts, Wishes(release="0.32.0", store_root="/srv"))
    for row in plan["engines"]:
        row["gpus"] = []
        row["config"].update({"model": "/srv/media/models/tiny", "tensor-parallel-size": 2, "pipeline-parallel-size": 1})
        del row["config"]["gpu-memory-utilization"]
        row["environment"]["VLLM_CPU_OMP_THREADS_BIND"] = str(row["rank"])
    return plan


def play(folder: Path, *arguments: str) -> Run:
    """A playbook on the hosts, one after the other in each task."""
    return playbook("--forks=1", "-e", f"@{folder}/variables.yml", *arguments, IDC_LLM_FLEET=FLEET)


def on(host: str, *command: str, rc: int = 0) -> str:
    """What a command prints in a container."""
    done = subprocess.run(["docker", "exec", f"idc-{FLEET}-{host}", *command], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert done.returncode == rc, f"{host}: {' '.join(command)}\n{done.stdout}"
    return done.stdout


def variables(folder: Path) -> dict:
    """Of all hosts. Cards and drivers are those of molecule/drivers."""
    nodes = yaml.safe_load((ROOT / "molecule/drivers/inventory/hosts.yml").read_text())["gpu_nodes"]
    cards = yaml.safe_load((ROOT / "molecule/drivers/vars/cards.yml").read_text())
    sources = dict(nodes["hosts"]["node1"]["idc_llm_sources"], exporters_wheels=f"{CACHE}/media/exporters")
    return {**nodes["vars"], **cards, "idc_llm_sources": sources, "idc_llm_state_dir": f"{folder}/state", "fleet_subnet": SUBNET,
            "fleet_port": PORT, "fleet_shm": "1G", "fleet_volumes": [f"{CACHE}/releases:/opt/idc_llm/releases"],
            "group_folder": str(folder)}


@dataclass(frozen=True)
class Group:
    """The replica. run: that started it."""

    folder: Path
    run: Run

    @property
    def fleet(self) -> Fleet:
        """Seen through the gateway."""
        return Fleet({"gw1": {"idc_llm_state_dir": f"{self.folder}/state", "fleet_port": PORT}}, {})

    def answers(self) -> bool:
        """Whether the head gives a token, past the gateway."""
        key = (self.folder / "state/key-engine").read_text().strip()
        request = urllib.request.Request(
            f"http://{ADDRESSES[0]}:8000/v1/completions", method="POST",
            data=json.dumps({"model": "tiny", "prompt": "Hi", "max_tokens": 4, "temperature": 0}).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return bool(json.load(reply)["choices"])
        except (OSError, ValueError):  # refused, 500, cut off
            return False

    def starts(self) -> tuple[str, str]:
        """Names the present start of the head's unit and of rank 1's."""
        return tuple(on(node, "systemctl", "show", "--property=InvocationID", "--value", f"idc-vllm@{name}.service").strip()
                     for node, name in zip(NODES, (HEAD, RANK), strict=True))

    def end(self, node: str, name: str) -> float:
        """SIGKILL to the main process of a rank; the seconds until both ranks are others and a token came back."""
        before, began = self.starts(), time.monotonic()
        on(node, "systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", f"idc-vllm@{name}.service")

        def back():  # starts() first: to ask the head that is left would end it, which is for the watchdog to do
            return not set(before) & set(self.starts()) and self.answers()

        assert wait_for(back, PATIENCE_S), self.journals()
        return time.monotonic() - began

    def followed(self) -> float:
        """How often the follower started rank 1 anew."""
        lines = on(NODES[1], "cat", f"/var/lib/prometheus/node-exporter/idc_llm_follower_{RANK}.prom").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("idc_llm_follower_restarts_total"))

    def journals(self) -> str:
        """The end of what engines, watchdog and follower said."""
        command = ("journalctl", "--no-pager", "--output=short-iso", "--lines=60", "--unit=idc-vllm*")
        return "\n".join(on(node, *command) for node in NODES)
