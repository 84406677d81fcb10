# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NVIDIA's programs print, in the forms that their documentation and sources give; none of them was run here."""
from __future__ import annotations

import json

import pytest
from ansible_collections.idc.llm.plugins.module_utils._acceptance_tools import (
    complaint,
    dcgm,
    measured_from,
    nccl_tests,
    nvbandwidth,
)


def gpu(number, status, *words):
    warnings = [{"error_category": 8, "error_id": 29, "error_severity": 5, "warning": word} for word in words]
    return {"entity_group": "GPU", "entity_group_id": 1, "entity_id": number, "status": status,
            **({"warnings": warnings} if words else {})}


DCGM_4 = {
    "DCGM Diagnostic": {"test_categories": [
        {"category": "Deployment", "tests": [{"name": "software", "results": [gpu(0, "Pass"), gpu(1, "Pass")],
                                              "test_summary": {"status": "Pass"}}]},
        {"category": "Hardware", "tests": [
            {"name": "memory", "results": [gpu(0, "Pass"), gpu(1, "Fail", "Detected 1 row remap failure for GPU 1.", "reset it")],
             "test_summary": {"status": "Fail"}}, None]},
        {"category": "Integration", "tests": [{"name": "pcie", "results": [gpu(0, "Skip"), gpu(1, "Skip")]}]}]},
    "metadata": {"version": "4.2.3", "Driver Version Detected": "580.159.04"}}
DCGM_3 = """WARNING: this should not happen
{"DCGM GPU Diagnostic": {"version": "3.1.8", "test_categories": [{"category": "Deployment", "tests": [
  {"name": "Denylist", "results": [{"gpu_ids": "0,1", "status": "PASS"}]}, null,
  {"name": "Persistence Mode", "results": [{"gpu_ids": "0,1", "status": "WARN", "warnings": "not enabled"}]}]}]}}
"""


def test_dcgm_s_tree_as_version_4_gives_it():
    found = dcgm(json.dumps(DCGM_4))
    assert found == {"version": "4.2.3", "tests": [
        {"name": "software", "status": "pass", "words": []},
        {"name": "memory", "status": "fail", "words": ["Detected 1 row remap failure for GPU 1.", "GPU 1: reset it"]},
        {"name": "pcie", "status": "Skip", "words": []}]}


def test_dcgm_s_tree_as_version_3_gives_it():
    assert dcgm(DCGM_3) == {"version": "3.1.8", "tests": [
        {"name": "Denylist", "status": "pass", "words": []},
        {"name": "Persistence Mode", "status": "warn", "words": ["GPU 0,1: not enabled"]}]}


def test_a_diagnosis_that_did_not_run_is_an_error():
    assert dcgm('{"DCGM Diagnostic": {"runtime_error": "GPUs are in use"}}') == {"error": "GPUs are in use"}
    for text in ("", "Error: unable to establish a connection to the specified host: localhost", '{"DCGM Diagnostic": {}}'):
        with pytest.raises(ValueError):
            dcgm(text)


def case(name, *rows, status="Passed", **words):
    matrix = [list(row) for row in rows]
    return {"name": name, "status": status, "bandwidth_description": "GB/s", "bandwidth_matrix": matrix, **words}


def test_nvbandwidth_s_slowest_are_taken():
    said = {"nvbandwidth": {"version": "v0.8", "CUDA Runtime Version": 13000, "testcases": [
        case("host_to_device_memcpy_ce", ["55.3", "55.1"]), case("device_to_host_memcpy_ce", ["55.6", "55.4"]),
        case("device_to_device_memcpy_read_ce", ["N/A", "391.2"], ["390.8", "N/A"])]}}
    assert nvbandwidth("warming up\n" + json.dumps(said)) == {
        "version": "v0.8", "to_gpu_gbs": 55.1, "from_gpu_gbs": 55.4, "peer_gbs": 390.8, "failed": [], "passed": 3}
    said["nvbandwidth"]["testcases"][1:] = [case("device_to_host_memcpy_ce", status="Error", error="CUDA_ERROR_ILLEGAL_ADDRESS"),
                                            case("device_to_device_memcpy_read_ce", status="Waived")]
    found = nvbandwidth(json.dumps(said))
    assert (found["failed"], found["passed"], "peer_gbs" in found) == (
        ["device_to_host_memcpy_ce: CUDA_ERROR_ILLEGAL_ADDRESS"], 1, False)
    assert nvbandwidth('{"nvbandwidth": {"error": "no CUDA-capable device"}}') == {"error": "no CUDA-capable device"}


NCCL_TESTS = """\
# nThread 1 nGpus 2 minBytes 1073741824 maxBytes 8589934592 step: 2(factor) warmup iters: 5 iters: 20 agg iters: 1 validation: 1
#
# Using devices
#  Rank  0 Group  0 Pid  40431 on      gpu1 device  0 [0x18] NVIDIA H200
#  Rank  1 Group  0 Pid  40431 on      gpu1 device  1 [0x2a] NVIDIA H200
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
  1073741824     268435456     float     sum      -1   3301.3  325.25  325.25      0   3299.8  325.40  325.40      0
  8589934592    2147483648     float     sum      -1  25117.0  342.00  342.00      {}  25120.1  341.95  341.95    N/A
# Out of bounds values : {} OK
# Avg bus bandwidth    : 333.65
#
"""


def test_nccl_tests_table():
    assert nccl_tests(NCCL_TESTS.format(0, 0)) == {"gpus": 2, "bytes": 8589934592, "busbw_gbs": 342.0, "wrong": 0}
    assert nccl_tests(NCCL_TESTS.format(3, 1))["wrong"] == 3
    assert nccl_tests(NCCL_TESTS.format("0e+00", 7))["wrong"] == 7
    with pytest.raises(ValueError):
        nccl_tests("gpu1: Test NCCL failure common.cu:1279 'unhandled system error'")


def test_parts_from_what_tasks_registered():
    own = {"gpus": [], "all_reduce": None}
    found = measured_from({
        "gpus": {"rc": 0, "stdout": json.dumps(own)}, "disk": {"rc": 0, "stdout": '{"gbs": 2.5}'},
        "dcgm": {"rc": 226, "stdout": json.dumps(DCGM_4)},  # it says by its status that a test failed
        "nvbandwidth": {"not_run": "there is no nvbandwidth"}, "nccl_tests": {"rc": 0, "stdout": NCCL_TESTS.format(0, 0)}}, 2)
    assert found["gpus"] == [] and found["disk"] == {"gbs": 2.5} and found["nvbandwidth"] == {"not_run": "there is no nvbandwidth"}
    assert (found["dcgm"]["level"], found["dcgm"]["tests"][1]["status"], found["nccl_tests"]["busbw_gbs"]) == (2, "fail", 342.0)


@pytest.mark.parametrize(("part", "result", "found"), [
    ("gpus", {"rc": 1, "stdout": "", "stderr": "torch sees\nno GPU"}, {"error": "torch sees no GPU"}),
    ("gpus", {"rc": -9, "stdout": "", "stderr": ""}, {"error": "it ended with status -9"}),
    ("gpus", {"msg": "async task did not complete within the requested time"},
     {"error": "async task did not complete within the requested time"}),
    ("disk", {"rc": 0, "stdout": "no JSON"}, {"disk": {"error": "no JSON"}}),
    ("dcgm", {"rc": 1, "stdout": "Error: no connection", "stderr": ""}, {"dcgm": {"level": 1, "error": "Error: no connection"}}),
    ("dcgm", {"not_run": "level 0"}, {"dcgm": {"level": 1, "not_run": "level 0"}}),
    ("nccl_tests", {"rc": 3, "stdout": NCCL_TESTS.format(0, 0), "stderr": "CUDA error"}, {"nccl_tests": {"error": "CUDA error"}})])
def test_what_broke_off_says_why(part, result, found):
    assert measured_from({part: result}, 1) == found
    assert "not_run" in result or complaint(result) in str(found)
