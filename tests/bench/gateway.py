# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway costs: the role's own configuration beside a bare nginx with the same TLS 1.3 listener, and beside none at all.

All on loopback, turn by turn, with wrk at 64 connections; the engine is an nginx that answers at once. Keys, limits, audit and the
count of tokens are on, as the role has them. Limits: 0.9 of the bare one's rate with one deployment, 0.7 where a body of 200 bytes
is read to choose one, 0.5 ms more to the answer (median) at one connection.
"""
from __future__ import annotations

import argparse
import json
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.real_gateway import NGINX, Gateway, free_port

RATE, ROUTED, ADDED_MS = 0.9, 0.7, 0.5
ANSWER = json.dumps({
    "id": "x", "object": "chat.completion", "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there!"}, "finish_reason": "stop"}]})
PLAIN = """\
worker_processes {workers}; daemon on; pid {folder}/pid; error_log {folder}/error.log; worker_rlimit_nofile 16384;
events {{ worker_connections 8000; }}
http {{
  access_log off; client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  keepalive_requests 1000000; client_max_body_size 8m; client_body_buffer_size 1m;
  {more}
}}
"""
ENGINE = "server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{answer}'; }} }}"
BARE = """ssl_protocols TLSv1.3; ssl_certificate {cert}; ssl_certificate_key {key}; ssl_session_cache shared:x:4m;
  upstream engines {{ server 127.0.0.1:{engine}; keepalive 64; keepalive_requests 100000; }}
  server {{ listen 127.0.0.1:{port} ssl; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://engines; }} }}"""
SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = [==[{body}]==]
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.status + errors.connect + errors.read + errors.timeout))
end
"""


class Plain:
    """An nginx of one server."""

    def __init__(self, folder: Path, more: str, workers: int) -> None:
        self.folder = folder
        (folder / "t").mkdir(parents=True)
        (folder / "nginx.conf").write_text(PLAIN.format(folder=folder, more=more, workers=workers))
        self.run()

    def run(self, *words: str) -> None:
        """Start it, or tell it something."""
        subprocess.run([NGINX, "-p", self.folder, "-c", "nginx.conf", *words], check=True, capture_output=True)


def body(size: int, model: str = "tiny") -> str:
    """A chat request of about so many bytes."""
    frame = json.dumps({"model": model, "messages": [{"role": "user", "content": ""}], "max_tokens": 8})
    return frame.replace('"content": ""', '"content": "' + "x" * max(1, size - len(frame)) + '"')


def load(folder: Path, url: str, key: str, text: str, connections: int, seconds: float) -> dict[str, float]:
    """rate (requests a second), p50 and p99 (ms) of wrk's; refuses a run with errors."""
    script = folder / "post.lua"
    script.write_text(SCRIPT.format(key=key, body=text))
    script.chmod(0o600)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", script, url]
    done = subprocess.run(command, text=True, check=True, capture_output=True)
    count, micros, p50, p99, errors = map(int, re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout).groups())
    if errors or not count:
        raise SystemExit(f"gateway: {errors} of {count} requests failed at {url}")
    return {"rate": count / micros * 1e6, "p50": p50 / 1000, "p99": p99 / 1000}


def main() -> int:
    """Print the table, and the line for programs; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="of each; the median counts")
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("gateway: no wrk here. Remedy: apt install wrk")
    folder, key = Path(tempfile.mkdtemp(prefix="idc-bench-")), secrets.token_hex(24)
    port, started = free_port(), []
    limits = {"requests_per_minute": 60_000_000, "burst": 1_000_000, "concurrent_requests": 1000, "tokens_per_day": 10**12}
    try:
        started.append(Plain(folder / "engine", ENGINE.format(port=port, answer=ANSWER), 1))
        one = {"bench": {"keys": [key], "deployments": ["tiny"], "limits": limits}}
        many = {**one, **{f"t{number}": {"keys": [secrets.token_hex(24)], "deployments": ["tiny"]} for number in range(10_000)}}
        two = {"bench": {"keys": [key], "limits": limits}}
        gateways = {"one deployment": Gateway(folder / "one", {"tiny": [port]}, one),
                    "10,000 keys": Gateway(folder / "many", {"tiny": [port]}, many),
                    "by model": Gateway(folder / "two", {"tiny": [port], "other": [port]}, two)}
        first = gateways["one deployment"]
        bare = free_port()
        started.append(Plain(folder / "bare", BARE.format(
            cert=first.root / "idc_llm/server.pem", key=first.root / "idc_llm/server.key", port=bare, engine=port), 2))
        urls = {"no gateway": f"http://127.0.0.1:{port}", "bare nginx": f"https://127.0.0.1:{bare}",
                **{name: f"https://127.0.0.1:{gateway.ports['gateway']}" for name, gateway in gateways.items()}}
        rows = [(name, 200) for name in urls] + [(name, size) for size in (2_000, 30_000) for name in ("bare nginx", "by model")]
        rates: dict[tuple[str, int], list[dict[str, float]]] = {row: [] for row in rows}
        single: dict[str, list[float]] = {name: [] for name in urls}
        for turn in range(options.turns):
            for name, size in rows if turn % 2 == 0 else rows[::-1]:
                at = urls[name] + "/v1/chat/completions"
                rates[name, size].append(load(folder, at, key, body(size), 64, options.seconds))
                if size == 200:
                    single[name].append(load(folder, at, key, body(size), 1, 1)["p50"])
            print(f"  turn {turn + 1} of {options.turns}", flush=True)
    finally:
        for gateway in locals().get("gateways", {}).values():
            gateway.close()
        for plain in started:
            plain.run("-s", "stop")
        shutil.rmtree(folder, ignore_errors=True)
    median = {row: {figure: statistics.median(one[figure] for one in seen) for figure in seen[0]} for row, seen in rates.items()}
    alone = {name: statistics.median(seen) for name, seen in single.items()}
    print(f"{'64 connections':18}{'body':>8}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'of bare':>9}{'1 conn. p50':>13}")
    ratio = {}
    for (name, size), row in median.items():
        ratio[name, size] = row["rate"] / median["bare nginx", size]["rate"]
        print(f"{name:18}{size:8}{row['rate']:12.0f}{row['p50']:9.2f}{row['p99']:9.2f}{ratio[name, size]:9.2f}"
              + (f"{alone[name]:10.3f} ms" if size == 200 else ""))
    added = alone["one deployment"] - alone["no gateway"]
    print(f"gateway: one={ratio['one deployment', 200]:.2f} keys={ratio['10,000 keys', 200]:.2f} "
          f"by_model_200={ratio['by model', 200]:.2f} "
          f"by_model_2k={ratio['by model', 2000]:.2f} by_model_30k={ratio['by model', 30000]:.2f} "
          f"added_ms={added:.3f} limits={RATE},{ROUTED},{ADDED_MS}")
    return int(ratio["one deployment", 200] < RATE or ratio["by model", 200] < ROUTED or added > ADDED_MS)


if __name__ == "__main__":
    sys.exit(main())
