# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting: for something to come true, for many at once."""
from __future__ import annotations

import threading
import time


def wait_for(what, seconds: float, pause: float = 1.0):
    """Call until it gives something true; the last answer after that many seconds at the latest."""
    deadline = time.monotonic() + seconds
    while True:
        got = what()
        if got or time.monotonic() > deadline:
            return got
        time.sleep(pause)


def together(count: int, ask):
    """What each of so many calls at once gave, in the order of their ends; ask: of its number."""
    answers = []
    threads = [threading.Thread(target=lambda number=number: answers.append(ask(number))) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
