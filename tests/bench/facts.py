# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to see eight GPUs, and to plan a fleet: gpu_facts over the double of NVML, the planner on paper.

Limits: the whole module in 1 s; 1,000 hosts with 20 deployments in 2 s, the second time too; ten times the hosts in no more
than ten times the time (and a tenth, for noise). Best of several runs, since another program may be at work beside it.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._fleet import hosts_on_paper
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan, to_keep

from tests.support.nvml import Machine

MODULE = ("import json, sys\nfrom ansible.module_utils.testing import patch_module_args\n"
          "from ansible_collections.idc.llm.plugins.modules import gpu_facts\n"
          "with patch_module_args({}): gpu_facts.main()")
FACTS_LIMIT_S, PLAN_LIMIT_S, GROWTH_LIMIT = 1.0, 2.0, 11.0
MODELS = ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "Qwen/Qwen3-8B", "Qwen/Qwen3-32B",
          "deepseek-ai/DeepSeek-V2-Lite")
WISHES = Wishes(release="0.33.0", store_root="/store")


def best(runs: int, work: object) -> float:
    """Seconds of the quickest of so many runs."""
    seconds = []
    for _run in range(runs):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def facts() -> float:
    """The whole module in a process of its own, as Ansible starts it."""
    with tempfile.TemporaryDirectory() as folder:
        installed = Machine.load("hgx-h100-8").install(Path(folder) / "machine")
        environment = {**os.environ, **installed.environment}

        def run() -> None:
            done = subprocess.run([sys.executable, "-c", MODULE], env=environment, capture_output=True, text=True, check=True)
            assert len(json.loads(done.stdout)["ansible_facts"]["idc_llm_gpu"]["gpus"]) == 8
        return best(5, run)


def deployments(hosts: int) -> list:
    """Twenty: some with a number of replicas, some on one model and several hosts, five of them fill the rest."""
    wanted = []
    for number in range(20):
        model = MODELS[number % len(MODELS)]
        entry = {"name": f"d{number}", "model": model, "revision": "r"}
        if number % 4:
            entry["replicas"] = max(hosts // 100, 1) if number < 15 else 0
        wanted.append(parse_deployment(entry, number))
    return wanted


def planning(count: int) -> tuple[float, float, int]:
    """(seconds of the first plan, seconds of the next one, engines)."""
    hosts, wanted = hosts_on_paper(f"{count}*hgx-h100-8", []), deployments(count)
    metadata = {one.name: metadata_for(one.model) for one in wanted}
    kept = to_keep(make_plan(wanted, hosts, WISHES, None, metadata))
    first = best(3, lambda: make_plan(wanted, hosts, WISHES, None, metadata))
    again = best(3, lambda: make_plan(wanted, hosts, WISHES, kept, metadata))
    assert to_keep(make_plan(wanted, hosts, WISHES, kept, metadata)) == kept
    return first, again, len(kept["engines"])


def main() -> int:
    """Print the table; 1 where a limit does not hold."""
    seen = facts()
    print(f"gpu_facts, whole module, 8 simulated GPUs  {seen:6.3f} s  (limit {FACTS_LIMIT_S} s)", flush=True)
    rows = {}
    for count in (10, 100, 1000):
        rows[count] = planning(count)
        first, again, engines = rows[count]
        print(f"plan {count:5} hosts, 20 deployments, {engines:5} engines  first {first:6.3f} s  again {again:6.3f} s", flush=True)
    growth = max(rows[1000][0] / rows[100][0], rows[1000][1] / rows[100][1])
    slowest = max(rows[1000][:2])
    print(f"ten times the hosts take {growth:.1f} times as long (limit {GROWTH_LIMIT})")
    print(f"facts: gpu8_of_limit={seen / FACTS_LIMIT_S:.3f} plan1000_of_limit={slowest / PLAN_LIMIT_S:.3f} growth={growth:.2f}")
    return int(seen > FACTS_LIMIT_S or slowest > PLAN_LIMIT_S or growth > GROWTH_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
