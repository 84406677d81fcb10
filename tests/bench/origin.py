# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benches of the store share: commands with their seconds, and a hub on loopback with nginx behind it."""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.hub import Hub, make_model

ROOT = Path(__file__).resolve().parents[2]
MODEL = "bench/model"
LIMIT_S = 3600  # for one command, and for nginx twice that
CORES = len(os.sched_getaffinity(0))
NGINX = """daemon off; {user} worker_processes {cores}; pid {home}/nginx.pid; error_log {home}/error.log crit;
events {{ worker_connections 512; }}
http {{ log_format ends '$msec $status $request_time $uri'; access_log {home}/access.log ends;
sendfile on; tcp_nopush on; default_type application/octet-stream;
client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3; uwsgi_temp_path {home}/t4;
scgi_temp_path {home}/t5; server {{ listen {address}; root {root}; }} }}
"""


@dataclass(frozen=True)
class Step:
    """One command of a contestant."""

    argv: list[str]
    stdin: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None


def run(step: Step, fails: bool = False) -> tuple[float, float, str]:
    """(wall seconds, CPU seconds, standard output) of a command; the bench ends where it does not do as it should."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, tempfile.TemporaryFile("w+") as given:
        given.write(step.stdin)
        given.seek(0)
        began = time.perf_counter()
        process = subprocess.Popen(["timeout", str(LIMIT_S), *step.argv], stdin=given, stdout=out, stderr=err, cwd=step.folder,
                                   env={**os.environ, **step.environment})
        _pid, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said = [stream.read() for stream in (out, err) if not stream.seek(0)]
    if bool(process.returncode) != fails:
        sys.exit(f"{' '.join(step.argv)[:200]}\nended with {process.returncode}: {''.join(said)[-2000:]}")
    return seconds, used.ru_utime + used.ru_stime, said[0]


def free_address() -> str:
    """An address of the second host of loopback, as the double's storage has it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        return f"127.0.0.2:{taken.getsockname()[1]}"


def static_server(home: Path, root: Path, address: str) -> Path:
    """The configuration, in ``home``, of an nginx that gives the files of ``root`` and notes each in ``home``/access.log."""
    user = "user root;" if os.geteuid() == 0 else ""
    config = home / "nginx.conf"
    config.write_text(NGINX.format(home=home, root=root, address=address, cores=CORES, user=user), encoding="utf-8")
    return config


class Origin:
    """The hub and the storage behind it, while the ``with`` block runs; ``files`` are {path: sha256}."""

    def __init__(self, work: Path, shards: int, mib: int) -> None:
        self.home = work / "origin"
        names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
        self.commit = make_model(self.home / "hub", MODEL, {"config.json": b"{}\n", **dict.fromkeys(names, mib << 20)})
        self.hub = Hub(self.home / "hub")
        commit = self.hub.site.store.commit(MODEL, self.commit)
        assert commit
        self.folder = commit.folder
        self.files = {file.path: file.sha256 for file in commit.files}
        self.bytes = sum(file.size for file in commit.files)
        for file in commit.files:
            link = self.home / "www" / "repos" / file.sha256[:2] / file.sha256[2:4] / file.sha256
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.folder / file.path)

    def __enter__(self) -> Origin:
        address = free_address()
        config = static_server(self.home, self.home / "www", address)
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        self._nginx = subprocess.Popen(["timeout", str(2 * LIMIT_S), program or "nginx", "-c", str(config)],
                                       stderr=subprocess.DEVNULL)
        self.hub.site.cdn_url = f"http://{address}"
        self.hub.__enter__()
        run(Step(["curl", "-sSfLo", "/dev/null", "--retry", "20", "--retry-delay", "1", "--retry-all-errors", self.urls()[0][0]]))
        return self

    def __exit__(self, *_args: object) -> None:
        self.hub.__exit__()
        self._nginx.send_signal(signal.SIGTERM)
        self._nginx.wait(30)

    def urls(self) -> list[tuple[str, str]]:
        """(address, path) of each file."""
        return [(f"{self.hub.url}/{MODEL}/resolve/{self.commit}/{path}", path) for path in self.files]

    def warm(self) -> None:
        """Have all of it in the page cache."""
        for path in self.files:
            run(Step(["dd", f"if={self.folder / path}", "of=/dev/null", "bs=4M", "status=none"]))


def module(root: Path, **options: object) -> Step:
    """model_fetch as Ansible starts it on a host, but for the copying: arguments on standard input, an interpreter of its own."""
    arguments = {"model": MODEL, "root": str(root), **options}
    return Step([sys.executable, str(ROOT / "plugins/modules/model_fetch.py")], json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
                {"PYTHONPATH": str(ROOT / ".collections"), "LC_ALL": "C.UTF-8"})


def sha256_of(path: Path) -> str:
    """Read again, by other code than that under test."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def options(about: str) -> argparse.ArgumentParser:
    """What both benches of the store take."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--mib", type=int, default=512, help="size of a shard")
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure (default: the temporary folder)")
    parser.add_argument("--repeat", type=int, default=2)
    return parser


def workplace(parser: argparse.ArgumentParser, args: argparse.Namespace) -> tempfile.TemporaryDirectory:
    """A folder to work in; refuses where the model does not fit twice."""
    place = tempfile.TemporaryDirectory(prefix="idc-bench-", dir=args.work)
    if shutil.disk_usage(place.name).free < 2.1 * (args.shards * args.mib << 20) + (2 << 30):
        parser.error(f"--work {Path(place.name).parent}: the model does not fit twice with 2 GiB to spare; give another, or --mib")
    return place


def where(size: int, args: argparse.Namespace) -> str:
    """What is measured on what, in words."""
    disk = args.work or tempfile.gettempdir()
    return f"{args.shards} shards, {size / 1e9:.2f} GB, {CORES} cores, load {os.getloadavg()[0]:.1f}, in {disk}"
