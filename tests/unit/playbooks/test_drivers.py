# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How playbooks/drivers.yml is called is looked at before any host is."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
# nobody answers there: a run that asked a host would say so
GROUPS = {"gpu_nodes": {"hosts": {"gpu01": None, "gpu02": None}}, "gateways": {"hosts": {"gw1": None}},
          "all": {"vars": {"ansible_connection": "community.docker.docker", "ansible_docker_extra_args": "-H tcp://127.0.0.1:9"}}}


def refused(folder, *words):
    """What is said, on one line."""
    (folder / "hosts.yml").write_text(yaml.safe_dump(GROUPS))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "hosts.yml", "playbooks/drivers.yml", *words]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400"})
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0 and "unreachable=0" in said and "Is the inventory sound" not in said, said
    return said


@pytest.mark.parametrize("number", ["0", "two", "30%", "-1"])
def test_a_number_of_hosts_that_ansible_would_take_for_all_of_them(tmp_path, number):
    said = refused(tmp_path, "-e", f"hosts_at_once={number}")
    assert f"IDC-INV-007: hosts_at_once is '{number}'" in said and "a whole number from 1" in said, said


def test_a_run_that_reaches_no_gpu_node(tmp_path):
    said = refused(tmp_path, "--limit", "gw1")
    assert "IDC-GPU-028" in said and "--limit: gpu01, gpu02" in said, said
    assert "IDC-INV-007" not in said


def test_no_word_is_all_hosts_at_once():
    """Also where the first play is skipped by its tag."""
    [play] = [play for play in yaml.safe_load((ROOT / "playbooks/drivers.yml").read_text()) if "serial" in play]
    assert play["serial"] == "{{ [hosts_at_once | default(1) | int, 1] | max }}" and play["max_fail_percentage"] == 0
