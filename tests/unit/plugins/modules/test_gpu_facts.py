# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell of gpu_facts: one key, documented fields, subsets, verdict kept."""
from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.idc.llm.plugins.doc_fragments._acceptance import ModuleDocFragment
from ansible_collections.idc.llm.plugins.module_utils import _gpu, _gpu_topology, _host, _rdma
from ansible_collections.idc.llm.plugins.modules import gpu_facts

FACTS = yaml.safe_load(gpu_facts.RETURN)["ansible_facts"]["contains"]["idc_llm_gpu"]["contains"]


def gathered(capsys, **arguments):
    """The facts that the module returns."""
    with patch_module_args(arguments), pytest.raises(SystemExit) as done:
        gpu_facts.main()
    result = json.loads(capsys.readouterr().out)
    assert (done.value.code, result["changed"], list(result["ansible_facts"])) == (0, False, ["idc_llm_gpu"])
    return result["ansible_facts"]["idc_llm_gpu"]


@pytest.fixture
def gather(tmp_path, monkeypatch):
    """gather(**arguments): the facts of a host without binding, its trees below tmp_path."""
    monkeypatch.setattr(gpu_facts, "load_binding", lambda _path: None)

    def call(now="now", **arguments):
        given = {name: option.get("default") for name, option in gpu_facts.ARGUMENTS.items()}
        given["acceptance_file"] = str(tmp_path / "acceptance.json")
        return gpu_facts.gather({**given, **arguments}, now, str(tmp_path / "sys"), str(tmp_path / "proc"))

    return call


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_a_host_without_gpu_is_a_success(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_facts, "load_binding", lambda _path: None)
    facts = gathered(capsys, acceptance_file=str(tmp_path / "none.json"), store_path=str(tmp_path))
    assert (facts["state"], facts["gpus"], facts["topology"], facts["acceptance"]) == ("no_binding", [], None, None)
    assert facts["acceptance_now"]["accepted"] is False
    assert facts["store"]["path"] == str(tmp_path) and facts["store"]["free_bytes"] >= 0


@pytest.mark.parametrize("arguments", [{"gather": ["everything"]}, {"nccl_debug": "TRACE"}])
def test_arguments_that_are_not_known_are_refused(capsys, arguments):
    with patch_module_args(arguments), pytest.raises(SystemExit) as done:
        gpu_facts.main()
    assert done.value.code == 1 and "value of" in json.loads(capsys.readouterr().out)["msg"]


def test_the_documentation_names_every_fact(gather):
    assert set(gather()) == set(FACTS)
    documented = {
        "gpus": set(_gpu.Gpu.__dataclass_fields__), "topology": set(_gpu_topology.Topology.__dataclass_fields__),
        "rdma": set(_rdma.Port.__dataclass_fields__), "pci_devices": set(_host.PciDevice.__dataclass_fields__),
        "host": set(gather()["host"]), "store": set(gather()["store"]), "acceptance_now": set(gather()["acceptance_now"]),
    }
    assert documented == {name: set(FACTS[name]["contains"]) for name in documented}


def test_every_documented_fact_has_a_type_and_a_sentence():
    def rows(contains):
        for name, row in contains.items():
            yield name, row
            yield from rows(row.get("contains", {}))

    found = dict(rows(FACTS))
    assert [name for name, row in found.items() if not row.get("description") or not row.get("type")] == []
    assert [name for name, row in found.items() if row["type"] == "list" and not row.get("elements")] == []
    units = {"_bytes": "bytes", "_w": "watt", "_mhz": "", "_c": "Celsius", "_gbps": "Gbit/s"}
    said = {name: " ".join([row["description"]] if isinstance(row["description"], str) else row["description"])
            for name, row in found.items()}
    assert [name for name in said for end, unit in units.items() if name.endswith(end) and unit not in said[name]
            and name not in ("power_min_w", "power_default_w")] == []


def test_the_options_are_documented_as_they_are():
    options = {**yaml.safe_load(gpu_facts.DOCUMENTATION)["options"], **yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]}
    code = {name: option for name, option in gpu_facts.ARGUMENTS.items() if name != "lang"}
    assert {n: (o["type"], o.get("default"), o.get("choices")) for n, o in options.items()} == {
        n: (o["type"], o.get("default"), o.get("choices")) for n, o in code.items()}


@pytest.mark.parametrize(
    ("wish", "said"), [(["summary"], ["summary"]), (["rdma"], ["summary", "rdma"]),
                       (["all"], ["summary", "topology", "health", "rdma"])])
def test_what_was_gathered_is_said(gather, tmp_path, wish, said):
    put(tmp_path / "sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE")
    put(tmp_path / "sys/class/infiniband/mlx5_0/ports/1/link_layer", "InfiniBand")
    facts = gather(gather=wish)
    assert facts["gathered"] == said
    assert len(facts["rdma"]) == ("rdma" in said)
    assert facts["nccl"].get("NCCL_IB_HCA") == ("=mlx5_0:1" if "rdma" in said else None)
    assert ("1 RDMA port" in facts["summary"]) == ("rdma" in said)


def test_the_environment_for_nccl_follows_the_arguments(gather, tmp_path):
    put(tmp_path / "proc/net/route", "Iface\neth0 00000000 010200C0 0003 0 0 100 00000000 0 0 0")
    put(tmp_path / "sys/class/net/eth0/speed", "100000")
    assert gather()["nccl"] == {
        "NCCL_DEBUG": "WARN", "NCCL_SOCKET_IFNAME": "=eth0", "GLOO_SOCKET_IFNAME": "eth0",
        "NCCL_SOCKET_NTHREADS": "4", "NCCL_NSOCKS_PERTHREAD": "4"}
    other = gather(address="127.0.0.1", nccl_debug="INFO")["nccl"]
    assert (other["NCCL_DEBUG"], other["GLOO_SOCKET_IFNAME"]) == ("INFO", "lo")


def test_the_verdict_of_the_file_is_read_and_its_date_kept(gather, tmp_path):
    first = gather("first")["acceptance_now"]
    (tmp_path / "acceptance.json").write_text(json.dumps(first))
    facts = gather("second")
    assert facts["acceptance"] == facts["acceptance_now"] == first
    assert gather("third", gather=["summary"])["acceptance_now"] == first


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "\x00"])
def test_a_verdict_that_cannot_be_read_is_null(tmp_path, text):
    file = tmp_path / "acceptance.json"
    if text is not None:
        file.write_text(text)
    assert _host.read_verdict(str(file)) is None


def test_cards_without_a_driver_are_seen(gather, tmp_path):
    for name, value in (("vendor", "0x10de"), ("device", "0x2335"), ("class", "0x030200"), ("numa_node", "0")):
        put(tmp_path / "sys/bus/pci/devices/0000:06:00.0" / name, value)
    (tmp_path / "sys/module/nouveau").mkdir(parents=True)
    facts = gather()
    (card,) = facts["pci_devices"]
    assert (card["vendor"], card["address"], card["numa_node"], card["served"], card["note"]) == (
        "nvidia", "0000:06:00.0", 0, True, None)
    assert "H200" in card["model"] and card["memory_bytes"] > 140e9
    assert (facts["nouveau_loaded"], facts["peermem_loaded"], facts["iommu"]) == (True, False, "off")
    assert "H200" in facts["summary"] and "nouveau loaded" in facts["summary"]
