# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role acceptance."""
from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible_collections.idc.llm.plugins.module_utils._acceptance import lines


def acceptance_lines(verdict: Mapping[str, Any]) -> list[str]:
    """The verdict in words: what it is, then each check that does not hold, each figure, and what became slower."""
    return lines(verdict)


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        return {"acceptance_lines": acceptance_lines}
