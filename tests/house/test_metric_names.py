# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules and panels ask for is there, in the scrapes of a fleet that serves: names, labels and joins of real exporters."""
from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request

import pytest

from tests.support import rules
from tests.support.fleet import FLEET
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(FLEET == "single", reason="the fleet of three has all exporters, too")
# What only cards that serve, ranks, encrypted volumes, a golden set or the daily reading of the store bring.
RARE = re.compile(r"DCGM_\w+|idc_llm_(follower|output_difference|plan_gpu|luks|store_verified_timestamp|store_files)\w*")
# The same, by the series that are made of them; and what no container of this fleet does.
ABSENT = re.compile(RARE.pattern + r"|idc_llm:(gpu_(slowed|xid|efficiency)|deployment_power|energy|cost_per_million)\w*"
                    r"|acceptance|[45]\.\.|429|mountpoint=")
VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "1h", "$datasource": "Prometheus"}
MATCHED = re.compile(r'=~?"[^"]*\$\{?\w+(:\w+)?\}?[^"]*"')  # by a variable of the panel


@pytest.fixture(scope="module")
def prometheus(fleet):
    """ask(path): what Prometheus' API answers, from this machine."""
    row = next(row for row in fleet.plan["scrape"] if row["job"] == "prometheus")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(path):
        with opener.open(f"http://{row['address']}:{row['port']}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)["data"]
    return ask


def test_every_name_in_rules_and_panels_is_scraped(fleet, prometheus):
    assert fleet.chat().status == 200
    wanted = {name: where for where, query in rules.queries() for name in rules.metric_names(query)}
    wanted = {name: where for name, where in wanted.items() if not RARE.fullmatch(name) and name not in rules.recorded()}
    assert len(wanted) > 50

    def missing():
        there = set(prometheus("label/__name__/values"))
        return {name: where for name, where in wanted.items() if name not in there}
    assert wait_for(lambda: not missing(), 60, 5), missing()


def test_every_panel_gives_a_series_here(fleet, prometheus):
    """But those about what the containers have not."""
    assert fleet.chat().status == 200
    panels = {(name, panel["title"], target["expr"]) for name, board in rules.boards().items() for panel in rules.panels(board)
              for target in panel["targets"] if not ABSENT.search(target["expr"])}
    assert len(panels) > 40

    def empty():
        found = []
        for name, title, query in sorted(panels):
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            query = MATCHED.sub('=~".*"', query)
            if not prometheus("query?" + urllib.parse.urlencode({"query": query}))["result"]:
                found.append((name, title, query))
        return found
    assert wait_for(lambda: not empty(), 90, 10), empty()
