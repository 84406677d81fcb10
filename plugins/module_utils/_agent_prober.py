# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks each engine for one token, again and again, and has the balancer send requests only where tokens come.

Runs on gateways: standard library only, nothing of ansible, Python 3.9+. All times are monotonic seconds. It shares its probe and
its judgement with the engines' watchdog, which starts an engine anew that it finds hanging; this one only takes it out, earlier:
``stall_s`` after its tokens stood still while work waited, or after nothing answered, and back in after a finished generation.

Exit status: 2 the key or the plan's file cannot be used; otherwise it runs until it is stopped.
"""
from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import AbstractSet, Any, Callable, Optional, Sequence

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_balancer as balance
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
    from ansible_collections.idc.llm.plugins.module_utils import _agent_watchdog as watchdog
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_balancer as balance  # type: ignore[import-not-found,no-redef]
    import _agent_base as base  # type: ignore[import-not-found,no-redef]
    import _agent_watchdog as watchdog  # type: ignore[import-not-found,no-redef]

BESIDE = 2.0  # a slow engine takes so many times as long as the others
RELOAD_S = 2.0  # seconds between two reloads at least: each leaves old workers until their streams end
HOUR_S = 3600.0
HELD_BACK_CAP_S = 600.0


@dataclass(frozen=True)
class Settings:
    """interval_s: from probe to probe; timeout_s: of one; misses and stall_s: what takes an engine out; slow_ms: a token that
    takes longer is slow; slow_probes: so many in a row lower its share, twice as many take it out."""

    interval_s: float = 3.0
    timeout_s: float = 10.0
    misses: int = 2
    stall_s: float = 30.0
    slow_ms: float = 500.0
    slow_probes: int = 5
    key_file: str = ""


@dataclass(frozen=True)
class Track:
    """What the prober remembers of an engine. slow, fast: such tokens in a row; well_since: of the first token after it was taken
    out; outs: when it was taken out, latest last (monotonic seconds)."""

    epoch: int = -1
    trail: watchdog.Trail = watchdog.Trail()
    slow: int = 0
    fast: int = 0
    well_since: Optional[float] = None
    outs: tuple[float, ...] = ()


def held_back_s(outs: Sequence[float], now: float) -> float:
    """Seconds for which an engine must give tokens before it has its share again: none after the first time of an hour, then twice
    as long each time. One that comes and goes gets meanwhile what the others cannot take."""
    recent = sum(1 for at in outs if now - at < HOUR_S)
    return 0.0 if recent < 2 else min(HELD_BACK_CAP_S, 10.0 * 2.0 ** (recent - 2))


def decide(settings: Settings, track: Track, look: watchdog.Look, share: float,
           others: Sequence[float] = ()) -> tuple[Track, float, str]:
    """(what to remember, the share it should have, why) after one look at an engine that has ``share`` now. Pure.

    others: seconds that the last token of each other engine of its deployment took. A slow one is slower than they are, too: where
    all are slow there is much to do, and one engine less would make it more.
    """
    asked = watchdog.Config("", "", "", 1, "", misses=settings.misses, hang_s=settings.stall_s, ready_timeout_s=0)
    trail, verdict = watchdog.judge(asked, track.trail, look)
    track = replace(track, trail=trail)
    if verdict.kind == watchdog.HUNG:
        outs = track.outs if share == balance.OUT else (*track.outs, look.at)[-32:]
        return replace(track, slow=0, fast=0, well_since=None, outs=outs), balance.OUT, verdict.text
    if verdict.kind != watchdog.WELL:
        return replace(track, well_since=None), share, ""
    slow = look.seconds * 1000 > settings.slow_ms and bool(others) and look.seconds > BESIDE * statistics.median(others)
    track = replace(track, slow=track.slow + 1 if slow else 0, fast=0 if slow else track.fast + 1)
    since = look.at if track.well_since is None else track.well_since
    track = replace(track, well_since=since)
    said = f"a token after {look.seconds * 1000:.0f} ms"
    if slow:
        if share == balance.FULL and track.slow >= settings.slow_probes:
            return track, balance.LOW, f"{said}, {track.slow} slow ones in a row"
        if share == balance.LOW and track.slow >= 2 * settings.slow_probes:
            track = replace(track, outs=(*track.outs, look.at)[-32:], well_since=None)
            return track, balance.OUT, f"{said}, {track.slow} slow ones in a row"
        return track, share, ""
    if share < balance.LOW:
        back = look.at - since >= held_back_s(track.outs, look.at)
        return replace(track, fast=0), balance.FULL if back else balance.HELD, said
    if share == balance.LOW and track.fast >= settings.slow_probes:
        return track, balance.FULL, f"{said}, {track.fast} in a row"
    return track, share, ""


# --- the prober ------------------------------------------------------------------------------------------------------


class Prober:
    """Asks each engine that gets requests, each in a thread of its own, so that one that hangs delays nobody."""

    def __init__(self, balancer: balance.Balancer, settings: Settings, key: str, say: Callable[[str], None]) -> None:
        self.balancer = balancer
        self.settings = settings
        self._key = key
        self._say = say
        self._stop = threading.Event()
        self._threads: dict[balance.Server, threading.Thread] = {}
        self._gone: dict[balance.Server, threading.Event] = {}
        self._turn = threading.Lock()
        self._reloaded = 0.0
        self._took: dict[balance.Server, float] = {}  # seconds of the last token of each engine that gets requests

    def watch(self) -> None:
        """Follow the role's file until it is stopped: a thread for each engine that it names."""
        while not self._stop.is_set():
            try:
                upstreams = balance.read_engines(self.balancer.places.engines)
            except (OSError, ValueError) as error:
                self._say(f"the engines cannot be read: {error}")
            else:
                self.follow({server for row in upstreams.values() for server in row})
            base.notify("WATCHDOG=1")
            self._stop.wait(1.0)

    def stop(self) -> None:
        """End all threads."""
        self._stop.set()
        for gone in self._gone.values():
            gone.set()
        for thread in list(self._threads.values()):
            thread.join()

    def follow(self, wanted: AbstractSet[balance.Server]) -> None:
        """Begin with engines that are new, leave those that are gone."""
        for server in [server for server in self._threads if server not in wanted]:
            self._gone.pop(server).set()
            self._threads.pop(server)
            self._took.pop(server, None)
        for server in wanted - set(self._threads):
            gone = self._gone[server] = threading.Event()
            self._threads[server] = threading.Thread(target=self._probe, args=(server, gone), daemon=True)
            self._threads[server].start()

    def _probe(self, server: balance.Server, gone: threading.Event) -> None:
        eye, settings = Eye(server, self.settings, self._key, self._say), self.settings
        track = Track()
        while not gone.is_set():
            began = time.monotonic()
            try:
                track = self.turn(eye, server, track)
            except (OSError, ValueError, balance.Refused) as error:
                self._say(f"{server.engine}: {error}")
            gone.wait(max(settings.interval_s / 10, settings.interval_s - (time.monotonic() - began)))

    def turn(self, eye: Eye, server: balance.Server, track: Track) -> Track:
        """One look at one engine, and what follows."""
        state = balance.read_state(self.balancer.places.states, server.engine)
        if state.epoch != track.epoch:
            track = Track(state.epoch, outs=track.outs)
        if state.drained:
            self._took.pop(server, None)
            return track
        look = eye.look(track.trail)
        others = [took for other, took in list(self._took.items()) if other.deployment == server.deployment and other != server]
        track, share, why = decide(self.settings, track, look, state.share, others)
        if look.answer == watchdog.TOKEN and share >= balance.LOW:
            self._took[server] = look.seconds
        else:
            self._took.pop(server, None)
        if share != state.share:
            with self._turn:
                time.sleep(max(0.0, self._reloaded + RELOAD_S - time.monotonic()))
                # one that gives tokens is slow at worst: better than none
                if self.balancer.judge(server.engine, state.epoch, share, why, may_be_last=look.answer != watchdog.TOKEN):
                    self._say(f"{server.engine}: share {state.share:g} -> {share:g}: {why}")
                    self._reloaded = time.monotonic()
        return track


class Eye(watchdog.Watchdog):
    """The watchdog's look at an engine on another host, whose unit is not seen."""

    def __init__(self, server: balance.Server, settings: Settings, key: str, say: Callable[[str], None]) -> None:
        config = watchdog.Config(server.engine, "", server.address, server.port, server.deployment, settings.interval_s,
                                 settings.timeout_s, settings.misses, settings.stall_s, 0, 0, "/nonexistent")
        super().__init__(config, key, say)

    def unit(self) -> watchdog.Unit:
        """Up for ever, as far as can be seen from here."""
        return watchdog.Unit("active", "there", HOUR_S)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Send requests only where tokens come.")
    parser.add_argument("--config", required=True, help="JSON file, see Settings")
    options: Any = parser.parse_args(argv)
    try:
        settings, key = read_settings(options.config)
    except (OSError, ValueError) as error:
        base.complain(f"the prober cannot begin: {error}")
        return 2
    prober = Prober(balance.Balancer(balance.Places(), balance.reload_nginx), settings, key, base.say)
    base.notify("READY=1")
    prober.watch()
    return 0


def read_settings(path: str) -> tuple[Settings, str]:
    """(settings, the engines' key) of the role's file; raises ValueError or OSError."""
    settings: Settings = base.settings(Settings, path, {
        "interval_s": 0.01, "timeout_s": 0.01, "misses": 1, "stall_s": 0, "slow_ms": 1, "slow_probes": 1})
    return settings, watchdog.read_key(settings.key_file)


if __name__ == "__main__":
    raise SystemExit(main())
