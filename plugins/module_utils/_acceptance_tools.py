# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs on a host said, as parts of a measurement (_acceptance_checks). Pure; private to this collection."""
from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping

STATUS = {"pass": "pass", "warn": "warn", "fail": "fail"}  # all else (Skip, Not Run) is a test that did not run
LAST = 300  # characters of what a program says that are kept
TOOLS = ("dcgm", "nvbandwidth", "nccl_tests")


def measured_from(said: Mapping[str, Mapping[str, Any]], dcgm_level: int = 0) -> Dict[str, Any]:
    """The parts of a measurement from what tasks registered (rc, stdout, stderr, msg, or ``not_run``: why it was not tried).

    said: by part; of ``gpus`` and ``disk`` what our own programs printed. A part that is not in it was not wanted.
    """
    found: Dict[str, Any] = {}
    for part, result in said.items():
        name = "error" if part == "gpus" else part
        level = {"level": dcgm_level} if part == "dcgm" else {}
        if result.get("not_run"):
            found[name] = {**level, "not_run": result["not_run"]}
            continue
        try:
            if part == "dcgm":
                found[part] = {**level, **dcgm(str(result.get("stdout") or ""))}
            elif part == "nvbandwidth":
                found[part] = nvbandwidth(str(result.get("stdout") or ""))
            elif part == "nccl_tests":
                _ended(result)
                found[part] = nccl_tests(str(result.get("stdout") or ""))
            else:
                _ended(result)
                own = json.loads(str(result.get("stdout") or ""))
                found.update(own if part == "gpus" else {part: own})
        except (ValueError, KeyError, TypeError, AttributeError):
            found[name] = complaint(result) if part == "gpus" else {**level, "error": complaint(result)}
    return found


def _ended(result: Mapping[str, Any]) -> None:
    if result.get("rc", 1) != 0:
        raise ValueError("it did not end well")


def complaint(result: Mapping[str, Any]) -> str:
    """Why a program gave no result, in its own last words, or in the task's."""
    own = " ".join(str(result.get("stderr") or result.get("stdout") or "").split())
    if own:
        return own[-LAST:]
    return f"it ended with status {result['rc']}" if "rc" in result else str(result.get("msg") or "no answer")


def _json(text: str) -> Any:
    """The JSON object in what a program printed: warnings may stand before it. Raises ValueError."""
    begin = text.find("{")
    if begin < 0:
        raise ValueError("no JSON")
    return json.JSONDecoder().raw_decode(text[begin:])[0]


def dcgm(text: str) -> Dict[str, Any]:
    """version and tests {name, status (pass, warn, fail or what it says), words} of ``dcgmi diag -r N -j``.

    Its exit status says no more than these. The tree of test_categories, tests and results, statuses Pass, Fail, Warn and Skip,
    warnings as a list of texts or of mappings, a null here and there among the tests: as NVIDIA's sources write it,
    https://github.com/NVIDIA/DCGM (nvvs/include/NvvsCommon.h); what the tests are:
    https://docs.nvidia.com/datacenter/dcgm/latest/user-guide/dcgm-diagnostics.html. DCGM before 3.2 says "DCGM GPU Diagnostic".
    Raises ValueError where there is no such tree, KeyError where it lacks a name.
    """
    said = _json(text)
    tree = said.get("DCGM Diagnostic") or said.get("DCGM GPU Diagnostic") or {}
    trouble = tree.get("runtime_error") or tree.get("System Error")
    if trouble:
        return {"error": str(trouble)[-LAST:]}
    tests = [test for category in tree.get("test_categories") or [tree] for test in category.get("tests") or () if test]
    if not tests:
        raise ValueError("no tests")
    version = (said.get("metadata") or {}).get("version") or tree.get("version")
    return {"version": version, "tests": [_test(test) for test in tests]}


def _test(test: Mapping[str, Any]) -> Dict[str, Any]:
    results = [*(test.get("results") or ()), *([test["test_summary"]] if test.get("test_summary") else ())]
    statuses = [str(row.get("status") or "") for row in results]
    worst = next((STATUS[word] for word in ("fail", "warn", "pass") if word in [status.lower() for status in statuses]), None)
    words: List[str] = []
    for row in results:
        gpu = row.get("gpu_ids") or (row.get("entity_id") if row.get("entity_group") == "GPU" else None)
        warnings = row.get("warnings") or ()
        for warning in [warnings] if isinstance(warnings, str) else warnings:
            sentence = str(warning.get("warning") if isinstance(warning, Mapping) else warning).strip()
            whose = "" if gpu is None or re.search(r"\bGPU \d", sentence) else f"GPU {gpu}: "
            if whose + sentence not in words:
                words.append(whose + sentence)
    return {"name": str(test["name"]), "status": worst or (statuses[0] if statuses else "Not Run"), "words": words}


def nvbandwidth(text: str) -> Dict[str, Any]:
    """to_gpu_gbs, from_gpu_gbs, peer_gbs of the slowest, and failed, of ``nvbandwidth -j -t …``.

    testcases, each with name, status (Passed, Waived, Error, Not Found) and bandwidth_matrix, rows of texts with "N/A" where there
    is no pair: https://github.com/NVIDIA/nvbandwidth/blob/main/json_output.cpp. Raises ValueError, KeyError.
    """
    said = _json(text)["nvbandwidth"]
    if said.get("error") and not said.get("testcases"):
        return {"error": str(said["error"])[-LAST:]}
    found: Dict[str, Any] = {"version": said.get("version"), "failed": [], "passed": 0}
    cases = {"host_to_device_memcpy_ce": "to_gpu_gbs", "device_to_host_memcpy_ce": "from_gpu_gbs",
             "device_to_device_memcpy_read_ce": "peer_gbs"}
    for case in said["testcases"]:
        cells = [float(cell) for row in case.get("bandwidth_matrix") or () for cell in row or () if cell != "N/A"]
        if case.get("status") not in ("Passed", "Waived"):
            found["failed"].append(f"{case['name']}: {case.get('error') or case.get('status')}")
            continue
        found["passed"] += case["status"] == "Passed"
        if cells and case["name"] in cases:
            found[cases[case["name"]]] = min(cells)
    return found


ROW = re.compile(r"^\s*(\d+)\s+\d+\s+\w+\s+\w+\s+-?\d+((?:\s+\S+){4,8})\s*$", re.M)


def nccl_tests(text: str) -> Dict[str, Any]:
    """gpus, bytes, busbw_gbs (the best out-of-place figure) and wrong of ``all_reduce_perf``.

    Rows are size, count, type, redop, root, then time, algbw, busbw, #wrong twice, out of place and in place; "N/A" where nothing
    was checked; a line "# Out of bounds values : 0 OK": https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md. Raises
    ValueError where there is no row.
    """
    rows = [(int(match.group(1)), match.group(2).split()) for match in ROW.finditer(text)]
    if not rows:
        raise ValueError("no row of figures")
    best = max(rows, key=lambda row: float(row[1][2]))
    wrong = sum(int(float(word)) for _size, row in rows for word in (row[3], *row[7:8]) if word != "N/A")
    outside = re.search(r"^# Out of bounds values : (\d+)", text, re.M)
    ranks = re.findall(r"^#\s+Rank\s+\d+ ", text, re.M)
    return {"gpus": len(ranks), "bytes": best[0], "busbw_gbs": float(best[1][2]),
            "wrong": max(wrong, int(outside.group(1)) if outside else 0)}
