# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs on hosts: each begins with what its role brings, and finds things where its role puts them."""
from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
from ansible_collections.idc.llm.plugins.module_utils._agent_balancer import Places

ROOT = Path(__file__).resolve().parents[4]
BROUGHT = {
    "gateway": ["_agent_base", "_agent_watchdog", "_agent_balancer", "_agent_prober", "_agent_audit", "_agent_identity",
                "_agent_login"],
    "model_store": ["_agent_base", "_agent_store_verify"],
    "luks_storage": ["_agent_base", "_agent_unlock"],
    "vllm": ["_agent_base", "_agent_watchdog", "_agent_follower"],
}


@pytest.mark.parametrize("role", sorted(BROUGHT))
def test_a_role_brings_what_its_programs_need(tmp_path, role):
    tasks = "".join(path.read_text() for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")))
    for name in BROUGHT[role]:
        assert name in tasks, f"{role} brings {name}"
        shutil.copy(ROOT / "plugins/module_utils" / f"{name}.py", tmp_path)
    for name in BROUGHT[role]:
        if "__main__" not in (tmp_path / f"{name}.py").read_text():
            continue
        done = subprocess.run([sys.executable, "-I", tmp_path / f"{name}.py", "--help"], cwd="/", capture_output=True, text=True,
                              check=False)
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage:"), done.stderr


def test_the_balancer_finds_what_the_role_writes():
    values = yaml.safe_load((ROOT / "roles/gateway/vars/main.yml").read_text())
    root, state = values["__gateway_root"], values["__gateway_state"]
    assert Places() == Places(f"{root}/idc_llm/engines.json", f"{state}/engines", f"{root}/idc_llm/engines",
                              f"{root}/idc_llm/reload-pending", f"{state}/lock")


def test_a_file_is_there_whole_or_as_before(tmp_path, monkeypatch):
    path, said = tmp_path / "file", []
    assert base.put(said.append, str(path), "one\n") and path.read_text() == "one\n"
    assert path.stat().st_mode & 0o777 == 0o644
    monkeypatch.setattr(base.os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    assert not base.put(said.append, str(path), "two\n")
    assert path.read_text() == "one\n" and [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert said == [f"{path} cannot be written: No space left on device"]
