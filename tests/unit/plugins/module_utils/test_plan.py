"""The plan: placed by order, a fixed point, refused with a reason."""
from __future__ import annotations

import copy
import dataclasses

import pytest
from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import Gpu, Host, hosts_on_paper
from ansible_collections.idc.llm.plugins.module_utils._layout import card_of
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, engine_ready_s, make_plan, to_keep
from ansible_collections.idc.llm.plugins.module_utils._ports import PORTS

WISHES = Wishes(release="1.0", store_root="/store", allow_unaccepted=True)
CARD = card_of("H100", 80 << 30, "9.0")


def deployment(name="r1", **values):
    """A checked deployment."""
    return parse_deployment({"name": name, "model": f"org/{name}", "revision": "abc", **values}, 1)


def gpu_host(name, gpus=8, **values):
    """A node with that many GPUs, all on NVLink."""
    cards = tuple(Gpu(f"GPU-{name}-{i}", i, 0, CARD) for i in range(gpus))
    return Host(name, ("gpu_nodes",), f"10.0.0.{name[-1]}", cards, accepted=True, nvlink=True, **values)


def cpu_hosts():
    """Two nodes without GPUs and a gateway that monitors."""
    return [Host("n1", ("gpu_nodes",), "10.0.0.1"), Host("n2", ("gpu_nodes",), "10.0.0.2"),
            Host("g1", ("gateways", "monitors"), "10.0.0.9")]


def places(plan):
    """(engine, host, port) of each engine."""
    return [(e["name"], e["host"], e["port"]) for e in plan["engines"]]


def test_cpu_replicas_spread_and_everybody_is_told():
    plan = make_plan([deployment(device="cpu", replicas=2, max_model_len=512)], cpu_hosts(), WISHES)
    assert places(plan) == [("r1-blue-0", "n1", 8000), ("r1-blue-1", "n2", 8000)]
    engine = plan["engines"][0]
    assert engine["config"] == {"model": "/store/org/r1/abc", "served-model-name": "r1", "host": "10.0.0.1", "port": 8000,
                                "tensor-parallel-size": 1, "pipeline-parallel-size": 1, "max-model-len": 512}
    assert engine["environment"]["VLLM_HOST_IP"] == "10.0.0.1" and engine["gpus"] == []
    assert set(plan["stores"]) == {"n1", "n2"} and plan["stores"]["n1"][0]["path"] == "/store/org/r1/abc"
    assert [s["address"] for s in plan["gateway"]["upstreams"][0]["servers"]] == ["10.0.0.1", "10.0.0.2"]
    assert {(r["job"], r["host"], r["port"]) for r in plan["scrape"]} == {
        ("vllm", "n1", 8000), ("vllm", "n2", 8000), ("node", "n1", 9100), ("node", "n2", 9100), ("node", "g1", 9100),
        ("nginx", "g1", 9113), ("blackbox", "g1", 9115), ("prometheus", "g1", 9090), ("alertmanager", "g1", 9093)}
    assert plan["probes"] == [{"url": "https://10.0.0.9:443/health", "host": "g1", "labels": {}}]
    assert plan["ports"] == PORTS and plan["warnings"] == [] and plan["provisional"] is False


def test_a_gateway_that_speaks_to_balancers_alone_is_not_probed():
    assert make_plan([deployment(device="cpu")], [Host("n1", ("gpu_nodes",), "10.0.0.1"),
                     Host("g1", ("gateways",), "10.0.0.9", probed=False)], WISHES)["probes"] == []


def test_the_rack_is_on_every_row_and_gpus_are_watched_where_they_are():
    hosts = [gpu_host("n1", rack="r7", cards=8, gpu_watched=True), gpu_host("n2", cards=8), cpu_hosts()[2]]
    plan = make_plan([deployment(tensor_parallel=8, replicas=1)], hosts, WISHES)
    assert [(r["job"], r["labels"].get("rack")) for r in plan["scrape"] if r["host"] == "n1"] == [
        ("vllm", "r7"), ("node", "r7"), ("gpu", "r7")]
    assert [r["job"] for r in plan["scrape"] if r["host"] == "n2"] == ["node"]
    assert plan["hosts"]["n1"]["gpus"] == 8 and plan["hosts"]["n1"]["rack"] == "r7" and "rack" not in plan["hosts"]["n2"]


def test_a_deployment_promises_what_it_says_and_the_rest_by_default():
    hosts, said = cpu_hosts(), {"ttft_p99_ms": 200, "error_rate": "0.0005"}
    rows = make_plan([deployment(device="cpu", slo=said), deployment("other", device="cpu")], hosts, WISHES)["deployments"]
    assert rows[0]["slo"] == {"ttft_p99_ms": 200.0, "e2e_p99_ms": 30000.0, "error_rate": 0.0005}
    assert rows[1]["slo"] == {"ttft_p99_ms": 1000.0, "e2e_p99_ms": 30000.0, "error_rate": 0.001}
    assert deployment(slo={"error_rate": 0.00001}).slo == {"error_rate": 1e-05}, "which Python writes as 1e-05"


@pytest.mark.parametrize(("slo", "code"), [
    ({"ttft_ms": 1}, "IDC-INV-006"), ({"ttft_p99_ms": 0}, "IDC-INV-004"), ({"error_rate": 1}, "IDC-INV-004"),
    ({"e2e_p99_ms": True}, "IDC-INV-004"), ({"e2e_p99_ms": "soon"}, "IDC-INV-004"), ({"e2e_p99_ms": "nan"}, "IDC-INV-004"),
    ({"e2e_p99_ms": float("inf")}, "IDC-INV-004"), ({"e2e_p99_ms": [1]}, "IDC-INV-004"), ({"itl_p99_ms": 50}, "IDC-INV-006"),
    ("fast", "IDC-INV-007")])
def test_a_promise_that_is_none_is_refused(slo, code):
    with pytest.raises(IdcError, match=code):
        deployment(slo=slo)


def test_a_canary_answers_to_both_names_and_takes_one_place():
    canary = {"of": "r1", "percent": 5, "tenants": ["bank"]}
    both = [deployment(device="cpu", replicas=1, max_model_len=512),
            deployment("next", device="cpu", max_model_len=256, canary=canary)]
    plan = make_plan(both, cpu_hosts(), WISHES)
    assert [engine["name"] for engine in plan["engines"]] == ["r1-blue-0", "next-blue-0"]
    assert [engine["config"]["served-model-name"] for engine in plan["engines"]] == ["r1", ["r1", "next"]]
    assert plan["gateway"]["upstreams"][1]["canary"] == canary and "canary" not in plan["gateway"]["upstreams"][0]
    assert any("next: its max-model-len is 256, that of r1 is 512" in text for text in plan["warnings"])
    more = make_plan([both[0], dataclasses.replace(both[1], canary=dataclasses.replace(both[1].canary, percent=50))], cpu_hosts(),
                     WISHES, plan)
    assert more["engines"] == plan["engines"], "another share starts no engine anew"
    hosts = [gpu_host("n1", 4)]
    alone = [deployment("r1", replicas=1, tensor_parallel=1), deployment("next", tensor_parallel=1, canary=canary)]
    assert len(make_plan(alone, hosts, WISHES)["engines"]) == 2, "what is tried does not take all that is left"
    with pytest.raises(IdcError) as caught:
        make_plan(both[1:], cpu_hosts(), WISHES)
    assert caught.value.code == "IDC-INV-021"


def test_gpus_are_given_once_and_ports_too():
    hosts = [gpu_host("n1"), gpu_host("n2")]
    plan = make_plan([deployment("big", tensor_parallel=8), deployment("small", tensor_parallel=2, replicas=4)], hosts, WISHES)
    given = [gpu for engine in plan["engines"] for gpu in engine["gpus"]]
    assert len(given) == 16 == len(set(given))
    assert places(plan)[1:] == [(f"small-blue-{i}", "n2", 8000 + i) for i in range(4)]


def test_engine_args_and_environment_reach_the_engine():
    plan = make_plan([deployment(device="cpu", engine_args={"--enable_prefix_caching": False}, environment={"A": 1})],
                     cpu_hosts(), WISHES)
    assert plan["engines"][0]["config"]["enable-prefix-caching"] is False
    assert plan["engines"][0]["environment"]["A"] == "1"


@pytest.mark.parametrize("deployments", [
    [deployment(device="cpu", replicas=2)],
    [deployment("a", device="cpu", hosts=["n2"]), deployment("b", device="cpu", port=9000)],
])
def test_planning_again_changes_nothing(deployments):
    first = make_plan(deployments, cpu_hosts(), WISHES)
    assert make_plan(deployments, cpu_hosts(), WISHES, to_keep(first)) == first


def test_a_new_host_or_a_new_deployment_moves_nobody():
    hosts = [gpu_host("n2"), gpu_host("n3")]
    wanted = [deployment("a", tensor_parallel=4, replicas=3)]
    first = make_plan(wanted, hosts, WISHES)
    second = make_plan([*wanted, deployment("b", tensor_parallel=8)], [gpu_host("n1"), *hosts], WISHES, to_keep(first))
    assert places(second)[:3] == places(first)
    assert second["engines"][3]["host"] == "n1"
    third = make_plan([deployment("b", tensor_parallel=8), *wanted], [gpu_host("n1"), *hosts], WISHES, to_keep(second))
    assert sorted(places(third)) == sorted(places(second))
    first_in_line = [deployment("b", tensor_parallel=8), *wanted]
    assert places(make_plan(first_in_line, [gpu_host("n1"), *hosts], WISHES, to_keep(first)))[1:] == places(first)


def test_a_stale_host_keeps_its_engines_and_says_so():
    wanted = [deployment(device="cpu", replicas=2)]
    first = make_plan(wanted, cpu_hosts(), WISHES)
    hosts = [dataclasses.replace(h, fresh=h.name != "n2") for h in cpu_hosts()]
    plan = make_plan(wanted, hosts, WISHES, to_keep(first))
    assert plan["engines"] == first["engines"]
    assert plan["hosts"]["n2"]["stale"] is True and "n2" in plan["warnings"][0]
    assert to_keep(plan) == to_keep(first)


def test_a_host_without_any_facts_is_left_out_if_the_rest_fits():
    hosts = [Host("n0", ("gpu_nodes",)), *cpu_hosts()]
    plan = make_plan([deployment(device="cpu", replicas=2)], hosts, WISHES)
    assert [row["host"] for row in plan["left_out"]] == ["n0"] and "n0" in plan["warnings"][0]


def test_acceptance_gates_only_the_host_that_failed():
    failed, missing = dataclasses.replace(gpu_host("n1"), accepted=False), dataclasses.replace(gpu_host("n3"), accepted=None)
    strict = dataclasses.replace(WISHES, allow_unaccepted=False)
    plan = make_plan([deployment(tensor_parallel=8)], [failed, gpu_host("n2"), missing], strict)
    assert [e["host"] for e in plan["engines"]] == ["n2"]
    assert [(row["host"], row["reason"]) for row in plan["left_out"]] == [
        ("n1", "acceptance failed"), ("n3", "acceptance is missing")]
    told = dataclasses.replace(failed, refused="GPU 1: results: 3 wrong, wanted 0")
    plan = make_plan([deployment(tensor_parallel=8)], [told, gpu_host("n2")], strict)
    assert plan["left_out"] == [{"host": "n1", "reason": "acceptance failed: GPU 1: results: 3 wrong, wanted 0"}]
    assert "n1 is left out: acceptance failed: GPU 1: results: 3 wrong, wanted 0." in plan["warnings"]


@pytest.mark.parametrize(("wanted", "hosts", "code", "words"), [
    (deployment(tensor_parallel=8, replicas=3), [gpu_host("n1"), gpu_host("n2")], "IDC-PLAN-001", ["2 of 3", "n1: 8 GPUs, 0 free"]),
    (deployment(tensor_parallel=8, pipeline_parallel=2), [gpu_host("n1")], "IDC-PLAN-002", ["16 GPUs", "1 × (8 × 80 GB)"]),
    (deployment(device="cpu", replicas=3), cpu_hosts(), "IDC-PLAN-001", ["2 of 3"]),
    (deployment(tensor_parallel=1), [Host("n1", ("gpu_nodes",))], "IDC-PLAN-001", ["no usable host"]),
    (deployment(), [gpu_host("n1")], "IDC-PLAN-010", ["org/r1", "any metadata"]),
    (deployment(tensor_parallel=1, gpus=["9"]), [gpu_host("n1", 1)], "IDC-PLAN-008", ["GPU 9", "n1: 0 (GPU-n1-0)"]),
    (deployment(tensor_parallel=1, hosts=["n7"]), [gpu_host("n1")], "IDC-PLAN-009", ["n7"]),
])
def test_refusals_say_what_was_seen(wanted, hosts, code, words):
    with pytest.raises(IdcError) as caught:
        make_plan([wanted], hosts, WISHES)
    assert caught.value.code == code
    assert all(word in str(caught.value) for word in words), str(caught.value)


def measured(name, model, **values):
    """A deployment of a model of the catalogue, and its metadata by name."""
    return deployment(name, model=model, **values), {name: metadata_for(model)}


def ports(plan):
    """Port by engine."""
    return {engine["name"]: engine["port"] for engine in plan["engines"]}


def test_a_fixed_port_is_the_first_of_its_engines_on_a_host():
    hosts, wanted = [gpu_host("n1")], [deployment(tensor_parallel=1, replicas=3, port=9000)]
    first = make_plan(wanted, hosts, WISHES)
    assert sorted(ports(first).values()) == [9000, 9001, 9002]
    assert make_plan(wanted, hosts, WISHES, to_keep(first)) == first
    fewer = make_plan([deployment(tensor_parallel=1, replicas=1, port=9000, gpus=["1"])], hosts, WISHES, to_keep(first))
    assert ports(fewer) == {"r1-blue-1": 9000}


def test_a_fixed_port_goes_before_an_engine_that_was_given_it():
    hosts, loose = [gpu_host("n1")], deployment("a", tensor_parallel=1, replicas=2)
    before = make_plan([loose], hosts, WISHES)
    assert ports(before) == {"a-blue-0": 8000, "a-blue-1": 8001}
    wanted = [loose, deployment("b", tensor_parallel=1, replicas=1, port=8001)]
    plan = make_plan(wanted, hosts, WISHES, to_keep(before))
    assert ports(plan) == {"a-blue-0": 8000, "a-blue-1": 8002, "b-blue-0": 8001}
    assert make_plan(wanted, hosts, WISHES, to_keep(plan)) == plan


def test_ports_of_services_and_of_engines_that_still_run_are_not_given():
    wishes = dataclasses.replace(WISHES, ports={**PORTS, "engine": 9099})
    plan = make_plan([deployment("a", tensor_parallel=1, replicas=3)], [gpu_host("n1")], wishes)
    assert list(ports(plan).values()) == [9099, 9101, 9102]  # 9100 is the node exporter's
    plan = make_plan([deployment("b", tensor_parallel=1, replicas=1)], [gpu_host("n1")], wishes, to_keep(plan))
    assert ports(plan) == {"b-blue-0": 9103}
    wishes = dataclasses.replace(WISHES, ports={**PORTS, "store": 9103})  # a service that moves there goes first
    plan = make_plan([deployment("b", tensor_parallel=1, replicas=1)], [gpu_host("n1")], wishes, to_keep(plan))
    assert ports(plan) == {"b-blue-0": 8000}


def test_replicas_over_two_hosts_meet_at_their_head_and_stay_there():
    (wanted, metadata), hosts = measured("r1", "deepseek-ai/DeepSeek-R1", replicas=2), hosts_on_paper("4*hgx-h100-8", [])
    first = make_plan([wanted], hosts, WISHES, None, metadata)
    rows = [(e["name"], e["host"], e["head"], e["config"]["node-rank"], e["config"].get("headless")) for e in first["engines"]]
    assert rows == [("r1-blue-0", "hgx-h100-8-1", True, 0, None), ("r1-blue-0-rank1", "hgx-h100-8-2", False, 1, True),
                    ("r1-blue-1", "hgx-h100-8-3", True, 0, None), ("r1-blue-1-rank1", "hgx-h100-8-4", False, 1, True)]
    for engine in first["engines"][:2]:
        options = {key: engine["config"][key] for key in ("nnodes", "master-addr", "master-port", "tensor-parallel-size",
                                                          "pipeline-parallel-size")}
        assert options == {"nnodes": 2, "master-addr": "192.0.2.1", "master-port": 29501, "tensor-parallel-size": 8,
                           "pipeline-parallel-size": 2}
    assert [server["engine"] for server in first["gateway"]["upstreams"][0]["servers"]] == ["r1-blue-0", "r1-blue-1"]
    assert {row["host"] for row in first["scrape"] if row["job"] == "vllm"} == {"hgx-h100-8-1", "hgx-h100-8-3"}
    assert make_plan([wanted], hosts, WISHES, to_keep(first), metadata) == first
    one = dataclasses.replace(wanted, replicas=1)
    after = make_plan([one], hosts[1:], WISHES, to_keep(first), metadata)  # the first head is lost: the other replica is kept
    assert after["engines"] == first["engines"][2:]


def test_a_kept_head_keeps_its_masters_port():
    wanted, hosts = deployment(tensor_parallel=8, pipeline_parallel=2, replicas=1), [gpu_host("n1"), gpu_host("n2")]
    first = make_plan([wanted], hosts, WISHES)
    before = copy.deepcopy(to_keep(first))
    for engine in before["engines"]:
        engine["config"]["master-port"] = 29517
    plan = make_plan([wanted], hosts, WISHES, before)
    assert [engine["config"]["master-port"] for engine in plan["engines"]] == [29517, 29517]


def test_data_parallel_ranks_over_two_hosts_are_started_host_by_host():
    wanted = deployment(data_parallel=16, expert_parallel=True)
    plan = make_plan([wanted], [gpu_host("n1"), gpu_host("n2")], WISHES)
    keys = ("data-parallel-size", "data-parallel-size-local", "data-parallel-start-rank", "data-parallel-address",
            "data-parallel-rpc-port", "headless", "enable-expert-parallel", "nnodes")
    assert [[engine["config"].get(key) for key in keys] for engine in plan["engines"]] == [
        [16, 8, None, "10.0.0.1", 29501, None, True, None], [16, 8, 8, "10.0.0.1", 29501, True, True, None]]


def test_nccl_is_set_for_engines_that_span_hosts_only():
    hosts = [gpu_host(name, nccl={"NCCL_IB_HCA": "mlx5_0"}) for name in ("n1", "n2", "n3")]
    plan = make_plan([deployment("a", tensor_parallel=8, pipeline_parallel=2, environment={"NCCL_DEBUG": "INFO"}, replicas=1),
                      deployment("b", tensor_parallel=8)], hosts, WISHES)
    seen = [(e["deployment"], e["environment"].get("NCCL_IB_HCA"), e["environment"].get("NCCL_DEBUG")) for e in plan["engines"]]
    assert seen == [("a", "mlx5_0", "INFO"), ("a", "mlx5_0", "INFO"), ("b", None, None)]


def test_each_rank_speaks_over_what_its_own_host_has_and_a_host_that_does_not_say_is_told_of():
    keys = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_IB_GID_INDEX", "NCCL_IB_TC")
    told, other = ({key: f"{key}-{host}" for key in keys} for host in ("n1", "n2"))
    wanted = deployment(tensor_parallel=8, pipeline_parallel=2, replicas=1)
    plan = make_plan([wanted], [gpu_host("n1", nccl=told), gpu_host("n2", nccl=other)], WISHES)
    first, second = (engine["environment"] for engine in plan["engines"])
    assert {**told, "VLLM_HOST_IP": "10.0.0.1"}.items() <= first.items()
    assert {**other, "VLLM_HOST_IP": "10.0.0.2"}.items() <= second.items()
    assert not any("no network interface" in text for text in plan["warnings"])
    mute = [gpu_host("n1", nccl=told), gpu_host("n2", nccl={"NCCL_DEBUG": "WARN"})]
    warnings = make_plan([wanted], mute, WISHES)["warnings"]
    assert [text.partition(":")[0] for text in warnings if "no network interface" in text] == ["n2"]
    wanted = deployment(tensor_parallel=8, pipeline_parallel=2, replicas=1, environment={"GLOO_SOCKET_IFNAME": "eth1"})
    assert not any("no network interface" in text for text in make_plan([wanted], mute, WISHES)["warnings"])


def test_a_rank_knows_where_its_head_answers():
    plan = make_plan([deployment(tensor_parallel=8, pipeline_parallel=2, replicas=1, port=8100)], [gpu_host("n1"), gpu_host("n2")],
                     WISHES)
    assert [engine["leader"] for engine in plan["engines"]] == [
        None, {"engine": "r1-blue-0", "address": "10.0.0.1", "port": 8100}]


@pytest.mark.parametrize(("checkpoint", "seconds"), [(0, 600), (1e6, 660), (15e9, 660), (688.6e9, 1980), (1.5e12, 3600)])
def test_the_time_to_get_ready_follows_the_checkpoint(checkpoint, seconds):
    assert engine_ready_s(checkpoint) == seconds


def test_the_engine_and_those_who_wait_for_it_read_one_number():
    wanted, metadata = measured("q", "Qwen/Qwen3-8B", replicas=1)
    for one, known, seconds in ((wanted, metadata, 660), (deployment(tensor_parallel=1, replicas=1), None, 600),
                                (deployment(device="cpu"), None, 600),
                                (deployment(device="cpu", environment={"VLLM_ENGINE_READY_TIMEOUT_S": 3600}), None, 3600)):
        engine = make_plan([one], [gpu_host("n1", 1)], WISHES, None, known)["engines"][0]
        assert engine["environment"]["VLLM_ENGINE_READY_TIMEOUT_S"] == str(seconds)
        assert engine["ready_timeout_s"] == seconds + 60, "a start has imports before, and first tokens after"


@pytest.mark.parametrize("wrong", ["soon", "0", -5, 1.5, ""])
def test_a_time_to_get_ready_that_is_none_is_refused(wrong):
    with pytest.raises(IdcError) as caught:
        make_plan([deployment(device="cpu", environment={"VLLM_ENGINE_READY_TIMEOUT_S": wrong})], cpu_hosts(), WISHES)
    assert caught.value.code == "IDC-INV-004" and str(wrong) in str(caught.value)


def test_a_measured_engine_says_what_it_holds_and_gateways_weigh_it():
    wanted, metadata = measured("q", "Qwen/Qwen3-8B", replicas=2)
    large = dataclasses.replace(gpu_host("n2", 1), gpus=(Gpu("GPU-n2-0", 0, 0, card_of("H200", 140 << 30, "9.0")),))
    plan = make_plan([wanted], [gpu_host("n1", 1), large], WISHES, None, metadata)
    memory = {engine["host"]: engine["memory"] for engine in plan["engines"]}
    assert memory["n2"]["kv_tokens"] > memory["n1"]["kv_tokens"] > memory["n1"]["context"] == 40960
    weights = {server["address"]: server["weight"] for server in plan["gateway"]["upstreams"][0]["servers"]}
    assert weights == {"10.0.0.1": 1, "10.0.0.2": round(memory["n2"]["kv_tokens"] / memory["n1"]["kv_tokens"])}
    assert plan["deployments"][0]["bottleneck"] and plan["deployments"][0]["weights_bytes"] == metadata["q"]["weights"]["bytes"]


@pytest.mark.parametrize(("gpus", "mode", "serving", "spare"), [
    (4, "side_by_side", 1.0, 2), (3, "batches", 1.0, 1), (2, "rolling", 0.5, 0)])
def test_a_change_beside_in_batches_or_rolling(gpus, mode, serving, spare):
    plan = make_plan([deployment(tensor_parallel=1, replicas=2)], [gpu_host("n1", gpus)], WISHES)
    change = plan["deployments"][0]["change"]
    assert (change["mode"], change["serving"], change["spare"]) == (mode, serving, spare)


def test_no_replicas_serve_nothing_and_need_no_store():
    plan = make_plan([deployment(tensor_parallel=1, replicas=0)], [gpu_host("n1")], WISHES)
    assert (plan["engines"], plan["stores"], plan["gateway"]["upstreams"]) == ([], {}, [{"deployment": "r1", "servers": []}])


def test_two_deployments_of_one_name_are_refused():
    with pytest.raises(IdcError) as caught:
        make_plan([deployment(tensor_parallel=1), deployment(tensor_parallel=1)], [gpu_host("n1")], WISHES)
    assert caught.value.code == "IDC-INV-011"


def test_a_named_gpu_that_is_sick_exists_yet():
    host = gpu_host("n1", 2, unusable=("2", "GPU-n1-2"))
    plan = make_plan([deployment(tensor_parallel=1, gpus=["1", "2"], replicas=1)], [host], WISHES)
    assert [engine["gpus"] for engine in plan["engines"]] == [["GPU-n1-1"]]
    with pytest.raises(IdcError) as caught:
        make_plan([deployment(tensor_parallel=1, gpus=["2"], replicas=1)], [host], WISHES)
    assert caught.value.code == "IDC-PLAN-001"


def test_an_engine_that_moves_is_told():
    wanted = [deployment(tensor_parallel=8, replicas=1)]
    first = make_plan(wanted, [gpu_host("n1"), gpu_host("n2")], WISHES)
    plan = make_plan(wanted, [gpu_host("n2")], WISHES, to_keep(first))
    assert "r1-blue-0 moves from n1 to n2." in plan["warnings"]
    assert make_plan(wanted, [gpu_host("n2")], WISHES, to_keep(plan))["engines"] == plan["engines"]


def test_a_store_that_is_too_small_is_told_once_its_files_are_not_there():
    wanted, metadata = measured("q", "Qwen/Qwen3-8B", replicas=1)
    hosts = [gpu_host("n1", store_free=10 ** 9)]
    first = make_plan([wanted], hosts, WISHES, None, metadata)
    told = [text for text in first["warnings"] if "store" in text]
    assert told == ["n1: 1 GB are free for the store, q needs 16 GB unless its files are there already."]
    assert not any("store" in text for text in make_plan([wanted], hosts, WISHES, to_keep(first), metadata)["warnings"])


def test_engines_of_a_plan_of_the_first_schema_stay():
    wanted = [deployment("a", tensor_parallel=2, replicas=2), deployment("b", device="cpu", replicas=1, hosts=["n3"])]
    hosts = [gpu_host("n1", 4), gpu_host("n2", 4), Host("n3", ("gpu_nodes",), "10.0.0.3", accepted=True)]
    first = make_plan(wanted, hosts, WISHES)
    old = {"schema": 1, "engines": [{key: value for key, value in engine.items() if key not in ("layout", "memory")}
                                    for engine in reversed(first["engines"])]}
    assert make_plan(wanted, hosts, WISHES, old)["engines"] == first["engines"]


@pytest.mark.parametrize("engines", [
    [{}], [{"name": "r1-blue-0"}], None,
    [{"name": "r1-blue-0", "deployment": "r1", "replica": 0, "rank": 0, "host": "gone", "port": 8000, "gpus": ["GPU-x"]}],
    [{"name": f"r1-blue-0-rank{rank}", "deployment": "r1", "replica": 0, "rank": rank, "host": "n1", "port": 8000,
      "gpus": ["GPU-n1-0"]} for rank in (0, 1)],
])
def test_rubbish_in_the_last_plan_does_not_count(engines):
    wanted, hosts = [deployment(tensor_parallel=1, replicas=1)], [gpu_host("n1")]
    plan = make_plan(wanted, hosts, WISHES, {"engines": engines})
    assert [(e["host"], e["gpus"]) for e in plan["engines"]] == [("n1", ["GPU-n1-0"])]
