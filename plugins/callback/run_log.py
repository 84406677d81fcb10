# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps two lines of each run of a playbook on the controller."""
from __future__ import annotations

DOCUMENTATION = r"""
name: run_log
type: notification
short_description: Keeps two lines of each run of a playbook
version_added: "0.1.0"
author: The idc.llm founders (@idc-llm)
description:
  - Who ran what, from which commit, on which hosts, and what it changed, as lines of JSON in C(runs.jsonl) (0640) of the state
    folder of the inventory (C(inventories/.state/NAME)) where that folder exists, and in the controller's syslog.
  - Each run has a line when it starts (C(event) is V(started)) and one when it ends (V(ended), with C(seconds) and, in C(hosts),
    what was changed). C(run) is the same in both. A run without the second was killed, or still runs.
  - A checkout's C(ansible.cfg) enables it; elsewhere it takes C(callbacks_enabled = idc.llm.run_log).
  - A line that cannot be written is a warning and never ends a run.
requirements:
  - to be enabled
options:
  keep_days:
    description: How long lines are kept, in days.
    type: int
    default: 190
    env:
      - name: IDC_LLM_RUN_LOG_DAYS
    ini:
      - section: callback_run_log
        key: keep_days
"""

import fcntl
import getpass
import os
import socket
import subprocess
import syslog
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, Optional, TextIO

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible_collections.idc.llm.plugins.module_utils._runs import Run, kept, recap

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
FILE = "runs.jsonl"


def commit(folder: str) -> str:
    """The checkout's commit, with -dirty where files differ from it; an installed collection has none."""
    try:
        done = subprocess.run(["git", "-C", folder, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
                              capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else "installed"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def now() -> str:
    """The time, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def private(path: str, flags: int) -> int:
    """An opener for open(): what it makes is for its owner and group."""
    return os.open(path, flags, 0o640)


@contextmanager
def locked(path: str) -> Iterator[TextIO]:
    """The file, which no other run writes meanwhile; not one that another run has just put a shorter one in place of."""
    while True:
        with open(path, "a+", encoding="utf-8", opener=private) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(stream.fileno()), os.stat(path)):
                    yield stream
                    stream.flush()
                    return
            finally:
                fcntl.flock(stream, fcntl.LOCK_UN)  # to close it is not enough: a worker forked meanwhile has it open, too


def keep(path: str, line: str, when: datetime, days: int) -> None:
    """One more line in the file, and none that is too old."""
    with locked(path) as stream:
        stream.seek(0)
        before = stream.read().splitlines()
        young = kept(before, when, days)
        if len(young) == len(before):
            stream.write(line + "\n")
            return
        with open(f"{path}.new", "w", encoding="utf-8", opener=private) as out:
            out.write("".join(f"{one}\n" for one in [*young, line]))
        os.replace(f"{path}.new", path)


class CallbackModule(CallbackBase):
    """Listens to begin, plan and end of a run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "idc.llm.run_log"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.began = time.time()
        self.run: Optional[Run] = None
        self.state = ""  # folder of this inventory's state
        self.folders: list[str] = []  # those that have the first line

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """The begin: keep a line, since what is killed has no end."""
        options = context.CLIARGS
        inventory = os.path.abspath((options.get("inventory") or ["."])[0])
        folder = inventory if os.path.isdir(inventory) else os.path.dirname(inventory)
        self.state = os.path.join(os.path.dirname(folder), ".state", os.path.basename(folder))
        name = playbook._file_name
        hosts = [[play.hosts] if isinstance(play.hosts, str) else play.hosts for play in playbook.get_plays()]
        self.run = Run(uuid.uuid4().hex, now(), os.environ.get("SUDO_USER") or getpass.getuser(), socket.gethostname(),
                       os.path.relpath(name, HERE) if name.startswith(HERE) else name, inventory, commit(HERE),
                       pattern=tuple(dict.fromkeys(str(one) for many in hosts for one in many)),
                       check=bool(options.get("check")), limit=options.get("subset") or "", tags=tuple(options.get("tags") or ()))
        self._tell(self.run)
        self._keep_start()

    def v2_runner_on_ok(self, result: Any) -> None:
        """The planner knows where this inventory's state is kept, and makes that folder in a first run."""
        said = getattr(result, "result", None) or getattr(result, "_result", {})
        arguments = (said.get("invocation") or {}).get("module_args") or {}
        if "state_dir" in arguments and "deployments" in arguments:
            self.state = arguments["state_dir"]
            self._keep_start()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end: keep the other line."""
        if self.run:
            self._keep_start()
            ended = self.run.ended(now(), round(time.time() - self.began), recap(stats))
            self._tell(ended)
            for folder in self.folders:
                self._keep(folder, ended)

    def _keep_start(self) -> None:
        """Once in a folder, as soon as there is one."""
        folder = os.path.realpath(self.state)
        if self.run and folder not in self.folders and os.path.isdir(folder) and self._keep(folder, self.run):
            self.folders.append(folder)

    def _tell(self, run: Run) -> None:
        syslog.openlog("idc-llm-run", 0, syslog.LOG_AUTHPRIV)
        syslog.syslog(syslog.LOG_NOTICE, run.line())

    def _keep(self, folder: str, run: Run) -> bool:
        """Whether the line is in the file."""
        try:
            keep(os.path.join(folder, FILE), run.line(), datetime.now(timezone.utc), self.get_option("keep_days"))
        except (OSError, ValueError) as error:
            self._display.warning(f"this run is not in the log of runs: {error}")
            return False
        return True
