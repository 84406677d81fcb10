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
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._firewall import network_errors

MANIFEST = "manifest.json"
PROGRESS = "progress.json"
PARTIAL, LOCK = ".partial-", ".lock-"  # before a revision's name: the fetch under way, the lock of who does it
PART, NOTES = ".part", ".part.json"  # an unfinished file, and its checkpoints
SCHEMA = 1
# what repeats the weights in another form, where safetensors are there
DUPLICATES = (
    "*.bin", "*.pt", "*.pth", "*.ckpt", "*.onnx", "*.onnx_data", "*.gguf", "*.h5", "*.msgpack", "*.ot", "*.tflite",
    "*.mlmodel", "*.mlpackage/*", "*.nemo", "original/*", "metal/*", "onnx/*", "openvino/*", "coreml/*",
)  # fmt: skip
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SHA1 = re.compile(r"[0-9a-f]{40}\Z")
_LICENSE = re.compile(r"(licen[sc]e|copying)([._-].*)?\Z", re.IGNORECASE)


def given_errors(given: Mapping[str, Any], host: str) -> list[IdcError]:
    """What is wrong with the role's variables. given: tls_certificate, tls_key, allowed_networks."""
    errors = network_errors("model_store_allowed_networks", given["allowed_networks"], host)
    if bool(given["tls_certificate"]) != bool(given["tls_key"]):
        errors.append(IdcError("IDC-FETCH-030", host=host))
    return errors


def revision_path(root: str, model: str, revision: str) -> str:
    """The folder of a published revision: the one place that says where a model lies."""
    return f"{root.rstrip('/')}/{model}/{revision}"


@dataclass(frozen=True)
class FileEntry:
    """One file of a manifest: relative path, bytes, hex sha256 ("": not known before it is read), the source it came
    from (None: not known), and git's id of its bytes ("": none), which a hub gives where it has no sha256."""

    path: str
    size: int
    sha256: str
    source: str | None = None
    git: str = ""

    @property
    def identity(self) -> str:
        """What its bytes are known by before they are there; "" where nothing is known."""
        return f"sha256:{self.sha256}" if self.sha256 else f"git:{self.git}" if self.git else ""


@dataclass(frozen=True)
class Manifest:
    """The files of one revision, sorted by path, and the commit that the revision stood for (None: not known)."""

    files: tuple[FileEntry, ...]
    commit: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    @property
    def license(self) -> str | None:
        """The path of the licence in the top folder, None where there is none."""
        return next((entry.path for entry in self.files if _LICENSE.match(entry.path)), None)

    def with_sources(self, sources: Mapping[str, str | None]) -> Manifest:
        """The same files, each saying which source it came from: {path: source}."""
        return replace(self, files=tuple(replace(entry, source=sources.get(entry.path)) for entry in self.files))

    def with_sha256(self, known: Mapping[str, str]) -> Manifest:
        """The same files, with what their reading told: {path: sha256}."""
        return replace(self, files=tuple(replace(e, sha256=known.get(e.path) or e.sha256) for e in self.files))

    def as_dict(self, model: str, revision: str) -> dict[str, Any]:
        """What stands in a published manifest.json; sha256 is null where it is not known yet, before a fetch."""
        files = [{"path": e.path, "size": e.size, "sha256": e.sha256 or None, "source": e.source} for e in self.files]
        head = {"schema": SCHEMA, "model": model, "revision": revision, "commit": self.commit, "license": self.license}
        return dict(head, files=files)

    def as_text(self, model: str, revision: str) -> str:
        """The text of a published manifest.json."""
        return json.dumps(self.as_dict(model, revision), indent=2, ensure_ascii=False) + "\n"


class ManifestError(Exception):
    """A manifest that cannot be trusted; the message says why."""


@dataclass(frozen=True)
class FetchPlan:
    """What a fetch does: files to bring, files already there, bytes that unfinished files already have."""

    todo: tuple[FileEntry, ...]
    kept: tuple[FileEntry, ...]
    begun: int = 0

    @property
    def size(self) -> int:
        """Bytes to bring."""
        return sum(entry.size for entry in self.todo) - self.begun


def parse_manifest(text: str | bytes, proven: bool = True) -> Manifest:
    """A manifest {"files": [{path, size, sha256}]}; raises ManifestError for one that is broken or not safe.

    ``proven`` False lets rows without a sha256 be, as a fetch under way may have them.
    """
    try:
        data = json.loads(text)
    except ValueError as exc:  # UnicodeDecodeError is one too
        raise ManifestError(f"it is not JSON: {exc}") from exc
    rows = data.get("files") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not rows:
        raise ManifestError("it lists no files")
    commit = data.get("commit")
    return build_manifest(rows, commit if isinstance(commit, str) else None, proven)


def build_manifest(rows: Sequence[Any], commit: str | None = None, proven: bool = True) -> Manifest:
    """A manifest of rows {path, size, sha256, source, git}, all checked; raises ManifestError."""
    entries = sorted((_entry(row, proven) for row in rows), key=lambda e: e.path)
    paths = {entry.path for entry in entries}
    if len(paths) != len(entries):
        raise ManifestError("it lists a path twice")
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in paths:
                raise ManifestError(f"{path!r} lies inside a path that is a file")
    return Manifest(tuple(entries), commit)


def _entry(row: Any, proven: bool) -> FileEntry:
    if not isinstance(row, dict):
        raise ManifestError("a row of files is not an object")
    path, size, sha256, git = row.get("path"), row.get("size"), row.get("sha256"), row.get("git") or ""
    if not isinstance(path, str) or not _safe(path):
        raise ManifestError(f"the path {path!r} is not a safe relative path")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ManifestError(f"{path!r} has no size in bytes")
    if not proven and not sha256:
        sha256 = ""
    elif not isinstance(sha256, str) or not _SHA256.match(sha256.lower()):
        raise ManifestError(f"{path!r} has no sha256")
    if not isinstance(git, str) or (git and not _SHA1.match(git.lower())):
        raise ManifestError(f"{path!r} has an object id that is not git's")
    source = row.get("source")
    return FileEntry(path, size, sha256.lower(), source if isinstance(source, str) else None, git.lower())


def _safe(path: str) -> bool:
    parts = path.split("/")
    clean = path.isprintable() and "\\" not in path and path not in (MANIFEST, PROGRESS)
    room = 255 - len(NOTES)  # a file name's bytes, with room for the name of its checkpoints
    good = not any(part in ("", ".", "..") or len(part.encode("utf-8")) > room for part in parts)
    return clean and good and not path.endswith((PART, NOTES))


def select(manifest: Manifest, include: Sequence[str], exclude: Sequence[str] | None) -> Manifest:
    """The files that are wanted. ``include`` []: all; ``exclude`` None: DUPLICATES where safetensors are there.

    Patterns are those of a shell, their ``*`` also stands for slashes, and one that ends with / means all below.
    """
    if exclude is None:
        exclude = DUPLICATES if any(entry.path.endswith(".safetensors") for entry in manifest.files) else ()

    def matches(path: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern) for pattern in patterns)

    wanted = [e for e in manifest.files if (not include or matches(e.path, include)) and not matches(e.path, exclude)]
    return replace(manifest, files=tuple(wanted))


def check_names(model: str, revision: str) -> None:
    """Refuse names that are not one folder each."""
    if not _MODEL.match(model):
        raise IdcError("IDC-FETCH-001", name="model", value=model, wanted="org/name")
    if not _REVISION.match(revision):
        raise IdcError("IDC-FETCH-001", name="revision", value=revision, wanted="letters, digits, . _ -")


def right_sized(manifest: Manifest, sizes: Mapping[str, int]) -> list[str]:
    """Paths that are there with their size; ``sizes`` is {path: bytes} of what is there."""
    return [entry.path for entry in manifest.files if sizes.get(entry.path) == entry.size]


def plan_fetch(manifest: Manifest, kept: Iterable[str], begun: Mapping[str, int] | None = None) -> FetchPlan:
    """What to bring; ``kept`` are the paths that are already right, ``begun`` {path: bytes} unfinished files."""
    there = set(kept)
    todo = tuple(e for e in manifest.files if e.path not in there)
    on_disk = sum(min((begun or {}).get(e.path, 0), e.size) for e in todo)
    return FetchPlan(todo, tuple(e for e in manifest.files if e.path in there), on_disk)


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
