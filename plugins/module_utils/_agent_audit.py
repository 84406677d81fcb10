# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit log's chain, by which a changed or missing day is seen, and what tenants used by it.

Runs on gateways: standard library only, nothing of ansible, Python 3.9+.

    audit.py chain FOLDER     adds each log that is finished to FOLDER/audit.chain, then verifies
    audit.py verify FOLDER    says what is not as the chain has it
    audit.py usage FOLDER     requests and tokens by day and tenant, as JSON

A line of the chain holds a log's name, its count of lines, bytes and SHA-256 (of the text, so that compression changes nothing),
and the SHA-256 of the line before. Who changes a log must rewrite every later line, and whoever kept one line elsewhere (each goes
to the journal) sees it.

Exit status: 0; 1 something is not as the chain has it; 2 a file cannot be used.
"""
from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import re
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Iterator, Mapping, Optional, Sequence

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

CHAIN = "audit.chain"
LIVE = "audit.log"
FINISHED = re.compile(r"audit\.log-(\d{8})(-\d+)?(\.gz)?")
CALM_S = 600  # a log that nobody wrote to for so long is finished: a worker may write for a moment after the rotation
GETFLAGS, SETFLAGS, APPEND = 0x80086601, 0x40086602, 0x20  # linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_APPEND_FL


def finished(folder: str) -> dict[str, str]:
    """{name without .gz: path} of the rotated logs, oldest first."""
    found = {name[:-3] if name.endswith(".gz") else name: os.path.join(folder, name)
             for name in sorted(os.listdir(folder)) if FINISHED.fullmatch(name)}
    return dict(sorted(found.items()))


def text_of(path: str) -> Iterator[bytes]:
    """The lines of a log, packed or not."""
    with (gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")) as stream:
        yield from stream


def measure(path: str) -> dict[str, Any]:
    """lines, bytes, sha256 of a log's text."""
    digest, lines, size = hashlib.sha256(), 0, 0
    for line in text_of(path):
        digest.update(line)
        lines += 1
        size += len(line)
    return {"lines": lines, "bytes": size, "sha256": digest.hexdigest()}


def read_chain(folder: str) -> list[str]:
    """The chain's lines; none where it has not begun. What a crash has torn is no line: its log is added anew."""
    try:
        with open(os.path.join(folder, CHAIN), encoding="utf-8") as stream:
            return [line for line in stream.read().split("\n") if _entry(line)]
    except FileNotFoundError:
        return []


def _entry(line: str) -> Optional[Mapping[str, Any]]:
    with suppress(ValueError, TypeError, KeyError):
        row = json.loads(line)
        return row if isinstance(row["file"], str) and isinstance(row["previous"], str) else None
    return None


def link(line: str) -> str:
    """What the next line says of this one."""
    return hashlib.sha256(line.encode()).hexdigest() if line else ""


def extend(folder: str, now: float) -> list[str]:
    """Add what is finished and not in the chain yet; the new lines."""
    lines = read_chain(folder)
    known, last, added = {json.loads(line)["file"] for line in lines}, lines[-1] if lines else "", []
    for name, path in finished(folder).items():
        if name not in known and now - os.stat(path).st_mtime >= CALM_S:
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
            last = json.dumps({"file": name, **measure(path), "at": at, "previous": link(last)})
            added.append(last)
    if added:
        descriptor = os.open(os.path.join(folder, CHAIN), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write("\n" + "".join(line + "\n" for line in added))  # first the end of what a crash may have torn
            stream.flush()
            os.fsync(descriptor)
            append_only(descriptor)
    return added


def append_only(descriptor: int) -> bool:
    """Let the file only grow from now on, where the file system and the process's rights allow (ext4, XFS; CAP_LINUX_IMMUTABLE)."""
    with suppress(OSError):
        flags = struct.unpack("l", fcntl.ioctl(descriptor, GETFLAGS, struct.pack("l", 0)))[0]
        if not flags & APPEND:
            fcntl.ioctl(descriptor, SETFLAGS, struct.pack("l", flags | APPEND))
        return True
    return False


def verify(folder: str, keep_days: int, now: float) -> list[str]:
    """Sentences about what is not as the chain has it; a log that is older than ``keep_days`` may be gone."""
    wrong, before, present = [], "", finished(folder)
    for line in read_chain(folder):
        row = json.loads(line)
        name = row["file"]
        if row["previous"] != link(before):
            wrong.append(f"{name}: its line of the chain does not follow the one before: a line was changed or taken out")
        before = line
        if name not in present:
            if now - day(name) < keep_days * 86400:
                wrong.append(f"{name}: missing, and not {keep_days} days old")
        else:
            seen = measure(present[name])
            if any(seen[key] != row.get(key) for key in seen):
                wrong.append(f"{name}: changed: {seen['lines']} lines and {seen['bytes']} bytes, "
                             f"the chain has {row.get('lines')} and {row.get('bytes')}")
    return wrong


def day(name: str) -> float:
    """Seconds since the epoch of the date in a log's name."""
    match = FINISHED.fullmatch(name)
    return float(time.mktime(time.strptime(match.group(1), "%Y%m%d"))) if match else 0.0


def usage(folder: str, since: str, until: str) -> list[dict[str, Any]]:
    """Rows by day, tenant, deployment: requests, refused, prompt_tokens, completion_tokens, estimated (requests whose tokens are).

    Days as the log's own times have them, from ``since`` to ``until`` with both.
    """
    count: Counter[tuple[str, str, str, str]] = Counter()
    for path in [*finished(folder).values(), os.path.join(folder, LIVE)]:
        if not os.path.exists(path):
            continue
        for line in text_of(path):
            row = _row(line)
            if row is None or not since <= row["time"][:10] <= until:
                continue
            key = (row["time"][:10], row.get("tenant") or "", row.get("deployment") or "")
            for name, value in _figures(row).items():
                count[(*key, name)] += value
    names = ("requests", "refused", "prompt_tokens", "completion_tokens", "estimated")
    return [{"day": key[0], "tenant": key[1], "deployment": key[2], **{name: count[(*key, name)] for name in names}}
            for key in sorted({key[:3] for key in count})]


def _row(line: bytes) -> Optional[Mapping[str, Any]]:
    with suppress(ValueError, UnicodeDecodeError):
        row = json.loads(line)
        if isinstance(row, dict) and isinstance(row.get("time"), str):
            return row
    return None


def _figures(row: Mapping[str, Any]) -> dict[str, int]:
    def number(name: str) -> int:
        return int(row[name]) if str(row.get(name, "")).isdigit() else 0
    return {"requests": 1, "refused": int(str(row.get("status", "")) in ("401", "403", "429")),
            "prompt_tokens": number("prompt_tokens"), "completion_tokens": number("completion_tokens"),
            "estimated": int(row.get("tokens_from") == "estimated")}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="The audit log's chain, and what tenants used.")
    parser.add_argument("action", choices=["chain", "verify", "usage"])
    parser.add_argument("folder")
    parser.add_argument("--keep-days", type=int, default=190, help="for so long a log has to be there")
    parser.add_argument("--since", default="0000-00-00", help="first day, 2026-11-01")
    parser.add_argument("--until", default="9999-99-99", help="last day")
    options: Any = parser.parse_args(argv)
    try:
        if options.action == "usage":
            base.say(json.dumps(usage(options.folder, options.since, options.until)))
            return 0
        if options.action == "chain":
            for line in extend(options.folder, time.time()):
                base.say(line)
        wrong = verify(options.folder, options.keep_days, time.time())
    except (OSError, ValueError, KeyError, EOFError) as error:
        base.complain(f"the audit log cannot be used: {error}")
        return 2
    for sentence in wrong:
        base.complain(sentence)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
