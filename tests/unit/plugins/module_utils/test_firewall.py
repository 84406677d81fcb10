# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may reach an engine's ports; and that nft takes what the role makes of it."""
from __future__ import annotations

import shutil
import subprocess

import jinja2
import pytest
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._firewall import rules
from ansible_collections.idc.llm.tests.unit.repo import tree

HOSTS = {"n1": ("10.0.0.1", ["gpu_nodes"]), "n2": ("10.0.0.2", ["gpu_nodes"]), "n3": ("10.0.0.3", ["gpu_nodes"]),
         "gw": ("10.0.0.21", ["gateways"]), "mon": ("10.0.0.31", ["monitors"])}


def engine(host, port=8000, rank=0, replica=0, **config):
    return {"name": f"r1-blue-{replica}" + (f"-rank{rank}" if rank else ""), "deployment": "r1", "slot": "blue", "replica": replica,
            "rank": rank, "head": rank == 0, "host": host, "address": HOSTS[host][0], "port": port,
            "config": {"host": HOSTS[host][0], "port": port, **config}}


def plan(*engines, **hosts):
    rows = {name: {"address": address, "groups": groups} for name, (address, groups) in {**HOSTS, **hosts}.items()}
    return {"hosts": rows, "engines": list(engines)}


def test_gateways_and_monitors_reach_an_engine_other_nodes_do_not():
    row, = rules(plan(engine("n1"), engine("n2", replica=1)), "n1")
    assert (row["port"], row["what"]) == (8000, "r1-blue-0")
    assert row["ip"] == ["10.0.0.1", "10.0.0.21", "10.0.0.31"] and row["ip6"] == []


def test_ranks_reach_the_head_and_its_master_and_nobody_else_the_master():
    for key in ("master-port", "data-parallel-rpc-port"):
        fleet = plan(engine("n1", **{key: 29501}), engine("n2", rank=1, **{key: 29501}), engine("n3", replica=1))
        http, master = rules(fleet, "n1")
        assert http["ip"] == ["10.0.0.1", "10.0.0.2", "10.0.0.21", "10.0.0.31"]
        assert (master["port"], master["ip"]) == (29501, ["10.0.0.1", "10.0.0.2"])
        assert rules(fleet, "n2") == []  # a rank without HTTP listens for nobody


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_an_engine_on_loopback_needs_no_guard(host):
    assert rules(plan({**engine("n1"), "config": {"host": host, "port": 8000}}), "n1") == []


def test_an_engine_that_says_no_port_or_every_address_is_guarded():
    for config in ({}, {"host": "0.0.0.0"}, {"host": "::"}):
        assert [row["port"] for row in rules(plan({**engine("n1", 8005), "config": config}), "n1")] == [8005]


def test_overlaps_are_merged_and_families_apart():
    fleet = plan(engine("n1"), gw6=("fd00::21", ["gateways"]), lost=(None, ["gateways"]))
    row, = rules(fleet, "n1", ["10.0.0.16/28", "10.9.0.0/16", "fd00::/64"])
    assert row["ip"] == ["10.0.0.1", "10.0.0.16/28", "10.9.0.0/16"] and row["ip6"] == ["fd00::/64"]


def test_a_wrong_network_says_which():
    with pytest.raises(IdcError, match="IDC-ENG-027: n1: vllm_firewall_allowed_networks .*10.0.0.1/8 has host bits set"):
        rules(plan(engine("n1")), "n1", ["10.0.0.1/8"])


def rendered(guards):
    text = (tree.ROOT / "roles/vllm/templates/vllm.nft.j2").read_text(encoding="utf-8")
    return jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(text).render(
        __vllm_table="idc_llm_vllm", __vllm_guards=guards)


def test_the_rules_as_they_are_loaded(tmp_path):
    guards = rules(plan(engine("n1", **{"master-port": 29501}), engine("n2", rank=1), gw6=("fd00::21", ["gateways"])), "n1")
    text = rendered(guards)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[1:4] == ["table inet idc_llm_vllm", "delete table inet idc_llm_vllm", "table inet idc_llm_vllm {"]
    assert "type filter hook input priority filter - 5; policy accept;" in lines
    for port in ("8000", "29501"):
        own = [line for line in lines if line.startswith(f"tcp dport {port}")]
        assert own[-1] == f"tcp dport {port} reject with tcp reset" and all(line.endswith("accept") for line in own[:-1])
    assert "tcp dport 29501 ip saddr { 10.0.0.1, 10.0.0.2 } accept" in lines
    assert "tcp dport 8000 ip6 saddr { fd00::21 } accept" in lines
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    if nft is None or subprocess.run([nft, "list", "tables"], capture_output=True, check=False).returncode:
        pytest.skip("nft cannot be used here; the rest was checked")
    file = tmp_path / "vllm.nft"
    file.write_text(text)
    checked = subprocess.run([nft, "-c", "-f", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
