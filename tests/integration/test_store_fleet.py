# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``site.yml --tags model_store`` on three bare hosts at once: containers with systemd, made and reached as molecule's are.

The origin is the hubs' double on the controller, on the address of the fleet's bridge alone, and its log is the proof.
"""
from __future__ import annotations

import json
import math
import random
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.fleet import ROOT, Run, playbook
from tests.support.hub import Hub, Request, Store, make_model
from tests.support.make_tiny_model import CONFIG, shapes
from tests.support.waiting import wait_for

FLEET, SUBNET = "store", "172.30.80"  # beside those of inventories/demo/group_vars/all/fleet.yml
SITE = ROOT / "inventories/demo/group_vars/all/site.yml"
NODES = ("node1", "node2", "node3")
MODEL, REVISION, FOLDER = "demo/shards", "main", "/var/lib/idc_llm/store/demo/shards/main"
LARGER = {**CONFIG, "hidden_size": 512, "moe_intermediate_size": 512, "n_routed_experts": 28}  # 46 MB in all
SHARDS = tuple(f"model-{number:05d}-of-00012.safetensors" for number in range(1, 13))
PRESENT = ("playbooks/site.yml", "--tags", "model_store")


def shard(tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A safetensors file of these tensors, with bytes that mean nothing."""
    header: dict[str, dict] = {}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + random.Random(text).randbytes(end)


def model_files() -> dict[str, bytes]:
    """A model as a hub has it: the tensors dealt out by size, so that the shards are of about 4 MB."""
    tensors = sorted(shapes(LARGER).items(), key=lambda item: -math.prod(item[1]))
    parts = {name: shard(dict(tensors[place::len(SHARDS)])) for place, name in enumerate(SHARDS)}
    return {"config.json": json.dumps(LARGER).encode(), **parts}


def play(folder: Path, *arguments: str) -> Run:
    """A playbook on the three hosts, as an operator runs it: the demo's inventory, and what ``folder`` has beside it."""
    return playbook("-i", f"{folder}/hosts.yml", "-e", f"@{folder}/variables.yml", "--limit", ",".join(NODES), *arguments,
                    IDC_LLM_FLEET=FLEET)


def on(node: str, *command: str, stdin: str = "") -> str:
    """What a command prints in a container."""
    done = subprocess.run(["docker", "exec", "-i", f"idc-{FLEET}-{node}", *command], input=stdin, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert done.returncode == 0, f"{node}: {' '.join(command)}\n{done.stdout}"
    return done.stdout


def booted(node: str) -> bool:
    """Whether systemd has started all that it could; SSH cannot before prepare.yml has made its keys."""
    return on(node, "sh", "-c", "systemctl is-system-running || true").strip() in ("running", "degraded")


def streams(log: tuple[Request, ...]) -> tuple[Counter[str], Counter[str]]:
    """How often each shard was asked for its bytes, and for its header alone: the planner names the end of the range."""
    asked = [one for one in log if one.content and one.method == "GET" and one.path in SHARDS]
    headers = Counter(one.path for one in asked if re.fullmatch(r"bytes=0-\d+", one.range))
    return Counter(one.path for one in asked) - headers, headers


@dataclass(frozen=True)
class Lab:
    """Three bare hosts that Ansible gets into, and the hub."""

    folder: Path
    hub: Hub
    store: Store


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Containers and hub, gone at the end."""
    folder: Path = tmp_path_factory.mktemp("fleet")
    deployment = yaml.safe_load(SITE.read_text())["idc_llm_deployments"][0]
    variables = {"idc_llm_state_dir": f"{folder}/state", "fleet_subnet": SUBNET, "fleet_port": 0}  # no gateway
    (folder / "hosts.yml").write_text(json.dumps({"gpu_nodes": {"hosts": {NODES[2]: {"fleet_octet": 13}}}}))
    (folder / "variables.yml").write_text(json.dumps(variables))
    store = Store(folder / "hub")
    make_model(store.root, MODEL, model_files(), ref=REVISION)
    try:
        play(folder, "molecule/shared/destroy.yml")  # what a run that was killed left
        made = play(folder, "molecule/shared/create.yml")
        assert made.rc == 0, f"No fleet. Remedy: script/bootstrap fleet, which says what is missing.\n{made.output[-6000:]}"
        assert wait_for(lambda: all(map(booted, NODES)), 60)  # a booting systemd empties /tmp, modules that unpack there too
        made = play(folder, "molecule/shared/prepare.yml")
        assert made.rc == 0, made.output[-6000:]
        with Hub(store.root, host=f"{SUBNET}.1") as hub:  # Docker's gateway
            source = {"model": MODEL, "revision": REVISION, "sources": [f"hf+{hub.url}"], "replicas": len(NODES)}
            variables["idc_llm_deployments"] = [{**deployment, **source}]
            (folder / "variables.yml").write_text(json.dumps(variables))
            yield Lab(folder, hub, store)
    finally:
        gone = play(folder, "molecule/shared/destroy.yml")
    assert gone.rc == 0, gone.output[-4000:]


@pytest.fixture(scope="module")
def brought(lab) -> tuple[Run, tuple[Request, ...]]:
    """The first run, and what the hub was asked in it."""
    run = play(lab.folder, *PRESENT)
    return run, lab.hub.log


def test_three_hosts_get_the_model_with_each_file_about_once_from_the_origin(brought):
    run, log = brought
    assert run.rc == 0 and set(run.recap) >= set(NODES), run.output[-6000:]
    whole, headers = streams(log)
    assert set(whole) == set(SHARDS) and max(whole.values()) <= 2, whole
    assert sum(whole.values()) <= 1.25 * len(SHARDS), whole
    assert headers == Counter(SHARDS), headers  # the planner looks once, on one host, and at no weights


def test_every_byte_is_the_hubs_own_on_each_host(lab, brought):
    files = lab.store.commit(MODEL, REVISION).files
    sums = "".join(f"{file.sha256}  {FOLDER}/{file.path}\n" for file in files)
    for node in NODES:
        assert on(node, "sha256sum", "--check", "--strict", stdin=sums).count(": OK") == len(files) == len(SHARDS) + 1
        assert on(node, "ls", "-A", f"{FOLDER}/..").split() == [REVISION]


def test_the_hosts_gave_each_other_the_rest(lab, brought):
    from_hub = 0
    for node in NODES:
        rows = json.loads(on(node, "cat", f"{FOLDER}/manifest.json"))["files"]
        sources = [row["source"] for row in rows if row["path"] in SHARDS]
        peers = {source for source in sources if source.startswith("http://") and source.endswith(":8090")}
        assert peers and set(sources) <= {*peers, f"hf+{lab.hub.url}"}, sources
        from_hub += sources.count(f"hf+{lab.hub.url}")
    assert from_hub <= 1.25 * len(SHARDS), f"{from_hub} of {len(NODES) * len(SHARDS)} shards came from the origin"


def test_a_second_run_changes_nothing_and_asks_the_hub_nothing(lab, brought):
    lab.hub.forget()
    run = play(lab.folder, *PRESENT)
    assert run.rc == 0 and set(run.recap) >= set(NODES) and run.total("changed") == 0, run.output[-6000:]
    assert lab.hub.log == ()
