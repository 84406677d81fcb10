# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet under test: two hosts with a replica over both, and a host for its gateway."""
from __future__ import annotations

import json

import pytest

from tests.support.group import NODES, Group, plan_of, play, variables


@pytest.fixture(scope="session")
def group(tmp_path_factory):
    """Containers and replica, gone at the end."""
    folder = tmp_path_factory.mktemp("group")
    (folder / "variables.yml").write_text(json.dumps(variables(folder)))
    try:
        play(folder, "molecule/shared/destroy.yml")  # what a run that was killed left
        for step in ("molecule/shared/create.yml", "molecule/drivers/prepare.yml", "tests/group/facts.yml"):
            made = play(folder, step)
            assert made.rc == 0, f"No fleet. Remedy: script/bootstrap fleet, which says what is missing.\n{made.output[-6000:]}"
        nccl = {name: json.loads((folder / f"{name}.json").read_text()) for name in NODES}
        (folder / "state/plan.json").write_text(json.dumps(plan_of(nccl)))
        yield Group(folder, play(folder, "tests/group/start.yml"))
    finally:
        gone = play(folder, "molecule/shared/destroy.yml")
    assert gone.rc == 0, gone.output[-4000:]
