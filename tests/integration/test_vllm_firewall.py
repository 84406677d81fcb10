# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reaches an engine's ports: four hosts on a network of their own, real nftables and systemd on the one with the engine."""
from __future__ import annotations

import re

import pytest

from tests.support.box import SYSTEMD, Box, docker, image

NETWORK, SUBNET = "idc-rel-test", "172.30.95"
IMAGE = image()
NODE, RANK, GATEWAY, OTHER = f"{SUBNET}.11", f"{SUBNET}.12", f"{SUBNET}.21", f"{SUBNET}.99"
ENGINE, MASTER, ELSE = 8000, 29501, 9999
HOSTS = {"box": (NODE, ["gpu_nodes"]), "rank": (RANK, ["gpu_nodes"]), "gw": (GATEWAY, ["gateways"]),
         "other": (OTHER, ["gpu_nodes"])}
CONNECT = "import errno, socket, sys\n" \
          "s = socket.socket(); s.settimeout(20); e = s.connect_ex((sys.argv[1], int(sys.argv[2])))\n" \
          "print(errno.errorcode.get(e, e) if e else s.recv(5).decode())\n"
LISTEN = """import socketserver, sys
class Say(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(b'hello')
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(('0.0.0.0', int(sys.argv[1])), Say).serve_forever()
"""

pytestmark = pytest.mark.skipif(not IMAGE, reason="no image of the fleet here: script/bootstrap fleet")


def rank(number, host):
    config = {"host": HOSTS[host][0], "port": ENGINE, "master-port": MASTER}
    return {"name": f"r1-blue-0{'-rank1' if number else ''}", "deployment": "r1", "slot": "blue", "replica": 0, "rank": number,
            "head": not number, "host": host, "address": HOSTS[host][0], "port": ENGINE, "release": "1", "config": config}


PLAN = {"engines": [rank(0, "box"), rank(1, "rank")],
        "hosts": {name: {"address": address, "groups": groups, "stale": False} for name, (address, groups) in HOSTS.items()}}


def name(host: str) -> str:
    return f"{NETWORK}-{host}"


@pytest.fixture(scope="module")
def boxes():
    """The hosts by name, gone at the end: box with systemd and leave to set rules, the rest bare."""
    def clear():
        for host in HOSTS:
            docker("rm", "-f", name(host), check=False)
        docker("network", "rm", NETWORK, check=False)
    clear()
    docker("network", "create", "--subnet", f"{SUBNET}.0/24", NETWORK)
    try:
        for host, (address, _groups) in HOSTS.items():
            how = [*SYSTEMD, "--cap-add=NET_ADMIN", IMAGE] if host == "box" else [IMAGE, "sleep", "infinity"]
            docker("run", "-d", "--name", name(host), "--network", NETWORK, "--ip", address, *how)
        found = {host: Box(name(host)) for host in HOSTS}
        listen(found["box"])
        yield found
    finally:
        clear()


def listen(box: Box) -> None:
    """Servers that say hello, in the engine's place, on its ports and another one."""
    up = "systemctl is-system-running | grep -qE 'running|degraded'"  # not --wait: the bus is not there at once
    box.sh(f"for n in $(seq 600); do {up} && exit; sleep 0.2; done; exit 1")
    for port in (ENGINE, MASTER, ELSE):
        docker("exec", "-d", box.name, "python3", "-c", LISTEN, str(port))
    there = f"ss -Htln | grep -cE ':({ENGINE}|{MASTER}|{ELSE}) '"
    box.sh(f"for n in $(seq 100); do [ $({there}) = 3 ] && exit; sleep 0.2; done; exit 1")


def reach(boxes, host: str) -> tuple[str, str, str]:
    """What a connection to engine, master and the other port gives on a host."""
    ask = [docker("exec", boxes[host].name, "python3", "-c", CONNECT, NODE, str(port)) for port in (ENGINE, MASTER, ELSE)]
    engine, master, other = (done.stdout.strip() for done in ask)
    return engine, master, other


GUARDED = {"gw": ("hello", "ECONNREFUSED", "hello"), "rank": ("hello", "hello", "hello"), "box": ("hello", "hello", "hello"),
           "other": ("ECONNREFUSED", "ECONNREFUSED", "hello")}


@pytest.fixture(scope="module")
def guard(boxes, tmp_path_factory):
    """guard(*options, **variables): the role's tasks on the engine's host."""
    folder = tmp_path_factory.mktemp("guard")

    def run(*options, on="box", **variables):
        return boxes[on].play(folder, {"name": "idc.llm.vllm", "tasks_from": "firewall"}, *options,
                              **{"idc_llm_plan": PLAN, **variables})
    return run


@pytest.fixture(scope="module")
def guarded(boxes, guard):
    """The first run."""
    assert {reach(boxes, host) for host in HOSTS} == {("hello", "hello", "hello")}
    checked = guard("--check")
    assert checked.rc == 0 and boxes["box"].sh("ls /etc/idc_llm 2>/dev/null || true") == "", checked.output
    return guard()


def test_only_who_may_reaches_the_engine(boxes, guarded):
    assert guarded.rc == 0 and guarded.recap["changed"] > 0, guarded.output
    assert {host: reach(boxes, host) for host in HOSTS} == GUARDED


def test_a_second_run_changes_nothing_nor_does_a_second_load(boxes, guarded, guard):
    boxes["box"].sh("nft add table ip site")
    run = guard("--diff")
    assert run.rc == 0 and run.recap["changed"] == 0, run.output
    before = boxes["box"].sh("nft list ruleset")
    boxes["box"].sh("systemctl start idc-llm-firewall-vllm.service")
    after = boxes["box"].sh("nft list ruleset")
    assert tables(after) == tables(before) and "table ip site" in before and before.count("chain engines") == 1


def tables(ruleset):
    """In no order: a table that is loaded again stands last."""
    return sorted(part.strip() for part in re.split(r"^(?=table )", ruleset, flags=re.MULTILINE))


def test_the_rules_come_back_after_a_flush_and_a_boot(boxes, guarded):
    box = boxes["box"]
    box.sh("systemctl restart nftables")  # Debian's own rules begin with "flush ruleset"
    assert reach(boxes, "other") == GUARDED["other"]
    box.sh("nft flush ruleset")
    assert box.sh("systemctl is-active idc-llm-firewall-vllm.timer") == "active"
    # the timer's next turn
    box.sh("for n in $(seq 900); do nft list table inet idc_llm_vllm >/dev/null 2>&1 && exit; sleep 0.1; done; exit 1")
    docker("restart", box.name)
    listen(box)
    assert reach(boxes, "other") == GUARDED["other"] and reach(boxes, "gw") == GUARDED["gw"]


def test_one_more_network_and_then_none_of_it(boxes, guarded, guard):
    run = guard(vllm_firewall_allowed_networks=[f"{OTHER}/32"])
    assert run.rc == 0 and reach(boxes, "other") == ("hello", "ECONNREFUSED", "hello"), run.output
    run = guard(vllm_firewall_enabled=False)
    assert run.rc == 0 and reach(boxes, "other") == ("hello", "hello", "hello"), run.output
    left = boxes["box"].sh("nft list ruleset; ls /etc/idc_llm/firewall /etc/systemd/system/*.wants; systemctl list-units --all")
    assert "idc_llm_vllm" not in left and "idc-llm-firewall" not in left
    run = guard(vllm_firewall_enabled=False)
    assert run.rc == 0 and run.recap["changed"] == 0, run.output


def test_where_no_rules_may_be_set_it_says_so(boxes, guard):
    run = guard(on="gw")  # a container without CAP_NET_ADMIN
    assert run.rc != 0 and "IDC-ENG-029" in run.text and "Operation not permitted" in run.text, run.output
    run = guard(on="gw", vllm_firewall_enabled=False)
    assert run.rc == 0 and run.recap["changed"] == 0, run.output
