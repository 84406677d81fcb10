# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The input and output of a model store: lock, fetch, prove, publish, remove. Private to this collection."""
from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._model_store import (
    MANIFEST,
    FetchPlan,
    FileEntry,
    Manifest,
    ManifestError,
    check_space,
    human_bytes,
    parse_manifest,
    plan_fetch,
    right_sized,
    some,
)
from ansible_collections.idc.llm.plugins.module_utils._source import Access, SourceError, join, open_stream, read, read_up_to

CHUNK = 4 << 20
MANIFEST_LIMIT = 64 << 20
Rejected = Dict[str, str]  # {source, path, reason}


class Stopped(Exception):
    """Another file's writing failed; this one is given up."""


@dataclass(frozen=True)
class Store:
    """The places of one revision."""

    root: str
    model: str
    revision: str

    @property
    def folder(self) -> str:
        """The model's folder, which holds its revisions."""
        return os.path.join(self.root, *self.model.split("/"))

    @property
    def path(self) -> str:
        """The published revision."""
        return os.path.join(self.folder, self.revision)

    @property
    def partial(self) -> str:
        """The fetch under way."""
        return os.path.join(self.folder, ".partial-" + self.revision)

    @property
    def lock(self) -> str:
        """The lock file."""
        return os.path.join(self.folder, ".lock-" + self.revision)

    def published(self) -> Manifest | None:
        """The published manifest, or None where there is none that can be read."""
        try:
            with open(os.path.join(self.path, MANIFEST), "rb") as stream:
                return parse_manifest(stream.read())
        except (OSError, ManifestError):
            return None

    def complete(self) -> Manifest | None:
        """The published manifest if every file is there with its size (no weights are read), else None."""
        manifest = self.published()
        if manifest and len(right_sized(manifest, sizes(self.path, manifest))) == len(manifest.files):
            return manifest
        return None


@dataclass
class Fetch:
    """One run's way to its sources, and what it met there. ``rejected`` rows are {source, path, reason}."""

    sources: Sequence[str]
    access: Access
    jobs: int = 4
    rejected: list[Rejected] = field(default_factory=list)
    _dead: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def manifest(self, store: Store) -> Manifest:
        """The manifest of the first source that has a good one; the sources before it are not asked for files."""
        for source in self.sources:
            try:
                return self._read_manifest(source)
            except SourceError as exc:
                self._reject(source, MANIFEST, exc.reason)
            except ManifestError as exc:
                self._reject(source, MANIFEST, f"the manifest is refused: {exc}")
            self._dead.add(source)
        reasons = "; ".join("{source}: {reason}".format(**row) for row in self.rejected) or "no source is given"
        raise IdcError(
            "IDC-FETCH-003", model=store.model, revision=store.revision, reasons=reasons, rejected=self.rejected
        )

    def files(self, store: Store, entries: Sequence[FileEntry]) -> dict[str, str]:
        """Bring the files into the partial folder, proven; returns {path: source}. Raises when one has no source."""
        found = dict(zip((e.path for e in entries), in_threads(self.jobs, lambda e: self._file(store, e), entries)))
        missing = [path for path, source in found.items() if source is None]
        if missing:
            raise IdcError(
                "IDC-FETCH-005",
                model=store.model,
                revision=store.revision,
                count=len(missing),
                files=some(missing),
                reasons="; ".join(
                    "{path} from {source}: {reason}".format(**row)
                    for row in self.rejected
                    if row["path"] in (MANIFEST, missing[0])
                ),
                rejected=self.rejected,
            )
        return {path: source for path, source in found.items() if source is not None}

    def _read_manifest(self, source: str) -> Manifest:
        with open_stream(join(source, MANIFEST), self.access) as stream:
            data = read_up_to(stream, MANIFEST_LIMIT + 1)
        if len(data) > MANIFEST_LIMIT:
            raise ManifestError(f"it is larger than {human_bytes(MANIFEST_LIMIT)}")
        return parse_manifest(data)

    def first(self, path: str, take: Callable[[str], Any]) -> tuple[str, Any] | None:
        """The first source whose file at ``path`` is right, and what ``take`` makes of its URL; None where none is."""
        for source in self.sources:
            if self._stop.is_set():
                raise Stopped()
            if source in self._dead:
                continue
            try:
                return source, take(join(source, path))
            except SourceError as exc:
                self._reject(source, path, exc.reason)
                if exc.unreachable:
                    self._dead.add(source)
            except OSError:
                self._stop.set()
                raise
        return None

    def _file(self, store: Store, entry: FileEntry) -> str | None:
        target = os.path.join(store.partial, *entry.path.split("/"))

        def bring(url: str) -> None:
            try:
                self._download(url, target, entry)
            except SourceError:
                remove_file(target)
                raise

        found = self.first(entry.path, bring)
        return found[0] if found else None

    def _download(self, url: str, target: str, entry: FileEntry) -> None:
        with open_stream(url, self.access) as stream:
            make_folders(os.path.dirname(target))
            remove_file(target)
            digest, total = hashlib.sha256(), 0
            with open(target, "xb", buffering=0) as out:
                while True:
                    data = read(stream, CHUNK)
                    if not data:
                        break
                    if self._stop.is_set():
                        raise Stopped()
                    total += len(data)
                    if total > entry.size:
                        raise SourceError(f"it is longer than {entry.size} bytes")
                    digest.update(data)
                    _write_all(out, data)
                if total != entry.size:
                    raise SourceError(f"it is {total} bytes, wanted {entry.size}")
                if digest.hexdigest() != entry.sha256:
                    raise SourceError(f"its sha256 is {digest.hexdigest()}, wanted {entry.sha256}")
                os.fchmod(out.fileno(), 0o644)
                os.fsync(out.fileno())

    def _reject(self, source: str, path: str, reason: str) -> None:
        self.rejected.append({"source": source, "path": path, "reason": reason})


def fetch_and_publish(store: Store, fetch: Fetch, manifest: Manifest, min_free: int) -> tuple[Manifest, FetchPlan]:
    """Bring what is missing and publish it in one rename, or nothing; the caller holds the lock."""
    before = store.published()
    came_from = {e.path: e.source for e in before.files if e.source} if before else {}
    if os.path.isdir(store.path):  # published once, damaged since: what is still right is kept
        remove_tree(store.partial)
        os.rename(store.path, store.partial)
    make_folders(store.partial)
    plan = plan_fetch(manifest, keep_proven(store.partial, manifest, fetch.jobs))
    check_space(plan, free_bytes(store.partial), min_free, store.partial)
    came_from = {e.path: came_from[e.path] for e in plan.kept if e.path in came_from}
    came_from.update(fetch.files(store, plan.todo))
    published = manifest.with_sources(came_from)
    _write_manifest(store, published)
    for folder, _folders, _files in os.walk(store.partial):
        os.chmod(folder, 0o755)
        _sync_folder(folder)
    os.rename(store.partial, store.path)
    _sync_folder(store.folder)
    return published, plan


def keep_proven(partial: str, manifest: Manifest, jobs: int) -> list[str]:
    """Re-hash what an earlier run left, delete all that is not exactly a file of the manifest; returns paths kept."""
    for folder, folders, _files in os.walk(partial):
        for path in [os.path.join(folder, name) for name in folders]:
            if os.path.islink(path):
                os.unlink(path)
    have = sizes(partial, manifest)
    wrong = {e.path for e in wrong_files(partial, [e for e in manifest.files if e.path in have], jobs)}
    kept = [path for path in have if path not in wrong]
    targets = {os.path.join(partial, *path.split("/")) for path in kept}
    for folder, folders, files in os.walk(partial, topdown=False):
        for name in files + folders:
            path = os.path.join(folder, name)
            if name in files and path not in targets:
                os.unlink(path)
            elif name in folders and not os.listdir(path):
                os.rmdir(path)
    return kept


def wrong_files(folder: str, entries: Sequence[FileEntry], jobs: int) -> list[FileEntry]:
    """Those of the files whose size or sha256 is not the manifest's; reads every byte, in threads."""
    proven = in_threads(jobs, lambda entry: _is_right(folder, entry), entries)
    return [entry for entry, right in zip(entries, proven) if not right]


def verify(store: Store, jobs: int) -> Manifest:
    """Prove a published revision by reading every byte; raises naming the wrong files."""
    manifest = store.published()
    if manifest is None:
        raise IdcError("IDC-FETCH-007", model=store.model, revision=store.revision, path=store.path)
    wrong = wrong_files(store.path, manifest.files, jobs)
    if wrong:
        raise IdcError(
            "IDC-FETCH-008",
            model=store.model,
            revision=store.revision,
            count=len(wrong),
            total=len(manifest.files),
            files=some([entry.path for entry in wrong]),
            wrong=[entry.path for entry in wrong],
        )
    return manifest


def remove(store: Store) -> None:
    """Take a revision out of sight in one rename, then delete it and what a fetch left; the caller holds the lock."""
    remove_tree(store.partial)
    if os.path.isdir(store.path):
        os.rename(store.path, store.partial)
        remove_tree(store.partial)


@contextmanager
def locked(store: Store, wait_s: float) -> Iterator[None]:
    """Hold the revision's lock; waits up to ``wait_s`` seconds for another run, then refuses."""
    make_folders(store.folder)
    deadline = time.monotonic() + wait_s
    descriptor = None
    while descriptor is None:
        descriptor = _try_lock(store.lock)
        if descriptor is None:
            if time.monotonic() >= deadline:
                raise IdcError(
                    "IDC-FETCH-006", model=store.model, revision=store.revision, lock=store.lock, waited=f"{wait_s:g}"
                )
            time.sleep(0.1)
    try:
        yield
    finally:
        remove_file(store.lock)
        os.close(descriptor)


def _try_lock(path: str) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # the run that held it before removes the file: a lock on a removed file is worth nothing
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def sizes(folder: str, manifest: Manifest) -> dict[str, int]:
    """{path: bytes} of the manifest's files that are regular files there."""
    found = {}
    for entry in manifest.files:
        path = os.path.join(folder, *entry.path.split("/"))
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


def in_threads(jobs: int, work: Callable[[FileEntry], Any], entries: Sequence[FileEntry]) -> list[Any]:
    """``work`` of each entry, in order; the first failure that is not a consequence of another is raised."""
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(entries) or 1))) as pool:
        futures = [pool.submit(work, entry) for entry in entries]
    failures = [exc for exc in (future.exception() for future in futures) if exc is not None]
    for failure in failures:
        if not isinstance(failure, Stopped):
            raise failure
    return [future.result() for future in futures]


def _is_right(folder: str, entry: FileEntry) -> bool:
    path = os.path.join(folder, *entry.path.split("/"))
    try:
        if os.path.islink(path) or os.path.getsize(path) != entry.size:
            return False
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0) as stream:
            while True:
                data = stream.read(CHUNK)
                if not data:
                    return digest.hexdigest() == entry.sha256
                digest.update(data)
    except OSError:
        return False


def _write_all(out: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view):]


def _write_manifest(store: Store, manifest: Manifest) -> None:
    with open(os.path.join(store.partial, MANIFEST), "w", encoding="utf-8") as out:
        out.write(manifest.as_text(store.model, store.revision))
        out.flush()
        os.fchmod(out.fileno(), 0o644)
        os.fsync(out.fileno())


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
