# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which metrics rules and panels name: by their text, since no PromQL parser is at hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles/monitoring/files"
WORDS = {
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "inf",
    "nan",
    "start",
    "end",
}
LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
NAME = re.compile(r"(?<![\w:.$])[a-zA-Z_:][\w:]*")


def names(expression: str) -> set[str]:
    """Metric names of an expression: words that are no function, keyword, label, string, number or variable of Grafana."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'", '""', expression)
    text = LABELS.sub(" ", re.sub(r"\{[^{}]*\}", " ", re.sub(r"\$\{\w+(:\w+)?\}", "1", text)))
    text = re.sub(r"\[[^\]]*\]", " ", text)
    found = set()
    for match in NAME.finditer(text):
        called = re.match(r"\s*\(", text[match.end() :])
        if not called and match.group().lower() not in WORDS:
            found.add(match.group())
    return found


def rules() -> dict[str, dict]:
    """{file:alarm or record: rule} of all files of rules."""
    found = {}
    for path in sorted([*FILES.glob("*.yml"), *FILES.glob("rules/*.yml")]):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                found[f"{path.name}: {rule.get('alert') or rule['record']}"] = rule
    return found


def panels() -> dict[str, str]:
    """{dashboard: panel: expression} of all dashboards."""
    found = {}

    def walk(path, rows):
        for panel in rows:
            for number, target in enumerate(panel.get("targets") or ()):
                if target.get("expr"):
                    found[f"{path.name}: {panel.get('title')} #{number}"] = target["expr"]
            walk(path, panel.get("panels") or ())

    for path in sorted(FILES.glob("dashboards/*.json")):
        walk(path, json.loads(path.read_text()).get("panels") or ())
    return found


def uses() -> dict[str, set[str]]:
    """{metric: where it is named}."""
    found: dict[str, set[str]] = {}
    for where, text in [*((name, str(rule["expr"])) for name, rule in rules().items()), *panels().items()]:
        for name in names(text):
            found.setdefault(name, set()).add(where)
    return found


def recorded() -> set[str]:
    """Series that rules make."""
    return {rule["record"] for rule in rules().values() if "record" in rule}
