# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles that know accelerators and disks, run by ansible-playbook on this machine in a folder of their own."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the roles make root's files")


@pytest.fixture
def play(tmp_path):
    """play(role, *options, **variables) -> (exit status, output, {ok, changed, failed, skipped})."""

    def run(role, *options, **variables):
        tasks = [{"hosts": "all", "gather_facts": False, "roles": [role]}]
        (tmp_path / "play.yml").write_text(json.dumps(tasks))
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"box": host}, "vars": variables}}))
        done = subprocess.run(
            [PLAYBOOK, "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", *options],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        output = done.stdout + done.stderr
        recap = next(line for line in output.splitlines() if line.startswith("box "))
        return done.returncode, output, {k: int(v) for k, v in (p.split("=") for p in recap.split(":", 1)[1].split())}

    return run


def test_acceptance_writes_its_verdict_once(tmp_path, play):
    file = tmp_path / "var" / "acceptance.json"
    rc, output, recap = play("idc.llm.acceptance", "--check", acceptance_file=str(file))
    assert (rc, recap["changed"], file.exists()) == (0, 1, False), output
    rc, output, recap = play("idc.llm.acceptance", acceptance_file=str(file))
    assert (rc, recap["changed"]) == (0, 2), output
    verdict = json.loads(file.read_text())
    assert (verdict["schema"], [c["name"] for c in verdict["checks"]][0]) == (3, "driver_answers")
    assert (file.stat().st_mode & 0o777, verdict["accepted"]) == (0o644, all(c["ok"] for c in verdict["checks"]))
    rc, output, recap = play("idc.llm.acceptance", acceptance_file=str(file))
    assert (rc, recap["changed"]) == (0, 0), output
    assert json.loads(file.read_text()) == verdict


def test_nvidia_stack_looks_and_reports(play):
    rc, output, recap = play("idc.llm.nvidia_stack")
    assert (rc, recap["changed"]) == (0, 0), output
    assert "cards on the PCI bus" in output


def test_luks_storage_is_off_by_default(play):
    rc, output, recap = play("idc.llm.luks_storage")
    assert (rc, recap["changed"], recap["failed"]) == (0, 0, 0), output


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_luks_storage_refuses_wrong_words_and_a_host_without_device_mapper(play, options):
    volumes = [{"name": "models", "devices": ["/dev/disk/by-id/none-such"], "mount": "/srv/none-such"}]
    said = {"luks_storage_volumes": volumes, "luks_storage_unlock": ["passphrase"], "luks_storage_lang": "zh"}
    rc, output, recap = play("idc.llm.luks_storage", *options, **said)
    assert (rc, recap["failed"], recap["changed"]) == (2, 1, 0), output
    assert "luks_storage_recovery_passphrase" in output and "luks_storage_backup_recipient" in output
    if os.path.exists("/dev/mapper/control"):
        return
    said |= {"luks_storage_recovery_passphrase": "x" * 20, "luks_storage_backup_recipient": "age1" + "q" * 58}
    rc, output, recap = play("idc.llm.luks_storage", *options, **said)
    assert (rc, recap["failed"], recap["changed"]) == (2, 1, 0), output
    assert "IDC-LUKS-001" in output and "未改动任何内容" in output
