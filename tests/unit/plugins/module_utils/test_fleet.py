"""Hosts as the planner sees them: what of gpu_facts counts, what is left out and why."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import (
    Fleet,
    Rank,
    for_planning,
    gpu_watched,
    host_from_facts,
    hosts_on_paper,
)
from ansible_collections.idc.llm.plugins.module_utils._memory import Layout

GB = 10 ** 9
OURS = {"pid": 11, "memory_bytes": 70 * GB, "unit": "idc-vllm@r1-blue-0.service"}


def card(index, **values):
    """One GPU of gpu_facts, idle and healthy."""
    return {"index": index, "uuid": f"GPU-{index}", "name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0",
            "memory_total_bytes": 85520809984, "memory_reserved_bytes": 500 << 20, "memory_used_bytes": 0, "numa_node": index // 4,
            "mig_enabled": False, "healthy": True, "health_reasons": [], "processes": [], **values}


def fact(*gpus, **values):
    """The fact idc_llm_gpu."""
    return {"state": "ok", "gpus": list(gpus), "topology": {"link": "pcie", "domains": []}, "rdma": [], "nccl": {},
            "host": {"memory_total_bytes": 512 << 30}, "store": {"free_bytes": 7}, "acceptance": {"accepted": True}, **values}


def seen(gpu, foresee=False, **values):
    """The host of that fact."""
    return host_from_facts("n1", {"groups": ["gpu_nodes"], "address": "10.0.0.1", "gpu": gpu, "fresh": True, **values}, foresee)


@pytest.mark.parametrize(("wish", "cards", "watched"), [
    ("auto", 8, True), ("auto", 0, False), ("none", 8, False), ("dcgm", 0, True), ("nvitop", 0, True)])
def test_a_gpu_exporter_runs_where_there_are_gpus_or_where_one_is_named(wish, cards, watched):
    assert gpu_watched(wish, cards) is watched
    entry = {"groups": ["gpu_nodes"], "address": "10.0.0.1", "gpu": fact(*map(card, range(cards))), "gpu_exporter": wish,
             "rack": "r7"}
    host = host_from_facts("n1", entry)
    assert (host.cards, host.gpu_watched, host.rack) == (cards, watched, "r7")


def test_a_host_of_its_facts():
    host = seen(fact(card(0), card(1), nccl={"NCCL_IB_HCA": "mlx5_0"}))
    assert [(gpu.uuid, gpu.index, gpu.card.name, gpu.card.capability, gpu.card.memory) for gpu in host.gpus] == [
        (f"GPU-{index}", index, "NVIDIA H100 80GB HBM3", (9, 0), 85520809984 - (500 << 20)) for index in (0, 1)]
    assert (host.name, host.groups, host.address, host.fresh, host.accepted, host.provisional, host.nvlink) == (
        "n1", ("gpu_nodes",), "10.0.0.1", True, True, False, False)
    assert (host.memory, host.store_free, host.nccl, host.notes, host.rdma) == (512 << 30, 7, {"NCCL_IB_HCA": "mlx5_0"}, (), 0.0)


@pytest.mark.parametrize(("values", "reason"), [
    ({"healthy": False, "health_reasons": ["row remapping failed", "does not answer"]}, "row remapping failed; does not answer"),
    ({"healthy": False}, "it is not healthy"),
    ({"mig_enabled": True}, "it is cut into MIG slices"),
    ({"memory_total_bytes": None}, "its uuid, memory or compute capability is not known"),
    ({"uuid": None}, "its uuid, memory or compute capability is not known"),
    ({"compute_capability": None}, "its uuid, memory or compute capability is not known"),
    ({"processes": [{"pid": 7, "memory_bytes": 1, "unit": None}]}, "in use by process 7"),
    ({"processes": [{"pid": 7, "memory_bytes": 1, "unit": "jupyter.service"}, OURS]}, "in use by jupyter.service"),
    ({"processes": [{"pid": 7, "unit": "b.service"}, {"pid": 8, "unit": "a.service"}]}, "in use by a.service, b.service"),
    ({"processes": [{"pid": 7, "unit": "idc-vllm@x.service.d"}]}, "in use by idc-vllm@x.service.d"),
    ({"memory_used_bytes": 5 * GB}, "5.0 GB are in use by a process that is not seen"),
])
def test_a_gpu_is_left_out_with_the_reason(values, reason):
    host = seen(fact(card(0), card(1, **values)))
    assert [gpu.index for gpu in host.gpus] == [0]
    assert host.notes == (f"n1: GPU 1 is left out: {reason}.",) and "1" in host.unusable


@pytest.mark.parametrize("values", [
    {"processes": [OURS], "memory_used_bytes": 71 * GB},
    {"processes": None, "memory_used_bytes": 71 * GB},  # the driver doesn't tell: our own engine must not lose its place
    {"memory_used_bytes": GB // 2}, {"memory_used_bytes": None}, {"healthy": None}, {"mig_enabled": None}, {"numa_node": None},
])
def test_a_gpu_that_may_be_planned(values):
    host = seen(fact(card(0, **values)))
    assert [gpu.index for gpu in host.gpus] == [0] and host.notes == ()


def test_only_the_kind_of_card_that_there_are_most_of_is_planned():
    host = seen(fact(card(0, name="NVIDIA T400", memory_total_bytes=4 * GB), card(1), card(2)))
    assert [gpu.index for gpu in host.gpus] == [1, 2] and host.unusable == ("0", "GPU-0")
    assert host.notes == ("n1: has cards of several kinds; only its 2 × NVIDIA H100 80GB HBM3 are planned.",)


def test_cards_that_differ_in_what_is_reserved_are_of_one_kind():
    host = seen(fact(card(0), card(1, memory_reserved_bytes=600 << 20), card(2)))
    assert {gpu.card.memory for gpu in host.gpus} == {85520809984 - (600 << 20)} and len(host.gpus) == 3 and not host.notes


@pytest.mark.parametrize(("topology", "nvlink", "groups", "domain"), [
    ({"link": "pcie", "domains": []}, False, [0, 0, 0, 0, 1, 1, 1, 1], 1),
    ({"link": None}, False, [0, 0, 0, 0, 1, 1, 1, 1], 1),
    (None, False, [0, 0, 0, 0, 1, 1, 1, 1], 1),
    ({"link": "nvlink", "domains": [[0, 1, 2, 3, 4, 5, 6, 7]]}, True, [0] * 8, 8),
    ({"link": "nvlink", "domains": [[0, 1], [2, 3], [4, 5], [6, 7]]}, True, [0, 0, 1, 1, 2, 2, 3, 3], 2),
    ({"link": "nvlink", "domains": [[0, 2, 4, 6], [1, 3, 5, 7]]}, True, [0, 1, 0, 1, 0, 1, 0, 1], 4),
    ({"link": "nvlink", "domains": [[0, 1, 2], [3]]}, True, [0, 0, 0, 4, 5, 6, 7, 8], 3),  # the others' links are down
    ({"link": "nvlink", "domains": []}, False, [0, 0, 0, 0, 1, 1, 1, 1], 1),
])
def test_groups_by_nvlink_or_numa(topology, nvlink, groups, domain):
    host = seen(fact(*(card(index) for index in range(8)), topology=topology))
    assert (host.nvlink, [gpu.group for gpu in host.gpus], host.kind.domain) == (nvlink, groups, domain)


def test_rdma_counts_the_ports_that_nccl_uses():
    ports = [{"device": f"mlx5_{number}", "port": 1, "rate_gbps": rate} for number, rate in enumerate((400.0, 100.0, 400.0, None))]
    nccl = {"NCCL_IB_HCA": "=mlx5_0:1,mlx5_2:1,mlx5_3:1"}
    assert seen(fact(card(0), rdma=ports, nccl=nccl)).rdma == 800.0
    assert seen(fact(card(0), rdma=ports)).rdma == 0.0


def test_cards_of_other_vendors_are_said():
    nvidia = {"vendor": "nvidia", "model": "H100", "device_id": "0x2330", "address": "0000:18:00.0", "served": True, "note": None}
    cards = [{"vendor": "amd", "model": None, "device_id": "0x74a1", "address": "0000:0c:00.0", "served": False,
              "note": "not served yet"}, nvidia]
    assert seen(fact(card(0), pci_devices=cards)).notes == ("n1: amd 0x74a1 at 0000:0c:00.0 is left out: not served yet.",)


def test_what_is_kept_for_planning_plans_the_same_and_holds_no_readings():
    links = {"link": "nvlink", "domains": [[0]], "links": [[]]}
    whole = fact({**card(0), "temperature_c": 40, "clocks": {"sm_mhz": 1980}}, topology=links)
    kept = for_planning(whole)
    assert seen(kept) == seen(whole)
    assert "temperature_c" not in kept["gpus"][0] and "links" not in kept["topology"]


@pytest.mark.parametrize(("verdicts", "foresee", "accepted"), [
    ({"acceptance": {"accepted": True}}, False, True), ({"acceptance": {"accepted": False}}, False, False),
    ({"acceptance": None}, False, None), ({}, True, None),
    ({"acceptance": None, "acceptance_now": {"accepted": True}}, False, None),
    ({"acceptance": None, "acceptance_now": {"accepted": True}}, True, True),
    ({"acceptance": {"accepted": False}, "acceptance_now": {"accepted": True}}, True, False),
])
def test_acceptance_is_what_was_written_or_in_check_mode_foreseen(verdicts, foresee, accepted):
    assert seen({**fact(card(0), acceptance=None), **verdicts}, foresee).accepted is accepted


@pytest.mark.parametrize(("bad", "said"), [
    ([], ""), (["a"], "a: 1, wanted 2"), (["a", "b"], "a: 1, wanted 2; b: 1, wanted 2"),
    (["a", "b", "c", "d"], "a: 1, wanted 2; b: 1, wanted 2; and 2 more")])
def test_why_acceptance_refused_a_host_is_known_and_kept(bad, said):
    rows = [{"name": name, "ok": name in ("x",), "observed": "1", "wanted": "2"} for name in ["x", *bad]]
    whole = fact(card(0), acceptance={"accepted": not bad, "checks": rows, "measured": {"gpus": []}, "best": {}})
    kept = for_planning(whole)
    assert seen(whole).refused == seen(kept).refused == said
    assert set(kept["acceptance"]) == {"accepted", "failed"}, "no readings"


def test_cards_are_known_by_pci_before_there_is_a_driver():
    rows = [{"vendor": "nvidia", "device_id": "0x2330", "address": "0000:06:00.0", "numa_node": 1},
            {"vendor": "nvidia", "device_id": "0xffff", "address": "0000:07:00.0", "numa_node": 1},
            {"vendor": "amd", "device_id": "0x74a1", "address": "0000:08:00.0", "numa_node": 1}]
    host = seen({"state": "no_driver", "gpus": [], "pci_devices": rows})
    assert [(gpu.uuid, gpu.index, gpu.group, gpu.card.name) for gpu in host.gpus] == [("pci:0000:06:00.0", 0, 1, "H100 SXM5 80GB")]
    assert host.provisional and host.notes == ("n1: the card at 0000:07:00.0 is left out: 0xffff is not known yet.",)
    assert not seen({"state": "no_driver", "gpus": [], "pci_devices": []}).provisional
    assert seen({"state": "ok", "gpus": [], "pci_devices": rows}).gpus == ()  # the driver is there and sees none


@pytest.mark.parametrize("entry", [{}, {"gpu": None}, {"gpu": {}}, {"groups": ["gateways"], "address": "10.0.0.9"}])
def test_a_host_of_which_little_is_known(entry):
    host = host_from_facts("g1", entry)
    assert (host.gpus, host.kind, host.notes, host.accepted) == ((), None, (), None)


@pytest.mark.parametrize(("profile", "names"), [
    ("l40s-4", ["a", "b"]),
    ("2*l40s-4", ["l40s-4-1", "l40s-4-2"]),
    (" 1 x l40s-4 , hgx-h100-8", ["l40s-4-1", "hgx-h100-8-1"]),
    ("l40s-4,hgx-h100-8,2×l40s-4", ["l40s-4-1", "hgx-h100-8-1", "l40s-4-2", "l40s-4-3"]),
])
def test_hosts_on_paper(profile, names):
    hosts = hosts_on_paper(profile, ["a", "b"])
    assert [host.name for host in hosts] == names and len({host.address for host in hosts}) == len(hosts)
    assert all(host.provisional and host.accepted and host.groups == ("gpu_nodes",) for host in hosts)
    assert {(len(host.gpus), host.kind.domain, host.nvlink) for host in hosts} <= {(4, 1, False), (8, 8, True)}
    uuids = [gpu.uuid for host in hosts for gpu in host.gpus]
    assert len(uuids) == len(set(uuids))


@pytest.mark.parametrize("profile", ["h9000", "", "3*", "x*l40s-4", "l40s-4;l40s-4"])
def test_what_is_no_profile_is_refused_with_those_there_are(profile):
    with pytest.raises(IdcError) as caught:
        hosts_on_paper(profile, ["a"])
    assert caught.value.code == "IDC-PLAN-014" and "hgx-h200-8" in str(caught.value)


def test_what_is_taken_can_be_given_back():
    fleet = Fleet(hosts_on_paper("2*hgx-h100-8", []))
    host, = fleet.room and sorted(fleet.hosts)[:1]
    kind, before = fleet.kind_of[host], list(fleet.free[host])
    rank = Rank(host, fleet.pick(host, Layout(tensor=8)))
    fleet.take(rank, False, 5.0)
    assert (fleet.free[host], fleet.engines[host], host in fleet.room[kind]) == ([], 1, False)
    assert fleet.pick(host, Layout()) is None and not fleet.accepts(host, True, 0.0)
    fleet.give_back(rank, False, 5.0)
    assert (fleet.free[host], fleet.engines[host], host in fleet.room[kind]) == (before, 0, True)
    fleet.take(Rank(host, ()), True)
    assert not fleet.accepts(host, False, 0.0)


def test_gpus_to_avoid_are_taken_last():
    fleet = Fleet(hosts_on_paper("h200-nvl-8", ["n1"]))
    assert fleet.pick("n1", Layout(tensor=2), avoid={"paper-n1-0", "paper-n1-4"}) == ("paper-n1-1", "paper-n1-2")
    assert fleet.pick("n1", Layout(tensor=4), avoid={"paper-n1-0"}) == tuple(f"paper-n1-{index}" for index in (4, 5, 6, 7))
