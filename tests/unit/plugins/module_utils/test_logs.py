"""Where logs go, and what is kept of runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from types import SimpleNamespace

import jinja2
import pytest
from ansible.plugins.test.core import changed
from ansible_collections.idc.llm.plugins.module_utils import _logs as logs
from ansible_collections.idc.llm.plugins.module_utils._runs import Run, kept, recap
from ansible_collections.idc.llm.tests.unit.repo import tree


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ({}, {}),
        ("", {}),
        (None, {}),
        ("log", {"address": "log", "port": 6514, "tls": True, "ca": "", "name": "log"}),
        ({"address": "10.0.0.1", "tls": False}, {"address": "10.0.0.1", "port": 514, "tls": False, "ca": "", "name": "10.0.0.1"}),
        (
            {"address": "10.0.0.1", "port": 999, "ca": "/ca.pem", "name": "log"},
            {"address": "10.0.0.1", "port": 999, "tls": True, "ca": "/ca.pem", "name": "log"},
        ),
    ],
)
def test_a_log_host_is_spoken_to_by_tls_unless_it_says_otherwise(raw, target):
    assert logs.log_host_errors(raw) == [] and logs.log_target(raw) == target


@pytest.mark.parametrize(
    "raw",
    [
        {"host": "x"},
        {"port": 514},
        {"address": "a b"},
        {"address": "x", "port": 0},
        {"address": "x", "port": "s"},
        {"address": "x", "tls": "perhaps"},
        {"address": "x", "ca": "ca.pem"},
        ["x"],
        {"address": 'x"evil'},
        "log.example.internal:6514",
        "10.0.0.1:514",
        {"address": "x", "name": "log:6514"},
        'fe80::1%"evil',
    ],
)
def test_a_log_host_that_is_none(raw):
    assert logs.log_host_errors(raw)


@pytest.mark.parametrize("address", ["fd00::5", "::1", "10.0.0.1", "log"])
def test_a_colon_belongs_to_ipv6_alone(address):
    assert logs.log_host_errors(address) == []


def test_a_port_behind_the_name_is_told_where_it_belongs():
    (error,) = logs.log_host_errors("log.example.internal:6514")
    said = error.render("en")
    assert "'log.example.internal:6514'" in said and "{address: log.example.internal, port: 6514}" in said


def test_a_ca_that_is_not_there_is_told():
    (error,) = logs.log_host_errors({"address": "x", "ca": "/ca.pem"}, lambda path: False)
    assert error.code == "IDC-MON-008" and "idc_llm_log_host.ca is '/ca.pem'" in error.render("en")
    assert logs.log_host_errors({"address": "x", "ca": "/ca.pem"}, lambda path: path == "/ca.pem") == []


ROLE = tree.ROOT / "roles/logs"


def rendered(name, distribution="Debian", **values):
    """A template of the role."""
    jinja = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    jinja.filters.update(basename=lambda path: PurePath(path).name, splitext=lambda name: name.rpartition(".")[::2])
    own = tree.load(ROLE / "vars/main.yml")
    owner = jinja.from_string(own["__logs_owner"]).render(ansible_facts={"distribution": distribution})
    known = {"__logs_access": own["__logs_access"], "__logs_owner": owner, "__logs_target": {}, "logs_keep_days": 190}
    return jinja.from_string((ROLE / "templates" / name).read_text()).render(**{**known, **values})


@pytest.mark.parametrize(("distribution", "owner"), [("Debian", "root"), ("Ubuntu", "syslog")])
def test_the_file_of_who_came_in_is_his_who_writes_it(distribution, owner):
    assert f'fileOwner="{owner}" fileGroup="adm" fileCreateMode="0640"' in rendered("rsyslog.conf.j2", distribution)
    assert f"create 0640 {owner} adm" in rendered("logrotate.j2", distribution)
    tasks = tree.load(ROLE / "tasks/configure.yml")
    (made,) = [at for at, task in enumerate(tasks) if task.get("ansible.builtin.file", {}).get("state") == "touch"]
    (told,) = [at for at, task in enumerate(tasks) if task.get("ansible.builtin.template", {}).get("src") == "rsyslog.conf.j2"]
    assert made < told and tasks[made]["ansible.builtin.file"] == {
        "path": "{{ __logs_access }}", "state": "touch", "access_time": "preserve", "modification_time": "preserve",
        "owner": "{{ __logs_owner }}", "group": "adm", "mode": "0640"}


def test_a_log_host_that_is_away_holds_up_nothing_that_is_kept_here():
    target = logs.log_target("log")
    text = rendered("rsyslog.conf.j2", __logs_target=target, __logs_tls=True, __logs_ca="/ca", logs_files=["/a/b.log"],
                    logs_queue_max_size="1g")
    assert text.index("auth,authpriv.*") < text.index("*.* call idc_llm_ship") and 'queue.timeoutEnqueue="0"' in text


def test_a_check_of_the_stage_configure_alone_needs_no_other_stage():
    jinja = jinja2.Environment(undefined=jinja2.StrictUndefined)
    jinja.tests["changed"] = changed
    known = {"ansible_check_mode": True, "__logs_folders": {"changed": False}, "__logs_target": {},
             "__logs_kept": {"stat": {"exists": True}}}
    for task in tree.load(ROLE / "tasks/configure.yml"):
        jinja.compile_expression(task.get("when", "true"), undefined_to_none=False)(**known)


NOW = datetime(2026, 11, 30, tzinfo=UTC)


def line(days: int) -> str:
    return json.dumps({"time": (NOW - timedelta(days=days)).isoformat()})


def test_lines_go_when_they_are_old_and_odd_ones_stay():
    assert kept([line(191), line(189), "odd", line(0)], NOW, 190) == [line(189), "odd", line(0)]


def test_a_run_says_what_it_changed_on_each_host():
    stats = SimpleNamespace(processed={"n1": 1, "n2": 1}, ok={"n1": 5}, changed={"n1": 2}, failures={}, dark={"n2": 1}, skipped={})
    began = Run("1f", "2026-11-30T00:00:00+00:00", "ops", "ctl", "site.yml", "/inv", "abc")
    run = began.ended("2026-11-30T00:01:00+00:00", 60, recap(stats))
    said = json.loads(run.line())
    assert (said["run"], said["event"], said["seconds"], said["time"]) == ("1f", "ended", 60, "2026-11-30T00:01:00+00:00")
    assert said["hosts"]["n1"] == {"ok": 5, "changed": 2, "failures": 0, "dark": 0, "skipped": 0}
    assert said["hosts"]["n2"]["dark"] == 1 and "\n" not in run.line()
