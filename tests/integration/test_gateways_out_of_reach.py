# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/tasks/gateways.yml where one of two gateways does not answer: it is named, the other one is asked, the run goes on."""
from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLAY = """\
- hosts: gpu_nodes
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.include_tasks: {tasks}/gateways.yml
          vars: {{__idc_llm_entry: drain, gateway_engines: [tiny-blue-0]}}
      any_errors_fatal: true
    - ansible.builtin.debug:
        msg: "{{{{ inventory_hostname }}}} goes on"
"""


def test_a_gateway_that_gives_no_answer_stops_nobody(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        (tmp_path / "hosts.yml").write_text(f"""\
gpu_nodes: {{hosts: {{node1: {{ansible_connection: local}}, node2: {{ansible_connection: local}}}}}}
gateways:
  hosts: {{gone: {{ansible_host: 127.0.0.1, ansible_port: {port}}}, here: {{ansible_connection: local}}}}
all: {{vars: {{ansible_python_interpreter: "{sys.executable}"}}}}
""")
        (tmp_path / "play.yml").write_text(PLAY.format(tasks=ROOT / "playbooks/tasks"))
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"], cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "gone gives no answer and is passed over" in done.stdout
    assert "here gives no answer" not in done.stdout
    assert "Look for the balancer and its engines" in done.stdout
    assert all(f"{node} goes on" in done.stdout for node in ("node1", "node2"))
