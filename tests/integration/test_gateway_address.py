# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address that moves: the real keepalived with the role's own configuration, two gateways as network namespaces."""
from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import jinja2
import pytest
import yaml

from tests.support.waiting import wait_for

ROLE = Path(__file__).resolve().parents[2] / "roles/gateway"
KEEPALIVED = "/usr/sbin/keepalived"
HUB, NAMES = "idc-hub", ("idc-gw1", "idc-gw2")
ADDRESSES = dict(zip(NAMES, ("192.0.2.1", "192.0.2.2"), strict=True))
VIRTUAL, PORT = "192.0.2.100", 8443
NGINX = f"""import socket, sys
door = socket.create_server(("", {PORT}))
while True:
    caller = door.accept()[0]
    caller.sendall(sys.argv[1].encode())
    caller.close()
"""
CALLER = f"import socket; print(socket.create_connection(('{VIRTUAL}', {PORT}), 1).recv(100).decode(), end='')"


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True).stdout


class Pair:
    """Two gateways; a file ``door`` or ``alive`` in a gateway's folder makes that check of keepalived's fail."""

    def __init__(self, folder: Path):
        self.folder, self.running, self.doors = folder, {}, []
        for name in NAMES:
            ip("netns", "add", name)
        ip("-n", HUB, "link", "add", "bridge0", "type", "bridge")
        ip("-n", HUB, "addr", "add", "192.0.2.50/24", "dev", "bridge0")
        ip("-n", HUB, "link", "set", "bridge0", "up")
        for number, name in enumerate(NAMES):
            ip("-n", HUB, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", HUB, "link", "set", f"port{number}", "master", "bridge0", "up")
            ip("-n", name, "addr", "add", f"{ADDRESSES[name]}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            self.write(name)
            self.doors.append(subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", NGINX, name]))
            self.start(name)

    def write(self, name):
        own = self.folder / name
        own.mkdir()
        checks = own / "checks.py"
        checks.write_text(f"import os, sys\nsys.exit(os.path.exists({str(own)!r} + '/' + sys.argv[1]))\n")
        values = {**yaml.safe_load((ROLE / "defaults/main.yml").read_text()), "gateway_virtual_address": f"{VIRTUAL}/24",
                  "gateway_virtual_interface": "eth0", "inventory_hostname": name, "groups": {"gateways": list(NAMES)},
                  "__gateway_python": "/usr/bin/python3", "__gateway_balancer": str(checks),
                  "idc_llm_plan": {"ports": {"gateway": 443}, "hosts": {one: {"address": at} for one, at in ADDRESSES.items()}}}
        text = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
            (ROLE / "templates/keepalived.conf.j2").read_text()).render(**values)
        (own / "keepalived.conf").write_text(text.replace("preempt_delay 30", "preempt_delay 1"))

    def start(self, name):
        own = self.folder / name
        checked = subprocess.run([KEEPALIVED, "--config-test", f"--use-file={own}/keepalived.conf"], capture_output=True, text=True,
                                 check=False)
        assert checked.returncode == 0, checked.stderr
        self.running[name] = subprocess.Popen(
            ["ip", "netns", "exec", name, KEEPALIVED, "--dont-fork", "--log-console", "--vrrp", f"--use-file={own}/keepalived.conf",
             f"--pid={own}/pid", f"--vrrp_pid={own}/vrrp"], stdout=(own / "log").open("w"), stderr=subprocess.STDOUT)

    def owners(self):
        return [name for name in NAMES if f"{VIRTUAL}/24" in ip("-n", name, "addr", "show", "dev", "eth0")]

    def answers(self):
        """Which gateway a caller reaches at the address; "" for none."""
        command = ["ip", "netns", "exec", HUB, sys.executable, "-c", CALLER]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def moved(self, to, what):
        """Seconds until the address is at one gateway and answers from there."""
        began = time.monotonic()
        assert wait_for(lambda: self.owners() == [to] and self.answers() == to, 60, 0.05), self.logs()
        print(f"{what}: {VIRTUAL} answers from {to} after {time.monotonic() - began:.1f} s")
        return time.monotonic() - began

    def logs(self):
        return "\n".join((self.folder / name / "log").read_text() for name in NAMES)

    def close(self):
        for process in (*self.running.values(), *self.doors):
            process.terminate()
        for process in (*self.running.values(), *self.doors):
            process.wait(20)
        for name in (*NAMES, HUB):
            ip("netns", "del", name, check=False)


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
