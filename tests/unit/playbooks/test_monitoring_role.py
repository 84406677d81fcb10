# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role monitoring does without a host: it refuses in plain words, survives check mode, knows when not to reload."""
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
ROLE = ROOT / "roles/monitoring"


def load(name):
    return yaml.safe_load((ROLE / name).read_text())


def run(folder, tasks, *options, **values):
    """(rc, output on one line) of tasks on the controller."""
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    (folder / "values.json").write_text(json.dumps(values))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", folder / "play.yml", *options]
    done = subprocess.run(
        [*command, "-e", f"@{folder}/values.json"], cwd=ROOT, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "400"})
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def preflight(folder, **values):
    role = {"name": "idc.llm.monitoring", "tasks_from": "preflight"}
    return run(folder, [{"ansible.builtin.import_role": role}], **values)


def test_what_cannot_be_meant_is_refused_in_plain_words(tmp_path):
    rc, output = preflight(tmp_path, monitoring_grafana=True, monitoring_grafana_password="hush", monitoring_retention_size="20 GB",
                           monitoring_alert_receivers=["night"])
    assert rc != 0 and "changed=0" in output
    for word in ("IDC-MON-009: Grafana's password is 4 characters long.", "monitoring_retention_size is '20 GB'",
                 "monitoring_alert_receivers[1] is string"):
        assert word in output, output
    assert "filter plugin" not in output and "hush" not in output, output


def test_presets_pass_and_need_no_password(tmp_path):
    rc, output = preflight(tmp_path)
    assert rc == 0 and "changed=0" in output, output


def test_check_mode_without_the_installation_knows_what_is_missing(tmp_path):
    """--tags monitoring_configure leaves the task out that says whether the package is new; the CA may not be made yet."""
    (block,) = [task["block"] for task in load("tasks/configure.yml") if "block" in task]
    (ca,) = [task for task in block if task["name"].startswith("Bring the CA")]
    (written,) = [task for task in load("tasks/alerting.yml") if task["name"] == "Write whom Alertmanager tells"]
    for task in (ca, written):
        task.pop("notify")
    written["ansible.builtin.copy"]["dest"] = str(tmp_path / "alertmanager.yml")
    values = {"__monitoring_new": load("vars/main.yml")["__monitoring_new"], "__monitoring_alerting": {},
              "__monitoring_user": "root", "ansible_python_interpreter": sys.executable,
              "__monitoring_ca": str(tmp_path / "there.pem"), "monitoring_exporters_tls": True,
              "monitoring_exporters_ca": str(tmp_path / "none.pem")}
    rc, output = run(tmp_path, [ca, written], "--check", **values)
    assert rc == 0 and "changed=1" in output and "skipped=1" in output, output
    (tmp_path / "none.pem").write_text("a CA")
    rc, output = run(tmp_path, [ca], "--check", **values)
    assert rc == 0 and "changed=1" in output, output


@pytest.mark.parametrize("file", ["configure", "alerting", "grafana"])
def test_whether_the_package_is_new_is_asked_in_one_way(file):
    assert "__monitoring_install" not in (ROLE / f"tasks/{file}.yml").read_text()


def test_a_program_that_has_just_begun_is_not_reloaded(tmp_path):
    whens = {task["name"]: task["when"] for task in load("handlers/main.yml")}
    registers = {task["name"]: task.get("register") for task in load("handlers/main.yml")}
    begun = {"name": "prometheus.service", "changed": True}
    started = [{**begun, "changed": False}, {"name": "prometheus-alertmanager.service", "changed": True}]
    values = {name: value for name, value in load("vars/main.yml").items() if name in
              ("__monitoring_restarts", "__monitoring_begun", "__monitoring_fresh")}
    cases = [({}, True, True), ({registers["Restart Prometheus"]: begun}, False, True),
             ({"__monitoring_started": {"results": started}}, True, False),
             ({"__monitoring_started": {"skipped": True}}, True, True),
             ({registers["Restart Alertmanager"]: {"skipped": True, "changed": False}}, True, True)]
    tasks = [{"ansible.builtin.assert": {"that": [f"({whens[f'Reload {name}']}) == {wanted}"]}, "vars": case}
             for case, *both in cases for name, wanted in zip(("Prometheus", "Alertmanager"), both, strict=True)]
    rc, output = run(tmp_path, tasks, **values)
    assert rc == 0 and f"ok={len(tasks)}" in output, output


def test_grafana_is_reached_from_the_monitor_alone_and_not_restarted_for_a_password():
    assert "GF_SERVER_HTTP_ADDR=127.0.0.1\n" in (ROLE / "templates/grafana.conf.j2").read_text()
    (block,) = [task["block"] for task in load("tasks/grafana.yml") if "block" in task]
    assert not any("notify" in task for task in block if task["name"].startswith("Write the password"))
    assert any(task["name"].startswith("Write the password") for task in block)
