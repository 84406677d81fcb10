# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No rule and no panel asks for a series that nobody exports, under a label that nobody sets."""
from __future__ import annotations

import csv

import pytest
from ansible_collections.idc.llm.tests.support import rules
from ansible_collections.idc.llm.tests.unit.repo import tree

EXPORTED = rules.exported()
KNOWN = set().union(*EXPORTED.values()) | rules.recorded()
COUNTERS = tree.ROOT / "roles/exporters/files/dcgm-counters.csv"


def test_names_are_read_out_of_queries() -> None:
    expr = ('sum by (host, le) (rate(vllm:a_bucket{x="not_a_metric"}[5m])) / on (host) group_left (rack) (up{job=~"a"} == bool 1)'
            ' or label_replace(DCGM_FI_X, "gpu", "$1", "UUID", "(.+)") * 1e6 unless b offset 1h and time() - abs(c{d="}"}) > 50e9')
    assert rules.metric_names(expr) == {"vllm:a_bucket", "up", "DCGM_FI_X", "b", "c"}
    assert rules.metric_names('count_values by (host) ("xid", x) + quantile(0.9, $metric_y) > inf') == {"x"}


@pytest.mark.parametrize("path", rules.NAMES, ids=lambda path: path.stem)
def test_a_list_says_where_it_is_from(path: tree.Path) -> None:
    first, *names = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ") and len(first) > 30
    assert names == sorted(set(names)) and names


def test_every_series_in_a_rule_or_a_panel_is_exported_or_recorded() -> None:
    unknown = {f"{where}: {name}" for where, expr in rules.queries() for name in rules.metric_names(expr) - KNOWN}
    assert unknown == set()


def test_every_recorded_series_is_read() -> None:
    """By an alert, a panel or another rule."""
    read = {name for where, expr in rules.queries() for name in rules.metric_names(expr) if not where.endswith(f": {name}")}
    assert rules.recorded() - read == set()


def test_dcgm_exporter_is_told_to_give_what_is_asked_of_it() -> None:
    """Its own list leaves out ECC and NVLink; ours has each field once, with a type that it knows."""
    with COUNTERS.open(encoding="utf-8") as stream:
        rows = [row for row in csv.reader(stream, skipinitialspace=True) if row and not row[0].startswith("#")]
    names = [row[0].strip() for row in rows]
    assert sorted(names) == sorted(set(names))
    assert [row for row in rows if len(row) != 3 or row[1].strip() not in ("gauge", "counter", "label")] == []
    assert set(names) == EXPORTED["dcgm"]
