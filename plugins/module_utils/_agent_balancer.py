# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engines nginx sends requests to: the plan, what the operator drained, and what the prober found, in one place.

Runs on gateways: standard library only, nothing of ansible, Python 3.9+. Whoever wants a change (a play that drains, the prober)
writes it into the engine's state file and renders all upstreams anew, under one lock, so that nobody overwrites the other. nginx
is reloaded only where a text changed; a run that is killed leaves a mark, by which the next one reloads.

    balancer.py apply | drain ENGINE… | undrain ENGINE… | status    what plays call; --check says what would change
    balancer.py render --engines FILE --into FOLDER                 the same texts elsewhere, to be tested before they are live
    balancer.py door --port PORT | alive                            what keepalived asks: does nginx answer; has anybody an engine

Exit status: 0; 1 nginx did not take the texts (those before stay), or no for an answer; 2 a file cannot be used.
"""
from __future__ import annotations

import argparse
import fcntl
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

STICKY, TRIED, HEALTH = ".sticky.conf", ".tried.conf", "_health.conf"
SCALE = 10  # nginx's weights are whole numbers; a tenth is the finest share
FULL, LOW, HELD, OUT = 1.0, 0.5, 0.1, 0.0  # shares of an engine's weight; HELD: what others cannot take, or a tenth


@dataclass(frozen=True)
class Server:
    """One engine of an upstream, as the plan has it. weight: its share; max_conns: requests at once, 0 for any; behind: the
    deployment whose engines are asked where none of its own can answer."""

    engine: str
    deployment: str
    address: str
    port: int
    weight: int = 1
    max_conns: int = 0
    behind: str = ""


@dataclass(frozen=True)
class State:
    """What is known of an engine beside the plan; a file. epoch: counts the operator's words, so that a probe that began before
    one of them has no say after it."""

    drained: bool = False
    share: float = FULL
    why: str = ""
    at: str = ""
    epoch: int = 0


# --- decisions -------------------------------------------------------------------------------------------------------


def texts(upstreams: Mapping[str, Sequence[Server]], states: Mapping[str, State]) -> dict[str, str]:
    """{file: server lines} of all upstreams: one for each deployment; with max_conns another one, which is asked first; and of a
    canary one for what it gets in the place of another deployment, behind which stand that one's engines. And what /health says."""
    found = {HEALTH: health(upstreams, states)}
    for name, servers in upstreams.items():
        found[f"{name}.conf"] = render(name, servers, states)
        if any(server.max_conns for server in servers):
            found[f"{name}{STICKY}"] = render(name, servers, states, sticky=True)
        if any(server.behind for server in servers):
            found[f"{name}{TRIED}"] = render(name, servers, states, behind=upstreams.get(servers[0].behind, ()))
    return found


def render(deployment: str, servers: Sequence[Server], states: Mapping[str, State], sticky: bool = False,
           behind: Sequence[Server] = ()) -> str:
    """The server lines of one upstream, for nginx. sticky: it chooses by hash, which knows no backup, up to max_conns; behind: who
    is asked where none of them can answer."""
    lines = [f"# Written by balancer.py for the deployment {deployment}; changes made here are lost."]
    for server in (*servers, *behind):  # one of the servers is never a backup: nginx wants somebody to be first
        state = states.get(server.engine, State())
        place = f"[{server.address}]" if ":" in server.address else server.address
        weight = max(1, round(server.weight * SCALE * (state.share or FULL)))
        words = [f"server {place}:{server.port}", f"weight={weight}", "max_fails=2", "fail_timeout=5s"]
        words += [f"max_conns={server.max_conns}"] if sticky else []
        if state.drained or not state.share:
            words.append("down")
        elif server in behind or (state.share == HELD and not sticky
                                  and any(one.share != HELD for one in others(server.engine, servers, states))):
            words.append("backup")
        lines.append(" ".join(words) + f"; # {server.engine}")
    if not servers:
        lines.append("server 127.0.0.1:9 down;")
    return "\n".join(lines) + "\n"


def health(upstreams: Mapping[str, Sequence[Server]], states: Mapping[str, State]) -> str:
    """The answer to /health, for nginx: whether all deployments, some or none have an engine that gets requests. Numbers alone,
    because whoever asks shows no key."""
    serving = sum(alive(states.get(server.engine, State()) for server in servers) for servers in upstreams.values())
    status = "ok" if serving == len(upstreams) else "degraded" if serving else "down"
    answer = {"status": status, "deployments": {"all": len(upstreams), "serving": serving}}
    return f"# Written by balancer.py; changes made here are lost.\nreturn 200 '{json.dumps(answer)}';\n"


def others(engine: str, servers: Sequence[Server], states: Mapping[str, State]) -> list[State]:
    """What is known of the other engines of its upstream."""
    return [states.get(server.engine, State()) for server in servers if server.engine != engine]


def alive(states: Iterable[State]) -> bool:
    """Whether one of them gets requests."""
    return any(state.share and not state.drained for state in states)


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where things are. engines: what the role wrote of the plan; states: a file per engine; live: a file or two per deployment,
    and what /health says."""

    engines: str = "/etc/nginx/idc_llm/engines.json"
    states: str = "/var/lib/idc_llm/gateway/engines"
    live: str = "/etc/nginx/idc_llm/engines"
    mark: str = "/etc/nginx/idc_llm/reload-pending"
    lock: str = "/var/lib/idc_llm/gateway/lock"


class Refused(Exception):
    """nginx does not take the new texts; its words."""


def read_engines(path: str) -> dict[str, list[Server]]:
    """{deployment: servers} of the role's file. Raises OSError or ValueError."""
    with open(path, encoding="utf-8") as stream:
        whole = json.load(stream)
    try:
        return {str(row["deployment"]): [Server(deployment=str(row["deployment"]), **server) for server in row["servers"]]
                for row in whole["upstreams"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def read_state(folder: str, engine: str) -> State:
    """What is known of an engine; a missing or torn file knows nothing."""
    try:
        with open(os.path.join(folder, f"{engine}.json"), encoding="utf-8") as stream:
            return State(**json.load(stream))
    except (OSError, ValueError, TypeError):
        return State()


class Balancer:
    """The one that writes. reload: makes nginx take the texts up; raises Refused."""

    def __init__(self, places: Places, reload: Callable[[], None]) -> None:
        self.places = places
        self._reload = reload

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the files."""
        with open(self.places.lock, "a", encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def states(self, upstreams: Mapping[str, Sequence[Server]]) -> dict[str, State]:
        """{engine: state} of all in the upstreams."""
        return {server.engine: read_state(self.places.states, server.engine) for row in upstreams.values() for server in row}

    def say(self, engines: Sequence[str], drained: bool, check: bool = False) -> list[str]:
        """The operator's word about engines; the files that change. An engine that is let in again was proven by who says so."""
        with self.locked():
            upstreams = read_engines(self.places.engines)
            states, said = self.states(upstreams), {}
            for engine in engines:
                old = states.get(engine)
                if old is None:  # not of the plan that is live: nothing is sent to it
                    continue
                proven = not drained and (old.drained or old.share < LOW)
                new = State(drained, FULL if proven else old.share, "" if proven else old.why, _now(), old.epoch + 1)
                if (old.drained, old.share) != (new.drained, new.share):
                    said[engine] = new
            return self._write(upstreams, {**states, **said}, check, said)

    def judge(self, engine: str, epoch: int, share: float, why: str, may_be_last: bool = True) -> bool:
        """The prober's word about one engine; whether it was taken. Not where the operator spoke since, nor, unless it may be the
        last one, where no other of its kind would be left."""
        with self.locked():
            upstreams = read_engines(self.places.engines)
            states = self.states(upstreams)
            old = states.get(engine)
            if old is None or old.epoch != epoch or old.share == share:
                return False
            row = next(servers for servers in upstreams.values() for server in servers if server.engine == engine)
            if share == OUT and not may_be_last and not alive(others(engine, row, states)):
                return False
            new = replace(old, share=share, why=why, at=_now())
            self._write(upstreams, {**states, engine: new}, False, {engine: new})
            return True

    def apply(self, check: bool = False) -> list[str]:
        """Bring the live texts to the plan and the states; the files that change. Forgets engines that are gone."""
        with self.locked():
            upstreams = read_engines(self.places.engines)
            states = self.states(upstreams)
            changed = self._write(upstreams, states, check, {})
            for folder, kept in () if check else ((self.places.states, {f"{engine}.json" for engine in states}),
                                                  (self.places.live, set(texts(upstreams, states)))):
                for name in set(_names(folder)) - kept:
                    os.unlink(os.path.join(folder, name))
            return changed

    def _write(self, upstreams: Mapping[str, Sequence[Server]], states: Mapping[str, State], check: bool,
               said: Mapping[str, State]) -> list[str]:
        """Write what differs, have it taken up, and only then keep the new states; what nginx refuses is put back."""
        wanted = {os.path.join(self.places.live, name): text for name, text in texts(upstreams, states).items()}
        present = {path: _read(path) for path in wanted}
        changed = sorted(path for path in wanted if present[path] != wanted[path])
        if check:
            return changed
        if changed or os.path.exists(self.places.mark):
            self._take_up(changed, wanted, present)
        os.makedirs(self.places.states, mode=0o755, exist_ok=True)
        for engine, state in said.items():
            base.write(os.path.join(self.places.states, f"{engine}.json"), json.dumps(asdict(state)) + "\n")
        return changed

    def _take_up(self, changed: Sequence[str], wanted: Mapping[str, str], present: Mapping[str, Optional[str]]) -> None:
        os.makedirs(self.places.live, mode=0o755, exist_ok=True)
        base.write(self.places.mark, "")
        for path in changed:
            base.write(path, wanted[path])
        try:
            self._reload()
        except Refused:
            for path in changed:
                before = present[path]
                if before is None:
                    os.unlink(path)
                else:
                    base.write(path, before)
            os.unlink(self.places.mark)
            raise
        os.unlink(self.places.mark)


def reload_nginx() -> None:
    """nginx.service's own reload, which reads the whole configuration first; nothing where nginx does not run: it reads the files
    when it starts."""
    if subprocess.run(["systemctl", "is-active", "--quiet", "nginx.service"], check=False).returncode:
        return
    command = ["systemctl", "reload", "nginx.service"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode:
        raise Refused(f"{' '.join(command)}: {' '.join(done.stdout.split())}; see journalctl -u nginx, nginx -t")


def door(port: int) -> bool:
    """Whether this gateway answers over TLS; its certificate is the callers' concern."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# --- what is called --------------------------------------------------------------------------------------------------


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Which engines nginx sends requests to.")
    parser.add_argument("action", choices=["apply", "drain", "undrain", "status", "render", "door", "alive"])
    parser.add_argument("names", nargs="*", metavar="ENGINE")
    parser.add_argument("--check", action="store_true", help="say what would change")
    parser.add_argument("--engines", default=Places.engines, help="what the role wrote of the plan")
    parser.add_argument("--into", default="", help="folder for render")
    parser.add_argument("--port", type=int, default=443, help="of nginx, for door")
    options: Any = parser.parse_args(argv)
    places = Places(engines=options.engines)
    balancer = Balancer(places, reload_nginx)
    try:
        if options.action == "door":
            return int(not door(options.port))
        if options.action == "alive":
            return int(not alive(balancer.states(read_engines(places.engines)).values()))
        if options.action == "render":
            upstreams = read_engines(places.engines)
            for name, text in texts(upstreams, balancer.states(upstreams)).items():
                base.write(os.path.join(options.into, name), text)
            return 0
        if options.action == "status":
            upstreams = read_engines(places.engines)
            base.say(json.dumps({engine: asdict(state) for engine, state in balancer.states(upstreams).items()}))
            return 0
        if options.action == "apply":
            changed = balancer.apply(options.check)
        else:
            changed = balancer.say(options.names, options.action == "drain", options.check)
    except Refused as error:
        base.complain(f"nginx does not take the new upstreams, those before stay: {error}")
        return 1
    except (OSError, ValueError) as error:
        base.complain(f"the balancer cannot go on: {error}")
        return 2
    base.say(json.dumps({"changed": changed}))
    return 0


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _read(path: str) -> Optional[str]:
    with suppress(OSError), open(path, encoding="utf-8") as stream:
        return stream.read()
    return None


def _names(path: str) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(path))
    return []


if __name__ == "__main__":
    raise SystemExit(main())
