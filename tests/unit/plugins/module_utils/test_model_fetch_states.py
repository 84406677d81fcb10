# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_fetch: check mode, repair, the other states, locks, a failing disk, a killed run."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _download, _source
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fetch_lock import locked

from tests.support.model_source import FILES, REVISION, published, write_source


def test_check_mode_tells_and_writes_nothing(tmp_path, fetch, model, serve):
    server = serve(write_source(tmp_path / "src"))
    result = fetch(server.url, check_mode=True)
    assert (result["changed"], result["fetched_files"], result["fetched_bytes"]) == (True, 4, 300_010)
    assert result["sources"] == [server.url]
    assert [path for path, _auth in server.seen] == ["/manifest.json"]
    assert not (tmp_path / "store").exists()
    real = fetch(server.url)
    assert real["diff"] == result["diff"]
    assert result["diff"]["before"] == ""
    assert "tokenizer.json" in result["diff"]["after"]
    assert fetch(server.url, check_mode=True)["changed"] is False


@pytest.mark.parametrize("damage", ["missing", "short", "manifest"])
def test_a_damaged_revision_is_repaired_with_what_is_right_kept(tmp_path, fetch, model, damage):
    source = write_source(tmp_path / "src").as_uri()
    fetch(source)
    broken = model / REVISION / ("manifest.json" if damage == "manifest" else "config.json")
    if damage == "missing":
        broken.unlink()
    else:
        broken.write_bytes(b"{")
    assert fetch(source, check_mode=True)["changed"] is True
    result = fetch(source)
    assert result["fetched_files"] == (0 if damage == "manifest" else 1)
    assert published(model) == FILES
    assert fetch(source)["changed"] is False


def test_a_damaged_revision_stays_where_it_is_when_no_source_answers(tmp_path, fetch, model):
    fetch(write_source(tmp_path / "src").as_uri())
    (model / REVISION / "empty").unlink()
    with pytest.raises(IdcError, match="IDC-FETCH-003"):
        fetch("file:///nonexistent")
    assert (model / REVISION / "config.json").exists()


def test_verified_reads_every_byte_and_names_the_wrong_files(tmp_path, fetch, model):
    fetch(write_source(tmp_path / "src").as_uri())
    assert fetch(state="verified")["changed"] is False
    (model / REVISION / "config.json").write_bytes(b'{"a": 2}')
    (model / REVISION / "sub" / "tokenizer.json").unlink()
    with pytest.raises(IdcError, match=r"IDC-FETCH-008: 2 of 4 files.*config\.json, sub/tokenizer\.json") as caught:
        fetch(state="verified")
    assert caught.value.details["wrong"] == ["config.json", "sub/tokenizer.json"]


def test_verified_wants_something_to_verify(fetch, tmp_path):
    with pytest.raises(IdcError, match="IDC-FETCH-007"):
        fetch(state="verified")
    assert not (tmp_path / "store").exists()


def test_absent_removes_the_revision_and_what_a_fetch_left(tmp_path, fetch, model):
    fetch(write_source(tmp_path / "src").as_uri())
    fetch(write_source(tmp_path / "src").as_uri(), revision="r2")
    (model / f".partial-{REVISION}").mkdir()
    assert fetch(state="absent", check_mode=True)["changed"] is True
    assert (model / REVISION).exists()
    result = fetch(state="absent")
    assert (result["changed"], result["files"]) == (True, 4)
    assert "config.json" in result["diff"]["before"]
    assert [p.name for p in model.iterdir()] == ["r2"]
    assert fetch(state="absent")["changed"] is False


def test_listed_asks_the_source_and_writes_nothing_or_reads_the_store(tmp_path, fetch):
    source = write_source(tmp_path / "src").as_uri()
    result = fetch(source, state="listed")
    assert result["changed"] is False
    assert [row["path"] for row in result["manifest"]["files"]] == sorted(FILES)
    assert not (tmp_path / "store").exists()
    fetch(source)
    assert fetch(state="listed")["manifest"]["files"][0]["source"] == source


def test_a_second_run_on_the_same_revision_is_refused_or_waits(tmp_path, fetch, model):
    source = write_source(tmp_path / "src").as_uri()
    ended = threading.Event()

    def hold():
        with locked(str(model / f".lock-{REVISION}"), 0):
            ended.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    while not (model / f".lock-{REVISION}").exists():
        time.sleep(0.01)
    with pytest.raises(IdcError, match=rf"IDC-FETCH-006.*process {os.getpid()} on {socket.gethostname()}, since 2"):
        fetch(source)
    threading.Timer(0.4, ended.set).start()
    assert fetch(source, lock_timeout=20)["changed"] is True
    holder.join()
    assert published(model) == FILES


def test_many_runs_at_once_publish_once(tmp_path, fetch, model):
    source = write_source(tmp_path / "src").as_uri()
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch(source, lock_timeout=20))) for _turn in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["changed"] for result in results) == [False] * 5 + [True]
    assert published(model) == FILES


def test_a_disk_that_fails_stops_the_run(tmp_path, fetch, model, monkeypatch):
    def full(_part, _data):
        raise OSError(28, "No space left on device", "/x")

    monkeypatch.setattr(_download.Part, "write", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(write_source(tmp_path / "src").as_uri())
    assert not (model / REVISION).exists()


def test_a_ca_file_that_is_not_there_is_said(tmp_path, fetch):
    with pytest.raises(IdcError, match="CA file"):
        fetch("https://127.0.0.1:9/x", ca_path=str(tmp_path / "ca.pem"))


def test_a_killed_run_is_taken_up_by_the_next(tmp_path, fetch, model, serve):
    server = serve(write_source(tmp_path / "src"))
    server.stalled.add("/sub/tokenizer.json")
    program = (
        "import json, sys; from ansible_collections.idc.llm.plugins.modules.model_fetch import run; "
        "run(json.loads(sys.argv[1]), False)"
    )
    params = {"model": "demo/tiny", "revision": REVISION, "sources": [server.url], "root": str(tmp_path / "store")}
    params.update(state="present", jobs=1, timeout=30, lock_timeout=0, min_free=0, token=None, ca_path=None)
    root = Path(_source.__file__.split("/ansible_collections/", maxsplit=1)[0])
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{os.pathsep.join(p for p in sys.path if p)}"}
    child = subprocess.Popen([sys.executable, "-c", program, json.dumps(params)], env=environment)
    deadline = time.monotonic() + 20
    while "/sub/tokenizer.json" not in [path for path, _auth in server.seen]:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (model / REVISION).exists()
    server.stalled.clear()
    server.seen.clear()
    result = fetch(server.url)
    assert [path for path, _auth in server.seen] == ["/manifest.json", "/sub/tokenizer.json"]
    assert result["fetched_files"] == 1
    assert published(model) == FILES
