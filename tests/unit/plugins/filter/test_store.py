# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who shares files with whom, and what a store needs no more."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.filter import store

ROW = {"model": "org/m", "revision": "r1"}
OTHER = {"model": "org/m", "revision": "r2"}


def a_plan(**stores):
    hosts = {name: {"address": f"10.0.0.{n}", "groups": ["gpu_nodes"]} for n, name in enumerate(sorted(stores), 1)}
    hosts["gw"] = {"address": "10.0.0.99", "groups": ["gateways", "monitors"]}
    return {"stores": stores, "hosts": hosts, "ports": {"store": 8090}}


def test_peers_are_the_other_hosts_with_the_revision_in_a_ring():
    plan = a_plan(n1=[ROW], n2=[OTHER, ROW], n3=[OTHER], n4=[ROW])
    assert store.store_peers(plan, "n2", ROW) == ["http://10.0.0.4:8090", "http://10.0.0.1:8090"]
    assert store.store_peers(plan, "n4", ROW, "https") == ["https://10.0.0.1:8090", "https://10.0.0.2:8090"]
    assert store.store_peers(plan, "n3", OTHER) == ["http://10.0.0.2:8090"]
    assert store.store_peers(a_plan(n1=[ROW]), "n1", ROW) == []


def test_peers_without_an_address_are_left_out_and_ipv6_is_bracketed():
    plan = a_plan(n1=[ROW], n2=[ROW], n3=[ROW])
    plan["hosts"]["n2"]["address"] = "fd00::2"
    del plan["hosts"]["n3"]
    assert store.store_peers(plan, "n1", ROW) == ["http://[fd00::2]:8090"]


def test_members_are_the_gpu_nodes_alone():
    assert store.store_members(a_plan(n2=[ROW], n1=[])) == ["10.0.0.1", "10.0.0.2"]


def found(*names):
    """Manifests, each younger than the one before."""
    return [{"path": f"/s/{name}/manifest.json", "mtime": 100.0 + age} for age, name in enumerate(names)]


def names(surplus):
    return [row["path"] for row in surplus]


@pytest.mark.parametrize(("keep", "wanted"), [(1, ["/s/org/m/r0", "/s/org/m/r2"]), (2, ["/s/org/m/r0"]), (4, [])])
def test_the_newest_stay_by_count_and_what_is_needed_whatever_its_age(keep, wanted):
    there = found("org/m/r0", "org/m/r1", "org/m/r2", "org/m/r3")
    assert names(store.store_surplus(there, "/s", [ROW], keep)) == wanted


def test_models_are_counted_apart_and_none_loses_all():
    there = found("org/m/r1", "org/m/r2", "org/n/a", "org/n/b")
    assert names(store.store_surplus(there, "/s", [], 0)) == ["/s/org/m/r1", "/s/org/n/a"]


def test_unfinished_fetches_go_unless_they_are_needed_or_beside_a_kept_revision():
    there = found("org/m/.partial-r1", "org/m/.partial-r8", "org/m/r9", "org/m/.partial-r9")
    assert store.store_surplus(there, "/s", [ROW], 2) == [{"model": "org/m", "revision": "r8", "path": "/s/org/m/.partial-r8"}]


def test_what_is_no_revision_is_never_surplus():
    there = found("org/m/.trash", ".hidden/m/r1", "org/m", "org/m/r1/deeper", ".")
    assert store.store_surplus(there, "/s", [], 1) == []
