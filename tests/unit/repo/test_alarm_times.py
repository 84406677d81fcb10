# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a fault to the word about it: what the presets of two roles and a rule's ``for`` add up to."""
from __future__ import annotations

import re

import pytest
from ansible_collections.idc.llm.plugins.module_utils._watching import _seconds
from ansible_collections.idc.llm.tests.unit.repo import tree

MOST_S = 120
ARGUMENTS = tree.load(tree.ROOT / "roles/exporters/vars/main.yml")["__exporters_catalogue"]["dcgm"]["arguments"]
DCGM_S = int(ARGUMENTS[ARGUMENTS.index("-c") + 1]) / 1000  # its preset is 30 s
RULES = [
    (path.name, rule)
    for path in sorted((tree.ROOT / "roles/monitoring/files/rules").glob("*.yml"))
    for group in tree.load(path)["groups"]
    for rule in group["rules"]
    if rule.get("labels", {}).get("severity") == "page"
]


def presets(role: str) -> dict:
    return tree.load(tree.ROOT / f"roles/{role}/defaults/main.yml")


@pytest.mark.parametrize(("file", "rule"), RULES, ids=[rule["alert"] for _file, rule in RULES])
def test_a_page_is_told_within_two_minutes_of_what_it_judges(file: str, rule: dict) -> None:
    """A series that a program writes waits for it, then for a scrape, a judgement, the rule's patience, and what gathers alarms."""
    own, exporters = presets("monitoring"), presets("exporters")
    written = exporters["exporters_textfile_interval_s"] if "idc_llm_" in rule["expr"] else 0
    if re.search("DCGM_|idc_llm:gpu", rule["expr"]):
        written = max(written, DCGM_S)
    seen = written + 2 * own["monitoring_scrape_interval_s"]
    seconds = seen + _seconds(str(rule.get("for", "0s"))) + own["monitoring_alert_wait_s"]
    assert seconds <= MOST_S, f"{file}: {rule['alert']} is told after {seconds:.0f} s"
