# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an engine died, read out of its journal: pure. Private to this collection."""
from __future__ import annotations

import re
from typing import Iterable

# vLLM's own prefix: "(EngineCore pid=7) ERROR 11-22 03:00:00 [core.py:1] "
_PREFIX = re.compile(
    r"^(\([^)]*pid=\d+\)\s*)?((DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\]\s?)?"
)
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|NotFound)\b(: .*)?$")
# Lines that name the cause by themselves, surest first.
_PLAIN = (
    re.compile(r"CUDA out of memory|OutOfMemoryError|out of memory", re.I),
    re.compile(r"oom-kill|killed by the OOM killer", re.I),
    re.compile(r"No available memory for the cache blocks|Free memory on device"),
    re.compile(r"Address already in use"),
    re.compile(r"cannot open shared object file"),
    re.compile(r"unrecognized arguments: |error: argument |the following arguments are required"),
    re.compile(r"Value error, "),
    re.compile(r"No space left on device"),
    re.compile(r"NVIDIA driver on your system is too old|Found no NVIDIA driver"),
)
# They only say that something else, further up, went wrong.
_WRAPPERS = re.compile(
    r"See root cause above|EngineDeadError|EngineCore encountered an issue|Cancelled|SystemExit|KeyboardInterrupt"
)
_SYSTEMD = re.compile(r"Main process exited|Failed at step|Failed to (?:execute|locate|set up|load)|status=\d+/")


def find_reason(lines: Iterable[str], secret: str = "") -> str:
    """The one line that says most about a death, at most 400 characters; "" = the journal says nothing.

    A known cause first, then the last exception that is no mere wrapper, then systemd's own words.
    """
    clean = [_PREFIX.sub("", line.strip(), count=1).strip() for line in lines]
    for pattern in _PLAIN:
        for line in reversed(clean):
            if pattern.search(line):
                return _tidy(line, secret)
    for test in (_is_cause, _EXCEPTION.match, _SYSTEMD.search):
        for line in reversed(clean):
            if test(line):
                return _tidy(line, secret)
    return ""


def _is_cause(line: str) -> bool:
    return bool(_EXCEPTION.match(line)) and not _WRAPPERS.search(line)


def _tidy(line: str, secret: str) -> str:
    line = line.replace(secret, "***") if secret else line
    return line if len(line) <= 400 else line[:400] + "…"
