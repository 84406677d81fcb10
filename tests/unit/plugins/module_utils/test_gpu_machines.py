# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole machines: gpu_facts with the real nvidia-ml-py over the double of NVML, each in a process of its own."""
from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils._products import product_by_pci
from ansible_collections.idc.llm.plugins.modules import gpu_facts

from tests.support.nvml import HERE, Machine

ROOT = Path(__file__).resolve().parents[4]
CHILD = """
import json, sys
from ansible_collections.idc.llm.plugins.modules import gpu_facts
asked = json.load(sys.stdin)
given = {name: option.get("default") for name, option in gpu_facts.ARGUMENTS.items()}
given.update(acceptance_file="/nowhere", store_path=asked["proc"], **asked["arguments"])
json.dump(gpu_facts.gather(given, "now", asked["sysfs"], asked["proc"]), sys.stdout)
"""
ROUTE = "Iface\n{} 00000000 010200C0 0003 0 0 100 00000000 0 0 0\n"
EIGHT = list(range(8))
H100, A100, L40S = ("NVIDIA H100 80GB HBM3", "hopper"), ("NVIDIA A100-SXM4-80GB", "ampere"), ("NVIDIA L40S", "ada")
H200 = ("NVIDIA H200", "hopper")
# what the double's host is not: its processors, memory and disks; and what is no fact but our judgement, which has grown since
NOT_REPLAYED = ("host.cpus", "host.memory_total_bytes", "store", "acceptance_now")
# h200-1 is captures/h200.json; when gpu_facts ran, later, the idle card drew and clocked less
LATER = {"gpus": {"defaults": {"power": {"draw": 79706}, "clocks": {"sm": [345, 1980]}}}}


def gathered(installed, **arguments):
    """The facts of an installed machine."""
    asked = {"sysfs": str(installed.sysfs), "proc": str(installed.proc), "arguments": arguments}
    environment = {**os.environ, **installed.environment, "PYTHONPATH": str(ROOT / ".collections"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD], input=json.dumps(asked), env=environment, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def read(tmp_path_factory):
    """read(name or machine, **arguments): its facts, asked for once."""
    known = {}

    def call(machine, route=None, **arguments):
        key = (machine if isinstance(machine, str) else json.dumps(machine.words, sort_keys=True), route, str(arguments))
        if key not in known:
            machine = Machine.load(machine) if isinstance(machine, str) else machine
            installed = machine.install(tmp_path_factory.mktemp("machine"))
            if route:
                (installed.proc / "net").mkdir()
                (installed.proc / "net/route").write_text(ROUTE.format(route))
            known[key] = gathered(installed, **arguments)
        return known[key]

    return call


def of(facts, field):
    return [gpu[field] for gpu in facts["gpus"]]


def test_all_machines_are_looked_at():
    assert set(Machine.names()) == {
        "hgx-h100-8", "hgx-a100-80-8", "hgx-a100-roce-a", "hgx-a100-roce-b", "h200-1", "h200-2", "l40s-4", "busy-l40s",
        "mig-h100", "sick-h100", "fallen-h100", "no-devices", "no-driver"}


@pytest.mark.parametrize("name", Machine.names())
def test_every_fact_is_of_its_documented_type(read, name):
    types = {"str": str, "int": int, "bool": bool, "float": (int, float), "list": list, "dict": dict}
    wrong = []

    def look(value, row, where):
        if value is None:
            return
        kind = types[row["type"]]
        if not isinstance(value, kind) or (isinstance(value, bool) and row["type"] != "bool"):
            wrong.append(where)
            return
        rows = value if row["type"] == "list" and row["elements"] == "dict" else [value]
        for inner in rows if "contains" in row else ():
            assert set(inner) == set(row["contains"]), where
            for key, below in row["contains"].items():
                look(inner[key], below, f"{where}.{key}")

    contains = yaml.safe_load(gpu_facts.RETURN)["ansible_facts"]["contains"]["idc_llm_gpu"]
    look(read(name), contains, "facts")
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "state", "count", "model", "link", "domains", "nvswitch"),
    [
        ("hgx-h100-8", "ok", 8, H100, "nvlink", [EIGHT], True),
        ("hgx-a100-80-8", "ok", 8, A100, "nvlink", [EIGHT], True),
        ("hgx-a100-roce-a", "ok", 8, A100, "nvlink", [EIGHT], True),
        ("hgx-a100-roce-b", "ok", 8, A100, "nvlink", [EIGHT], True),
        ("h200-1", "ok", 1, H200, None, [], False),
        ("h200-2", "ok", 2, H200, "nvlink", [[0, 1]], True),
        ("l40s-4", "ok", 4, L40S, "pcie", [], False),
        ("busy-l40s", "ok", 4, L40S, "pcie", [], False),
        ("mig-h100", "ok", 2, H100, "pcie", [], False),
        ("sick-h100", "ok", 8, H100, "nvlink", [EIGHT], True),
        ("fallen-h100", "ok", 8, H100, "nvlink", [[0, 1, 2, 3, 4, 6, 7]], True),
    ],
)
def test_what_stands_there_and_how_it_is_linked(read, name, state, count, model, link, domains, nvswitch):
    facts = read(name)
    assert (facts["state"], facts["detail"], len(facts["gpus"])) == (state, None, count)
    answering = [gpu for gpu in facts["gpus"] if gpu["uuid"]]
    assert {(gpu["name"], gpu["architecture"]) for gpu in answering} == {model}
    topology = facts["topology"]
    assert (topology["link"], topology["domains"], topology["nvswitch"]) == (link, domains, nvswitch)
    assert [len(row) for row in topology["matrix"]] == [count] * count
    assert all(topology["matrix"][at][at] == "X" for at in range(count))


def test_an_hgx_board_in_full(read):
    facts = read("hgx-h100-8")
    first = facts["gpus"][0]
    assert (facts["driver_version"], facts["cuda_version"], facts["nvml_version"]) == ("580.159.04", "13.0", "13.580.159.04")
    assert (first["pci_address"], first["pci_device_id"], first["compute_capability"]) == ("0000:18:00.0", "0x2330", "9.0")
    assert of(facts, "numa_node") == [0, 0, 0, 0, 1, 1, 1, 1]
    assert (first["memory_total_bytes"], first["memory_reserved_bytes"], first["memory_used_bytes"]) == (85520809984, 476053504, 0)
    assert first["memory_total_bytes"] == product_by_pci("0x2330").memory_bytes
    assert (first["mig_enabled"], first["mig_instances"], first["processes"]) == (False, [], [])
    assert (first["ecc_enabled"], first["ecc_uncorrected"], first["recovery_action"]) == (True, 0, "none")
    assert first["remapped_rows"] == {"correctable": 0, "uncorrectable": 0, "pending": False, "failed": False}
    assert (first["fabric"]["state"], first["fabric"]["status"]) == ("completed", 0)
    assert [first[f"power_{which}_w"] for which in ("draw", "limit", "min", "max", "default")] == [85, 700, 200, 700, 700]
    assert first["clocks"] == {"sm_mhz": 345, "sm_max_mhz": 1980, "memory_mhz": 2619, "memory_max_mhz": 2619}
    assert first["pcie"] == {"generation": 5, "generation_max": 5, "width": 16, "width_max": 16, "replays": 0}
    assert (first["temperature_c"], first["throttle_reasons"], first["persistence"]) == (30, ["idle"], True)
    assert of(facts, "healthy") == [True] * 8
    assert {cell for row in facts["topology"]["matrix"] for cell in row} == {"X", "NV18"}
    assert len(facts["topology"]["links"][0]) == 18
    assert facts["topology"]["links"][0][17] == {
        "link": 17, "active": True, "remote": "nvswitch", "errors": {"crc": 0, "replay": 0, "recovery": 0}}
    assert (facts["iommu"], facts["peermem_loaded"], facts["nouveau_loaded"]) == ("passthrough", True, False)
    assert [(card["address"], card["note"]) for card in facts["pci_devices"]] == [(gpu, None) for gpu in of(facts, "pci_address")]
    assert facts["host"]["numa_nodes"] == 2
    assert facts["acceptance_now"]["accepted"] is True
    model = product_by_pci("0x2330").name
    assert facts["summary"] == (
        "driver 580.159.04, 8 GPU (NVIDIA H100 80GB HBM3, 80 GiB), NVLink, 8 in one domain, 9 RDMA ports; "
        f"cards on the PCI bus: 8 nvidia {model}; nouveau not loaded")


def test_an_older_driver_leaves_out_what_it_does_not_tell(read):
    first = read("hgx-a100-80-8")["gpus"][0]
    assert first["recovery_action"] is None
    assert (first["throttle_reasons"], first["remapped_rows"]["failed"], first["healthy"]) == (["idle"], False, True)
    assert read("hgx-a100-80-8")["topology"]["matrix"][0][7] == "NV12"


def test_a_card_passed_through_to_a_virtual_machine(read):
    facts = read("h200-1")
    assert of(facts, "numa_node") == [None]
    assert of(facts, "memory_used_bytes") == [0]  # version 1 of the structure would say 644939776
    assert (facts["topology"]["links"], facts["topology"]["matrix"]) == ([[]], [["X"]])
    assert (facts["gpus"][0]["fabric"]["state"], facts["iommu"], facts["rdma"]) == ("not_supported", "off", [])
    assert of(facts, "retired_pages_pending") == [None]


@pytest.mark.parametrize(("name", "words", "route"), [("h200-1", LATER, "eth0"), ("h200-2", {}, "lo")])
def test_real_machines_give_their_facts_once_more(read, name, words, route):
    wanted = json.loads((HERE / "captures" / f"facts-{name}.json").read_text(encoding="utf-8"))
    found = copy.deepcopy(read(Machine.load(name).with_(**words), route=route))
    for facts in (wanted, found):
        for path in NOT_REPLAYED:
            *above, last = path.split(".")
            del reduce(dict.__getitem__, above, facts)[last]
    assert found == wanted


def test_real_machines_are_accepted_and_a_card_in_a_slot_of_eight_lanes_is_not(read):
    for name in ("h200-1", "h200-2", "hgx-h100-8", "l40s-4"):
        verdict = read(name)["acceptance_now"]
        assert (verdict["accepted"], [row for row in verdict["checks"] if not row["ok"]]) == (True, []), name
    narrow = Machine.load("hgx-h100-8").with_gpu(3, pcie={"generation": [1, 5], "width": [8, 8]})  # at rest generation 1, no fault
    assert [(row["name"], row["observed"], row["wanted"]) for row in read(narrow)["acceptance_now"]["checks"] if not row["ok"]] == [
        ("GPU 3: PCIe lanes", "8", "at least 16")]


def test_infiniband_ports_next_to_their_gpus(read):
    facts = read("hgx-h100-8", route="eno1")
    near = {port["device"]: (port["distance"], port["gpus"]) for port in facts["rdma"]}
    rails = ["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_4", "mlx5_5", "mlx5_6", "mlx5_7", "mlx5_8"]
    assert {name: near[name] for name in rails} == {name: ("PIX", [gpu]) for gpu, name in enumerate(rails)}
    assert near["mlx5_3"] == ("NODE", [0, 1, 2, 3])
    assert facts["nccl"] == {
        "NCCL_DEBUG": "WARN", "NCCL_SOCKET_IFNAME": "=eno1", "GLOO_SOCKET_IFNAME": "eno1",
        "NCCL_IB_HCA": "=" + ",".join(f"{name}:1" for name in rails)}  # not mlx5_3: Ethernet
    port = facts["rdma"][0]
    assert (port["link_layer"], port["state"], port["rate_gbps"], port["netdev"], port["gid_index_v2"]) == (
        "InfiniBand", "ACTIVE", 400.0, "ibp25s0", None)


def test_two_gpus_share_a_switch_with_two_ports_on_hgx_a100(read):
    facts = read("hgx-a100-80-8")
    assert [(port["distance"], port["gpus"]) for port in facts["rdma"]] == [
        ("PXB", [pair, pair + 1]) for pair in (0, 0, 2, 2, 4, 4, 6, 6)]
    assert facts["nccl"]["NCCL_IB_HCA"].count(":1") == 8


@pytest.mark.parametrize("name", ["hgx-a100-roce-a", "hgx-a100-roce-b"])
def test_roce(read, name):
    facts = read(name, route="ens9f0np0")
    assert [(port["link_layer"], port["state"], port["gid_index_v2"], port["distance"]) for port in facts["rdma"]] == [
        ("Ethernet", "ACTIVE", 3, "NODE"), ("Ethernet", "DOWN", None, "NODE")]
    assert (facts["rdma"][0]["rate_gbps"], facts["rdma"][0]["gpus"], facts["peermem_loaded"]) == (25.0, [4, 5, 6, 7], False)
    assert facts["nccl"] == {
        "NCCL_DEBUG": "WARN", "NCCL_SOCKET_IFNAME": "=ens9f0np0", "GLOO_SOCKET_IFNAME": "ens9f0np0",
        "NCCL_IB_HCA": "=mlx5_0:1", "NCCL_IB_GID_INDEX": "3", "NCCL_IB_TC": "106"}


def test_a_host_without_rdma_gets_threads_for_tcp(read):
    facts = read("l40s-4", route="ens1f0")
    assert (facts["rdma"], facts["iommu"]) == ([], "translated")
    assert facts["nccl"] == {
        "NCCL_DEBUG": "WARN", "NCCL_SOCKET_IFNAME": "=ens1f0", "GLOO_SOCKET_IFNAME": "ens1f0",
        "NCCL_SOCKET_NTHREADS": "2", "NCCL_NSOCKS_PERTHREAD": "2"}
    assert facts["topology"]["matrix"][1:3] == [["PIX", "X", "SYS", "SYS"], ["SYS", "SYS", "X", "NODE"]]


def test_who_uses_which_gpu(read):
    facts = read("busy-l40s")
    assert [[(p["pid"], p["memory_bytes"], p["unit"]) for p in gpu["processes"]] for gpu in facts["gpus"]] == [
        [(4242, 21458059264, "ollama.service")],
        [(5151, 43469766656, "idc-vllm@r1-blue-0.service")],
        [(6060, None, "docker-5f0c1d2e3b4a.scope")],
        [],
    ]
    first = facts["gpus"][0]
    assert (first["throttle_reasons"], first["power_limit_w"], first["power_default_w"]) == (["power_cap"], 300.0, 350.0)
    assert (first["pcie"]["width"], first["pcie"]["width_max"], first["mig_enabled"]) == (8, 16, None)


def test_mig_instances(read):
    whole, parted = read("mig-h100")["gpus"]
    assert (whole["mig_enabled"], whole["mig_instances"]) == (False, [])
    assert (parted["mig_enabled"], parted["mig_pending"], parted["healthy"]) == (True, True, True)
    assert [(row["name"].rpartition(" ")[2], row["memory_bytes"]) for row in parted["mig_instances"]] == [
        ("3g.40gb", 42412802048), ("1g.10gb", 10468982784), ("1g.10gb", 10468982784)]
    assert all(row["uuid"].startswith("MIG-") for row in parted["mig_instances"])
    assert [(p["pid"], p["unit"]) for p in parted["processes"]] == [(7070, "notebook.service")]


def test_sick_gpus_and_why(read):
    facts = read("sick-h100")
    assert of(facts, "health_reasons") == [
        [], ["row remapping failed"], [], ["2 uncorrected memory errors since the driver was loaded"], [],
        ["a repair is pending: reset the GPU"], [], []]
    assert of(facts, "healthy") == [not reasons for reasons in of(facts, "health_reasons")]
    assert facts["gpus"][1]["row_remap_failure"] is True
    assert facts["gpus"][5]["recovery_action"] == "gpu_reset"
    assert facts["gpus"][7]["throttle_reasons"] == ["hw_slowdown", "hw_thermal"]
    assert (facts["gpus"][3]["ecc_uncorrected"], facts["gpus"][3]["ecc_corrected_aggregate"]) == (2, 21)
    links = facts["topology"]["links"][4]
    assert [link["link"] for link in links if not link["active"]] == [7]
    assert (links[2]["errors"], links[3]["errors"]) == ({"crc": 118, "replay": 0, "recovery": 0},
                                                        {"crc": 0, "replay": 9, "recovery": 2})
    assert set(facts["topology"]["matrix"][4]) == {"X", "NV17"}
    assert facts["acceptance_now"]["accepted"] is False
    assert "unhealthy: GPU 1 (row remapping failed), GPU 3 (2 uncorrected" in facts["summary"]


def test_a_gpu_fallen_off_the_bus(read):
    facts = read("fallen-h100")
    fallen = facts["gpus"][5]
    assert (fallen["uuid"], fallen["name"], fallen["healthy"]) == (None, None, False)
    assert fallen["health_reasons"] == ["does not answer (fallen off the bus)"]
    assert facts["topology"]["matrix"][5] == [None] * 5 + ["X", None, None]
    assert [card["address"] for card in facts["pci_devices"] if card["note"] == "not listed by the driver"] == ["0000:ab:00.0"]
    assert sum(of(facts, "healthy")) == 7


def test_a_gpu_that_is_lost_while_it_is_read(read):
    lost = Machine.load("hgx-h100-8").with_gpu(3, errors={"nvmlDeviceGetMemoryInfo_v2": "GPU_IS_LOST"})
    facts = read(lost)
    assert facts["gpus"][3]["health_reasons"] == ["does not answer (fallen off the bus)"]
    assert facts["gpus"][3]["name"] and facts["gpus"][2]["healthy"]
    assert facts["topology"]["domains"] == [[0, 1, 2, 4, 5, 6, 7]]


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "NO_PERMISSION", "UNKNOWN"])
def test_a_card_of_which_every_call_but_one_fails(read, error):
    machine = Machine.load("l40s-4")
    calls = {line.split()[1] for line in machine.table().splitlines() if line.split()[0] == "2"} - {"nvmlDeviceGetUUID"}
    facts = read(machine.with_gpu(2, errors=dict.fromkeys(sorted(calls), error)))
    gpu = facts["gpus"][2]
    assert len(calls) > 40
    assert {name for name, value in gpu.items() if value not in (None, [])} == {"index", "uuid", "healthy", "clocks", "pcie"}
    assert {*gpu["clocks"].values(), *gpu["pcie"].values()} == {None}
    assert facts["topology"]["matrix"][2][3] is None
    assert [g["name"] for g in facts["gpus"]] == ["NVIDIA L40S", "NVIDIA L40S", None, "NVIDIA L40S"]


@pytest.mark.parametrize(
    ("state", "reason"), [(1, "not_started"), (2, "in_progress")])
def test_a_fabric_that_is_not_ready(read, state, reason):
    machine = Machine.load("hgx-h100-8").with_(gpus={"defaults": {"fabric": {"state": state}}})
    facts = read(machine, gather=["summary"])
    assert of(facts, "health_reasons") == [[f"the NVLink fabric is not ready ({reason}): look at nvidia-fabricmanager"]] * 8


def test_a_driver_without_devices(read):
    facts = read("no-devices")
    assert (facts["state"], facts["driver_version"], facts["gpus"], facts["topology"]) == ("no_devices", "580.159.04", [], None)


def test_no_driver(read):
    facts = read("no-driver")
    assert (facts["state"], facts["gpus"], facts["nouveau_loaded"]) == ("no_driver", [], True)
    assert [(card["model"], card["memory_bytes"]) for card in facts["pci_devices"]] == [
        (product_by_pci("0x2330").name, product_by_pci("0x2330").memory_bytes)] * 2
    assert facts["detail"]


def test_no_library(tmp_path):
    installed = Machine.load("hgx-h100-8").install(tmp_path / "machine")
    installed.environment.clear()
    facts = gathered(installed)
    assert (facts["state"], facts["gpus"]) == ("no_library", [])
    assert len(facts["pci_devices"]) == 8 and facts["rdma"][0]["gpus"] == []


def test_the_summary_alone(read):
    facts = read("hgx-h100-8", gather=["summary"])
    assert (facts["gathered"], facts["topology"], facts["rdma"], facts["nccl"]) == (["summary"], None, [], {})
    assert of(facts, "clocks") == of(facts, "power_limit_w") == [None] * 8
    assert of(facts, "healthy") == [True] * 8
    assert facts["acceptance_now"] == read("hgx-h100-8")["acceptance_now"]


def test_the_same_machine_gives_the_same_facts(tmp_path):
    installed = Machine.load("sick-h100").install(tmp_path / "machine")
    first, second = gathered(installed), gathered(installed)
    for facts in (first, second):
        facts["store"].pop("free_bytes")  # others write there
    assert first == second
