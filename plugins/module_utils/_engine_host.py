# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands of vllm_service: looks at a host, writes an engine's files, drives its unit, asks it for a token.

What to do is decided in ``_engine`` and ``_ready``; commands run through the runner that is passed in.
Private to this collection.
"""
from __future__ import annotations

import dataclasses
import errno
import grp
import hashlib
import os
import pwd
import re
import shutil
import socket
import tempfile
import time
from typing import Any, Callable, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _engine, _engine_options
from ansible_collections.idc.llm.plugins.module_utils._engine import File, Observed, Spec
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._http import Call, HttpFailure, send
from ansible_collections.idc.llm.plugins.module_utils._journal import find_reason
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe, ask
from ansible_collections.idc.llm.plugins.module_utils._ready import NotReady, Unit, World, confirm, wait_ready

INSTALLED = "installed-requirements.txt"  # written last into a release: what it was made from
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_SHOW = ("ActiveState", "SubState", "NRestarts", "NeedDaemonReload", "UnitFileState", "ActiveEnterTimestampMonotonic")
Runner = Callable[[Sequence[str]], "tuple[int, str, str]"]


class EngineHost:
    """One host. ``run``: argv → (rc, stdout, stderr); ``dry``: check mode, nothing is changed."""

    def __init__(self, run: Runner, find_program: Callable[[str], str | None], dry: bool) -> None:
        self._run = run
        self._dry = dry
        self._systemctl = find_program("systemctl")
        if not self._systemctl and not dry:
            raise IdcError("IDC-ENG-010", tool="systemctl")

    def bring_up(
        self, spec: Spec, state: str, wait: bool, model: str, ready_timeout: float, probe_timeout: float
    ) -> dict[str, Any]:
        """Write, start or restart where needed, prove; the module's result."""
        spec, unchecked = self._validated(spec)
        pending = self._not_yet(spec) + unchecked
        wanted = _engine.files(spec, _sha256(f"{spec.release_dir}/{INSTALLED}"))
        stale = [file for file in wanted if not _same(file)]
        digest = wanted[-1].text.strip()
        link_before = _link(spec.link)
        unit_files = any(file.path.startswith(spec.unit_dir) for file in stale)
        show = self._show(spec)
        observed = Observed(
            active=show.get("ActiveState", "inactive"),
            enabled=show.get("UnitFileState") == "enabled",
            unit_differs=unit_files or show.get("NeedDaemonReload") == "yes",
            running_digest=_read(f"{spec.run_dir}/{spec.name}/digest").strip(),
        )
        plan = _engine.decide(state, observed, digest)
        if plan.action in ("start", "restart"):
            pending += self._port_trouble(spec, running=plan.action == "restart")
        diff = [_diff(file) for file in stale]
        if link_before != spec.release_dir:
            diff.append(_entry(spec.link, _line(link_before), _line(spec.release_dir)))
        if not self._dry:
            for file in stale:
                _write(file)
            if link_before != spec.release_dir:
                _point(spec.link, spec.release_dir)
            self._apply(spec, plan)
        changed = bool(diff) or plan.action != "none" or plan.enable is not None
        result = {"changed": changed, "action": plan.action, "diff": diff, "pending": pending,
                  "changed_files": [entry["after_header"] for entry in diff]}
        asked = wait and not _engine.option(spec.config, "headless", False)
        if not self._dry and asked:
            result.update(self._prove(spec, model, plan.action, ready_timeout, probe_timeout))
        return result

    def take_down(self, spec: Spec, state: str) -> dict[str, Any]:
        """Stop and disable; for absent also remove what is the engine's own."""
        show = self._show(spec)
        observed = Observed(show.get("ActiveState", "inactive"), show.get("UnitFileState") == "enabled")
        plan = _engine.decide(state, observed)
        own = [f"{spec.config_dir}/{spec.name}", os.path.dirname(spec.link), f"{spec.unit_dir}/{spec.unit}.d"]
        gone = [path for path in own if os.path.lexists(path)] if state == "absent" else []
        if not self._dry:
            self._apply(spec, plan)
            for path in gone:
                shutil.rmtree(path)
            if gone:
                self._systemd("daemon-reload")
                self._run([str(self._systemctl), "reset-failed", spec.unit])  # nothing to reset is fine
        changed = bool(gone) or plan.action != "none" or plan.enable is not None
        diff = [_entry(path, "present\n", "absent\n") for path in gone]
        return {"changed": changed, "action": plan.action, "diff": diff, "pending": [], "changed_files": gone}

    # --- looking -----------------------------------------------------------------------------------------------

    def _show(self, spec: Spec) -> dict[str, str]:
        """systemd's properties of the unit; empty where systemd is not there yet."""
        if not self._systemctl:
            return {}
        rc, out, _err = self._run([self._systemctl, "show", spec.unit, "--property=" + ",".join(_SHOW)])
        pairs = (line.partition("=") for line in out.splitlines()) if rc == 0 else ()
        return {key: value for key, _sign, value in pairs}

    def _not_yet(self, spec: Spec) -> list[str]:
        """What is missing to start; outside check mode the first of them is raised."""
        found = []
        for name, lookup in ((spec.user, pwd.getpwnam), (spec.group, grp.getgrnam)):
            try:
                lookup(name)
            except KeyError:
                found.append(IdcError("IDC-ENG-012", name=name))
        program = f"{spec.release_dir}/bin/vllm"
        if not os.path.exists(program):
            found.append(IdcError("IDC-ENG-001", release=spec.release, path=program))
        model = str(_engine.option(spec.config, "model", ""))
        if model.startswith("/") and not os.path.exists(model):
            found.append(IdcError("IDC-ENG-002", path=model))
        elif _engine.option(spec.config, "load-format", "auto") == "auto" and not _has_weights(model):
            found.append(IdcError("IDC-ENG-003", path=model, wanted="*.safetensors"))
        return self._raise_or_tell(found)

    def _validated(self, spec: Spec) -> tuple[Spec, list[str]]:
        """The engine with its options as vLLM reads them, and what could not be held against the release yet.

        Options that the release does not understand are an error in check mode too: no later task mends them.
        """
        if not os.path.exists(f"{spec.release_dir}/bin/vllm"):
            missing = IdcError("IDC-ENG-017", engine=spec.name, release=spec.release)
            return spec, [missing.text().what] if self._dry else []  # else _not_yet says that there is no release
        path = f"{spec.release_dir}/{_engine_options.FILE}"
        try:
            arguments = _engine_options.parse_arguments(_read(path), path)
        except IdcError as error:
            return spec, self._raise_or_tell([error])
        problems = _engine_options.validate(spec.config, spec.environment, arguments, bool(spec.gpus))
        refused = _engine_options.refusal(problems, arguments, spec.name, path)
        if refused:
            raise refused
        return dataclasses.replace(spec, config=_engine_options.as_vllm_reads(spec.config, arguments)), []

    def _port_trouble(self, spec: Spec, running: bool) -> list[str]:
        """Who else holds the port; the engine itself, when it runs on that port, does not count."""
        if _engine.option(spec.config, "headless", False):
            return []
        host, port = _engine.endpoint(spec.config)
        before = _read(f"{spec.config_dir}/{spec.name}/config.yaml")
        old = re.search(r"^port: (\d+)$", before, re.M)
        if running and (not before or port == int(old.group(1) if old else 8000)):
            return []
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    found = IdcError("IDC-ENG-004", port=port, host=host or "any address", engine=spec.name)
                else:
                    found = IdcError("IDC-ENG-005", engine=spec.name, host=host, detail=error.strerror or str(error))
                return self._raise_or_tell([found])
        return []

    def _raise_or_tell(self, found: list[IdcError]) -> list[str]:
        if found and not self._dry:
            raise found[0]
        return [error.text().what for error in found]

    def _reason(self, spec: Spec, since: float) -> str:
        """The telling line of the engine's journal since a time (seconds since 1970)."""
        command = ["journalctl", "--unit", spec.unit, "--output", "cat", "--no-pager", "--lines", "2000",
                   "--since", f"@{int(since)}"]
        rc, out, _err = self._run(command)
        return (find_reason(out.splitlines(), spec.api_key) if rc == 0 else "") or "nothing"

    # --- doing -------------------------------------------------------------------------------------------------

    def _apply(self, spec: Spec, plan: _engine.Plan) -> None:
        if plan.reload:
            self._systemd("daemon-reload")
        if plan.enable is not None:
            self._systemd("enable" if plan.enable else "disable", spec.unit)
        if plan.action != "none":
            self._since = time.time()
            self._began = time.monotonic()
            self._systemd(plan.action, spec.unit)

    def _systemd(self, *words: str) -> None:
        rc, out, err = self._run([str(self._systemctl), *words])
        if rc != 0:
            detail = " ".join((err or out).split())[:400]
            raise IdcError("IDC-ENG-011", command=" ".join(("systemctl",) + words), rc=rc, detail=detail,
                           unit=words[-1])

    def _prove(self, spec: Spec, model: str, action: str, ready_timeout: float, probe_timeout: float) -> dict[str, Any]:
        """The probe's values (and how long a start took), or the error with the reason from the journal."""
        url = _engine.base_url(spec.config)
        probe = Probe(url, model or _engine.served_model(spec.config), spec.api_key, timeout=probe_timeout)
        world = World(
            unit=lambda: _unit(self._show(spec)),
            healthy=lambda: _healthy(url),
            ask=lambda: ask(probe),
            clock=time.monotonic,
            sleep=time.sleep,
        )
        names = {"engine": spec.name, "unit": spec.unit, "timeout": ready_timeout}
        try:
            if action == "none":
                self._since = time.time() - 3600
                return {"probe": confirm(world, ready_timeout)}
            answer = wait_ready(world, ready_timeout)
            return {"probe": answer, "ready_s": round(time.monotonic() - self._began, 1)}
        except NotReady as error:
            reason = self._reason(spec, self._since)
            code = "IDC-ENG-007" if error.kind == "died" else "IDC-ENG-008"
            raise IdcError(code, last=error.last, reason=reason, **names) from error
        except IdcError as error:
            reason = self._reason(spec, self._since)
            code = "IDC-ENG-009" if action == "none" else "IDC-ENG-008"
            raise IdcError(code, last=error.render(), reason=reason, **names) from error


def _has_weights(model: str) -> bool:
    """False only for a folder without weights; a hub's name is not looked at."""
    return not os.path.isdir(model) or any(name.endswith(WEIGHTS) for name in os.listdir(model))


def _unit(show: dict[str, str]) -> Unit:
    entered = int(show.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    return Unit(
        show.get("ActiveState", "inactive"),
        show.get("SubState", "dead"),
        int(show.get("NRestarts") or 0),
        time.monotonic() - entered,
    )


def _healthy(url: str) -> bool:
    try:
        return send(Call(url + "/health", timeout=5.0)).status == 200
    except HttpFailure:
        return False


def _read(path: str) -> str:
    """A file's text, "" when it is not there."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _link(path: str) -> str:
    return os.readlink(path) if os.path.islink(path) else ""


def _ids(file: File) -> tuple[int, int]:
    return pwd.getpwnam(file.owner).pw_uid, grp.getgrnam(file.group).gr_gid


def _same(file: File) -> bool:
    """Text, owner and mode are as wanted."""
    try:
        info = os.lstat(file.path)
        return _read(file.path) == file.text and (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (
            *_ids(file), file.mode)
    except (FileNotFoundError, NotADirectoryError, KeyError):
        return False


def _write(file: File) -> None:
    """Put a file in place whole: never half written, never readable by more than its mode says."""
    uid, gid = _ids(file)
    folder = os.path.dirname(file.path)
    if not os.path.isdir(folder):
        os.makedirs(folder, mode=0o755)
        if not file.mode & 0o007:
            os.chmod(folder, 0o750)
            os.chown(folder, uid, gid)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".idc-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(file.text)
            stream.flush()
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), file.mode)
            os.fsync(stream.fileno())
        os.replace(temporary, file.path)
    except BaseException:
        os.unlink(temporary)
        raise


def _point(link: str, target: str) -> None:
    """Turn a link to a release in one step."""
    os.makedirs(os.path.dirname(link), mode=0o755, exist_ok=True)
    temporary = link + ".new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)


def _diff(file: File) -> dict[str, str]:
    """Before and after of one file; environment files with secrets masked, digests left out."""
    before, after = _read(file.path), file.shown
    if file.path.endswith("/env"):
        before = re.sub(r'^(\w*(?:KEY|TOKEN|SECRET|PASSWORD)\w*)=.*$', r'\1="********"', before, flags=re.M)
    elif file.path.endswith("/digest"):
        before = after = ""
    return _entry(file.path, before, after)


def _entry(path: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": path, "after_header": path, "before": before, "after": after}


def _line(text: str) -> str:
    return text + "\n" if text else ""
