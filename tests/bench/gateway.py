# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway costs: the role's own configuration beside a bare nginx with the same TLS 1.3 listener, and beside none at all.

All on loopback, turn by turn, with wrk at 64 connections; the engine is an nginx that answers at once. Keys, limits, audit and the
count of tokens are on, as the role has them; once without the count. Limits: 0.9 of the bare one's rate with one deployment, 0.7
where a body of 200 bytes is read to choose one, 0.5 ms more to the answer (median) at one connection. Then 500 streams at once of
200 tokens each, with and without the count: 1.25 times the CPU of nginx's workers for a stream; and memory of the workers over
100,000 requests: 1.1 times what it was after the first 20,000.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.support.real_gateway import NGINX, Gateway, free_port

RATE, ROUTED, ADDED_MS, COUNTED, GROWN = 0.9, 0.7, 0.5, 1.25, 1.1
STREAMS, TOKENS, TOKEN_S, REQUESTS = 500, 200, 0.05, 100_000
COUNT = "            body_filter_by_lua_block { meter.see() }\n            log_by_lua_block { meter.done() }\n"
ANSWER = json.dumps({
    "id": "x", "object": "chat.completion", "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there!"}, "finish_reason": "stop"}]})
PLAIN = """\
load_module /usr/lib/nginx/modules/ndk_http_module.so; load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
worker_processes {workers}; daemon on; pid {folder}/pid; error_log {folder}/error.log; worker_rlimit_nofile 16384;
events {{ worker_connections 8000; }}
http {{
  access_log off; client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
  uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
  keepalive_requests 1000000; client_max_body_size 8m; client_body_buffer_size 1m;
  {more}
}}
"""
ENGINE = """server {{ listen 127.0.0.1:{port}; default_type application/json; location / {{ return 200 '{answer}'; }}
  location /v1/completions {{ default_type text/event-stream; content_by_lua_block {{
    for number = 1, {tokens} do
      ngx.print('data: {{"choices":[{{"index":0,"text":" token","finish_reason":null}}]}}\\n\\n')
      ngx.flush(true)
      ngx.sleep({token_s})
    end
    ngx.print('data: {{"choices":[],"usage":{{"prompt_tokens":9,"completion_tokens":{tokens}}}}}\\n\\ndata: [DONE]\\n\\n')
  }} }} }}"""
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
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "60s", "--latency", "-s", script, url]
    done = subprocess.run(command, text=True, check=True, capture_output=True)
    count, micros, p50, p99, errors = map(int, re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout).groups())
    if errors or not count:
        raise SystemExit(f"gateway: {errors} of {count} requests failed at {url}")
    return {"rate": count / micros * 1e6, "p50": p50 / 1000, "p99": p99 / 1000}


def workers(gateway: Gateway) -> list[list[str]]:
    """The fields of /proc/PID/stat from the third on, of each worker of a gateway's nginx."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[1] == (gateway.root / "pid").read_text().strip():
                found.append(fields)
    return found


def cpu(gateway: Gateway) -> float:
    """Seconds of CPU that the workers of its nginx have used."""
    return sum(int(fields[11]) + int(fields[12]) for fields in workers(gateway)) / os.sysconf("SC_CLK_TCK")


def memory(gateway: Gateway) -> float:
    """MiB that they hold."""
    return sum(int(fields[21]) for fields in workers(gateway)) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def streams(folder: Path, gateways: dict[str, Gateway], key: str, turns: int) -> dict[str, float]:
    """CPU of nginx's workers for a stream, in ms, by gateway: the median of the turns."""
    asked = {"model": "tiny", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    seen: dict[str, list[float]] = {name: [] for name in gateways}
    for turn in range(turns):
        for name, gateway in list(gateways.items())[:: 1 if turn % 2 == 0 else -1]:
            before = cpu(gateway)
            seconds = int(3 * TOKENS * TOKEN_S)
            at = f"https://127.0.0.1:{gateway.ports['gateway']}/v1/completions"
            rate = load(folder, at, key, json.dumps(asked), STREAMS, seconds)["rate"]
            seen[name].append((cpu(gateway) - before) / (rate * seconds) * 1000)
    return {name: statistics.median(found) for name, found in seen.items()}


def grown(folder: Path, gateway: Gateway, key: str) -> tuple[float, float]:
    """MiB that nginx's workers hold after a fifth of REQUESTS, and after all of them."""
    at, done, held = f"https://127.0.0.1:{gateway.ports['gateway']}/v1/chat/completions", 0.0, []
    for mark in (REQUESTS / 5, REQUESTS):
        while done < mark:
            done += load(folder, at, key, body(200), 64, 2)["rate"] * 2
        held.append(memory(gateway))
    return held[0], held[1]


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
        started.append(Plain(folder / "engine", ENGINE.format(port=port, answer=ANSWER, tokens=TOKENS, token_s=TOKEN_S), 1))
        one = {"bench": {"keys": [key], "deployments": ["tiny"], "limits": limits}}
        many = {**one, **{f"t{number}": {"keys": [secrets.token_hex(24)], "deployments": ["tiny"]} for number in range(10_000)}}
        two = {"bench": {"keys": [key], "limits": limits}}
        gateways = {"one deployment": Gateway(folder / "one", {"tiny": [port]}, one),
                    "tokens uncounted": Gateway(folder / "uncounted", {"tiny": [port]}, one),
                    "10,000 keys": Gateway(folder / "many", {"tiny": [port]}, many),
                    "by model": Gateway(folder / "two", {"tiny": [port], "other": [port]}, two)}
        first, uncounted = gateways["one deployment"], gateways["tokens uncounted"]
        conf = uncounted.root / "nginx.conf"
        if COUNT not in conf.read_text():
            raise SystemExit("gateway: the role's configuration no longer counts tokens by the lines that are taken out here")
        conf.write_text(conf.read_text().replace(COUNT, ""))
        uncounted.nginx("-s", "reload")
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
        stream = streams(folder, {name: gateways[name] for name in ("one deployment", "tokens uncounted")}, key, options.turns)
        early, late = grown(folder, first, key)
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
    counted = stream["one deployment"] / stream["tokens uncounted"]
    print(f"{STREAMS} streams of {TOKENS} tokens: CPU of nginx's workers for a stream {stream['one deployment']:.2f} ms, "
          f"without the count of tokens {stream['tokens uncounted']:.2f} ms")
    print(f"memory of nginx's workers: {early:.1f} MiB after {REQUESTS // 5:,} requests, {late:.1f} MiB after {REQUESTS:,}")
    added = alone["one deployment"] - alone["no gateway"]
    print(f"gateway: one={ratio['one deployment', 200]:.2f} keys={ratio['10,000 keys', 200]:.2f} "
          f"by_model_200={ratio['by model', 200]:.2f} "
          f"by_model_2k={ratio['by model', 2000]:.2f} by_model_30k={ratio['by model', 30000]:.2f} "
          f"uncounted={ratio['tokens uncounted', 200]:.2f} added_ms={added:.3f} counted_cpu={counted:.2f} "
          f"memory={late / early:.2f} limits={RATE},{ROUTED},{ADDED_MS},{COUNTED},{GROWN}")
    return int(ratio["one deployment", 200] < RATE or ratio["by model", 200] < ROUTED or added > ADDED_MS
               or counted > COUNTED or late / early > GROWN)


if __name__ == "__main__":
    sys.exit(main())
