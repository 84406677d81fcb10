# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who measures an all-reduce with whom."""
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._acceptance_pairs import Member, alone, member, ring, rounds, spanning

EIGHT = [Member(f"gpu{number}", f"10.0.0.{number}", 8, "NVIDIA H200", 400.0) for number in range(1, 9)]


def hosts(found):
    return [[tuple(pair["hosts"]) for pair in one] for one in found]


@pytest.mark.parametrize("count", range(2, 12))
def test_each_host_has_its_neighbours_and_is_in_one_pair_of_a_round(count):
    names = [str(number) for number in range(count)]
    found = ring(names)
    pairs = [pair for one in found for pair in one]
    assert len(set(map(frozenset, pairs))) == len(pairs) == (1 if count == 2 else count)
    assert all(sum(name in pair for pair in pairs) == (1 if count == 2 else 2) for name in names)
    for one in found:
        assert len({name for pair in one for name in pair}) == 2 * len(one)
    assert len(found) == (1 if count == 2 else 2 + count % 2)


def test_what_two_halves_have_to_know():
    assert rounds(EIGHT[:2], port=30000) == [[{
        "hosts": ["gpu1", "gpu2"], "meet": "tcp://10.0.0.1:30000", "world": 16, "first": {"gpu1": 0, "gpu2": 8},
        "wire_gbs": 400.0}]]
    assert rounds(EIGHT[:1]) == rounds([]) == []


def test_a_host_that_cannot_be_measured_is_closed_over():
    some = [replace(one, why_not="it is not accepted by itself" if one.name == "gpu2" else "") for one in EIGHT[:4]]
    assert hosts(rounds(some)) == [[("gpu1", "gpu3")], [("gpu3", "gpu4")], [("gpu4", "gpu1")]]
    assert alone(some) == {"gpu2": "it is not accepted by itself"}


def test_only_hosts_of_one_kind_are_in_a_ring():
    mixed = [*EIGHT[:2], replace(EIGHT[2], card="NVIDIA L40S"), *[replace(one, gpus=4) for one in EIGHT[3:5]]]
    assert hosts(rounds(mixed)) == [[("gpu1", "gpu2"), ("gpu4", "gpu5")]]
    assert alone(mixed) == {"gpu3": "no other host of its kind can be measured now"}


def test_what_was_measured_is_not_measured_again_unless_asked_for():
    known = [replace(EIGHT[0], known=("gpu2",)), replace(EIGHT[1], known=("gpu1",))]
    assert rounds(known) == [] and len(rounds(known, again=True)) == 1 and alone(known[:1]) == {}
    assert len(rounds([known[0], EIGHT[1]])) == 1, "one of them has another driver by now"


FACT = {"gpus": [{"uuid": "a", "name": "NVIDIA H200"}, {"uuid": "b", "name": "NVIDIA H200"}], "idle": True,
        "acceptance_gpus": ["a", "b"], "nccl": {"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"},
        "rdma": [{"device": f"mlx5_{number}", "port": 1, "rate_gbps": 400.0} for number in range(3)],
        "acceptance_now": {"checks": [{"kind": "health", "ok": True}, {"kind": "pairs", "ok": False}],
                           "measured": {"pairs": {"x": {"busbw_gbs": 3}, "y": {"error": "no answer"}}}}}


def test_a_host_as_its_facts_show_it():
    assert member("gpu1", "10.0.0.1", FACT, "") == Member("gpu1", "10.0.0.1", 2, "NVIDIA H200", 100.0, "", ("x",))


@pytest.mark.parametrize(("change", "engines", "why"), [
    (None, "", "not reached"), ({"acceptance_gpus": []}, "", "no GPU"), ({"idle": False}, "", "programs run"),
    ({}, "idc-vllm@a.service loaded active running\n", "programs run"),
    ({"acceptance_now": {"checks": [{"kind": "results", "ok": False}]}}, "", "not accepted by itself")])
def test_why_a_host_cannot_be_measured_now(change, engines, why):
    found = member("gpu1", "10.0.0.1", None if change is None else {**FACT, **change}, engines)
    assert why in found.why_not
    assert "not reached" in member("gpu1", None, FACT, "").why_not and "false" in member("gpu1", "a", FACT, "", False).why_not


def test_pairs_of_another_driver_do_not_count():
    old = {**FACT, "acceptance_now": {**FACT["acceptance_now"], "measured": {"pairs": {"x": {}}, "stale": ["gpus", "pairs"]}}}
    assert member("gpu1", "a", old, "").known == ()


def test_hosts_that_a_deployment_spans():
    gpus = {"gpu1": 8, "gpu2": 8, "gpu3": 8, "gpu4": 4}
    assert spanning([{"tensor_parallel": 8}], gpus, {}) == []
    wide = {"tensor_parallel": 8, "pipeline_parallel": 2, "hosts": ["gpu3", "gpu1", "gone"]}
    assert spanning([wide], gpus, {}) == ["gpu1", "gpu3"]
    assert spanning([{"data_parallel": 16}], gpus, {}) == list(gpus)
    assert spanning([{"tensor_parallel": "many"}, {}], gpus, {}) == []
    ranks = [{"deployment": "v3", "slot": "blue", "replica": 0, "host": host} for host in ("gpu2", "gpu3")]
    assert spanning([], gpus, {"engines": ranks}) == ["gpu2", "gpu3"] and spanning([], gpus, {"engines": ranks[:1]}) == []
