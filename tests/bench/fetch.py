# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a model takes from a hub to this disk, delivered and proven: model_fetch beside its peers and the floor.

The origin is the hub's double on loopback, which redirects to nginx (sendfile) as the real hubs do to their storage; its files
are in the page cache. Each contestant runs in turn on the same file system, into a folder that is deleted and synced before the
clock starts. Seconds run until the bytes are on the disk: each one's own end, then ``sync -f``, which costs those little who
synced themselves. "at exit" leaves that sync out. Best of --repeat.

The floor is the slower of curl (one process a file, all at once, no proof) and OpenSSL hashing on all cores what curl brought.
Goals: twice as fast as the best peer, at most 1.3 times the floor. Exit code 1: a goal is
missed; 2: OpenSSL did not get the cores that it was measured on, so that the floor says nothing.
"""
from __future__ import annotations

import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.origin import CORES, MODEL, Origin, Step, module, options, run, sha256_of, where, workplace

PEER_GOAL, FLOOR_GOAL = 2.0, 1.3
QUIET = 1.25  # the floor is no floor when its cores are taken away


@dataclass(frozen=True)
class Took:
    """Wall seconds until the bytes were on the disk, those until the last command's end, those of each command; CPU seconds."""

    synced: float
    ended: float
    steps: tuple[float, ...]
    cpu: float


def ours(origin: Origin, place: Path) -> list[Step]:
    """It proves while it fetches."""
    return [module(place, revision=origin.commit, sources=[f"hf+{origin.hub.url}"])]


def hf(origin: Origin, place: Path) -> list[Step]:
    """Into its cache, as most people use it, then its own check of the sha256 that the hub gives."""
    program = str(Path(sys.executable).with_name("hf"))
    environment = {"HF_ENDPOINT": origin.hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(place), "HF_HUB_DISABLE_TELEMETRY": "1",
                   "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": ""}
    return [Step([program, *what, MODEL, "--revision", origin.commit], "", environment)
            for what in (["download"], ["cache", "verify", "--fail-on-missing-files"])]


def aria2(origin: Origin, place: Path) -> list[Step]:
    """Eight connections a file; no blocks written in advance, which would only slow it down."""
    wanted = "".join(f"{url}\n  out={path}\n" for url, path in origin.urls())
    fetch = ["aria2c", "-q", "-x8", "-s8", "-j8", "--file-allocation=none", "--no-conf", "-d", str(place), "-i", "-"]
    sums = "".join(f"{sha256}  {path}\n" for path, sha256 in origin.files.items())
    return [Step(fetch, wanted), Step(["sha256sum", "-c", "--quiet"], sums, folder=place)]


def curl(origin: Origin, place: Path) -> list[Step]:
    """One process a file, all at once."""
    fetch = ["xargs", "-P", str(len(origin.files)), "-n", "2", "curl", "-sSfLo"]
    return [Step(fetch, "".join(f"{place / path} {url}\n" for url, path in origin.urls()))]


def openssl(folder: Path, names: list[str]) -> Step:
    """All cores hash, a file each at a time."""
    return Step(["xargs", "-P", str(CORES), "-n", "1", "openssl", "dgst", "-sha256"], "".join(f"{folder / one}\n" for one in names))


def measure(origin: Origin, steps: list[Step], work: Path) -> Took:
    """One contestant's turn; what it brought stays."""
    origin.warm()
    run(Step(["sync", "-f", str(work)]))
    began = time.perf_counter()
    told = [run(step) for step in steps]
    ended = time.perf_counter() - began
    run(Step(["sync", "-f", str(work)]))
    return Took(time.perf_counter() - began, ended, tuple(one[0] for one in told), sum(one[1] for one in told))


def check(origin: Origin, root: Path) -> None:
    """What model_fetch published is the origin's, byte for byte, and nothing else."""
    folder = root / MODEL / origin.commit
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    found.pop("manifest.json")
    with ThreadPoolExecutor(CORES) as pool:
        sums = dict(zip(found, pool.map(sha256_of, found.values()), strict=True))
    if sums != origin.files:
        sys.exit(f"model_fetch published {sums}, wanted {origin.files}")


def contest(origin: Origin, work: Path, repeat: int) -> dict[str, list[Took]]:
    """The turns of each contestant, one after another, ``repeat`` times round."""
    contestants = {"ours": ours, "hf": hf, "aria2": aria2, "curl": curl}
    if not shutil.which("aria2c"):
        print("aria2c is missing: the bench goes on without it, and the best peer is hf alone", flush=True)
        del contestants["aria2"]
    turns: dict[str, list[Took]] = {name: [] for name in (*contestants, "openssl")}
    for _round in range(repeat):
        for name, steps in contestants.items():
            place = work / name
            place.mkdir()
            turns[name].append(measure(origin, steps(origin, place), work))
            if name == "ours":
                check(origin, place)
            if name == "curl":
                seconds, cpu, _said = run(openssl(place, list(origin.files)))
                turns["openssl"].append(Took(seconds, seconds, (seconds,), cpu))
            shutil.rmtree(place)
    return turns


def report(turns: dict[str, list[Took]], size: int, files: int) -> int:
    """Print the table and the line for programs; 1 where a goal is missed, 2 where the machine was not ours alone."""
    words = {"ours": "model_fetch", "hf": "hf download, hf cache verify", "aria2": "aria2c -x8 -s8, sha256sum -c",
             "curl": "curl, no proof", "openssl": f"openssl sha256 on {CORES} cores"}
    best = {name: min(took, key=lambda one: one.synced) for name, took in turns.items()}
    exits = {name: min(one.ended for one in took) for name, took in turns.items()}
    mine, peers = best["ours"].synced, {name: best[name].synced for name in best if name in ("hf", "aria2")}
    print(f"{'work':30} {'seconds':>8} {'MB/s':>6} {'of ours':>8} {'at exit':>8} {'of ours':>8} {'CPU s':>6}  each command")
    for name, took in best.items():
        print(f"{words[name]:30} {took.synced:8.2f} {size / took.synced / 1e6:6.0f} {took.synced / mine:7.2f}x {exits[name]:8.2f} "
              f"{exits[name] / exits['ours']:7.2f}x {took.cpu:6.1f}  " + " + ".join(f"{one:.2f}" for one in took.steps))
    peer, floor = min(peers.values()) / mine, mine / max(best["curl"].synced, best["openssl"].synced)
    peer_exit = min(exits[name] for name in peers) / exits["ours"]
    both = (best["curl"].cpu + best["openssl"].cpu) / CORES
    alone = best["openssl"].cpu / files * -(-files // CORES)  # all files are as large, but for one that is next to nothing
    disturbed = best["openssl"].ended / alone
    bound = exits["ours"] / both
    floor_exit = exits["ours"] / max(exits["curl"], exits["openssl"])
    for text, missed in ((f"{peer:.2f} times as fast as the best peer, goal {PEER_GOAL}", peer < PEER_GOAL),
                         (f"{floor:.2f} times the floor, goal {FLOOR_GOAL}", floor > FLOOR_GOAL)):
        print(f"{'MISSED' if missed else 'held'}: {text}")
    print(f"the CPU seconds of curl and OpenSSL keep {CORES} cores busy for {both:.2f} s: no goal, a bound where they are few")
    each = " ".join(f"{name}_vs_ours={seconds / mine:.2f}" for name, seconds in peers.items())
    print(f"fetch: ours_vs_best_peer={peer:.2f} ours_vs_floor={floor:.2f} {each} ours_mb_s={size / mine / 1e6:.0f} "
          f"exit_vs_best_peer={peer_exit:.2f} exit_vs_floor={floor_exit:.2f} exit_vs_busy_cores={bound:.2f} "
          f"disturbed={disturbed:.2f} cores={CORES}")
    if disturbed > QUIET:
        print(f"DISTURBED: OpenSSL took {disturbed:.1f} times what its CPU seconds need; others are at work, nothing is proven")
        return 2
    return int(peer < PEER_GOAL or floor > FLOOR_GOAL)


def main() -> int:
    """Make the model, let all run, report."""
    parser = options(__doc__.splitlines()[0])
    args = parser.parse_args()
    with workplace(parser, args) as folder:
        work = Path(folder)
        with Origin(work, args.shards, args.mib) as origin:
            print(where(origin.bytes, args), flush=True)
            return report(contest(origin, work, args.repeat), origin.bytes, args.shards)


if __name__ == "__main__":
    sys.exit(main())
