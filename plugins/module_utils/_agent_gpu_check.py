# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's GPUs do under load, measured with the torch that the engine brings: for hosts without DCGM, nvbandwidth and
nccl-tests.

Runs on hosts with the Python of an engine's release; standard library and torch, nothing of ansible, Python 3.9+. Prints one JSON
object:

    gpus          of each: index, name, uuid, matmul_tflops (bf16, dense), memory_gbs (read and written, device to device),
                  to_gpu_gbs and from_gpu_gbs (pinned memory, over PCIe), wrong (elements of a product that should be equal and are
                  not), and what nvidia-smi shows under load: sm_mhz, watts, celsius, slowed (reasons that slow a clock, other than
                  the power limit), and while bytes go over it pcie: generation, lanes, generation_max, lanes_max (of card and slot)
    peers         each GPU's memory copied to each other one's: ways, indirect (pairs [index, index] whose memory the driver does
                  not let them reach: the bytes go by way of the host), wrong (numbers that arrive changed), gbs of the slowest;
                  null with one GPU
    all_reduce    gpus, bytes, busbw_gbs, wrong; null with one GPU. busbw is what the links carry, as nccl-tests defines it:
                  https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
    torch, cuda, nccl    versions, as loaded

With --meet it is one host's half of an all-reduce with another one: --world ranks in all, of which this host's GPUs are --first
and the following. The one whose --first is 0 listens there. Prints what it saw of all_reduce. --backend gloo does the same without
GPUs, with one rank for each half: it proves the way, not the speed.

GB is 10^9 bytes. Exit status: 0; 1 no torch, no GPU, or a measurement that broke off, with one line on stderr.
"""
from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

MIB = 1 << 20
WARM, LIMIT_S = 3, 120
PATIENCE_S = 60  # that a rank waits for the others to come
# clocks_event_reasons: https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
IDLE, APPLICATIONS, POWER_CAP, SYNC_BOOST, DISPLAY = 0x1, 0x2, 0x4, 0x10, 0x100
HARMLESS = IDLE | APPLICATIONS | POWER_CAP | SYNC_BOOST | DISPLAY
REASONS = {0x8: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}


def reasons(mask: int) -> list[str]:
    """Why a clock is slowed, in words; a power limit under full load is no fault."""
    other = mask & ~HARMLESS & ~sum(REASONS)
    return [word for bit, word in REASONS.items() if mask & bit] + ([hex(other)] if other else [])


def bus_bandwidth(gigabytes: float, seconds: float, ranks: int) -> float:
    """Of an all-reduce: each byte crosses a link 2 (n-1)/n times."""
    return gigabytes / seconds * 2 * (ranks - 1) / ranks


def under_load(uuid: str) -> dict[str, Any]:
    """What nvidia-smi shows of one GPU now; nothing where it does not answer."""
    for name in ("clocks_event_reasons", "clocks_throttle_reasons"):  # the older name, for older drivers
        try:
            clock, watts, celsius, mask = smi(uuid, f"clocks.sm,power.draw,temperature.gpu,{name}.active")
            return {"sm_mhz": int(clock), "watts": float(watts), "celsius": int(celsius), "slowed": reasons(int(mask, 16))}
        except (OSError, subprocess.SubprocessError, ValueError):
            continue
    return {}


def link(uuid: str) -> dict[str, Any]:
    """The GPU's PCIe link as it is now; nothing where nvidia-smi does not say."""
    try:
        now, lanes, most, widest = smi(uuid, "pcie.link.gen.current,pcie.link.width.current,pcie.link.gen.max,pcie.link.width.max")
        return {"pcie": {"generation": int(now), "lanes": int(lanes), "generation_max": int(most), "lanes_max": int(widest)}}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def smi(uuid: str, fields: str) -> list[str]:
    """What nvidia-smi says of a GPU. Raises OSError and subprocess' errors."""
    said = subprocess.run(["nvidia-smi", "-i", uuid, f"--query-gpu={fields}", "--format=csv,noheader,nounits"], text=True,
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30).stdout
    return [word.strip() for word in said.split(",")]


def processors(text: str) -> set[int]:
    """Of a list as sysfs has it, 0-31,64-95. Raises ValueError."""
    return {number for part in text.strip().split(",") if part for low, _dash, high in [part.partition("-")]
            for number in range(int(low), int(high or low) + 1)}


def beside(uuid: str, sysfs: str = "/sys") -> set[int]:
    """Processors of the GPU's NUMA node, on which memory for it is taken; this process' own where they are not known."""
    own = os.sched_getaffinity(0)
    try:
        domain, _colon, rest = smi(uuid, "pci.bus_id")[0].lower().partition(":")
        with open(f"{sysfs}/bus/pci/devices/{int(domain, 16):04x}:{rest}/local_cpulist", encoding="ascii") as stream:
            return processors(stream.read()) & own or own
    except (OSError, subprocess.SubprocessError, ValueError):
        return own


def timed(torch: Any, work: Callable[[], Any], seconds: float) -> float:
    """Seconds that one turn takes, over at least ``seconds``, by the device's own clock."""
    for _turn in range(WARM):
        work()
    torch.cuda.synchronize()
    turns, total = 1, 0.0
    while total < seconds:
        turns = max(1, int(turns * min(8.0, seconds / total * 1.2))) if total else 1
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _turn in range(turns):
            work()
        end.record()
        torch.cuda.synchronize()
        total = begin.elapsed_time(end) / 1000
    return total / turns


def one_gpu(torch: Any, index: int, seconds: float, mib: int) -> dict[str, Any]:
    """The row of one GPU."""
    torch.cuda.set_device(index)
    known = torch.cuda.get_device_properties(index)
    uuid = f"GPU-{known.uuid}"
    os.sched_setaffinity(0, beside(uuid))
    size = 8192
    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    product = torch.empty_like(left)
    first = left @ right
    per_matmul = timed(torch, lambda: torch.matmul(left, right, out=product), seconds)
    for _turn in range(int(1.0 / per_matmul)):  # nvidia-smi looks while a second of work is queued
        torch.matmul(left, right, out=product)
    seen = under_load(uuid)
    torch.cuda.synchronize()
    wrong = int((product != first).sum())  # the same numbers by the same kernel: equal to the last bit
    count = mib * MIB
    there, back = torch.empty(count, dtype=torch.uint8, device="cuda"), torch.empty(count, dtype=torch.uint8, device="cuda")
    copied = timed(torch, lambda: back.copy_(there), seconds)
    pinned = torch.empty(count, dtype=torch.uint8, pin_memory=True)
    to_gpu = timed(torch, lambda: there.copy_(pinned, non_blocking=True), seconds)
    for _turn in range(int(1.0 / to_gpu)):  # nvidia-smi looks while a second of copies is queued: at rest a link slows down
        there.copy_(pinned, non_blocking=True)
    seen.update(link(uuid))
    torch.cuda.synchronize()
    from_gpu = timed(torch, lambda: pinned.copy_(there, non_blocking=True), seconds)
    return {"index": index, "name": known.name, "uuid": uuid, "matmul_tflops": round(2 * size**3 / per_matmul / 1e12, 1),
            "memory_gbs": round(2 * count / copied / 1e9, 1), "to_gpu_gbs": round(count / to_gpu / 1e9, 2),
            "from_gpu_gbs": round(count / from_gpu / 1e9, 2), "wrong": wrong, **seen}


def peers(torch: Any, count: int, seconds: float, mib: int) -> dict[str, Any]:
    """What comes of copies from each GPU to each other one."""
    numbers = mib * MIB // 8
    wrong, slowest, indirect = 0, float("inf"), []
    for source in range(count):
        torch.cuda.set_device(source)
        sent = torch.arange(numbers, device=source)
        for target in range(count):
            if target == source:
                continue
            if not torch.cuda.can_device_access_peer(source, target):
                indirect.append([source, target])
            got = torch.zeros(numbers, dtype=sent.dtype, device=target)
            took = timed(torch, functools.partial(got.copy_, sent, non_blocking=True), seconds)
            torch.cuda.synchronize(target)
            wrong += int((got != torch.arange(numbers, device=target)).sum())
            slowest = min(slowest, numbers * 8 / took / 1e9)
    return {"ways": count * (count - 1), "indirect": indirect, "wrong": wrong, "gbs": round(slowest, 1)}


@dataclass(frozen=True)
class Ring:
    """Who takes part in an all-reduce: ranks in all, this host's first, and where they meet (as torch.distributed has it)."""

    meet: str
    world: int
    first: int = 0
    backend: str = "nccl"


def rank(torch: Any, number: int, ring: Ring, seconds: float, mib: int) -> dict[str, Any]:
    """One process of the all-reduce, on its GPU; number: which one of this host's."""
    device = "cuda" if ring.backend == "nccl" else "cpu"
    own, ranks = ring.first + number, ring.world
    if device == "cuda":
        torch.cuda.set_device(number)
    torch.distributed.init_process_group(ring.backend, init_method=ring.meet, rank=own, world_size=ranks,
                                         timeout=datetime.timedelta(seconds=PATIENCE_S))
    settle = torch.cuda.synchronize if device == "cuda" else int
    data = torch.full((mib * MIB // 4,), float(own + 1), device=device)
    torch.distributed.all_reduce(data)
    wrong = int((data != ranks * (ranks + 1) / 2).sum())
    data.zero_()
    settle()
    turns, spent, began = 0, 0.0, time.monotonic()
    enough = torch.zeros(1, device=device)
    while True:  # all ranks must do as many: the first one says when it is enough
        batch = 10 if turns else 1  # one over a slow network takes a quarter of a minute
        begin = time.monotonic()
        for _turn in range(batch):
            torch.distributed.all_reduce(data)
        settle()
        turns, spent = turns + batch, spent + time.monotonic() - begin
        enough.fill_(float(time.monotonic() - began >= seconds))
        torch.distributed.broadcast(enough, 0)
        if enough.item():
            break
    torch.distributed.destroy_process_group()
    return {"gpus": ranks, "bytes": mib * MIB, "busbw_gbs": round(bus_bandwidth(mib * MIB / 1e9, spent / turns, ranks), 3),
            "wrong": wrong}


def all_reduce(count: int, ring: Ring, seconds: float, mib: int) -> dict[str, Any]:
    """The slowest figure of this host's ranks; wrong: of all of them together. Raises RuntimeError."""
    command = [sys.executable, os.path.abspath(__file__), "--seconds", str(seconds), "--mib", str(mib), "--world", str(ring.world),
               "--first", str(ring.first), "--backend", ring.backend, "--meet", ring.meet, "--rank"]
    running = [subprocess.Popen([*command, str(number)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for number in range(count)]
    rows, complaints = [], []
    try:
        for process in running:
            out, err = process.communicate(timeout=LIMIT_S + seconds)
            if process.returncode:
                complaints += err.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
            else:
                rows.append(json.loads(out.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        complaints.append(f"no answer in {LIMIT_S + seconds:.0f} s")
    finally:
        for process in running:
            process.kill()
            process.wait()
    if complaints:
        raise RuntimeError("all-reduce: " + "; ".join(complaints))
    slowest = min(float(row["busbw_gbs"]) for row in rows)
    return {**rows[0], "busbw_gbs": round(slowest, 1 if slowest >= 10 else 3), "wrong": sum(row["wrong"] for row in rows)}


def one_host(torch: Any, seconds: float, mib: int) -> dict[str, Any]:
    """All that is measured on one host. Raises what torch raises, OSError, ValueError."""
    count = torch.cuda.device_count()
    own, rows = os.sched_getaffinity(0), []
    for index in range(count):
        rows.append(one_gpu(torch, index, seconds, mib))
        os.sched_setaffinity(0, own)
    between = peers(torch, count, seconds / 10, mib) if count > 1 else None
    torch.cuda.empty_cache()
    together = None
    if count > 1:
        with tempfile.TemporaryDirectory() as folder:
            together = all_reduce(count, Ring(f"file://{os.path.join(folder, 'meet')}", count), seconds, mib)
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "nccl": version(torch), "gpus": rows, "peers": between,
            "all_reduce": together}


def version(torch: Any) -> str:
    """NCCL's, as torch has it loaded."""
    return ".".join(map(str, torch.cuda.nccl.version()))


def say(found: Mapping[str, Any]) -> None:
    """As one line."""
    sys.stdout.write(json.dumps(found) + "\n")


def main(argv: Sequence[str] = ()) -> int:
    """See above."""
    parser = argparse.ArgumentParser(description="What this host's GPUs do under load.")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--mib", type=int, default=1024, help="size of what is moved")
    parser.add_argument("--meet", default="", help="where two hosts' halves meet: tcp://ADDRESS:PORT of the first")
    parser.add_argument("--world", type=int, default=0, help="ranks of both halves")
    parser.add_argument("--first", type=int, default=0, help="this half's first rank")
    parser.add_argument("--backend", choices=["nccl", "gloo"], default="nccl")
    parser.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    options: Any = parser.parse_args(argv or None)
    if not 0 < options.seconds <= 600 or options.mib < 1:
        sys.stderr.write(f"--seconds {options.seconds:g} --mib {options.mib}: wanted up to 600, from 1\n")
        return 1
    try:
        import torch  # the engine's release has it
        import torch.distributed
    except ImportError as error:
        sys.stderr.write(f"no torch in {sys.executable}: {error}\n")
        return 1
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus and options.backend == "nccl":
        sys.stderr.write("torch sees no GPU\n")
        return 1
    ring = Ring(options.meet, options.world, options.first, options.backend)
    try:
        if options.rank >= 0:
            say(rank(torch, options.rank, ring, options.seconds, options.mib))
        elif options.meet:
            say(all_reduce(gpus or 1, ring, options.seconds, options.mib))
        else:
            say(one_host(torch, options.seconds, options.mib))
    except (RuntimeError, OSError, ValueError) as error:  # torch's errors are RuntimeErrors
        sys.stderr.write(" ".join(str(error).split())[:500] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
