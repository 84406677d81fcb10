# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to prove a store again, its files in the page cache, and to see that a large one is complete.

``state: verified`` reads all bytes of 4 GB: beside ``sha256sum -c``, and ``openssl speed sha256`` of one core × cores (goal: 0.9
of it while it reads: the start of Python and of Ansible's code, as ``state: present`` on the same store takes it, is left out).
``openssl speed -multi`` shows what the cores really give together, where they share what a core alone has to itself.
``state: present`` looks at a published revision of 163 shards of 4.3 GB (sparse: no weights are read; goal: under 1 s).
All rows are whole processes, Ansible's code loaded and its arguments parsed; best of --repeat, in turn.
"""
from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

from ansible_collections.idc.llm.plugins.module_utils._model_store import MANIFEST, FileEntry, Manifest, revision_path

from tests.bench.origin import CORES, MODEL, Origin, Step, module, options, run, where, workplace

SPEED_GOAL, PRESENT_GOAL_S = 0.9, 1.0
SHARDS, SHARD = 163, 4_300_000_000  # DeepSeek-V3's
LARGE = "bench/large"


def openssl_speed(cores: int = 0) -> float:
    """Bytes a second of sha256 by OpenSSL: of one core, or of so many at once."""
    many = ["-multi", str(cores)] if cores else []
    said = run(Step(["openssl", "speed", *many, "-seconds", "2", "-bytes", "1048576", "sha256"]))[2]
    found = re.search(r"^sha256\s+([\d.]+)k", said, re.MULTILINE)
    if not found:
        sys.exit(f"openssl speed says nothing that is understood:\n{said}")
    return float(found.group(1)) * 1000


def fill(work: Path, root: Path, shards: int, mib: int) -> tuple[str, dict[str, str]]:
    """Publish a model in the store, read it into the page cache; its revision and {path: sha256}."""
    origin = Origin(work, shards, mib)
    run(module(root, revision=origin.commit, sources=[f"file://{origin.folder}"]))
    shutil.rmtree(origin.home)
    run(Step(["sync", "-f", str(work)]))
    return origin.commit, origin.files


def fill_large(root: Path) -> None:
    """A published revision of the right sizes, without a block on the disk."""
    entries = tuple(FileEntry(f"model-{n:05}-of-{SHARDS:05}.safetensors", SHARD, f"{n:064x}", "hf") for n in range(1, SHARDS + 1))
    folder = Path(revision_path(str(root), LARGE, "main"))
    folder.mkdir(parents=True)
    for entry in entries:
        with (folder / entry.path).open("wb") as stream:
            stream.truncate(SHARD)
    (folder / MANIFEST).write_text(Manifest(entries).as_text(LARGE, "main"), encoding="utf-8")


def told(step: Step, **wanted: object) -> tuple[float, float]:
    """(wall, CPU) seconds of a run of the module whose result must say so."""
    seconds, cpu, said = run(step)
    result = json.loads(said)
    if any(result[key] != value for key, value in wanted.items()):
        sys.exit(f"model_fetch said {said}, wanted {wanted}")
    return seconds, cpu


def must_find_damage(step: Step, path: Path) -> None:
    """One wrong byte in a file, and ``verified`` must fail; it is put right again."""
    for damaged in (True, False):
        with path.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            last = stream.read(1)
            stream.seek(-1, os.SEEK_END)
            stream.write(bytes([last[0] ^ 1]))
        if damaged and json.loads(run(step, fails=True)[2]).get("wrong") != [path.name]:
            sys.exit(f"verified did not name {path.name}, which has a wrong byte")


def main() -> int:
    """Fill two stores, measure, report; 1 where a goal is missed."""
    parser = options(__doc__.splitlines()[0])
    args = parser.parse_args()
    with workplace(parser, args) as folder:
        root = Path(folder) / "store"
        commit, files = fill(Path(folder), root, args.shards, args.mib)
        fill_large(root)
        published = Path(revision_path(str(root), MODEL, commit))
        size = sum((published / path).stat().st_size for path in files)
        print(where(size, args), flush=True)
        sums = "".join(f"{sha256}  {path}\n" for path, sha256 in files.items())
        verified = module(root, revision=commit, state="verified")
        large = module(root, model=LARGE, revision="main")
        must_find_damage(verified, published / max(files))
        speeds, rows = [], {"verified": [], "again": [], "sha256sum": [], "large": []}
        for _round in range(args.repeat):
            speeds.append((openssl_speed() * CORES, openssl_speed(CORES)))
            rows["verified"].append(told(verified, files=len(files), bytes=size))
            rows["again"].append(told(module(root, revision=commit), changed=False))
            rows["large"].append(told(large, changed=False, files=SHARDS, bytes=SHARDS * SHARD))
            rows["sha256sum"].append(run(Step(["sha256sum", "-c", "--quiet"], sums, folder=published))[:2])
    return report(size, {name: min(found) for name, found in rows.items()}, max(one[0] for one in speeds),
                  max(one[1] for one in speeds))


def report(size: int, rows: dict[str, tuple[float, float]], cores: float, together: float) -> int:
    """Print the table and the line for programs."""
    words = {"verified": "model_fetch, state verified", "sha256sum": "sha256sum -c", "again": "model_fetch, state present",
             "large": f"the same, {SHARDS} shards"}
    print(f"{'work':42} {'seconds':>8} {'MB/s':>6} {'CPU s':>6}")
    for name, (seconds, cpu) in rows.items():
        speed = f"{size / seconds / 1e6:6.0f}" if name in ("verified", "sha256sum") else f"{'':6}"
        print(f"{words[name]:42} {seconds:8.2f} {speed} {cpu:6.2f}")
    print(f"{'openssl speed sha256, one core × cores':42} {size / cores:8.2f} {cores / 1e6:6.0f}")
    print(f"{'openssl speed sha256, all cores at once':42} {size / together:8.2f} {together / 1e6:6.0f}")
    wall, large = rows["verified"][0], rows["large"][0]
    of_speed, peer = size / wall / cores, rows["sha256sum"][0] / wall
    reading = size / (wall - rows["again"][0]) / cores
    held_to = (f"{reading:.2f} of openssl speed × cores while it reads ({of_speed:.2f} with the start of Python and Ansible, "
               f"{rows['again'][0]:.2f} s), goal {SPEED_GOAL}")
    for text, missed in ((held_to, reading < SPEED_GOAL),
                         (f"{large:.2f} s to see that {SHARDS} shards are there, goal {PRESENT_GOAL_S}", large >= PRESENT_GOAL_S)):
        print(f"{'MISSED' if missed else 'held'}: {text}")
    print(f"verify: of_openssl={of_speed:.2f} of_openssl_at_once={size / wall / together:.2f} without_start={reading:.2f} "
          f"sha256sum_vs_ours={peer:.2f} verified_mb_s={size / wall / 1e6:.0f} present_{SHARDS}_s={large:.2f} "
          f"present_{SHARDS}_cpu_s={rows['large'][1]:.2f} cores={CORES}")
    return int(reading < SPEED_GOAL or large >= PRESENT_GOAL_S)


if __name__ == "__main__":
    sys.exit(main())
