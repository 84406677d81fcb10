# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that reads a part of the store again."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_store_verify as agent

from tests.support.model_source import write_source

FILES = {"config.json": b"{}", "model-1.safetensors": b"a" * 3000000, "model-2.safetensors": b"b" * 10, "sub/x": b""}


@pytest.fixture
def store(tmp_path):
    """A store with one published revision of four files."""
    publish(tmp_path / "store/org/m/r1")
    (tmp_path / "metrics").mkdir()
    return tmp_path / "store"


def publish(folder, files=None):
    write_source(folder, FILES if files is None else files)


def verify(store, days=1):
    return agent.main(["--root", str(store), "--days", str(days), "--metrics-dir", str(store.parent / "metrics")])


def metrics(store):
    lines = (store.parent / "metrics" / agent.METRIC).read_text().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_a_right_store_is_told_to_be_right(store, capsys):
    assert verify(store) == 0
    seen = metrics(store)
    assert (seen["idc_llm_store_files_verified"], seen["idc_llm_store_files_wrong"]) == ("4", "0")
    assert int(seen["idc_llm_store_verified_timestamp_seconds"]) > 1e9
    assert "read 4 of 4 files, 3000012 bytes" in capsys.readouterr().out
    assert (store.parent / "metrics" / agent.METRIC).stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(store.parent / "metrics")) == [agent.METRIC], "a temporary file was left"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda file: file.write_bytes(b"B" * 10), "its sha256 is"),
        (lambda file: file.write_bytes(b"b" * 9), "it is 9 bytes, wanted 10"),
        (lambda file: file.unlink(), "it cannot be read: No such file"),
    ],
)
def test_a_wrong_file_is_named_until_it_is_right_again(store, capsys, harm, words):
    assert verify(store) == 0
    harm(store / "org/m/r1/model-2.safetensors")
    assert verify(store) == 1
    assert f"{store}/org/m/r1/model-2.safetensors: {words}" in capsys.readouterr().err
    assert (metrics(store)["idc_llm_store_files_verified"], metrics(store)["idc_llm_store_files_wrong"]) == ("3", "1")
    assert verify(store, days=4) == 1, "another day's part is right, and the file is still wrong"
    (store / "org/m/r1/model-2.safetensors").write_bytes(b"b" * 10)
    assert verify(store) == 0
    assert metrics(store)["idc_llm_store_files_wrong"] == "0"


def test_each_file_is_read_once_in_so_many_days(store, capsys):
    seen = []
    for _day in range(4):
        before = agent.read_notes(str(store / agent.NOTES))
        assert verify(store, days=4) == 0
        after = agent.read_notes(str(store / agent.NOTES))
        seen += [name for name, note in after.items() if before.get(name) != note]
    assert sorted(seen) == sorted(f"org/m/r1/{name}" for name in FILES)
    assert capsys.readouterr().out.count("read 1 of 4 files") == 4


@pytest.mark.parametrize(("count", "days", "wanted"), [(163, 7, 24), (3, 7, 1), (7, 7, 1), (8, 7, 2), (0, 7, 0), (5, 0, 5)])
def test_a_part_is_rounded_up(count, days, wanted):
    files = [agent.File(f"f{n}", 1, "", "") for n in range(count)]
    assert len(agent.choose(files, {}, days)) == wanted


def test_what_was_never_read_comes_first_then_what_was_read_longest_ago():
    files = [agent.File(name, 1, "", "") for name in "abcd"]
    notes = {"a": agent.Note(30.0), "b": agent.Note(10.0), "d": agent.Note(20.0)}
    assert [file.path for file in agent.choose(files, notes, 1)] == ["c", "b", "d", "a"]


def test_a_revision_that_is_being_changed_or_went_away_is_not_wrong(store, monkeypatch):
    (store / "org/m/r1/config.json").write_bytes(b"under way")
    (store / "org/m/.lock-r1").write_text("{}")
    assert verify(store) == 0
    (store / "org/m/.lock-r1").unlink()
    right = agent.problem

    def remove(root, file):
        (store / "org/m/r1/manifest.json").unlink(missing_ok=True)
        return right(root, file)

    monkeypatch.setattr(agent, "problem", remove)
    assert verify(store) == 0


def test_hidden_folders_are_not_read(store):
    publish(store / "org/m/.partial-r2", {"half": b"1"})
    (store / "org/m/.partial-r2/half").write_bytes(b"2")
    assert verify(store) == 0
    assert list(agent.revisions(str(store))) == ["org/m/r1"]


@pytest.mark.parametrize(
    "text", ["torn", "[]", '{"files": [{"path": "x"}]}', '{"files": [{"path": "../../x", "size": 1, "sha256": "0"}]}',
             '{"files": [{"path": "/etc/x", "size": 1, "sha256": "0"}]}']
)
def test_a_manifest_that_is_none_is_wrong_itself(store, capsys, text):
    (store / "org/m/r1/manifest.json").write_text(text)
    assert verify(store) == 1
    assert "org/m/r1/manifest.json: it cannot be read" in capsys.readouterr().err


def test_what_left_the_store_leaves_the_notes(store):
    publish(store / "org/m/r2", {"x": b"x"})
    assert verify(store) == 0 and metrics(store)["idc_llm_store_files_verified"] == "5"
    for name in ("x", "manifest.json"):
        (store / "org/m/r2" / name).unlink()
    assert verify(store) == 0 and metrics(store)["idc_llm_store_files_verified"] == "4"


def test_torn_notes_are_begun_anew(store):
    (store / agent.NOTES).write_text('{"files": {"a": 1}}')
    assert verify(store) == 0
    assert len(agent.read_notes(str(store / agent.NOTES))) == 4


def test_without_a_store_it_says_so(tmp_path, capsys):
    assert agent.main(["--root", str(tmp_path / "none")]) == 2
    assert "cannot be verified" in capsys.readouterr().err


def test_a_metric_that_cannot_be_written_is_an_error_and_leaves_nothing(store, monkeypatch):
    monkeypatch.setattr(agent.base.os, "rename", lambda *_names: (nothing for nothing in ()).throw(OSError("no")))
    assert verify(store) == 2
    assert os.listdir(store.parent / "metrics") == []


def test_it_runs_by_itself(store):
    command = [sys.executable, "-I", agent.__file__, "--root", str(store), "--days", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
