# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two gateways as network namespaces on one bridge, and the real keepalived with the role's own configuration."""
from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import jinja2
import yaml

from tests.support.waiting import wait_for

ROLE = Path(__file__).resolve().parents[2] / "roles/gateway"
KEEPALIVED = "/usr/sbin/keepalived"
HUB, NAMES = "idc-hub", ("idc-gw1", "idc-gw2")
ADDRESSES = dict(zip(NAMES, ("192.0.2.1", "192.0.2.2"), strict=True))
VIRTUAL, PORT = "192.0.2.100", 8443
HERE = "192.0.2.50"  # callers and engines
DOOR = f"""import socket, sys
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
    """Two gateways; a file ``door`` or ``alive`` in a gateway's folder makes that check of keepalived's fail. The namespace HUB
    is there. door: what answers at a gateway's port, in Python; nothing where somebody else does."""

    def __init__(self, folder: Path, door=DOOR):
        self.folder, self.running, self.doors = folder, {}, []
        for name in NAMES:
            ip("netns", "add", name)
        ip("-n", HUB, "link", "add", "bridge0", "type", "bridge")
        ip("-n", HUB, "addr", "add", f"{HERE}/24", "dev", "bridge0")
        ip("-n", HUB, "link", "set", "bridge0", "up")
        for number, name in enumerate(NAMES):
            ip("-n", HUB, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", HUB, "link", "set", f"port{number}", "master", "bridge0", "up")
            ip("-n", name, "addr", "add", f"{ADDRESSES[name]}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            self.write(name)
            ip("-n", name, "link", "set", "lo", "up")
            if door:
                self.doors.append(subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", door, name]))
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
        inside = ["ip", "netns", "exec", name, KEEPALIVED]
        checked = subprocess.run([*inside, "--config-test", f"--use-file={own}/keepalived.conf"], capture_output=True, text=True,
                                 check=False)
        assert checked.returncode == 0, checked.stderr
        self.running[name] = subprocess.Popen(
            [*inside, "--dont-fork", "--log-console", "--vrrp", f"--use-file={own}/keepalived.conf",
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
