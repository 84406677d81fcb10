# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps one line of each run of a playbook on the controller."""
from __future__ import annotations

DOCUMENTATION = r"""
name: run_log
type: notification
short_description: Keeps one line of each run of a playbook
version_added: "0.1.0"
author: The idc.llm founders (@idc-llm)
description:
  - Who ran what, from which commit, on which hosts, and what it changed, as a line of JSON in C(runs.jsonl) of the state folder of
    the inventory (C(inventories/.state/NAME)) where that folder exists, and in the controller's syslog.
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

import getpass
import os
import socket
import subprocess
import syslog
import time
from datetime import datetime, timezone
from typing import Any, Optional

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


class CallbackModule(CallbackBase):
    """Listens to begin, plan and end of a run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "idc.llm.run_log"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.began = time.time()
        self.playbook = ""
        self.state: Optional[str] = None

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """The playbook's name."""
        self.playbook = os.path.relpath(playbook._file_name, HERE) if playbook._file_name.startswith(HERE) else playbook._file_name

    def v2_runner_on_ok(self, result: Any) -> None:
        """The planner knows where this inventory's state is kept."""
        said = getattr(result, "result", None) or getattr(result, "_result", {})
        arguments = (said.get("invocation") or {}).get("module_args") or {}
        if "state_dir" in arguments and "deployments" in arguments:
            self.state = arguments["state_dir"]

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end: keep the line."""
        options = context.CLIARGS
        inventory = os.path.abspath((options.get("inventory") or ["."])[0])
        folder = inventory if os.path.isdir(inventory) else os.path.dirname(inventory)
        state = self.state or os.path.join(os.path.dirname(folder), ".state", os.path.basename(folder))
        now = datetime.now(timezone.utc)
        run = Run(now.isoformat(timespec="seconds"), os.environ.get("SUDO_USER") or getpass.getuser(), socket.gethostname(),
                  self.playbook, inventory, commit(HERE), bool(options.get("check")), options.get("subset") or "",
                  tuple(options.get("tags") or ()), round(time.time() - self.began), recap(stats))
        try:
            syslog.openlog("idc-llm-run", 0, syslog.LOG_AUTHPRIV)
            syslog.syslog(syslog.LOG_NOTICE, run.line())
            if os.path.isdir(state):
                self._keep(os.path.join(state, FILE), run.line(), now)
        except (OSError, ValueError) as error:
            self._display.warning(f"this run is not in the log of runs: {error}")

    def _keep(self, path: str, line: str, now: datetime) -> None:
        before: list[str] = []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as stream:
                before = stream.read().splitlines()
        young = kept(before, now, self.get_option("keep_days"))
        if len(young) < len(before):
            with open(f"{path}.new", "w", encoding="utf-8") as out:
                out.write("".join(f"{one}\n" for one in [*young, line]))
            os.replace(f"{path}.new", path)
            return
        with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640), "a", encoding="utf-8") as out:
            out.write(line + "\n")
