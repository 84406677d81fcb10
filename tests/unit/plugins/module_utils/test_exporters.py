"""Which exporters a host runs, with which words; what its agent is to tell."""

from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _exporters as exporters
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._firewall import watch_rules

CATALOGUE = {
    "node": {
        "package": "pn",
        "program": "/n",
        "listen": ["-l={address}:{port}"],
        "tls": ["-w={web}"],
        "arguments": ["-x=(a|b)[.]c"],
    },
    "dcgm": {
        "package": "pd",
        "unit": "nd",
        "dropin": True,
        "root": True,
        "program": "/d",
        "listen": ["-a", "{address}:{port}"],
        "tls": [],
    },
    "nvitop": {"venv": True, "program": "/v", "listen": ["{port}"], "tls": ["{certificate}", "{key}"]},
}
PLAN = {
    "scrape": [
        {"job": job, "host": host, "address": "10.0.0.1", "port": port, "labels": {}}
        for job, host, port in (
            ("vllm", "n1", 8000),
            ("node", "n1", 9100),
            ("gpu", "n1", 9400),
            ("node", "n2", 9100),
            ("alertmanager", "m1", 9093),
            ("prometheus", "m1", 9090),
        )
    ],
    "hosts": {
        "n1": {"address": "10.0.0.1", "groups": ["gpu_nodes"], "gpus": 2},
        "m1": {"address": "10.0.0.7", "groups": ["monitors", "gateways"], "gpus": 0},
    },
    "ports": {"alertmanager_cluster": 9094, "nginx": 9113},
    "engines": [
        {
            "name": "r1-blue-0",
            "deployment": "r1",
            "host": "n1",
            "gpus": ["GPU-a", "GPU-b"],
            "config": {"gpu-memory-utilization": 0.9},
        },
        {"name": "r2-blue-0", "deployment": "r2", "host": "n2", "gpus": ["GPU-c"], "config": {}},
    ],
    "stores": {"n1": [{"model": "org/r1", "revision": "a", "path": "/store/org/r1/a"}]},
}


@pytest.mark.parametrize(
    ("wish", "offered", "got"),
    [
        ("auto", True, "dcgm"),
        ("auto", False, "nvitop"),
        ("dcgm", False, "dcgm"),
        ("nvitop", True, "nvitop"),
        ("none", True, "none"),
    ],
)
def test_the_gpu_exporter_is_nvidias_where_it_can_be_had(wish, offered, got):
    assert exporters.gpu_exporter(wish, offered) == got


def test_a_package_keeps_its_unit_and_hears_where_to_listen():
    (node, gpu) = exporters.exporters(PLAN, "n1", CATALOGUE, gpu="dcgm")
    assert (node["unit"], node["source"], node["dropin"]) == ("pn.service", "package", False)
    assert node["arguments"] == ["-l=10.0.0.1:9100", "-x=(a|b)[.]c"] and node["scheme"] == "http"
    assert (gpu["job"], gpu["entry"], gpu["unit"], gpu["dropin"], gpu["root"]) == ("gpu", "dcgm", "nd.service", True, True)
    assert [row["job"] for row in exporters.exporters(PLAN, "n1", CATALOGUE)] == ["node"], "none: no GPU exporter"


def test_an_archive_or_pins_get_a_unit_of_ours_and_a_folder_by_hash():
    archive = {"node": {"file": "n.tar.gz", "sha256": "ab" * 32, "program": "n-1/node_exporter"}}
    (node, gpu) = exporters.exporters(PLAN, "n1", CATALOGUE, gpu="nvitop", archives=archive)
    assert (node["source"], node["unit"], node["package"]) == ("archive", "idc-llm-exporter-node.service", "")
    assert node["program"] == "/opt/idc_llm/exporters/node-abababababab/n-1/node_exporter"
    assert (gpu["source"], gpu["unit"]) == ("venv", "idc-llm-exporter-nvitop.service")


def test_tls_is_said_in_each_ones_words():
    (node, gpu) = exporters.exporters(PLAN, "n1", CATALOGUE, gpu="nvitop", certificate=["/c", "/k"], web_file="/w")
    assert node["arguments"][-1] == "-w=/w" and gpu["arguments"][-2:] == ["/c", "/k"] and node["scheme"] == gpu["scheme"] == "https"


@pytest.mark.parametrize(
    ("archives", "codes"),
    [
        ({}, []),
        ({"node": {"file": "n", "sha256": "a" * 64, "program": "p"}}, []),
        ({"nod": {}}, ["IDC-INV-006"]),
        ({"node": {"file": "n", "program": "p"}}, ["IDC-INV-007"]),
        ({"node": {"file": "n", "sha256": "xyz", "program": "p"}}, ["IDC-INV-007"]),
        ("node", ["IDC-INV-007"]),
    ],
)
def test_an_archive_without_its_hash_is_refused(archives, codes):
    assert [error.code for error in exporters.archive_errors(archives, list(CATALOGUE))] == codes


def test_the_salt_is_the_same_again_and_another_for_others():
    one = exporters.salt("n1")
    assert one == exporters.salt("n1") != exporters.salt("n2") and len(one) == 22


def test_the_agent_is_told_what_the_plan_gives_the_host():
    said = exporters.textfile(PLAN, "n1", [{"uuid": "GPU-b", "index": 1}], "/a.json", "/m", "/store", ["u"])
    assert said["gpu_expected"] == 2 and said["stores"] == {"org/r1": "/store/org/r1/a"} and said["acceptance_file"] == "/a.json"
    assert said["reserved"] == [
        {"engine": "r1-blue-0", "deployment": "r1", "gpu": "GPU-a", "index": "", "share": 0.9},
        {"engine": "r1-blue-0", "deployment": "r1", "gpu": "GPU-b", "index": "1", "share": 0.9},
    ]
    assert "audit_file" not in said
    gateway = exporters.textfile(PLAN, "m1", [], "/a.json", "/m", "/store", [])
    assert gateway["tokens_url"] == "http://127.0.0.1:9113/tokens" and gateway["audit_file"] and "acceptance_file" not in gateway


def test_only_monitors_reach_what_watches():
    assert [(row["port"], row["ip"]) for row in watch_rules(PLAN, "n1")] == [(9100, ["10.0.0.7"]), (9400, ["10.0.0.7"])]
    rows = watch_rules(PLAN, "m1", ["10.9.0.0/16"])
    assert [(row["port"], row["ip"], row.get("udp", False)) for row in rows] == [
        (9090, ["10.0.0.7", "10.9.0.0/16"], False),
        (9093, ["10.0.0.7", "10.9.0.0/16"], False),
    ]
    two = {**PLAN, "hosts": {**PLAN["hosts"], "m2": {"address": "10.0.0.8", "groups": ["monitors"]}}}
    cluster = watch_rules(two, "m1", ["10.9.0.0/16"])[-1]
    assert (cluster["port"], cluster["ip"], cluster["udp"]) == (9094, ["10.0.0.7", "10.0.0.8"], True)
    with pytest.raises(IdcError, match="exporters_firewall_allowed_networks"):
        watch_rules(PLAN, "n1", ["10.1.2.3/8"])


def test_what_an_earlier_choice_left_is_stopped_and_a_sites_own_is_not():
    def left(host, gpu, parts):
        rows = exporters.exporters(PLAN, host, CATALOGUE, gpu=gpu)
        ours = {"idc-llm-exporter-node.service", "idc-llm-exporter-dcgm.service"}
        return set(exporters.left(PLAN, host, rows, CATALOGUE, parts)) - ours

    assert left("n1", "nvitop", ["pn.service", "nd.service"]) == {"nd.service"}, "dcgm has the port of nvitop"
    assert left("n1", "none", ["nd.service"]) == {"nd.service", "idc-llm-exporter-nvitop.service"}
    assert left("n1", "nvitop", ["pn.service"]) == set(), "who installed nd.service bears no part of ours"
    assert left("n2", "none", ["prometheus.service"]) >= set(exporters.MONITORING), "no monitor any more"
    assert not left("m1", "none", ["prometheus.service"]) & set(exporters.MONITORING)


def test_an_archive_in_a_packages_place_stops_the_packages_unit():
    archive = {"node": {"file": "f", "sha256": "a" * 64, "program": "p"}}
    rows = exporters.exporters(PLAN, "n2", CATALOGUE, archives=archive)
    assert "pn.service" in exporters.left(PLAN, "n2", rows, CATALOGUE, [])


def test_wrong_choices_are_sentences():
    said = [error.render() for error in exporters.choice_errors("DCGM", ["/srv/wheels"])]
    assert "exporters_gpu" in said[0] and "auto | dcgm" in said[0]
    assert "/srv/wheels" in said[1] and "not on the controller" in said[1]
    assert exporters.choice_errors("auto", []) == []
    (error,) = exporters.archive_errors({"nvitop": {}}, list(CATALOGUE))
    assert "nvitop" in error.render(), "it comes as wheels"
