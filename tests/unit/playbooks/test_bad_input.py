"""Bad input stops before any host is changed, with what was seen, what was wanted and how to mend it."""
from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
KEY = secrets.token_hex(24)


@pytest.fixture()
def site(tmp_path):
    """An inventory of this machine alone, and its runs. site.run(playbook, *arguments) → (rc, output on one line)."""
    class Site:
        """Files of the inventory and its runs."""

        groups = {group: {"hosts": {"localhost": None}} for group in ("gpu_nodes", "gateways", "monitors")}
        variables = {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "idc_llm_allow_unaccepted": True,
            "idc_llm_sources": {"wheels": str(tmp_path)},
            "idc_llm_deployments": [{"name": "r1", "model": "org/r1", "revision": "abc", "device": "cpu",
                                     "sources": [f"file://{tmp_path}"]}],
            "idc_llm_secrets": {"tenants": {"bank": {"keys": [KEY]}}, "engine_key": KEY[::-1]},
        }
        folder = tmp_path / "inventory"

        def run(self, playbook, *arguments):
            """Write the inventory, run the playbook."""
            (self.folder / "group_vars/all").mkdir(parents=True, exist_ok=True)
            (self.folder / "hosts.yml").write_text(yaml.safe_dump(self.groups))
            (self.folder / "group_vars/all/site.yml").write_text(yaml.safe_dump(self.variables))
            done = subprocess.run([BIN / "ansible-playbook", "-i", self.folder, f"playbooks/{playbook}.yml", *arguments],
                                  cwd=ROOT, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL,
                                  env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_BECOME": "0", "COLUMNS": "400"})
            output = done.stdout + done.stderr
            assert done.returncode == 0 or "changed=0" in output or "PLAY RECAP" not in output, output
            return done.returncode, re.sub(r"\s+", " ", output)
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "requirements.txt").write_text("")
    return Site()


def refused(site, *words):
    """The run fails with all of these words on the screen."""
    rc, output = site.run("preflight")
    assert rc != 0
    for word in words:
        assert word in output, f"{word!r} is not in: {output[-3000:]}"
    return output


def hide(site, tmp_path):
    """Move the secrets into a vault file; its password is in tmp_path/password, another one in tmp_path/wrong."""
    vault = site.folder / "group_vars/all/secrets.vault"
    vault.parent.mkdir(parents=True)
    vault.write_text(yaml.safe_dump({"idc_llm_secrets": site.variables.pop("idc_llm_secrets")}))
    for name in ("password", "wrong"):
        (tmp_path / name).write_text(secrets.token_hex(16))
    subprocess.run([BIN / "ansible-vault", "encrypt", "--vault-password-file", tmp_path / "password", vault], check=True,
                   capture_output=True)


def test_sound_input_plans_and_needs_no_secrets(site, tmp_path):
    hide(site, tmp_path)
    rc, output = site.run("plan")
    assert rc == 0 and "r1-blue-0" in output and "changed=0" in output, output


def test_all_that_is_wrong_with_an_inventory_is_said_at_once(site):
    """Each rule by itself is in test_inventory.py; here: as an operator reads it."""
    first = {**site.variables["idc_llm_deployments"][0], "port": 8000}
    nameless = {key: value for key, value in first.items() if key != "model"}
    site.variables["idc_llm_deployments"] = [first, {**first, "name": "v3"}, {**first, "name": "v4", "tensor_paralel": 8},
                                             {**nameless, "name": "v5"}]
    site.groups = {**site.groups, "retired": {"hosts": {"localhost": None}}}
    short = secrets.token_hex(15)
    site.variables["idc_llm_secrets"]["tenants"]["bank"]["keys"] = [short]
    output = refused(site, "IDC-INV-002: Deployment v5 has no model", "IDC-INV-003", "Did you mean: tensor_parallel?",
                     "IDC-INV-009: localhost is in gpu_nodes and in retired", "IDC-INV-012: Deployments r1 and v3",
                     "port 8000 on localhost", "A key of tenant bank is 30 characters long. Wanted: at least 32.")
    assert short not in output


def test_errors_in_chinese(site):
    site.variables["idc_llm_lang"] = "zh"
    del site.variables["idc_llm_deployments"][0]["model"]
    refused(site, "IDC-INV-002", "缺少 model")


def test_old_python_is_one_sentence_before_facts_and_stops_everybody(site, tmp_path):
    old = tmp_path / "python3.6"
    old.write_text("#!/bin/sh\necho 'Python 3.6'\n")
    old.chmod(0o755)
    both = {"localhost": None, "aged": {"ansible_python_interpreter": str(old)}}
    site.groups = {**site.groups, "gpu_nodes": {"hosts": both}}
    output = refused(site, "IDC-HOST-001", "aged has Python 3.6", "package python3")
    assert "See the host" not in output


def test_wrong_paths(site, tmp_path):
    site.variables["idc_llm_deployments"][0]["sources"] = [f"file://{tmp_path}/nowhere"]
    site.variables["idc_llm_sources"]["wheels"] = f"{tmp_path}/neither"
    refused(site, "IDC-HOST-006", "nowhere/manifest.json", "IDC-HOST-005", "neither/requirements.txt", "script/wheels")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_missing_or_wrong_vault_password(site, tmp_path, password):
    hide(site, tmp_path)
    arguments = ["--vault-password-file", str(tmp_path / password)] if password else []
    rc, output = site.run("preflight", *arguments)
    assert rc != 0 and "IDC-INV-019" in output and "secrets.vault" in output and "--ask-vault-pass" in output, output[-3000:]


def test_the_right_vault_password_leads_on_to_the_hosts(site, tmp_path):
    hide(site, tmp_path)
    _rc, output = site.run("preflight", "--check", "--vault-password-file", str(tmp_path / "password"))
    assert "IDC-INV" not in output and "idc.llm.preflight : See the host" in output, output[-3000:]


def test_wrong_folder_of_wheels_on_the_controller(site, tmp_path):
    site.variables["idc_llm_sources"]["wheels_controller"] = f"{tmp_path}/nowhere"
    refused(site, "IDC-HOST-005: localhost", "nowhere/requirements.txt")


@pytest.mark.parametrize("instead", [{"pip": "https://mirror/simple", "pip_list": "list.txt"},
                                     {"archive": "/srv/vllm.tar.gz", "archive_sha256": "a" * 64}])
def test_no_folder_of_wheels_is_looked_for_where_releases_come_from_elsewhere(site, instead):
    site.variables["idc_llm_sources"] = instead
    _rc, output = site.run("preflight", "--check")
    assert "Check the host" in output and "IDC-HOST-005" not in output and "IDC-INV" not in output, output[-3000:]


def test_what_is_wrong_with_roles_own_variables_is_told_with_what_is_wrong_with_the_host(site, tmp_path):
    """Of each role, before anything is changed; none needs its part of the site to be there, nor an answer of its Tang servers."""
    site.groups["tang_servers"] = {"hosts": {"tang1": None}}
    site.variables |= {
        "nvidia_stack_power_limit": "800%", "acceptance_dcgm_level": 7, "exporters_tls": True, "idc_llm_log_host": {"host": ""},
        "monitoring_retention_size": "much", "gateway_virtual_address": "10.0.0.10", "gateway_login": {"radius": {}},
        "luks_storage_volumes": [{"name": "models", "devices": ["/dev/sdb"], "mount": "/srv"}],
        "model_store_tls_key": "/etc/ssl/store.key", "model_store_allowed_networks": ["10.1.0.1/16"],
        "vllm_firewall_allowed_networks": ["10.2.0.1/16"], "exporters_firewall_allowed_networks": ["10.3.0.1/16"]}
    site.variables["idc_llm_sources"] = {"archive": "/srv/vllm.tar.gz", "archive_sha256": "short"}
    site.variables["idc_llm_deployments"][0]["sources"] = [f"file://{tmp_path}/nowhere"]
    output = refused(
        site, "nvidia_stack_power_limit is '800%'", "acceptance_dcgm_level is 7", "exporters_password", "log_host",
        "archive_sha256", "monitoring_retention_size", "IDC-GW-008", "gateway_login.radius", "IDC-HOST-006",
        "luks_storage_volumes[0].devices", "luks_storage_recovery_passphrase",
        "IDC-FETCH-030", "10.1.0.1/16", "10.2.0.1/16", "10.3.0.1/16")
    assert "luks_storage_tang" not in output


def test_and_all_that_is_not_of_its_type_or_of_no_known_fact(site):
    """Of roles whose turn would come after an hour, too. What is made of the host's facts is read when these are there."""
    network = "{{ ansible_facts['%s']['ipv4']['address'] }}/24"
    site.variables |= {
        "nvidia_stack_power_limit": network % "eth99", "gateway_virtual_address": network % "lo", "vllm_drain_timeout_s": "soon",
        "luks_storage_volumes": [{"name": "models"}], "model_store_jobs": [4], "exporters_gpu": "maybe"}
    site.variables["idc_llm_secrets"]["alerts"] = KEY
    output = refused(
        site, "IDC-INV-022", "no attribute 'eth99'", "vllm_drain_timeout_s", "devices, mount found in luks_storage_volumes",
        "model_store_jobs", "exporters_gpu", "monitoring_alert_secrets", "roles/vllm/README.md")
    assert KEY not in output and "IDC-GW" not in output


def test_a_host_whose_address_is_made_of_facts_that_nobody_has_is_left_out_and_the_others_are_planned(site):
    site.groups["gpu_nodes"] = {"hosts": {"localhost": None, "away": None}}
    site.variables["idc_llm_address"] = "{{ ansible_facts['lo']['ipv4']['address'] }}"
    rc, output = site.run("plan", "--limit", "localhost")
    assert rc == 0 and "r1-blue-0" in output and "away" in output, output[-3000:]
