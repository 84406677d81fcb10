# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One file's stream: bytes are hashed as they arrive, kept with checkpoints, taken up where they stopped. Private.

An unfinished file is ``<file>.part``; ``<file>.part.json`` beside it holds one JSON object a line: what the bytes are
known by, then checkpoints {offset, sha256 of all bytes before it, sources of them}, one every CHECKPOINT bytes. Who
resumes hashes the bytes again and goes on from the last checkpoint that proves right.
"""
from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from typing import Any, Callable, ContextManager, Protocol

from ansible_collections.idc.llm.plugins.module_utils._model_store import NOTES, PART, FileEntry
from ansible_collections.idc.llm.plugins.module_utils._source import Opened, SourceError, back_off, read_into
from ansible_collections.idc.llm.plugins.module_utils._store_files import (
    BUFFER,
    Hash,
    Proof,
    Stopped,
    make_folders,
    remove_file,
    write_text,
)

CHECKPOINT = 16 << 20
FEW = 1 << 20  # bytes of a growing file; after fewer of them it is given time to grow
GROW_POLL = 0.1  # seconds between two questions for more of a growing file
GROW_PATIENCE = 0.3  # seconds without more of it, from which on another peer may be ahead
PROGRESS_BYTES = 1 << 20  # a stream that brought so much before it broke starts counting its retries anew


class Part:
    """An unfinished file of the store: bytes on disk, and the hash of them. Not for two threads at once."""

    def __init__(self, target: str, entry: FileEntry, origin: str = "") -> None:
        """``origin``: the source whose bytes alone may be mixed, for an entry that is known by nothing else."""
        self.entry = entry
        self.sources: list[str] = []
        self.doubtful = False  # whether some bytes came from who had not proven them
        self.hash = Hash(entry)
        self._target, self._path, self._notes = target, target + PART, target + NOTES
        self._identity = entry.identity or f"read:{origin}"
        self._fd = -1
        self._next = CHECKPOINT

    @property
    def offset(self) -> int:
        """Bytes that are there."""
        return self.hash.size

    def open(self, alive: Callable[[], None]) -> int:
        """Take up what an earlier run left; returns bytes kept. ``alive`` raises when the run is over."""
        make_folders(os.path.dirname(self._target))
        checkpoints = self._read_notes()
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        os.fchmod(self._fd, 0o644)
        good, state = self.hash, self.hash.copy()
        view = memoryview(bytearray(BUFFER if checkpoints else 1))
        with os.fdopen(os.dup(self._fd), "rb", buffering=0) as stream:
            for row in checkpoints:
                while state.size < row["offset"]:
                    alive()
                    count = stream.readinto(view[:row["offset"] - state.size])
                    if not count:
                        break
                    state.update(view[:count])
                if state.size != row["offset"] or state.proof().sha256 != row["sha256"]:
                    break
                good, self.sources = state.copy(), list(row["sources"])
        self.hash = good
        self._next = good.size + CHECKPOINT
        os.ftruncate(self._fd, good.size)
        os.lseek(self._fd, good.size, os.SEEK_SET)
        kept = [row for row in checkpoints if row["offset"] <= good.size]
        write_text(self._notes, "".join(json.dumps(row) + "\n" for row in [{"of": self._identity}, *kept]), durable=False)
        return good.size

    def write(self, data: memoryview) -> None:
        """Add bytes: put them on disk, then hash them, so that a checkpoint never tells of bytes that a full disk lacks."""
        left = data
        while left:
            left = left[os.write(self._fd, left):]
        self.hash.update(data)
        if self.offset >= self._next:
            self._checkpoint()

    def problem(self) -> str | None:
        """What is wrong with all the bytes, or None."""
        return self.hash.proof().problem(self.entry)

    def publish(self) -> Proof:
        """Give the file its own name; it stands a power cut from then on."""
        os.fsync(self._fd)
        self.close()
        os.rename(self._path, self._target)
        remove_file(self._notes)
        return self.hash.proof()

    def discard(self) -> None:
        """Delete the bytes and begin anew, with the next write."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.hash, self.sources, self.doubtful, self._next = Hash(self.entry), [], False, CHECKPOINT
        write_text(self._notes, json.dumps({"of": self._identity}) + "\n", durable=False)

    def remove(self) -> None:
        """Delete it all."""
        self.close()
        remove_file(self._path)
        remove_file(self._notes)

    def close(self) -> None:
        """Close the file; what is there stays for the next run, but for what came after the last checkpoint."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def pause(self) -> None:
        """Close it with a checkpoint at the end, so that nothing of it has to be brought again; an empty one goes."""
        if self._fd >= 0 and not self.offset:
            self.remove()
        if self._fd >= 0:
            with suppress(OSError):  # a full disk is told by who met it first
                self._checkpoint()
        self.close()

    def _checkpoint(self) -> None:
        row = {"offset": self.offset, "sha256": self.hash.proof().sha256, "sources": self.sources}
        descriptor = os.open(self._notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            os.write(descriptor, (json.dumps(row) + "\n").encode("utf-8"))
        finally:
            os.close(descriptor)
        self._next = self.offset + CHECKPOINT

    def _read_notes(self) -> list[dict[str, Any]]:
        """Checkpoints of these very bytes in order; a torn last line is left out."""
        rows: list[dict[str, Any]] = []
        try:
            with open(self._notes, encoding="utf-8") as stream:
                if json.loads(stream.readline()).get("of") != self._identity:
                    return []
                for line in stream:
                    row = json.loads(line)
                    if not (rows[-1]["offset"] if rows else 0) < int(row["offset"]) <= self.entry.size:
                        break
                    rows.append({"offset": int(row["offset"]), "sha256": str(row["sha256"]), "sources": list(row["sources"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return rows


class Rate:
    """At most so many bytes a second, over all streams that share it; 0: no limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free_at = 0.0
        self._lock = threading.Lock()

    @property
    def step(self) -> int:
        """Bytes to take at once: a tenth of a second's, so that the flow is even."""
        return min(BUFFER, max(4096, self.limit // 10)) if self.limit else BUFFER

    def wait(self, count: int, pause: Callable[[float], None]) -> None:
        """Wait until ``count`` more bytes may have come."""
        if not self.limit:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self.limit
            late = self._free_at - now
        if late > 0:
            pause(late)


class Line:
    """What the streams of a run share: patience, speed, who counts, and whether the run goes on."""

    def __init__(self, retries: int = 0, limit_rate: int = 0) -> None:
        self.retries = retries
        self.rate = Rate(limit_rate)
        self.count: Callable[[str, int], None] = lambda source, count: None
        self.stop = threading.Event()

    def alive(self) -> None:
        """Raise Stopped when the run is over."""
        if self.stop.is_set():
            raise Stopped()

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is over."""
        self.stop.wait(seconds)
        self.alive()


class Openable(Protocol):
    """A file at one place; see _source.Remote."""

    def open(self, start: int = 0) -> ContextManager[Opened]:
        """Its bytes from ``start`` on."""


def bring(remote: Openable, source: str, part: Part, line: Line, retries: int) -> None:
    """All bytes of the part that are not there yet, from one source; they are not proven yet.

    A stream that breaks goes on from where it stopped, after a pause; a file that grows is followed. Raises SourceError
    (``kind`` "wrong": the length is not what was wanted; "behind": it grows no more), Stopped, OSError where the disk fails.
    """
    attempt, grew = 0, time.monotonic()
    while part.offset < part.entry.size or not part.entry.size:
        before, growing = part.offset, False
        try:
            with remote.open(part.offset) as opened:
                growing = opened.growing
                part.doubtful = part.doubtful or growing
                _pour(opened, source, part, line)
            if not growing:
                return
        except SourceError as exc:
            if exc.kind == "behind" and time.monotonic() - grew < GROW_PATIENCE:
                line.pause(GROW_POLL)
                continue
            attempt = 0 if part.offset - before >= PROGRESS_BYTES else attempt
            if not exc.passing or attempt >= retries:
                raise
            line.pause(back_off(attempt, exc.retry_after))
            attempt += 1
        grew = time.monotonic() if part.offset > before else grew
        if growing and part.offset - before < FEW:
            line.pause(GROW_POLL)


def _pour(opened: Opened, source: str, part: Part, line: Line) -> None:
    size = part.entry.size
    if opened.total is not None and opened.total != size and not (opened.growing and opened.total < size):
        words = f"longer than {size} bytes" if opened.total > size else f"{opened.total} bytes, wanted {size}"
        raise SourceError(f"it is {words}", "wrong")
    if source not in part.sources:
        part.sources.append(source)
    view = memoryview(bytearray(line.rate.step))
    skip = part.offset - opened.offset  # a server without ranges sends all of it again
    while True:
        line.alive()
        count = read_into(opened.stream, view)
        if not count:
            break
        line.rate.wait(count, line.pause)
        line.count(source, 0 if skip else count)
        fresh = view[min(skip, count):count]
        skip -= count - len(fresh)
        if part.offset + len(fresh) > size:
            raise SourceError(f"it is longer than {size} bytes", "wrong")
        if fresh:
            part.write(fresh)
    wanted = (opened.total or 0) if opened.growing else size
    if part.offset < wanted:
        raise SourceError(f"the stream ended after {part.offset} of {wanted} bytes", "cut")
