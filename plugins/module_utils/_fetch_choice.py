# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file is brought next, and from where. Pure, and the one place to change when hosts share the work. Private.

No tracker: every host sees the others' listings and reaches the same decision about whose turn it is.

- **Origin.** The n-th file of the manifest belongs to host n mod N. The first ``origin_streams`` files that nobody has
  finished are the window; the owner of a file in the window brings it from the origin, so that the origin serves about
  that many streams to the whole fleet and each file once. The window begins with one file and grows by one with each that
  is finished, so that the first can be passed on early. A file that its owner does not begin is taken over by the next
  host that answers, ``patience`` seconds a place.
- **Peers.** What the fewest have or are bringing comes first, from the peer that we burden least. A peer's server refuses
  more than a few streams (503, tell ``refused``): files then spread as a tree, each uplink serving few at full speed.

Interface: ``Chooser(files, hosts, me, jobs)``; ``next(view)`` under the engine's lock while a stream is free; ``refused(peer,
now)`` where a peer was too busy (not a failure). Failures are ``View.bad``; peers that stopped answering leave ``View.peers``.
``PeerFiles.under_way`` should hold only what grew lately: it is what keeps a second host from bringing a file.
"""
from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Mapping, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry

DISTRUST = 2  # files that a peer gave wrongly, from which on it is asked last


@dataclass(frozen=True)
class PeerFiles:
    """What a peer has when it was looked at last: paths finished and proven there, paths under way there."""

    finished: FrozenSet[str] = frozenset()
    under_way: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class View:
    """All that a choice may rest on."""

    todo: Tuple[FileEntry, ...]  # neither here nor under way here
    have: FrozenSet[str] = frozenset()  # paths proven here
    busy: Tuple[Tuple[str, str], ...] = ()  # (path, source) of this host's streams
    peers: Mapping[str, PeerFiles] = field(default_factory=dict)  # {peer: its files}; those that answer
    sources: Tuple[str, ...] = ()  # origins that answer, in the order that was asked for
    bad: FrozenSet[Tuple[str, str]] = frozenset()  # (path, source or peer) that is not asked again
    now: float = 0.0  # seconds, monotonic

    def peers_with(self, entry: FileEntry) -> list[str]:
        """Peers that can give this file; without a sha256 none is believed."""
        if not entry.sha256:
            return []
        return [p for p, files in self.peers.items() if entry.path in files.finished and (entry.path, p) not in self.bad]

    def sources_for(self, entry: FileEntry) -> list[str]:
        """Origins that may give this file, in order."""
        return [source for source in self.sources if (entry.path, source) not in self.bad]

    def hopeless(self) -> list[FileEntry]:
        """Files that nobody can give."""
        return [entry for entry in self.todo if not self.peers_with(entry) and not self.sources_for(entry)]


@dataclass(frozen=True)
class Assignment:
    """One stream to begin: the file, and the peer or source to bring it from."""

    entry: FileEntry
    source: str


class Chooser:
    """One host's choices. ``hosts``: every host's name as in ``View.peers``, in one order everywhere, ``me`` among them.

    Without hosts it is alone: peers that have a file first, then the origin, as many streams as the engine has. Seconds:
    ``grace`` from the first question, in which hosts not seen yet may still come; ``patience`` per place in the order of
    taking over; ``stale`` after which a file said to be under way elsewhere is doubted; ``rest`` of a peer that refused.
    """

    def __init__(
        self,
        files: Sequence[FileEntry] = (),
        hosts: Sequence[str] = (),
        me: str = "",
        jobs: int = 3,
        *,
        origin_streams: int = 4,
        grace: float = 3.0,
        patience: float = 3.0,
        stale: float = 600.0,
        rest: float = 0.05,
    ) -> None:
        self._files, self._hosts, self._me = tuple(files), tuple(hosts), me
        self._peer_streams = max(1, jobs - 1)  # one is kept for the origin: its wire is the one that must not idle
        self._width, self._grace, self._patience, self._stale, self._rest = origin_streams, grace, patience, stale, rest
        self._random = random.Random(me)  # hosts must not all prefer the same
        self._began: float | None = None
        self._open: Dict[str, float] = {}  # {path: when it was first seen in the window, with nobody at it or not}
        self._resting: Dict[str, float] = {}

    def refused(self, peer: str, now: float) -> None:
        """The peer serves as many streams as it may; it is left alone for a moment."""
        self._resting[peer] = now + self._rest * self._random.uniform(0.5, 1.5)

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
        finished = view.have.union(*(files.finished for files in view.peers.values()))
        claimed = frozenset().union(*(files.under_way for files in view.peers.values()))
        mine = {path for path, _source in view.busy}
        todo = {entry.path: entry for entry in view.todo}
        places = min(self._width, 1 + len(finished))
        for number, entry in enumerate(self._files):
            if places == 0:
                return None
            path = entry.path
            wanted = todo.get(path)
            # what only liars have, or who is no longer to be asked, is nowhere
            if path in view.have or (path in finished and (wanted is None or view.peers_with(wanted))):
                self._open.pop(path, None)
                continue
            if path in mine:
                places -= 1
                continue
            owner = number % len(self._hosts)
            if path not in claimed and self._early(view) and not self._there(self._hosts[owner], view):
                continue  # it may still come; meanwhile another's turn
            places -= 1
            waited = view.now - self._open.setdefault(path, view.now)
            limit = self._place(owner, view) * self._patience + (self._stale if path in claimed else 0.0)
            sources = view.sources_for(wanted) if wanted else []
            if wanted and sources and waited >= limit:
                return Assignment(wanted, sources[0])
        return None

    def _early(self, view: View) -> bool:
        return view.now - (self._began or 0.0) < self._grace

    def _there(self, host: str, view: View) -> bool:
        """Whether the host takes part: a server that answers with nothing is given the benefit of the doubt for a while."""
        files = view.peers.get(host)
        return host == self._me or bool(files and (files.finished or files.under_way or self._early(view)))

    def _place(self, owner: int, view: View) -> int:
        """How many hosts that take part come before this one for a file of the owner."""
        order = self._hosts[owner:] + self._hosts[:owner]
        return sum(self._there(host, view) for host in order[: order.index(self._me)])

    def _from_peer(self, view: View) -> Assignment | None:
        streams = [source for _path, source in view.busy]
        lies = [source for _path, source in view.bad]
        if len(self._hosts) > 1 and sum(source in view.peers for source in streams) >= self._peer_streams:
            return None
        best: Tuple[Tuple[float, ...], Assignment] | None = None
        for entry in view.todo:
            peers = [peer for peer in view.peers_with(entry) if self._resting.get(peer, view.now) <= view.now]
            if not peers:
                continue
            known = sum(entry.path in f.finished or entry.path in f.under_way for f in view.peers.values())
            liars = {peer: lies.count(peer) >= DISTRUST for peer in peers}
            peer = min(peers, key=lambda name: (liars[name], streams.count(name), self._random.random()))
            key = (float(liars[peer]), float(known), self._random.random())
            if best is None or key < best[0]:
                best = key, Assignment(entry, peer)
        return best[1] if best else None
