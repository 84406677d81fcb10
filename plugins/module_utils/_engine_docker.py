# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines as containers, through the Docker SDK for Python. Private to this collection.

The container is described in the body of the daemon's own call (https://docs.docker.com/reference/api/engine/, "Create a
container"), which lies as ``container.json`` beside the engine's other files: it is what the unit is for systemd. Names:
``idc-vllm-ENGINE`` runs, ``…-next`` is being made, ``…-before`` is the one that ran before, stopped, kept for its log.
"""
from __future__ import annotations

import calendar
import grp
import importlib
import json
import os
import pwd
import re
import shutil
import sys
import time
from contextlib import contextmanager
from typing import Any, Iterator, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _engine
from ansible_collections.idc.llm.plugins.module_utils import _engine_files as disk
from ansible_collections.idc.llm.plugins.module_utils._engine import Container, Plan, Spec
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Good
from ansible_collections.idc.llm.plugins.module_utils._engine_runtime import Look
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._ready import Unit

SOCKET = "/var/run/docker.sock"
LABEL = "idc.llm."
LOG = {"Type": "json-file", "Config": {"max-size": "50m", "max-file": "4"}}
_INFINIBAND = "/dev/infiniband"
_ENV_LINE = re.compile(r'^(\w+)="(.*)"$', re.M)
_BY_HASH = re.compile(r"^(.+@)?sha256:[0-9a-f]{64}$")
_STATES = {"running": ("active", "running"), "paused": ("active", "paused"), "restarting": ("activating", "auto-restart")}


# --- what is wanted: pure


def check_container(spec: Spec) -> None:
    """Refuse an image that may become another one over night, and a model that the container would not see."""
    wanted = spec.container
    if wanted is None:
        return
    if not is_pinned(wanted.image):
        raise IdcError("IDC-ENG-006", field="image", seen=wanted.image,
                       wanted="a name with a tag other than latest, or with a digest")
    for path in wanted.folders:
        if not path.startswith("/") or ".." in path.split("/"):
            raise IdcError("IDC-ENG-006", field="folders", seen=path, wanted="absolute paths")
    model = str(_engine.option(spec.config, "model", ""))
    if model.startswith("/") and not any((model + "/").startswith(path.rstrip("/") + "/") for path in folders(spec, wanted)):
        raise IdcError("IDC-ENG-006", field="folders", seen=", ".join(wanted.folders), wanted=f"a folder that {model} lies in")


def is_pinned(image: str) -> bool:
    """Whether a name means one image: by digest or id, or by a tag that is not latest."""
    name, _sign, tag = image.rpartition("/")[2].partition(":")
    return bool(_BY_HASH.match(image)) or bool(name and tag and tag != "latest" and "@" not in image)


def folders(spec: Spec, wanted: Container) -> Sequence[str]:
    """The host's folders that the container reads, at their own paths."""
    model = str(_engine.option(spec.config, "model", ""))
    return wanted.folders or ((model,) if model.startswith("/") else ())


def describe(spec: Spec, wanted: Container, image: str, owner: str, infiniband: bool) -> dict[str, Any]:
    """The container, without its environment file and digest. ``image``: the id; ``owner``: "uid:gid"; ``infiniband``: whether the
    host has such devices."""
    config = f"{spec.config_dir}/{spec.name}/config.yaml"
    home = home_of(spec, wanted)
    host: dict[str, Any] = {
        "NetworkMode": "host",
        "IpcMode": wanted.ipc,
        "Init": True,  # as PID 1 vLLM would not take a signal that it has no handler for
        "Mounts": [_mount(path, True) for path in (config, *folders(spec, wanted))] + [_mount(home, False)],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # exec: compiled kernels are loaded from there
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Ulimits": [_limit("core", 0), _limit("memlock", spec.memlock_bytes), _limit("nofile", spec.nofile)],
        "RestartPolicy": {"Name": "always"},
        "LogConfig": LOG,
    }
    if wanted.ipc == "private":
        host["ShmSize"] = wanted.shm_bytes
    if spec.gpus:
        host["DeviceRequests"] = [{"Driver": "nvidia", "DeviceIDs": list(spec.gpus),
                                   "Capabilities": [["gpu", "compute", "utility"]]}]
    if infiniband:
        host["Devices"] = [{"PathOnHost": _INFINIBAND, "PathInContainer": _INFINIBAND, "CgroupPermissions": "rwm"}]
    return {
        "Image": image,
        "Entrypoint": ["vllm"],
        "Cmd": ["serve", "--config", config],
        "User": owner,
        "WorkingDir": home,
        # USER: the image does not know this user, and PyTorch asks for its name
        "Env": [f"HOME={home}", f"USER={spec.user}", "PYTHONFAULTHANDLER=1"],
        "Healthcheck": {"Test": ["NONE"]},  # readiness is proven by a token
        "Labels": {LABEL + "engine": spec.name, LABEL + "release": spec.release, LABEL + "image": wanted.image},
        "StopSignal": "SIGTERM",
        "StopTimeout": _engine.drain_s(spec) + _engine.STOP_MARGIN_S,
        "HostConfig": host,
    }


def home_of(spec: Spec, wanted: Container) -> str:
    """Where the engine's caches live, on the host and in the container."""
    return wanted.home or f"/var/lib/{spec.user}"


def completed(body: Mapping[str, Any], env_text: str, digest: str) -> dict[str, Any]:
    """The container as it is made: with the variables of an environment file, and with what it was started with as a label."""
    variables = dict(pair.split("=", 1) for pair in body["Env"])
    variables.update((name, re.sub(r'\\(["\\`$])', r"\1", value)) for name, value in _ENV_LINE.findall(env_text))
    return {**body, "Env": [f"{name}={variables[name]}" for name in sorted(variables)],
            "Labels": {**body["Labels"], LABEL + "digest": digest}}


def look_of(found: Mapping[str, Any], now: float) -> Look:
    """A container as the daemon shows it; ``now``: seconds since 1970. Restarts are counted from its last start by hand."""
    state = found["State"]
    active, sub = _STATES.get(state["Status"], ("inactive", "dead"))
    began = calendar.timegm(time.strptime(state["StartedAt"][:19], "%Y-%m-%dT%H:%M:%S"))
    return Look(
        Unit(active, sub, int(found["RestartCount"]), now - began),
        enabled=found["HostConfig"]["RestartPolicy"]["Name"] == "always",
        digest="" if active == "inactive" else str((found["Config"]["Labels"] or {}).get(LABEL + "digest", "")),
    )


def last_words(found: Mapping[str, Any]) -> list[str]:
    """What the daemon says of a container's end, in lines as systemd writes them."""
    state = found["State"]
    said = ["the container was killed by the OOM killer"] if state.get("OOMKilled") else []
    if state.get("ExitCode"):
        said.append(f"the container ended, status={state['ExitCode']}/{state.get('Error') or 'no error of the daemon'}")
    return said


def _mount(path: str, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": path, "Target": path, "ReadOnly": read_only}


def _limit(name: str, value: int) -> dict[str, Any]:
    return {"Name": name, "Soft": value, "Hard": value}


# --- what the daemon is asked


class Docker:
    """The daemon of this host. ``dry``: check mode, in which neither it nor the SDK need be there yet."""

    def __init__(self, dry: bool, socket: str = SOCKET) -> None:
        self._trouble: Optional[IdcError] = None
        self._api: Any = None
        try:
            self._api, self._errors = _connect(socket)
        except IdcError as error:
            if not dry:
                raise
            self._trouble = error

    def missing(self, spec: Spec) -> Optional[IdcError]:
        """The SDK, the daemon or the image."""
        name = spec.container.image if spec.container else ""
        return self._trouble or (None if self._image(spec, name) else IdcError("IDC-ENG-025", image=name))

    def lost(self, good: Good) -> Optional[IdcError]:
        """Nothing to see beforehand: the container is made before the other one is stopped, and that says so."""
        return None

    def arguments(self, spec: Spec) -> str:
        """One list for each image, because a name can be given to another one."""
        return f"{spec.release_dir}/arguments-{self.made_of(spec).partition(':')[2][:12]}.json"

    def made_of(self, spec: Spec) -> str:
        """The image's id."""
        return self._image(spec, spec.container.image if spec.container else "")

    def description(self, spec: Spec) -> str:
        """The container's file; where user or image are not there yet, as far as it is known."""
        wanted = spec.container or Container()
        try:
            owner = f"{pwd.getpwnam(spec.user).pw_uid}:{grp.getgrnam(spec.group).gr_gid}"
        except KeyError:
            owner = f"{spec.user}:{spec.group}"
        body = describe(spec, wanted, self.made_of(spec) or wanted.image, owner, os.path.isdir(_INFINIBAND))
        return json.dumps(body, indent=1, sort_keys=True) + "\n"

    def look(self, spec: Spec) -> Look:
        """The container, if there is one."""
        found = self._inspect(spec, spec.unit)
        return look_of(found, time.time()) if found else Look()

    def log(self, spec: Spec, since: float) -> Sequence[str]:
        """Both streams of the container, and its end."""
        found = self._inspect(spec, spec.unit)
        if not found:
            return ()
        with self._asked(spec, "logs", spec.unit):
            raw: bytes = self._api.logs(spec.unit, stdout=True, stderr=True, tail=2000, since=int(since))
        return raw.decode("utf-8", "replace").splitlines() + last_words(found)

    def apply(self, spec: Spec, plan: Plan, kill: bool) -> None:
        """A start is always that of a new container: nothing of an old one is meant to last."""
        if plan.action in ("start", "restart"):
            self._replace(spec, kill)
        elif plan.action == "stop":
            self._stop(spec, kill)
        elif plan.enable is not None:
            self._policy(spec, "always" if plan.enable else "no")

    def own(self, spec: Spec) -> Sequence[str]:
        """All its files lie in the engine's folder."""
        return ()

    def forget(self, spec: Spec, gone: Sequence[str]) -> None:
        """The containers first: they are known by the files."""
        for name in (spec.unit, f"{spec.unit}-next", f"{spec.unit}-before"):
            self._remove(spec, name)
        for path in gone:
            shutil.rmtree(path)

    def _replace(self, spec: Spec, kill: bool) -> None:
        """Put a new container, made of the files that are there, in the place of the old one.

        It is made while the old one still serves, so that what the daemon refuses stops nothing. Wherever this is cut, the next run
        sees an engine that is not up or runs with something else, and begins anew.
        """
        folder = f"{spec.config_dir}/{spec.name}"
        body = completed(json.loads(disk.read(f"{folder}/{_engine.CONTAINER_FILE}")), disk.read(f"{folder}/env"),
                         disk.read(f"{folder}/digest").strip())
        following, before = f"{spec.unit}-next", f"{spec.unit}-before"
        self._make_home(body)
        self._remove(spec, following)
        with self._asked(spec, "create", spec.unit):
            try:
                self._api.create_container_from_config(body, following)
            except self._errors.ImageNotFound as error:
                raise IdcError("IDC-ENG-025", image=body["Labels"][LABEL + "image"]) from error
        if self._inspect(spec, spec.unit):
            self._stop(spec, kill)
            self._remove(spec, before)
            with self._asked(spec, "rename", spec.unit):
                self._api.rename(spec.unit, before)
        with self._asked(spec, "start", spec.unit):
            self._api.rename(following, spec.unit)
            self._api.start(spec.unit)

    def _stop(self, spec: Spec, kill: bool) -> None:
        """With the time that the container itself was made with. The policy first, so that it stays down if this is cut."""
        found = self._inspect(spec, spec.unit) or {}
        self._policy(spec, "no")
        with self._asked(spec, "stop", spec.unit):
            self._api.stop(spec.unit, timeout=0 if kill else int(found["Config"].get("StopTimeout") or 10))

    def _policy(self, spec: Spec, name: str) -> None:
        with self._asked(spec, "update", spec.unit):
            self._api.update_container(spec.unit, restart_policy={"Name": name})

    def _remove(self, spec: Spec, name: str) -> None:
        if self._inspect(spec, name):
            with self._asked(spec, "rm", name):
                self._api.remove_container(name, v=True, force=True)

    def _make_home(self, body: Mapping[str, Any]) -> None:
        """As systemd's StateDirectory does; the daemon makes no folder for a mount."""
        if not os.path.isdir(body["WorkingDir"]):
            os.makedirs(body["WorkingDir"], mode=0o750)
            os.chown(body["WorkingDir"], *map(int, body["User"].split(":")))

    def _image(self, spec: Spec, name: str) -> str:
        """An image's id, "" where it is not there."""
        if self._api is None or not name:
            return ""
        with self._asked(spec, "inspect", name):
            try:
                return str(self._api.inspect_image(name)["Id"])
            except self._errors.NotFound:
                return ""

    def _inspect(self, spec: Spec, name: str) -> Optional[Mapping[str, Any]]:
        if self._api is None:
            return None
        with self._asked(spec, "inspect", name):
            try:
                found: Mapping[str, Any] = self._api.inspect_container(name)
                return found
            except self._errors.NotFound:
                return None

    @contextmanager
    def _asked(self, spec: Spec, verb: str, name: str) -> Iterator[None]:
        """Make an error of the catalogue of what the daemon, or the way to it, says."""
        try:
            yield
        except (self._errors.DockerException, OSError) as error:
            detail = " ".join(str(getattr(error, "explanation", None) or error).split())[:400]
            raise IdcError("IDC-ENG-011", command=f"docker {verb} {name}", rc=getattr(error, "status_code", None) or "-",
                           detail=detail.rstrip("."), log=spec.log) from error


def _connect(socket: str) -> tuple[Any, Any]:
    """(a client, the SDK's errors)."""
    try:
        sdk, errors = importlib.import_module("docker"), importlib.import_module("docker.errors")
    except ImportError as error:
        raise IdcError("IDC-ENG-023", python=sys.executable, detail=str(error)) from error
    try:
        return sdk.APIClient(base_url=f"unix://{socket}", version="auto", timeout=60), errors
    except (errors.DockerException, OSError) as error:
        raise IdcError("IDC-ENG-024", socket=socket, detail=" ".join(str(error).split())[:400].rstrip(".")) from error
