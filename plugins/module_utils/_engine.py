# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine's files must say and what has to happen to it: pure decisions. Private to this collection."""
from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said

CONTAINER_FILE = "container.json"  # the engine's container, as Docker's API wants it; only an engine of Docker has it
STOP_MARGIN_S = 15  # what vLLM needs after its drain time to end its processes
_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_RELEASE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD")
_PLAIN_KEY = re.compile(r"^[A-Za-z][A-Za-z0-9_-]*$")
_YAML_WORDS = ("y", "yes", "n", "no", "on", "off", "true", "false", "null")

UNIT_NAME = "idc-vllm@.service"
UNIT = """\
# Written by idc.llm.vllm_service; changes here are overwritten. Instance = engine name.
[Unit]
Description=vLLM engine %i
Wants=network-online.target
After=network-online.target nvidia-persistenced.service nvidia-fabricmanager.service
# No start limit: an engine whose store comes back after an hour must heal by itself. RestartSec and vLLM's own
# start-up (tens of seconds) bound the rate.
StartLimitIntervalSec=0

[Service]
Type=exec
User={user}
Group={group}
WorkingDirectory=/var/lib/{user}
Environment=HOME=/var/lib/{user}
# At SIGABRT, which the watchdog sends to an engine that hangs, Python writes the stacks of all threads to the journal.
Environment=PYTHONFAULTHANDLER=1
Environment=PATH={root}/deployments/%i/current/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
EnvironmentFile={config_dir}/%i/env
# What this process was started with, for the next run to compare; /run forgets it when the engine stops.
ExecStartPre=/usr/bin/cp {config_dir}/%i/digest /run/idc-vllm/%i/digest
ExecStart={root}/deployments/%i/current/bin/vllm serve --config {config_dir}/%i/config.yaml
# always, not on-failure: vLLM ends with code 0 when a worker dies.
Restart=always
RestartSec=5
# SIGTERM to the main process only, so that it can drain; SIGKILL to whatever is left.
# TimeoutStopSec: a drop-in per engine.
KillMode=mixed
OOMPolicy=stop

StateDirectory={user}
StateDirectoryMode=0750
RuntimeDirectory=idc-vllm/%i
RuntimeDirectoryMode=0750
UMask=0077
LimitCORE=0
# RDMA and pinned host memory lock pages; each connection and each weight file is an open file.
LimitMEMLOCK={memlock}
LimitNOFILE={nofile}
PrivateTmp=true
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=true
ProtectHostname=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
# PyTorch hands memory of one card to the process of another as a file descriptor.
SystemCallFilter=pidfd_getfd
SystemCallErrorNumber=EPERM
# AF_NETLINK: Gloo and NCCL list the network interfaces; InfiniBand verbs use it too.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
# Left out on purpose:
# PrivateDevices, DevicePolicy: the engine opens /dev/nvidia* and /dev/infiniband/*.
# ProtectClock: it implies a device allow-list, which would close /dev/nvidia*; without capabilities no clock is set.
# MemoryDenyWriteExecute: Triton, torch.compile and the CUDA driver write code and run it.
# ProtectProc, ProcSubset: vLLM reads /proc/cpuinfo and /proc/meminfo; NVML looks at other processes.
# RemoveIPC: it would take the shared memory of the other engines of the same user.
# PrivateNetwork, IPAddressDeny: it is a server.
# SystemCallFilter of @resources, @privileged: it binds threads and memory to NUMA nodes; Python calls chown, which needs a right.

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Container:
    """What an engine needs besides when Docker runs it. ``image``: a name with a tag or digest, or an id; ``ipc``: private or host;
    ``shm_bytes``: size of a private /dev/shm; ``folders``: of the host, read-only, none = the model's alone; ``home``: the folder
    of its caches, "" = below /var/lib."""

    image: str = ""
    ipc: str = "private"
    shm_bytes: int = 16 << 30
    folders: tuple[str, ...] = ()
    home: str = ""


@dataclass(frozen=True)
class Spec:
    """What a person or the plan wants of one engine. ``drain_timeout`` in seconds; ``memlock_bytes``: -1 = no limit."""

    name: str
    release: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    api_key: str = ""
    gpus: tuple[str, ...] = ()
    root: str = "/opt/idc_llm"
    config_dir: str = "/etc/idc_llm/engines"
    user: str = "vllm"
    group: str = "vllm"
    drain_timeout: int = 120
    memlock_bytes: int = -1
    nofile: int = 1048576
    unit_dir: str = "/etc/systemd/system"
    run_dir: str = "/run/idc-vllm"  # the RuntimeDirectory that the unit names
    container: Container | None = None  # None: systemd runs it

    @property
    def unit(self) -> str:
        """The systemd instance, or the container."""
        return f"idc-vllm-{self.name}" if self.container else UNIT_NAME.replace("@", "@" + self.name)

    @property
    def log(self) -> Said:
        """The command that shows all that the engine said."""
        if self.container is None:
            return Said(f"journalctl -u {self.unit}", f"journalctl -u {self.unit}")
        return Said(f"docker logs {self.unit} (of the container before it: docker logs {self.unit}-before)",
                    f"docker logs {self.unit}（之前的容器：docker logs {self.unit}-before）")

    @property
    def release_dir(self) -> str:
        """What ``current`` leads to: a venv, or for Docker the folder with the arguments of an image."""
        return f"{self.root}/releases/{self.release}{'-docker' if self.container else ''}"

    @property
    def link(self) -> str:
        """The link that the unit starts from."""
        return f"{self.root}/deployments/{self.name}/current"


@dataclass(frozen=True)
class File:
    """One file: text, owner and mode; ``shown`` is the text with secrets masked, for diffs."""

    path: str
    text: str
    owner: str
    group: str
    mode: int
    shown: str


@dataclass(frozen=True)
class Observed:
    """What is there now. ``running_digest``: what the running process was started with, "" = not running;
    ``unit_differs``: a unit file is not yet as wanted, or systemd has not read it yet."""

    active: str = "inactive"  # systemd's ActiveState
    enabled: bool = False
    unit_differs: bool = False
    running_digest: str = ""


@dataclass(frozen=True)
class Plan:
    """What to do. ``action``: none, start, restart or stop; ``enable``: None = leave as it is."""

    action: str
    enable: bool | None
    reload: bool


def check(spec: Spec) -> None:
    """Refuse names and values that could not be written safely."""
    if not _NAME.match(spec.name):
        raise IdcError("IDC-ENG-006", field="name", seen=spec.name, wanted="a-z, 0-9 and dashes, at most 63 characters")
    if spec.release and not _RELEASE.match(spec.release):
        raise IdcError("IDC-ENG-006", field="release", seen=spec.release, wanted="letters, digits and . _ + -")
    for key, value in spec.environment.items():
        if not _ENV_NAME.match(key):
            raise IdcError("IDC-ENG-006", field="environment", seen=key, wanted="a variable name")
        if key == "VLLM_API_KEY":
            raise IdcError("IDC-ENG-006", field="environment", seen=key, wanted="the key in api_key (masked)")
        if "\n" in str(value) or "\0" in str(value):
            raise IdcError("IDC-ENG-006", field=f"environment.{key}", seen="a line break", wanted="one line")
    if "\n" in spec.api_key or "\0" in spec.api_key:
        raise IdcError("IDC-ENG-006", field="api_key", seen="a line break", wanted="one line")


def option(config: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A vLLM option by its dashed name, however the mapping spells it."""
    for key, value in config.items():
        if key.replace("_", "-") == name:
            return value
    return default


def drain_s(spec: Spec) -> int:
    """Seconds that requests in flight get: the configuration's own shutdown-timeout wins over drain_timeout."""
    return int(option(spec.config, "shutdown-timeout", spec.drain_timeout))


def served_model(config: Mapping[str, Any]) -> str:
    """The name that clients ask for: the first served-model-name, else the model path."""
    name = option(config, "served-model-name") or option(config, "model", "")
    return str(name[0]) if isinstance(name, (list, tuple)) else str(name)


def endpoint(config: Mapping[str, Any]) -> tuple[str, int]:
    """(host, port) on which the engine answers, "" = every address of the host."""
    host = str(option(config, "host", "") or "")
    return ("" if host in ("0.0.0.0", "::", "*") else host), int(option(config, "port", 8000))


def base_url(config: Mapping[str, Any]) -> str:
    """Where this host reaches its own engine."""
    host, port = endpoint(config)
    host = host or "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def yaml_text(value: Any, top: bool = True) -> str:
    """YAML of plain data: block style at the top, keys sorted, JSON-like flow style below (targets may lack PyYAML)."""
    if isinstance(value, Mapping):
        rows = [(_key(str(key)), yaml_text(value[key], top=False)) for key in sorted(value, key=str)]
        if top:
            return "".join(f"{key}: {text}\n" for key, text in rows) or "{}\n"
        return "{" + ", ".join(f"{key}: {text}" for key, text in rows) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(yaml_text(item, top=False) for item in value) + "]"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise IdcError("IDC-ENG-006", field="config", seen=str(value), wanted="a finite number")
        mantissa, exponent, power = repr(value).partition("e")
        return mantissa if not exponent else (mantissa if "." in mantissa else mantissa + ".0") + "e" + power
    if value is None or isinstance(value, (bool, int)):
        return json.dumps(value)
    return _quoted(str(value))


def _key(text: str) -> str:
    return text if _PLAIN_KEY.match(text) and text.lower() not in _YAML_WORDS else _quoted(text)


def _quoted(text: str) -> str:
    """A double-quoted scalar; every character YAML may not hold is escaped (its escapes go to 8 digits)."""
    body = "".join(
        char if " " <= char <= "~" and char not in '"\\' else ("\\" + char if char in '"\\' else _escape(char))
        for char in text
    )
    return f'"{body}"'


def _escape(char: str) -> str:
    code = ord(char)
    printable = 0xA0 < code < 0xD800 and char not in "\u2028\u2029" or 0xE000 <= code < 0xFEFF
    return char if printable else f"\\U{code:08x}"


def environment(spec: Spec) -> dict[str, str]:
    """The engine's environment: the plan's, the cards it may see, and the key."""
    result = {key: str(value) for key, value in spec.environment.items()}
    if spec.gpus:
        result["CUDA_VISIBLE_DEVICES"] = ",".join(spec.gpus)
    if spec.api_key:
        result["VLLM_API_KEY"] = spec.api_key
    return result


def env_text(variables: Mapping[str, str], masked: bool = False) -> str:
    """A systemd EnvironmentFile: sorted, quoted; ``masked`` hides what is secret by its name."""
    lines = []
    for key in sorted(variables):
        value = "********" if masked and _SECRET_NAME.search(key) else variables[key]
        lines.append('{}="{}"\n'.format(key, re.sub(r'(["\\`$])', r"\\\1", value)))
    return "".join(lines)


def files(spec: Spec, installed: str = "", container: str = "") -> tuple[File, ...]:
    """All files of an engine in the order of writing. ``installed``: what the release holds (its list of packages);
    ``container``: the description of its container, which stands for the unit's files.

    The digest comes last: it covers everything a running process depends on.
    """
    folder = f"{spec.config_dir}/{spec.name}"
    config = {key.replace("_", "-"): value for key, value in spec.config.items() if value is not None}
    config["shutdown-timeout"] = drain_s(spec)
    variables = environment(spec)
    unit = UNIT.format(user=spec.user, group=spec.group, root=spec.root, config_dir=spec.config_dir, nofile=spec.nofile,
                       memlock="infinity" if spec.memlock_bytes < 0 else spec.memlock_bytes)
    stop = f"[Service]\nTimeoutStopSec={drain_s(spec) + STOP_MARGIN_S}\n"
    texts: tuple[tuple[str, str, str, str, int, str], ...] = (
        (f"{spec.unit_dir}/{UNIT_NAME}", unit, "root", "root", 0o644, unit),
        (f"{spec.unit_dir}/{spec.unit}.d/drain.conf", stop, "root", "root", 0o644, stop),
        *((f"{spec.unit_dir}/{spec.unit}.d/store.conf", text, "root", "root", 0o644, text) for text in _mounts(config)),
        (f"{folder}/config.yaml", yaml_text(config), "root", spec.group, 0o640, yaml_text(config)),
        (f"{folder}/env", env_text(variables), "root", "root", 0o600, env_text(variables, masked=True)),
    )
    if container:
        of_docker = (f"{folder}/{CONTAINER_FILE}", container, "root", "root", 0o644, container)
        texts = (of_docker, *(row for row in texts if not row[0].startswith(spec.unit_dir)))
    whole = json.dumps([[row[1] for row in texts], spec.release_dir, installed])
    digest = hashlib.sha256(whole.encode("utf-8")).hexdigest() + "\n"
    return tuple(File(*row) for row in texts) + (
        File(f"{folder}/digest", digest, "root", spec.group, 0o640, digest),
    )


def _mounts(config: Mapping[str, Any]) -> Iterator[str]:
    """Not before the disk is there that the model lies on: what is below its mount point is not the model."""
    model = str(option(config, "model", ""))
    if model.startswith("/"):
        yield '[Unit]\nRequiresMountsFor="{}"\n'.format(re.sub(r'(["\\])', r"\\\1", model).replace("%", "%%"))


def decide(state: str, observed: Observed, digest: str = "") -> Plan:
    """What has to happen: a started engine is restarted exactly when it runs with something else than wanted."""
    enabled = None if observed.enabled else True
    if state in ("stopped", "drained", "absent"):
        stop = observed.active not in ("inactive", "failed")
        return Plan("stop" if stop else "none", False if observed.enabled else None, observed.unit_differs)
    if observed.active not in ("active", "activating", "reloading"):  # deactivating: systemd starts it after the stop
        return Plan("start", enabled, observed.unit_differs)
    if state == "restarted" or observed.running_digest != digest:
        return Plan("restart", enabled, observed.unit_differs)
    return Plan("none", enabled, observed.unit_differs)
