# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers notice when something goes wrong: two gateways with one address, three engines, and callers that never pause.

The gateways are network namespaces with the role's own nginx and keepalived configuration, each with its prober and balancer; the
engines are doubles that stream for a second, because a real one gives no 503 when one wishes (a real one that is killed, hangs or
is upgraded: tests/house/test_under_load.py). Callers begin a connection for each request and try nothing twice. Limits: no request
fails, and only streams are cut that ran on what was killed; what was on its way through a gateway that dies is lost with it, and
whoever calls then is served after 10 s at the latest.
"""
from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ansible_collections.idc.llm.plugins.module_utils._agent_balancer import Balancer
from ansible_collections.idc.llm.plugins.module_utils._agent_prober import Prober, Settings

from tests.support.gateway_pair import HERE, HUB, NAMES, PORT, VIRTUAL, Pair, ip
from tests.support.real_gateway import Gateway, free_port
from tests.support.waiting import wait_for

KEY, CALLERS, TOKENS, TOKEN_S, MOVES_S = secrets.token_hex(24), 12, 20, 0.05, 10.0


class Engine(BaseHTTPRequestHandler):
    """An engine: POST /mode makes it well, 503, or hung (nothing that needs its core comes back)."""

    protocol_version = "HTTP/1.1"
    mode, running, tokens = "well", 0, 0
    lock = threading.Lock()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """vLLM's /health and /metrics."""
        label = '{engine="0",model_name="tiny"}'
        rows = {"num_requests_running": Engine.running, "num_requests_waiting": 0, "generation_tokens_total": Engine.tokens,
                "iteration_tokens_total_count": Engine.tokens}
        self._send(200, "".join(f"vllm:{name}{label} {value}\n" for name, value in rows.items()))

    def do_POST(self) -> None:
        """A completion, or another mode."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/mode":
            Engine.mode = asked["mode"]
            self._send(200, "")
        elif Engine.mode == "503":
            self._send(503, '{"error":{"message":"overloaded"}}')
        else:
            with Engine.lock:
                Engine.running += 1
            try:
                self._complete(asked)
            finally:
                with Engine.lock:
                    Engine.running -= 1

    def _complete(self, asked: dict) -> None:
        stream = asked.get("stream")
        if stream:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
        for _token in range(min(TOKENS, asked.get("max_tokens") or TOKENS)):
            while Engine.mode == "hung":
                time.sleep(0.05)
            time.sleep(TOKEN_S)
            Engine.tokens += 1
            if stream:
                self._event('{"choices":[{"index":0,"delta":{"content":"x"}}]}')
        if stream:
            self._event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._send(200, json.dumps({"choices": [{"text": "x", "message": {"content": "x"}, "finish_reason": "length"}],
                                        "usage": {"prompt_tokens": 1, "completion_tokens": 1}}))

    def _event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


class Server(ThreadingHTTPServer):
    """One engine's."""

    daemon_threads, request_queue_size = True, 256

    def handle_error(self, *_args: object) -> None:
        """A caller that hung up is no news."""


@dataclass
class Callers:
    """They ask, one request after the other, half of them for a stream. problems: (seconds, failed or cut, what)."""

    context: ssl.SSLContext
    began: float = field(default_factory=time.monotonic)
    count: int = 0
    problems: list[tuple[float, str, str]] = field(default_factory=list)
    served: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number % 2 == 0,)) for number in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def _call(self, stream: bool) -> None:
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": stream})
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        while not self._stop.is_set():
            begun, problem, kind = False, "", "failed"
            link = http.client.HTTPSConnection(VIRTUAL, PORT, timeout=2, context=self.context)
            try:
                link.connect()
                link.sock.settimeout(30)
                link.request("POST", "/v1/chat/completions", body, headers)
                reply = link.getresponse()
                begun = stream and reply.status == 200
                text = reply.read()
                if reply.status != 200:
                    problem = f"{reply.status}"
                elif stream and b"[DONE]" not in text:
                    kind, problem = "cut", "no end"
            except (OSError, http.client.HTTPException) as error:
                kind, problem = "cut" if begun else "failed", type(error).__name__
            finally:
                link.close()
            self.count += 1
            if problem:
                self.problems.append((time.monotonic(), kind, problem))
                self._stop.wait(0.2)
            else:
                self.served.append(time.monotonic())

    def end(self) -> None:
        """No more requests."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def silence(self) -> float:
        """The longest time in which nobody was served, in seconds."""
        times = [self.began, *sorted(self.served)]
        return max((later - earlier for earlier, later in zip(times, times[1:], strict=False)), default=0.0)


class House:
    """Both gateways, all engines."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports, self.engines = folder, [free_port() for _number in range(3)], {}
        (folder / "pair").mkdir()
        self.pair = Pair(folder / "pair", door="")
        for port in self.ports:
            self.begin(port)
        self.gateways, self.probers = [], []
        for name in NAMES:
            gateway = Gateway(folder / name, {"tiny": self.ports}, {"bench": {"keys": [KEY]}}, at=HERE, gateway_domain=VIRTUAL,
                              inside=("ip", "netns", "exec", name), port=PORT)
            gateway.balancer = Balancer(gateway.balancer.places, lambda gateway=gateway: gateway.nginx("-s", "reload"))
            self.gateways.append(gateway)
            settings = Settings(interval_s=0.5, timeout_s=3, misses=2, stall_s=4, slow_ms=60_000)
            self.probers.append(Prober(gateway.balancer, settings, "", lambda line, name=name: print(f"    {name}: {line}")))
            threading.Thread(target=self.probers[-1].watch, daemon=True).start()
        self.newcomers: Callers | None = None  # who calls when a gateway is gone
        self.context = self.gateways[0].context
        self.context.load_verify_locations(self.gateways[1].root / "idc_llm/server.pem")
        self.context.check_hostname = False  # these certificates name localhost
        assert wait_for(lambda: self.pair.owners() == [NAMES[0]], 60, 0.2), self.pair.logs()

    def begin(self, port: int) -> None:
        """Start an engine."""
        self.engines[port] = subprocess.Popen([sys.executable, __file__, "--engine", str(port)])

    def mode(self, port: int, mode: str) -> None:
        """How an engine is."""
        link = http.client.HTTPConnection(HERE, port, timeout=10)
        link.request("POST", "/mode", json.dumps({"mode": mode}))
        link.getresponse().read()

    def kill(self, port: int) -> None:
        """Its process is gone, and back after a while, as its unit would have it."""
        self.engines[port].kill()
        self.engines[port].wait()

    def all_in(self) -> bool:
        """Whether each gateway sends requests to each engine."""
        return all(" down;" not in path.read_text() and " backup;" not in path.read_text()
                   for gateway in self.gateways for path in (gateway.root / "idc_llm/engines").glob("*.conf"))

    # --- what goes wrong

    def drained(self) -> None:
        """As a play does before it changes an engine."""
        for out in (True, False):
            for gateway in self.gateways:
                gateway.balancer.say([f"tiny-{self.ports[0]}"], out)
            time.sleep(5)

    def reloads(self) -> None:
        """Twenty times."""
        for _turn in range(20):
            for gateway in self.gateways:
                gateway.nginx("-s", "reload")
            time.sleep(0.3)

    def refuses(self) -> None:
        """503 to everything."""
        self.mode(self.ports[0], "503")
        time.sleep(12)
        self.mode(self.ports[0], "well")

    def hangs(self) -> None:
        """Its /health stays 200; its watchdog ends it after a while."""
        self.mode(self.ports[0], "hung")
        time.sleep(15)
        self.killed()

    def killed(self) -> None:
        """kill -9."""
        self.kill(self.ports[0])
        time.sleep(5)
        self.begin(self.ports[0])

    def gateway_gone(self) -> None:
        """The first gateway as a host: no process and no wire any more."""
        master = int((self.gateways[0].root / "pid").read_text())
        ip("-n", HUB, "link", "set", "port0", "down")
        for pid in subprocess.run(["pgrep", "-P", str(master)], text=True, check=False, capture_output=True).stdout.split():
            os.kill(int(pid), signal.SIGKILL)
        os.kill(master, signal.SIGKILL)
        self.newcomers = Callers(self.context)
        time.sleep(15)
        self.newcomers.end()
        assert self.pair.owners() == [NAMES[1]], self.pair.logs()

    def close(self) -> None:
        """End everything."""
        for prober in self.probers:
            prober.stop()
        for gateway in self.gateways[1:]:
            gateway.close()
        self.pair.close()
        for engine in self.engines.values():
            engine.kill()


def row(what: str, callers: Callers) -> tuple[str, int, int, int, float]:
    """What they noticed: requests, failed, cut, seconds in which nobody was served."""
    failed, cut = (sum(one[1] == kind for one in callers.problems) for kind in ("failed", "cut"))
    said = sorted({one[2] for one in callers.problems})
    print(f"  {what}: {callers.count} requests, {failed} failed, {cut} cut {said}", flush=True)
    return what, callers.count, failed, cut, callers.silence()


def inside(folder: Path) -> int:
    """The bench itself, in the namespace of callers and engines."""
    house, rows = House(folder), []
    try:
        for what, act in (("nothing", lambda: time.sleep(5)), ("engine drained", house.drained), ("20 reloads", house.reloads),
                          ("engine says 503", house.refuses), ("engine killed", house.killed), ("engine hangs", house.hangs),
                          ("gateway killed", house.gateway_gone)):
            assert wait_for(house.all_in, 120, 0.5), "an engine is not let in again"
            callers = Callers(house.context)
            time.sleep(2)
            act()
            time.sleep(2)
            callers.end()
            rows.append(row(what, callers))
        rows.append(row("who calls then", house.newcomers))
    finally:
        house.close()
    print(f"{CALLERS} callers, half of them stream{'':4}{'requests':>10}{'failed':>8}{'cut':>6}{'nobody served for':>20}")
    for what, count, failed, cut, silence in rows:
        print(f"{what:34}{count:8}{failed:8}{cut:6}{silence:18.1f} s")
    bad = [what for what, _count, failed, cut, silence in rows
           if what.startswith("engine") and failed or what in ("nothing", "20 reloads") and failed + cut
           or cut > (CALLERS // 2 if "killed" in what or "hangs" in what else 0)
           or "call" in what and silence > MOVES_S]
    said = " ".join(f"{what.replace(' ', '_')}={failed}/{cut}" for what, _count, failed, cut, _silence in rows)
    print(f"failover: {said} missed={bad}")
    return int(bool(bad))


def main() -> int:
    """Print the table, and the line for programs; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        Server((HERE, options.engine), Engine).serve_forever()
    if options.inside:
        return inside(Path(options.inside))
    if subprocess.run(["ip", "netns", "add", HUB], check=False, capture_output=True).returncode:
        raise SystemExit("failover: a network namespace cannot be made here: that takes root, with all rights")
    folder = Path(tempfile.mkdtemp(prefix="idc-bench-"))
    try:
        ip("-n", HUB, "link", "set", "lo", "up")
        return subprocess.run(["ip", "netns", "exec", HUB, sys.executable, __file__, "--inside", folder], check=False).returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name in (*NAMES, HUB):
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


if __name__ == "__main__":
    sys.exit(main())
