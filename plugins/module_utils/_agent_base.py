# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the programs on hosts share: words for systemd and the journal, settings that are read once, files that are put there whole.

Standard library only, nothing of ansible, Python 3.9+; brought beside each program.
"""
from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any, Callable, Mapping


def say(line: str) -> None:
    """A line for the journal or for who called, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def complain(line: str) -> None:
    """A line for the journal or for who called, as an error."""
    sys.stderr.write(line + "\n")


def notify(words: str) -> None:
    """Tell systemd, where it listens: https://www.freedesktop.org/software/systemd/man/sd_notify.html"""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(words.encode(), "\0" + address[1:] if address[0] == "@" else address)


def systemctl(complaint: Callable[[str], None], *words: str) -> str:
    """What it printed, "" where it failed, which is said."""
    try:
        done = subprocess.run(["systemctl", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
        if done.returncode == 0:
            return done.stdout
        problem = f"{done.returncode}: {' '.join(done.stdout.split())[:200]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    complaint(f"systemctl {' '.join(words)} failed: {problem}")
    return ""


def settings(kind: Callable[..., Any], path: str, least: Mapping[str, float]) -> Any:
    """The dataclass ``kind`` of a JSON file; least: of each field that is a number, the smallest it may be. Raises ValueError or
    OSError."""
    with open(path, encoding="utf-8") as stream:
        try:
            made = kind(**json.load(stream))
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from error
    for name, smallest in least.items():
        value = getattr(made, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < smallest:
            raise ValueError(f"{path}: {name} is {value!r}, wanted a number from {smallest}")
    return made


def read(path: str, limit: int = 1 << 14) -> str:
    """The beginning of a file, "" where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def boot_id() -> str:
    """Names this boot of the machine."""
    return read("/proc/sys/kernel/random/boot_id").strip()


def write(path: str, text: str) -> None:
    """Put a file there whole and on the disk, 0644, or leave the one before."""
    folder, name = os.path.split(path)
    descriptor, beside = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fchmod(out.fileno(), 0o644)
            os.fsync(out.fileno())
        os.rename(beside, path)
    except OSError:
        with suppress(OSError):
            os.unlink(beside)
        raise


def put(complaint: Callable[[str], None], path: str, text: str) -> bool:
    """Write, or say why not: a full disk must not keep an engine from its restart."""
    try:
        write(path, text)
    except OSError as error:
        complaint(f"{path} cannot be written: {error.strerror or error}")
        return False
    return True
