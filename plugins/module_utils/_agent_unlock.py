# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens an encrypted volume without a person, and waits as long as that takes.

Runs on hosts: standard library only, nothing of ansible, Python 3.9+.

    unlock.py open NAME      tries the volume's ways in their order, again and again, until it is open, by whomever
    unlock.py locked NAME    says why it is still locked and fails, so that `systemctl --failed` shows it

NAME.json in /etc/idc_llm/luks says what belongs to the volume. Keys go from clevis to cryptsetup by pipes: in no argument,
file or log.

Exit status: 0; 1 it is locked; 2 the settings cannot be used.
"""
from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

FOLDER, RUN = "/etc/idc_llm/luks", "/run/idc-llm-luks"
PAUSE_S = 10  # between rounds
WAY_S = 90  # a way that takes longer is given up: a Tang server that drops packets holds curl for minutes
FLAGS = ("--perf-no_read_workqueue", "--perf-no_write_workqueue")  # as the role opens it
KEYFILE_TOKEN = "idc-llm-keyfile"
PROMPT_S = 90  # a person needs that long; where nothing else opens the volume the question stays
Run = Callable[..., "tuple[int, bytes, str]"]  # as run below


@dataclass(frozen=True)
class Volume:
    """The volume's record, as the role wrote it."""

    name: str
    state: str
    uuid: str
    devices: Sequence[str]
    container: str
    mapper: str
    mount: str
    unit: str
    unlock: Sequence[str]
    keyfile: str
    discard: bool
    tang: Sequence[str]


def run(argv: Sequence[str], data: bytes = b"", limit_s: float = WAY_S,
        needless: Callable[[], bool] = lambda: False) -> tuple[int, bytes, str]:
    """(exit status, what it printed, its last complaint); who takes too long, or is needed no more, is ended with its children."""
    end, given = time.monotonic() + limit_s, [data]
    try:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              start_new_session=True) as child:
            while True:
                try:
                    out, err = child.communicate(given.pop() if given else None, timeout=min(1.0, limit_s))
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() < end and not needless():
                        continue
                    os.killpg(child.pid, signal.SIGKILL)
                    child.communicate()
                    return 1, b"", f"no answer in {limit_s:.0f} s"
    except OSError as error:
        return 1, b"", str(error)
    lines = err.decode("utf-8", "replace").strip().splitlines()
    return child.returncode, out, lines[-1] if lines else ""


def slots(metadata: Mapping[str, Any]) -> dict[str, list[int]]:
    """{way: key slots} of a LUKS2 header, by its tokens."""
    found: dict[str, list[int]] = {}
    for token in metadata["tokens"].values():
        with suppress(AttributeError, IndexError, KeyError, TypeError, ValueError):  # one that cannot be read is no way
            kind = ""
            if token["type"] == KEYFILE_TOKEN:
                kind = "keyfile"
            elif token["type"] == "clevis":
                kind = _pin(token["jwe"]["protected"])
            found.setdefault(kind, []).extend(sorted(map(int, token["keyslots"])))
    return found


def _pin(protected: str) -> str:
    """Of several behind a threshold the first's."""
    text = protected.split(".", 1)[0]
    clevis = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["clevis"]
    return _pin(clevis["sss"]["jwe"][0]) if clevis["pin"] == "sss" else str(clevis["pin"])


def attempt(volume: Volume, run_: Run = run) -> str:
    """One round over the volume's ways: why none of them opened it, "" where one did."""
    code, out, why = run_(["cryptsetup", "luksUUID", volume.container], b"", WAY_S)
    if code != 0:
        return f"{volume.container}: {why or 'no LUKS header'}"
    if out.decode().strip() != volume.uuid:
        return f"{volume.container} is not the disk that it was: {out.decode().strip()}, wanted {volume.uuid}"
    code, out, why = run_(["cryptsetup", "luksDump", "--dump-json-metadata", volume.container], b"", WAY_S)
    if code != 0:
        return f"{volume.container}: {why}"
    by_way, reasons = slots(json.loads(out)), []
    for way in volume.unlock:
        if way == "passphrase":
            continue
        reason = f"{way}: no key slot"
        for slot in by_way.get(way, []):
            reason = _open(volume, way, slot, run_)
            if not reason:
                base.say(f"{volume.name} opened by {way}, slot {slot}")
                return ""
        reasons.append(reason)
    return "; ".join(reasons) or "a passphrase is wanted: systemd-tty-ask-password-agent"


def _open(volume: Volume, way: str, slot: int, run_: Run) -> str:
    if way == "keyfile":
        code, _out, why = run_([*command(volume), "--key-slot", str(slot), "--key-file", volume.keyfile], b"", WAY_S)
        return "" if code == 0 else f"keyfile {volume.keyfile}: {why}"
    code, key, why = run_(["clevis", "luks", "pass", "-d", volume.container, "-s", str(slot)], b"", WAY_S)
    if code == 0:
        code, _out, why = run_([*command(volume), "--key-slot", str(slot), "--key-file", "-"], key, WAY_S)
    of = f" of {', '.join(volume.tang)}" if way == "tang" else ""
    return "" if code == 0 else f"{way}{of}: {why or 'no key'}"


def command(volume: Volume) -> list[str]:
    """cryptsetup's words to open it, but for the key."""
    return ["cryptsetup", "open", *FLAGS, *(["--allow-discards"] if volume.discard else []), volume.container, volume.mapper]


def wait(volume: Volume, is_open: Callable[[], bool], run_: Run = run, sleep: Callable[[float], None] = time.sleep) -> None:
    """Until the next round; a person may give the passphrase meanwhile, where that is one of the ways, unless somebody opens it."""
    if "passphrase" not in volume.unlock:
        sleep(PAUSE_S)
        return
    limit_s = 0 if set(volume.unlock) == {"passphrase"} else PROMPT_S
    code, key, _why = run_(["systemd-ask-password", "--no-tty", f"--timeout={limit_s}", f"--id=idc-llm-luks:{volume.name}",
                            f"Passphrase of the volume {volume.name}:"], b"", limit_s + 20 if limit_s else float("inf"), is_open)
    if code != 0:
        sleep(1)
        return
    code, _out, why = run_([*command(volume), "--key-file", "-"], key.rstrip(b"\n"), WAY_S)
    base.say(f"{volume.name} opened by a passphrase" if code == 0 else f"{volume.name}: {why}")


def open_volume(volume: Volume, is_open: Callable[[], bool], tell: Callable[[str], None], try_: Callable[[Volume], str] = attempt,
                wait_: Callable[[Volume, Callable[[], bool]], None] = wait) -> None:
    """Come back when it is open. tell: hears each new reason why it is not."""
    told = ""
    while not is_open():
        try:
            reason = try_(volume)
        except Exception as error:  # whatever a header or a program says: the next round may do better
            reason = f"{type(error).__name__}: {error}"
        if not reason:
            return
        if reason != told and not is_open():
            tell(reason)
            told = reason
        wait_(volume, is_open)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description="Open an encrypted volume, and wait as long as that takes.")
    parser.add_argument("what", choices=("open", "locked"))
    parser.add_argument("name")
    given = parser.parse_args()
    reason_file, unit = f"{RUN}/{given.name}", f"idc-llm-luks-locked@{given.name}.service"
    if given.what == "locked":
        base.complain(base.read(reason_file).strip() or f"{given.name} is locked")
        return 1
    try:
        volume = base.settings(Volume, f"{FOLDER}/{given.name}.json", {})
    except (OSError, ValueError) as error:
        base.complain(str(error))
        return 2

    def tell(reason: str) -> None:
        base.complain(f"{volume.name} is locked, nothing is at {volume.mount}: {reason}")
        base.put(base.complain, reason_file, f"{volume.name} is locked, nothing is at {volume.mount}: {reason}\n")
        base.systemctl(base.complain, "start", "--no-block", unit)

    open_volume(volume, lambda: os.path.exists(f"/dev/mapper/{volume.mapper}"), tell)
    with suppress(FileNotFoundError):
        os.unlink(reason_file)
        base.systemctl(base.complain, "reset-failed", unit)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
