# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_fetch, state present, against a real HTTP server in this process and real files."""
from __future__ import annotations

import hashlib
import json
import os
import time

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _model_fetch, _source
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

from tests.support.model_source import FILES, REVISION, contents, published, write_source


def test_a_folder_is_fetched_proven_and_published(tmp_path, fetch, model):
    source = write_source(tmp_path / "a b").as_uri()
    old = os.umask(0o077)
    try:
        result = fetch(source)
    finally:
        os.umask(old)
    assert result["changed"] is True
    assert (result["files"], result["bytes"]) == (4, sum(map(len, FILES.values())))
    assert (result["fetched_files"], result["fetched_bytes"]) == (4, result["bytes"])
    assert (result["sources"], result["rejected"], result["path"]) == ([source], [], str(model / REVISION))
    assert published(model) == FILES
    rows = json.loads((model / REVISION / "manifest.json").read_text())["files"]
    assert rows[0] == {
        "path": "config.json",
        "size": 8,
        "sha256": hashlib.sha256(FILES["config.json"]).hexdigest(),
        "source": source,
    }
    for path in (tmp_path / "store").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_a_second_run_reads_no_weights_and_asks_no_source(tmp_path, fetch, monkeypatch):
    fetch(write_source(tmp_path / "src").as_uri())

    def opened(*_args, **_kwargs):
        raise AssertionError("no weights and no source may be read")

    monkeypatch.setattr(_source.Remote, "open", opened)
    monkeypatch.setattr(_model_fetch, "prove", opened)
    monkeypatch.setattr(_model_fetch, "sha256_of_all", opened)
    result = fetch("http://127.0.0.1:9/gone")
    assert (result["changed"], result["files"], result["fetched_bytes"]) == (False, 4, 0)


def test_http_gets_the_token_and_is_asked_once_per_file(tmp_path, fetch, model, serve):
    server = serve(write_source(tmp_path / "src"))
    fetch(server.url + "/", token="hub-secret")
    assert published(model) == FILES
    assert sorted(path for path, _auth in server.seen) == sorted(["/manifest.json", *("/" + p for p in FILES)])
    assert {auth for _path, auth in server.seen} == {"Bearer hub-secret"}


def test_a_redirect_does_not_carry_the_token_away(tmp_path, fetch, model, serve):
    behind = serve(write_source(tmp_path / "src"))
    front = serve(tmp_path)
    front.redirect = behind.url
    fetch(front.url, token="hub-secret")
    assert published(model) == FILES
    assert {auth for _path, auth in front.seen} == {"Bearer hub-secret"}
    assert {auth for _path, auth in behind.seen} == {None}


def test_wrong_bytes_are_deleted_and_the_second_source_wins(tmp_path, fetch, model, serve):
    bad = serve(write_source(tmp_path / "bad", {**FILES, "config.json": b'{"a": 2}'}, listed=FILES))
    good = write_source(tmp_path / "good").as_uri()
    result = fetch(bad.url, good)
    assert published(model) == FILES
    assert result["sources"] == [bad.url, good]
    assert [(row["source"], row["path"]) for row in result["rejected"]] == [(bad.url, "config.json")]
    assert "sha256" in result["rejected"][0]["reason"]
    rows = {r["path"]: r["source"] for r in json.loads((model / REVISION / "manifest.json").read_text())["files"]}
    assert rows["config.json"] == good
    assert rows["model-00001.safetensors"] == bad.url


@pytest.mark.parametrize(
    ("data", "reason"), [(b'{"a": 11}', "longer than 8"), (b"{}", "2 bytes, wanted 8"), (b'{"a": 2}', "sha256")]
)
def test_nothing_is_published_when_the_only_source_is_wrong(tmp_path, fetch, model, data, reason):
    source = write_source(tmp_path / "bad", {**FILES, "config.json": data}, listed=FILES).as_uri()
    with pytest.raises(IdcError, match=reason) as caught:
        fetch(source)
    assert caught.value.code == "IDC-FETCH-024"
    assert caught.value.details["rejected"][0]["path"] == "config.json"
    assert not (model / REVISION).exists()
    assert [p.name for p in (model / f".partial-{REVISION}").glob("config.json*")] == []


def test_a_missing_file_is_404_and_what_is_proven_is_kept(tmp_path, fetch, model, serve):
    folder = write_source(tmp_path / "src")
    server = serve(folder)
    (folder / "config.json").unlink()
    with pytest.raises(IdcError, match=r"IDC-FETCH-005.*config\.json.*HTTP 404"):
        fetch(server.url)
    assert not (model / REVISION).exists()
    (folder / "config.json").write_bytes(FILES["config.json"])
    server.seen.clear()
    result = fetch(server.url)
    assert (result["fetched_files"], result["fetched_bytes"]) == (1, 8)
    assert [path for path, _auth in server.seen] == ["/manifest.json", "/config.json"]
    assert published(model) == FILES


def test_what_is_kept_is_proven_again(tmp_path, fetch, model):
    left = model / f".partial-{REVISION}"
    (left / "sub").mkdir(parents=True)
    (left / "config.json").write_bytes(b'{"a": 9}')  # right size, wrong bytes
    (left / "empty").write_bytes(b"")  # right
    (left / "model-00001.safetensors").write_bytes(b"w" * 7)  # cut
    (left / "stray").write_bytes(b"x")
    (left / "old" / "deep").mkdir(parents=True)
    (left / "sub" / "tokenizer.json").symlink_to("/etc/hostname")
    result = fetch(write_source(tmp_path / "src").as_uri())
    assert result["fetched_files"] == 3
    assert published(model) == FILES
    assert not (model / REVISION / "old").exists()


def test_a_linked_folder_in_what_is_kept_is_not_followed(tmp_path, fetch, model):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "tokenizer.json").write_bytes(FILES["sub/tokenizer.json"])
    left = model / f".partial-{REVISION}"
    left.mkdir(parents=True)
    (left / "sub").symlink_to(outside)
    fetch(write_source(tmp_path / "src").as_uri())
    assert published(model) == FILES
    assert not (model / REVISION / "sub").is_symlink()
    assert contents(outside) == {"tokenizer.json": FILES["sub/tokenizer.json"]}


def test_a_cut_stream_is_rejected(tmp_path, fetch, model, serve):
    bad = serve(write_source(tmp_path / "src"))
    bad.truncated.add("/model-00001.safetensors")
    result = fetch(bad.url, write_source(tmp_path / "good").as_uri())
    assert [row["path"] for row in result["rejected"]] == ["model-00001.safetensors"]
    assert published(model) == FILES


def test_a_source_that_stalls_is_given_up_after_the_timeout(tmp_path, fetch, model, serve):
    slow = serve(write_source(tmp_path / "src"))
    slow.stalled.add("/model-00001.safetensors")
    began = time.monotonic()
    result = fetch(slow.url, write_source(tmp_path / "good").as_uri(), timeout=1)
    assert time.monotonic() - began < 30, "the server would be silent for ever"
    assert [row["path"] for row in result["rejected"]] == ["model-00001.safetensors"]
    assert published(model) == FILES


@pytest.mark.parametrize("path", ["../../outside", "/tmp/outside", "a/../../b"])
def test_a_manifest_that_climbs_out_is_refused_whole(tmp_path, fetch, model, path):
    source = write_source(tmp_path / "src")
    rows = [{"path": p, "size": 1, "sha256": "a" * 64} for p in ("fine", path)]
    (source / "manifest.json").write_text(json.dumps({"files": rows}))
    with pytest.raises(IdcError, match="IDC-FETCH-003.*safe relative path"):
        fetch(source.as_uri())
    assert not model.exists()


def test_a_source_without_manifest_is_passed_over(tmp_path, fetch, model, serve):
    (tmp_path / "none").mkdir()
    server = serve(tmp_path / "none")
    good = write_source(tmp_path / "good").as_uri()
    result = fetch("file:///nonexistent", server.url, good)
    assert [row["reason"] for row in result["rejected"]] == ["No such file or directory", "HTTP 404 File not found"]
    assert result["sources"] == [good]
    assert [path for path, _auth in server.seen] == ["/manifest.json"]


@pytest.mark.parametrize(("sources", "text"), [((), "no source is given"), (("http://127.0.0.1:9/x",), "refused")])
def test_no_source_has_a_manifest(fetch, model, sources, text):
    with pytest.raises(IdcError, match="IDC-FETCH-003.*" + text):
        fetch(*sources)
    assert not model.exists()


@pytest.mark.parametrize(
    "source",
    ["/srv/x", "ftp://h/x", "http://user:hidden@h/x", "https:///x", "file://h/x", "http://h:x/", "http://h/x?a=b"],
)
def test_sources_that_cannot_be_used(fetch, source):
    with pytest.raises(IdcError, match="IDC-FETCH-002.*number 2") as caught:
        fetch("file:///ok", source)
    assert "hidden" not in str(caught.value)


def test_a_fifo_as_source_does_not_hold_the_run(tmp_path, fetch):
    source = write_source(tmp_path / "src")
    (source / "config.json").unlink()
    os.mkfifo(source / "config.json")
    with pytest.raises(IdcError, match="not a regular file"):
        fetch(source.as_uri())


@pytest.mark.parametrize("check_mode", [False, True])
def test_space_is_checked_before_the_first_byte(tmp_path, fetch, model, serve, check_mode):
    server = serve(write_source(tmp_path / "src"))
    with pytest.raises(IdcError, match=r"IDC-FETCH-004.*300\.0 kB for the files and 1000000\.0 TB to spare"):
        fetch(server.url, min_free=10**18, check_mode=check_mode)
    assert [path for path, _auth in server.seen] == ["/manifest.json"]
    assert not (model / REVISION).exists()
