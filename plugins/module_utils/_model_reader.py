# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a model's metadata: config.json, index and safetensors headers, never the weights. Private."""
from __future__ import annotations

import os
from typing import Any, Callable, Sequence
from urllib.parse import quote

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._model_fetch import Fetch, Settings
from ansible_collections.idc.llm.plugins.module_utils._model_metadata import (
    CONFIG,
    INDEX,
    LENGTH_BYTES,
    MetadataError,
    build,
    check,
    choose_weights,
    header_length,
    parse_header,
    parse_index,
    parse_object,
    tally,
)
from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry, Manifest, human_bytes, some
from ansible_collections.idc.llm.plugins.module_utils._source import Access, Remote, SourceError, read_up_to
from ansible_collections.idc.llm.plugins.module_utils._store_files import Hash, in_threads

WHOLE_LIMIT = 64 << 20  # bytes of config.json, the index (V3: 9 MB) or a file in metadata form
FIRST_LOOK = 1 << 20  # bytes asked for at once: nearly every header fits, so that a shard costs one request


def describe(fetch: Fetch, manifest: Manifest, place: str) -> dict[str, Any]:
    """The metadata of a manifest's files (sha256 "": not proven); IDC-FETCH-011/012 name file, source and ``place``."""
    entries = {entry.path: entry for entry in manifest.files}
    sources: list[str] = []

    def read_all(paths: Sequence[str], take: Callable[[FileEntry, Remote], Any]) -> list[Any]:
        used, values = _each(fetch, place, [entries[path] for path in paths], take)
        sources.extend(used)
        return values

    if CONFIG not in entries:
        raise IdcError("IDC-FETCH-012", place=place, missing=CONFIG)
    config = read_all([CONFIG], lambda entry, remote: parse_object(_whole(entry, remote)))[0]
    named = read_all([INDEX] if INDEX in entries else [], lambda entry, remote: parse_index(_whole(entry, remote)))
    weights = choose_weights({path: entry.size for path, entry in entries.items()}, named[0] if named else None)
    if weights.missing:
        raise IdcError("IDC-FETCH-012", place=place, missing=some(weights.missing))
    tallies = read_all(weights.shards, lambda entry, remote: tally(read_header(remote, entry.size)))
    source = f"{CONFIG} and {weights.basis} of {', '.join(dict.fromkeys(sources))}"
    return build(config, tallies if weights.shards else None, weights.bytes, weights.files, source)


def read_metadata(path: str, jobs: int = 4) -> dict[str, Any]:
    """The metadata that lies at ``path``: a JSON file in its form, or a folder with config.json and maybe weights.

    In the folder the headers of its safetensors files count, without them other weights' sizes, without them the
    index. Raises IDC-FETCH-011 to -014, which name the path and what is wrong.
    """
    try:
        if not os.path.isdir(path):
            return check(parse_object(_up_to_limit(Remote(folder_source(path), Access()))), path)
        with os.scandir(path) as found:
            files = tuple(FileEntry(item.name, item.stat().st_size, "") for item in found if item.is_file())
    except SourceError as exc:
        raise IdcError("IDC-FETCH-014", path=path, problem=exc.reason) from exc
    except MetadataError as exc:
        raise IdcError("IDC-FETCH-014", path=path, problem=str(exc)) from exc
    except OSError as exc:
        raise IdcError("IDC-FETCH-014", path=path, problem=exc.strerror or str(exc)) from exc
    return describe(local(path, jobs), Manifest(files), path)


def local(path: str, jobs: int) -> Fetch:
    """A way to a folder of this host alone."""
    return Fetch((folder_source(path),), Access(), Settings(jobs, retries=0))


def folder_source(path: str) -> str:
    """A path of this host as a source."""
    return "file://" + quote(os.path.abspath(path))


def _each(
    fetch: Fetch, place: str, entries: Sequence[FileEntry], take: Callable[[FileEntry, Remote], Any]
) -> tuple[list[str], list[Any]]:
    """``take`` of each file at the first source where it is right, several at once: sources, values."""

    def one(entry: FileEntry) -> tuple[str, Any] | None:
        def attempt(remote: Remote) -> Any:
            try:
                return take(entry, remote)
            except MetadataError as exc:
                raise SourceError(str(exc)) from exc

        return fetch.first(entry, attempt)

    found = in_threads(fetch.jobs, one, entries)
    missing = [entry.path for entry, answer in zip(entries, found) if answer is None]
    if missing:
        reasons = [row for row in fetch.rejected if row["path"] == missing[0]] or fetch.rejected
        raise IdcError(
            "IDC-FETCH-011",
            place=place,
            count=len(missing),
            files=some(missing),
            reasons="; ".join("{path} from {source}: {reason}".format(**row) for row in reasons) or "no source is given",
            rejected=fetch.rejected,
        )
    return [source for source, _value in found], [value for _source, value in found]


def read_header(remote: Remote, size: int) -> dict[str, Any]:
    """The header of a safetensors file of ``size`` bytes; reads no weights. Raises SourceError, MetadataError."""
    asked = min(FIRST_LOOK, size)
    while True:
        with remote.open(count=asked) as opened:
            length = header_length(read_up_to(opened.stream, LENGTH_BYTES), size)
            raw = read_up_to(opened.stream, length)
        if len(raw) == length:
            return parse_header(raw, size)
        if asked >= LENGTH_BYTES + length:
            raise SourceError(f"it ends after {LENGTH_BYTES + len(raw)} bytes, inside its header")
        asked = LENGTH_BYTES + length


def _whole(entry: FileEntry, remote: Remote) -> bytes:
    data = _up_to_limit(remote)
    state = Hash(entry)
    state.update(data)
    problem = state.proof().problem(entry)
    if problem:
        raise SourceError(problem)
    return data


def _up_to_limit(remote: Remote) -> bytes:
    with remote.open() as opened:
        data = read_up_to(opened.stream, WHOLE_LIMIT + 1)
    if len(data) > WHOLE_LIMIT:
        raise SourceError(f"it is larger than {human_bytes(WHOLE_LIMIT)}")
    return data
