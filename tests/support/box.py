# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One throw-away container of the fleet's image as a host for a role, without SSH: entered as Docker enters it."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
# systemd in a container, as molecule/shared/create.yml has it
CGROUP = "/sys/fs/cgroup" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "/sys/fs/cgroup/systemd"
SYSTEMD = ["--cgroupns=host", "--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
           "--tmpfs=/run", "--tmpfs=/run/lock", f"--volume={CGROUP}:{CGROUP}:rw", "--stop-signal=SIGRTMIN+3"]


def docker(*words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One docker command."""
    done = subprocess.run(["docker", *words], input=stdin, text=True, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0 or not check, f"docker {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done


def image(suite: str = "bookworm") -> str:
    """The fleet's newest image of a suite; empty where there is no daemon or no image (script/bootstrap fleet makes both)."""
    if not shutil.which("docker"):
        return ""
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "idc-llm-fleet", check=False).stdout.split()
    return next((name for name in listed if f":{suite}-" in name), "")


@dataclass(frozen=True)
class Run:
    """One ansible-playbook run on a container."""

    rc: int
    output: str
    recap: dict[str, int]

    @property
    def text(self) -> str:
        """The output on one line, for sentences that were wrapped."""
        return re.sub(r"\s+", " ", self.output)


@dataclass(frozen=True)
class Box:
    """A container that stands. patience_s: seconds that a play may take, on a machine that has other work."""

    name: str
    patience_s: int = 300

    def sh(self, script: str, check: bool = True) -> str:
        """What a shell prints in it."""
        done = docker("exec", "-i", self.name, "sh", "-c", script, check=check)
        return done.stdout.strip()

    def put(self, source: Path, target: str) -> None:
        """Copy a file, or a folder's contents."""
        docker("cp", f"{source}/." if source.is_dir() else str(source), f"{self.name}:{target}")

    def play(self, folder: Path, role: dict[str, Any], *options: str, **variables: Any) -> Run:
        """A play with one import_role (``role``: its arguments) on this host. folder: for inventory and play."""
        tasks = [{"name": "Do", "ansible.builtin.import_role": role}]
        (folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        host = {"ansible_connection": "community.docker.docker", "ansible_host": self.name, "ansible_user": "root",
                "ansible_python_interpreter": "/usr/bin/python3"}
        (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"box": host}, "vars": variables}}))
        done = subprocess.run([PLAYBOOK, "-i", folder / "hosts.yml", folder / "play.yml", *options], cwd=ROOT, capture_output=True,
                              text=True, check=False, timeout=self.patience_s, stdin=subprocess.DEVNULL,
                              env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_NOCOLOR": "1",
                                   "ANSIBLE_PIPELINING": "1"})  # one docker exec for each task instead of five
        output = done.stdout + done.stderr
        line = next((line for line in output.splitlines() if re.match(r"box\s+: ok=", line)), "")
        return Run(done.returncode, output, {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", line)})
