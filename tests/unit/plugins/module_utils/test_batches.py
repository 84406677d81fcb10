"""In which order replicas start."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.filter.engines import engine_batches as from_hosts
from ansible_collections.idc.llm.plugins.module_utils._batches import engine_batches


def rows(*names):
    """a0 is replica 0 of deployment a; a0.1 its rank 1."""
    return [{"name": name, "deployment": name[0], "revision": "r1", "slot": "blue", "replica": int(name[1])} for name in names]


def batches(looked, size=1):
    return [(" ".join(one["engines"]), " ".join(one["drain"])) for one in engine_batches(rows(*looked), looked, size)]


@pytest.mark.parametrize("looked, size, wanted", [
    ({}, 1, []),
    ({"a0": "none", "a1": "none"}, 1, [("a0 a1", "")]),
    ({"a0": "start", "a1": "start", "a2": "start"}, 2, [("a0 a1", ""), ("a2", "")]),
    ({"a0": "restart", "a1": "restart", "a2": "none"}, 8, [("a2", ""), ("a0", "a0"), ("a1", "a1")]),
    ({"a0": "restart", "a1": "start"}, 8, [("a1", ""), ("a0", "a0")]),
    ({"a0": "restart", "b0": "restart", "a1": "restart", "b1": "restart"}, 2, [("a0 b0", "a0 b0"), ("a1 b1", "a1 b1")]),
    ({"a0": "restart", "b0": "restart", "c0": "restart"}, 2, [("a0 b0", "a0 b0"), ("c0", "c0")]),
    ({"a0": "start", "a1": "start"}, 0, [("a0", ""), ("a1", "")]),
])
def test_what_is_right_first_then_what_lies_then_what_serves(looked, size, wanted):
    assert batches(looked, size) == wanted


@pytest.mark.parametrize("head, rank, drain", [("restart", "none", True), ("none", "restart", True), ("none", "start", True),
                                               ("start", "start", False)])
def test_a_replica_across_hosts_is_one(head, rank, drain):
    names = "a0 a0.1"
    assert batches({"a0": head, "a0.1": rank}) == [(names, names if drain else "")]


def test_a_part_of_a_replica_is_left_as_it_is():
    assert engine_batches(rows("a0", "a0.1", "a1"), {"a0": "restart", "a1": "restart"}, 1) == [{"engines": ["a1"], "drain": ["a1"]}]


def test_rows_of_hosts_that_are_not_reached_stay_out():
    plan = {"engines": rows("a0", "a1", "a2")}
    hostvars = {"one": {"__vllm_looked": {"a0": "none"}}, "two": {"__vllm_looked": {"a1": "start"}}, "three": {}}
    found = from_hosts(plan, hostvars, ["one", "two", "three"])
    assert found == [{"engines": ["a0"], "drain": []}, {"engines": ["a1"], "drain": []}]
