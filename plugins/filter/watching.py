# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the roles that watch: exporters, monitoring, logs."""
from __future__ import annotations

import ctypes
import os
from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.module_utils import _alerting, _exporters, _firewall, _logs, _watching
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")  # Debian's, and Red Hat's since RHEL 9


def _said(call: Callable[..., Any], lang: str, *arguments: Any, **more: Any) -> Any:
    try:
        return call(*arguments, **more)
    except IdcError as error:
        raise AnsibleFilterError(error.render(lang)) from error


def exporter_rows(plan: Mapping[str, Any], host: str, catalogue: Mapping[str, Any], **more: Any) -> list[dict[str, Any]]:
    """The exporters of a host."""
    return _exporters.exporters(plan, host, catalogue, **more)


def exporter_errors(archives: Any, names: Sequence[str], password: str, tls: bool, lang: str = "en", gpu: str = "auto",
                    missing: Sequence[str] = ()) -> list[str]:
    """Sentences about what is wrong with the role's variables; missing: what they name and the controller has not."""
    errors = _exporters.archive_errors(archives, names) + _exporters.choice_errors(gpu, missing)
    if tls and len(password) < 16:
        errors.append(IdcError("IDC-MON-006", variable="idc_llm_secrets.exporters_password",
                               observed=f"{len(password)} characters long"))
    if tls:
        try:
            _bcrypt("can this controller do it?", "preflight", 4)
        except IdcError as error:
            errors.append(error)
    return [error.render(lang) for error in errors]


def exporter_hash(password: str, host: str) -> str:
    """The password by bcrypt, the one hash that the exporter toolkit takes."""
    return str(_said(_bcrypt, "en", password, host))


def _bcrypt(password: str, host: str, cost: int = 10) -> str:
    """By the C library: neither Python nor Ansible has it. What is raised holds no password."""
    setting, seen = f"$2b${cost:02}${_exporters.salt(host)}".encode(), []
    for library in LIBRARIES:
        try:
            crypt = ctypes.CDLL(library).crypt
        except (OSError, AttributeError) as error:
            seen.append(str(error))
            continue
        crypt.restype = ctypes.c_char_p
        found = crypt(password.encode(), setting) or b""
        if found.startswith(setting[:7]) and len(found) == 60:
            return str(found.decode())
        seen.append(f"{library} knows no bcrypt")
    raise IdcError("IDC-MON-011", observed="; ".join(seen))


def exporter_guards(plan: Mapping[str, Any], host: str, more: Sequence[str] = (), lang: str = "en") -> list[dict[str, Any]]:
    """Who may reach which port of what watches a host."""
    found: list[dict[str, Any]] = _said(_firewall.watch_rules, lang, plan, host, more)
    return found


def monitoring_errors(receivers: Any, secrets: Any, costs: Any, lang: str = "en", retention_size: Any = None,
                      grafana_password: Any = None) -> list[str]:
    """Sentences about what is wrong with the role's variables, whatever their types."""
    errors = _alerting.receiver_errors(receivers, secrets or {}) + _watching.cost_errors(costs)
    return [error.render(lang) for error in errors + _watching.setting_errors(retention_size, grafana_password)]


def monitoring_warnings(receivers: Sequence[Mapping[str, Any]], lang: str = "en") -> list[str]:
    """Sentences about what may be meant, and should be known."""
    return [error.render(lang) for error in _alerting.receiver_warnings(receivers)]


def alertmanager_config(receivers: Sequence[Mapping[str, Any]], secrets: Mapping[str, Any], robot_port: int, wait_s: int,
                        interval_s: int, repeat_h: int) -> dict[str, Any]:
    """alertmanager.yml."""
    return _alerting.alertmanager_config(_alerting.receivers(receivers, secrets or {}), robot_port, wait_s, interval_s, repeat_h)


def alert_robots(receivers: Sequence[Mapping[str, Any]], secrets: Mapping[str, Any], port: int, lang: str = "en") -> dict[str, Any]:
    """What the robots' bridge reads."""
    return _alerting.robot_settings(_alerting.receivers(receivers, secrets or {}, lang), port)


def log_errors(log_host: Any, lang: str = "en") -> list[str]:
    """Sentences about what is wrong with idc_llm_log_host."""
    return [error.render(lang) for error in _logs.log_host_errors(log_host, _readable)]


def _readable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        return {
            "exporter_rows": exporter_rows, "exporter_gpu": _exporters.gpu_exporter, "exporter_errors": exporter_errors,
            "exporter_guards": exporter_guards, "exporter_left": _exporters.left, "exporter_hash": exporter_hash,
            "exporter_textfile": _exporters.textfile,
            "watch_targets": _watching.targets, "watch_prometheus": _watching.prometheus_config,
            "watch_plan_rules": _watching.plan_rules, "watch_scaled": _watching.scaled,
            "monitoring_errors": monitoring_errors, "monitoring_warnings": monitoring_warnings,
            "alertmanager_config": alertmanager_config, "alert_robots": alert_robots,
            "log_errors": log_errors, "log_target": _logs.log_target}
