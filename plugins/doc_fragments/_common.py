# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that all modules of the collection share. Private to this collection."""
from __future__ import annotations


class ModuleDocFragment:
    """The shared argument and the shared attributes."""

    DOCUMENTATION = r"""
options:
  lang:
    description: Language of error messages.
    type: str
    choices: [en, zh]
    default: en
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and tells what it would change, changing nothing.
  diff_mode:
    support: full
    description: Returns details on what has changed (or would, in C(check_mode)) when in diff mode.
  platform:
    description: Systems this can run on.
    platforms: posix
    support: full
"""
