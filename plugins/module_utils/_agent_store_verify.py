# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a part of the model store again and tells which files are no longer what they were proven to be.

Runs on the hosts, by itself and daily: standard library only, nothing of ansible, Python 3.9+. Each run takes the files that
were not read for the longest time, one in ``--days`` of all, so that each is read about once in so many days.

Exit status: 0 all known files are right, 1 some are wrong (named on stderr), 2 the store or the notes cannot be used.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

MANIFEST = "manifest.json"
NOTES = ".verify.json"
METRIC = "idc_llm_store_verify.prom"
BUFFER = 1 << 20  # bytes read and hashed at once


@dataclass(frozen=True)
class File:
    """One file of a published revision, as its manifest has it; path is relative to the store's root."""

    path: str
    size: int
    sha256: str
    revision: str  # the revision's folder, relative to the root


@dataclass(frozen=True)
class Note:
    """When a file was read last (seconds since the epoch), and what was wrong with it ("": nothing)."""

    at: float
    problem: str = ""


def revisions(root: str) -> Iterator[str]:
    """Published revisions, as ORG/NAME/REVISION; what is hidden is a fetch under way, a lock or ours."""
    for org in _folders(root):
        for name in _folders(os.path.join(root, org)):
            for revision in _folders(os.path.join(root, org, name)):
                folder = os.path.join(org, name, revision)
                if os.path.isfile(os.path.join(root, folder, MANIFEST)):
                    yield folder


def files_of(root: str, revision: str) -> list[File]:
    """The files that a revision's manifest lists; raises ValueError for a manifest that is none."""
    with open(os.path.join(root, revision, MANIFEST), encoding="utf-8") as stream:
        data = json.load(stream)
    try:
        rows = [(row["path"], int(row["size"]), row["sha256"].lower()) for row in data["files"]]
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError(f"it is not a manifest: {exc!r}") from exc
    for path, _size, _sha256 in rows:
        if os.path.isabs(path) or ".." in path.split("/"):
            raise ValueError(f"the path {path!r} leads out of the folder")
    return [File(f"{revision}/{path}", size, sha256, revision) for path, size, sha256 in rows]


def choose(files: Sequence[File], notes: Mapping[str, Note], days: int) -> list[File]:
    """One in ``days`` of the files, rounded up: those never read first, then those read longest ago."""
    count = -(-len(files) // max(1, days))
    return sorted(files, key=lambda f: (notes[f.path].at if f.path in notes else 0.0, f.path))[:count]


def problem(root: str, file: File) -> str:
    """What is wrong with a file, "" where nothing is; reads all of it, from the disk and not from memory."""
    path = os.path.join(root, file.path)
    try:
        with open(path, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != file.size:
                return f"it is {size} bytes, wanted {file.size}"
            # what the kernel remembers of it was right when it was written: the question is what the disk gives
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            seen = hashlib.sha256()
            view = memoryview(bytearray(BUFFER))
            for count in iter(lambda: stream.readinto(view), 0):
                seen.update(view[:count])
    except OSError as exc:
        return f"it cannot be read: {exc.strerror or exc}"
    return "" if seen.hexdigest() == file.sha256 else f"its sha256 is {seen.hexdigest()}, wanted {file.sha256}"


def busy(root: str, file: File) -> bool:
    """The revision is being changed or is gone, so that what was just seen says nothing."""
    parent, name = os.path.split(os.path.join(root, file.revision))
    return os.path.exists(os.path.join(parent, f".lock-{name}")) or not os.path.isfile(
        os.path.join(root, file.revision, MANIFEST))


def read_notes(path: str) -> dict[str, Note]:
    """{path: note} of earlier runs; none where there are none, or where they are torn."""
    try:
        with open(path, encoding="utf-8") as stream:
            rows = json.load(stream)["files"]
        return {name: Note(float(row["at"]), str(row["problem"])) for name, row in rows.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def notes_text(notes: Mapping[str, Note]) -> str:
    """What read_notes reads."""
    return json.dumps({"files": {name: {"at": n.at, "problem": n.problem} for name, n in sorted(notes.items())}}, indent=1) + "\n"


def metric_text(notes: Mapping[str, Note], now: float) -> str:
    """For node_exporter's textfile collector: https://github.com/prometheus/node_exporter#textfile-collector"""
    wrong = sum(bool(note.problem) for note in notes.values())
    rows = (
        ("files_verified", "Files of the store that were right when they were read last.", len(notes) - wrong),
        ("files_wrong", "Files of the store that were wrong when they were read last.", wrong),
        ("verified_timestamp_seconds", "When a part of the store was read last.", int(now)),
    )
    name = "idc_llm_store_"
    return "".join(f"# HELP {name}{key} {words}\n# TYPE {name}{key} gauge\n{name}{key} {value}\n" for key, words, value in rows)


def run(root: str, days: int, say: Callable[[str], None], now: Callable[[], float] = time.time) -> dict[str, Note]:
    """Read this run's part; the notes of all files that are still in the store. Writes nothing."""
    before = read_notes(os.path.join(root, NOTES))
    files: list[File] = []
    notes: dict[str, Note] = {}
    for revision in revisions(root):
        try:
            files += files_of(root, revision)
        except (OSError, ValueError) as exc:
            if os.path.isdir(os.path.join(root, revision)):
                notes[f"{revision}/{MANIFEST}"] = Note(now(), f"it cannot be read: {exc}")
    notes.update({file.path: before[file.path] for file in files if file.path in before})
    chosen = choose(files, before, days)
    for file in chosen:
        found = problem(root, file)
        if found and busy(root, file):
            notes.pop(file.path, None)
            continue
        notes[file.path] = Note(now(), found)
    say(f"read {len(chosen)} of {len(files)} files, {sum(file.size for file in chosen)} bytes")
    return notes


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Read a part of the model store again.")
    parser.add_argument("--root", required=True, help="the store's folder")
    parser.add_argument("--days", type=int, default=7, help="days in which each file is read once")
    parser.add_argument("--metrics-dir", default="", help="folder of node_exporter's textfile collector")
    options: Any = parser.parse_args(argv)
    try:
        os.listdir(options.root)
        notes = run(options.root, options.days, base.say)
        base.write(os.path.join(options.root, NOTES), notes_text(notes))
        if options.metrics_dir:
            base.write(os.path.join(options.metrics_dir, METRIC), metric_text(notes, time.time()))
    except OSError as exc:
        base.complain(f"the store cannot be verified: {exc}")
        return 2
    wrong = {name: note.problem for name, note in notes.items() if note.problem}
    for name, text in sorted(wrong.items()):
        base.complain(f"wrong: {os.path.join(options.root, name)}: {text}")
    return 1 if wrong else 0


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except (NotADirectoryError, FileNotFoundError):
        return []


if __name__ == "__main__":
    raise SystemExit(main())
