# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines as services of systemd; commands run through the runner that is passed in. Private to this collection."""
from __future__ import annotations

import os
import shutil
import time
from typing import Callable, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _engine_files as disk
from ansible_collections.idc.llm.plugins.module_utils import _engine_options
from ansible_collections.idc.llm.plugins.module_utils._engine import Plan, Spec
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Good
from ansible_collections.idc.llm.plugins.module_utils._engine_runtime import Look
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._ready import Unit

INSTALLED = "installed-requirements.txt"  # written last into a release: what it was made from
_SHOW = ("ActiveState", "SubState", "NRestarts", "NeedDaemonReload", "UnitFileState", "ActiveEnterTimestampMonotonic")
Runner = Callable[[Sequence[str]], "tuple[int, str, str]"]


class Systemd:
    """``run``: argv → (rc, stdout, stderr); ``dry``: check mode, in which systemd need not be there yet."""

    def __init__(self, run: Runner, find_program: Callable[[str], Optional[str]], dry: bool) -> None:
        self._run = run
        self._systemctl = find_program("systemctl")
        if not self._systemctl and not dry:
            raise IdcError("IDC-ENG-010", tool="systemctl")

    def missing(self, spec: Spec) -> Optional[IdcError]:
        """A release without its program."""
        return _without_program(spec.release_dir)

    def lost(self, good: Good) -> Optional[IdcError]:
        """The same."""
        return _without_program(good.release_dir)

    def arguments(self, spec: Spec) -> str:
        """In the release."""
        return f"{spec.release_dir}/{_engine_options.FILE}"

    def made_of(self, spec: Spec) -> str:
        """The list of packages that it was made from."""
        return disk.sha256(f"{spec.release_dir}/{INSTALLED}")

    def description(self, spec: Spec) -> str:
        """The unit's files are ``_engine``'s own."""
        return ""

    def look(self, spec: Spec) -> Look:
        """systemd's properties of the unit."""
        show = self._show(spec)
        entered = int(show.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        unit = Unit(show.get("ActiveState", "inactive"), show.get("SubState", "dead"), int(show.get("NRestarts") or 0),
                    time.monotonic() - entered)
        return Look(unit, show.get("UnitFileState") == "enabled", show.get("NeedDaemonReload") == "yes",
                    disk.read(f"{spec.run_dir}/{spec.name}/digest").strip())

    def log(self, spec: Spec, since: float) -> Sequence[str]:
        """The unit's journal."""
        command = ["journalctl", "--unit", spec.unit, "--output", "cat", "--no-pager", "--lines", "2000",
                   "--since", f"@{int(since)}"]
        rc, out, _err = self._run(command)
        return out.splitlines() if rc == 0 else ()

    def apply(self, spec: Spec, plan: Plan, kill: bool) -> None:
        """One verb after the other."""
        if plan.reload:
            self._systemd(spec, "daemon-reload")
        if plan.enable is not None:
            self._systemd(spec, "enable" if plan.enable else "disable", spec.unit)
        if kill:  # the stop comes first: a unit that is being stopped is not restarted by systemd
            self._systemd(spec, "stop", "--no-block", spec.unit)
            self._run([str(self._systemctl), "kill", "--signal=SIGKILL", spec.unit])  # it may have ended by now
        if plan.action != "none":
            self._systemd(spec, plan.action, spec.unit)

    def own(self, spec: Spec) -> Sequence[str]:
        """The drop-in; the template unit stays."""
        return (f"{spec.unit_dir}/{spec.unit}.d",)

    def forget(self, spec: Spec, gone: Sequence[str]) -> None:
        """The files, and what systemd remembers of them."""
        for path in gone:
            shutil.rmtree(path)
        self._systemd(spec, "daemon-reload")
        self._run([str(self._systemctl), "reset-failed", spec.unit])  # nothing to reset is fine

    def _show(self, spec: Spec) -> dict[str, str]:
        """Empty where systemd is not there yet."""
        if not self._systemctl:
            return {}
        rc, out, _err = self._run([self._systemctl, "show", spec.unit, "--property=" + ",".join(_SHOW)])
        pairs = (line.partition("=") for line in out.splitlines()) if rc == 0 else ()
        return {key: value for key, _sign, value in pairs}

    def _systemd(self, spec: Spec, *words: str) -> None:
        rc, out, err = self._run([str(self._systemctl), *words])
        if rc != 0:
            detail = " ".join((err or out).split())[:400]
            raise IdcError("IDC-ENG-011", command=" ".join(("systemctl",) + words), rc=rc, detail=detail, log=spec.log)


def _without_program(release_dir: str) -> Optional[IdcError]:
    program = f"{release_dir}/bin/vllm"
    return None if os.path.exists(program) else IdcError("IDC-ENG-001", release=os.path.basename(release_dir), path=program)
