# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the acceptance role's own variables."""
from __future__ import annotations

from ansible_collections.idc.llm.plugins.filter.acceptance import acceptance_wrong


def test_numbers_of_the_role():
    sound = {"seconds": 3, "dcgm_level": "0", "disk_mib": 64, "port": 29500}
    assert acceptance_wrong(sound) == []
    said = acceptance_wrong({"seconds": 0, "dcgm_level": 4, "disk_mib": "1e3", "port": True})
    assert [sentence.split()[1] for sentence in said] == [f"acceptance_{name}" for name in sound]
    assert all(sentence.startswith("IDC-INV-007") and "a whole number from" in sentence for sentence in said)
