# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an engine takes from its start to its first token: the role's unit beside a plain ``vllm serve``, cold and warm.

On node2 of the fleet that script/demo brings up. Both run the same release with the same config.yaml and environment as the same
user, turn by turn; the plain one as a person would type it, without the unit's sandbox. Cold: its cache folder is empty and the
page cache of the machine dropped (where that is allowed); warm: the start after that. Limit: 1.1 times the plain one.
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT, LATEST_S = 1.1, 400.0
HOME = {"unit": "/var/lib/vllm", "plain": "/var/lib/vllm/plain"}


class Engine:
    """One engine of the demo, started in either way. ``address``: host:port; ``name``: as the plan has it."""

    def __init__(self, container: str, row: dict) -> None:
        self.container, self.row, self.unit = container, row, f"idc-vllm@{row['name']}"
        self.url = f"http://{row['address']}:{row['port']}/v1/completions"
        env = self.run(f"cat /etc/idc_llm/engines/{row['name']}/env")
        self.key = next((line.partition("=")[2].strip('"') for line in env.splitlines() if line.startswith("VLLM_API_KEY=")), "")

    def run(self, command: str) -> str:
        """Its output; as root on the node."""
        done = subprocess.run(["docker", "exec", self.container, "sh", "-c", command], check=True, capture_output=True, text=True)
        return done.stdout

    def token(self) -> bool:
        """Whether a token comes back now; asked on the node itself, whose packet filter lets only gateways and monitors in."""
        body = json.dumps({"model": self.row["deployment"], "prompt": "hello", "max_tokens": 1})
        command = ["docker", "exec", "-i", self.container, "curl", "-sf", "-m", "60", "-H", "@-", "-d", body, self.url]
        headers = f"Content-Type: application/json\nAuthorization: Bearer {self.key}\n"
        done = subprocess.run(command, input=headers, text=True, check=False, capture_output=True)
        return done.returncode == 0 and bool(json.loads(done.stdout)["choices"])

    def cold(self, way: str) -> None:
        """Without its caches, and the files it reads not in memory."""
        self.run(f"rm -rf {HOME[way]}/.cache {HOME[way]}/.triton; sync")
        try:
            Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
        except OSError as error:
            print(f"  the page cache stays: {error.strerror}")

    def start(self, way: str) -> float:
        """Seconds from the start to the first token; ends it again."""
        folder = f"/etc/idc_llm/engines/{self.row['name']}"
        program = f"/opt/idc_llm/deployments/{self.row['name']}/current/bin"
        plain = (f"mkdir -p {HOME['plain']} && chown vllm: {HOME['plain']} && set -a && . {folder}/env && HOME={HOME['plain']} "
                 f"PATH={program}:$PATH && cd {HOME['plain']} && exec setpriv --reuid=vllm --regid=vllm --init-groups "
                 f"{program}/vllm serve --config {folder}/config.yaml >{HOME['plain']}/log 2>&1")
        began = time.monotonic()
        if way == "unit":
            self.run(f"systemctl start {self.unit}")
            running = None
        else:
            running = subprocess.Popen(["docker", "exec", self.container, "sh", "-c", plain])
        while not self.token():
            if time.monotonic() - began > LATEST_S or (running and running.poll() is not None):
                raise SystemExit(f"engine: no token by {way}; see its journal, or {HOME['plain']}/log")
            time.sleep(0.1)
        took = time.monotonic() - began
        if running:
            self.run(f"pkill -TERM -o -f '^{program}/.*serve --config {folder}' || pkill -TERM -o -f 'serve --config {folder}'")
            running.wait(120)
        else:
            self.run(f"systemctl stop {self.unit}")
        return took


def main() -> int:
    """Print the table, and the line for programs; 1 where the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="of each way, cold and warm")
    turns = parser.parse_args().turns
    plan = json.loads(Path("inventories/.state/demo/plan.json").read_text(encoding="utf-8"))
    row = next(engine for engine in plan["engines"] if engine["host"] == "node2")
    engine = Engine("idc-demo-node2", row)
    watchdog = f"idc-vllm-watchdog@{row['name']}"
    engine.run(f"systemctl stop {watchdog} {engine.unit}")
    seconds: dict[tuple[str, str], list[float]] = {}
    try:
        for turn in range(turns):
            for way in ("unit", "plain") if turn % 2 == 0 else ("plain", "unit"):
                engine.cold(way)
                for heat in ("cold", "warm"):
                    seconds.setdefault((heat, way), []).append(engine.start(way))
                    print(f"  turn {turn + 1} {way:5} {heat}: {seconds[heat, way][-1]:.1f} s", flush=True)
    finally:
        engine.run(f"rm -rf {HOME['plain']}; systemctl start {engine.unit} {watchdog}")
    ratios = {}
    print(f"{'start to first token':24}{'unit':>10}{'plain':>10}{'ratio':>8}")
    for heat in ("cold", "warm"):
        unit, plain = (statistics.median(seconds[heat, way]) for way in ("unit", "plain"))
        ratios[heat] = unit / plain
        print(f"{heat:24}{unit:8.1f} s{plain:8.1f} s{ratios[heat]:8.2f}")
    print(f"engine: cold_vs_plain={ratios['cold']:.2f} warm_vs_plain={ratios['warm']:.2f} limit={LIMIT}")
    return int(max(ratios.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
