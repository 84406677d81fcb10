"""What the playbook knows, handed to the pure questions."""
from __future__ import annotations

import json

import jinja2
from ansible_collections.idc.llm.plugins.filter import fleet
from ansible_collections.idc.llm.plugins.module_utils._fleet import for_planning

GROUPS = {"gpu_nodes": ["n1", "n2"], "gateways": ["g1"], "monitors": ["g1"], "all": ["g1", "n1", "n2"]}
GPU = {"state": "ok", "gpus": []}
WANTED = [{"name": "r1", "model": "org/r1", "revision": "abc", "sources": ["file:///srv/r1/"]}]


def test_fleet_facts_says_who_was_seen_in_this_run():
    hostvars = {
        "n1": {"ansible_facts": {"default_ipv4": {"address": "10.0.0.1"}, "idc_llm_gpu": GPU}, "idc_llm_rack": "r7"},
        "n2": {"idc_llm_address": "10.9.9.2", "exporters_gpu": "dcgm"},
        "g1": {"idc_llm_address": "10.9.9.9", "gateway_proxy_protocol": True,
               "ansible_facts": {"default_ipv4": {"address": "10.0.0.9"}}},
    }
    planned = for_planning(GPU)
    assert planned["state"] == "ok"
    assert fleet.fleet_facts(hostvars, GROUPS) == {
        "n1": {"groups": ["gpu_nodes"], "address": "10.0.0.1", "gpu": planned, "fresh": True, "rack": "r7",
               "gpu_exporter": "auto", "probed": True},
        "n2": {"groups": ["gpu_nodes"], "address": "10.9.9.2", "gpu": None, "fresh": False, "rack": "", "gpu_exporter": "dcgm",
               "probed": True},
        "g1": {"groups": ["gateways", "monitors"], "address": "10.9.9.9", "gpu": None, "fresh": True, "rack": "",
               "gpu_exporter": "none", "probed": False},
    }


def test_an_address_made_of_facts_that_are_not_there_is_none():
    """As Ansible hands on the variable of a host that is away, or outside --limit."""
    away = {"idc_llm_address": jinja2.StrictUndefined(name="eth1")}
    found = fleet.fleet_facts({"n1": away, "n2": {}, "g1": {}}, GROUPS)
    assert found["n1"]["address"] is None and not found["n1"]["fresh"]


def test_inventory_errors_sees_the_variables_of_every_host():
    hostvars = {"n1": {"idc_llm_adress": "10.0.0.1"}, "n2": {}, "g1": {}}
    (error,) = fleet.inventory_errors(hostvars, GROUPS, {"idc_llm_deployments": WANTED}, False)
    assert "IDC-INV-006" in error and "idc_llm_address" in error


def test_python_error_is_a_sentence_or_nothing():
    assert fleet.python_error("Python 3.11", "n1", "2.19.14") == ""
    for lang in ("en", "zh"):
        assert "3.6" in fleet.python_error("Python 3.6", "n1", "2.19.14", lang)


def test_host_errors_takes_the_loop_of_stat():
    paths = fleet.media_paths(WANTED, "/store")
    assert paths == ["/store/org/r1/abc/manifest.json", "/srv/r1/manifest.json", "/srv/r1/config.json"]
    facts = {"os_family": "Debian", "distribution": "Debian", "service_mgr": "systemd", "all_ipv4_addresses": ["10.0.0.1"]}
    stats = [{"item": path, "stat": {"exists": False}} for path in paths]
    found = fleet.host_errors(facts, "n1", WANTED, stats, "10.0.0.1", "/store", [], True)
    assert len(found) == 1 and "IDC-HOST-006" in found[0] and "/srv/r1/manifest.json" in found[0]
    skipped = [{"item": path, "skipped": True} for path in paths]
    assert fleet.host_errors(facts, "g1", WANTED, skipped, "10.0.0.1", "/store", [], False) == []


def test_status_table_joins_probes_and_upstreams():
    engine = {"name": "r1-blue-0", "host": "n1", "address": "10.0.0.1", "port": 8000, "gpus": [], "release": "1.0"}
    said = json.dumps({"r1-blue-0": {"drained": False, "share": 1.0, "why": "", "at": "", "epoch": 0}})
    hostvars = {"n1": {"__idc_llm_probes": {"results": [{"item": engine, "ttft_s": 0.1}]}}, "n2": {},
                "g1": {"__gateway_status": {"stdout": said}}}
    heading, line = fleet.status_table(hostvars, {"engines": [engine]}, GROUPS)
    assert heading.split()[0] == "engine" and "now, after 0.100 s" in line and line.endswith("no")
