"""Every metric that a rule or a panel names exists: in the fleet's scrapes, in DCGM's counters file, or in our own code."""
from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request

import pytest

from tests.support.fleet import FLEET, ROOT
from tests.support.metric_uses import panels, recorded, uses
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(FLEET == "single", reason="the fleet of three has all exporters, too")
SUFFIX = re.compile(r"_(bucket|sum|count|total|created)$")
# what only real cards or hardware, or a fault, bring; each name is literally in the code that writes it
RARE = re.compile(r"idc_llm_\w+")
VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "1h", "$datasource": "Prometheus"}


@pytest.fixture(scope="module")
def prometheus(fleet):
    """ask(path): what Prometheus' API answers, from this machine."""
    row = next(row for row in fleet.plan["scrape"] if row["job"] == "prometheus")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(path):
        with opener.open(f"http://{row['address']}:{row['port']}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)["data"]
    return ask


def written_by_us(name: str) -> bool:
    """Whether our own programs write a series of that name."""
    places = [*ROOT.glob("plugins/module_utils/*.py"), *ROOT.glob("roles/gateway/files/*.lua")]
    stem = name.removeprefix("idc_llm_store_")
    return any(name in text or (name != stem and f'"{stem}"' in text) for text in (place.read_text() for place in places))


def test_every_name_in_rules_and_panels_exists(fleet, prometheus):
    assert fleet.chat().status == 200
    dcgm = {line.split(",")[0] for line in (ROOT / "roles/exporters/files/dcgm-counters.csv").read_text().splitlines()
            if line.startswith("DCGM_")}
    known = {"ALERTS", "ALERTS_FOR_STATE", "up", "scrape_duration_seconds", "scrape_samples_scraped"} | recorded() | dcgm

    def missing():
        real = set(prometheus("label/__name__/values")) | known
        stems = {SUFFIX.sub("", name) for name in real}
        return {name: sorted(where)[:3] for name, where in uses().items()
                if name not in real and SUFFIX.sub("", name) not in stems and not (RARE.fullmatch(name) and written_by_us(name))}
    assert uses(), "no rules are there"
    assert wait_for(lambda: not missing(), 60, 5) or not missing(), missing()


def test_every_panel_gives_a_series_here(prometheus):
    """But those about what the containers have not: GPUs by DCGM, encrypted volumes, and ranks."""
    queries = panels()
    if not queries:
        pytest.skip("no dashboards are there")
    absent = re.compile(r"DCGM_|luks|follower|output_difference|acceptance|[45]\.\.|429")

    def empty():
        found = []
        for where, text in queries.items():
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            text = re.sub(r'=~?"\$\{?\w+(:\w+)?\}?"', '=~".*"', text)
            if not absent.search(text) and not prometheus("query?" + urllib.parse.urlencode({"query": text}))["result"]:
                found.append(where)
        return found
    assert wait_for(lambda: not empty(), 90, 10) or not empty(), empty()
