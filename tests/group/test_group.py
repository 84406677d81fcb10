# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica over two hosts, and what ends a rank."""
from __future__ import annotations

import subprocess
import time

from tests.support.group import ADDRESSES, FLEET, HEAD, NODES, RANK, on, play
from tests.support.waiting import wait_for


def test_the_group_starts_though_one_host_is_done_at_a_time(group):
    assert group.run.rc == 0 and set(group.run.recap) == set(NODES), group.run.output[-6000:]
    assert group.answers()
    for node, name, rank in zip(NODES, (HEAD, RANK), "01", strict=True):
        environment = on(node, "cat", f"/etc/idc_llm/engines/{name}/env")
        for line in ('GLOO_SOCKET_IFNAME="eth0"', 'NCCL_SOCKET_IFNAME="=eth0"', f'VLLM_HOST_IP="{ADDRESSES[int(rank)]}"',
                     'VLLM_ENGINE_READY_TIMEOUT_S="600"'):
            assert line in environment.splitlines()
    assert wait_for(lambda: "is healthy" in group.journals(), 15), "the follower has met the head"


def test_a_second_run_changes_nothing(group):
    before = group.starts()
    run = play(group.folder, "tests/group/start.yml")
    assert run.rc == 0 and run.total("changed") == 0, run.output[-6000:]
    assert group.starts() == before


def test_a_head_that_gives_no_answer_for_a_while_is_waited_for(group):
    before, restarts = group.starts(), group.followed()
    subprocess.run(["docker", "pause", f"idc-{FLEET}-{NODES[0]}"], check=True, stdout=subprocess.DEVNULL)
    try:
        cut = wait_for(lambda: "gives no answer" in on(NODES[1], "journalctl", "--no-pager", "--unit=idc-vllm-follower*"), 40)
        time.sleep(12)  # longer than a head may be gone
    finally:
        subprocess.run(["docker", "unpause", f"idc-{FLEET}-{NODES[0]}"], check=True, stdout=subprocess.DEVNULL)
    assert cut
    assert wait_for(group.answers, 60) and group.starts() == before and group.followed() == restarts


def test_the_head_dies_and_the_group_comes_back_by_itself(group, capsys):
    restarts = group.followed()
    seconds = group.end(NODES[0], HEAD)
    assert group.followed() == restarts + 1, group.journals()
    with capsys.disabled():
        print(f"\ngroup: head_s={seconds:.0f}")


def test_rank_1_dies_and_the_group_comes_back_by_itself(group, capsys):
    seconds = group.end(NODES[1], RANK)
    with capsys.disabled():
        print(f"\ngroup: rank1_s={seconds:.0f}")
