"""Who reaches an engine: the gateway and the host itself do, the other node does not."""
from __future__ import annotations

import pytest

from tests.support.fleet import FLEET
from tests.support.waiting import wait_for

TABLE = "nft list table inet idc_llm_vllm"
CURL = "curl -s -o /dev/null -m 20 http://%s:%s/health"


@pytest.fixture(scope="module")
def engine(fleet):
    """The plan's first engine."""
    return fleet.plan["engines"][0]


def test_the_gateway_and_the_host_itself_reach_the_engine(on, engine):
    for host in ("gateways", "monitors", engine["host"]):
        assert on(host).run(CURL, engine["address"], str(engine["port"])).rc == 0, host


@pytest.mark.skipif(FLEET == "single", reason="there is no other node")
def test_the_other_node_is_refused_at_once(fleet, on, engine):
    other = next(host for host in fleet.groups["gpu_nodes"] if host != engine["host"])
    assert on(other).run(CURL, engine["address"], str(fleet.plan["ports"]["store"])).rc == 0  # not for want of a way there
    assert on(other).run(CURL, engine["address"], str(engine["port"])).rc == 7  # refused; 28 would be a timeout


def test_the_rules_load_again_and_come_back_by_themselves(on, engine):
    """Docker's own rules lie in the container, too, so nothing is flushed here; tests/integration/test_vllm_firewall.py does."""
    node = on(engine["host"])
    before = node.check_output(TABLE)
    assert f"tcp dport {engine['port']} reject with tcp reset" in before
    node.check_output("systemctl start idc-llm-firewall-vllm.service")
    assert node.check_output(TABLE) == before
    for unit in ("idc-llm-firewall-vllm.service", "idc-llm-firewall-vllm.timer"):
        assert node.service(unit).is_enabled, unit
    node.check_output("nft delete table inet idc_llm_vllm")
    assert wait_for(lambda: node.run(TABLE).rc == 0, 180)
    assert node.check_output(TABLE) == before


def test_a_gateway_bounds_new_connections_at_each_boot(fleet, on):
    gateway = on("gateways")
    table = gateway.check_output("nft list table inet idc_llm_gateway")
    assert f"tcp dport != {fleet.plan['ports']['gateway']} accept" in table and "200/second burst 1000 packets" in table
    assert gateway.service("idc-llm-firewall-gateway.service").is_enabled
    gateway.check_output("systemctl start idc-llm-firewall-gateway.service")
    assert gateway.check_output("nft list table inet idc_llm_gateway") == table
