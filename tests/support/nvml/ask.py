# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks NVML through nvidia-ml-py, in a process of its own: calls from stdin, answers to stdout, both JSON.

{"init": true, "calls": [["nvmlDeviceGetName", {"gpu": 0}], …]}. {"gpu": 0} is a GPU's handle, {"gpu": 0, "mig": 1} a
MIG device's. Besides NVML's calls: fields (handle, [[id, link], …]), fabric (call, structure, handle), xid (handle).
An answer is {"ok": value} or {"error": name of the exception}.
"""
from __future__ import annotations

import ctypes
import json
import sys
import warnings
from typing import Any, Callable, List

warnings.simplefilter("ignore")
import pynvml  # noqa: E402 - the inactive package of the same name warns on import, on stderr


def plain(value: Any) -> Any:
    """ctypes and pynvml's objects as JSON."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, ctypes.Structure):
        return {name: plain(getattr(value, name)) for name, *_type in value._fields_}
    if isinstance(value, ctypes._SimpleCData):
        return value.value
    if isinstance(value, ctypes._Pointer):
        return bool(value)
    if isinstance(value, (list, tuple, ctypes.Array)):
        return [plain(item) for item in value]
    return plain(vars(value)) if hasattr(value, "__dict__") else (
        {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value)


def handle(words: Any) -> Any:
    if not isinstance(words, dict):
        return words
    device = pynvml.nvmlDeviceGetHandleByIndex(words["gpu"])
    return pynvml.nvmlDeviceGetMigDeviceHandleByIndex(device, words["mig"]) if "mig" in words else device


def fields(device: Any, wanted: List[List[int]]) -> List[Any]:
    found = []
    names = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
    for value in pynvml.nvmlDeviceGetFieldValues(device, [tuple(pair) for pair in wanted]):
        if value.nvmlReturn:
            found.append({"error": type(pynvml.NVMLError(value.nvmlReturn)).__name__})
        else:
            found.append({"ok": getattr(value.value, names[value.valueType])})
    return found


def fabric(call: str, structure: str, device: Any) -> Any:
    found = getattr(pynvml, structure)()
    returned = getattr(pynvml, call)(device, ctypes.byref(found))
    words = plain(found)
    del words["clusterUuid"]
    return {"returned": returned, "struct": words}


def xid(device: Any) -> List[int]:
    """Every Xid that is told before the wait times out; the time-out where there is none."""
    events = pynvml.nvmlEventSetCreate()
    found: List[int] = []
    try:
        pynvml.nvmlDeviceRegisterEvents(device, pynvml.nvmlEventTypeXidCriticalError, events)
        while True:
            found.append(pynvml.nvmlEventSetWait_v2(events, 10).eventData)
    except pynvml.NVMLError_Timeout:
        if not found:
            raise
        return found
    finally:
        pynvml.nvmlEventSetFree(events)


def answer(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return {"ok": plain(call(*map(handle, arguments)))}
    except pynvml.NVMLError as exc:
        return {"error": type(exc).__name__}


def main() -> None:
    asked = json.load(sys.stdin)
    own = {"fields": fields, "fabric": fabric, "xid": xid}
    answers: List[Any] = []
    if asked["init"]:
        begun = answer(pynvml.nvmlInit)
    else:  # load the library only: what an uninitialised client sees
        pynvml._LoadNvmlLibrary()
        begun = {"ok": None}
    if "error" in begun:
        answers.append(begun)
    else:
        for name, *arguments in asked["calls"]:
            answers.append(answer(own.get(name) or getattr(pynvml, name), *arguments))
    json.dump(answers, sys.stdout)


main()
