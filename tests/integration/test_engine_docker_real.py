# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real vLLM in a container of the local daemon, as a person runs it: the role's image tasks, then the module, in a play.

Its image takes minutes to make, from the fleet's wheels, and stays for the next time: only where IDC_LLM_TEST_REAL_IMAGE is set.
"""
from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe, ask

from tests.support import engine_image
from tests.support.engine_unit import free_port
from tests.support.fleet import BIN, ROOT
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(not os.environ.get("IDC_LLM_TEST_REAL_IMAGE"), reason="IDC_LLM_TEST_REAL_IMAGE is not set")
HOME = Path("/var/lib/nobody")  # of the engine's user
SITE = yaml.safe_load((ROOT / "inventories/demo/group_vars/all/site.yml").read_text())


@dataclass
class Engine:
    """An engine of the real vLLM and what a play says of it."""

    folder: Path
    image: str
    name: str
    port: int
    key: str

    def play(self, check: bool = False, **changed) -> dict:
        """What vllm_service returns; the role's image tasks come first."""
        deployment = SITE["idc_llm_deployments"][0]
        config = {**deployment["engine_args"], "model": str(self.folder / "model"), "served-model-name": "tiny",
                  "host": "127.0.0.1", "port": self.port, "max-model-len": 512}
        call = {
            "name": self.name, "release": SITE["vllm_release"], "runtime": "docker", "image": self.image, "config": config,
            "environment": {**deployment["environment"], "VLLM_HOST_IP": "127.0.0.1", "HF_HUB_OFFLINE": "1"},
            "api_key": self.key, "user": "nobody", "group": "nogroup", "root": str(self.folder / "root"),
            "config_dir": str(self.folder / "engines"), "ready_timeout": 400, "drain_timeout": 30, "warmup": [32],
            "limit_memlock": 1 << 20, "limit_nofile": 4096, **changed,
        }
        call["config"] = {**config, **changed.get("config", {})}
        variables = {"vllm_runtime": "docker", "vllm_image": self.image, "vllm_root": call["root"], "vllm_docker_packages": [],
                     "__vllm_release": SITE["vllm_release"], "ansible_python_interpreter": sys.executable}
        tasks = [
            {"ansible.builtin.include_role": {"name": "idc.llm.vllm", "tasks_from": "image"}},
            {"idc.llm.vllm_service": call, "register": "done", "ignore_errors": True},
            {"ansible.builtin.copy": {"content": "{{ done | to_json }}", "dest": str(self.folder / "done.json"), "mode": "0600"},
             "check_mode": False, "diff": False},
        ]
        play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}]
        (self.folder / "play.json").write_text(json.dumps(play))
        command = [BIN / "ansible-playbook", "-i", "localhost,", "--diff", *(["--check"] if check else [])]
        done = subprocess.run([*command, self.folder / "play.json"], cwd=ROOT, text=True, check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
                              timeout=900)
        assert done.returncode == 0, done.stdout
        assert self.key not in done.stdout
        return json.loads((self.folder / "done.json").read_text())

    def ask(self) -> dict:
        """A token."""
        return ask(Probe(f"http://127.0.0.1:{self.port}", "tiny", self.key, timeout=30))


@pytest.fixture(scope="module")
def client():
    """The local daemon."""
    found = pytest.importorskip("docker").from_env()
    assert os.geteuid() == 0 and engine_image.base(found), "needs root, and the fleet's image and media: script/bootstrap fleet"
    return found


@pytest.fixture(scope="module")
def engine(client, tmp_path_factory):
    """The engine; nothing but its image is left afterwards."""
    folder = tmp_path_factory.mktemp("engine")
    folder.chmod(0o755)
    shutil.copytree(engine_image.MEDIA / "models/tiny", folder / "model")
    (folder / "root/releases").mkdir(parents=True)
    there = HOME.exists()
    made = Engine(folder, engine_image.real(client), f"test-{secrets.token_hex(4)}", free_port(), secrets.token_hex(16))
    yield made
    for container in client.containers.list(all=True, filters={"name": f"^idc-vllm-{made.name}"}):
        container.remove(force=True, v=True)
    if not there:
        shutil.rmtree(HOME, ignore_errors=True)


def test_the_life_of_an_engine(engine, client, record_property):
    """From its image to a token, again, restarted, killed, refused, drained and gone."""
    def told(what: str, seconds: float) -> None:
        record_property(what, round(seconds, 1))
        print(f"{what}: {seconds:.1f} s")

    assert engine.play(check=True)["pending"]  # the arguments are not listed yet
    first = engine.play()
    assert (first.get("action"), first["changed"], first.get("warmed")) == ("start", True, 1), first
    told("start to first token", first["ready_s"])
    again = engine.play()
    assert (again["action"], again["changed"]) == ("none", False), again

    wrong = engine.play(config={"max_batch_size": 8})
    assert wrong["failed"] and wrong["error"]["code"] == "IDC-ENG-015"
    shorter = engine.play(config={"max-model-len": 256})
    assert (shorter.get("action"), shorter.get("failed", False)) == ("restart", False), shorter
    told("changed, start to first token", shorter["ready_s"])

    container = client.containers.get(f"idc-vllm-{engine.name}")
    rows = client.api.top(container.id, ps_args="-eo pid,args")["Processes"]
    began = time.monotonic()
    os.kill(next(int(pid) for pid, words in rows if "vllm serve" in words and "docker-init" not in words), 9)
    assert wait_for(lambda: restarted(container), 30, 0.1)
    assert wait_for(lambda: answers(engine), 400)
    told("killed to next token", time.monotonic() - began)

    drained = engine.play(state="drained", config={"max-model-len": 256})
    assert (drained.get("drained"), drained.get("action")) == (True, "stop"), drained
    container.reload()
    assert (container.status, container.attrs["State"]["ExitCode"]) == ("exited", 0)
    assert engine.play(state="absent")["changed"] is True
    assert client.containers.list(all=True, filters={"name": f"^idc-vllm-{engine.name}"}) == []


def restarted(container) -> bool:
    container.reload()
    return container.attrs["RestartCount"] == 1


def answers(engine: Engine) -> bool:
    try:
        return engine.ask()["status"] == 200
    except Exception as error:  # whatever it says while it loads
        print(f"not yet: {error}"[:120])
        return False
