# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine to watch: vLLM's faces that a watchdog asks, which can hang, and a systemd that is one file."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ansible_collections.idc.llm.plugins.module_utils import _agent_watchdog as agent


class Double(ThreadingHTTPServer):
    """An engine. ``mode``: well, hung (only what needs the core hangs), deaf, dead, queued (busy), blind."""

    daemon_threads = True

    def __init__(self, ranks=1):
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode, self.key, self.seen, self.open = "well", "", [], threading.Event()
        self.ranks = [[0, 0, 10] for _rank in range(ranks)]  # running, waiting, tokens made
        self.stuck = set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *_args):
        """A client that hung up is no news."""

    def metrics(self):
        text = "vllm:admission_rejections_total 0\n"
        for number, (running, waiting, tokens) in enumerate(self.ranks if self.mode != "blind" else []):
            label = f'{{engine="{number}",model_name="tiny"}}'
            text += f"vllm:num_requests_running{label} {running}\nvllm:num_requests_waiting{label} {waiting}\n"
            text += f"vllm:generation_tokens_total{label} {tokens}\nvllm:iteration_tokens_total_count{label} {tokens}\n"
        return text


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # as vLLM's server

    def log_message(self, *_args):
        """Say nothing."""

    def do_GET(self):
        if self.server.mode == "deaf":
            self.server.open.wait(20)
        if self.server.mode == "queued":
            self.server.ranks[0][2] += 7
        status = 503 if self.server.mode == "dead" and self.path == "/health" else 200
        self.answer(status, self.server.metrics() if self.path == "/metrics" else "")

    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rank = int(self.headers.get("X-data-parallel-rank") or 0)
        self.server.seen.append((self.path, self.headers.get("X-data-parallel-rank"), payload))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self.answer(401, "Unauthorized")
        if self.server.mode in ("hung", "deaf", "queued", "blind") or rank in self.server.stuck:
            self.server.open.wait(20)
        if self.server.mode == "dead":
            return self.answer(500, "EngineDeadError")
        self.server.ranks[rank][2] += 1
        return self.answer(200, json.dumps({"choices": [{"text": "!", "finish_reason": "length"}]}))

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        if self.headers.get("Connection") == "close":  # as uvicorn says it again
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())


SYSTEMCTL = '''\
#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
case $1 in
show) cat "$here/show" ;;
kill) kill "-${2#--signal=SIG}" "$(sed -n s/^MainPID=//p "$here/show")"
      sed -i s/^ActiveState=.*/ActiveState=activating/ "$here/show" ;;
restart) if [ -e "$here/broken" ]; then echo "Unit not found."; exit 1; fi ;;
esac
'''


class House:
    """A watchdog, its engine and its systemd, in one folder."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.lines = folder, []
        for name in ("bin", "state", "metrics", "cgroup/unit"):
            (folder / name).mkdir(parents=True)
        program = folder / "bin/systemctl"
        program.write_text(SYSTEMCTL)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        monkeypatch.setattr(agent, "CGROUPS", (str(folder / "cgroup"),))
        monkeypatch.setattr(agent, "DUMP_S", 0.5)
        monkeypatch.setattr(agent, "LOOK_S", 0.2)
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "cgroup/unit/cgroup.procs").write_text(f"{self.process.pid}\n")
        self.systemd()

    def systemd(self, **changed):
        entered = int((time.monotonic() - 10000) * 1e6)
        show = {"ActiveState": "active", "InvocationID": "start-1", "ActiveEnterTimestampMonotonic": entered,
                "MainPID": self.process.pid, "ControlGroup": "/unit", **changed}
        (self.folder / "bin/show").write_text("".join(f"{key}={value}\n" for key, value in show.items()))

    def config(self, engine, **changed):
        values = {"engine": "tiny-blue-0", "unit": "idc-vllm@tiny-blue-0.service", "host": "127.0.0.1", "port": engine.server_port,
                  "model": "tiny", "interval_s": 0.01, "timeout_s": 0.2, "misses": 3, "hang_s": 0.0, "ready_timeout_s": 600,
                  "state_dir": str(self.folder / "state"), "metrics_dir": str(self.folder / "metrics"), **changed}
        return agent.Config(**values)

    def watchdog(self, engine, key="", **changed):
        return agent.Watchdog(self.config(engine, **changed), key, self.lines.append)

    def did(self):
        """What systemctl was asked to do."""
        calls = (self.folder / "bin/calls").read_text().splitlines()
        return [call for call in calls if not call.startswith("show ")]

    def metrics(self):
        lines = (self.folder / "metrics/idc_llm_watchdog_tiny-blue-0.prom").read_text().splitlines()
        return {name.split("watchdog_")[1]: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def restarts(self, reason="hung"):
        return self.metrics()[f'restarts_total{{engine="tiny-blue-0",reason="{reason}"}}']

    def gauge(self, name):
        return self.metrics()[name + '{engine="tiny-blue-0"}']
