# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and folders of a store: sizes, hashes, making and removing. Private to this collection."""
from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Sequence, TypeVar

from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry, Manifest

BUFFER = 256 << 10  # bytes read, hashed and written at once: they stay in a core's cache in between
Item = TypeVar("Item")


class Stopped(Exception):
    """Another file's writing failed; this one is given up."""


@dataclass(frozen=True)
class Proof:
    """What the bytes of a file are: number, hex sha256, git's id of them ("": not asked for)."""

    size: int
    sha256: str
    git: str = ""

    def problem(self, entry: FileEntry) -> str | None:
        """What is wrong with them, or None."""
        if self.size != entry.size:
            return f"it is {self.size} bytes, wanted {entry.size}"
        if entry.sha256 and self.sha256 != entry.sha256:
            return f"its sha256 is {self.sha256}, wanted {entry.sha256}"
        if entry.git and self.git != entry.git:
            return f"its git id is {self.git}, wanted {entry.git}"
        return None


class Hash:
    """sha256 of bytes as they come, and git's id where the entry has one; both release the interpreter's lock."""

    def __init__(self, entry: FileEntry) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        # git's name of the bytes, not a safeguard of ours: sha1 is all that a hub gives for small files
        self._git = hashlib.sha1(b"blob %d\0" % entry.size) if entry.git else None

    def update(self, data: Any) -> None:
        """Take in more bytes."""
        self._sha256.update(data)
        if self._git:
            self._git.update(data)
        self.size += len(data)

    def copy(self) -> Hash:
        """The same state, apart."""
        twin = object.__new__(Hash)
        twin.size, twin._sha256, twin._git = self.size, self._sha256.copy(), self._git.copy() if self._git else None
        return twin

    def proof(self) -> Proof:
        """What came so far."""
        return Proof(self.size, self._sha256.hexdigest(), self._git.hexdigest() if self._git else "")


def prove(path: str, entry: FileEntry) -> Proof | None:
    """The proof of a file whose size is right, None for any other or one that cannot be read."""
    try:
        if os.path.islink(path) or os.path.getsize(path) != entry.size:
            return None
        state = Hash(entry)
        with open(path, "rb", buffering=0) as stream:
            view = memoryview(bytearray(min(BUFFER, entry.size or 1)))
            while True:
                count = stream.readinto(view)
                if not count:
                    return state.proof()
                state.update(view[:count])
    except OSError:
        return None


def place(folder: str, path: str) -> str:
    """Where a manifest's path lies in a folder."""
    return os.path.join(folder, *path.split("/"))


def sizes(folder: str, manifest: Manifest, ending: str = "") -> dict[str, int]:
    """{path: bytes} of the manifest's files that are regular files there; ``ending`` is added to their names."""
    found = {}
    for entry in manifest.files:
        path = place(folder, entry.path) + ending
        if os.path.isfile(path) and not os.path.islink(path):
            found[entry.path] = os.path.getsize(path)
    return found


def free_bytes(path: str) -> int:
    """Bytes a fetch may use on the file system of the path or of its nearest folder that exists."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    answer = os.statvfs(path)
    return answer.f_bavail * answer.f_frsize


def make_folders(path: str) -> None:
    """Create the folder and those above it that are missing, 0755 whatever the umask."""
    if os.path.isdir(path):
        return
    make_folders(os.path.dirname(path))
    try:
        os.mkdir(path)
        os.chmod(path, 0o755)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def remove_file(path: str) -> None:
    """Remove a file that may be absent."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def remove_tree(path: str) -> None:
    """Remove a folder that may be absent."""
    if os.path.isdir(path):
        shutil.rmtree(path)


def write_text(path: str, text: str, durable: bool = True) -> None:
    """Put a file there whole, 0644, or leave the one before; ``durable``: it stands a power cut."""
    folder, name = os.path.split(path)
    handle, beside = tempfile.mkstemp(".tmp", f".{name}.", folder)  # a name that nobody can have put there before
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fchmod(out.fileno(), 0o644)
            if durable:
                os.fsync(out.fileno())
        os.rename(beside, path)
    except OSError:
        remove_file(beside)
        raise


def sync_folder(path: str) -> None:
    """Make the names in a folder stand a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def in_threads(jobs: int, work: Callable[[Item], Any], items: Sequence[Item]) -> list[Any]:
    """``work`` of each item, in order; the first failure that is not a consequence of another is raised."""
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(items) or 1))) as pool:
        futures = [pool.submit(work, item) for item in items]
    failures = [exc for exc in (future.exception() for future in futures) if exc is not None]
    for failure in failures:
        if not isinstance(failure, Stopped):
            raise failure
    return [future.result() for future in futures]
