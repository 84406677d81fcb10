# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/drivers.yml where a replica stands on two hosts: whichever is away, it does not serve; but no request is cut. Cards,
what packages hold and what a boot loads are made by tests/support/nvidia_root.py. Goes on where test_group.py ended.
"""
from __future__ import annotations

import pytest

from tests.support.fleet import Run
from tests.support.group import NODES, on, play
from tests.support.load import Load
from tests.support.nvidia_root import OLD


@pytest.fixture(scope="module")
def fleet(group):
    """The group, through its gateway."""
    run = play(group.folder, "tests/group/gateway.yml")
    assert run.rc == 0, run.output[-6000:]
    return group.fleet


def drivers(group, *words: str) -> Run:
    """The playbook, on hosts that have no driver yet."""
    return play(group.folder, "playbooks/drivers.yml", *words)


def seen() -> dict[str, tuple[str, str]]:
    """Host → (driver that is loaded, number of the boot)."""
    loaded = "cat /srv/sys/module/nvidia/version 2>/dev/null || true"
    return {node: (on(node, "sh", "-c", loaded).strip(), on(node, "cat", "/proc/sys/kernel/random/boot_id")) for node in NODES}


def test_a_boot_of_one_host_would_leave_the_deployment_unserved(group, fleet):
    before = seen(), group.starts()
    run = drivers(group)
    assert run.rc != 0 and "IDC-GPU-034" in run.output, run.output[-6000:]
    assert (seen(), group.starts()) == before
    assert fleet.chat().status == 200


def test_either_host_is_changed_and_no_request_is_cut(group, fleet):
    """Answers take seconds: the head has some of them when the other host's rank is to be stopped."""
    before, work = seen(), group.starts()
    with Load(fleet, tokens=300) as load:
        run = drivers(group, "-e", "allow_interruption=true")
    print(load.said(f"two hosts of one replica get {OLD}"))
    assert run.rc == 0, run.output[-8000:]
    whole = [request for request in load.requests if not request.problem]
    assert whole and max(request.took for request in whole) > 3, "long enough to be cut"
    assert load.problems and all(problem.startswith("HTTP 503") for problem in load.problems), load.problems
    after = seen()
    assert {version for version, _boot in after.values()} == {OLD}
    assert all(after[node][1] != before[node][1] for node in NODES)
    assert not set(group.starts()) & set(work) and fleet.chat().status == 200


def test_the_second_run_changes_nothing(group, fleet):
    before = seen(), group.starts()
    run = drivers(group)
    assert run.rc == 0 and run.total("changed") == 0, run.output[-6000:]
    assert (seen(), group.starts()) == before and fleet.chat().status == 200
