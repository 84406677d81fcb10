# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus asks, by which rules it judges, and what the plan promises, as series. Pure; private to this collection."""
from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._deployment import mapping_errors
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

EXPORTERS = ("node", "nginx", "gpu", "blackbox")  # of the role exporters: behind its TLS and password, if any
MONITORS = ("prometheus", "alertmanager")
PROBE = "idc_llm_gateway"  # the module of blackbox.yml that asks a gateway
GRAFANA_PASSWORD = 12  # characters at least
HOURS_A_MONTH = 730.0  # 365 days / 12
MONTHLY = ("depreciation_per_month", "staff_per_month", "other_per_month")
COSTS = ("currency", "power_kw", "power_per_kwh", *MONTHLY)
DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
WINDOW = re.compile(r"\[((?:\d+(?:ms|[smhdwy]))+)(:?(?:\d+(?:ms|[smhdwy]))*)\]")


def targets(plan: Mapping[str, Any], monitor: str) -> Dict[str, List[Dict[str, Any]]]:
    """What one monitor asks, a list of file_sd groups for each scrape job: engines, exporters, monitors, probes.

    https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
    """
    kinds: Dict[str, List[Dict[str, Any]]] = {"engines": [], "exporters": [], "monitors": [], "probes": []}
    for row in sorted(plan["scrape"], key=lambda row: (row["job"], row["host"], row["port"])):
        kind = "exporters" if row["job"] in EXPORTERS else "monitors" if row["job"] in MONITORS else "engines"
        kinds[kind].append({"targets": [_at(row)], "labels": {**row["labels"], "job": row["job"], "host": row["host"]}})
    own = next((row for row in plan["scrape"] if row["job"] == "blackbox" and row["host"] == monitor), None)
    if own:
        kinds["probes"] = [{"targets": [_at(own)], "labels": {
            **probe["labels"], "job": "blackbox", "host": probe["host"], "instance": probe["url"],
            "__param_target": probe["url"], "__param_module": PROBE}} for probe in plan["probes"]]
    return kinds


def prometheus_config(plan: Mapping[str, Any], monitor: str, rules: Sequence[str], interval_s: int, root: str,
                      ca: str = "", password_file: str = "") -> Dict[str, Any]:
    """prometheus.yml. rules: paths; root: the folder of target files; ca: of the exporters' certificates, where they speak TLS."""
    secured: Dict[str, Any] = {"scheme": "https", "tls_config": {"ca_file": ca}} if ca else {}
    if password_file:
        secured["basic_auth"] = {"username": "prometheus", "password_file": password_file}
    own: Dict[str, Dict[str, Any]] = {"engines": {}, "exporters": secured, "monitors": {},
                                      "probes": {"metrics_path": "/probe", **secured}}
    jobs = [{"job_name": f"idc_llm_{kind}", **more, "file_sd_configs": [{"files": [f"{root}/targets/{kind}.json"]}]}
            for kind, more in own.items()]
    jobs.append({"job_name": "site", "file_sd_configs": [{"files": [f"{root}/site/*.json"]}]})
    managers = [_at(row) for row in plan["scrape"] if row["job"] == "alertmanager"]
    return {
        "global": {"scrape_interval": f"{interval_s}s", "scrape_timeout": f"{min(interval_s, 10)}s",
                   "evaluation_interval": f"{interval_s}s", "external_labels": {"monitor": monitor}},
        # both monitors of a pair have to send one alarm the same, so that Alertmanager knows it for one
        "alerting": {"alert_relabel_configs": [{"regex": "monitor", "action": "labeldrop"}],
                     "alertmanagers": [{"static_configs": [{"targets": managers}]}]},
        "rule_files": [*rules, f"{root}/site/*.yml"],
        "scrape_configs": jobs,
    }


def cost_errors(costs: Any) -> List[IdcError]:
    """What is wrong with C(idc_llm_costs)."""
    errors = mapping_errors(costs, "idc_llm_costs", COSTS)
    if errors or not costs:
        return errors
    if not re.fullmatch("[A-Z]{3}", str(costs.get("currency"))):
        errors.append(IdcError("IDC-INV-007", name="idc_llm_costs.currency", observed=costs.get("currency"),
                               wanted="CNY, USD or the like"))
    for key in COSTS[1:]:
        value = costs.get(key, 0)
        if isinstance(value, bool) or not re.fullmatch(r"\d+(\.\d+)?", str(value)):
            errors.append(IdcError("IDC-INV-007", name=f"idc_llm_costs.{key}", observed=repr(value), wanted="a number from 0"))
    return errors


def setting_errors(retention_size: Any, grafana_password: Any) -> List[IdcError]:
    """What is wrong with the role's other variables; None is not asked about. The password is never said."""
    errors = []
    if retention_size is not None and not re.fullmatch(r"\d+(B|KB|MB|GB|TB|PB|EB)", str(retention_size)):
        errors.append(IdcError("IDC-INV-007", name="monitoring_retention_size", observed=repr(retention_size), wanted="20GB, 1TB"))
    length = len(grafana_password) if isinstance(grafana_password, str) else 0
    if grafana_password is not None and length < GRAFANA_PASSWORD:
        errors.append(IdcError("IDC-MON-009", length=length, wanted=GRAFANA_PASSWORD))
    return errors


def cost_per_hour(costs: Mapping[str, Any]) -> float:
    """What the fleet costs in an hour, whether it works or not."""
    monthly = sum(float(costs.get(key, 0)) for key in MONTHLY)
    return float(costs.get("power_kw", 0)) * float(costs.get("power_per_kwh", 0)) + monthly / HOURS_A_MONTH


def plan_rules(plan: Mapping[str, Any], costs: Mapping[str, Any]) -> Dict[str, Any]:
    """A file of recording rules: what each deployment promises and what the fleet costs, so that rules and panels can compare."""
    rows = []
    for one in plan["deployments"]:
        labels, slo = {"deployment": one["name"]}, one["slo"]
        for name, value in (("idc_llm_slo_ttft_seconds", slo["ttft_p99_ms"] / 1000),
                            ("idc_llm_slo_e2e_seconds", slo["e2e_p99_ms"] / 1000),
                            ("idc_llm_slo_success_ratio", round(1 - slo["error_rate"], 9))):
            rows.append({"record": name, "expr": f"vector({value:.10g})", "labels": labels})
    if costs:
        rows.append({"record": "idc_llm_cost_per_hour", "expr": f"vector({cost_per_hour(costs):.10g})",
                     "labels": {"currency": str(costs["currency"])}})
    return {"groups": [{"name": "idc_llm_plan", "rules": rows}]} if rows else {"groups": []}


def scaled(rules: Mapping[str, Any], factor: float, least_s: float) -> Dict[str, Any]:
    """A file of rules with every C(for) and every range [5m] multiplied, for fleets on which tests cannot wait.

    least_s: no range gets shorter, since a rate needs two samples. C(for) may fall to zero.
    """
    if factor == 1:
        return dict(rules)
    groups = []
    for group in rules["groups"]:
        group = {key: value for key, value in group.items() if key != "interval"}
        groups.append({**group, "rules": [_scaled_rule(rule, factor, least_s) for rule in group["rules"]]})
    return {**rules, "groups": groups}


def _scaled_rule(rule: Mapping[str, Any], factor: float, least_s: float) -> Dict[str, Any]:
    def window(match: re.Match[str]) -> str:
        seconds = max(_seconds(match.group(1)) * factor, min(least_s, _seconds(match.group(1))))
        return f"[{_words(seconds)}{match.group(2)}]"
    changed = {**rule, "expr": WINDOW.sub(window, str(rule["expr"]))}
    for key in ("for", "keep_firing_for"):
        if key in rule:
            changed[key] = _words(_seconds(str(rule[key])) * factor)
    return changed


def _seconds(text: str) -> float:
    return float(sum(int(count) * SECONDS[unit] for count, unit in DURATION.findall(text)))


def _words(seconds: float) -> str:
    return f"{max(0, round(seconds))}s"


def _at(row: Mapping[str, Any]) -> str:
    return f"{row['address']}:{row['port']}"
