"""Where replicas stand: as little as possible moves, nothing is given twice, nothing that is free is overlooked."""
from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import Gpu, Host, Rank
from ansible_collections.idc.llm.plugins.module_utils._layout import card_of
from ansible_collections.idc.llm.plugins.module_utils._model import model_from
from ansible_collections.idc.llm.plugins.module_utils._placement import Placer, _Chooser
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan, to_keep

WISHES = Wishes(release="1.0", store_root="/store")
H100, L40S = card_of("H100", 80 << 30, "9.0"), card_of("L40S", 45 << 30, "8.9")
QWEN, LLAMA, R1 = "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "deepseek-ai/DeepSeek-R1"


def wish(name, model=QWEN, **values):
    """A checked deployment."""
    return parse_deployment({"name": name, "model": model, "revision": "abc", **values}, 1)


def host(name, gpus=8, domain=8, card=H100, **values):
    """A node; domain: GPUs that share NVLink, 1 for PCIe with two NUMA nodes."""
    size = domain if domain > 1 else max(gpus // 2, 1)
    cards = tuple(Gpu(f"{name}-{i}", i, i // size, card) for i in range(gpus))
    return Host(name, ("gpu_nodes",), f"10.0.{name[1:]}.1", cards, **{"accepted": True, "nvlink": domain > 1, **values})


def without(one, *indices):
    """The same host, some of its GPUs left out."""
    return replace(one, gpus=tuple(gpu for gpu in one.gpus if gpu.index not in indices))


def plan_of(wishes, hosts, before=None):
    """The plan. Metadata is the catalogue's; none (so memory goes unchecked) where a deployment says its sizes."""
    metadata = {one.name: metadata_for(one.model) for one in wishes if one.sizes is None}
    return make_plan(wishes, hosts, WISHES, before and to_keep(before), metadata)


def seats(plan):
    """Engine → (host, port, GPUs)."""
    return {e["name"]: (e["host"], e["port"], tuple(e["gpus"])) for e in plan["engines"]}


def heads(plan, name):
    """Hosts of a deployment's heads, sorted."""
    return sorted(e["host"] for e in plan["engines"] if e["deployment"] == name and e["head"])


TWO = wish("two", tensor_parallel=2, replicas=4)
FILL = wish("fill")
SPAN = wish("span", R1, replicas=1)
NODES = [host(f"n{number}") for number in range(1, 5)]


@pytest.mark.parametrize(("wishes", "hosts", "then_wishes", "then_hosts", "moved"), [
    pytest.param([TWO], NODES, [TWO], [host("n0"), *NODES], set(), id="a host is added"),
    pytest.param([TWO, FILL], NODES[:2], [TWO, FILL], NODES[:3], set(), id="a host is added to a full fleet"),
    pytest.param([TWO], NODES, [TWO], NODES[1:], {"two-blue-0"}, id="a host is gone"),
    pytest.param([FILL], NODES[:2], [FILL], NODES[1:2], set(), id="the host of the first of those that fill is gone"),
    pytest.param([TWO], NODES, [TWO], [replace(NODES[0], accepted=False), *NODES[1:]], {"two-blue-0"}, id="acceptance fails"),
    pytest.param([TWO], NODES, [TWO], [replace(one, fresh=one.name == "n3") for one in NODES], set(), id="only one host is seen"),
    pytest.param([TWO], NODES, [TWO, wish("b")], NODES, set(), id="a deployment is added"),
    pytest.param([TWO], NODES, [wish("b"), TWO], NODES, set(), id="a deployment is added before it"),
    pytest.param([TWO, wish("b")], NODES, [TWO], NODES, set(), id="a deployment is removed"),
    pytest.param([TWO], NODES, [replace(TWO, replicas=6)], NODES, set(), id="replicas are added"),
    pytest.param([TWO], NODES, [replace(TWO, replicas=3)], NODES, set(), id="a replica is removed"),
    pytest.param([TWO], NODES, [replace(TWO, replicas=3)], NODES[1:], set(), id="a replica is removed, and its host"),
    pytest.param([TWO], NODES, [replace(TWO, engine_args={"seed": 1})], NODES, set(), id="an option changes"),
    pytest.param([TWO], NODES, [TWO], [without(NODES[0], 7), *NODES[1:]], set(), id="a free GPU is sick"),
    pytest.param([SPAN, TWO], NODES, [SPAN, TWO], [replace(NODES[0], rdma=200.0), *NODES[1:]], None, id="a port of RDMA comes up"),
    pytest.param([SPAN], [replace(one, rdma=800.0) for one in NODES], [SPAN],
                 [replace(one, rdma=700.0 if one.name == "n1" else 800.0) for one in NODES], set(), id="a port of RDMA goes down"),
])
def test_as_few_as_possible_move(wishes, hosts, then_wishes, then_hosts, moved):
    first = plan_of(wishes, hosts)
    then = plan_of(then_wishes, then_hosts, first)
    before, after = seats(first), seats(then)
    if moved is not None:
        assert {name for name in before if name in after and before[name] != after[name]} == moved
    assert plan_of(then_wishes, then_hosts, then)["engines"] == then["engines"]


def test_a_sick_gpu_moves_its_engine_to_another_of_the_same_host():
    wishes, hosts = [TWO, wish("other", hosts=["n1"], replicas=1)], [*NODES, host("n5")]  # n5 is emptier, n1 has the files
    first = plan_of(wishes, hosts)
    then = plan_of(wishes, [without(NODES[0], 0), *hosts[1:]], first)
    assert seats(first)["two-blue-0"] == ("n1", 8000, ("n1-0", "n1-1"))
    assert seats(then)["two-blue-0"] == ("n1", 8000, ("n1-1", "n1-3"))
    assert {name for name, seat in seats(then).items() if seats(first)[name] != seat} == {"two-blue-0"}


@pytest.mark.parametrize(("values", "seat"), [({"hosts": ["n2"]}, ("n2", ("n2-0",))), ({"gpus": ["5"]}, ("n1", ("n1-5",)))])
def test_an_engine_goes_where_its_deployment_now_says(values, seat):
    first = plan_of([wish("a", replicas=1)], NODES)
    (name, unused_port, gpus), = seats(plan_of([wish("a", replicas=1, **values)], NODES, first)).values()
    assert (name, gpus) == seat


def test_a_replica_whose_hosts_became_unequal_moves():
    first = plan_of([SPAN], NODES)
    then = plan_of([SPAN], [NODES[0], host("n2", domain=4), *NODES[2:]], first)
    assert [[e["host"] for e in plan["engines"]] for plan in (first, then)] == [["n1", "n2"], ["n1", "n3"]]


def test_cards_known_by_pci_become_known_by_uuid_and_engines_stay():
    bare = [replace(one, provisional=True, nvlink=False,
                    gpus=tuple(replace(gpu, uuid=f"pci:0000:{gpu.index:02x}:00.0", group=0) for gpu in one.gpus)) for one in NODES]
    wishes = [TWO, wish("one", replicas=3), SPAN]
    first = plan_of(wishes, bare)
    then = plan_of(wishes, NODES, first)
    assert first["provisional"] and not then["provisional"] and not any("moves" in text for text in then["warnings"])
    assert {name: seat[:2] for name, seat in seats(first).items()} == {name: seat[:2] for name, seat in seats(then).items()}
    assert all(gpu in {one.uuid for node in NODES for one in node.gpus} for seat in seats(then).values() for gpu in seat[2])


def test_replicas_spread_over_hosts_and_over_each_others():
    wishes = [wish("a", replicas=2), wish("b", replicas=4), wish("c", replicas=2, tensor_parallel=4), wish("d", replicas=8)]
    plan = plan_of(wishes, NODES)
    assert [heads(plan, name) for name in "ab"] == [["n1", "n2"], ["n1", "n2", "n3", "n4"]]
    assert len(set(heads(plan, "c"))) == 2 and Counter(heads(plan, "d")) == {one.name: 2 for one in NODES}


@pytest.mark.parametrize(("other", "expected"), [({"hosts": ["n2"]}, ["n1", "n2"]), ({"hosts": ["n1"]}, ["n1", "n2"])])
def test_two_replicas_do_not_share_a_host_that_is_no_emptier(other, expected):
    assert heads(plan_of([wish("x", replicas=1, **other), wish("a", replicas=2)], NODES[:2]), "a") == expected


def test_one_goes_to_the_emptiest_host_whoever_fills_the_others():
    assert heads(plan_of([wish("x", replicas=1, hosts=["n1"]), wish("a", replicas=1)], NODES[:2]), "a") == ["n2"]
    placer, one = Placer(NODES, {"a": model_from("a", metadata_for(QWEN))}, ()), wish("a")
    placer.placed["a"] = {}
    chooser = _Chooser(placer, one)
    (ranks, unused_way) = chooser.next()
    placer.fleet.take(Rank("n2", ("n2-0",)), False)  # by another deployment, meanwhile
    assert [ranks[0].host, chooser.next()[0][0].host] == ["n1", "n3"]


def test_replicas_spread_over_hosts_of_several_kinds():
    hosts = [without(NODES[0], 3), replace(NODES[1], memory=64 << 30), NODES[2], NODES[3]]
    assert heads(plan_of([wish("a", replicas=4)], hosts), "a") == ["n1", "n2", "n3", "n4"]


def test_what_stands_stays_where_packing_the_others_is_enough():
    stay = wish("stay", replicas=1)
    first = plan_of([wish("stay", replicas=1, gpus=["7"])], NODES[3:])
    then = plan_of([stay, wish("small", replicas=4), wish("big", tensor_parallel=8, replicas=3)], NODES, first)
    assert (heads(then, "stay"), set(heads(then, "small")), heads(then, "big")) == (["n4"], {"n4"}, ["n1", "n2", "n3"])
    assert seats(then)["stay-blue-0"] == seats(first)["stay-blue-0"]


def test_small_ones_are_packed_where_spread_they_leave_no_room():
    wishes = [wish("small", replicas=4), wish("big", LLAMA, tensor_parallel=8, replicas=3)]
    plan = plan_of(wishes, NODES)
    assert (set(heads(plan, "small")), heads(plan, "big")) == ({"n1"}, ["n2", "n3", "n4"])


def test_what_stands_moves_where_an_owed_one_would_find_no_place_else():
    small, big = wish("small", replicas=4), wish("big", LLAMA, tensor_parallel=8, replicas=3)
    first = plan_of([small], NODES)
    assert heads(first, "small") == ["n1", "n2", "n3", "n4"]
    then = plan_of([small, big], NODES, first)
    assert (set(heads(then, "small")), heads(then, "big")) == ({"n1"}, ["n2", "n3", "n4"])
    assert sum("moves" in text for text in then["warnings"]) == 3


def test_an_owed_replica_displaces_extra_ones_but_no_owed_ones():
    first = plan_of([FILL], NODES[:2])
    assert Counter(heads(first, "fill")) == {"n1": 8, "n2": 8}
    late = wish("late", LLAMA, tensor_parallel=4, replicas=2)
    then = plan_of([FILL, late], NODES[:2], first)
    assert heads(then, "late") == ["n1", "n2"] and len(heads(then, "fill")) == 8
    assert {name for name in seats(first) if name in seats(then) and seats(first)[name] != seats(then)[name]} == set()
    with pytest.raises(IdcError, match="IDC-PLAN-001"):
        plan_of([replace(FILL, replicas=16), late], NODES[:2], first)


def test_extra_ones_go_from_where_fewest_stand():
    wishes = [wish("fill", tensor_parallel=4, hosts=["n2"]), wish("ones", hosts=["n0", "n1"])]
    hosts = [host("n0", 1, 1), *NODES[:2]]
    first = plan_of(wishes, hosts)
    assert (heads(first, "fill"), heads(first, "ones")) == (["n2"] * 2, ["n0"] + ["n1"] * 8)
    then = plan_of([*wishes, wish("late", tensor_parallel=4, replicas=1)], hosts, first)
    assert heads(then, "late") == ["n2"] and heads(then, "ones") == heads(first, "ones")


def test_a_free_gpu_is_taken_before_those_of_extra_ones():
    fill = wish("fill", tensor_parallel=2)
    first = plan_of([fill], [host("n1", 7)])
    then = plan_of([fill, wish("late", tensor_parallel=3, replicas=1)], [host("n1", 7)], first)
    stayed = [name for name, seat in seats(first).items() if seats(then).get(name) == seat]
    assert len(heads(first, "fill")) == 3 and len(stayed) == 2


def test_those_that_fill_take_turns():
    plan = plan_of([wish("a"), wish("b"), wish("c", replicas=1)], NODES[:2])
    assert (len(heads(plan, "a")), len(heads(plan, "b")), len(heads(plan, "c"))) == (8, 7, 1)


def test_nothing_serves_with_no_replicas():
    assert heads(plan_of([wish("a", replicas=0), wish("b", replicas=1)], NODES), "a") == []


@pytest.mark.parametrize(("values", "expected"), [
    ({"hosts": ["n3"], "replicas": 2}, [("n3", ("n3-0",)), ("n3", ("n3-1",))]),
    ({"gpus": ["5"], "replicas": 2}, [("n1", ("n1-5",)), ("n2", ("n2-5",))]),
    ({"gpus": ["n2-3", "n4-6"]}, [("n2", ("n2-3",)), ("n4", ("n4-6",))]),
    ({"gpus": ["6", "7"], "tensor_parallel": 2, "hosts": ["n2", "n3"]}, [("n2", ("n2-6", "n2-7")), ("n3", ("n3-6", "n3-7"))]),
])
def test_hosts_and_gpus_that_a_deployment_names(values, expected):
    assert sorted((seat[0], seat[2]) for seat in seats(plan_of([wish("a", **values)], NODES)).values()) == expected


def test_an_engine_on_cpu_takes_a_whole_host_and_wastes_no_gpus():
    bare, cpu = host("n9", 0), wish("c", device="cpu")
    plan = plan_of([cpu, FILL], [*NODES[:2], bare])
    assert heads(plan, "c") == ["n9"] and len(heads(plan, "fill")) == 16
    plan = plan_of([replace(cpu, replicas=2), FILL], [*NODES[:2], bare])
    assert heads(plan, "c") == ["n1", "n9"] and set(heads(plan, "fill")) == {"n2"}
    assert plan_of([replace(cpu, replicas=2), FILL], [*NODES[:2], bare], plan)["engines"] == plan["engines"]
    full = plan_of([FILL], NODES[:2])
    then = plan_of([FILL, replace(cpu, replicas=1)], NODES[:2], full)
    assert len(heads(then, "c")) == 1 and Counter(heads(then, "fill")) == {({"n1", "n2"} - set(heads(then, "c"))).pop(): 8}


@pytest.mark.parametrize(("domain", "sizes", "expected"), [
    (8, {"tensor_parallel": 8}, [tuple(range(8))]),
    (4, {"tensor_parallel": 4}, [(0, 1, 2, 3), (4, 5, 6, 7)]),
    (4, {"tensor_parallel": 4, "pipeline_parallel": 2}, [tuple(range(8))]),
    (4, {"tensor_parallel": 8}, [tuple(range(8))]),  # no domain is that large, but it was said
    (2, {"tensor_parallel": 2, "model": QWEN}, [(0, 1), (2, 3), (4, 5), (6, 7)]),
    (1, {"tensor_parallel": 4}, [(0, 1, 2, 3), (4, 5, 6, 7)]),
    (1, {"tensor_parallel": 8}, [tuple(range(8))]),
])
def test_tensor_parallel_groups_stay_within_nvlink(domain, sizes, expected):
    plan = plan_of([wish("a", **{"model": LLAMA, **sizes})], [host("n1", domain=domain)])
    assert sorted(tuple(int(gpu[3:]) for gpu in seat[2]) for seat in seats(plan).values()) == expected


def test_a_group_is_taken_where_it_leaves_the_least():
    plan = plan_of([wish("a", replicas=1, gpus=["4"]), wish("b", replicas=3)], [host("n1", domain=4)])
    assert [seat[2] for name, seat in seats(plan).items() if name.startswith("b")] == [("n1-5",), ("n1-6",), ("n1-7",)]
    with pytest.raises(IdcError, match="IDC-PLAN-001"):  # 3 + 3 are free, no 4 of one domain
        plan_of([wish("a", gpus=["0"]), wish("b", gpus=["4"]), wish("c", tensor_parallel=4, replicas=1)], [host("n1", domain=4)])


def test_ranks_of_a_replica_stand_on_hosts_of_one_kind():
    mixed = [host("n1"), host("n2", 4, 4), host("n3", card=L40S, domain=1), host("n4"), without(host("n5"), 2)]
    plan = plan_of([SPAN], mixed)
    assert [e["host"] for e in plan["engines"]] == ["n1", "n4"]
    with pytest.raises(IdcError):
        plan_of([SPAN], [one for one in mixed if one.name != "n4"])
    apart = [replace(host("n1"), rdma=400.0), host("n2"), replace(host("n3"), rdma=800.0)]
    assert [e["host"] for e in plan_of([SPAN], apart)["engines"]] == ["n1", "n3"]  # one without RDMA would not reach the others


def test_a_replica_that_lost_a_host_stays_on_the_other():
    span = replace(SPAN, hosts=("n1", "n2", "n3", "n4"))
    first = plan_of([replace(span, hosts=("n2", "n4"))], NODES)
    then = plan_of([span], [one for one in NODES if one.name != "n2"], first)
    assert [e["host"] for e in then["engines"]] == ["n4", "n1"]


def test_memory_of_the_host_is_given_once_too():
    model = replace(model_from("a", metadata_for(QWEN)), host=float(100 << 30))
    hosts = [host("n1", memory=256 << 30), host("n2", memory=128 << 30), host("n3", memory=64 << 30)]
    placer = Placer(hosts, {"a": model}, ())
    assert Counter(one.ranks[0].host for one in placer.place([wish("a")])) == {"n1": 2, "n2": 1}


def test_extra_replicas_read_as_long_a_context_as_the_others():
    plan = plan_of([wish("a", LLAMA)], [host("n1", 6)])  # two cards hold the 70B model, but no whole context
    assert [(len(e["gpus"]), e["memory"]["context"]) for e in plan["engines"]] == [(4, 131072)]
    two = plan_of([wish("a", LLAMA)], [host("n1", 2)])
    assert [len(e["gpus"]) for e in two["engines"]] == [2] and two["engines"][0]["memory"]["context"] < 131072


@pytest.mark.parametrize("wishes", [[wish("a", replicas=5), wish("c", device="cpu", replicas=1)], [replace(SPAN, replicas=1)]])
def test_counting_what_is_spare_changes_nothing(wishes):
    placer = Placer(NODES, {one.name: model_from(one.name, metadata_for(one.model)) for one in wishes}, ())
    placer.place(wishes)

    def state():
        fleet = placer.fleet
        return ({name: list(free) for name, free in fleet.free.items()}, dict(fleet.engines), dict(fleet.memory), set(fleet.cpu),
                {kind: set(names) for kind, names in fleet.room.items()})

    before = state()
    assert [placer.spare(one) for one in wishes] == [one.replicas for one in wishes]
    assert state() == before


def test_nothing_is_overlooked_when_hosts_fill_unevenly():
    """A thousand cards in hosts of many sizes: each deployment that fills stops only where nothing is left."""
    chance = random.Random(7)
    hosts = [host(f"n{number}", gpus=chance.choice((1, 2, 3, 5, 8)), domain=1) for number in range(1, 251)]
    wishes = [wish("a", tensor_parallel=2), wish("b", replicas=40), wish("c"), wish("d", LLAMA, tensor_parallel=4, replicas=9)]
    plan = plan_of(wishes, hosts)
    assert sum(len(e["gpus"]) for e in plan["engines"]) == sum(len(one.gpus) for one in hosts)


def random_fleet(chance):
    """Hosts of several kinds."""
    kinds = (*[(8, 8, H100)] * 4, (8, 4, H100), (4, 1, L40S), (2, 2, H100), (0, 1, H100))
    names = [f"n{number}" for number in range(1, chance.randint(4, 10))]
    return [host(name, *chance.choice(kinds), rdma=chance.choice((400.0, 800.0))) for name in names]


def seen(chance, hosts):
    """The fleet of one run: some hosts stale, gone, not accepted, some GPUs sick."""
    some = [replace(one, fresh=chance.random() < 0.8, accepted=chance.random() < 0.95 or None)
            for one in hosts if chance.random() < 0.95]
    return [without(one, *(gpu.index for gpu in one.gpus if chance.random() < 0.02)) for one in some]


def random_wishes(chance):
    """Deployments of several sizes; ports, hosts and GPUs now and then fixed."""
    wishes = []
    for number in range(chance.randint(2, 5)):
        model, values = chance.choice((
            (QWEN, {}), (LLAMA, {}), (QWEN, {"tensor_parallel": 2}), (QWEN, {"device": "cpu"}),
            (LLAMA, {"tensor_parallel": 2, "pipeline_parallel": 2}), (LLAMA, {"tensor_parallel": 8, "pipeline_parallel": 2})))
        values = {**values, "replicas": chance.choice((None, None, 0, 1, 2))}
        if chance.random() < 0.3:
            values["port"] = chance.choice((8000, 8001, 9000))
        if chance.random() < 0.2:
            values["hosts"] = chance.sample([f"n{index}" for index in range(1, 10)], 5)
        wishes.append(wish(f"d{number}", model, **values))
    return wishes


def changed(chance, wishes):
    """Some of the deployments, in another order now and then, some with other replicas."""
    some = [replace(one, replicas=chance.choice((None, 1, 2))) if chance.random() < 0.2 else one
            for one in wishes if chance.random() < 0.85] or wishes
    return chance.sample(some, len(some)) if chance.random() < 0.3 else some


def check(plan, hosts, wishes):
    """What holds for every plan."""
    usable = {one.name: {gpu.uuid for gpu in one.gpus} for one in hosts if one.accepted}
    given = [gpu for e in plan["engines"] for gpu in e["gpus"]]
    assert len(given) == len(set(given))
    assert all(set(e["gpus"]) <= usable[e["host"]] for e in plan["engines"])
    ports = [(e["host"], e["port"]) for e in plan["engines"]]
    ports += {(e["config"]["master-addr"], e["config"]["master-port"]) for e in plan["engines"] if e["config"].get("nnodes")}
    assert len(ports) == len(set(ports))
    assert len({e["name"] for e in plan["engines"]}) == len(plan["engines"])
    alone = {e["host"] for e in plan["engines"] if not e["gpus"]}
    assert all(sum(e["host"] == name for e in plan["engines"]) == 1 for name in alone)
    for one in wishes:
        ranks = [e for e in plan["engines"] if e["deployment"] == one.name]
        numbers = {e["replica"] for e in ranks}
        assert len(numbers) == one.replicas if one.replicas is not None else numbers
        assert all(not one.hosts or e["host"] in one.hosts for e in ranks)
        for number in numbers:
            replica = [e for e in ranks if e["replica"] == number]
            layout = replica[0]["layout"] or {"tensor": 0, "pipeline": 0, "data": 0, "nodes": 1}
            assert layout["tensor"] * layout["pipeline"] * layout["data"] == sum(len(e["gpus"]) for e in replica)
            assert [(e["rank"], e["head"]) for e in replica] == [(rank, rank == 0) for rank in range(layout["nodes"])]
            assert len({e["host"] for e in replica}) == layout["nodes"] and len({len(e["gpus"]) for e in replica}) == 1


@pytest.mark.parametrize("seed", range(60))
def test_what_holds_for_every_fleet(seed):
    chance, plan = random.Random(seed), None
    fleet, wanted = random_fleet(chance), random_wishes(chance)
    for _run in range(4):
        hosts, wishes = seen(chance, fleet), changed(chance, wanted)
        try:
            then = plan_of(wishes, hosts, plan)
        except IdcError as error:
            assert error.code in ("IDC-PLAN-001", "IDC-PLAN-002", "IDC-PLAN-005", "IDC-PLAN-009"), error
            continue
        check(then, hosts, wishes)
        shuffled = plan and {**plan, "engines": chance.sample(plan["engines"], len(plan["engines"]))}
        assert plan_of(wishes, chance.sample(hosts, len(hosts)), shuffled) == then
        assert to_keep(plan_of(wishes, hosts, then)) == to_keep(then)
        plan = then
