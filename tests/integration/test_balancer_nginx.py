# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Balancer and prober with the real nginx on loopback, as the role's upstreams have it, and engines that hang on demand."""
from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_prober
from ansible_collections.idc.llm.plugins.module_utils._agent_balancer import HELD, Refused, Server
from ansible_collections.idc.llm.plugins.module_utils._agent_prober import Prober, Settings

from tests.support.gateway_files import House
from tests.support.waiting import wait_for
from tests.support.watched_engine import Double

NGINX = "/usr/sbin/nginx"
CONF = """\
worker_processes 2; worker_shutdown_timeout 60s; daemon on; pid {folder}/nginx/pid; error_log {folder}/nginx/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/nginx/t; proxy_temp_path {folder}/nginx/t; fastcgi_temp_path {folder}/nginx/t;
  uwsgi_temp_path {folder}/nginx/t; scgi_temp_path {folder}/nginx/t;
  upstream engines {{ zone engines 256k; least_conn; include engines/tiny.conf; keepalive 64; keepalive_timeout 4s; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 30s;
  proxy_next_upstream error timeout http_500 http_502 http_503 non_idempotent; proxy_next_upstream_tries 2;
  server {{ listen 127.0.0.1:{port}; add_header X-Engine $upstream_addr; location / {{ proxy_pass http://engines; }} }}
}}
"""


class Gateway(House):
    """nginx, three engines behind it, the balancer and the prober."""

    def __init__(self, folder: Path):
        self.engines = [Double() for _number in range(3)]
        servers = [Server(f"tiny-blue-{number}", "tiny", "127.0.0.1", double.server_port)
                   for number, double in enumerate(self.engines)]
        super().__init__(folder, servers)
        with Double() as unused:  # a port that was free a moment ago
            self.port = unused.server_port
            unused.shutdown()
        (folder / "nginx/nginx.conf").write_text(CONF.format(folder=folder, port=self.port))
        self.balancer.apply()
        self.nginx()
        settings = Settings(interval_s=0.1, timeout_s=0.5, misses=2, stall_s=1.0, slow_ms=60000)
        self.prober = Prober(self.balancer, settings, "", self.lines.append)
        self.thread = threading.Thread(target=self.prober.watch, daemon=True)
        self.thread.start()

    def nginx(self, *words):
        done = subprocess.run([NGINX, "-p", self.folder / "nginx", "-c", "nginx.conf", *words], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise Refused(done.stdout)

    def reload(self):
        self.reloads += 1
        if (self.folder / "nginx/pid").exists():
            self.nginx("-s", "reload")

    def ask(self, timeout=20.0):
        """(status, which engine answered)."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", b'{"model": "tiny"}')
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                json.load(reply)
                return reply.status, int(reply.headers["X-Engine"].rpartition(":")[2])
        except (urllib.error.URLError, OSError) as error:
            return getattr(error, "code", 0), 0

    def leaves(self, engine):
        """Whether nginx's new workers alone are asked now, who know that this engine gets nothing."""
        port = self.engines[engine].server_port
        return wait_for(lambda: port not in {self.ask(5.0)[1] for _turn in range(6)}, 60, 0.05)

    def close(self):
        self.prober.stop()
        for engine in self.engines:
            engine.open.set()
        self.nginx("-s", "stop")
        for engine in self.engines:
            engine.shutdown()
            engine.server_close()


class Users:
    """Some who ask one request after the other; ``answers``: (seconds since the beginning, status, engine)."""

    def __init__(self, gateway, count=4):
        self.answers, self._stop, self._gateway = [], threading.Event(), gateway
        self._threads = [threading.Thread(target=self._ask) for _number in range(count)]

    def _ask(self):
        while not self._stop.is_set():
            began = time.monotonic()
            self.answers.append((began, *self._gateway.ask()))
            self._stop.wait(0.01)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def statuses(self):
        return Counter(status for _at, status, _port in self.answers)


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path)
    yield made
    made.close()


def test_twenty_drains_and_reloads_lose_no_request(gateway):
    with Users(gateway) as users:
        for turn in range(10):
            gateway.balancer.say([f"tiny-blue-{turn % 3}"], True)
            time.sleep(0.1)
            gateway.balancer.say([f"tiny-blue-{turn % 3}"], False)
    assert gateway.reloads >= 20 and len(users.answers) > 50
    assert set(users.statuses()) == {200}, users.statuses()


def test_a_drained_engine_gets_nothing_new(gateway):
    gateway.balancer.say(["tiny-blue-1"], True)
    assert gateway.leaves(1)
    asked = len(gateway.engines[1].seen)
    assert {gateway.ask()[0] for _turn in range(30)} == {200}
    assert len(gateway.engines[1].seen) == asked


def test_an_engine_that_hangs_keeps_a_few_waiting_and_then_nobody(gateway):
    """nginx alone would go on sending to it: its /health is 200 and it refuses nothing."""
    hung = gateway.engines[0]
    with Users(gateway) as users:
        time.sleep(0.5)
        hung.mode = "hung"
        assert wait_for(lambda: gateway.down() == ["tiny-blue-0"], 60, 0.02), gateway.lines
        time.sleep(0.5)
        out, asked = time.monotonic(), len(hung.seen)
        time.sleep(2)
        later = [answer for answer in users.answers if answer[0] > out]
        assert len(later) == 0 or {status for _at, status, _port in later} == {200}
        probes = len(hung.seen) - asked
        assert probes <= 12, f"the prober alone asks it now, {probes} requests came"
        hung.mode = "well"
        hung.open.set()
        assert wait_for(lambda: gateway.down() == [], 60, 0.02), gateway.lines
        began = time.monotonic()
        assert wait_for(lambda: any(port == hung.server_port for at, _status, port in users.answers if at > began), 60, 0.02)
    assert set(users.statuses()) == {200}, users.statuses()
    assert sum("share 1 -> 0" in line for line in gateway.lines) == 1


def test_one_that_is_held_back_serves_where_nobody_else_can(gateway, monkeypatch):
    monkeypatch.setattr(_agent_prober, "held_back_s", lambda _outs, _now: 600.0)
    held = gateway.engines[0]
    assert gateway.balancer.judge("tiny-blue-0", gateway.state("tiny-blue-0").epoch, HELD, "it came and went")
    assert gateway.leaves(0)
    answers = [gateway.ask() for _turn in range(30)]
    assert {status for status, _port in answers} == {200} and held.server_port not in {port for _status, port in answers}
    gateway.balancer.say(["tiny-blue-2"], True)
    assert gateway.leaves(2)
    gateway.engines[1].mode = "dead"
    assert {gateway.ask() for _turn in range(30)} == {(200, held.server_port)}


def test_where_all_hang_the_answer_is_at_once_and_no_wait(gateway):
    for engine in gateway.engines:
        engine.mode = "hung"
    asking = threading.Thread(target=gateway.ask, args=(1.0,))
    asking.start()
    assert wait_for(lambda: len(gateway.down()) == 3, 60, 0.02), gateway.lines
    asking.join()
    assert wait_for(lambda: {gateway.ask(1.0)[0] for _turn in range(5)} == {502}, 60, 0.05), (
        "nginx's new workers alone are asked; the role's configuration says 503 with Retry-After")


def test_a_text_that_nginx_refuses_leaves_the_one_before(gateway):
    bad = Server("tiny-blue-9", "tiny", "no such host;", 1)
    before = gateway.live()
    gateway.plan([bad])
    with pytest.raises(Refused):
        gateway.balancer.apply()
    assert gateway.live() == before and gateway.ask()[0] == 200
