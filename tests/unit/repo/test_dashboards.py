# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboards: made from their source, sound as Grafana's JSON goes, each query one that Prometheus takes.

No Grafana has rendered them.
"""
from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import yaml
from ansible_collections.idc.llm.tests.support import rules
from ansible_collections.idc.llm.tests.unit.repo import tree

BOARDS = rules.boards()
# https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts
UNITS = {"short", "percentunit", "reqps", "ops", "s", "d", "bytes", "Bps", "celsius", "watt", "joule", "hertz"}
KINDS = {"stat", "timeseries", "table", "row"}
WIDTH = 24


def test_the_five_are_there_and_are_what_their_source_makes() -> None:
    assert set(BOARDS) == {"fleet", "deployment", "gpu", "gateway", "capacity"}
    tree.run("script/dashboards", "--check")


def test_each_has_a_name_of_its_own() -> None:
    for key in ("uid", "title"):
        values = [board[key] for board in BOARDS.values()]
        assert sorted(values) == sorted(set(values))
    assert [uid for uid in (board["uid"] for board in BOARDS.values()) if not re.fullmatch(r"idc-llm-[a-z]{1,32}", uid)] == []


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_asks_the_data_source_that_is_chosen(name: str) -> None:
    board = BOARDS[name]
    assert isinstance(board["schemaVersion"], int) and board["description"]
    first, *others = board["templating"]["list"]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    known = {"datasource", *(variable["name"] for variable in others)}
    for panel in rules.panels(board):
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
        used = {variable for target in panel["targets"] for variable in re.findall(r"\$(\w+)", target["expr"])}
        assert used <= known, panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_each_panel_has_a_unit_a_description_and_queries(name: str) -> None:
    ids = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert sorted(ids) == sorted(set(ids))
    titles = [panel["title"] for panel in rules.panels(BOARDS[name])]
    assert sorted(titles) == sorted(set(titles))
    for panel in rules.panels(BOARDS[name]):
        assert panel["type"] in KINDS
        assert len(panel["description"]) > 10 and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs and sorted(refs) == sorted(set(refs))
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
            and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"])


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_lies_on_another_or_beyond_the_edge(name: str) -> None:
    places = {panel["title"] + str(panel["id"]): panel["gridPos"] for panel in BOARDS[name]["panels"]}
    assert [title for title, place in places.items() if place["x"] + place["w"] > WIDTH or min(place.values()) < 0] == []
    assert [pair for pair in itertools.combinations(places, 2) if overlap(places[pair[0]], places[pair[1]])] == []


def test_prometheus_takes_each_query(tmp_path: Any) -> None:
    """As recording rules, which promtool reads."""
    made = [{"record": f"panel_{number}", "expr": expr} for number, (_where, expr) in enumerate(rules.queries())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}), encoding="utf-8")
    tree.run("promtool", "check", "rules", str(path))


@pytest.mark.parametrize("name", BOARDS)
def test_what_a_legend_names_is_left_by_its_query(name: str) -> None:
    """Of a query that is summed up by labels, the legend names only those."""
    wrong = []
    for panel in rules.panels(BOARDS[name]):
        for target in panel["targets"]:
            by = re.match(r"(?:sum|min|max|avg|count) by \(([^)]*)\)", target["expr"])
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            if by and not named <= {label.strip() for label in by[1].split(",")}:
                wrong.append(f"{panel['title']}: {target['legendFormat']}")
    assert wrong == []
