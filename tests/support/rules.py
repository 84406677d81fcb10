# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules, their tests and the dashboards of the role monitoring as data, and the metric names that a query asks for."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "roles/monitoring/files/rules").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "roles/monitoring/files/dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs/runbooks"
PROVEN = sorted((ROOT / "tests/alarms").glob("*.yml"))  # by promtool
CASES = [path for path in PROVEN if path.stem != "series"]  # those of alarms
NAMES = sorted((ROOT / "tests/support/metric_names").glob("*.txt"))
SEVERITIES = ("page", "warning", "info")

# Parts of PromQL that hold names which are no metrics: texts, label matchers, ranges, lists of labels.
NO_METRICS = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|\{[^}]*\}|\[[^\]]*\]|\$\{?\w+\}?'
                        r"|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\boffset\s+\w+")
WORDS = {"and", "or", "unless", "bool", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "inf", "nan",
         "atan2", "sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values"}
NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()")


@dataclass(frozen=True)
class Case:
    """One test of promtool's. fires: whether it expects the alert, and with which labels; at: seconds of each look."""

    alert: str
    silent: bool
    inputs: frozenset[str]
    looks: tuple[tuple[float, tuple[dict[str, str], ...]], ...]


def metric_names(expr: str) -> set[str]:
    """The metrics that a query asks for."""
    bare = NO_METRICS.sub(lambda match: '""' if match.group()[0] in "\"'" else " ", expr)
    return {name for name in NAME.findall(bare) if name.lower() not in WORDS}


def rules() -> Iterator[tuple[Path, dict[str, Any]]]:
    """(file, rule) of all."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                yield path, rule


def alerts() -> dict[str, dict[str, Any]]:
    """{name: rule} of the alerting ones; the last of a name that stands twice."""
    return {rule["alert"]: rule for _path, rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    """Names that the rules themselves make."""
    return {rule["record"] for _path, rule in rules() if "record" in rule}


def exported() -> dict[str, set[str]]:
    """{exporter: names} of tests/support/metric_names."""
    return {path.stem: set(path.read_text(encoding="utf-8").splitlines()[1:]) for path in NAMES}


def seconds(text: str) -> float:
    """Of 3m15s."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)(ms|[smhd])", str(text)))


def labels(text: str) -> dict[str, str]:
    """Of ALERTS{a="b"}."""
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


def cases() -> Iterator[Case]:
    """All tests of alarms; a name is "Alert: what happens" or "Alert: silent: why"."""
    for path in CASES:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            alert, _sep, note = test["name"].partition(": ")
            looks = tuple((seconds(look["eval_time"]), tuple(labels(row["labels"]) for row in look["exp_samples"]))
                          for look in test["promql_expr_test"] if f'alertname="{alert}"' in look["expr"])
            inputs = frozenset(name for row in test["input_series"] for name in metric_names(row["series"]))
            yield Case(alert, note.startswith("silent: "), inputs, looks)


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Panels that ask something; rows are none."""
    yield from (panel for panel in board["panels"] if panel["type"] != "row")


def boards() -> dict[str, dict[str, Any]]:
    """{file name without .json: dashboard}."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS}


def queries() -> Iterator[tuple[str, str]]:
    """(where, query) of all rules and panels; the variables of a panel are left as they are."""
    for path, rule in rules():
        yield f"{path.name}: {rule.get('alert') or rule['record']}", rule["expr"]
    for name, board in boards().items():
        for panel in panels(board):
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]
