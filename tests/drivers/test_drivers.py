# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/drivers.yml on hosts that serve, under load. vLLM, nginx, apt, dpkg, systemd and modinfo are real; cards, what packages
hold and what a boot loads are made by tests/support/nvidia_root.py. Each test goes on where the one before ended.
"""
from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from dataclasses import dataclass, field

import pytest

from tests.support.ask_engine import token
from tests.support.box import Box, docker
from tests.support.fleet import BIN, INVENTORY, ROOT, Run, playbook
from tests.support.load import Load
from tests.support.nvidia_root import HALF, NEW, NEWER, OLD
from tests.support.waiting import wait_for

PACKAGES = ("libcuda1", "libnvidia-ml1", "libnvidia-nscq", "nvidia-driver-cuda", "nvidia-fabricmanager", "nvidia-kernel-open-dkms",
            "nvidia-persistenced")


def arguments(version: str, *words: str) -> list[str]:
    """Of the playbook, for this version."""
    cards = ROOT / "molecule/drivers/vars/cards.yml"
    return ["playbooks/drivers.yml", "-e", f"@{cards}", "-e", f"nvidia_stack_version={version}", *words]


def drivers(version: str, *words: str) -> Run:
    """The playbook, for this version."""
    return playbook(*arguments(version, *words))


@dataclass
class House:
    """The fleet, as its hosts see it."""

    fleet: object
    on: object
    nodes: dict[str, Box] = field(default_factory=dict)

    def driver(self, host: str) -> dict:
        """Packages, holds, the module that is loaded and the number of the boot."""
        box = self.nodes[host]
        listed = box.sh(f"dpkg-query -W -f '${{Version}}\\n' {' '.join(PACKAGES)}").split()
        return {"packages": set(listed), "held": set(PACKAGES) <= set(box.sh("apt-mark showhold").split()),
                "module": box.sh("cat /srv/sys/module/nvidia/version || true"),
                "boot": box.sh("cat /proc/sys/kernel/random/boot_id"),
                "fabric": box.sh("systemctl is-active nvidia-fabricmanager || true")}

    def drivers(self) -> dict[str, dict]:
        """Of both hosts."""
        return {host: self.driver(host) for host in ("node1", "node2")}

    def at_work(self) -> dict[str, str]:
        """Host → which start of its engine runs, "" for none. Not by its PID, which may be the same after a boot."""
        ask = "systemctl is-active --quiet idc-vllm@{0} && systemctl show -p InvocationID --value idc-vllm@{0} || true"
        return {engine["host"]: self.nodes[engine["host"]].sh(ask.format(engine["name"])) for engine in self.fleet.plan["engines"]}

    def down(self) -> list[str]:
        """Hosts whose engines nginx sends nothing."""
        names = {engine["name"]: engine["host"] for engine in self.fleet.plan["engines"]}
        said = self.nodes["gw1"].sh("cat /etc/nginx/idc_llm/engines/tiny.conf")
        return [names[name] for name in re.findall(r" down; # (\S+)", said)]

    def tokens(self) -> bool:
        """Whether each engine gives one, past the gateway."""
        return all(token(self.on(engine["host"]), engine) for engine in self.fleet.plan["engines"])


@pytest.fixture(scope="module")
def house(fleet, on) -> House:
    """The fleet."""
    return House(fleet, on, {host: Box(row["fleet_container"]) for host, row in fleet.variables.items()})


class Watch:
    """Whom nginx sent nothing while the ``with`` block ran: the distinct answers, in their order."""

    def __init__(self, house: House) -> None:
        self.seen: list[list[str]] = []
        self._house, self._over = house, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.is_set():
            now = self._house.down()
            if not self.seen or self.seen[-1] != now:
                self.seen.append(now)
            self._over.wait(0.5)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error) -> None:
        self._over.set()
        self._thread.join(30)


def right(driver: dict, version: str) -> bool:
    """Whether a host has this driver, all of it, held and loaded."""
    return {**driver, "boot": ""} == {"packages": {f"{version}-1"}, "held": True, "module": version, "boot": "", "fabric": "active"}


def test_site_has_given_bare_hosts_their_driver_booted_them_and_they_serve(house):
    found = house.drivers()
    assert all(right(driver, OLD) for driver in found.values()), found
    assert not house.nodes["node1"].sh("ls -d /srv/sys/module/nouveau || true")
    assert house.down() == [] and house.tokens()


def test_a_check_changes_nothing(house):
    before = house.drivers(), house.at_work()
    with Watch(house) as watch:
        run = drivers(NEW, "--check", "--diff")
    assert run.rc == 0, run.output[-6000:]
    assert f"nvidia-kernel-open-dkms: {OLD}-1 → {NEW}-1*" in run.output
    assert (house.drivers(), house.at_work()) == before
    assert watch.seen == [[]]


def test_one_host_after_the_other_and_no_request_is_lost(house):
    before, work = house.drivers(), house.at_work()
    with Load(house.fleet) as load, Watch(house) as watch:
        run = drivers(NEW)
    print(load.said(f"both hosts from {OLD} to {NEW}"), watch.seen)
    assert run.rc == 0, run.output[-8000:]
    assert load.problems == [] and len(load.requests) > 20
    after = house.drivers()
    assert all(right(driver, NEW) for driver in after.values()), after
    assert all(after[host]["boot"] != before[host]["boot"] for host in after)
    assert [hosts for hosts in watch.seen if hosts] == [["node1"], ["node2"]], watch.seen  # never both
    assert house.down() == []
    assert all(start not in ("", work[host]) for host, start in house.at_work().items())
    assert house.tokens()


def test_the_second_run_passes_both_over(house):
    before = house.drivers(), house.at_work()
    with Watch(house) as watch:
        run = drivers(NEW)
    assert run.rc == 0 and run.total("changed") == 0, run.output[-6000:]
    assert (house.drivers(), house.at_work()) == before
    assert watch.seen == [[]]


@pytest.mark.parametrize(("version", "said"), [("580.199.09", "IDC-GPU-029"), (HALF, "libcuda1")])
def test_what_cannot_be_installed_leaves_the_host_with_its_driver_and_serving(house, version, said):
    """A version that nobody has, and one of which a part is missing."""
    before, work = house.drivers(), house.at_work()
    with Load(house.fleet) as load, Watch(house) as watch:
        run = drivers(version)
    print(load.said(f"{version}, which cannot be installed"), watch.seen)
    assert run.rc != 0 and said in run.output and "IDC-GPU-031" in run.output, run.output[-6000:]
    assert load.problems == []
    assert house.drivers() == before and house.at_work()["node2"] == work["node2"]
    assert [hosts for hosts in watch.seen if hosts] == [["node1"]] and house.down() == []
    assert house.tokens()


def test_a_host_that_does_not_come_back_ends_the_run_and_the_other_serves_on(house):
    """The kernel refuses the new module. Mended, the same command goes on where it ended."""
    before, work = house.drivers(), house.at_work()
    house.nodes["node1"].sh(f"echo {NEWER} > /srv/refused")
    with Load(house.fleet) as load, Watch(house) as watch:
        run = drivers(NEWER)
    print(load.said("a module that is not loaded"), watch.seen)
    assert run.rc != 0 and "IDC-GPU-026" in run.output and "IDC-GPU-032" in run.output, run.output[-6000:]
    assert load.problems == []
    found = house.drivers()
    assert found["node1"]["boot"] != before["node1"]["boot"] and found["node1"]["module"] == ""
    assert found["node2"] == before["node2"]
    assert house.at_work() == {"node1": "", "node2": work["node2"]}
    assert house.down() == ["node1"] and [hosts for hosts in watch.seen if hosts] == [["node1"]]

    house.nodes["node1"].sh("rm /srv/refused")
    with Load(house.fleet) as load, Watch(house) as watch:
        run = drivers(NEWER)
    print(load.said("mended, and the same command again"), watch.seen)
    assert run.rc == 0, run.output[-8000:]
    assert load.problems == []
    assert all(right(driver, NEWER) for driver in house.drivers().values())
    assert [hosts for hosts in watch.seen if hosts] == [["node1"], ["node2"]]
    assert house.down() == [] and house.tokens()


def test_a_run_that_is_killed_between_packages_and_boot_is_finished_by_the_next(house):
    back = ("-e", "nvidia_stack_allow_downgrade=true")
    with Load(house.fleet) as load, Watch(house) as watch:
        command = [BIN / "ansible-playbook", "-i", INVENTORY, *arguments(NEW, *back)]
        run = subprocess.Popen(command, cwd=ROOT, start_new_session=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert wait_for(lambda: f"{NEW}-1" in house.driver("node1")["packages"], 300, 0.5)
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait(30)
        assert house.down() == ["node1"] and house.driver("node1")["module"] == NEWER
        again = drivers(NEW, *back)
    print(load.said(f"back to {NEW}, killed half-way and run again"), watch.seen)
    assert again.rc == 0 and load.problems == [], again.output[-8000:]
    assert all(right(driver, NEW) for driver in house.drivers().values()), house.drivers()
    assert [hosts for hosts in watch.seen if hosts] == [["node1"], ["node2"]]
    assert house.down() == [] and house.tokens()


def test_an_engine_that_a_run_left_stopped_is_brought_up_by_the_next(house):
    """As a run leaves it that is killed after the boot: nothing else is to be done."""
    [engine] = [one["name"] for one in house.fleet.plan["engines"] if one["host"] == "node1"]
    house.nodes["gw1"].sh(f"python3 -I /usr/local/lib/idc_llm/gateway/_agent_balancer.py drain {engine}")
    house.nodes["node1"].sh(f"systemctl disable --now idc-vllm@{engine}")
    assert house.down() == ["node1"]
    before = house.drivers()
    with Load(house.fleet) as load:
        run = drivers(NEW)
    print(load.said("an engine that a run left stopped"))
    assert run.rc == 0 and load.problems == [], run.output[-6000:]
    assert house.drivers() == before
    assert house.down() == [] and house.tokens()


def test_two_at_once_are_refused_where_they_are_all_that_serve(house):
    before = house.drivers(), house.at_work()
    with Watch(house) as watch:
        run = drivers(NEWER, "-e", "hosts_at_once=2")
    assert run.rc != 0 and "IDC-GPU-034" in run.output and "allow_interruption" in run.output, run.output[-6000:]
    assert (house.drivers(), house.at_work()) == before and watch.seen == [[]]


def test_of_two_at_once_one_fails_and_the_other_serves_again(house):
    house.nodes["node1"].sh(f"echo {NEWER} > /srv/refused")
    with Load(house.fleet) as load, Watch(house) as watch:
        run = drivers(NEWER, "-e", "hosts_at_once=2", "-e", "allow_interruption=true")
    print(load.said("both at once, and one fails"), watch.seen)
    house.nodes["node1"].sh("rm /srv/refused")
    assert run.rc != 0 and "IDC-GPU-032" in run.output, run.output[-6000:]
    assert load.problems and all(problem.startswith("HTTP 503") for problem in load.problems), load.problems  # none was cut
    assert right(house.driver("node2"), NEWER) and house.driver("node1")["module"] == ""
    work = house.at_work()
    assert work["node1"] == "" and work["node2"] != ""
    assert [hosts for hosts in watch.seen if hosts] == [["node1", "node2"], ["node1"]] and house.down() == ["node1"]


def test_a_host_that_gives_no_answer_after_its_boot_stays_away_and_the_other_serves_on(house):
    """It is the one that the test before left drained. Switched on again, the same command goes on."""
    box, before, work = house.nodes["node1"], house.driver("node2"), house.at_work()
    policy = docker("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", box.name).stdout.strip()
    docker("update", "--restart=no", box.name)
    try:
        with Load(house.fleet) as load, Watch(house) as watch:
            run = drivers(NEWER, "-e", "nvidia_stack_reboot_timeout_s=60")
    finally:
        docker("update", f"--restart={policy}", box.name)
        docker("start", box.name)
    print(load.said("a host that gives no answer after its boot"), watch.seen)
    assert run.rc != 0 and "IDC-GPU-035" in run.output, run.output[-6000:]
    assert load.problems == [] and watch.seen == [["node1"]]
    assert house.driver("node2") == before and house.at_work()["node2"] == work["node2"]

    with Load(house.fleet) as load, Watch(house) as watch:
        again = drivers(NEWER)
    print(load.said("switched on, and the same command again"), watch.seen)
    assert again.rc == 0 and load.problems == [], again.output[-8000:]
    assert all(right(driver, NEWER) for driver in house.drivers().values()) and house.at_work()["node2"] == work["node2"]
    assert house.down() == [] and house.tokens()
