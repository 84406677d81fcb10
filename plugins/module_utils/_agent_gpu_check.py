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
                  the power limit)
    all_reduce    gpus, bytes, busbw_gbs, wrong; null with one GPU. busbw is what the links carry, as nccl-tests defines it:
                  https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
    torch, cuda, nccl    versions, as loaded

GB is 10^9 bytes. Exit status: 0; 1 no torch, no GPU, or a measurement that broke off, with one line on stderr.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Mapping, Sequence

MIB = 1 << 20
WARM, LIMIT_S = 3, 120
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
    from_gpu = timed(torch, lambda: pinned.copy_(there, non_blocking=True), seconds)
    return {"index": index, "name": known.name, "uuid": uuid, "matmul_tflops": round(2 * size**3 / per_matmul / 1e12, 1),
            "memory_gbs": round(2 * count / copied / 1e9, 1), "to_gpu_gbs": round(count / to_gpu / 1e9, 2),
            "from_gpu_gbs": round(count / from_gpu / 1e9, 2), "wrong": wrong, **seen}


def rank(torch: Any, number: int, ranks: int, meet: str, seconds: float, mib: int) -> dict[str, Any]:
    """One process of the all-reduce, on its GPU."""
    torch.cuda.set_device(number)
    torch.distributed.init_process_group("nccl", init_method=f"file://{meet}", rank=number, world_size=ranks)
    data = torch.full((mib * MIB // 4,), float(number + 1), device="cuda")
    torch.distributed.all_reduce(data)
    wrong = int((data != ranks * (ranks + 1) / 2).sum())
    data.zero_()
    torch.cuda.synchronize()
    turns, spent, began = 0, 0.0, time.monotonic()
    enough = torch.zeros(1, device="cuda")
    while True:  # all ranks must do as many: the first one says when it is enough
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _turn in range(10):
            torch.distributed.all_reduce(data)
        end.record()
        torch.cuda.synchronize()
        turns, spent = turns + 10, spent + begin.elapsed_time(end) / 1000
        enough.fill_(float(time.monotonic() - began >= seconds))
        torch.distributed.broadcast(enough, 0)
        if enough.item():
            break
    torch.distributed.destroy_process_group()
    return {"gpus": ranks, "bytes": mib * MIB, "busbw_gbs": round(bus_bandwidth(mib * MIB / 1e9, spent / turns, ranks), 1),
            "wrong": wrong}


def all_reduce(ranks: int, seconds: float, mib: int) -> dict[str, Any]:
    """The slowest rank's figure; wrong: of all ranks together. Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, os.path.abspath(__file__), "--seconds", str(seconds), "--mib", str(mib), "--ranks", str(ranks),
                   "--meet", os.path.join(folder, "meet"), "--rank"]
        running = [subprocess.Popen([*command, str(number)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                   for number in range(ranks)]
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
    return {**min(rows, key=lambda row: float(row["busbw_gbs"])), "wrong": sum(row["wrong"] for row in rows)}


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
    parser.add_argument("--rank", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--ranks", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--meet", default="", help=argparse.SUPPRESS)
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
    if not torch.cuda.is_available():
        sys.stderr.write("torch sees no GPU\n")
        return 1
    try:
        if options.rank >= 0:
            say(rank(torch, options.rank, options.ranks, options.meet, options.seconds, options.mib))
            return 0
        count = torch.cuda.device_count()
        own, rows = os.sched_getaffinity(0), []
        for index in range(count):
            rows.append(one_gpu(torch, index, options.seconds, options.mib))
            os.sched_setaffinity(0, own)
        torch.cuda.empty_cache()
        together = all_reduce(count, options.seconds, options.mib) if count > 1 else None
        say({"torch": torch.__version__, "cuda": torch.version.cuda, "nccl": version(torch), "gpus": rows, "all_reduce": together})
    except (RuntimeError, OSError, ValueError) as error:  # torch's errors are RuntimeErrors
        sys.stderr.write(" ".join(str(error).split())[:500] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
