# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on a host."""
from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._acceptance import errors, idle, lines, merged, verdict
from ansible_collections.idc.llm.plugins.module_utils._acceptance_checks import checks, measurable
from ansible_collections.idc.llm.plugins.module_utils._acceptance_table import PER_GPU, THRESHOLDS, pcie_wanted
from ansible_collections.idc.llm.plugins.module_utils._gpu import Gpu, NvmlView
from ansible_collections.idc.llm.plugins.module_utils._gpu_topology import arrange

GOOD = Gpu(index=0, uuid="GPU-b", healthy=True)
SICK = Gpu(index=1, uuid="GPU-a", healthy=False)


@pytest.mark.parametrize(
    ("view", "held"),
    [
        (NvmlView("ok", gpus=(GOOD,)), [True, True, True]),
        (NvmlView("ok", gpus=(GOOD, SICK)), [True, True, False]),
        (NvmlView("no_devices"), [True, False, False]),
        (NvmlView("no_driver"), [False, False, False]),
        (NvmlView("no_library"), [False, False, False]),
        (NvmlView("no_binding"), [False, False, False]),
    ],
)
def test_checks_and_verdict(view, held):
    assert [row.ok for row in checks(view)] == held
    assert verdict(view, None, "now")["accepted"] is all(held)


def test_a_sick_gpu_is_named():
    assert checks(NvmlView("ok", gpus=(GOOD, SICK, Gpu(index=2))))[2].observed == "not healthy: GPU-a, index 2"
    worn = replace(SICK, health_reasons=("row remapping failed",))
    assert checks(NvmlView("ok", gpus=(worn,)))[2].observed == "not healthy: GPU-a (row remapping failed)"


def test_what_stands_in_the_verdict():
    found = verdict(NvmlView("ok", driver_version="580.1", gpus=(GOOD, SICK)), None, "2026-11-22T00:00:00Z")
    assert found["schema"] == 3
    assert (found["driver_version"], found["gpu_uuids"]) == ("580.1", ["GPU-a", "GPU-b"])
    assert found["checks"][0] == {"name": "driver_answers", "ok": True, "observed": "ok", "wanted": "ok", "kind": "driver",
                                  "value": None, "least": None, "run": True}
    assert found["date"] == "2026-11-22T00:00:00Z"


def test_the_date_stays_while_nothing_else_differs():
    view = NvmlView("ok", driver_version="580.1", gpus=(GOOD,))
    first = verdict(view, None, "first")
    assert verdict(view, first, "second") == first
    newer = verdict(NvmlView("ok", driver_version="595.1", gpus=(GOOD,)), first, "second")
    assert newer["date"] == "second"


@pytest.mark.parametrize("previous", [[], "x", {}, {"date": 3}, {"schema": 1, "date": "old"}])
def test_a_previous_verdict_that_is_no_verdict(previous):
    assert verdict(NvmlView("no_driver"), previous, "now")["date"] == "now"


# --- under load ------------------------------------------------------------------------------------------------------

H200 = NvmlView("ok", driver_version="580.159.04", gpus=tuple(
    Gpu(index=number, uuid=f"GPU-{number}", healthy=True, name="NVIDIA H200", pci_device_id="0x2335") for number in range(2)))
# as two H200 gave it, docs/guides/acceptance.md
MEASURED = {
    "torch": "2.11.0+cu130", "cuda": "13.0", "nccl": "2.28.9",
    "gpus": [{"index": number, "name": "NVIDIA H200", "uuid": f"GPU-{number}", "matmul_tflops": 672.9, "memory_gbs": 4241.6,
              "to_gpu_gbs": 54.99, "from_gpu_gbs": 55.29, "wrong": 0, "sm_mhz": 1455, "watts": 690.4, "celsius": 53, "slowed": []}
             for number in range(2)],
    "peers": {"ways": 2, "indirect": [], "wrong": 0, "gbs": 390.1},
    "all_reduce": {"gpus": 2, "bytes": 1073741824, "busbw_gbs": 320.7, "wrong": 0}}


SWAPPED = replace(H200, gpus=tuple(replace(gpu, uuid=f"GPU-{1 - gpu.index}") for gpu in H200.gpus))


def spoiled(place, figure, value):
    """The measurement with one figure changed; place: number of a GPU, or the name of a part."""
    found = deepcopy(MEASURED)
    (found["gpus"][place] if isinstance(place, int) else found[place])[figure] = value
    return found


def failing(found):
    return {check["name"]: (check["observed"], check["wanted"]) for check in found["checks"] if not check["ok"]}


def test_two_good_h200_are_accepted_by_what_they_do():
    found = verdict(H200, None, "now", MEASURED)
    assert (found["accepted"], found["due"], found["measured"], failing(found)) == (True, False, MEASURED, {})
    assert len(found["checks"]) == 3 + 1 + 2 * 6 + 3 + 2
    assert lines(found)[0] == "accepted: all checks hold"
    assert "all-reduce bus bandwidth, GB/s: 320.7" in lines(found) and "GPU 1: GPU memory, GB/s: 4241.6" in lines(found)


@pytest.mark.parametrize(("place", "figure", "value", "name", "wanted"), [
    (0, "matmul_tflops", 500, "GPU 0: bf16 matmul, TFLOP/s", "at least 603"),
    (1, "to_gpu_gbs", 27.1, "GPU 1: host to GPU, GB/s", "at least 49.5"),  # a link of half the width
    (1, "wrong", 3, "GPU 1: results", "0"),
    (0, "slowed", ["hardware thermal"], "GPU 0: clocks under load", "not slowed"),
    ("all_reduce", "busbw_gbs", 40.0, "all-reduce bus bandwidth, GB/s", "at least 288"),  # NCCL went over PCIe
    ("peers", "wrong", 8, "GPU to GPU: results", "0"),
    ("all_reduce", "wrong", 1, "all-reduce: results", "0")])
def test_what_is_not_good_enough_keeps_the_host_out_and_says_so(place, figure, value, name, wanted):
    found = verdict(H200, None, "now", spoiled(place, figure, value))
    assert not found["accepted"] and set(failing(found)) == {name} and failing(found)[name][1] == wanted
    assert lines(found)[0] == f"not accepted: 1 of {len(found['checks'])} checks failed"
    assert any(line.startswith(f"{name}: ") and line.endswith(f"wanted {wanted}") for line in lines(found))


def test_a_card_is_named_as_nvidia_smi_names_it():
    """CUDA counts the cards in the order in which it is shown them, by UUID: on a real host with two its 0 was nvidia-smi's 1."""
    good = verdict(SWAPPED, None, "now", MEASURED)
    found = verdict(SWAPPED, good, "later", spoiled(0, "matmul_tflops", 500))
    assert set(failing(found)) == {"GPU 1: bf16 matmul, TFLOP/s"}
    assert found["drift"] == ["GPU 1: bf16 matmul, TFLOP/s: 500, was 672.9"]
    assert "GPU 1: bf16 matmul" in errors("gpu07", found)[0].render("en")


NVLINK = arrange((("X", "NV18"), ("NV18", "X")), ((), ()))
PCIE = arrange((("X", "PHB"), ("PHB", "X")), ((), ()))


@pytest.mark.parametrize(("topology", "codes"), [(NVLINK, ["IDC-ACC-010"]), (PCIE, []), (None, [])])
def test_gpus_that_nvlink_joins_have_to_reach_each_other(topology, codes):
    """Over PCIe not: many a machine does not let them."""
    swapped = replace(SWAPPED, topology=topology)
    found = verdict(swapped, None, "now", spoiled("peers", "indirect", [[0, 1], [1, 0]]))
    assert [error.code for error in errors("gpu07", found)] == codes
    check = next(check for check in found["checks"] if check["kind"] == "peers")
    assert (check["ok"], check["observed"]) == (not codes, "GPU 0 and 1 by way of the host")
    assert verdict(swapped, None, "now", MEASURED)["accepted"]


def test_how_fast_gpus_reach_each_other_is_judged_where_the_site_says_how():
    assert verdict(H200, None, "now", MEASURED, {"peer_gbs": 390})["accepted"]
    assert set(failing(verdict(H200, None, "now", MEASURED, {"peer_gbs": 400}))) == {"GPU to GPU, GB/s, the slowest"}
    slow = verdict(H200, verdict(H200, None, "now", MEASURED), "later", spoiled("peers", "gbs", 120.0))
    assert "slower than before: GPU to GPU, GB/s: 120, was 390.1" in lines(slow)


def test_a_card_that_nobody_has_measured_is_compared_with_its_host_s_others():
    unknown = replace(H200, gpus=tuple(replace(gpu, pci_device_id="0xffff", name="NVIDIA X1") for gpu in (*H200.gpus, Gpu(
        index=2, uuid="GPU-2", healthy=True))))
    three = deepcopy(MEASURED)
    three["gpus"].append({**three["gpus"][0], "index": 2, "uuid": "GPU-2", "memory_gbs": 3000})
    found = verdict(unknown, None, "now", three)
    assert failing(found) == {"GPU 2: GPU memory, GB/s": ("3000", "at least 3817.4, as the host's others")}
    assert verdict(unknown, None, "now", three, {"memory_gbs": 4000})["accepted"] is False


def test_the_site_s_word_stands_in_the_place_of_what_is_expected():
    slow = spoiled("all_reduce", "busbw_gbs", 200.0)
    assert verdict(H200, None, "now", slow)["accepted"] is False
    assert verdict(H200, None, "now", slow, {"busbw_gbs": 180})["accepted"] is True
    assert failing(verdict(H200, None, "now", MEASURED, {"busbw_gbs": 330})) == {
        "all-reduce bus bandwidth, GB/s": ("320.7", "at least 330")}


def test_a_gpu_that_was_left_out_or_a_run_that_broke_off_is_no_pass():
    short = {**MEASURED, "gpus": MEASURED["gpus"][:1], "all_reduce": None}
    assert failing(verdict(H200, None, "now", short)) == {"gpus_measured": ("not measured: GPU-1", "2")}
    broken = verdict(H200, None, "now", {"error": "CUDA error: an illegal memory access"})
    assert failing(broken) == {"measured": ("CUDA error: an illegal memory access", "a measurement that ends")}
    assert broken["due"], "the next run tries again"
    assert failing(verdict(H200, None, "now", {"error": ""}))["measured"][0] == "it ended without a word"


def test_a_measurement_counts_until_driver_or_cards_change_and_thresholds_count_at_once():
    first = verdict(H200, None, "first", MEASURED)
    assert verdict(H200, first, "second") == first
    assert verdict(H200, first, "second", own={"busbw_gbs": 400})["accepted"] is False
    for other in (replace(H200, driver_version="595.1"), replace(H200, gpus=H200.gpus[:1])):
        found = verdict(other, first, "second")
        assert (found["measured"], found["due"], found["accepted"], found["date"]) == (None, True, True, "second")
    assert verdict(H200, {**first, "schema": 1}, "second")["due"]
    assert lines(found) == ["accepted by health alone, the GPUs were not measured"]
    assert not verdict(NvmlView("no_driver"), None, "now")["due"]


def test_what_became_slower_is_told_though_it_is_good_enough():
    first = verdict(H200, None, "first", MEASURED)
    again = verdict(H200, first, "second", spoiled(1, "memory_gbs", 3900.0))
    assert again["accepted"] and again["drift"] == ["GPU 1: GPU memory, GB/s: 3900, was 4241.6"]
    assert lines(again)[-1] == "slower than before: GPU 1: GPU memory, GB/s: 3900, was 4241.6"
    assert verdict(H200, again, "third")["drift"] == again["drift"], "until the next measurement"
    elsewhere = replace(H200, driver_version="595.1")
    unmeasured = verdict(elsewhere, first, "second")
    assert (unmeasured["drift"], unmeasured["best"]) == ([], MEASURED), "a driver that nobody has measured yet keeps what was best"
    assert verdict(elsewhere, unmeasured, "third", spoiled(1, "memory_gbs", 3900.0))["drift"] == again["drift"]
    bad = verdict(H200, first, "second", spoiled(1, "memory_gbs", 3000.0))
    assert bad["best"] == MEASURED and verdict(H200, bad, "third", MEASURED)["drift"] == []


def test_who_was_refused_stays_refused_until_measured_again_or_told_otherwise():
    bad = verdict(H200, None, "first", spoiled(0, "wrong", 7))
    later = verdict(replace(H200, driver_version="595.1"), bad, "second")
    assert (later["accepted"], later["due"]) == (False, True)
    assert verdict(replace(H200, driver_version="595.1"), later, "third", MEASURED)["accepted"]
    alone = verdict(H200, bad, "second", measure=False)
    assert (alone["accepted"], alone["due"], alone["measured"], len(alone["checks"])) == (True, False, None, 3)


def test_clocks_that_nobody_saw_are_told_as_such():
    unseen = deepcopy(MEASURED)
    for row in unseen["gpus"]:
        del row["slowed"]
    found = verdict(H200, None, "now", unseen)
    assert found["accepted"] and "not seen, nvidia-smi shows nothing" in {check["observed"] for check in found["checks"]}


def test_gpus_in_mig_slices_are_left_out():
    sliced = replace(H200, gpus=(*H200.gpus, Gpu(index=2, uuid="GPU-2", healthy=True, mig_enabled=True)))
    assert measurable(sliced) == ["GPU-0", "GPU-1"] and verdict(sliced, None, "now", MEASURED)["accepted"]
    assert verdict(replace(sliced, gpus=sliced.gpus[2:]), None, "now")["due"] is False


# --- PCIe, disks, NVIDIA's programs ------------------------------------------------------------------------------------

LINK = {"generation": 5, "lanes": 16, "generation_max": 5, "lanes_max": 16}


def with_parts(**parts):
    return {**deepcopy(MEASURED), **parts}


def linked(**link):
    return with_parts(gpus=[{**row, "pcie": {**LINK, **(link if at else {})}} for at, row in enumerate(MEASURED["gpus"])])


def judged(measured, own=None):
    """{name: (ok, run, observed, wanted)} of the checks."""
    return {row["name"]: (row["ok"], row["run"], row["observed"], row["wanted"])
            for row in verdict(H200, None, "now", measured, own)["checks"]}


@pytest.mark.parametrize(("link", "own", "ok", "wanted"), [
    ({}, {}, True, "Gen5 x16"),
    ({"generation": 4}, {}, False, "Gen5 x16"),
    ({"lanes": 8}, {}, False, "Gen5 x16"),
    # NVML says what card and slot can do: a slot of eight lanes looks whole, but the card is made for sixteen
    ({"lanes": 8, "lanes_max": 8}, {}, False, "Gen5 x16"),
    ({"generation": 4, "generation_max": 4}, {}, False, "Gen5 x16"),
    ({"lanes": 8, "lanes_max": 8}, {"pcie_lanes": 8}, True, "Gen5 x8"),
    ({"generation": 4, "generation_max": 4}, {"pcie_generation": 4}, True, "Gen4 x16")])
def test_a_link_is_judged_while_bytes_go_over_it(link, own, ok, wanted):
    found = judged(linked(**link), own)["GPU 1: PCIe under load"]
    assert (found[0], found[3]) == (ok, wanted)
    assert judged(linked(**link), own)["GPU 0: PCIe under load"][0]


def test_lanes_are_judged_at_rest_and_the_generation_is_not():
    """At rest a link speaks an older generation to save power."""
    gpus = tuple(replace(gpu, pcie={"generation": 1, "generation_max": 5, "width": width, "width_max": 16})
                 for gpu, width in zip(H200.gpus, (16, 8), strict=True))
    rows = {row.name: row for row in checks(replace(H200, gpus=gpus))}
    assert rows["GPU 0: PCIe lanes"].ok and not rows["GPU 1: PCIe lanes"].ok
    assert (rows["GPU 1: PCIe lanes"].observed, rows["GPU 1: PCIe lanes"].wanted) == ("8", "at least 16")
    assert all(row.ok for row in checks(replace(H200, gpus=gpus), {"pcie_lanes": 8}))
    assert pcie_wanted("a card that nobody knows", (3, 8), {}) == (3, 8)


@pytest.mark.parametrize(("disk", "own", "ok", "run", "observed"), [
    ({"gbs": 1.17, "by": "fio-3.33"}, {}, True, True, "1.17"),
    ({"gbs": 1.17, "by": "fio-3.33"}, {"disk_read_gbs": 5}, False, True, "1.17"),
    ({"gbs": 12.3, "by": "own reader"}, {"disk_read_gbs": 5}, True, True, "12.3"),
    ({"error": "9 MiB free"}, {}, True, False, "not run: 9 MiB free"),  # nothing is asked of it
    ({"error": "9 MiB free"}, {"disk_read_gbs": 5}, False, True, "9 MiB free")])
def test_a_disk_is_reported_and_judged_where_the_site_says_so(disk, own, ok, run, observed):
    assert judged(with_parts(disk=disk), own)["disk of the store, read, GB/s"][:3] == (ok, run, observed)


def test_what_nvidia_s_programs_found():
    tests = [{"name": "software", "status": "pass", "words": []}, {"name": "memory", "status": "fail", "words": ["GPU 1: bad row"]},
             {"name": "pcie", "status": "Skip", "words": []}]
    part = {"level": 2, "tests": tests}
    assert judged(with_parts(dcgm=part))["dcgmi diag -r 2"] == (False, True, "memory: GPU 1: bad row", "all passed")
    part["tests"][1].update(status="warn")
    assert judged(with_parts(dcgm=part))["dcgmi diag -r 2"][:3] == (
        True, True, "2 of 3 tests passed, memory warns: GPU 1: bad row")
    assert not judged(with_parts(dcgm={"level": 1, "tests": tests[2:]}))["dcgmi diag -r 1"][0], "nothing was tested"
    assert judged(with_parts(dcgm={"level": 1, "error": "no connection to the host engine"}))["dcgmi diag -r 1"][:3] == (
        False, True, "no connection to the host engine")
    assert judged(with_parts(dcgm={"level": 1, "not_run": "there is no /usr/bin/dcgmi"}))["dcgmi diag -r 1"][:3] == (
        True, False, "not run: there is no /usr/bin/dcgmi")
    band = {"to_gpu_gbs": 55.6, "from_gpu_gbs": 27.1, "peer_gbs": 390.0, "failed": [], "passed": 3}
    found = judged(with_parts(nvbandwidth=band))
    assert [name for name in found if name.startswith("nvbandwidth") and not found[name][0]] == [
        "nvbandwidth, GPU to host, GB/s, the slowest"]
    assert not judged(with_parts(nvbandwidth={**band, "from_gpu_gbs": 55, "failed": ["x: Error"]}))["nvbandwidth: tests"][0]
    found = judged(with_parts(nvbandwidth={**band, "from_gpu_gbs": 55}), {"peer_gbs": 400})
    assert not found["nvbandwidth, GPU to GPU, GB/s, the slowest"][0]
    found = judged(with_parts(nccl_tests={"gpus": 2, "bytes": 1, "busbw_gbs": 200.0, "wrong": 1}))
    assert [found[f"nccl-tests all_reduce_perf{end}"][0] for end in (": results", ", GB/s")] == [False, False]


# --- pairs ------------------------------------------------------------------------------------------------------------

FAST = {"gpus": 4, "bytes": 1 << 30, "busbw_gbs": 190.0, "wrong": 0, "wire_gbs": 200.0}
PAIRS = "all-reduce with another host, GB/s"


@pytest.mark.parametrize(("pairs", "own", "ok"), [
    ({"b": FAST}, {}, True),
    ({"b": {**FAST, "busbw_gbs": 1.1}}, {}, False),  # NCCL has gone over the management network
    ({"b": {**FAST, "wrong": 1}}, {}, False),
    ({"b": {"error": "no answer"}}, {}, False),
    ({"b": {"error": "no answer"}, "c": FAST}, {}, True),  # a pair accuses both; whose other pair is good is believed
    ({"b": {"error": "no answer"}, "c": {**FAST, "busbw_gbs": 1.1}}, {}, False),
    ({"b": {**FAST, "busbw_gbs": 1.1, "wire_gbs": 0.0}}, {}, True),  # nobody knows the network
    ({"b": {**FAST, "busbw_gbs": 1.1, "wire_gbs": 0.0}}, {"pair_busbw_gbs": 40}, False)])
def test_pairs_of_hosts(pairs, own, ok):
    found = verdict(H200, None, "now", with_parts(pairs=pairs), own)
    assert found["accepted"] is ok and judged(with_parts(pairs=pairs), own)[PAIRS][0] is ok


def test_a_slow_pair_is_told_though_the_other_one_is_good():
    seen = judged(with_parts(pairs={"gpu2": FAST, "gpu9": {**FAST, "busbw_gbs": 3.0}}))[PAIRS]
    assert seen == (True, True, "gpu2: 190; gpu9: 3, under 100", "at least 100 with one of them")


# --- parts ------------------------------------------------------------------------------------------------------------


def test_parts_are_added_to_what_is_known():
    first = verdict(H200, None, "first", with_parts(disk={"gbs": 2.0}, dcgm={"level": 1, "not_run": "no dcgmi"}))
    assert (first["due"], first["due_beside"]) == (False, False)
    assert verdict(H200, first, "second", dcgm_level=2)["due_beside"], "a higher level than was run"
    diagnosed = {"dcgm": {"level": 2, "tests": [{"name": "a", "status": "pass", "words": []}]}}
    again = verdict(H200, first, "second", diagnosed, dcgm_level=2)
    assert (again["measured"]["gpus"], again["measured"]["disk"], again["due_beside"]) == (MEASURED["gpus"], {"gbs": 2.0}, False)
    paired = verdict(H200, again, "third", {"pairs": {"b": FAST}})
    assert verdict(H200, paired, "fourth", {"pairs": {"c": FAST}})["measured"]["pairs"] == {"b": FAST, "c": FAST}
    slower = verdict(H200, paired, "fourth", {"disk": {"gbs": 1.0}, "pairs": {"b": {**FAST, "busbw_gbs": 150.0}}})
    assert slower["drift"] == ["disk of the store, read, GB/s: 1, was 2", "all-reduce with b, GB/s: 150, was 190"]


def test_a_measurement_that_broke_off_is_no_measurement_beside_an_older_one():
    known = with_parts(disk={"gbs": 2.0})
    assert merged(known, {"error": "x"}) == {"error": "x", "disk": {"gbs": 2.0}}
    assert merged({"error": "x"}, MEASURED) == MEASURED


def test_who_was_refused_stays_due_until_measured_whoever_looks_in_between():
    bad = verdict(H200, None, "first", {**spoiled(0, "wrong", 7), "disk": {"gbs": 2.0}})
    newer = replace(H200, driver_version="595.1")
    looked = verdict(newer, bad, "second")
    assert looked["measured"]["stale"] and looked["due"] and looked["due_beside"] and not looked["accepted"]
    again = verdict(newer, looked, "third")
    assert again == looked, "a run in which an engine kept the GPUs busy changes nothing"
    disk = verdict(newer, again, "fourth", {"disk": {"gbs": 2.0}, "dcgm": {"level": 0, "not_run": "level 0"}})
    assert (disk["due"], disk["due_beside"], disk["accepted"]) == (True, False, False)
    assert verdict(newer, disk, "fifth", MEASURED)["accepted"]


def test_a_host_without_torch_is_measured_as_far_as_that_goes():
    found = verdict(H200, None, "now", {"disk": {"gbs": 2.0}})
    assert (found["accepted"], found["due"], found["due_beside"], found["best"]) == (True, True, False, None)
    assert lines(found) == ["accepted by health alone, the GPUs were not measured", "disk of the store, read, GB/s: 2"]
    assert not verdict(NvmlView("no_driver"), None, "now")["due_beside"]


# --- what is said -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "measured", "code"), [
    (NvmlView("no_driver"), None, "IDC-ACC-001"), (NvmlView("ok", gpus=(SICK,)), None, "IDC-ACC-001"),
    (H200, {"error": "Xid 79"}, "IDC-ACC-002"), (H200, spoiled(0, "wrong", 3), "IDC-ACC-003"),
    (H200, spoiled(0, "slowed", ["power brake"]), "IDC-ACC-004"), (H200, spoiled(0, "memory_gbs", 9), "IDC-ACC-005"),
    (H200, linked(lanes=8), "IDC-ACC-006"), (H200, with_parts(dcgm={"level": 1, "error": "x"}), "IDC-ACC-007"),
    (H200, with_parts(pairs={"b": {"error": "x"}}), "IDC-ACC-008")])
def test_each_kind_of_trouble_has_its_sentence(view, measured, code):
    found = verdict(view, None, "now", measured)
    (error,) = errors("gpu7", found)
    bad = next(check for check in found["checks"] if not check["ok"])
    assert error.code == code and f"{bad['name']}: {bad['observed']} (wanted: {bad['wanted']})" in error.render("en")
    assert "gpu7" in error.render("zh") and bad["observed"] in error.render("zh")


def test_a_host_that_is_accepted_has_no_errors_and_one_without_verdict_has_one():
    assert errors("gpu7", verdict(H200, None, "now", MEASURED)) == []
    assert [error.code for error in errors("gpu7", None)] == ["IDC-ACC-009"]
    assert set(PER_GPU) < set(THRESHOLDS)


@pytest.mark.parametrize(("change", "free"), [
    ({"processes": (), "memory_used_bytes": 0}, True), ({"processes": (), "memory_used_bytes": 600 << 20}, True),
    ({"processes": None}, False), ({"processes": ({"pid": 7},)}, False), ({"processes": (), "memory_used_bytes": 5 << 30}, False)])
def test_idle_is_what_can_be_seen_to_be(change, free):
    assert idle(replace(H200, gpus=tuple(replace(gpu, **change) for gpu in H200.gpus))) is free
