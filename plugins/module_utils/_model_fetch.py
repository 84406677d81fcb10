# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The input and output of a model store: fetch, prove, publish, remove. Private to this collection."""
from __future__ import annotations

import errno
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Sequence, TypeVar

from ansible_collections.idc.llm.plugins.module_utils._download import Line
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import Chooser
from ansible_collections.idc.llm.plugins.module_utils._fetch_engine import Brought, Engine, Ledger
from ansible_collections.idc.llm.plugins.module_utils._hash_pool import cores, sha256_of_all
from ansible_collections.idc.llm.plugins.module_utils._model_store import (
    LOCK,
    MANIFEST,
    NOTES,
    PART,
    PARTIAL,
    PROGRESS,
    FetchPlan,
    FileEntry,
    Manifest,
    ManifestError,
    check_space,
    parse_manifest,
    plan_fetch,
    revision_path,
    right_sized,
    select,
    some,
)
from ansible_collections.idc.llm.plugins.module_utils._origin import Folder, HubOrigin, Origin
from ansible_collections.idc.llm.plugins.module_utils._peers import Peers
from ansible_collections.idc.llm.plugins.module_utils._progress import Progress
from ansible_collections.idc.llm.plugins.module_utils._source import Access, Remote, SourceError, hub_of, patiently
from ansible_collections.idc.llm.plugins.module_utils._store_files import (
    Proof,
    free_bytes,
    in_threads,
    make_folders,
    place,
    prove,
    remove_tree,
    sizes,
    sync_folder,
    write_text,
)

ENDPOINTS = {"hf": "https://huggingface.co", "modelscope": "https://modelscope.cn"}
# what to say when all sources failed in the same way
_FAILURES = {
    "denied": "IDC-FETCH-015",
    "unknown": "IDC-FETCH-016",
    "dns": "IDC-FETCH-017",
    "tls": "IDC-FETCH-018",
    "wrong": "IDC-FETCH-024",
}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Store:
    """The places of one revision."""

    root: str
    model: str
    revision: str

    @property
    def folder(self) -> str:
        """The model's folder, which holds its revisions."""
        return os.path.dirname(self.path)

    @property
    def path(self) -> str:
        """The published revision."""
        return revision_path(self.root, self.model, self.revision)

    @property
    def partial(self) -> str:
        """The fetch under way."""
        return os.path.join(self.folder, PARTIAL + self.revision)

    @property
    def lock(self) -> str:
        """The lock file."""
        return os.path.join(self.folder, LOCK + self.revision)

    def published(self) -> Manifest | None:
        """The published manifest, or None where there is none that can be read."""
        return _read_manifest(self.path)

    def wanted(self) -> Manifest | None:
        """The manifest of the fetch under way, None where there is none that can be read."""
        return _read_manifest(self.partial, proven=False)

    def complete(self) -> Manifest | None:
        """The published manifest if every file is there with its size (no weights are read), else None."""
        manifest = self.published()
        if manifest and len(right_sized(manifest, sizes(self.path, manifest))) == len(manifest.files):
            return manifest
        return None

    def save(self, manifest: Manifest, durable: bool = True) -> None:
        """Write the partial folder's manifest."""
        write_text(os.path.join(self.partial, MANIFEST), manifest.as_text(self.model, self.revision), durable)


@dataclass(frozen=True)
class Settings:
    """How a run fetches; bytes, bytes a second, seconds."""

    jobs: int = 4
    retries: int = 5
    limit_rate: int = 0
    min_free: int = 0
    include: Sequence[str] = ()
    exclude: Sequence[str] | None = None
    metrics_dir: str | None = None


class Fetch:
    """One run's way to its sources, and what it met there: ``rejected`` rows are {source, path, reason}."""

    def __init__(
        self,
        sources: Sequence[str],
        access: Access,
        settings: Settings = Settings(),
        model: str = "",
        revision: str = "",
        peers: Sequence[str] = (),
        peer_self: str = "",
        endpoints: dict[str, str] | None = None,
        tokens: dict[str, str | None] | None = None,
    ) -> None:
        """``peer_self``: this host's store as its peers name it; with it they share the work. ``endpoints`` of the bare
        names of hubs; ``tokens`` {kind: token} of hubs that take another than the rest."""
        self.settings = settings
        self.line = Line(settings.retries, settings.limit_rate)
        self.ledger = Ledger()
        self._me = peer_self.rstrip("/")
        self.peers = Peers([url for url in peers if url.rstrip("/") != self._me], access, model, revision)
        self.listed_by: Origin | None = None
        self.origins: list[Origin] = []
        for source in sources:
            hub = hub_of(source, {**ENDPOINTS, **(endpoints or {})})
            if hub:
                own = replace(access, token=(tokens or {}).get(hub.kind, access.token))
                self.origins.append(HubOrigin(source, hub, model, revision, own, self.patiently))
            else:
                self.origins.append(Folder(source, access, self.patiently))

    @property
    def rejected(self) -> list[dict[str, str]]:
        """What a source gave wrongly or not at all, in the order it was met."""
        return self.ledger.rejected

    @property
    def jobs(self) -> int:
        """Streams at once."""
        return max(1, self.settings.jobs)

    def patiently(self, work: Callable[[], Answer]) -> Answer:
        """``work``, again after failures that pass."""
        return patiently(work, self.settings.retries, self.line.pause)

    def manifest(self, store: Store) -> Manifest:
        """The wanted files by the first source that lists them; the sources before it are not asked for files."""
        kinds = set()
        for origin in self.origins:
            try:
                listed = origin.listing()
                self.listed_by = origin
                wanted = select(listed, self.settings.include, self.settings.exclude)
                if not wanted.files:
                    raise IdcError("IDC-FETCH-022", model=store.model, revision=store.revision, count=len(listed.files))
                return wanted
            except SourceError as exc:
                failure = exc
            except ManifestError as exc:
                failure = SourceError(f"the manifest is refused: {exc}")
            self.ledger.reject(origin.name, MANIFEST, failure)
            self.ledger.dead.add(origin.name)
            kinds.add(failure.kind)
        reasons = "; ".join("{source}: {reason}".format(**row) for row in self.rejected) or "no source is given"
        raise IdcError(
            _code(kinds, "IDC-FETCH-003"), model=store.model, revision=store.revision, reasons=reasons, rejected=self.rejected
        )

    def first(self, entry: FileEntry, take: Callable[[Remote], Any]) -> tuple[str, Any] | None:
        """The first source whose file is right, and what ``take`` makes of it; None where none is."""
        for origin in self.origins:
            if origin.name in self.ledger.dead:
                continue
            try:
                return origin.name, self.patiently(lambda origin=origin: take(origin.remote(entry)))  # type: ignore[misc]
            except SourceError as exc:
                failure = exc
            except ManifestError as exc:
                failure = SourceError(str(exc), "unknown")
            self.ledger.reject(origin.name, entry.path, failure)
            if failure.dead:
                self.ledger.dead.add(origin.name)
        return None

    def files(self, store: Store, entries: Sequence[FileEntry], shared: Sequence[FileEntry], progress: Progress,
              done: Callable[[FileEntry, Brought], None], have: Sequence[str] = ()) -> dict[str, Brought]:
        """Bring the files into the partial folder, proven. Raises when one has no source.

        ``shared``: all files of the revision, as every host counts them; ``have``: those that are here already.
        """
        hosts = sorted({*self.peers.names, self._me}) if self._me else []
        chooser = Chooser([entry for entry in shared if entry.sha256], hosts, self._me, self.jobs)
        engine = Engine(store.partial, self.origins, self.peers, chooser, self.line, self.ledger)
        self.line.count = progress.count
        engine.began, engine.done = progress.keep, done
        engine.run(entries, self.jobs, have)
        if engine.missing:
            raise self._missing(store, [entry.path for entry in engine.missing])
        return engine.found

    def _missing(self, store: Store, paths: Sequence[str]) -> IdcError:
        reasons, kinds = self.ledger.about(paths[0])
        return IdcError(
            _code(kinds, "IDC-FETCH-005"),
            model=store.model,
            revision=store.revision,
            count=len(paths),
            files=some(paths),
            reasons=reasons or "no source is left",
            rejected=self.rejected,
        )


def _code(kinds: set[str], otherwise: str) -> str:
    return _FAILURES.get(next(iter(kinds)), otherwise) if len(kinds) == 1 else otherwise


def fetch_and_publish(store: Store, fetch: Fetch, manifest: Manifest) -> tuple[Manifest, FetchPlan]:
    """Bring what is missing and publish it in one rename, or nothing; the caller holds the lock."""
    old = store.published() or store.wanted() or Manifest(())
    if os.path.isdir(store.path):  # published once, damaged since: what is still right is kept
        remove_tree(store.partial)
        os.rename(store.path, store.partial)
    make_folders(store.partial)
    # what an earlier run learned by reading proves what it left, not what is read now
    nameless = {(entry.path, entry.size) for entry in manifest.files if not entry.identity}
    learned = {entry.path: entry.sha256 for entry in old.files if (entry.path, entry.size) in nameless}
    with Progress(store.partial, store.model, store.revision, fetch.settings.metrics_dir) as progress:
        progress.phase("proving", manifest.size, len(manifest.files))
        proofs = keep_proven(store.partial, manifest.with_sha256(learned), fetch.jobs, lambda e: progress.keep(e.size, 1))
        begun = sizes(store.partial, manifest, PART)
        plan = plan_fetch(manifest, proofs, begun)
        check_space(plan, free_bytes(store.partial), fetch.settings.min_free, store.partial)
        from_before = {entry.path: entry.source for entry in old.files if entry.path in proofs}
        current = manifest.with_sha256({path: proof.sha256 for path, proof in proofs.items()}).with_sources(from_before)
        notebook = Notebook(store, current)
        notebook.write()
        progress.phase("fetching")

        def done(entry: FileEntry, brought: Brought) -> None:
            progress.finished()
            notebook.note(entry, brought)

        try:
            fetch.files(store, plan.todo, manifest.files, progress, done, list(proofs))
        finally:
            notebook.write()
        progress.phase("publishing")
        published = notebook.manifest
        store.save(published)
        for folder, _folders, _files in os.walk(store.partial):
            os.chmod(folder, 0o755)
            sync_folder(folder)
    fetch.line.alive()  # the lock is still this run's
    os.rename(store.partial, store.path)
    sync_folder(store.folder)
    return published, plan


class Notebook:
    """The partial folder's manifest, which learns the source and sha256 of each file that is finished."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.manifest = manifest
        self._store = store
        self._written = 0.0
        self._lock = threading.Lock()

    def note(self, entry: FileEntry, brought: Brought) -> None:
        """One more file; written at most once a second."""
        known = replace(entry, source=brought.source, sha256=brought.proof.sha256)
        with self._lock:
            files = tuple(known if e.path == entry.path else e for e in self.manifest.files)
            self.manifest = replace(self.manifest, files=files)
            if time.monotonic() - self._written > 1.0:
                self.write()

    def write(self) -> None:
        """Put it on disk as it is now."""
        self._written = time.monotonic()
        self._store.save(self.manifest, durable=False)


def keep_proven(partial: str, manifest: Manifest, jobs: int, kept: Callable[[FileEntry], None]) -> dict[str, Proof]:
    """Re-hash what an earlier run left, delete all that is not a file of the manifest or the beginning of one.

    Returns {path: proof} of what is right, and tells ``kept`` each.
    """
    for folder, folders, files in os.walk(partial):
        for path in [os.path.join(folder, name) for name in folders + files]:
            if os.path.islink(path):
                os.unlink(path)

    def check(entry: FileEntry) -> Proof | None:
        proof = prove(place(partial, entry.path), entry) if entry.identity else None
        if proof is None or proof.problem(entry):
            return None
        kept(entry)
        return proof

    there = sizes(partial, manifest)
    found = in_threads(max(jobs, cores()), check, [entry for entry in manifest.files if entry.path in there])
    proofs = {path: proof for path, proof in zip(there, found) if proof}
    right = {place(partial, path) for path in proofs}
    for entry in manifest.files:
        if entry.path not in proofs:
            right.update(place(partial, entry.path) + ending for ending in (PART, NOTES))
    right.update(os.path.join(partial, name) for name in (MANIFEST, PROGRESS))
    for folder, folders, files in os.walk(partial, topdown=False):
        for name in files + folders:
            path = os.path.join(folder, name)
            if name in files and path not in right:
                os.unlink(path)
            elif name in folders and not os.listdir(path):
                os.rmdir(path)
    return proofs


def wrong_files(folder: str, entries: Sequence[FileEntry], jobs: int) -> list[FileEntry]:
    """Those of the files whose size or sha256 is not the manifest's; reads every byte, in processes."""
    there = sizes(folder, Manifest(tuple(entries)))
    sized = {place(folder, e.path): e.size for e in entries if there.get(e.path) == e.size}
    hashes = sha256_of_all(sized, jobs)
    return [entry for entry in entries if hashes.get(place(folder, entry.path)) != entry.sha256]


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


def disk_error(exc: OSError, root: str) -> IdcError:
    """The catalogue's words for a disk that does not do as it should."""
    codes = {errno.ENOSPC: "IDC-FETCH-019", errno.EDQUOT: "IDC-FETCH-019"}
    codes.update(dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "IDC-FETCH-020"))
    path = exc.filename if isinstance(exc.filename, str) else root
    return IdcError(codes.get(exc.errno or 0, "IDC-FETCH-009"), path=path, reason=exc.strerror or str(exc))


def _read_manifest(folder: str, proven: bool = True) -> Manifest | None:
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as stream:
            return parse_manifest(stream.read(), proven)
    except (OSError, ManifestError):
        return None
