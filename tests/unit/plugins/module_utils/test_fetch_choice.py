# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who brings what, and from where: single choices, and whole fleets in simulated time on links that are shared fairly."""
from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import AHEAD, Assignment, Chooser, PeerFiles, View
from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry

SIZE = 10_000_000
FILE_S = 0.4  # one file at the rate of a link: 10 MB at 200 Mbit/s
LATENCY, LOOK, NOTICE = 0.005, 0.12, 5.0  # s: a request; between two looks at the listings; until a dead stream is noticed
CLOSE = 1e-6
HUB = "hub"


def entries(count):
    return tuple(FileEntry(f"model-{number:05d}.safetensors", SIZE, "0" * 64) for number in range(count))


@dataclass
class Node:
    name: str
    chooser: Chooser
    have: set = field(default_factory=set)
    busy: dict = field(default_factory=dict)
    bad: set = field(default_factory=set)
    liars: set = field(default_factory=set)
    trusted: set = field(default_factory=set)
    begun: dict = field(default_factory=dict)  # {path: seconds of a whole link that are here}
    peers: dict = field(default_factory=dict)
    begin: float = 0.0
    dies: float = float("inf")
    lies: bool = False
    end: float | None = None


class Fleet:
    """An event simulation: each node and the hub have one link up and one down, its streams share it (max-min).

    Who takes a file from a node that does not have all of it yet is no faster than that node, once it has caught up.
    """

    def __init__(self, count, files=40, limit=4, jobs=8, seed=0, stagger=1.0, known=None):
        self.files, self.limit, self.jobs = entries(files), limit, jobs
        self.random = random.Random(seed)
        hosts = [f"n{number}" for number in range(known or count)]
        self.nodes = {h: Node(h, Chooser(self.files, hosts, h, jobs), begin=self.random.random() * stagger) for h in hosts[:count]}
        self.now, self.pulls, self.wrong = 0.0, Counter(), Counter()
        self.streams = {}  # {(node, path): [source, seconds of a whole link left, when bytes begin]}
        self.events = []

    def at(self, when, what, name):
        heapq.heappush(self.events, (when, len(self.events) + self.random.random(), what, name))

    def run(self):
        """The ratio to the ideal of the last living node, from the first node's start."""
        for node in self.nodes.values():
            self.at(node.begin, "look", node.name)
            if node.dies < float("inf"):
                self.at(node.dies, "die", node.name)
        speed = {}
        while not all(node.end or node.dies <= self.now for node in self.nodes.values()):
            assert self.now < 20 * FILE_S * len(self.files), "the fleet stands still"
            ends = ((self.now + self.streams[stream][1] / rate, stream) for stream, rate in speed.items())
            last, first = min(ends, default=(float("inf"), None))
            meet = (self.now + self.gap(stream) / (rate - speed.get(self.leader(stream), 0.0)) for stream, rate in speed.items()
                    if self.leader(stream) and self.gap(stream) > CLOSE and rate > speed.get(self.leader(stream), 0.0))
            then = min([last, self.events[0][0], *meet])
            for stream, rate in speed.items():
                self.streams[stream][1] -= rate * (then - self.now)
            self.now = then
            before = len(self.streams), tuple(self.streams)
            if last == then:
                self.finish(*first)
            elif self.events[0][0] == then:
                _when, _number, what, name = heapq.heappop(self.events)
                getattr(self, what)(self.nodes[name])
                if what in ("look", "fill") and before == (len(self.streams), tuple(self.streams)):
                    continue
            speed = self.speeds()
        begin = min(node.begin for node in self.nodes.values())
        return (max(node.end for node in self.nodes.values() if node.end) - begin) / (FILE_S * len(self.files))

    def speeds(self):
        """{stream: share of a link}, max-min fair over uplinks and downlinks."""
        links, left, speed = {}, {}, {}
        for stream, (source, _rest, begins) in self.streams.items():
            dead = source != HUB and self.nodes[source].dies <= self.now
            if begins <= self.now and not dead:
                for link in (("up", source), ("down", stream[0])):
                    links.setdefault(link, set()).add(stream)
                    left[link] = 1.0
        while any(links.values()):
            link = min((k for k, v in links.items() if v), key=lambda k: left[k] / len(links[k]))
            share = left[link] / len(links[link])
            for stream in sorted(links[link]):
                speed[stream] = share
                for other in (("up", self.streams[stream][0]), ("down", stream[0])):
                    links[other].discard(stream)
                    left[other] -= share
        for stream in sorted(speed, key=lambda stream: self.streams[stream][1]):
            if self.leader(stream) and self.gap(stream) <= CLOSE:
                speed[stream] = min(speed[stream], speed.get(self.leader(stream), 0.0))
        return {stream: rate for stream, rate in speed.items() if rate > 1e-9}

    def leader(self, stream):
        """The stream that this one follows, None where its source has all of the file."""
        source, path = self.streams[stream][0], stream[1]
        return None if source == HUB or path in self.nodes[source].have else (source, path)

    def gap(self, stream):
        """How far the leader is ahead, in seconds of a whole link."""
        leader = self.leader(stream)
        there = FILE_S - self.streams[leader][1] if leader in self.streams else self.nodes[leader[0]].begun.get(stream[1], 0.0)
        return there - (FILE_S - self.streams[stream][1])

    def drop(self, name, path):
        """A stream ends before its time; what came stays."""
        node = self.nodes[name]
        node.begun[path] = FILE_S - self.streams.pop((name, path))[1]
        del node.busy[path]

    def finish(self, name, path):
        node, source = self.nodes[name], self.streams.pop((name, path))[0]
        del node.busy[path]
        if source != HUB and self.nodes[source].lies:
            self.wrong[path] += 1
            node.bad.add((path, source))
            node.liars.add(source)
        else:
            node.have.add(path)
            node.trusted.add(source)
        if len(node.have) == len(self.files):
            node.end = node.end or self.now
        self.fill(node)

    def here(self, node, path):
        """Bytes of a file that a node has not finished."""
        stream = self.streams.get((node.name, path))
        return int((FILE_S - stream[1] if stream else node.begun.get(path, 0.0)) / FILE_S * SIZE)

    def look(self, node):
        if node.dies <= self.now or node.end:
            return
        for name, path in [s for s in self.streams if s[0] == node.name and self.leader(s) and self.gap(s) <= CLOSE]:
            source = self.streams[(name, path)][0]
            if (source, path) not in self.streams:  # it grows no more
                self.drop(name, path)
                node.chooser.rest(source, self.now, path)
        node.peers = {
            n.name: PeerFiles(frozenset(n.have), {path: self.here(n, path) for path in n.busy})
            for n in self.nodes.values() if n is not node and n.begin <= self.now < n.dies
        }
        self.fill(node)
        self.at(self.now + LOOK * self.random.uniform(0.8, 1.2), "look", node.name)

    def fill(self, node):
        while node.dies > self.now and len(node.busy) < self.jobs:
            todo = tuple(e for e in self.files if e.path not in node.have and e.path not in node.busy)
            choice = node.chooser.next(
                View(todo, frozenset(node.have), tuple(node.busy.items()), node.peers, (HUB,), frozenset(node.bad), now=self.now,
                     liars=frozenset(node.liars), trusted=frozenset(node.trusted),
                     begun={path: self.here(node, path) for path in node.begun})
            )
            if choice is None:
                return
            path, source = choice.entry.path, choice.source
            if source == HUB:
                self.pulls[path] += 1
            elif self.limit <= sum(s == source for s, _rest, _begins in self.streams.values()):
                node.chooser.rest(source, self.now)
                self.at(self.now + 0.06, "fill", node.name)
                continue
            node.busy[path] = source
            self.streams[(node.name, path)] = [source, FILE_S - node.begun.get(path, 0.0), self.now + LATENCY]
            self.at(self.now + LATENCY, "go", node.name)
            if source != HUB and self.nodes[source].dies <= self.now:
                self.at(self.now + NOTICE, "notice", source)

    def go(self, node):
        """A stream's bytes begin."""

    def die(self, node):
        for name, path in [s for s in self.streams if s[0] == node.name]:
            self.drop(name, path)
        self.at(self.now + NOTICE, "notice", node.name)

    def notice(self, dead):
        for name, path in [s for s, (source, _rest, _begins) in self.streams.items() if source == dead.name]:
            self.drop(name, path)
            self.nodes[name].bad.add((path, dead.name))
            self.fill(self.nodes[name])


@pytest.mark.parametrize("count", [1, 2, 8, 16])
def test_the_origin_gives_each_file_once_and_nobody_waits_long(count):
    """How long on real links is script/bench distribute's to say; here no link is given up by who cannot fill it."""
    fleet = Fleet(count, files=24)
    assert 1.0 <= fleet.run() <= 1.75
    assert sum(fleet.pulls.values()) <= 1.05 * len(fleet.files)
    assert all(len(node.have) == len(fleet.files) for node in fleet.nodes.values())


def test_a_peer_that_dies_in_the_middle_stops_nobody():
    fleet = Fleet(8, files=24)
    fleet.nodes["n3"].dies = 5.0
    assert fleet.run() < 2.3
    assert all(len(n.have) == 24 for n in fleet.nodes.values() if n.name != "n3")
    assert sum(fleet.pulls.values()) <= 30


def test_a_liar_wastes_little_and_its_bytes_stay_nowhere():
    fleet = Fleet(8, files=24)
    fleet.nodes["n3"].lies = True
    assert fleet.run() < 2.3
    assert all(len(n.have) == 24 for n in fleet.nodes.values())
    assert 0 < sum(fleet.wrong.values()) <= 7 * 3


def test_one_that_comes_late_is_served_by_its_peers():
    fleet = Fleet(3)
    fleet.nodes["n1"].begin = 10.0
    fleet.run()
    assert fleet.nodes["n1"].end - 10.0 <= 1.3 * 16
    assert sum(fleet.pulls.values()) <= 42


def test_hosts_that_never_come_hold_nobody_up():
    fleet = Fleet(2, known=8)
    assert fleet.run() < 1.4
    assert sum(fleet.pulls.values()) <= 42


def test_a_complete_peer_spares_the_origin():
    fleet = Fleet(3)
    fleet.nodes["n0"].begin = 0.0
    fleet.nodes["n0"].have = {e.path for e in fleet.files}
    fleet.nodes["n0"].end = 0.01
    for name in ("n1", "n2"):
        fleet.nodes[name].begin = 0.1
    fleet.run()
    assert not fleet.pulls


FILES = entries(4)


def view(todo=FILES, **more):
    return View(tuple(todo), **{"sources": ("hub", "mirror"), **more})


def test_alone_it_asks_peers_then_the_first_source_that_may_still_be_asked():
    assert Chooser().next(view()) == Assignment(FILES[0], "hub")
    assert Chooser().next(view(peers={"p": PeerFiles(frozenset({FILES[2].path}))})) == Assignment(FILES[2], "p")
    assert Chooser().next(view(FILES[:1], bad=frozenset({(FILES[0].path, "hub")}))) == Assignment(FILES[0], "mirror")
    assert Chooser().next(view(())) is None


def test_a_file_that_its_owner_does_not_begin_is_taken_over_in_order():
    second, third = (Chooser(FILES, "abc", name, origin_streams=1) for name in "bc")
    there = {"a": PeerFiles(growing={"other": 1}), "b": PeerFiles(), "c": PeerFiles()}
    assert second.next(view(peers=there, now=10.0)) is None and third.next(view(peers=there, now=10.0)) is None
    assert second.next(view(peers=there, now=12.9)) is None
    assert second.next(view(peers=there, now=13.1)) == Assignment(FILES[0], "hub")
    begun = {**there, "b": PeerFiles(growing={FILES[0].path: 0})}
    assert third.next(view(peers=begun, now=60.0)) is None
    assert third.next(view(peers=begun, now=700.0)).entry == FILES[0]


def test_who_comes_late_to_its_file_leaves_it_to_who_is_further_and_goes_on_when_that_one_dies():
    first = Chooser(FILES[:1], "ab", "a")
    ahead = {"b": PeerFiles(growing={FILES[0].path: AHEAD + 10})}
    assert first.next(view(FILES[:1], peers=ahead, begun={FILES[0].path: 10})) == Assignment(FILES[0], "b")
    first.rest("b", 0.0, FILES[0].path)
    assert first.next(view(FILES[:1], peers=ahead, begun={FILES[0].path: 10})) is None
    assert first.next(view(FILES[:1], peers=ahead, begun={FILES[0].path: 11})) == Assignment(FILES[0], "hub")
    assert first.next(view(FILES[:1], peers={}, begun={FILES[0].path: 10}, now=9.0)) == Assignment(FILES[0], "hub")


def test_what_was_wrong_after_passing_through_unfinished_hands_is_taken_from_who_has_proven_it():
    chooser, path = Chooser(FILES[:1]), FILES[0].path
    grows, proven = {"b": PeerFiles(growing={path: SIZE})}, {"c": PeerFiles(frozenset({path}))}
    assert chooser.next(view(FILES[:1], peers=grows)).source == "b"
    assert chooser.next(view(FILES[:1], peers=grows, solid=frozenset({path}))).source == "hub"
    assert chooser.next(view(FILES[:1], peers={**grows, **proven}, solid=frozenset({path}))).source == "c"
    assert view(FILES[:1], peers=grows, sources=()).hopeless() == []
    assert view(FILES[:1], peers=grows, sources=(), solid=frozenset({path})).hopeless() == [FILES[0]]


def test_a_peer_that_refused_is_left_alone_for_a_moment():
    chooser = Chooser(FILES, "ab", "a")
    there = {"b": PeerFiles(frozenset(e.path for e in FILES))}
    chooser.rest("b", 5.0)
    assert chooser.next(view(peers=there, now=5.0)) is None
    assert chooser.next(view(peers=there, now=5.2)).source == "b"


def test_who_gave_nothing_right_yet_is_asked_for_one_file_at_a_time():
    chooser = Chooser(FILES, "ab", "a")
    there = {"b": PeerFiles(frozenset(e.path for e in FILES))}
    busy = ((FILES[0].path, "b"),)
    assert chooser.next(view(FILES[1:], peers=there, busy=busy)) is None
    assert chooser.next(view(FILES[1:], peers=there, busy=busy, trusted=frozenset("b"))).source == "b"


def test_a_liar_is_asked_only_for_what_no_origin_gives_and_its_word_counts_nothing():
    everything = PeerFiles(frozenset(e.path for e in FILES))
    lies = {"liars": frozenset("b"), "bad": frozenset({(FILES[3].path, "b")})}
    both = view(peers={"b": everything, "c": everything}, **lies)
    asked = {Chooser(FILES, "abc", "a", 9).next(both).source for _time in range(20)}
    assert asked == {"c"}
    assert Chooser(FILES, "ab", "a").next(view(peers={"b": everything}, **lies)) == Assignment(FILES[0], "hub")
    assert Chooser(FILES, "ab", "a").next(view(peers={"b": everything}, sources=(), **lies)).source == "b"


def test_without_a_sha256_no_peer_is_believed_and_what_nobody_can_give_is_said():
    unknown = FileEntry("config.json", 10, "")
    seen = view((unknown,), peers={"p": PeerFiles(frozenset({"config.json"}))}, sources=())
    assert Chooser().next(seen) is None
    assert seen.hopeless() == [unknown]
