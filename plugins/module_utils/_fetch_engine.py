# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many streams at once into a partial folder: each file from whoever has it right, until all are proven. Private.

What to bring next and from where is _fetch_choice's to say; this carries it out and remembers who failed.
"""
from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._download import Line, Openable, Part, bring
from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import Assignment, Chooser, View
from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry, ManifestError
from ansible_collections.idc.llm.plugins.module_utils._origin import Origin
from ansible_collections.idc.llm.plugins.module_utils._peers import Peers
from ansible_collections.idc.llm.plugins.module_utils._source import SourceError
from ansible_collections.idc.llm.plugins.module_utils._store_files import Proof, in_threads, place

POLL = 0.5  # seconds between two questions to a chooser that had nothing to begin
PEER_POLL = 0.06  # the same where peers may be free again at any moment, over all idle streams
MISSES = 3  # failures of a peer for one file, until it is not asked for it again
Rejected = Dict[str, str]  # {source, path, reason}


class Ledger:
    """What a run met, for its result. ``rejected`` rows are {source, path, reason}; ``dead`` sources are asked no more."""

    def __init__(self) -> None:
        self.rejected: list[Rejected] = []
        self.dead: set[str] = set()
        self._kinds: list[str] = []

    def reject(self, source: str, path: str, exc: SourceError) -> None:
        """Note a failure."""
        self.rejected.append({"source": source, "path": path, "reason": exc.reason})
        self._kinds.append(exc.kind)

    def about(self, path: str) -> Tuple[str, set[str]]:
        """Why nobody gives the file, in words, and the kinds of these failures: its own, and those of dead sources."""
        rows = [(row, kind) for row, kind in zip(self.rejected, self._kinds) if row["path"] == path or row["source"] in self.dead]
        words = "; ".join("{path} from {source}: {reason}".format(**row) for row, _kind in rows)
        return words, {kind for _row, kind in rows}


@dataclass(frozen=True)
class Brought:
    """A file that is here: who gave its bytes last, and the proof of them."""

    source: str
    proof: Proof


class Engine:
    """One run's streams. ``began`` and ``done`` are told bytes found on disk, and each file that is proven."""

    def __init__(
        self, folder: str, origins: Sequence[Origin], peers: Peers, chooser: Chooser, line: Line, ledger: Ledger
    ) -> None:
        self._folder, self._peers, self._chooser, self._line, self._ledger = folder, peers, chooser, line, ledger
        self._origins = {origin.name: origin for origin in origins}
        self._changed = threading.Condition()
        self._todo: list[FileEntry] = []
        self._all: Tuple[FileEntry, ...] = ()
        self._busy: Dict[str, str] = {}
        self._have: FrozenSet[str] = frozenset()
        self._jobs = 1
        self._parts: Dict[str, Part] = {}
        self._bad: set[Tuple[str, str]] = set()
        self._solid: set[str] = set()
        self._trusted: set[str] = set()
        self._liars: set[str] = set()
        self._misses: Counter[Tuple[str, str]] = Counter()
        self._doubtful = True  # whether a file may have become hopeless since it was looked at last
        self.began: Callable[[int], None] = lambda count: None
        self.done: Callable[[FileEntry, Brought], None] = lambda entry, brought: None
        self.found: Dict[str, Brought] = {}
        self.missing: list[FileEntry] = []

    def run(self, entries: Sequence[FileEntry], jobs: int, have: Sequence[str] = ()) -> None:
        """Fill ``found`` and ``missing``; ``have``: paths that are here already. Raises OSError where the disk fails."""
        self._have, self._jobs = frozenset(have), jobs
        self._all, self._todo = tuple(entries), list(entries)
        self._peers.look(self._all)
        self._peers.watch(self._all, self._news)
        try:
            in_threads(jobs, lambda _number: self._work(), range(max(1, min(jobs, len(entries)))))
        finally:
            self._peers.stop()
            for part in self._parts.values():
                part.pause()

    def _news(self) -> None:
        """A peer has more, or less, than before. One idle stream looks; if it finds work it wakes the next."""
        with self._changed:
            self._doubtful = True
            self._changed.notify()

    def _work(self) -> None:
        try:
            while True:
                assignment = self._next()
                if assignment is None:
                    return
                self._carry_out(assignment)
        except BaseException:
            self._line.stop.set()
            with self._changed:
                self._changed.notify_all()
            raise

    def _next(self) -> Assignment | None:
        with self._changed:
            while True:
                self._line.alive()
                for entry in self._view().hopeless() if self._doubtful else ():
                    self._todo.remove(entry)
                    self.missing.append(entry)
                self._doubtful = False
                if not self._todo and not self._busy:
                    self._changed.notify_all()
                    return None
                view = self._view()
                choice = (_unshared(view) or self._chooser.next(view)) if self._todo else None
                if choice is not None:
                    self._todo.remove(choice.entry)
                    self._busy[choice.entry.path] = choice.source
                    self._changed.notify()
                    return choice
                self._changed.wait(PEER_POLL * self._jobs if self._peers else POLL)

    def _view(self) -> View:
        return View(
            tuple(self._todo),
            self._have.union(self.found),
            tuple(self._busy.items()),
            self._peers.files(),
            tuple(name for name in self._origins if name not in self._ledger.dead),
            frozenset(self._bad),
            {path: part.offset for path, part in dict(self._parts).items()},  # a copy: other streams begin and end files
            frozenset(self._solid),
            frozenset(self._trusted),
            frozenset(self._liars),
            time.monotonic(),
        )

    def _carry_out(self, assignment: Assignment) -> None:
        entry, source = assignment.entry, assignment.source
        brought, failure = None, None
        try:
            brought = Brought(source, self._bring(entry, source))
            self.done(entry, brought)
        except ManifestError as exc:
            failure = SourceError(str(exc), "unknown")
        except SourceError as exc:
            failure = exc
        with self._changed:
            del self._busy[entry.path]
            if brought:
                self.found[entry.path] = brought
                self._trusted.add(source)
            elif failure:
                self._todo.append(entry)
                self._note(entry, source, failure)
            if self._todo:
                self._changed.notify()
            else:
                self._changed.notify_all()

    def _note(self, entry: FileEntry, source: str, failure: SourceError) -> None:
        self._doubtful = True
        if source not in self._origins and failure.kind in ("busy", "behind"):
            self._chooser.rest(source, time.monotonic(), entry.path if failure.kind == "behind" else "")
            return
        self._ledger.reject(source, entry.path, failure)
        if failure.kind == "mixed":
            self._solid.add(entry.path)
            return
        if source in self._origins:
            self._bad.add((entry.path, source))
            if failure.dead:
                self._ledger.dead.add(source)
            return
        self._misses[(entry.path, source)] += 1
        if failure.kind == "wrong" or self._misses[(entry.path, source)] >= MISSES:
            self._bad.add((entry.path, source))
        if failure.kind == "wrong":
            self._liars.add(source)
        else:
            self._peers.doubt(source, gone=failure.dead)

    def _bring(self, entry: FileEntry, source: str) -> Proof:
        """The proof of the file, which has its own name then. Wrong bytes are deleted."""
        is_origin = source in self._origins
        remote: Openable = self._origins[source].remote(entry) if is_origin else self._peers.remote(source, entry)
        part = self._part(entry, source)
        if not entry.identity and part.sources not in ([], [source]):
            self._discard(part, source)  # nothing would tell a mixture of two files
        kept = part.offset
        problem = self._stream(remote, source, part)
        if problem and not is_origin and part.doubtful and not self._peers.proven(source, entry):
            self._discard(part, source)
            raise SourceError(f"{problem}; it was passed on before it was proven", "mixed")
        if problem and (kept or part.doubtful):  # the wrong bytes may be another's, or older ones: this source alone is asked again
            self._discard(part, source)
            problem = self._stream(remote, source, part)
        del self._parts[entry.path]
        if problem:
            self._line.count(source, -part.offset)
            part.remove()
            raise SourceError(problem, "wrong")
        return part.publish()

    def _stream(self, remote: Openable, source: str, part: Part) -> str | None:
        """What is wrong with the bytes when all are there, or None."""
        try:
            # another peer is nearer than a pause
            bring(remote, source, part, self._line, self._line.retries if source in self._origins else 0)
        except SourceError as exc:
            if exc.kind == "wrong" and source in part.sources:
                return exc.reason
            raise
        return part.problem()

    def _part(self, entry: FileEntry, source: str) -> Part:
        part = self._parts.get(entry.path)
        if part is None:
            part = Part(place(self._folder, entry.path), entry, source)
            self._parts[entry.path] = part
            self.began(part.open(self._line.alive))
        return part

    def _discard(self, part: Part, source: str) -> None:
        """Begin the file anew."""
        self._line.count(source, -part.offset)
        part.discard()


def _unshared(view: View) -> Assignment | None:
    """Small files of a hub have no sha256, so no peer is believed: each host brings its own, and nobody's turn counts."""
    for entry in view.todo:
        if not entry.sha256:
            for source in view.sources_for(entry):
                return Assignment(entry, source)
    return None
