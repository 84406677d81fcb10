# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_fetch from hubs: both faces of the double, commits, pages, mixtures, tokens, metadata."""
from __future__ import annotations

import hashlib
import json
import secrets

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _download, _origin
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._source import SourceError

from tests.support.hub import Hub, make_model
from tests.support.make_tiny_model import CONFIG, model_files
from tests.support.model_source import REVISION, contents, write_source

MODEL = "demo/tiny"
SHARD = "model-00001.safetensors"
FILES = {
    "config.json": b'{"a": 1}',
    SHARD: b"w" * 300_000,
    "sub/tokenizer.json": b"{}" * 800,
    "LICENSE": b"MIT",
    "empty": b"",
}
FACES = ("hf", "modelscope")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "hub"


@pytest.fixture
def commit(root):
    """The commit of FILES, on main."""
    return make_model(root, MODEL, FILES)


@pytest.fixture
def hub(root, commit):
    """The double, with a model on it."""
    with Hub(root) as running:
        yield running


def there(model, revision):
    """What is published, but for the manifest, and the manifest."""
    files = contents(model / revision)
    return {p: d for p, d in files.items() if p != "manifest.json"}, json.loads(files["manifest.json"])


@pytest.mark.parametrize("face", FACES)
def test_a_branch_is_resolved_fetched_proven_and_named_as_it_was_asked_for(fetch, model, hub, commit, face):
    source = f"{face}+{hub.url}"
    result = fetch(source, revision="main")
    assert (result["changed"], result["commit"], result["moved"], result["fetched_files"]) == (True, commit, False, 5)
    files, manifest = there(model, "main")
    assert files == FILES
    assert (manifest["commit"], manifest["license"]) == (commit, "LICENSE")
    for row in manifest["files"]:
        assert row["sha256"] == hashlib.sha256(FILES[row["path"]]).hexdigest()
        assert row["source"] == source
    assert fetch("file:///nowhere", revision="main", state="verified")["files"] == 5
    hub.forget()
    assert fetch(source, revision="main")["changed"] is False
    assert hub.log == ()


def test_the_bare_names_take_the_endpoints_and_no_other_hub_is_asked(root, fetch, hub, commit, tmp_path):
    with Hub(root) as other:
        result = fetch("modelscope", "hf", revision=commit, hf_endpoint=other.url, modelscope_endpoint=hub.url + "/")
        assert result["sources"] == ["modelscope"]
        assert other.log == ()
        write_source(tmp_path / "disk", FILES)
        fetch((tmp_path / "disk").as_uri(), "hf", revision="r2", hf_endpoint=other.url)
        assert other.log == ()


@pytest.mark.parametrize("face", FACES)
def test_a_branch_that_moves_in_mid_fetch_changes_nothing(root, fetch, model, hub, commit, face):
    def moves():
        make_model(root, MODEL, {**FILES, "config.json": b'{"b": 2}', SHARD: b"v" * 300_000})

    hub.fault(SHARD, call=moves, face=face)
    result = fetch(f"{face}+{hub.url}", revision="main", jobs=1)
    assert there(model, "main")[0] == FILES
    assert (result["commit"], result["rejected"]) == (commit, [])


@pytest.mark.parametrize("face", FACES)
def test_what_is_published_stays_when_the_branch_moved_even_when_it_is_repaired(root, fetch, model, hub, commit, face):
    source = f"{face}+{hub.url}"
    fetch(source, revision="main")
    newer = make_model(root, MODEL, {**FILES, "config.json": b'{"b": 2}'})
    assert fetch(source, revision="main")["changed"] is False
    (model / "main" / "config.json").unlink()
    result = fetch(source, revision="main")
    assert (result["commit"], result["moved"], result["hub_commit"]) == (commit, True, newer)
    assert (result["fetched_files"], there(model, "main")[0]) == (1, FILES)


def test_a_hub_that_does_not_tell_its_commit_has_not_moved(root, fetch, model, hub, commit):
    """ModelScope's last commit removed a file, so no file has its whole name."""
    source = f"modelscope+{hub.url}"
    fetch(source, revision="main")
    make_model(root, MODEL, {path: data for path, data in FILES.items() if path != "LICENSE"})
    (model / "main" / "config.json").unlink()
    result = fetch(source, revision="main")
    assert (result["commit"], result["moved"], result["hub_commit"]) == (commit, False, None)
    assert there(model, "main")[0] == FILES


def test_pages_of_a_list_are_all_read_at_the_endpoint_that_was_asked(root, fetch, model):
    make_model(root, MODEL, {f"f{number:02}": b"x" for number in range(25)})
    with Hub(root, page=10) as hub:
        hub.site.url = "http://127.0.0.1:9"  # the next page is named at another host, as mirrors do
        fetch(f"hf+{hub.url}", revision="main")
        assert len(there(model, "main")[0]) == 25


def test_a_list_of_modelscope_that_may_be_cut_is_asked_for_by_folder(root, fetch, model, monkeypatch):
    files = {f"{folder}/{number}": b"x" for folder in "abc" for number in range(4)}
    files["b/deep/9"] = b"y"
    make_model(root, MODEL, {**files, "top": b"z"})
    monkeypatch.setattr(_origin, "LIST_LIMIT", 8)
    with Hub(root, list_cap=8) as hub:
        fetch(f"modelscope+{hub.url}", revision="master")
        assert there(model, "master")[0] == {**files, "top": b"z"}


def test_a_folder_that_no_list_shows_whole_is_refused(root, fetch, monkeypatch):
    make_model(root, MODEL, {f"f{number}": b"x" for number in range(9)})
    monkeypatch.setattr(_origin, "LIST_LIMIT", 8)
    said = "IDC-FETCH-003.*folder / stops at 8 entries, so files are missing"
    with Hub(root, list_cap=8) as hub, pytest.raises(IdcError, match=said):
        fetch(f"modelscope+{hub.url}", revision="master")


def test_a_hub_that_does_not_know_the_revision_gives_what_is_the_same(tmp_path, root, fetch, model, hub, commit):
    """ModelScope has commits of its own: its files count by their sha256."""
    make_model(tmp_path / "other", MODEL, {**FILES, "config.json": b'{"other": 1}', "LICENSE": b"else"})
    disk = write_source(tmp_path / "disk", {"config.json": FILES["config.json"], "LICENSE": b"MIT"}, listed=FILES).as_uri()
    with Hub(tmp_path / "other") as other:
        result = fetch(disk, f"modelscope+{other.url}", f"hf+{hub.url}", revision=commit)
        assert there(model, commit)[0] == FILES
        assert result["sources"] == [disk, f"modelscope+{other.url}"]
        assert {one.path for one in other.log if one.content} == {SHARD, "sub/tokenizer.json", "empty"}
        assert hub.log == ()


def test_of_such_a_hub_a_file_that_differs_is_not_even_asked_for(tmp_path, fetch, hub, commit):
    make_model(tmp_path / "other", MODEL, {**FILES, SHARD: b"v" * 300_000})
    disk = write_source(tmp_path / "disk", {p: d for p, d in FILES.items() if p != SHARD}, listed=FILES).as_uri()
    with Hub(tmp_path / "other") as other:
        result = fetch(disk, f"modelscope+{other.url}", f"hf+{hub.url}", revision=commit)
        assert result["sources"] == [disk, f"hf+{hub.url}"]
        assert not any(one.content for one in other.log)
        assert "default branch has no such file" in result["rejected"][1]["reason"]


@pytest.mark.parametrize("faces", [("hf", "modelscope"), ("modelscope", "hf")])
def test_sources_are_mixed_file_by_file(tmp_path, root, fetch, model, hub, commit, faces):
    first, second = (f"{face}+{hub.url}" for face in faces)
    hub.fault(SHARD, face="cdn", status=404, count=1)
    result = fetch(first, second, revision=commit)
    assert there(model, commit)[0] == FILES
    rows = {row["path"]: row["source"] for row in there(model, commit)[1]["files"]}
    assert (rows[SHARD], rows["config.json"]) == (second, first)
    assert result["sources"] == [first, second]


def test_a_carried_disk_then_the_hub(tmp_path, fetch, model, hub, commit):
    disk = write_source(tmp_path / "disk", {**FILES, SHARD: b"x" * 300_000}, listed=FILES).as_uri()
    result = fetch(disk, f"hf+{hub.url}", revision=commit)
    assert there(model, commit)[0] == FILES
    assert [row["path"] for row in result["rejected"]] == [SHARD]
    assert [one.path for one in hub.log if one.content] == [SHARD]


def test_a_carried_disk_without_a_manifest_is_hashed_as_it_is_read(tmp_path, fetch, model):
    disk = write_source(tmp_path / "disk", FILES)
    (disk / "manifest.json").unlink()
    (disk / ".cache").mkdir()
    (disk / ".cache" / "x").write_bytes(b"x")
    listed = fetch(disk.as_uri(), state="listed")["manifest"]
    assert {row["path"]: row["sha256"] for row in listed["files"]} == dict.fromkeys(FILES)
    fetch(disk.as_uri())
    files, manifest = there(model, REVISION)
    assert files == FILES
    assert {r["path"]: r["sha256"] for r in manifest["files"]} == {p: hashlib.sha256(d).hexdigest() for p, d in FILES.items()}
    (disk / "config.json").unlink()
    with pytest.raises(IdcError, match="IDC-FETCH-003.*No such file"):
        fetch(disk.as_uri(), revision="r2")


def test_what_was_read_before_from_such_a_disk_is_kept(tmp_path, fetch, model):
    disk = write_source(tmp_path / "disk", FILES)
    (disk / "manifest.json").unlink()
    (disk / "sub" / "tokenizer.json").chmod(0)
    (disk / "sub" / "tokenizer.json").rename(tmp_path / "aside")
    (disk / "sub" / "tokenizer.json").symlink_to("/proc/self/mem")  # listed as a file, and nobody can read it
    with pytest.raises(IdcError):
        fetch(disk.as_uri())
    (disk / "sub" / "tokenizer.json").unlink()
    (tmp_path / "aside").rename(disk / "sub" / "tokenizer.json")
    assert fetch(disk.as_uri())["fetched_files"] == 1
    assert there(model, REVISION)[0] == FILES


def test_two_such_disks_are_never_mixed_in_one_file(tmp_path, fetch, model, monkeypatch):
    """Nothing would tell: neither of them says what the bytes should be."""
    real, calls = _download.read_into, []

    def read_into(stream, view):
        calls.append(stream.name)
        if calls.count(stream.name) == 2 and len(set(calls)) == 1:
            raise SourceError("Input/output error")
        return real(stream, view)

    disks = []
    for name in "ab":
        disk = write_source(tmp_path / name, {"config.json": b"", "m.safetensors": name.encode() * 600_000})
        (disk / "manifest.json").unlink()
        disks.append(disk.as_uri())
    monkeypatch.setattr(_download, "read_into", read_into)
    result = fetch(*disks, include=["m.*"], jobs=1)
    assert there(model, REVISION)[0] == {"m.safetensors": b"b" * 600_000}
    assert (result["sources"], result["rejected"][0]["reason"]) == (disks[1:], "Input/output error")


@pytest.mark.parametrize("face", FACES)
def test_metadata_comes_from_hubs_by_ranges(root, fetch, face):
    make_model(root, MODEL, {**model_files(0), "big.bin": 4 << 20})
    with Hub(root) as hub:
        result = fetch(f"{face}+{hub.url}", state="listed", metadata=True, revision="main")
        assert result["metadata"]["config"] == CONFIG
        assert len(result["metadata"]["weights"]["tensors"]) == 23
        assert [one.range for one in hub.log if one.content and one.path == "model.safetensors"][0].startswith("bytes=0-")
        assert "big.bin" not in {one.path for one in hub.log if one.content}
        assert "big.bin" not in {row["path"] for row in result["manifest"]["files"]}


def test_include_and_exclude(root, fetch, model):
    files = {**FILES, "pytorch_model.bin": b"b", "original/x.pth": b"p", "sub/y.onnx": b"o"}
    make_model(root, MODEL, files)
    with Hub(root) as hub:
        source = f"hf+{hub.url}"
        fetch(source, revision="main")
        assert set(there(model, "main")[0]) == set(FILES)
        make_model(root, MODEL, files, ref="v2")
        fetch(source, revision="v2", exclude=[])
        assert set(there(model, "v2")[0]) == set(files)
        make_model(root, MODEL, files, ref="v3")
        fetch(source, revision="v3", include=["*.json", "original/"], exclude=["config*"])
        assert set(there(model, "v3")[0]) == {"sub/tokenizer.json", "original/x.pth"}
        with pytest.raises(IdcError, match="IDC-FETCH-022: include and exclude leave none of the 8 files"):
            fetch(source, revision="v3", include=["*.nothing"], root=str(model))


def test_a_gated_model_needs_the_token_which_goes_to_its_hub_alone(root, fetch, model, commit):
    token = secrets.token_hex(8)
    with Hub(root, tokens=[token]) as hub:
        hub.guard(MODEL, "gated", [token])
        with pytest.raises(IdcError, match=r"IDC-FETCH-015.*HTTP 401 .*Access to model demo/tiny is restricted") as caught:
            fetch(f"hf+{hub.url}", revision="main")
        assert not (model / "main").exists()
        assert len(caught.value.details["rejected"]) >= 1
        fetch(f"hf+{hub.url}", revision="main", token=token)
        assert there(model, "main")[0] == FILES
        assert not any(one.auth for one in hub.log if one.face == "cdn")
        hub.forget()
        with pytest.raises(IdcError, match="IDC-FETCH-015"):
            fetch(f"modelscope+{hub.url}", revision="v9", token=token)
        assert not any(one.auth for one in hub.log)
        fetch(f"modelscope+{hub.url}", revision=commit, modelscope_token=token)
        assert there(model, commit)[0] == FILES


def test_check_mode_names_files_bytes_and_sources(fetch, hub, commit, tmp_path):
    result = fetch(f"hf+{hub.url}", revision="main", check_mode=True)
    assert {row["path"]: (row["size"], row["source"]) for row in result["would_fetch"]} == {
        path: (len(data), f"hf+{hub.url}") for path, data in FILES.items()
    }
    assert (result["fetched_bytes"], result["commit"]) == (sum(map(len, FILES.values())), commit)
    assert not any(one.content for one in hub.log)
    assert not (tmp_path / "store").exists()
