# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources of a revision: a folder, on disk or served, or a hub; what each lists, and where each file is. Private."""
from __future__ import annotations

import json
import os
import threading
from abc import ABC, abstractmethod
from typing import Any, Callable, TypeVar
from urllib.parse import unquote, urlsplit

from ansible_collections.idc.llm.plugins.module_utils._hub import (
    DEFAULT_BRANCH,
    HF,
    LIST_LIMIT,
    RESERVED,
    Hub,
    HubError,
    Page,
    distinct,
    latest_commit,
    next_query,
    parse_commit,
    parse_files,
    parse_tree,
)
from ansible_collections.idc.llm.plugins.module_utils._model_store import (
    MANIFEST,
    NOTES,
    PART,
    FileEntry,
    Manifest,
    ManifestError,
    build_manifest,
    human_bytes,
    parse_manifest,
)
from ansible_collections.idc.llm.plugins.module_utils._source import Access, Opened, Remote, SourceError, join, read_up_to

MANIFEST_LIMIT = 64 << 20
PAGES = 1000
Answer = TypeVar("Answer")
Patience = Callable[[Callable[[], Any]], Any]  # runs its argument, again after failures that pass


class Origin(ABC):
    """A source by its name as it was given, the commit that it told (None: none), and whether a hub was asked for it."""

    def __init__(self, name: str, access: Access, patience: Patience) -> None:
        self.name = name
        self.commit: str | None = None
        self.asked_hub = False
        self._access, self._patience = access, patience

    @abstractmethod
    def listing(self) -> Manifest:
        """The revision's files; raises SourceError and ManifestError."""

    @abstractmethod
    def pin(self, commit: str) -> None:
        """Take files of this commit, whatever the revision has become."""

    @abstractmethod
    def remote(self, entry: FileEntry) -> Remote:
        """Where the file is; raises SourceError and ManifestError."""


class Folder(Origin):
    """A folder with a manifest.json, at file:///… or http(s)://…; on disk one without it, but with a config.json."""

    def listing(self) -> Manifest:
        try:
            data, _headers = self._patience(lambda: _read(Remote(join(self.name, MANIFEST), self._access)))
        except SourceError as exc:
            folder = unquote(urlsplit(self.name).path)
            if exc.kind == "missing" and self.name.startswith("file:") and os.path.isfile(os.path.join(folder, "config.json")):
                return scan(folder)
            raise
        return parse_manifest(data)

    def pin(self, commit: str) -> None:
        """A folder has no commits: its files are what they are."""

    def remote(self, entry: FileEntry) -> Remote:
        return Remote(join(self.name, entry.path), self._access)


class HubOrigin(Origin):
    """A model's revision on a hub. The revision is resolved once; all files are those of that commit."""

    def __init__(self, name: str, hub: Hub, model: str, revision: str, access: Access, patience: Patience) -> None:
        super().__init__(name, access, patience)
        self._hub, self._model = hub, model
        self._revision = hub.branch(revision)
        self._pinned: str | None = None
        self._own: dict[str, str] = {}  # ModelScope's {path: commit that changed it last}
        self._other: dict[str, FileEntry] | None = None  # the default branch's files, where the revision is unknown
        self._lock = threading.Lock()

    def listing(self) -> Manifest:
        with self._lock:
            return self._list(self._resolve())

    def pin(self, commit: str) -> None:
        with self._lock:
            self._pinned = self.commit = commit

    def remote(self, entry: FileEntry) -> Remote:
        """A hub that doesn't know the revision gives what has the same sha256 on its default branch."""
        with self._lock:
            if self._pinned is None and self._other is None:
                try:
                    self._resolve()
                    if self._hub.kind != HF:
                        self._list(self._revision)  # is the revision known? asked once, not file by file
                except SourceError as exc:
                    if exc.kind not in ("unknown", "missing") or not entry.sha256:
                        raise
                    self._pinned = self.commit = None
                    self._other = {e.path: e for e in self._list(DEFAULT_BRANCH[self._hub.kind]).files}
            revision = self.commit or self._own.get(entry.path) or self._pinned or self._revision
            if self._other is not None:
                seen = self._other.get(entry.path)
                if seen is None or not entry.sha256 or seen.sha256 != entry.sha256:
                    raise SourceError("it does not know the revision, and its default branch has no such file", "missing")
                revision = self.commit or self._own.get(entry.path) or DEFAULT_BRANCH[self._hub.kind]
        return Remote(self._hub.file_url(self._model, revision, entry.path), self._access)

    def _resolve(self) -> str:
        """The commit to fetch; for ModelScope, which does not tell it, the revision itself."""
        if self._pinned is None:
            self.asked_hub = True
            if self._hub.kind == HF:
                data, _headers = self._json(self._hub.revision_url(self._model, self._revision))
                self.commit = self._pinned = _hub_says(lambda: parse_commit(data))
            else:
                self._pinned = self._revision
        return self._pinned

    def _list(self, commit: str) -> Manifest:
        self.asked_hub = True
        rows = self._tree(commit) if self._hub.kind == HF else self._files(commit)
        if not rows:
            raise ManifestError("it lists no files")
        return build_manifest(distinct(rows), self.commit, proven=False)

    def _tree(self, commit: str) -> list[dict[str, Any]]:
        rows, query = [], ""
        for _page in range(PAGES):
            data, headers = self._json(self._hub.list_url(self._model, commit, query=query))
            rows += _hub_says(lambda data=data: parse_tree(data))  # type: ignore[misc]
            query = next_query(headers.get("Link") if headers else None)
            if not query:
                return rows
        raise ManifestError(f"its list of files has more than {PAGES} pages")

    def _files(self, revision: str) -> list[dict[str, Any]]:
        """A list at the limit may be cut: its folder is then asked for alone, and each folder in it whole."""
        pages, roots = [], [""]
        while roots:
            root = roots.pop()
            page = self._page(revision, root, recursive=True)
            if page.count >= LIST_LIMIT:
                page = self._page(revision, root, recursive=False)
                if page.count >= LIST_LIMIT:
                    raise ManifestError(f"its list of the folder {root or '/'} stops at {LIST_LIMIT} entries, so files are missing")
                roots += page.folders
            pages.append(page)
        self.commit = latest_commit(pages, revision)
        rows = [row for page in pages for row in page.rows]
        self._own = {str(row["path"]): row["revision"] for row in rows}
        return rows

    def _page(self, revision: str, root: str, recursive: bool) -> Page:
        data, _headers = self._json(self._hub.list_url(self._model, revision, root, recursive))
        return _hub_says(lambda: parse_files(data))

    def _json(self, url: str) -> tuple[Any, Any]:
        try:
            text, headers = self._patience(lambda: _read(Remote(url, self._access)))
        except SourceError as exc:
            if exc.kind == "missing":  # of a model or revision, not of a file
                raise SourceError(exc.reason, "unknown") from exc
            raise
        try:
            return json.loads(text), headers
        except ValueError as exc:
            raise ManifestError(f"its answer is not JSON: {exc}") from exc


def scan(folder: str) -> Manifest:
    """The files of a folder that has no manifest; what they are is known when they are read. Hidden ones don't count."""
    rows = []
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(base, name)
            below = os.path.relpath(path, folder)
            if not name.startswith(".") and not name.endswith((PART, NOTES)) and below not in RESERVED and os.path.isfile(path):
                rows.append({"path": below, "size": os.path.getsize(path)})
    return build_manifest(rows, proven=False)


def _read(remote: Remote) -> tuple[bytes, Any]:
    def whole(opened: Opened) -> bytes:
        data = read_up_to(opened.stream, MANIFEST_LIMIT + 1)
        if len(data) > MANIFEST_LIMIT:
            raise ManifestError(f"it is larger than {human_bytes(MANIFEST_LIMIT)}")
        if opened.total is not None and len(data) < opened.total:
            raise SourceError(f"the stream ended after {len(data)} of {opened.total} bytes", "cut")
        return data

    with remote.open() as opened:
        return whole(opened), opened.headers


def _hub_says(parse: Callable[[], Answer]) -> Answer:
    try:
        return parse()
    except HubError as exc:
        raise ManifestError(str(exc)) from exc
