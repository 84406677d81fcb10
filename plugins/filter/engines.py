# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the playbooks that start engines."""
from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _batches


def engine_batches(plan: Mapping[str, Any], hostvars: Mapping[str, Any], hosts: Sequence[str],
                   size: int = 1) -> list[dict[str, list[str]]]:
    """The order in which these hosts bring up the plan's replicas, from what each host's look found."""
    looked: dict[str, str] = {}
    for host in hosts:
        looked.update(hostvars[host].get("__vllm_looked") or {})
    return _batches.engine_batches(plan["engines"], looked, size)


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        return {"engine_batches": engine_batches}
