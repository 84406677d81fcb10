# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sha256 of many files, as fast as the cores or the disk. Private to this collection.

Files are hashed where the page cache has them, without a copy. A disk that cannot give a page then kills who asked for
it (SIGBUS), so processes of their own do it, and a file that killed one is one that cannot be read.
"""
from __future__ import annotations

import hashlib
import mmap
import os
import struct
import tempfile
from contextlib import suppress
from typing import Dict, Mapping, Sequence

WINDOW = 4 << 20  # bytes hashed at once
AHEAD = 32 << 20  # bytes that the kernel is asked to have ready beyond those
_INDEX = struct.Struct("<I")
_NOTE = struct.Struct("<BI32s")  # begun (0), right (1) or cannot be read (2); index; sha256
_BEGUN, _DONE, _UNREADABLE = 0, 1, 2


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sha256_of_all(files: Mapping[str, int], workers: int) -> dict[str, str | None]:
    """{path: hex sha256} of {path: bytes}, None for one that cannot be read; the largest are begun first."""
    left = sorted(files, key=lambda path: -files[path])
    found: Dict[str, str | None] = {}
    while left:
        found.update(_round(left, max(1, min(workers, len(left)))))
        left = [path for path in left if path not in found]
    return found


def _round(paths: Sequence[str], workers: int) -> dict[str, str | None]:
    """One set of processes; a path that is not in the answer was not begun, since all of them died before."""
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as queue:  # the processes share its position: each read takes the next index
        queue.write(b"".join(_INDEX.pack(index) for index in range(len(paths))))
        queue.flush()
        queue.seek(0)
        children = []
        for _worker in range(workers):
            pid = os.fork()
            if not pid:
                _work(queue.fileno(), writer, paths)
            children.append(pid)
    os.close(writer)
    found: Dict[str, str | None] = {}
    with os.fdopen(reader, "rb") as notes:
        for raw in iter(lambda: notes.read(_NOTE.size), b""):
            kind, index, digest = _NOTE.unpack(raw)
            found[paths[index]] = digest.hex() if kind == _DONE else None
    for pid in children:
        os.waitpid(pid, 0)
    return found


def _work(queue: int, writer: int, paths: Sequence[str]) -> None:
    """A process's life; never returns."""
    try:
        while True:
            raw = os.read(queue, _INDEX.size)
            if len(raw) < _INDEX.size:
                os._exit(0)
            index = _INDEX.unpack(raw)[0]
            os.write(writer, _NOTE.pack(_BEGUN, index, bytes(32)))
            try:
                note = _NOTE.pack(_DONE, index, _sha256(paths[index]))
            except OSError:
                note = _NOTE.pack(_UNREADABLE, index, bytes(32))
            os.write(writer, note)
    finally:
        os._exit(1)


def _sha256(path: str) -> bytes:
    state = hashlib.sha256()
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if not size:
            return state.digest()
        with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            for start in range(0, size, WINDOW):
                if start % AHEAD == 0 and hasattr(mapped, "madvise"):
                    with suppress(OSError, ValueError):
                        mapped.madvise(mmap.MADV_WILLNEED, start, min(2 * AHEAD, size - start))
                with view[start:start + WINDOW] as part:
                    state.update(part)
    return state.digest()
