# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks/drivers.yml does on a host when its turn comes."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.filter.nvidia import (
    nvidia_as_before,
    nvidia_outages,
    nvidia_plan,
    nvidia_replicas,
    nvidia_run_errors,
    nvidia_turn,
)
from ansible_collections.idc.llm.tests.unit.plugins.module_utils.nvidia import given, installed, raw

MINE = ["tiny-blue-0", "tiny-blue-1"]
NOTHING = {"change": False, "start": [], "errors": []}


def foreseen(version: str = "", **seen):
    """The plan of a host with a driver, if no engine ran on it."""
    return nvidia_plan(given(version=version), installed(**seen), "gpu01", drained=True)


@pytest.mark.parametrize("at_once", [1, 2, "1", "12"])
def test_numbers_of_hosts(at_once):
    assert nvidia_run_errors(at_once, ["gpu01"], ["gpu01", "gw1"]) == []


@pytest.mark.parametrize("at_once", [0, -1, True, "0", "two", "30%", "", "1.5", None])
def test_what_ansible_would_take_for_all_hosts_at_once(at_once):
    [said] = nvidia_run_errors(at_once, ["gpu01"], ["gpu01"])
    assert said.startswith("IDC-INV-007") and "hosts_at_once" in said and repr(at_once) in said


def test_a_run_that_reaches_none():
    [said] = nvidia_run_errors(1, ["gpu01", "gpu02"], ["gw1"])
    assert said.startswith("IDC-GPU-028") and "gw1" in said and "gpu01, gpu02" in said
    assert "本次运行" in nvidia_run_errors(1, [], ["gw1"], "zh")[0]


def test_a_host_that_is_as_it_should_be_is_passed_over():
    assert nvidia_turn(foreseen(engines=MINE), MINE) == NOTHING


def test_engines_that_a_run_left_stopped_are_brought_up():
    assert nvidia_turn(foreseen(engines=MINE[:1]), MINE) == {**NOTHING, "start": MINE[1:]}


@pytest.mark.parametrize("plan", [foreseen("580.190.01", engines=MINE), foreseen(loaded="580.159.04", engines=MINE)])
def test_another_version_and_a_boot_that_is_owed_drain_it(plan):
    assert nvidia_turn(plan, MINE) == {"change": True, "start": MINE, "errors": []}


def test_an_engine_that_the_plan_does_not_have_is_in_the_way():
    turn = nvidia_turn(foreseen("580.190.01", engines=[*MINE, "old-blue-0"]), MINE, True, "gpu01")
    assert [line.partition(":")[0] for line in turn["errors"]] == ["IDC-GPU-030"] and "old-blue-0" in turn["errors"][0]
    assert nvidia_turn(foreseen(engines=["old-blue-0"]), []) == NOTHING  # nothing is to be done


def test_what_the_role_refuses_is_refused_before_anything_is_drained():
    refused = foreseen("580.159.04", engines=MINE)
    assert nvidia_turn(refused, MINE)["errors"] == refused["errors"] and "IDC-GPU-008" in refused["errors"][0]


def test_hosts_that_others_look_after_and_hosts_without_cards():
    assert nvidia_turn(foreseen("580.190.01", engines=MINE), MINE, enabled=False) == NOTHING
    assert nvidia_turn(nvidia_plan(given(), raw(cards=[])), MINE) == NOTHING
    amd = nvidia_plan(given(), raw(cards=[{"address": "0000:c1:00.0", "vendor": "0x1002", "device": "0x74a1", "class": "0x120000",
                                           "driver": "", "bar_bytes": 0}]))
    assert "IDC-GPU-005" in nvidia_turn(amd, [])["errors"][0] and nvidia_turn(amd, [], enabled=False) == NOTHING


def test_a_host_serves_again_only_with_the_driver_that_it_served_with():
    before = foreseen("580.190.01", engines=MINE)
    assert nvidia_as_before(before, foreseen("580.190.01"))
    assert not nvidia_as_before(before, foreseen("580.190.01", nvml="580.190.01"))  # a library has moved
    assert not nvidia_as_before(before, foreseen("580.190.01", loaded=""))
    assert not nvidia_as_before(foreseen("580.190.01"), foreseen("580.190.01"))  # it did not serve before
    bare = nvidia_plan(given(), raw(engines=MINE), drained=True)  # engines on the CPU, and no driver yet
    assert nvidia_as_before(bare, nvidia_plan(given(), raw()))


def test_replicas_of_a_host_and_their_heads():
    rows = [{"name": "a-blue-0", "host": "one", "deployment": "a", "slot": "blue", "replica": 0, "head": True},
            {"name": "a-blue-0-rank1", "host": "two", "deployment": "a", "slot": "blue", "replica": 0, "head": False},
            {"name": "b-blue-0", "host": "one", "deployment": "b", "slot": "blue", "replica": 0, "head": True}]
    mine = nvidia_replicas({"engines": rows}, ["two"])
    assert mine["engines"] == ["a-blue-0-rank1"] and [row["name"] for row in mine["heads"]] == ["a-blue-0"]
    both = nvidia_replicas({"engines": rows}, ["one", "two"])
    assert [row["name"] for row in both["heads"]] == ["a-blue-0", "b-blue-0"] and len(both["engines"]) == 3
    assert nvidia_replicas({"engines": rows}, []) == {"engines": [], "heads": []}


def rows(*names: str):
    """Rows of a plan, each "deployment@host", or "deployment@host+host" for a replica over two hosts."""
    made = []
    for name in names:
        deployment, hosts = name.split("@")
        replica = len({(row["deployment"], row["replica"]) for row in made if row["deployment"] == deployment})
        for rank, host in enumerate(hosts.split("+")):
            made.append({"name": f"{deployment}-{replica}-{rank}", "host": host, "deployment": deployment, "slot": "blue",
                         "replica": replica})
    return {"engines": made}


def unserved(plan, change: str, at_once: int = 1, hosts: str = "a b c", lost: str = "", stopped: str = "", lang: str = "en"):
    """nvidia_outages for a run over these hosts, of which some change; all engines run but those that are stopped."""
    running = {host: [row["name"] for row in plan["engines"] if row["host"] == host and row["name"] not in stopped.split()]
               for host in hosts.split()}
    hostvars = {host: {"__idc_llm_turn": {"change": host in change.split()}, "__idc_llm_before": {"engines": running[host]}}
                for host in hosts.split()}
    return nvidia_outages(plan, hostvars, hosts.split(), [*hosts.split(), *lost.split()], at_once, lang)


def test_a_replica_elsewhere_serves_meanwhile():
    two = rows("chat@a", "chat@b")
    assert unserved(two, "a b") == []
    assert unserved(two, "a", at_once=2) == []  # b is of the batch, and stays
    assert unserved(two, "a", hosts="a") == []  # --limit: what runs on others is not touched
    assert unserved(rows("chat@c"), "a b", at_once=2) == []
    assert unserved({"engines": []}, "a b") == []


@pytest.mark.parametrize(("plan", "change", "how"), [
    (rows("chat@a"), "a", {}),
    (rows("chat@a", "chat@b"), "a b", {"at_once": 2}),
    (rows("chat@a+b"), "b", {}),  # a rank of it
    (rows("chat@a+b", "chat@b"), "b", {}),
    (rows("chat@a", "chat@b"), "b", {"hosts": "b", "lost": "a"}),  # the other one gives no answer
    (rows("chat@b", "chat@c"), "b", {"stopped": "chat-1-0"}),  # c has its turn later
])
def test_a_batch_that_takes_all_who_serve_a_deployment_is_told(plan, change, how):
    [said] = unserved(plan, change, **how)
    assert said.startswith("IDC-GPU-034") and f"While {', '.join(change.split())} is drained" in said and "chat" in said
    assert "无人应答" in unserved(plan, change, lang="zh", **how)[0]


def test_a_host_that_is_mended_first_serves_when_the_next_is_drained():
    two = rows("chat@a", "chat@b")
    assert unserved(two, "b", stopped="chat-0-0") == []  # a only starts its engine, before b's turn
    assert unserved(two, "a b", stopped="chat-0-0") == []
    assert unserved(rows("chat@a"), "a", stopped="chat-0-0") == []  # nobody serves it as it is


def test_each_batch_tells_its_own():
    said = unserved(rows("chat@a", "code@b"), "a b")
    assert len(said) == 2 and "While a" in said[0] and "chat" in said[0] and "While b" in said[1] and "code" in said[1]
