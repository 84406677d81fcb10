# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fetch that is killed, again and again, ends correct and brings each byte about once."""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ansible_collections.idc.llm.plugins.module_utils import _source
from ansible_collections.idc.llm.plugins.module_utils._model_store import PART

from tests.support.hub import Hub, make_model
from tests.support.model_source import contents

MODEL = "demo/tiny"
CHECKPOINT = 1 << 20
SHARDS = 3
SIZE = 12 << 20
NAMES = tuple(f"m-{number}.safetensors" for number in range(SHARDS))
KILLS = 5
RATE = 8 << 20
PROGRAM = f"""
import json, sys
from ansible_collections.idc.llm.plugins.module_utils import _download
from ansible_collections.idc.llm.plugins.modules.model_fetch import run
_download.CHECKPOINT = {CHECKPOINT}
run(json.loads(sys.argv[1]), False)
"""


def on_disk(partial):
    """{path: bytes} of what an interrupted fetch has, finished or not."""
    found = {}
    for name in NAMES:
        for file in (partial / name, partial / (name + PART)):
            with suppress(FileNotFoundError):
                found[name] = file.stat().st_size
    return found


def start(params):
    root = Path(_source.__file__.split("/ansible_collections/", maxsplit=1)[0])
    path = os.pathsep.join([str(root), *(p for p in sys.path if p)])
    return subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(params)], env={**os.environ, "PYTHONPATH": path})


def test_killed_five_times_at_random_points(tmp_path, model):
    chance = random.Random(4)
    commit = make_model(tmp_path / "hub", MODEL, {"config.json": b"{}", **dict.fromkeys(NAMES, SIZE)})
    with Hub(tmp_path / "hub") as hub:
        hub.fault("*", rate=RATE, count=None)
        params = {"model": MODEL, "revision": "main", "sources": [f"hf+{hub.url}"], "root": str(tmp_path / "store"), "min_free": 0}
        partial = model / ".partial-main"
        kept = []
        for _kill in range(KILLS):
            child = start(params)
            goal = sum(on_disk(partial).values()) + chance.randrange(CHECKPOINT, 5 * CHECKPOINT)
            deadline = time.monotonic() + 60
            while sum(on_disk(partial).values()) < goal and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            assert child.poll() is None
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert not (model / "main").exists()
            kept.append((on_disk(partial), len(hub.log)))
        child = start(params)
        assert child.wait(120) == 0
        files = contents(model / "main")
        assert files.pop("manifest.json")
        assert files == contents(tmp_path / "hub" / MODEL / commit)
        assert [p.name for p in model.iterdir()] == ["main"]
        log = hub.log
        for disk, seen in kept:
            for path, count in disk.items():
                later = [one.start for one in log[seen:] if one.path == path and one.face == "cdn"]
                assert all(begin > count - CHECKPOINT - (1 << 20) for begin in later[:1]), (path, count, later)
                assert count < SIZE or not later
        once = SHARDS * SIZE
        sent = sum(one.sent for one in log if one.content and one.path.endswith(".safetensors"))
        assert once <= sent <= once + KILLS * SHARDS * (CHECKPOINT + (1 << 20))
