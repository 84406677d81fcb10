"""The fleet under test. Run by molecule's verify step, or by hand on the demo: ``.venv/bin/python -m pytest tests/house``."""
from __future__ import annotations

import json
import os
import subprocess

import pytest
import testinfra

from tests.support.fleet import BIN, INVENTORY, ROOT, Fleet


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The inventory of this fleet, as Ansible understands it."""
    done = subprocess.run([BIN / "ansible-inventory", "-i", INVENTORY, "--list"], cwd=ROOT, text=True, check=True,
                          capture_output=True)
    listed = json.loads(done.stdout)
    groups = {name: entry["hosts"] for name, entry in listed.items() if isinstance(entry, dict) and "hosts" in entry}
    wanted = ("idc_llm_state_dir", "fleet_port", "fleet_container")
    ask = "msg={{ {" + ", ".join(f"'{name}': {name}" for name in wanted) + "} | to_json }}"
    done = subprocess.run([BIN / "ansible", "-i", INVENTORY, "all", "-m", "ansible.builtin.debug", "-a", ask], cwd=ROOT,
                          text=True, check=True, capture_output=True,
                          env={**os.environ, "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
                               "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"})
    hosts = json.loads(done.stdout)["plays"][0]["tasks"][0]["hosts"]
    return Fleet({name: json.loads(result["msg"]) for name, result in hosts.items()}, groups)


@pytest.fixture(scope="session")
def on(fleet):
    """A host of the fleet by name or by group, as root over SSH, the way Ansible goes: on("gateways"), on("node1")."""
    def connect(name: str):
        name = fleet.groups[name][0] if name in fleet.groups else name
        return testinfra.get_host(f"ssh://{name}", ssh_config=str(fleet.state / "ssh/config"), sudo=True, controlpersist=60)
    return connect
