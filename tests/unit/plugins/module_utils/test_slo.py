# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Percentiles of known samples, and verdicts."""
from __future__ import annotations

import math
import random

import pytest
from ansible_collections.idc.llm.plugins.module_utils._slo import figures, judge_regression, judge_slo, percentile, ratios, spread


@pytest.mark.parametrize(("percent", "value"), [(0, 15), (5, 15), (20, 15), (30, 20), (40, 20), (50, 35), (99, 50), (100, 50)])
def test_nearest_rank_of_a_known_sample(percent, value):
    assert percentile([15, 20, 35, 40, 50], percent) == value


def test_nearest_rank_is_its_definition():
    """The smallest value with at least that share of the sample at or below it."""
    chance = random.Random(5)
    for count in (1, 2, 7, 99, 100, 101, 1000):
        sample = sorted(chance.choices(range(count), k=count))
        for percent in (1, 50, 90, 99):
            wanted = next(v for v in sample if 100 * sum(x <= v for x in sample) >= percent * count)
            assert percentile(sample, percent) == wanted


def test_p99_of_a_hundred_is_the_last_but_one():
    assert percentile(range(1, 101), 99) == 99
    assert percentile(range(1, 100), 99) == 99
    assert percentile(range(1, 102), 99) == 100


def test_spread_is_in_milliseconds_and_needs_no_order():
    found = spread([0.004, 0.001, 0.003, 0.002])
    assert found == {"p50": 2.0, "p90": 4.0, "p99": 4.0, "mean": 2.5, "max": 4.0, "count": 4}
    assert spread([]) == {"p50": None, "p90": None, "p99": None, "mean": None, "max": None, "count": 0}


def load(**changes):
    even = {"p50": 10.0, "p99": 20.0}
    return {"ttft_ms": even, "itl_ms": {"p50": None, "p99": None}, "e2e_ms": even, "error_rate": 0.0,
            "output_tokens_per_s": 100.0, "requests_per_s": 2.0, **changes}


def test_objectives():
    verdicts = judge_slo(load(error_rate=0.1), {"ttft_p99_ms": 19.9, "e2e_p99_ms": 20.0, "itl_p99_ms": 5.0, "error_rate": 0.2})
    assert {verdict.name: verdict.ok for verdict in verdicts} == {
        "ttft_p99_ms": False, "e2e_p99_ms": True, "itl_p99_ms": False, "error_rate": True}
    assert verdicts[0].text() == "ttft_p99_ms=20 (<= 19.9)"
    assert verdicts[1].text() == "itl_p99_ms=none (<= 5)"


@pytest.mark.parametrize("slo", [{}, {"error_rate": None}, {"error_rate": 0.0}])
def test_a_failed_request_is_a_miss_without_any_objective(slo):
    (verdict,) = judge_slo(load(error_rate=0.01), slo)
    assert (verdict.name, verdict.ok) == ("error_rate", False)


def test_ratios_and_their_limits():
    before = figures(load())
    now = figures(load(ttft_ms={"p50": 10.0, "p99": 25.0}, output_tokens_per_s=89.0))
    found = ratios(now, before)
    assert (found["ttft_p50"], found["ttft_p99"], found["output_tokens_per_s"], found["itl_p50"]) == (1.0, 1.25, 0.89, None)
    limits = {"ttft_p99": 1.2, "ttft_p50": 1.0, "output_tokens_per_s": 0.9, "itl_p50": 2, "e2e_p50": None}
    verdicts = judge_regression(found, limits)
    assert {verdict.name: verdict.ok for verdict in verdicts} == {
        "ttft_p99": False, "ttft_p50": True, "output_tokens_per_s": False, "itl_p50": False}
    assert verdicts[2].text() == "output_tokens_per_s=0.89 (>= 0.9)"
    earlier, later = now, before
    assert math.isclose(ratios(later, earlier)["ttft_p99"], 0.8)
