# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a filesystem gives back a big file, past the page cache, as weights are read.

Runs on hosts; standard library only, nothing of ansible, Python 3.9+. Writes a file without a name (what dies half-way leaves
nothing behind), and reads it by fio where that is there, else by threads of its own with O_DIRECT. Prints one JSON object:

    gbs          GB/s, 10^9 bytes
    by           fio's version, or "own reader"
    bytes        how big the file was
    path, filesystem    the folder, and what it lies on

Exit status: 0; 1 what kept it from measuring, with one line on stderr.
"""
from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Sequence

MIB = 1 << 20
BLOCK, READERS = 4 * MIB, 8
LEAST = 64 * MIB
SHARE = 10  # of the free space, at most a tenth is written


def folder_of(path: str) -> str:
    """The path, or the nearest folder above it that is there: the store may not be made yet."""
    there = os.path.abspath(path)
    while not os.path.isdir(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    return there


def filesystem(path: str, table: str) -> str:
    """Its type by the text of /proc/self/mounts: the longest mount point above the path, the last of equals."""
    rows = [line.split() for line in table.splitlines()]
    above = [(len(row[1]), number, row[2]) for number, row in enumerate(rows)
             if len(row) > 2 and (path + "/").startswith(row[1].rstrip("/") + "/")]
    return max(above)[2] if above else ""


def size_for(wanted: int, free: int) -> int:
    """Whole blocks for each reader, no more than a share of what is free. Raises ValueError where that is too little."""
    size = min(wanted, free // SHARE) // (BLOCK * READERS) * BLOCK * READERS
    if size < LEAST:
        raise ValueError(f"{free // MIB} MiB free, wanted at least {LEAST * SHARE // MIB} MiB")
    return size


def write(handle: int, size: int) -> None:
    """Fill the file with bytes that no disk can pack or share, and take it out of the page cache."""
    pool = memoryview(os.urandom(BLOCK * 8))
    for number in range(size // BLOCK):
        at = number * 7919 * 512 % (len(pool) - BLOCK)
        if os.write(handle, pool[at:at + BLOCK]) != BLOCK:
            raise OSError("short write")
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def own_reader(name: str, size: int, seconds: float) -> float:
    """GB/s of threads that each read their part of the file over and over. Raises OSError where O_DIRECT is not to be had."""
    part, total, trouble, lock = size // READERS, [0], [], threading.Lock()
    until = time.monotonic() + seconds

    def read(number: int) -> None:
        done, at = 0, 0
        try:
            handle = os.open(name, os.O_RDONLY | os.O_DIRECT)
            try:
                with mmap.mmap(-1, BLOCK) as page:  # aligned, as O_DIRECT wants it
                    while time.monotonic() < until:
                        if os.preadv(handle, [page], number * part + at) != BLOCK:
                            raise OSError("short read")
                        done, at = done + BLOCK, (at + BLOCK) % part
            finally:
                os.close(handle)
        except OSError as error:
            trouble.append(error)
        with lock:
            total[0] += done

    began = time.monotonic()
    threads = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if trouble:
        raise trouble[0]
    return total[0] / (time.monotonic() - began) / 1e9


def fio_gbs(text: str) -> float:
    """GB/s, of ``fio --output-format=json``: the jobs' read.bw_bytes (https://fio.readthedocs.io/en/latest/fio_doc.html). Raises
    ValueError, KeyError."""
    return sum(float(job["read"]["bw_bytes"]) for job in json.loads(text[text.index("{"):])["jobs"]) / 1e9


def by_fio(program: str, name: str, size: int, seconds: float) -> tuple[float, str]:
    """GB/s and fio's version. Raises OSError, subprocess' errors, ValueError, KeyError."""
    version = subprocess.run([program, "--version"], text=True, check=True, stdout=subprocess.PIPE, timeout=10).stdout.strip()
    said = subprocess.run(
        [program, "--name=store", f"--filename={name}", "--readonly", "--rw=read", "--bs=1M", "--direct=1", "--ioengine=libaio",
         "--iodepth=16", f"--numjobs={READERS}", f"--size={size // READERS}", f"--offset_increment={size // READERS}",
         f"--runtime={seconds:g}", "--time_based", "--group_reporting", "--output-format=json"],
        text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60 + seconds).stdout
    gbs = fio_gbs(said)
    if not gbs:
        raise ValueError("fio has read nothing")
    return gbs, version


def nameless(folder: str) -> int:
    """A file without a name, where the filesystem knows such (NFS does not), or one whose name is gone at once. Raises OSError."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError:
        handle, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)
        return handle


def measure(path: str, wanted: int, seconds: float, program: str) -> dict[str, Any]:
    """The result. Raises OSError, ValueError."""
    folder = folder_of(path)
    space = os.statvfs(folder)
    size = size_for(wanted, space.f_bavail * space.f_frsize)
    handle = nameless(folder)
    try:
        write(handle, size)
        name = f"/proc/{os.getpid()}/fd/{handle}"
        try:
            gbs, by = by_fio(program, name, size, seconds)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError):  # not there, or built without what it would need
            gbs, by = own_reader(name, size, seconds), "own reader"
    finally:
        os.close(handle)
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as stream:
        kind = filesystem(os.path.realpath(folder), stream.read())
    return {"gbs": round(gbs, 2), "by": by, "bytes": size, "path": path, "filesystem": kind}


def main(argv: Sequence[str] = ()) -> int:
    """See above."""
    parser = argparse.ArgumentParser(description="How fast a filesystem gives back a big file.")
    parser.add_argument("path")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--mib", type=int, default=4096, help="size of the file; a tenth of the free space at most")
    parser.add_argument("--fio", default="fio", help="the program; where it is not there, a reader of our own")
    options = parser.parse_args(argv or None)
    try:
        found = measure(options.path, options.mib * MIB, options.seconds, options.fio)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{options.path}: {error}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
