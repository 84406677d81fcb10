# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on a host."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._acceptance import checks, verdict
from ansible_collections.idc.llm.plugins.module_utils._gpu import Gpu, NvmlView

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


def test_what_stands_in_the_verdict():
    found = verdict(NvmlView("ok", driver_version="580.1", gpus=(GOOD, SICK)), None, "2026-11-22T00:00:00Z")
    assert found["schema"] == 1
    assert (found["driver_version"], found["gpu_uuids"]) == ("580.1", ["GPU-a", "GPU-b"])
    assert found["checks"][0] == {"name": "driver_answers", "ok": True, "observed": "ok", "wanted": "ok"}
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
