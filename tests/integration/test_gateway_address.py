# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address that moves: the real keepalived with the role's own configuration, two gateways as network namespaces."""
from __future__ import annotations

import subprocess
import time

import pytest

from tests.support.gateway_pair import HUB, NAMES, VIRTUAL, Pair, ip
from tests.support.waiting import wait_for


@pytest.fixture
def pair(tmp_path):
    if subprocess.run(["ip", "netns", "add", HUB], check=False, capture_output=True).returncode:
        pytest.skip("a network namespace cannot be made here: that takes root, with all rights")
    made = Pair(tmp_path)
    yield made
    made.close()


def test_the_address_is_always_at_one_gateway_that_answers(pair):
    first, second = NAMES
    pair.moved(first, "both begin")
    checks = pair.folder / first

    (checks / "door").touch()
    assert pair.moved(second, "nginx gives no answer") < 30
    (checks / "door").unlink()
    pair.moved(first, "nginx is back")

    (checks / "alive").touch()
    assert pair.moved(second, "no engine to be had") < 30
    (pair.folder / second / "alive").touch()
    assert wait_for(lambda: pair.owners() == [first], 60, 0.1), "where nobody has one, somebody says so"
    (checks / "alive").unlink()
    (pair.folder / second / "alive").unlink()
    assert not wait_for(lambda: pair.owners() != [first], 4, 0.2)

    ip("-n", HUB, "link", "set", "port0", "down")
    began = time.monotonic()
    assert wait_for(lambda: pair.answers() == second, 60, 0.05), pair.logs()
    print(f"a gateway is gone: {VIRTUAL} answers after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 30
    ip("-n", HUB, "link", "set", "port0", "up")
    pair.moved(first, "it is back")

    pair.running[first].kill()
    pair.running[first].wait()
    subprocess.run(["pkill", "-KILL", "-F", str(checks / "vrrp")], check=False)
    assert wait_for(lambda: second in pair.owners(), 60, 0.1), "its keepalived alone is gone"
