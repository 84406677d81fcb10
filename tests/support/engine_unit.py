# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemctl and journalctl for one engine, whose process does what ``fate`` says of the configuration that it is started with."""
from __future__ import annotations

import dataclasses
import getpass
import grp
import os
import socket
from pathlib import Path
from typing import Any, Callable

from ansible_collections.idc.llm.plugins.module_utils._engine import Spec
from ansible_collections.idc.llm.plugins.module_utils._engine_host import EngineHost
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Proof
from ansible_collections.idc.llm.plugins.module_utils._engine_systemd import INSTALLED

from tests.support.openai_server import KEY, MODEL, Server

ARGUMENTS = Path(__file__).parents[1] / "unit/plugins/module_utils/arguments-0.32.0.json"  # a real release's
LISTENS, SERVES, DIES, LOADS = "listens", "serves", "dies", "loads"  # takes connections; gives tokens; ends; takes no SIGTERM
KILLED = ["stop --no-block", "kill --signal=SIGKILL"]  # what ends one that takes no SIGTERM


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def release(root: Path, name: str) -> None:
    """An installed release, as far as the module looks at it."""
    program = root / "releases" / name / "bin/vllm"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    (program.parent.parent / INSTALLED).write_text(f"vllm=={name} --hash=sha256:aa\n")
    (program.parent.parent / "arguments.json").write_bytes(ARGUMENTS.read_bytes())


def make_spec(folder: Path) -> Spec:
    """An engine below this folder, on a port that is free."""
    (folder / "model").mkdir()
    (folder / "model/model.safetensors").write_text("weights")
    release(folder / "root", "1.0")
    for name in ("units", "engines", "run"):
        (folder / name).mkdir()
    return Spec(
        name="tiny-blue-0",
        release="1.0",
        config={"model": str(folder / "model"), "served-model-name": MODEL, "host": "127.0.0.1", "port": free_port()},
        api_key=KEY,
        root=str(folder / "root"),
        config_dir=str(folder / "engines"),
        user=getpass.getuser(),
        group=grp.getgrgid(os.getgid()).gr_name,
        unit_dir=str(folder / "units"),
        run_dir=str(folder / "run"),
    )


class Systemd:
    """``fate``: config.yaml as text → what becomes of the process; ``journal``: what it says; ``done``: what systemd was asked."""

    def __init__(self, spec: Spec, fate: Callable[[str], str] = lambda text: LISTENS) -> None:
        self.spec, self.fate, self.done, self.journal = spec, fate, [], ""
        self.state = {"ActiveState": "inactive", "SubState": "dead", "NRestarts": "0", "UnitFileState": "disabled"}
        self.faults: list[str] = [""]
        self.server: Server | None = None
        self.socket: socket.socket | None = None
        self.fails: str | None = None  # the verb that systemd refuses

    def __call__(self, argv: list[str]) -> tuple[int, str, str]:
        if argv[0] == "journalctl":
            return 0, self.journal, ""
        verb = argv[1]
        if verb == "show":
            return 0, "".join(f"{key}={value}\n" for key, value in self.state.items()), ""
        self.done.append(" ".join(word for word in argv[1:] if word != self.spec.unit))
        if verb == self.fails:
            return 1, "", "Job failed"
        if verb == "kill":
            self.end("inactive" if self.state["ActiveState"] == "deactivating" else "activating")
        elif verb in ("stop", "restart") and self.loading():
            # KillMode=mixed and an engine that takes no SIGTERM: the command comes back when TimeoutStopSec is over
            assert "--no-block" in argv, "systemctl hangs until the stop's timeout"
            self.state["ActiveState"] = "deactivating"
        elif verb in ("start", "restart"):
            self.end("inactive")
            self.begin()
        elif verb == "stop":
            self.end("inactive")
        elif verb in ("enable", "disable"):
            self.state["UnitFileState"] = verb + "d"
        return 0, "", ""

    def loading(self) -> bool:
        return self.state["ActiveState"] == "active" and self.state["SubState"] == "running" and not (self.server or self.socket)

    def begin(self) -> None:
        folder = Path(self.spec.config_dir, self.spec.name)
        running = Path(self.spec.run_dir, self.spec.name)
        running.mkdir(parents=True, exist_ok=True)
        running.joinpath("digest").write_text(folder.joinpath("digest").read_text())
        text = folder.joinpath("config.yaml").read_text()
        fate = self.fate(text)
        self.state.update(ActiveState="active", SubState="running")
        port = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("port: "))
        if fate == DIES:
            self.end("activating")
        elif fate == SERVES:
            self.server = Server(self.faults, port, later=True)
            self.server.begin()
        elif fate == LISTENS:
            self.socket = socket.create_server(("127.0.0.1", port))

    def end(self, state: str) -> None:
        """The process is gone; activating: Restart=always waits for its next try."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
        if self.socket:
            self.socket.close()
        self.server = self.socket = None
        if state == "activating":  # a start from there on keeps the count
            self.state["NRestarts"] = str(int(self.state["NRestarts"]) + 1)
        self.state.update(ActiveState=state, SubState="auto-restart" if state == "activating" else "dead")
        Path(self.spec.run_dir, self.spec.name, "digest").unlink(missing_ok=True)

    def did(self) -> list[str]:
        """What was asked since the last look."""
        done, self.done = self.done, []
        return done


def longer(spec: Spec, length: int) -> Spec:
    """The same engine with another context."""
    return dataclasses.replace(spec, config={**spec.config, "max-model-len": length})


def run(systemd: Systemd, spec: Spec, state: str = "started", dry: bool = False, **proof: Any) -> dict[str, Any]:
    """The module's result."""
    host = EngineHost(systemd, lambda name: name, dry)
    if state in ("started", "restarted"):
        return host.bring_up(spec, state, Proof(**{"ready_timeout": 5, "probe_timeout": 2, **proof}))
    return host.take_down(spec, state)
