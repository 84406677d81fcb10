# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run per revision, on a local disk and on NFS: a lock file made with O_EXCL, whose time its holder keeps fresh.

flock is not enough: NFS servers may lack it, and older ones keep it on one client. A holder that died on this very
host is known by its process; one elsewhere by its file's age, told by the file server's clock alone. Private.
"""
from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said
from ansible_collections.idc.llm.plugins.module_utils._store_files import make_folders, remove_file

BEAT = 5.0  # seconds between two signs of life
STALE = 60.0  # seconds without one until a holder on another host counts as dead
POLL = 0.1


@contextmanager
def locked(path: str, wait_s: float, lost: Callable[[], None] = lambda: None, **about: Any) -> Iterator[None]:
    """Hold the lock file; waits up to ``wait_s`` seconds for another run, then refuses with IDC-FETCH-006.

    ``lost`` is called, in another thread, when somebody took the lock away: this host slept longer than STALE.
    """
    make_folders(os.path.dirname(path))
    mine = dict(_who(), token=uuid.uuid4().hex)
    deadline, pause = time.monotonic() + wait_s, POLL
    while True:
        holder = read_holder(path)
        if holder is None:
            if _take(path, mine):
                break
            continue
        if is_dead(holder, mine, lambda: _age(path)):
            _break(path, holder)
            continue
        if time.monotonic() >= deadline:
            raise IdcError("IDC-FETCH-006", lock=path, waited=f"{wait_s:g}", holder=holder_text(holder), **about)
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(2.0, pause * 1.5)
    done = threading.Event()
    beat = threading.Thread(target=_keep, args=(path, mine["token"], done, lost), daemon=True)
    beat.start()
    try:
        yield
    finally:
        done.set()
        beat.join()
        if (read_holder(path) or {}).get("token") == mine["token"]:
            remove_file(path)


def is_dead(holder: dict[str, Any], me: dict[str, Any], age: Callable[[], float]) -> bool:
    """Whether the holder is gone: its process, where it can be seen from here, else its file's age in seconds."""
    same = bool(me.get("boot")) and all(holder.get(key) == me.get(key) for key in ("boot", "space"))
    if same and holder.get("pid"):
        return started(holder["pid"]) != holder.get("started")
    return age() > STALE


def started(pid: int) -> str | None:
    """When a process of this host began, in the kernel's ticks; None where there is none (proc(5), field 22)."""
    try:
        with open(f"/proc/{int(pid)}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def holder_text(holder: dict[str, Any] | None) -> Said:
    """Who holds a lock, for a person."""
    if not holder or not holder.get("host"):
        return Said("a run that has not written its name yet", "尚未写入名称的任务")
    host, pid, since = holder["host"], holder.get("pid"), holder.get("since")
    return Said(f"process {pid} on {host}, since {since}", f"{host} 上的进程 {pid}（自 {since} 起）")


def read_holder(path: str) -> dict[str, Any] | None:
    """What the lock file says; {} for one that is empty or torn, None where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        return data if isinstance(data, dict) else {}
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}


def _who() -> dict[str, Any]:
    boot = ""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        boot = stream.read().strip()
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": started(pid), "boot": boot, "space": space, "since": since}


def _take(path: str, mine: dict[str, Any]) -> bool:
    """Make the file whole or not at all: a link of a finished one, which is atomic on NFS too."""
    beside = f"{path}.{mine['token']}"
    with open(beside, "x", encoding="utf-8") as out:
        json.dump(mine, out)
        os.fchmod(out.fileno(), 0o644)
    try:
        os.link(beside, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without links: O_EXCL alone, the name comes a moment later
        return _take_exclusive(path, mine)
    finally:
        remove_file(beside)


def _take_exclusive(path: str, mine: dict[str, Any]) -> bool:
    try:
        with open(path, "x", encoding="utf-8") as out:
            json.dump(mine, out)
    except FileExistsError:
        return False
    return True


def _age(path: str) -> float:
    """Seconds since the last sign of life, by the clock of the file system's server: two files' times are compared."""
    beside = f"{path}.{uuid.uuid4().hex}"
    try:
        with open(beside, "x", encoding="utf-8"):
            now = os.stat(beside).st_mtime
        return now - os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        remove_file(beside)


def _break(path: str, holder: dict[str, Any]) -> None:
    """Take a dead holder's file away, and only that one."""
    aside = f"{path}.{uuid.uuid4().hex}"
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        if read_holder(aside) != holder:  # another run was quicker, and this is its lock
            with suppress(OSError):
                os.link(aside, path)
        remove_file(aside)


def _keep(path: str, token: str, done: threading.Event, lost: Callable[[], None]) -> None:
    while not done.wait(BEAT):
        holder = read_holder(path)
        if holder is None or (holder and holder.get("token") != token):
            lost()
            return
        with suppress(OSError):  # a server that is away for a while; the age tells the others
            os.utime(path)
