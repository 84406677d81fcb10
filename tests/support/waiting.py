# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for something to come true."""
from __future__ import annotations

import time


def wait_for(what, seconds: float, pause: float = 1.0):
    """Call until it gives something true; the last answer after that many seconds at the latest."""
    deadline = time.monotonic() + seconds
    while True:
        got = what()
        if got or time.monotonic() > deadline:
            return got
        time.sleep(pause)
