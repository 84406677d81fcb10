# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast weights reach every node: N network namespaces and an origin on links of one rate, both ways (tc tbf at both ends).

Each node serves its store with the role's own nginx configuration and fetches with model_fetch's own engine. Needs root, ip,
tc and nginx; libtorrent where ``--torrent-python`` has it. Ideal is bytes / link rate; the measured time runs from the first
node's start until the last has proven and published every file. Ends with one line for programs.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from jinja2 import Environment

from tests.bench.origin import static_server

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODEL, REVISION = "bench/model", "r1"
LIMITS = {"n8": 1.25, "n16": 1.35}
STORE = ROOT / "roles/model_store/templates/nginx.conf.j2"


class Lab:
    """Namespaces, links and processes; all that it began ends with it. Node 0 is the origin."""

    def __init__(self, nodes: int, rate_mbit: float, work: Path) -> None:
        self.nodes, self.work, self.prefix = nodes, work, f"idcb{os.getpid()}"
        self.rate = f"{int(rate_mbit * 1000)}kbit"
        self.spaces: list[str] = []
        self.running: list[subprocess.Popen] = []

    def __enter__(self) -> Lab:
        try:
            self.bridge = self.space("br")
            ip("-n", self.bridge, "link", "add", "br0", "type", "bridge")
            ip("-n", self.bridge, "link", "set", "br0", "up")
            for node in range(self.nodes + 1):
                name = self.space(str(node))
                ip("-n", self.bridge, "link", "add", f"v{node}", "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("-n", self.bridge, "link", "set", f"v{node}", "master", "br0", "up")
                ip("-n", name, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
                ip("-n", name, "link", "set", "eth0", "up")
                ip("-n", name, "link", "set", "lo", "up")
                for space, device in ((self.bridge, f"v{node}"), (name, "eth0")):
                    shape = ["root", "tbf", "rate", self.rate, "burst", "128kb", "latency", "20ms"]
                    subprocess.run(["tc", "-n", space, "qdisc", "add", "dev", device, *shape], check=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_args: object) -> None:
        for process in self.running:
            stop(process)
        for name in self.spaces:
            subprocess.run(["ip", "netns", "del", name], check=False)

    def space(self, name: str) -> str:
        full = f"{self.prefix}{name}"
        ip("netns", "add", full)
        self.spaces.append(full)
        return full

    def address(self, node: int) -> str:
        return f"10.77.0.{node + 1}"

    def url(self, node: int) -> str:
        return f"http://{self.address(node)}:8090"

    def start(self, node: int, *command: str) -> subprocess.Popen:
        env = {**os.environ, "PYTHONPATH": str(ROOT / ".collections"), "PYTHONDONTWRITEBYTECODE": "1"}
        run = ["ip", "netns", "exec", f"{self.prefix}{node}", *command]
        process = subprocess.Popen(run, env=env, start_new_session=True)
        self.running.append(process)
        return process

    def serve(self, node: int, store: Path) -> subprocess.Popen:
        """The origin's server, or a node's as the role writes it."""
        home = self.work / f"nginx{node}"
        home.mkdir()
        if node == 0:
            config = static_server(home, store, f"{self.address(node)}:8090")
        else:
            text = Environment().from_string(STORE.read_text().replace("| ternary(' ssl', '')", "and ' ssl' or ''")).render(
                model_store_server_workers=1, model_store_server_streams=4, model_store_root=store, __model_store_tls=False,
                __model_store_listen=f"{self.address(node)}:8090", __model_store_allowed=["10.77.0.0/24"])
            journal = "syslog:server=unix:/run/systemd/journal/dev-log,nohostname,tag=idc_llm_store"
            config = home / "nginx.conf"
            config.write_text("user root; daemon off;\n" + text.replace(journal, str(home / "store.log")))
        return self.start(node, "nginx", "-c", str(config), "-p", str(home), "-e", "stderr")

    def kill(self, node: int, *processes: subprocess.Popen) -> None:
        """As if its cable were pulled: nobody is told."""
        ip("-n", f"{self.prefix}{node}", "link", "set", "eth0", "down")
        for process in processes:
            stop(process)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a group of its own
        process.wait()


def make_files(folder: Path, count: int, size: int) -> list[dict]:
    folder.mkdir(parents=True)
    rows = []
    for number in range(1, count + 1):
        name, data = f"model-{number:05d}-of-{count:05d}.safetensors", os.urandom(size)
        (folder / name).write_bytes(data)
        rows.append({"path": name, "size": size, "sha256": hashlib.sha256(data).hexdigest()})
    return rows


def wait(results: dict[int, Path], limit_s: float, processes: Iterable[subprocess.Popen] = ()) -> dict[int, dict]:
    """{node: its result}; raises when one is not there in time."""
    end, said = time.time() + limit_s, time.time()
    while not all(path.exists() for path in results.values()):
        if time.time() > end:
            missing = [node for node, path in results.items() if not path.exists()]
            raise SystemExit(f"distribute: nodes {missing} did not finish in {limit_s:.0f} s")
        if any(process.poll() for process in processes):
            raise SystemExit("distribute: a node's fetch failed")
        if time.time() - said > 15:
            said = time.time()
            print(f"  ... {sum(path.exists() for path in results.values())} of {len(results)} nodes are done", flush=True)
        time.sleep(0.05)
    time.sleep(0.2)
    return {node: json.loads(path.read_text()) for node, path in results.items()}


def ours(args: argparse.Namespace, nodes: int, rows: list[dict], source: Path, mode: str) -> dict:
    """One run. ``mode``: share, origin (no peers), dead (node 3 vanishes in the middle), liar (one more host that has
    published everything, with wrong bytes)."""
    ideal = sum(row["size"] for row in rows) * 8 / args.rate / 1e6
    work = Path(tempfile.mkdtemp(prefix="distribute-", dir=args.work))
    os.chmod(work, 0o755)
    (source / "manifest.json").write_text(json.dumps({"schema": 1, "files": rows}))
    members = range(1, nodes + 1 + (mode == "liar"))
    try:
        with Lab(len(members), args.rate, work) as lab:
            lab.serve(0, source)
            servers, fetchers, results = {}, {}, {}
            rng = random.Random(args.seed)
            hosts = [] if mode == "origin" else [lab.url(node) for node in members]
            for node in members:
                (work / f"store{node}").mkdir()
                servers[node] = lab.serve(node, work / f"store{node}")
            if mode == "liar":
                lie(work / f"store{members[-1]}" / MODEL / REVISION, rows)
            first = time.time() + 1.0 + nodes / 8
            for node in range(1, nodes + 1):
                results[node] = work / f"result{node}.json"
                config = {"hosts": hosts, "me": "" if mode == "origin" else lab.url(node), "origin": lab.url(0),
                          "root": str(work / f"store{node}"), "model": MODEL, "revision": REVISION, "jobs": args.jobs,
                          "timeout": 60 if mode == "origin" else 5, "at": first + rng.random() * args.stagger,
                          "result": str(results[node])}
                (work / f"config{node}.json").write_text(json.dumps(config))
                fetchers[node] = lab.start(node, args.python, str(HERE / "fleet_node.py"), str(work / f"config{node}.json"))
            time.sleep(max(0.0, first - time.time()))
            cpu = cpu_times()
            if mode == "dead":
                time.sleep(ideal / 2)
                lab.kill(3, servers[3], fetchers[3])
                del results[3], fetchers[3]
            found = wait(results, ideal * (nodes + 4) + 60, fetchers.values())
            busy = cpu_used(cpu)
            wrong = [node for node in results if not proven(work / f"store{node}" / MODEL / REVISION, rows)]
            if wrong:
                raise SystemExit(f"distribute: nodes {wrong} hold wrong files")
            log = (work / "nginx0" / "access.log").read_text().splitlines()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    took = max(row["end"] for row in found.values()) - min(row["begin"] for row in found.values())
    pulls = len([line for line in log if line.endswith(".safetensors")])
    own = sum(row["cpu"] for row in found.values()) / took / (os.cpu_count() or 1)
    return {"took": took, "ratio": took / ideal, "pulls": pulls / len(rows), "cpu": busy, "own": own,
            "wrong": sum(row["wrong"] for row in found.values())}


def lie(folder: Path, rows: list[dict]) -> None:
    """A published revision whose files have the right sizes and the wrong bytes."""
    folder.mkdir(parents=True)
    for row in rows:
        with open(folder / row["path"], "wb") as out:
            out.truncate(row["size"])


def torrent(args: argparse.Namespace, nodes: int, rows: list[dict], source: Path) -> dict:
    """libtorrent, every node told of every other."""
    ideal = sum(row["size"] for row in rows) * 8 / args.rate / 1e6
    work = Path(tempfile.mkdtemp(prefix="distribute-", dir=args.work))
    try:
        meta = work / "files.torrent"
        subprocess.run([args.torrent_python, str(HERE / "torrent.py"), "make", str(source), str(meta)], check=True)
        with Lab(nodes, args.rate, work) as lab:
            results, rng = {}, random.Random(args.seed)
            cpu = cpu_times()
            for node in range(nodes + 1):
                folder = source.parent if node == 0 else work / f"store{node}"
                folder.mkdir(exist_ok=True)
                others = [lab.address(other) for other in range(nodes + 1) if other != node]
                config = {"torrent": str(meta), "folder": str(folder), "address": lab.address(node), "others": others,
                          "seed": node == 0, "result": str(work / f"result{node}.json")}
                (work / f"config{node}.json").write_text(json.dumps(config))
                lab.start(node, args.torrent_python, str(HERE / "torrent.py"), str(work / f"config{node}.json"))
                if node:
                    results[node] = Path(config["result"])
                    time.sleep(rng.random() * args.stagger / nodes)
            found = wait(results, ideal * 10 + 60)
            busy = cpu_used(cpu)
            if not all(proven(work / f"store{node}" / source.name, rows) for node in results):
                raise SystemExit("distribute: libtorrent's files are wrong")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    took = max(row["end"] for row in found.values()) - min(row["begin"] for row in found.values())
    return {"took": took, "ratio": took / ideal, "pulls": None, "cpu": busy, "own": 0.0, "wrong": 0}


def proven(folder: Path, rows: list[dict]) -> bool:
    return all(hashlib.sha256((folder / row["path"]).read_bytes()).hexdigest() == row["sha256"] for row in rows)


def cpu_times() -> tuple[float, float]:
    values = [float(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(values), values[3] + values[4]


def cpu_used(before: tuple[float, float]) -> float:
    total, idle = cpu_times()
    return 1 - (idle - before[1]) / max(1.0, total - before[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--rate", type=float, default=200, help="Mbit/s of every link, both ways")
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--file-mb", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--stagger", type=float, default=1.0, help="seconds within which the nodes start")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="*", default=["share", "dead", "liar", "torrent", "origin"])
    parser.add_argument("--work", default=None)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--torrent-python", default=sys.executable, help="a python that can import libtorrent")
    args = parser.parse_args()
    tried = subprocess.run([args.torrent_python, "-c", "import libtorrent"], capture_output=True, check=False)
    if "torrent" in args.modes and tried.returncode:
        print("libtorrent is not there, so it is left out: --torrent-python names a Python that has it")
        args.modes.remove("torrent")
    base = Path(tempfile.mkdtemp(prefix="distribute-origin-", dir=args.work))
    os.chmod(base, 0o755)
    line, late = [], []
    try:
        rows = make_files(base / "model", args.files, int(args.file_mb * 1e6))
        ideal = sum(row["size"] for row in rows) * 8 / args.rate / 1e6
        print(f"{args.files} files of {args.file_mb:g} MB, links of {args.rate:g} Mbit/s, ideal {ideal:.1f} s")
        print("nodes work        ideal s   took s  ratio  origin  wrong   cpu fetch")
        for nodes in args.nodes:
            for mode in args.modes:
                if mode in ("dead", "liar", "origin") and nodes != args.nodes[0]:
                    continue
                few = rows[: max(1, args.files // 8)] if mode == "origin" else rows  # its ratio is N whatever the bytes
                source = base / "model"
                found = torrent(args, nodes, rows, source) if mode == "torrent" else ours(args, nodes, few, source, mode)
                pulls = "-" if found["pulls"] is None else f"{found['pulls']:.2f}x"
                share = ideal * len(few) / len(rows)
                print(
                    f"{nodes:>5} {mode:<10} {share:>8.1f} {found['took']:>8.1f} {found['ratio']:>6.2f} {pulls:>7}"
                    f" {found['wrong']:>6} {found['cpu']:>5.0%} {found['own']:>5.0%}",
                    flush=True,
                )
                key = f"{'' if mode == 'share' else mode + '_'}n{nodes}"
                line.append(f"{key}={found['ratio']:.2f}")
                if found["ratio"] > LIMITS.get(key, float("inf")):
                    late.append(f"{key} is {found['ratio']:.2f}, at most {LIMITS[key]} is wanted")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    for words in late:
        print(words)
    print("distribute: " + " ".join(line))
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    main()
