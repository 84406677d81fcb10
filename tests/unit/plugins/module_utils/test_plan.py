"""The plan: placed by order, a fixed point, refused with a reason."""
from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._plan import (
    PORTS,
    Host,
    Wishes,
    aligned,
    host_from_facts,
    make_plan,
    status_rows,
    to_keep,
)

WISHES = Wishes(release="1.0", store_root="/store", allow_unaccepted=True)


def deployment(name="r1", **values):
    """A checked deployment."""
    return parse_deployment({"name": name, "model": f"org/{name}", "revision": "abc", **values}, 1)


def gpu_host(name, gpus=8, **values):
    """A node with that many GPUs."""
    return Host(name, ("gpu_nodes",), f"10.0.0.{name[-1]}", tuple(f"GPU-{name}-{i}" for i in range(gpus)), accepted=True, **values)


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
        ("nginx", "g1", 9113)}
    assert plan["ports"] == PORTS and plan["warnings"] == [] and plan["provisional"] is False


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


@pytest.mark.parametrize(("wanted", "hosts", "code", "words"), [
    (deployment(tensor_parallel=8, replicas=3), [gpu_host("n1"), gpu_host("n2")], "IDC-PLAN-001", ["2 of 3", "n1: 8 GPUs, 0 free"]),
    (deployment(tensor_parallel=8, pipeline_parallel=2), [gpu_host("n1")], "IDC-PLAN-002", ["16 GPUs", "n1: 8 GPUs"]),
    (deployment(device="cpu", replicas=3), cpu_hosts(), "IDC-PLAN-001", ["2 of 3"]),
    (deployment(), [Host("n1", ("gpu_nodes",))], "IDC-PLAN-001", ["no usable host"]),
])
def test_refusals_say_what_was_seen(wanted, hosts, code, words):
    with pytest.raises(IdcError) as caught:
        make_plan([wanted], hosts, WISHES)
    assert caught.value.code == code
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_host_from_facts():
    facts = {"state": "ok", "gpus": [{"uuid": "GPU-a", "healthy": True}, {"uuid": "GPU-b", "healthy": False}],
             "acceptance": {"accepted": True}}
    host = host_from_facts("n1", {"groups": ["gpu_nodes"], "address": "10.0.0.1", "gpu": facts, "fresh": True})
    assert (host.gpus, host.accepted, host.provisional) == (("GPU-a",), True, False)
    facts = {**facts, "acceptance": None, "acceptance_now": {"accepted": True}}
    entry = {"groups": ["gpu_nodes"], "address": "10.0.0.1", "gpu": facts, "fresh": True}
    assert [host_from_facts("n1", entry, foresee).accepted for foresee in (False, True)] == [None, True]
    bare = {"state": "no_driver", "gpus": [], "pci_devices": [{"vendor": "nvidia", "address": "0000:06:00.0"}]}
    host = host_from_facts("n1", {"groups": ["gpu_nodes"], "address": "10.0.0.1", "gpu": bare, "fresh": True})
    assert (host.gpus, host.provisional) == (("pci:0000:06:00.0",), True)
    assert make_plan([deployment()], [host], WISHES)["provisional"] is True


def test_status_says_what_a_person_wants_to_know():
    plan = make_plan([deployment(device="cpu", replicas=2)], cpu_hosts(), WISHES)
    upstream = "    server 10.0.0.1:8000 weight=1;\n    server 10.0.0.2:8000 weight=1 down;\n"
    rows = status_rows(plan, {"r1-blue-0": {"ttft_s": 0.05}, "r1-blue-1": {"failed": True, "msg": "refused"}}, {"g1": upstream})
    assert [(row["last token"], row["drained"]) for row in rows] == [("now, after 0.050 s", "no"), ("none: refused", "yes")]
    rows = status_rows(plan, {}, {"g1": None})
    assert [(row["last token"], row["drained"]) for row in rows] == [("unknown: host not reached", "unknown")] * 2
    lines = aligned(rows)
    assert lines[0].split()[:3] == ["engine", "host", "gpus"] and len(lines) == 3
    assert lines[1].startswith("r1-blue-0  n1") and aligned([]) == []
