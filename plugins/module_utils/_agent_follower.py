# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts a rank of a replica that spans hosts anew when its head has gone, so that it can meet the next one.

Runs on the hosts, one process per rank above 0: standard library only, nothing of ansible, Python 3.9+. All times are monotonic
seconds; a jump of the clock changes nothing.

vLLM's rank above 0 does not notice that its head has died: it runs on, and the head that systemd starts waits for it in vain. A
head has gone for a rank when it was healthy since this rank started, and then nobody listened on its port for gone_s seconds, or
it is another process by now. A rank whose head was never healthy loads, and is left alone for ready_timeout_s. A head that gives
no answer at all proves nothing: the network may be cut, and what stands on both sides of it may go on.

Exit status: 2 the configuration cannot be used; otherwise it runs until it is stopped.
"""
from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Callable, Optional, Sequence

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

HEALTHY, REFUSED, SILENT = "healthy", "refused", "silent"  # what the head says: its metrics, no port, anything else
ALONE, LOADING, FOLLOWING, CUT, MISSED, STALE = "alone", "loading", "following", "cut", "missed", "stale"
REASONS = ("gone", "replaced", "stuck")
HOUR_S, PAUSE_S = 3600.0, 60.0  # a second restart within an hour comes so long after the first, then twice as long each time
BODY_LIMIT = 16 << 20
# The server's own, by prometheus_client; there is none with several API servers: prometheus.github.io/client_python/multiprocess
_STARTED = re.compile(r"^process_start_time_seconds (\S+)$", re.M)


@dataclass(frozen=True)
class Config:
    """Whom to follow. gone_s: seconds in a row that nobody listens on the head's port; ready_timeout_s: from a start to the first
    token; restarts: False to say only what would be done."""

    engine: str
    unit: str
    host: str
    port: int
    interval_s: float = 3.0
    timeout_s: float = 5.0
    gone_s: float = 10.0
    ready_timeout_s: float = 660.0
    restarts: bool = True
    state_dir: str = "/var/lib/idc_llm/follower"
    metrics_dir: str = ""


@dataclass(frozen=True)
class Unit:
    """systemd's view of the own rank. start: names this start of the unit; age_s: since it is active."""

    active: str = "unknown"
    start: str = ""
    age_s: float = 0.0


@dataclass(frozen=True)
class Look:
    """One look. at: when it ended; head: one of HEALTHY, REFUSED, SILENT; born: the head's start by its own clock, None unknown."""

    at: float
    unit: Unit
    head: str = SILENT
    born: Optional[float] = None


@dataclass(frozen=True)
class Trail:
    """What is remembered from look to look. met: the head was healthy since this start; refused: since when nobody listens."""

    start: str = ""
    met: bool = False
    born: Optional[float] = None
    refused: Optional[float] = None


@dataclass(frozen=True)
class Verdict:
    """What a look means. reason: why to restart, only with STALE."""

    kind: str
    text: str
    reason: str = ""


def judge(config: Config, trail: Trail, look: Look) -> tuple[Trail, Verdict]:
    """What this look means after those before it. Pure."""
    unit, where = look.unit, f"the head at {config.host}:{config.port}"
    if unit.active != "active":
        return Trail(), Verdict(ALONE, f"the unit is {unit.active}: left alone")
    trail = trail if trail.start == unit.start else Trail(unit.start)
    if look.head == HEALTHY:
        if trail.born is not None and look.born not in (None, trail.born):
            return trail, Verdict(STALE, f"{where} is another process than the one that this rank met", "replaced")
        born = trail.born if look.born is None else look.born
        return replace(trail, met=True, born=born, refused=None), Verdict(FOLLOWING, f"{where} is healthy")
    if look.head == SILENT:
        words = "cut off?" if trail.met else "not there yet?"
        return replace(trail, refused=None), Verdict(CUT, f"{where} gives no answer ({words}): left alone")

    trail = trail if trail.refused is not None else replace(trail, refused=look.at)
    lasted = look.at - (trail.refused or 0.0)
    if not trail.met and unit.age_s < config.ready_timeout_s:
        return trail, Verdict(LOADING, f"{where} is not ready, and this rank is up for {unit.age_s:.0f} s: left alone")
    if lasted < config.gone_s:
        return trail, Verdict(MISSED, f"nobody listens at {where}")
    if trail.met:
        return trail, Verdict(STALE, f"{where} was healthy and has gone for {lasted:.0f} s", "gone")
    return trail, Verdict(STALE, f"{where} did not get ready in the {unit.age_s:.0f} s that this rank is up", "stuck")


def hold(config: Config, restarts: Sequence[float], now: float) -> float:
    """Seconds until the next restart is allowed: none for the first of an hour, then PAUSE_S apart, twice as long each time, up to
    ready_timeout_s. No limit of a day: a rank without its head serves nobody, so that a restart takes nothing away."""
    recent = [at for at in restarts if now - at < max(HOUR_S, config.ready_timeout_s)]
    if not recent:
        return 0.0
    return max(0.0, recent[-1] + min(PAUSE_S * 2.0 ** (len(recent) - 1), config.ready_timeout_s) - now)


def ask(host: str, port: int, timeout: float) -> tuple[str, Optional[float]]:
    """(what the head says, when it started by its own clock or None) within about ``timeout`` seconds."""
    end = time.monotonic() + timeout
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        response = connection.getresponse()
        parts, size = [], 0
        while size < BODY_LIMIT and time.monotonic() < end:
            part = response.read1(1 << 16)
            if not part:
                break
            parts.append(part)
            size += len(part)
        match, born = _STARTED.search(b"".join(parts).decode("utf-8", "replace")), None
        with suppress(ValueError):
            born = float(match.group(1)) if match else None
        return (HEALTHY if response.status == 200 else SILENT), born
    except ConnectionRefusedError:
        return REFUSED, None
    except (OSError, http.client.HTTPException):
        return SILENT, None
    finally:
        connection.close()


# --- what is written -------------------------------------------------------------------------------------------------


@dataclass
class Account:
    """What survives the follower: the start of the unit that has met its head; restarts by reason, and when (monotonic seconds of
    this boot) the latest were."""

    boot: str = ""
    met: str = ""
    restarts: dict[str, int] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)


def read_account(path: str, boot: str) -> Account:
    """The account so far; of another boot only the counts mean anything. A torn file is begun anew."""
    try:
        with open(path, encoding="utf-8") as stream:
            row = json.load(stream)
        restarts = {str(reason): int(count) for reason, count in row["restarts"].items()}
        at = [float(when) for when in row["at"]]
        return Account(boot, str(row["met"]), restarts, at) if row["boot"] == boot else Account(boot, "", restarts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Account(boot)


def metric_text(engine: str, account: Account, verdict: Verdict, withheld: bool) -> str:
    """For node_exporter's textfile collector: https://github.com/prometheus/node_exporter#textfile-collector"""
    label, name = f'engine="{engine}"', "idc_llm_follower_"
    text = [f"# HELP {name}restarts_total Restarts of a rank whose head had gone.", f"# TYPE {name}restarts_total counter"]
    text += [f'{name}restarts_total{{{label},reason="{reason}"}} {account.restarts.get(reason, 0)}' for reason in REASONS]
    for key, words, value in (
        ("head_healthy", "1: the head of this rank answers.", verdict.kind == FOLLOWING),
        ("withheld", "1: a restart is due and held back, by the wait after another one or by the configuration.", withheld),
    ):
        text += [f"# HELP {name}{key} {words}", f"# TYPE {name}{key} gauge", f"{name}{key}{{{label}}} {int(value)}"]
    return "\n".join(text) + "\n"


# --- following -------------------------------------------------------------------------------------------------------


class Follower:
    """Follows the head of one rank. ``say``: a line for the journal."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        self.config = config
        self._say = say
        self._told: tuple[str, ...] = ()
        self._account_file = os.path.join(config.state_dir, f"{config.engine}.json")
        self.account = read_account(self._account_file, base.boot_id())
        self.trail = Trail(self.account.met, bool(self.account.met))

    def tick(self) -> Verdict:
        """Look once, and do what follows."""
        unit = self.unit()
        head = ask(self.config.host, self.config.port, self.config.timeout_s) if unit.active == "active" else (SILENT, None)
        look = Look(time.monotonic(), unit, *head)
        self.trail, verdict = judge(self.config, self.trail, look)
        if self.trail.met and self.account.met != self.trail.start:
            self.account.met = self.trail.start
            self._keep()
        wait = hold(self.config, self.account.at, look.at) if verdict.kind == STALE else 0.0
        held = verdict.kind == STALE and (wait > 0 or not self.config.restarts)
        if verdict.kind == STALE and not held:
            self._say(f"{verdict.text}: restarting {self.config.unit}")
            self.restart(verdict.reason, look)
        elif verdict.kind != MISSED and self._told != (verdict.kind, verdict.reason):
            why = f"is held back for {wait:.0f} s" if self.config.restarts else "is not configured"
            self._say(verdict.text + (f": a restart {why}" if held else ""))
        self._told = (verdict.kind, verdict.reason) if verdict.kind != MISSED else self._told
        if self.config.metrics_dir:
            text = metric_text(self.config.engine, self.account, verdict, held)
            base.put(self._say, os.path.join(self.config.metrics_dir, f"idc_llm_follower_{self.config.engine}.prom"), text)
        return verdict

    def restart(self, reason: str, look: Look) -> None:
        """Count it and end the rank; systemd brings it up again (Restart=always).

        With SIGKILL: no answer is lost with a rank that has no head, one that waits for its head takes no SIGTERM, and the next
        head waits for this one.
        """
        now = self.unit()
        if now.active != "active" or now.start != look.unit.start:
            self._say(f"{self.config.unit} is not what it was any more: left alone")
            return
        self.account.restarts[reason] = self.account.restarts.get(reason, 0) + 1
        self.account.at = [at for at in self.account.at if look.at - at < max(HOUR_S, self.config.ready_timeout_s)] + [look.at]
        self.account.met, self.trail = "", Trail()
        self._keep()
        base.systemctl(self._say, "kill", "--signal=SIGKILL", self.config.unit)

    def unit(self) -> Unit:
        """What systemd says of the own rank."""
        keys = "ActiveState,InvocationID,ActiveEnterTimestampMonotonic"
        text = base.systemctl(self._say, "show", self.config.unit, f"--property={keys}")
        show = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        entered = int(show.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        return Unit(show.get("ActiveState", "unknown"), show.get("InvocationID") or str(entered), time.monotonic() - entered)

    def _keep(self) -> None:
        base.put(self._say, self._account_file, json.dumps(asdict(self.account)) + "\n")


def read_config(path: str) -> Config:
    """The configuration; raises ValueError or OSError."""
    config: Config = base.settings(Config, path, {
        "interval_s": 0.01, "timeout_s": 0.01, "gone_s": 0, "ready_timeout_s": 0, "port": 1})
    if not isinstance(config.restarts, bool):
        raise ValueError(f"{path}: restarts is {config.restarts!r}, wanted true or false")
    return config


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Follow the head of one rank.")
    parser.add_argument("--config", required=True, help="JSON file, see Config")
    parser.add_argument("--looks", type=int, default=0, help="end after so many looks; 0: never")
    options: Any = parser.parse_args(argv)
    try:
        config = read_config(options.config)
    except (OSError, ValueError) as error:
        base.complain(f"the follower cannot begin: {error}")
        return 2
    follower = Follower(config, lambda line: base.say(f"{config.engine}: {line}"))
    base.notify("READY=1")
    looks = 0
    while not options.looks or looks < options.looks:
        follower.tick()
        base.notify("WATCHDOG=1")
        looks += 1
        time.sleep(config.interval_s)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
