# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands of vllm_service: looks at a host, writes an engine's files, has it run, asks it for a token.

What to do is decided in ``_engine``, ``_engine_life`` and ``_ready``; who runs it is ``_engine_systemd`` or ``_engine_docker``.
Private to this collection.
"""
from __future__ import annotations

import dataclasses
import errno
import grp
import os
import pwd
import socket
import time
from contextlib import nullcontext
from typing import Any, Callable, ContextManager, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _engine, _engine_options
from ansible_collections.idc.llm.plugins.module_utils import _engine_files as disk
from ansible_collections.idc.llm.plugins.module_utils import _engine_life as life
from ansible_collections.idc.llm.plugins.module_utils._agent_watchdog import wait_drained
from ansible_collections.idc.llm.plugins.module_utils._engine import Container, File, Observed, Plan, Spec
from ansible_collections.idc.llm.plugins.module_utils._engine_docker import SOCKET, Docker, check_container
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Good, Proof, Target
from ansible_collections.idc.llm.plugins.module_utils._engine_runtime import Look, Runtime
from ansible_collections.idc.llm.plugins.module_utils._engine_systemd import Runner, Systemd
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._http import Call, HttpFailure, send
from ansible_collections.idc.llm.plugins.module_utils._journal import Fault, find_fault, tell
from ansible_collections.idc.llm.plugins.module_utils._load import synthetic
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe, ask
from ansible_collections.idc.llm.plugins.module_utils._ready import NotReady, World, confirm, wait_ready

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


class EngineHost:
    """One host. ``run``: argv → (rc, stdout, stderr); ``dry``: check mode, nothing is changed, and no lock is taken; ``docker``:
    where the Docker daemon listens."""

    def __init__(self, run: Runner, find_program: Callable[[str], Optional[str]], dry: bool, docker: str = SOCKET) -> None:
        self._run = run
        self._find_program = find_program
        self._dry = dry
        self._docker = docker

    def bring_up(self, spec: Spec, state: str, proof: Proof) -> dict[str, Any]:
        """Write, start or restart where needed, prove; the module's result.

        What does not become ready is taken back to what was proven last, and is an error all the same.
        """
        there = self._runs_with(spec)
        if there not in ("", _runs_by(spec)):
            raise IdcError("IDC-ENG-006", field="runtime", seen=_runs_by(spec),
                           wanted=f"{there}, with which this engine runs now; drain it and take it away (state absent) first")
        check_container(spec)
        self._runtime = self._runtime_of(spec)
        with self._alone(spec):
            return self._bring_up(spec, state, proof)

    def take_down(self, spec: Spec, state: str) -> dict[str, Any]:
        """Stop and disable; for drained once no request is left or the drain time is over; for absent also remove what is the
        engine's own. ``told``: errors that are only warnings. Who runs it is seen from its files."""
        if self._runs_with(spec):
            docker = self._runs_with(spec) == "docker"
            spec = dataclasses.replace(spec, container=(spec.container or Container()) if docker else None)
        self._runtime = self._runtime_of(spec)
        with self._alone(spec):
            return self._take_down(spec, state)

    def _bring_up(self, spec: Spec, state: str, proof: Proof) -> dict[str, Any]:
        spec, unchecked = self._validated(spec)
        pending = self._not_yet(spec) + unchecked
        wanted = _engine.files(spec, self._runtime.made_of(spec), self._runtime.description(spec))
        stale = [file for file in wanted if not disk.same(file)]
        link_before = disk.link_target(spec.link)
        look = self._runtime.look(spec)
        observed = _observed(look, any(file.path.startswith(spec.unit_dir) for file in stale))
        plan = _engine.decide(state, observed, wanted[-1].text.strip())
        if plan.action in ("start", "restart"):
            pending += self._port_trouble(spec, running=plan.action == "restart")
        diff = [disk.diff(file) for file in stale]
        if link_before != spec.release_dir:
            diff.append(disk.entry(spec.link, disk.line(link_before), disk.line(spec.release_dir)))
        changed = bool(diff) or plan.action != "none" or plan.enable is not None
        result = {"changed": changed, "action": plan.action, "would_restart": plan.action == "restart", "diff": diff,
                  "pending": pending, "changed_files": [entry["after_header"] for entry in diff]}
        if self._dry:
            return result
        asked = proof.wait and not _engine.option(spec.config, "headless", False)
        new = Good(spec.release_dir, life.target(spec, proof.model), wanted)
        good = life.read_good(disk.read(life.good_path(spec)))
        kill = plan.action == "restart" and self._deaf(spec, look)
        self._put(spec, new)
        try:
            self._apply(spec, plan, kill)
            if asked:
                result.update(self._prove(spec, new.target, proof, plan.action))
        except IdcError as error:
            if good is None or not asked or not life.way_back(good, wanted, spec, error):
                raise
            raise self._go_back(spec, good, proof, error) from error
        copy = life.good_file(spec, new)
        if asked and not disk.same(copy):
            self._write(spec, copy)
        return result

    def _go_back(self, spec: Spec, good: Good, proof: Proof, failure: IdcError) -> IdcError:
        """Put the last good configuration back, start and prove it; the error that says both."""
        try:
            lost = self._runtime.lost(good)
            if lost:
                raise lost
            kill = self._deaf(spec, self._runtime.look(spec))
            self._put(spec, good)
            self._apply(spec, Plan("restart", None, True), kill)
            self._prove(spec, good.target, proof, "restart")
        except IdcError as second:
            return life.went_back(spec, good, failure, second)
        return life.went_back(spec, good, failure, None)

    def _take_down(self, spec: Spec, state: str) -> dict[str, Any]:
        look = self._runtime.look(spec)
        plan = _engine.decide(state, _observed(look, False))
        drain = self._drain(spec, plan) if state == "drained" else {}
        # The folder last: by it an engine is known that a run which was killed did not take away to the end.
        own = [os.path.dirname(spec.link), *self._runtime.own(spec), f"{spec.config_dir}/{spec.name}"]
        gone = [path for path in own if os.path.lexists(path)] if state == "absent" else []
        if not self._dry:
            self._apply(spec, plan, kill=plan.action == "stop" and self._deaf(spec, look))
            if gone:
                self._runtime.forget(spec, gone)
        changed = bool(gone) or plan.action != "none" or plan.enable is not None
        diff = [disk.entry(path, "present\n", "absent\n") for path in gone]
        return {"changed": changed, "action": plan.action, "diff": diff, "pending": [], "changed_files": gone, **drain}

    def _drain(self, spec: Spec, plan: Plan) -> dict[str, Any]:
        """Wait until the engine has no request, by its own metrics; in check mode look once."""
        text = disk.read(f"{spec.config_dir}/{spec.name}/config.yaml")
        config = life.on_disk(text) if text else spec.config
        if plan.action != "stop" or config.get("headless"):
            return {"drained": True, "running": 0, "waiting": 0}
        host, port = _engine.endpoint(config)
        done, seen = wait_drained(host, port, *((0.0, 1) if self._dry else (float(spec.drain_timeout), 3)))
        running, waiting = life.counts(seen)
        result: dict[str, Any] = {"drained": done, "running": running, "waiting": waiting}
        if not done and not self._dry:
            late = life.not_drained(spec, seen, int(config.get("shutdown-timeout", 0)))
            if late.code == "IDC-ENG-022":
                raise late
            result["told"] = [late]
        return result

    # --- looking -----------------------------------------------------------------------------------------------

    def _not_yet(self, spec: Spec) -> list[str]:
        """What is missing to start; outside check mode the first of them is raised."""
        found = []
        for name, lookup in ((spec.user, pwd.getpwnam), (spec.group, grp.getgrnam)):
            try:
                lookup(name)
            except KeyError:
                found.append(IdcError("IDC-ENG-012", name=name))
        missing = self._runtime.missing(spec)
        if missing:
            found.append(missing)
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
        if self._runtime.missing(spec):
            missing = IdcError("IDC-ENG-017", engine=spec.name, release=spec.release)
            return spec, [missing.text().what] if self._dry else []  # else _not_yet says that there is no release
        path = self._runtime.arguments(spec)
        try:
            arguments = _engine_options.parse_arguments(disk.read(path), path)
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
        before = disk.read(f"{spec.config_dir}/{spec.name}/config.yaml")
        if running and (not before or port == _engine.endpoint(life.on_disk(before))[1]):
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

    def _runs_with(self, spec: Spec) -> str:
        """systemd or docker, by the files that are there; "" where there are none."""
        folder = f"{spec.config_dir}/{spec.name}"
        if os.path.exists(f"{folder}/{_engine.CONTAINER_FILE}"):
            return "docker"
        return "systemd" if os.path.exists(f"{folder}/config.yaml") else ""

    def _runtime_of(self, spec: Spec) -> Runtime:
        return Docker(self._dry, self._docker) if spec.container else Systemd(self._run, self._find_program, self._dry)

    def _deaf(self, spec: Spec, look: Look) -> bool:
        """Whether it runs and nobody listens on its port: it loads, so it ignores SIGTERM, and serves nobody.

        Asked before its files are written, and only where it runs with the files that are there: else its port is not known.
        """
        folder = f"{spec.config_dir}/{spec.name}"
        config = life.on_disk(disk.read(f"{folder}/config.yaml"))
        known = look.digest and look.digest == disk.read(f"{folder}/digest").strip()
        if not known or (look.unit.active, look.unit.sub) != ("active", "running") or config.get("headless"):
            return False
        host, port = _engine.endpoint(config)
        try:
            with socket.create_connection((host or "127.0.0.1", port), timeout=2.0):
                return False
        except ConnectionRefusedError:
            return True
        except OSError:
            return False

    def _fault(self, spec: Spec, since: float) -> Fault:
        """What the engine's log since a time (seconds since 1970) says of a death."""
        return find_fault(self._runtime.log(spec, since), spec.api_key)

    # --- doing --------------------------------------------------------------------------------------------------

    def _alone(self, spec: Spec) -> ContextManager[None]:
        return nullcontext() if self._dry else disk.locked(f"{spec.run_dir}/{spec.name}.lock", spec.name)

    def _put(self, spec: Spec, good: Good) -> None:
        """Bring files and link to what they shall be."""
        for file in good.files:
            if not disk.same(file):
                self._write(spec, file)
        if disk.link_target(spec.link) != good.release_dir:
            disk.point(spec.link, good.release_dir)

    def _write(self, spec: Spec, file: File) -> None:
        try:
            disk.write(file)
        except OSError as error:
            detail = error.strerror or str(error)
            raise IdcError("IDC-ENG-011", command=f"writing {file.path}", rc=error.errno, detail=detail, log=spec.log) from error

    def _apply(self, spec: Spec, plan: Plan, kill: bool = False) -> None:
        """Carry out a plan, and remember when."""
        self._since = time.time()
        self._began = time.monotonic()
        self._runtime.apply(spec, plan, kill)

    def _prove(self, spec: Spec, target: Target, proof: Proof, action: str) -> dict[str, Any]:
        """The probe's values (and how long a start took), or the error with the reason from the journal."""
        probe = Probe(target.url, target.model, target.api_key, timeout=proof.probe_timeout)
        warmed: list[int] = []
        world = World(
            unit=lambda: self._runtime.look(spec).unit,
            healthy=lambda: _healthy(target.url),
            ask=lambda: ask(probe),
            clock=time.monotonic,
            sleep=time.sleep,
            warm=(lambda: _warm(probe, proof.warmup, self._began + proof.ready_timeout, warmed)) if proof.warmup else None,
        )
        try:
            if action == "none":
                self._since -= 3600
                return {"probe": confirm(world, proof.ready_timeout), "warmed": len(warmed)}
            before = world.unit().restarts  # systemd keeps the count when it is started between two of its own tries
            answer = wait_ready(world, proof.ready_timeout, before)
            return {"probe": answer, "ready_s": round(time.monotonic() - self._began, 1), "warmed": len(warmed)}
        except (NotReady, IdcError) as error:
            fault = self._fault(dataclasses.replace(spec, api_key=target.api_key), self._since)
            died = isinstance(error, NotReady) and error.kind == "died"
            code = "IDC-ENG-007" if died else "IDC-ENG-008"
            if isinstance(error, IdcError) and action == "none":
                code = "IDC-ENG-009"
            last = error.last if isinstance(error, NotReady) else error.render()
            raise IdcError(code, engine=spec.name, keeper="Docker" if spec.container else "systemd", log=spec.log,
                           timeout=proof.ready_timeout, last=last, reason=tell(fault, proof.memory), fault=fault.kind,
                           probe=getattr(error, "code", "")) from error


def _warm(probe: Probe, lengths: Sequence[int], end: float, warmed: list[int]) -> None:
    """Send prompts of these lengths (words), which share no prefix, until ``end`` (monotonic); ``warmed`` gets those answered."""
    for number, words in enumerate(lengths):
        if time.monotonic() >= end:
            return
        try:
            ask(dataclasses.replace(probe, prompt=synthetic(words, "warm-up", number)))
        except IdcError:  # too long for its context, or it died: the token that is asked for next tells
            return
        warmed.append(words)


def _has_weights(model: str) -> bool:
    """False only for a folder without weights; a hub's name is not looked at."""
    return not os.path.isdir(model) or any(name.endswith(WEIGHTS) for name in os.listdir(model))


def _runs_by(spec: Spec) -> str:
    return "docker" if spec.container else "systemd"


def _observed(look: Look, unit_files: bool) -> Observed:
    """What is there, for ``decide``. ``unit_files``: one of them is not as wanted."""
    return Observed(look.unit.active, look.enabled, unit_files or look.unread, look.digest)


def _healthy(url: str) -> bool:
    try:
        return send(Call(url + "/health", timeout=5.0)).status == 200
    except HttpFailure:
        return False
