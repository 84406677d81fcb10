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
from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import Assignment, Chooser, PeerFiles, View
from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry

FILE_S = 0.4  # one file at the rate of a link: 10 MB at 200 Mbit/s
LATENCY, LOOK, NOTICE = 0.005, 0.12, 5.0  # s: a request; between two looks at the listings; until a dead stream is noticed
HUB = "hub"


def entries(count):
    return tuple(FileEntry(f"model-{number:05d}.safetensors", 10_000_000, "0" * 64) for number in range(count))


@dataclass
class Node:
    name: str
    chooser: Chooser
    have: set = field(default_factory=set)
    busy: dict = field(default_factory=dict)
    bad: set = field(default_factory=set)
    peers: dict = field(default_factory=dict)
    begin: float = 0.0
    dies: float = float("inf")
    lies: bool = False
    end: float | None = None


class Fleet:
    """An event simulation: each node and the hub have one link up and one down, its streams share it (max-min)."""

    def __init__(self, count, files=40, limit=2, jobs=3, seed=0, stagger=1.0, known=None):
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
            then = min(last, self.events[0][0])
            for stream, rate in speed.items():
                self.streams[stream][1] -= rate * (then - self.now)
            self.now = then
            before = len(self.streams), tuple(self.streams)
            if last == then:
                self.finish(*first)
            else:
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
        return {stream: rate for stream, rate in speed.items() if rate > 1e-9}

    def finish(self, name, path):
        node, source = self.nodes[name], self.streams.pop((name, path))[0]
        del node.busy[path]
        if source != HUB and self.nodes[source].lies:
            self.wrong[path] += 1
            node.bad.add((path, source))
        else:
            node.have.add(path)
        if len(node.have) == len(self.files):
            node.end = node.end or self.now
        self.fill(node)

    def look(self, node):
        if node.dies <= self.now or node.end:
            return
        node.peers = {
            n.name: PeerFiles(frozenset(n.have), frozenset(n.busy))
            for n in self.nodes.values() if n is not node and n.begin <= self.now < n.dies
        }
        self.fill(node)
        self.at(self.now + LOOK * self.random.uniform(0.8, 1.2), "look", node.name)

    def fill(self, node):
        while node.dies > self.now and len(node.busy) < self.jobs:
            todo = tuple(e for e in self.files if e.path not in node.have and e.path not in node.busy)
            choice = node.chooser.next(
                View(todo, frozenset(node.have), tuple(node.busy.items()), node.peers, (HUB,), frozenset(node.bad), self.now)
            )
            if choice is None:
                return
            path, source = choice.entry.path, choice.source
            if source == HUB:
                self.pulls[path] += 1
            elif self.limit <= sum(s == source for s, _rest, _begins in self.streams.values()):
                node.chooser.refused(source, self.now)
                self.at(self.now + 0.06, "fill", node.name)
                continue
            node.busy[path] = source
            self.streams[(node.name, path)] = [source, FILE_S, self.now + LATENCY]
            self.at(self.now + LATENCY, "go", node.name)
            if source != HUB and self.nodes[source].dies <= self.now:
                self.at(self.now + NOTICE, "notice", source)

    def go(self, node):
        """A stream's bytes begin."""

    def die(self, node):
        for stream in [s for s in self.streams if s[0] == node.name]:
            del self.streams[stream]
        self.at(self.now + NOTICE, "notice", node.name)

    def notice(self, dead):
        for name, path in [s for s, (source, _rest, _begins) in self.streams.items() if source == dead.name]:
            del self.streams[(name, path)]
            del self.nodes[name].busy[path]
            self.nodes[name].bad.add((path, dead.name))
            self.fill(self.nodes[name])


@pytest.mark.parametrize(("count", "most"), [(1, 1.05), (2, 1.2), (8, 1.25), (16, 1.35)])
def test_the_last_node_is_done_soon_after_the_wire_could_and_the_origin_gives_each_file_once(count, most):
    for seed in range(2 if count < 16 else 1):
        fleet = Fleet(count, seed=seed)
        assert 1.0 <= fleet.run() <= most
        assert sum(fleet.pulls.values()) <= 1.05 * len(fleet.files)


def test_with_as_many_files_as_a_real_model_little_is_lost():
    assert Fleet(8, files=163).run() <= 1.15


def test_a_peer_that_dies_in_the_middle_stops_nobody():
    fleet = Fleet(8)
    fleet.nodes["n3"].dies = 8.0
    assert fleet.run() < 2.0
    assert all(len(n.have) == 40 for n in fleet.nodes.values() if n.name != "n3")
    assert sum(fleet.pulls.values()) <= 50


def test_a_liar_wastes_little_and_its_bytes_stay_nowhere():
    fleet = Fleet(8)
    fleet.nodes["n3"].lies = True
    assert fleet.run() < 1.8
    assert all(len(n.have) == 40 for n in fleet.nodes.values())
    assert 0 < sum(fleet.wrong.values()) <= 7 * 12


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
    second, third = (Chooser(FILES, "abc", name) for name in "bc")
    there = {"a": PeerFiles(under_way=frozenset({"other"})), "b": PeerFiles(), "c": PeerFiles()}
    assert second.next(view(peers=there, now=10.0)) is None and third.next(view(peers=there, now=10.0)) is None
    assert second.next(view(peers=there, now=12.9)) is None
    assert second.next(view(peers=there, now=13.1)) == Assignment(FILES[0], "hub")
    begun = {**there, "b": PeerFiles(under_way=frozenset({FILES[0].path}))}
    assert third.next(view(peers=begun, now=60.0)) is None
    assert third.next(view(peers=begun, now=700.0)).entry == FILES[0]


def test_a_peer_that_refused_is_left_alone_for_a_moment():
    chooser = Chooser(FILES, "ab", "a")
    there = {"b": PeerFiles(frozenset(e.path for e in FILES))}
    chooser.refused("b", 5.0)
    assert chooser.next(view(peers=there, now=5.0)) is None
    assert chooser.next(view(peers=there, now=5.1)).source == "b"


def test_one_who_lied_twice_is_asked_last():
    more = entries(6)
    chooser = Chooser(more, "abc", "a", 9)
    everything = PeerFiles(frozenset(e.path for e in more))
    lies = frozenset((e.path, "b") for e in more[:2])
    asked = {chooser.next(view(more[2:], peers={"b": everything, "c": everything}, bad=lies)).source for _time in range(20)}
    assert asked == {"c"}
    assert chooser.next(view(more[2:], peers={"b": everything}, bad=lies)).source == "b"


def test_without_a_sha256_no_peer_is_believed_and_what_nobody_can_give_is_said():
    unknown = FileEntry("config.json", 10, "")
    seen = view((unknown,), peers={"p": PeerFiles(frozenset({"config.json"}))}, sources=())
    assert Chooser().next(seen) is None
    assert seen.hopeless() == [unknown]
