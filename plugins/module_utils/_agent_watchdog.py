# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks an engine for one token, again and again, and starts it anew when it is proven to hang.

Runs on the hosts, one process per engine: standard library only, nothing of ansible, Python 3.9+. All times are monotonic
seconds; a jump of the clock changes nothing.

An engine hangs when its probes stay without a token while work waits and no counter of its tokens moves. What an engine says
of its queue is as old as its last step, so a probe that got no answer is itself work that waits. Counters that move, or a KV
cache that fills (a long prompt gives no token for minutes), show an engine that is busy: it is left alone, always.

Exit status: 2 the configuration or the key cannot be used; otherwise it runs until it is stopped.
"""
from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

OK, DEAD, REFUSED, SILENT = "ok", "dead", "refused", "silent"  # what /health says: 200, another status, no port, nothing
TOKEN, ERROR, NONE = "token", "error", "none"  # what a probe got: a token, an answer without one, nothing
ALONE, LOADING, WELL, MISSED, BUSY, FAILING, BLIND, HUNG = (
    "alone", "loading", "well", "missed", "busy", "failing", "blind", "hung")
REASONS = ("hung", "stuck_rank", "dead", "deaf", "refused")
DAY_S = 86400.0
BACKOFF_CAP_S = 7200.0  # the longest wait between two restarts, where ready_timeout_s is not longer
LOOK_S = 5.0  # for /health and /metrics
DUMP_S = 3.0  # for Python to write its stacks before SIGKILL
BODY_LIMIT = 16 << 20
RECORD_LIMIT, RECORDS = 256 << 10, 5  # bytes of one record, records kept
CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd")  # version 2, version 1
# vLLM 0.32, v1/metrics/loggers.py; the labels of all are model_name and engine (the data-parallel rank)
TOKENS = ("vllm:iteration_tokens_total_count", "vllm:iteration_tokens_total_sum", "vllm:generation_tokens_total",
          "vllm:prompt_tokens_total")
RUNNING, WAITING, KV = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{(.*)\})? (\S+)")
_ENGINE = re.compile(r'(?:^|,)engine="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Config:
    """What to watch. interval_s: from probe to probe; timeout_s: of a probe; misses and hang_s: what proves a hang;
    restarts_per_day: from then on it only reports; key_file: of mode 0600, "" where the engine asks for none."""

    engine: str
    unit: str
    host: str
    port: int
    model: str
    interval_s: float = 10.0
    timeout_s: float = 20.0
    misses: int = 3
    hang_s: float = 90.0
    ready_timeout_s: float = 600.0
    restarts_per_day: int = 6
    state_dir: str = "/var/lib/idc_llm/watchdog"
    metrics_dir: str = ""
    key_file: str = ""


@dataclass(frozen=True)
class Rank:
    """One data-parallel rank by its own metrics. kv: share of the cache in use; tokens: counters that only grow."""

    running: float = 0.0
    waiting: float = 0.0
    kv: float = 0.0
    tokens: tuple[float, ...] = (0.0,) * len(TOKENS)


@dataclass(frozen=True)
class Unit:
    """systemd's view. start: names this start of the unit; age_s: since it is active; cgroup: below the root of cgroups."""

    active: str = "unknown"
    start: str = ""
    age_s: float = 0.0
    pid: int = 0
    cgroup: str = ""


@dataclass(frozen=True)
class Look:
    """One look at an engine. at: when it ended; rank: which one was asked, "" for any; ranks: None when /metrics gave nothing,
    empty when it holds no counters."""

    at: float
    unit: Unit
    health: str = ""
    answer: str = ""
    detail: str = ""
    seconds: float = 0.0
    rank: str = ""
    ranks: Optional[Mapping[str, Rank]] = None


@dataclass(frozen=True)
class Trail:
    """What is remembered from look to look. misses: in a row without any progress; base: the counters at the first of them,
    which was at since; unanswered: one of them got nothing at all."""

    start: str = ""
    ready: bool = False
    misses: int = 0
    since: float = 0.0
    rank: str = ""
    unanswered: bool = False
    base: Optional[Mapping[str, Rank]] = None


@dataclass(frozen=True)
class Verdict:
    """What a look means. reason: why to restart, only with HUNG."""

    kind: str
    text: str
    reason: str = ""


def read_metrics(text: str) -> dict[str, Rank]:
    """{engine label: rank} of vLLM's /metrics; empty where it shows none (as with --disable-log-stats)."""
    seen: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match and match.group(1) in (*TOKENS, RUNNING, WAITING, KV):
            label = _ENGINE.search(match.group(2) or "")
            with suppress(ValueError):
                value = float(match.group(3))
                if not math.isnan(value):  # which would always seem to move
                    row = seen.setdefault(label.group(1) if label else "", {})
                    row[match.group(1)] = row.get(match.group(1), 0.0) + value
    return {engine: Rank(row.get(RUNNING, 0.0), row.get(WAITING, 0.0), row.get(KV, 0.0),
                         tuple(row.get(name, 0.0) for name in TOKENS))
            for engine, row in seen.items() if RUNNING in row and any(name in row for name in TOKENS)}


def in_order(ranks: Mapping[str, Rank]) -> list[str]:
    """The labels as vLLM counts its ranks."""
    return sorted(ranks, key=lambda label: (len(label), label))


def moved(before: Mapping[str, Rank], now: Mapping[str, Rank], rank: str = "") -> bool:
    """Tokens were made since: on this rank, or with "" on any."""
    return set(before) != set(now) or any(now[name].tokens != before[name].tokens for name in now if rank in ("", name))


def filled(before: Mapping[str, Rank], now: Mapping[str, Rank], rank: str = "") -> bool:
    """The KV cache holds more than it ever did since: a prompt is being read. vLLM counts tokens only in steps that give some."""
    return any(now[name].kv > before[name].kv for name in now if name in before and rank in ("", name))


def drained(ranks: Mapping[str, Rank]) -> bool:
    """No request runs and none waits, on any rank; False where there are no counters to say so."""
    return bool(ranks) and not any(rank.running or rank.waiting for rank in ranks.values())


def judge(config: Config, trail: Trail, look: Look) -> tuple[Trail, Verdict]:
    """What this look means after those before it. Pure."""
    unit = look.unit
    if unit.active != "active":
        return Trail(), Verdict(ALONE, f"the unit is {unit.active}: left alone")
    trail = trail if trail.start == unit.start else Trail(unit.start)
    ready = trail.ready or look.health == OK or look.answer == TOKEN
    fresh = Trail(unit.start, ready)
    if unit.age_s < config.ready_timeout_s and (not ready or look.health == REFUSED):
        return fresh, Verdict(LOADING, f"up for {unit.age_s:.0f} s and not ready (/health: {look.health}): left alone")
    if look.answer == TOKEN:
        return fresh, Verdict(WELL, f"a token after {look.seconds:.2f} s")

    unanswered, seen = look.answer == NONE, look.ranks or None
    who = f"rank {look.rank}: " if look.rank else ""
    what = f"{who}{look.detail or 'no token'} (/health: {look.health})"
    from_here = Trail(unit.start, ready, 1, look.at, look.rank, unanswered, seen)
    if not trail.misses or trail.rank != look.rank or (seen and not trail.base):
        trail = from_here
    elif trail.base and seen and moved(trail.base, seen, look.rank):
        return fresh, Verdict(BUSY, f"{what}, but tokens are being made: busy, left alone")
    elif trail.base and seen and filled(trail.base, seen, look.rank):
        return from_here, Verdict(BUSY, f"{what}, but the KV cache fills, a prompt is being read: busy, left alone")
    else:
        trail = replace(trail, misses=trail.misses + 1, unanswered=trail.unanswered or unanswered)

    reason = _reason(trail, look)
    patience = 2 if reason == "deaf" else 1  # nothing at all is known of it: it may be reading a flood of requests
    if not reason and look.ranks == {}:
        return trail, Verdict(BLIND, f"{what}, and /metrics has no counters (disable-log-stats?): left alone")
    if not reason:
        return trail, Verdict(FAILING, f"{what}, and no request waits: left alone, a restart would not help")
    lasted = look.at - trail.since
    if trail.misses < config.misses * patience or lasted < config.hang_s * patience:
        return trail, Verdict(MISSED, f"{what}: miss {trail.misses}, no progress for {lasted:.0f} s")
    return trail, Verdict(HUNG, f"{what}: {trail.misses} misses and no progress in {lasted:.0f} s: {reason}", reason)


def _reason(trail: Trail, look: Look) -> str:
    """Which fault it would be, "" for none that a restart mends."""
    if look.health in (DEAD, REFUSED):
        return look.health
    if look.health == SILENT and not look.ranks:
        return "deaf"
    if look.ranks == {}:
        return ""
    asked = [rank for name, rank in (look.ranks or {}).items() if look.rank in ("", name)]
    if not trail.unanswered and not any(rank.running or rank.waiting for rank in asked):
        return ""
    others = look.rank and look.ranks and trail.base and moved(trail.base, look.ranks)
    return "stuck_rank" if others else "hung"


def hold(config: Config, restarts: Sequence[float], now: float) -> float:
    """Seconds until the next restart is allowed: ready_timeout_s after the first of a day, then twice as long each time."""
    recent = [at for at in restarts if now - at < DAY_S]
    if len(recent) >= config.restarts_per_day:
        return recent[-config.restarts_per_day] + DAY_S - now if config.restarts_per_day else DAY_S
    if not recent:
        return 0.0
    wait = min(config.ready_timeout_s * 2.0 ** (len(recent) - 1), max(config.ready_timeout_s, BACKOFF_CAP_S))
    return max(0.0, recent[-1] + wait - now)


def next_rank(names: Sequence[str], trail: Trail, last: str) -> str:
    """The rank to ask: each in turn, but one that missed until it answers or moves; "" where there is only one."""
    if len(names) < 2:
        return ""
    if trail.misses and trail.rank in names:
        return trail.rank
    return names[(names.index(last) + 1) % len(names) if last in names else 0]


# --- asking ----------------------------------------------------------------------------------------------------------


class NoReply(Exception):
    """No HTTP status came back. ``refused``: nobody listens there."""

    def __init__(self, refused: bool) -> None:
        super().__init__("refused" if refused else "silent")
        self.refused = refused


def call(host: str, port: int, path: str, timeout: float, body: Optional[Mapping[str, Any]] = None,
         headers: Optional[Mapping[str, str]] = None) -> tuple[int, str]:
    """(status, text) within ``timeout`` seconds; host "" or any-address is this machine. Raises NoReply."""
    end = time.monotonic() + timeout
    place = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        connection = http.client.HTTPConnection(place, port, timeout=timeout)
    except http.client.InvalidURL as error:
        raise NoReply(refused=False) from error
    try:
        try:
            connection.connect()
        except OSError as error:
            raise NoReply(refused=not isinstance(error, socket.timeout)) from error
        sock = connection.sock
        data = None if body is None else json.dumps(body)
        more = {"Connection": "close", **({} if data is None else {"Content-Type": "application/json"}), **(headers or {})}
        connection.request("GET" if data is None else "POST", path, data, more)
        response = connection.getresponse()
        parts, size = [], 0
        while size < BODY_LIMIT and not response.isclosed():  # Python 3.13 closes it with the last byte, and the socket with it
            sock.settimeout(max(0.001, end - time.monotonic()))
            part = response.read1(1 << 16)
            if not part:
                break
            parts.append(part)
            size += len(part)
            if time.monotonic() >= end:
                raise NoReply(refused=False)
        return response.status, b"".join(parts).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise NoReply(refused=False) from error
    finally:
        connection.close()


def scrape(host: str, port: int) -> Optional[dict[str, Rank]]:
    """The ranks by /metrics; None when it gave nothing. Raises NoReply only where nobody listens."""
    try:
        status, text = call(host, port, "/metrics", LOOK_S)
    except NoReply as error:
        if error.refused:
            raise
        return None
    return read_metrics(text) if status == 200 else None


def wait_drained(host: str, port: int, timeout: float, calm: int = 3, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> tuple[bool, str]:
    """(whether it is drained, what was seen last): ``calm`` looks in a row, a second apart, saw no request.

    More than one look, because a request that is being read (tokenised) is in no gauge yet. An engine that does not listen is
    drained. Give it ``timeout`` seconds.
    """
    end, quiet, last = clock() + timeout, 0, ""
    while True:
        try:
            ranks = scrape(host, port)
        except NoReply:
            return True, "nobody listens there"
        quiet = quiet + 1 if ranks and drained(ranks) else 0
        if ranks:
            running, waiting = (sum(each) for each in zip(*((rank.running, rank.waiting) for rank in ranks.values())))
            last = f"{running:.0f} running, {waiting:.0f} waiting"
        else:
            last = "/metrics gave nothing" if ranks is None else "/metrics has no counters"
        if quiet >= calm:
            return True, last
        if clock() >= end:
            return False, last
        sleep(1.0)


# --- what is written -------------------------------------------------------------------------------------------------


@dataclass
class Account:
    """What survives the watchdog: restarts by reason, and when (monotonic seconds of this boot) the latest were."""

    boot: str = ""
    restarts: dict[str, int] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)


def read_account(path: str, boot: str) -> Account:
    """The account so far; times of another boot mean nothing and are dropped. A torn file is begun anew."""
    try:
        with open(path, encoding="utf-8") as stream:
            row = json.load(stream)
        restarts = {str(reason): int(count) for reason, count in row["restarts"].items()}
        return Account(boot, restarts, [float(at) for at in row["at"]] if row["boot"] == boot else [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Account(boot)


def metric_text(engine: str, account: Account, probe_s: float, misses: int, withheld: bool) -> str:
    """For node_exporter's textfile collector: https://github.com/prometheus/node_exporter#textfile-collector"""
    label = f'engine="{engine}"'
    name = "idc_llm_watchdog_"
    text = [f"# HELP {name}restarts_total Restarts of an engine that was proven to hang.", f"# TYPE {name}restarts_total counter"]
    text += [f'{name}restarts_total{{{label},reason="{reason}"}} {account.restarts.get(reason, 0)}' for reason in REASONS]
    for key, words, value in (
        ("probe_seconds", "Time that the last token asked for took.", f"{probe_s:.3f}"),
        ("misses", "Probes in a row without a token and without progress.", misses),
        ("withheld", "1: a restart is due and held back, by the wait after another one or by the limit of a day.", int(withheld)),
    ):
        text += [f"# HELP {name}{key} {words}", f"# TYPE {name}{key} gauge", f"{name}{key}{{{label}}} {value}"]
    return "\n".join(text) + "\n"


def processes(unit: Unit) -> list[int]:
    """The unit's processes: its control group's, or the main one alone."""
    places = [f"{root}{unit.cgroup}/cgroup.procs" for root in CGROUPS if unit.cgroup]
    pids = {int(word) for place in places for word in base.read(place, 1 << 16).split()}
    return sorted(pids or ({unit.pid} if unit.pid else ()))


def stacks(pids: Sequence[int]) -> Iterator[str]:
    """Where each thread of the processes stands in the kernel, equal ones counted. cmdline is not read: that can block on
    the memory lock of a process that hangs."""
    for pid in pids:
        wanted = ("Name", "State", "PPid", "Threads", "VmRSS", "SigPnd", "ShdPnd")
        status = [line for line in base.read(f"/proc/{pid}/status").splitlines() if line.partition(":")[0] in wanted]
        yield f"process {pid}: " + ", ".join(" ".join(line.split()) for line in status)
        count: Counter[tuple[str, ...]] = Counter()
        for task in _names(f"/proc/{pid}/task"):
            folder = f"/proc/{pid}/task/{task}/"
            state = re.search(r"^State:\s*(.*)$", base.read(folder + "status"), re.MULTILINE)
            stack = "; ".join(line.split(" ", 1)[-1] for line in base.read(folder + "stack").splitlines())
            comm, place = base.read(folder + "comm").strip(), base.read(folder + "wchan").strip() or "?"
            count[comm, state.group(1) if state else "gone", place, stack] += 1
        for (comm, state_, place, stack), number in count.most_common():
            yield f"  {number} x {comm}: {state_}, in {place}" + (f" [{stack}]" if stack else "")


# --- the watch -------------------------------------------------------------------------------------------------------


class Watchdog:
    """Watches one engine. ``say``: a line for the journal."""

    def __init__(self, config: Config, key: str, say: Callable[[str], None]) -> None:
        self.config = config
        self.trail = Trail()
        self.probe_s = 0.0  # what the last token took
        self._key = key
        self._say = say
        self._names: list[str] = []  # of the ranks, as last seen
        self._rank = ""  # asked last
        self._told: tuple[Any, ...] = ()
        self._account_file = os.path.join(config.state_dir, f"{config.engine}.json")
        self.account = read_account(self._account_file, base.boot_id())

    def tick(self) -> Verdict:
        """Look once, and do what follows."""
        look = self.look(self.trail)
        self.trail, verdict = judge(self.config, self.trail, look)
        if verdict.kind == WELL:
            self.probe_s = look.seconds
        wait = hold(self.config, self.account.at, look.at) if verdict.kind == HUNG else 0.0
        if verdict.kind == HUNG and not wait:
            self._say(f"{verdict.text}: restarting {self.config.unit}")
            self.restart(verdict.reason, look)
            self.trail = Trail()
        else:
            self._tell(verdict, wait)
        if self.config.metrics_dir:
            text = metric_text(self.config.engine, self.account, self.probe_s, self.trail.misses, wait > 0)
            base.put(self._say, os.path.join(self.config.metrics_dir, f"idc_llm_watchdog_{self.config.engine}.prom"), text)
        return verdict

    def look(self, trail: Trail) -> Look:
        """Ask systemd, /health, for a token, and for the counters."""
        where, unit = (self.config.host, self.config.port), self.unit()
        if unit.active != "active":
            return Look(time.monotonic(), unit)
        try:
            health = self._health()
            self._rank = next_rank(self._names, trail, self._rank)
            began = time.monotonic()
            answer, detail = self.ask(self._rank)
            seconds = time.monotonic() - began
            ranks = scrape(*where)
        except NoReply:
            return Look(time.monotonic(), unit, REFUSED, NONE, "the port refuses", rank=self._rank)
        self._names = in_order(ranks) if ranks else self._names
        return Look(time.monotonic(), unit, health, answer, detail, seconds, self._rank, ranks)

    def _health(self) -> str:
        try:
            return OK if call(self.config.host, self.config.port, "/health", LOOK_S)[0] == 200 else DEAD
        except NoReply as error:
            if error.refused:
                raise
            return SILENT

    def ask(self, rank: str) -> tuple[str, str]:
        """(TOKEN, ERROR or NONE; what came instead of a token) of one completion of one token."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        if rank:  # vLLM counts the ranks of this server from 0, whatever their labels: v1/engine/input_processor.py
            headers["X-data-parallel-rank"] = str(self._names.index(rank))
        body = {"model": self.config.model, "prompt": "Hi", "max_tokens": 1, "temperature": 0}
        try:
            status, text = call(self.config.host, self.config.port, "/v1/completions", self.config.timeout_s, body, headers)
        except NoReply as error:
            if error.refused:
                raise
            return NONE, f"no answer in {self.config.timeout_s:g} s"
        with suppress(ValueError, AttributeError):
            if status == 200 and json.loads(text).get("choices"):
                return TOKEN, ""
        return ERROR, f"no token but status {status}"

    def unit(self) -> Unit:
        """What systemd says of the engine."""
        keys = "ActiveState,InvocationID,ActiveEnterTimestampMonotonic,MainPID,ControlGroup"
        text = base.systemctl(self._say, "show", self.config.unit, f"--property={keys}")
        show = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        entered = int(show.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        return Unit(show.get("ActiveState", "unknown"), show.get("InvocationID") or str(entered), time.monotonic() - entered,
                    int(show.get("MainPID") or 0), show.get("ControlGroup", ""))

    def restart(self, reason: str, look: Look) -> None:
        """Count it, record what can be seen, end the engine; systemd brings it up again (Restart=always).

        An engine that hangs as a whole is killed: it would use up its whole drain time for answers that never come, and a
        stopped process or one that still loads takes no SIGTERM. Where only one rank is stuck, the answers of the others are
        under way: there the engine is stopped with its drain time.
        """
        unit, account = look.unit, self.account
        if self._gone(unit):
            self._say(f"{self.config.unit} is not what it was any more: left alone")
            return
        account.restarts[reason] = account.restarts.get(reason, 0) + 1
        account.at = [at for at in account.at if time.monotonic() - at < DAY_S] + [time.monotonic()]
        base.put(self._say, self._account_file, json.dumps(asdict(account)) + "\n")
        pids = processes(unit)
        self._record(pids, f"{self.config.unit}, {reason}, {look.detail}, {dict(look.ranks or {})}")
        if reason == "stuck_rank":
            base.systemctl(self._say, "restart", "--no-block", self.config.unit)
        elif not self._abort(pids, unit):
            base.systemctl(self._say, "kill", "--signal=SIGKILL", self.config.unit)

    def _abort(self, pids: Sequence[int], unit: Unit) -> bool:
        """SIGABRT, at which Python with PYTHONFAULTHANDLER=1 writes the stacks of all its threads to the journal; the main
        process last, because systemd kills the others when that is gone. True when this ended the unit."""
        for group in ([pid for pid in pids if pid != unit.pid], [pid for pid in pids if pid == unit.pid]):
            for pid in group:
                with suppress(OSError):
                    os.kill(pid, signal.SIGABRT)
            end = time.monotonic() + DUMP_S
            while time.monotonic() < end and any(os.path.exists(f"/proc/{pid}") for pid in group):
                if self._gone(unit):
                    return True
                time.sleep(0.2)
        return self._gone(unit)

    def _gone(self, unit: Unit) -> bool:
        now = self.unit()
        return now.active != "active" or now.start != unit.start

    def _record(self, pids: Sequence[int], head: str) -> None:
        """A file with what /proc shows; the oldest are removed by their number, whatever the clock says."""
        number = sum(self.account.restarts.values())
        path = os.path.join(self.config.state_dir, f"{self.config.engine}-{number}.txt")
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if base.put(self._say, path, "\n".join([f"{at} {head}", *stacks(pids)])[:RECORD_LIMIT] + "\n"):
            self._say(f"where its threads stood is in {path}; Python's own stacks follow in the journal of {self.config.unit}")
        with suppress(OSError):
            os.unlink(os.path.join(self.config.state_dir, f"{self.config.engine}-{number - RECORDS}.txt"))

    def _tell(self, verdict: Verdict, wait: float) -> None:
        """A line where something is new: another miss is, the first one is nothing yet."""
        told = (verdict.kind, verdict.reason, self.trail.misses if verdict.kind == MISSED else 0)
        if told == (MISSED, "", 1):
            return
        if told != self._told:
            self._say(verdict.text + (f": a restart is held back for {wait:.0f} s" if wait else ""))
        self._told = told


def read_config(path: str) -> tuple[Config, str]:
    """(configuration, key); raises ValueError or OSError. The key: what ``key_file``, which only its owner reads, holds."""
    config: Config = base.settings(Config, path, {
        "interval_s": 0.01, "timeout_s": 0.01, "misses": 1, "hang_s": 0, "ready_timeout_s": 0, "restarts_per_day": 0, "port": 1})
    return config, read_key(config.key_file)


def read_key(path: str) -> str:
    """The key in a file that only its owner reads; "" without one. Raises ValueError or OSError."""
    if not path:
        return ""
    with open(path, encoding="utf-8") as stream:
        if os.fstat(stream.fileno()).st_mode & 0o077:
            raise ValueError(f"{path} can be read by others, wanted mode 0600")
        key = stream.read().strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the key holds a character that HTTP forbids")
    return key


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Watch one engine.")
    parser.add_argument("--config", required=True, help="JSON file, see Config")
    parser.add_argument("--looks", type=int, default=0, help="end after so many looks; 0: never")
    options: Any = parser.parse_args(argv)
    try:
        config, key = read_config(options.config)
    except (OSError, ValueError) as error:
        base.complain(f"the watchdog cannot begin: {error}")
        return 2
    watchdog = Watchdog(config, key, lambda line: base.say(f"{config.engine}: {line}"))
    base.notify("READY=1")
    looks = 0
    while not options.looks or looks < options.looks:
        began = time.monotonic()
        watchdog.tick()
        base.notify("WATCHDOG=1")
        looks += 1
        time.sleep(max(config.interval_s / 10, config.interval_s - (time.monotonic() - began)))
    return 0


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


if __name__ == "__main__":
    raise SystemExit(main())
