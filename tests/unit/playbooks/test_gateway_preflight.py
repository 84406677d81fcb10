# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the gateways' own variables is said at once, in plain words, before weights and engines."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
VALUES = {
    "idc_llm_plan": {"gateway": {"upstreams": [{"deployment": "r1", "servers": []}]}},
    "gateway_ca_dir": "/nonexistent", "gateway_domain": "llm.example.com",
    "gateway_tenants": {"bank": {"keys": ["0123456789abcdef" * 2]}},
}
PLAY = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [
    {"ansible.builtin.import_role": {"name": "idc.llm.gateway", "tasks_from": "preflight"}}]}]


def run(folder, **values):
    """(rc, output on one line) of the role's preflight with these variables."""
    (folder / "play.yml").write_text(yaml.safe_dump(PLAY))
    (folder / "values.json").write_text(json.dumps({**VALUES, **values}))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", folder / "play.yml"]
    done = subprocess.run(
        [*command, "-e", f"@{folder}/values.json"], cwd=ROOT, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400"})
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.parametrize("values", [{}, {"gateway_acme": None, "gateway_login": None, "gateway_affinity": None}])
def test_sound_values_pass(tmp_path, values):
    rc, output = run(tmp_path, **values)
    assert rc == 0 and "changed=0" in output, output


def test_login_and_affinity_are_refused_together_and_in_plain_words(tmp_path):
    rc, output = run(tmp_path, gateway_login={"ldap": {"uri": "ldap://dc1"}},
                     gateway_affinity={"r2": {"by": "prefix", "at_once": 8}})
    assert rc != 0 and "changed=0" in output
    for word in ("IDC-INV-006: Unknown name gateway_login.ldap.uri.", "Did you mean: uris?", "gateway_affinity.r2"):
        assert word in output, output
    assert "filter plugin" not in output and "Finalization" not in output, output


def test_an_acme_server_without_a_directory_is_refused_in_plain_words(tmp_path):
    rc, output = run(tmp_path, gateway_acme={"directory": "http://acme.example"})
    assert rc != 0 and "changed=0" in output and "gateway_acme.directory" in output and "https://" in output, output
    assert "filter plugin" not in output, output


def test_site_asks_before_weights_and_engines():
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
    order = ["See, then decide once", "Check what the gateways are to do", "Bring the weights", "Start the engines"]
    assert [play["name"] for play in plays if play["name"] in order] == order
