# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/plan.yml over inventories/prod, whose hosts have documentation addresses: no host can be reached, none is asked."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"


def paper(tmp_path, profile, playbook="plan"):
    """(rc, output on one line) of planning for this profile; ssh is a program that fails the test."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 255\n")
    ssh.chmod(0o755)
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_SSH_EXECUTABLE": str(ssh), "COLUMNS": "400"}
    arguments = [f"playbooks/{playbook}.yml", "-i", "inventories/prod", "-e", f"idc_llm_plan_profile={profile}"]
    done = subprocess.run([PLAYBOOK, *arguments],
                          cwd=ROOT, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL, env=environment)
    assert not (tmp_path / "asked").exists(), "a host was asked"
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.parametrize(("profile", "words"), [
    ("hgx-h200-8", ["deepseek-r1-blue-0 gpu01 192.0.2.1:8000 8 TP8+EP", "deepseek-r1-blue-1 gpu02", "unreachable=0"]),
    ("4*hgx-h100-8", ["TP8+PP2+EP/2hosts", "deepseek-r1-blue-1-rank1 hgx-h100-8-4", "changed=0"]),
])
def test_a_plan_without_any_host(tmp_path, profile, words):
    before = (ROOT / "inventories/.state/prod").exists()
    rc, output = paper(tmp_path, profile)
    assert rc == 0 and all(word in output for word in words), output[-3000:]
    assert (ROOT / "inventories/.state/prod").exists() == before


def test_what_does_not_fit_is_refused_on_paper(tmp_path):
    rc, output = paper(tmp_path, "1*hgx-h100-8")
    assert rc != 0 and "deepseek-r1 needs 689 GB of weights" in output and "or on one with 8 × 96 GB" in output, output[-3000:]


def test_a_profile_is_for_planning_only(tmp_path):
    rc, output = paper(tmp_path, "hgx-h200-8", playbook="site")
    assert rc != 0 and "IDC-INV-020" in output, output[-3000:]
