# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model store is and what must be done to it: manifests, names, plans. Pure; private to this collection.

Layout: ``<root>/<org>/<name>/<revision>/`` is complete or absent, with ``manifest.json`` inside;
``.partial-<revision>/`` beside it is a fetch under way, ``.lock-<revision>`` the lock of who does it.
"""
from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

MANIFEST = "manifest.json"
SCHEMA = 1
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class FileEntry:
    """One file of a manifest: relative path, bytes, hex sha256, and the source it came from (None: not known)."""

    path: str
    size: int
    sha256: str
    source: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The files of one revision, sorted by path."""

    files: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    def with_sources(self, sources: Mapping[str, str]) -> Manifest:
        """The same files, each saying which source it came from: {path: source}."""
        return Manifest(tuple(FileEntry(e.path, e.size, e.sha256, sources.get(e.path)) for e in self.files))

    def as_dict(self, model: str, revision: str) -> dict[str, Any]:
        """What stands in a published manifest.json."""
        files = [{"path": e.path, "size": e.size, "sha256": e.sha256, "source": e.source} for e in self.files]
        return {"schema": SCHEMA, "model": model, "revision": revision, "files": files}

    def as_text(self, model: str, revision: str) -> str:
        """The text of a published manifest.json."""
        return json.dumps(self.as_dict(model, revision), indent=2, ensure_ascii=False) + "\n"


class ManifestError(Exception):
    """A manifest that cannot be trusted; the message says why."""


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch does: files to bring, bytes of them, files already there."""

    todo: tuple[FileEntry, ...]
    kept: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes to bring."""
        return sum(entry.size for entry in self.todo)


def parse_manifest(text: str | bytes) -> Manifest:
    """A manifest {"files": [{path, size, sha256}]}; raises ManifestError for one that is broken or not safe."""
    try:
        data = json.loads(text)
    except ValueError as exc:  # UnicodeDecodeError is one too
        raise ManifestError(f"it is not JSON: {exc}") from exc
    rows = data.get("files") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not rows:
        raise ManifestError("it lists no files")
    entries = sorted((_entry(row) for row in rows), key=lambda e: e.path)
    paths = {entry.path for entry in entries}
    if len(paths) != len(entries):
        raise ManifestError("it lists a path twice")
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in paths:
                raise ManifestError(f"{path!r} lies inside a path that is a file")
    return Manifest(tuple(entries))


def _entry(row: Any) -> FileEntry:
    if not isinstance(row, dict):
        raise ManifestError("a row of files is not an object")
    path, size, sha256 = row.get("path"), row.get("size"), row.get("sha256")
    if not isinstance(path, str) or not _safe(path):
        raise ManifestError(f"the path {path!r} is not a safe relative path")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestError(f"{path!r} has no size in bytes")
    if not isinstance(sha256, str) or not _SHA256.match(sha256.lower()):
        raise ManifestError(f"{path!r} has no sha256")
    source = row.get("source")
    return FileEntry(path, size, sha256.lower(), source if isinstance(source, str) else None)


def _safe(path: str) -> bool:
    parts = path.split("/")
    clean = path.isprintable() and "\\" not in path and path != MANIFEST
    return clean and not any(part in ("", ".", "..") or len(part.encode("utf-8")) > 255 for part in parts)


def check_names(model: str, revision: str) -> None:
    """Refuse names that are not one folder each."""
    if not _MODEL.match(model):
        raise IdcError("IDC-FETCH-001", name="model", value=model, wanted="org/name")
    if not _REVISION.match(revision):
        raise IdcError("IDC-FETCH-001", name="revision", value=revision, wanted="letters, digits, . _ -")


def right_sized(manifest: Manifest, sizes: Mapping[str, int]) -> list[str]:
    """Paths that are there with their size; ``sizes`` is {path: bytes} of what is there."""
    return [entry.path for entry in manifest.files if sizes.get(entry.path) == entry.size]


def plan_fetch(manifest: Manifest, kept: Iterable[str]) -> FetchPlan:
    """What to bring; ``kept`` are the paths that are already right."""
    there = set(kept)
    return FetchPlan(
        tuple(e for e in manifest.files if e.path not in there), tuple(e for e in manifest.files if e.path in there)
    )


def check_space(plan: FetchPlan, free: int, min_free: int, path: str) -> None:
    """Refuse a fetch that leaves less than ``min_free`` of the ``free`` bytes at ``path``."""
    if plan.todo and plan.size + min_free > free:
        raise IdcError(
            "IDC-FETCH-004",
            path=path,
            needed=human_bytes(plan.size),
            spare=human_bytes(min_free),
            free=human_bytes(free),
            short=human_bytes(plan.size + min_free - free),
        )


def some(paths: Sequence[str], limit: int = 5) -> str:
    """The first paths, and how many more there are."""
    more = len(paths) - limit
    return ", ".join(paths[:limit]) + (f" and {more} more" if more > 0 else "")


def human_bytes(count: int) -> str:
    """Bytes for a person, decimal units: 688586727753 -> '688.6 GB'."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
