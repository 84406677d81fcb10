# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's unit and the packet filter rules as rendered for production, in a virtual machine: containers raise no limit, and
share their kernel. The files are those that vllm_service and the role write; only `vllm` is a stand-in that listens."""
from __future__ import annotations

import re

import jinja2
import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils import _engine
from ansible_collections.idc.llm.plugins.module_utils._firewall import rules

from tests.support.box import ROOT
from tests.vm.image import missing
from tests.vm.machine import MARK, Machine

HERE, GATEWAY, OTHER = "10.77.0.11", "10.77.1.2", "10.77.2.2"
SPEC = _engine.Spec(name="tiny-blue-0", release="1.0", api_key="not-a-real-key",
                    config={"model": "/srv/model", "served-model-name": "tiny", "host": HERE, "port": 8000})
UNIT = "idc-vllm@tiny-blue-0.service"
RULES = "idc-llm-firewall-vllm"
PLAN = {"hosts": {"here": {"address": HERE, "groups": ["gpu_nodes"]}, "gw": {"address": GATEWAY, "groups": ["gateways"]},
                  "other": {"address": OTHER, "groups": ["gpu_nodes"]}},
        "engines": [{"name": SPEC.name, "deployment": "tiny", "slot": "blue", "replica": 0, "head": True, "host": "here",
                     "address": HERE, "port": 8000, "config": SPEC.config}]}

VLLM = """#!/usr/bin/python3
import re, socketserver, sys
assert sys.argv[1:3] == ["serve", "--config"], sys.argv
text = open(sys.argv[3]).read()
host, port = re.search(r'^host: "(.*)"', text, re.M).group(1), int(re.search(r"^port: (.*)", text, re.M).group(1))
class Say(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(b"hello")
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer((host, port), Say).serve_forever()
"""

# a network of two more hosts: namespaces behind a pair of interfaces each
NETWORK = f"""#!/bin/sh -e
/usr/sbin/nft list tables inet >/run/tables
ip link set lo up
ip addr add {HERE}/32 dev lo
for n in 1 2; do
  ip netns add host$n
  ip link add v$n type veth peer name eth0 netns host$n
  ip addr add 10.77.$n.1/24 dev v$n
  ip link set v$n up
  ip -n host$n addr add 10.77.$n.2/24 dev eth0
  ip -n host$n link set eth0 up
  ip -n host$n route add default via 10.77.$n.1
done
"""

LOOK = f"""#!/usr/bin/python3
import errno, json, subprocess, time

def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip()

CONNECT = '''import errno, socket
s = socket.socket(); s.settimeout(60); e = s.connect_ex(("{HERE}", 8000))
print(errno.errorcode.get(e, e) if e else s.recv(5).decode())'''
for turn in range(300):
    if run("python3", "-c", CONNECT) == "hello":
        break
    time.sleep(1)
show = dict(line.split("=", 1) for line in run("systemctl", "show", "{UNIT}").splitlines() if "=" in line)
pid = show["MainPID"]
result = {{
    "active": show["ActiveState"], "user": run("stat", "-c", "%U", "/proc/" + pid),
    "limits": {{key: value for key, value in show.items() if key.startswith("Limit")}},
    "locked": [line.split()[3:5] for line in open("/proc/" + pid + "/limits") if line.startswith("Max locked memory")][0],
    "exposure": run("systemd-analyze", "security", "--no-pager", "{UNIT}"),
    "before_the_network": open("/run/tables").read(),
    "timer": run("systemctl", "is-active", "{RULES}.timer"),
    "table": run("nft", "list", "table", "inet", "idc_llm_vllm"),
    "here": run("python3", "-c", CONNECT),
    "gateway": run("ip", "netns", "exec", "host1", "python3", "-c", CONNECT),
    "other": run("ip", "netns", "exec", "host2", "python3", "-c", CONNECT),
    "failed": run("systemctl", "--failed", "--no-legend", "--plain"),
}}
with open("/dev/ttyS0", "w") as console:
    console.write("\\n{MARK}" + json.dumps(result) + "\\n")
subprocess.run(["systemctl", "poweroff", "--no-block"])
"""
SERVICE = "[Unit]\n{unit}\n[Service]\nType=oneshot\n{service}\n[Install]\nWantedBy=multi-user.target\n"

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not here: {', '.join(missing())}")


def rendered(name: str) -> str:
    """A template of the role, with the role's own variables."""
    own = yaml.safe_load((ROOT / "roles/vllm/vars/main.yml").read_text())
    own.update({"__vllm_firewall_etc": "/etc/idc_llm/firewall", "__vllm_firewall_rules": "/etc/idc_llm/firewall/vllm.nft",
                "__vllm_guards": rules(PLAN, "here")})
    source = (ROOT / "roles/vllm/templates" / f"{name}.j2").read_text()
    return jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(source).render(own) + "\n"


@pytest.fixture(scope="module")
def boots(tmp_path_factory):
    """What the machine saw in its first boot and in the next."""
    units = "/etc/systemd/system"
    files = {file.path: (file.text, file.group, file.mode) for file in _engine.files(SPEC)}
    files["/etc/idc_llm/firewall/vllm.nft"] = (rendered("vllm.nft"), "root", 0o644)
    for kind in ("service", "timer"):
        files[f"{units}/{RULES}.{kind}"] = (rendered(f"{RULES}.{kind}"), "root", 0o644)
    programs = {f"{SPEC.release_dir}/bin/vllm": VLLM, "/usr/local/sbin/lab-network": NETWORK, "/usr/local/sbin/lab-look": LOOK}
    files.update({path: (text, "root", 0o755) for path, text in programs.items()})
    files[f"{units}/lab-network.service"] = (SERVICE.format(
        unit="After=network-pre.target\nBefore=network.target network-online.target",
        service="RemainAfterExit=yes\nExecStart=/usr/local/sbin/lab-network"), "root", 0o644)
    files[f"{units}/lab-look.service"] = (SERVICE.format(unit=f"After={UNIT} lab-network.service",
                                                         service="ExecStart=/usr/local/sbin/lab-look"), "root", 0o644)
    wants = f"{units}/multi-user.target.wants"
    links = {f"{wants}/{UNIT}": f"../{_engine.UNIT_NAME}", f"{wants}/{RULES}.service": f"../{RULES}.service",
             f"{units}/timers.target.wants/{RULES}.timer": f"../{RULES}.timer",
             f"{wants}/lab-network.service": "../lab-network.service",
             f"{units}/network-online.target.wants/lab-network.service": "../lab-network.service",
             f"{wants}/lab-look.service": "../lab-look.service", SPEC.link: SPEC.release_dir}
    machine = Machine.made(tmp_path_factory.mktemp("vm"), files, links)
    return [machine.boot(900), machine.boot(900)]


def test_the_engine_runs_as_its_user_with_the_limits_of_its_unit(boots):
    text = next(file.text for file in _engine.files(SPEC) if file.path.endswith(_engine.UNIT_NAME))
    for seen in boots:
        assert (seen["active"], seen["user"]) == ("active", "vllm"), seen
        limits = dict(re.findall(r"^(Limit\w+)=(\w+)$", text, re.M))
        assert limits and {key: seen["limits"][key] for key in limits} == limits
        wanted = limits.get("LimitMEMLOCK")
        assert wanted is None or seen["locked"] == [{"infinity": "unlimited"}.get(wanted, wanted)] * 2


def test_the_unit_is_closed_as_far_as_cuda_allows(boots):
    table = boots[0]["exposure"]
    assert float(re.search(r"exposure level for \S+: ([\d.]+) ", table).group(1)) <= 3.0, table


def test_the_rules_are_there_before_the_network_at_each_boot(boots):
    for seen in boots:
        assert "idc_llm_vllm" in seen["before_the_network"] and seen["timer"] == "active", seen
        assert "tcp dport 8000 reject" in seen["table"]


def test_only_the_gateway_and_the_host_itself_reach_the_engine(boots):
    for seen in boots:
        assert (seen["here"], seen["gateway"], seen["other"]) == ("hello", "hello", "ECONNREFUSED"), seen
        assert seen["failed"] == ""
