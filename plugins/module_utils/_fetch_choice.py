# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file is brought next, and from where. Pure, and the one place to change when hosts share the work. Private.

No tracker: every host sees the others' listings and reaches the same decision about whose turn it is.

- **Origin.** The n-th file of the manifest belongs to host n mod N. The first ``origin_streams`` files that nobody has
  finished are the window; the owner of a file in the window brings it from the origin, so that the origin serves about
  that many streams to the whole fleet and each file once. A file that its owner does not begin is taken over by the next
  host that answers, ``patience`` seconds a place; one that is further along elsewhere is left to who brings it.
- **Peers.** What the fewest have comes first, from the peer that we burden least: one that has finished it, or has more of
  it than we do, which is followed while it grows (so a file is at the last host soon after it is at the first). A peer's
  server refuses more than a few streams (503, tell ``rest``): a file then spreads as a tree, each uplink serving few.
- **Doubt.** Who gave nothing right yet is asked for one file at a time; who gave wrong bytes, only for what no origin gives.
  A file that was wrong after passing through unfinished hands (``View.solid``) is taken from who has proven it, or an origin.

Interface: ``Chooser(files, hosts, me, jobs)``; ``next(view)`` under the engine's lock while a stream is free; ``rest(peer, now,
path)`` where a peer was too busy, or had no more of a file (not a failure). Failures are ``View.bad``; peers that stopped
answering leave ``View.peers``.
"""
from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Mapping, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry

AHEAD = 256 << 10  # bytes that a growing file of a peer must be ahead to be worth a stream


@dataclass(frozen=True)
class PeerFiles:
    """What a peer had when it was looked at last: paths finished and proven there; {path: bytes} of those that grow."""

    finished: FrozenSet[str] = frozenset()
    growing: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """All that a choice may rest on."""

    todo: Tuple[FileEntry, ...]  # neither here nor under way here
    have: FrozenSet[str] = frozenset()  # paths proven here
    busy: Tuple[Tuple[str, str], ...] = ()  # (path, source) of this host's streams
    peers: Mapping[str, PeerFiles] = field(default_factory=dict)  # {peer: its files}; those that answer
    sources: Tuple[str, ...] = ()  # origins that answer, in the order that was asked for
    bad: FrozenSet[Tuple[str, str]] = frozenset()  # (path, source or peer) that is not asked again
    begun: Mapping[str, int] = field(default_factory=dict)  # {path: bytes here} of files in todo
    solid: FrozenSet[str] = frozenset()  # paths that are taken from nobody who has not proven them
    trusted: FrozenSet[str] = frozenset()  # peers that gave a file that was right
    liars: FrozenSet[str] = frozenset()  # peers that gave wrong bytes
    now: float = 0.0  # seconds, monotonic

    def peers_with(self, entry: FileEntry) -> list[str]:
        """Peers that can give all of this file; without a sha256 none is believed."""
        if not entry.sha256:
            return []
        return [p for p, files in self.peers.items() if entry.path in files.finished and (entry.path, p) not in self.bad]

    def peers_ahead(self, entry: FileEntry) -> list[str]:
        """Peers whose file grows and is ahead of ours."""
        path, least = entry.path, self.begun.get(entry.path, 0) + AHEAD
        if not entry.sha256 or path in self.solid:
            return []
        return [p for p, files in self.peers.items() if files.growing.get(path, 0) >= least and (path, p) not in self.bad]

    def sources_for(self, entry: FileEntry) -> list[str]:
        """Origins that may give this file, in order."""
        return [source for source in self.sources if (entry.path, source) not in self.bad]

    def hopeless(self) -> list[FileEntry]:
        """Files that nobody can give."""
        given = (self.peers_with, self.sources_for, self.peers_ahead)
        return [entry for entry in self.todo if not any(by(entry) for by in given)]


@dataclass(frozen=True)
class Assignment:
    """One stream to begin: the file, and the peer or source to bring it from."""

    entry: FileEntry
    source: str


class Chooser:
    """One host's choices. ``hosts``: every host's name as in ``View.peers``, in one order everywhere, ``me`` among them.

    Without hosts it is alone: peers that have a file first, then the origin, as many streams as the engine has. Seconds:
    ``grace`` from the first question, in which hosts not seen yet may still come; ``patience`` per place in the order of
    taking over; ``stale`` after which a file that another host brings is doubted; ``pause`` for a peer that refused.
    """

    def __init__(
        self,
        files: Sequence[FileEntry] = (),
        hosts: Sequence[str] = (),
        me: str = "",
        jobs: int = 8,
        *,
        origin_streams: int = 6,
        grace: float = 3.0,
        patience: float = 3.0,
        stale: float = 600.0,
        pause: float = 0.1,
    ) -> None:
        self._files, self._hosts, self._me = tuple(files), tuple(hosts), me
        self._peer_streams = max(1, jobs - 1)  # one is kept for the origin: its wire is the one that must not idle
        self._width, self._grace, self._patience, self._stale, self._pause = origin_streams, grace, patience, stale, pause
        self._random = random.Random(me)  # hosts must not all prefer the same
        self._began: float | None = None
        self._open: Dict[str, float] = {}  # {path: when it was first seen in the window, with nobody at it or not}
        self._resting: Dict[Tuple[str, str], float] = {}  # {(peer, path or "" for all): until when}

    def rest(self, peer: str, now: float, path: str = "") -> None:
        """The peer serves as many streams as it may, or has no more of this file; it is left alone for a moment."""
        self._resting[(peer, path)] = now + self._pause * self._random.uniform(0.5, 1.5)

    def next(self, view: View) -> Assignment | None:
        """The next stream, None where there is nothing to begin now: the engine asks again a little later, with a
        fresh view, as long as a file is left that is not hopeless."""
        if self._began is None:
            self._began = view.now
        if len(self._hosts) < 2:
            return self._from_peer(view) or self._from_any_origin(view)
        return self._from_origin(view) or self._from_peer(view)

    def _from_any_origin(self, view: View) -> Assignment | None:
        for entry in view.todo:
            sources = view.sources_for(entry)
            if sources:
                return Assignment(entry, sources[0])
        return None

    def _from_origin(self, view: View) -> Assignment | None:
        """What it is this host's turn to bring from the origin."""
        finished = view.have.union(*(files.finished for peer, files in view.peers.items() if peer not in view.liars))
        mine = {path for path, _source in view.busy}
        todo = {entry.path: entry for entry in view.todo}
        places = self._width
        for number, entry in enumerate(self._files):
            if places == 0:
                return None
            path = entry.path
            wanted = todo.get(path)
            # what only those have who are no longer to be asked is nowhere
            if path in view.have or (path in finished and (wanted is None or view.peers_with(wanted))):
                self._open.pop(path, None)
                continue
            if path in mine:
                places -= 1
                continue
            owner = number % len(self._hosts)
            order = self._hosts[owner:] + self._hosts[:owner]
            elsewhere = self._brought_elsewhere(path, order, view)
            if not elsewhere and self._early(view) and not self._there(order[0], view):
                continue  # it may still come; meanwhile another's turn
            places -= 1
            waited = view.now - self._open.setdefault(path, view.now)
            before = sum(self._there(host, view) for host in order[: order.index(self._me)])
            sources = view.sources_for(wanted) if wanted else []
            if wanted and sources and waited >= before * self._patience + (self._stale if elsewhere else 0.0):
                return Assignment(wanted, sources[0])
        return None

    def _brought_elsewhere(self, path: str, order: Sequence[str], view: View) -> bool:
        """Whether another host brings it: one that is ahead of us, or one whose turn comes before ours."""
        if path in view.solid:
            return False
        here, place = view.begun.get(path, 0), order.index(self._me)
        return any(
            path in files.growing and (files.growing[path] >= here + AHEAD or host in order[:place])
            for host, files in view.peers.items() if host not in view.liars
        )

    def _early(self, view: View) -> bool:
        return view.now - (self._began or 0.0) < self._grace

    def _there(self, host: str, view: View) -> bool:
        """Whether the host takes part: a server that answers with nothing is given the benefit of the doubt for a while."""
        files = view.peers.get(host)
        return host == self._me or bool(files and host not in view.liars and (files.finished or files.growing or self._early(view)))

    def _from_peer(self, view: View) -> Assignment | None:
        streams = [source for _path, source in view.busy]
        if len(self._hosts) > 1 and sum(source in view.peers for source in streams) >= self._peer_streams:
            return None
        awake = {peer for peer in view.peers if self._resting.get((peer, ""), view.now) <= view.now}
        if len(self._hosts) > 1:
            awake -= {peer for peer in streams if peer not in view.trusted}
        best: Tuple[Tuple[float, ...], Assignment] | None = None
        for entry in view.todo if awake else ():
            peers = [peer for peer in view.peers_with(entry) + view.peers_ahead(entry)
                     if peer in awake and self._resting.get((peer, entry.path), view.now) <= view.now
                     and (peer not in view.liars or not view.sources_for(entry))]
            if not peers:
                continue
            known = sum(entry.path in files.finished for files in view.peers.values())
            peer = min(peers, key=lambda name: (name in view.liars, streams.count(name), self._random.random()))
            key = (float(peer in view.liars), float(known), self._random.random())
            if best is None or key < best[0]:
                best = key, Assignment(entry, peer)
        return best[1] if best else None
