# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub double stays faithful: huggingface_hub and modelscope-hub themselves download from it, and fail as they should."""
from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import sys
from collections import Counter
from pathlib import Path

import huggingface_hub as hf
import modelscope_hub as ms
import pytest
from ansible_collections.idc.llm.tests.support.hub import Hub, make_model
from huggingface_hub import errors
from huggingface_hub.utils._runtime import is_xet_available
from modelscope_hub import _legacy_api

MODEL = "deepseek/tiny"
BIG = 3 << 20
FILES = {
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "config.json": b'{"model_type": "tiny"}\n',
    "empty.txt": b"",
    "inference/a b+c%.json": b"[]",
    "vocab.json": b'"word", ' * 1000,
    "model-00001-of-00002.safetensors": BIG,
    "model-00002-of-00002.safetensors": BIG // 2,
}
SHARD = "model-00001-of-00002.safetensors"
BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Nobody's tokens, caches or proxies."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "MODELSCOPE_"))]:
        monkeypatch.delenv(name)
    names = {"HOME": "home", "HF_HOME": "hf", "MODELSCOPE_HOME": "ms", "MODELSCOPE_CACHE": "ms-cache"}
    for name, folder in names.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_HUB_DISABLE_UPDATE_CHECK", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The models; tests that change one make their own."""
    folder = tmp_path_factory.mktemp("models")
    make_model(folder, MODEL, FILES)
    return folder


@pytest.fixture
def hub(root):
    """A hub that knows one user without rights to anything and one with."""
    with Hub(root, tokens=[secrets.token_hex(16)], page=3) as running:
        yield running


def snapshot(hub, target, **options):
    """huggingface_hub's own download of a model into ``target``."""
    given = {"endpoint": hub.url, "cache_dir": target, "token": False, **options}
    return Path(hf.snapshot_download(given.pop("repo_id", MODEL), **given))


def scope(hub, target, token=None):
    """modelscope-hub's own client."""
    return ms.HubApi(ms.HubConfig(endpoint=hub.url, token=token, cache_dir=target, config_dir=target))


def wanted(hub, revision="main"):
    """path → sha256 of a model's files."""
    return {file.path: file.sha256 for file in hub.site.store.commit(MODEL, revision).files}


def found(folder):
    """path → sha256 of the files that a client left, its own notes aside."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.relative_to(folder).parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(*command, **environment):
    """A client's command line program: status, and everything that it wrote."""
    options = {"env": {**os.environ, **environment}, "capture_output": True, "text": True, "timeout": 60}
    result = subprocess.run([BIN / command[0], *command[1:]], check=False, **options)
    return result.returncode, result.stdout + result.stderr


# --- Hugging Face


def test_snapshot_download_gets_the_model_each_byte_once_by_plain_http(hub, tmp_path):
    assert is_xet_available(), "with Xet at hand, only the double's answers can lead to plain HTTP"
    folder = snapshot(hub, tmp_path / "cache")
    assert folder.name == hub.site.store.refs(MODEL)["main"]
    assert found(folder) == wanted(hub)
    bodies = [one for one in hub.log if one.content and one.method == "GET"]
    sizes = {file.path: file.size for file in hub.site.store.commit(MODEL, "main").files}
    vocab = next(one for one in hub.log if one.path == "vocab.json" and one.status == 200 and one.method == "GET")
    assert 0 < vocab.sent < sizes.pop("vocab.json"), "packed, as the client accepts gzip"
    assert {one.path: one.sent for one in bodies} == {path: size for path, size in sizes.items() if size}
    assert set(Counter(one.path for one in bodies).values()) == {1}
    assert {one.path for one in bodies if one.face == "cdn"} == {path for path in sizes if path.endswith("safetensors")}
    assert sum("/tree/" in one.path for one in hub.log) == 3, "eight entries in pages of three"
    assert not any(one.status >= 400 for one in hub.log)


def test_a_snapshot_stays_at_its_commit_when_the_branch_moves_in_the_middle(tmp_path):
    old = make_model(tmp_path / "models", MODEL, FILES)
    new = make_model(tmp_path / "models", MODEL, {**FILES, SHARD: 1000, "config.json": b"{}"}, ref="next")
    with Hub(tmp_path / "models") as hub:
        hub.fault("config.json", call=lambda: hub.move(MODEL, "main", new))
        folder = snapshot(hub, tmp_path / "cache", max_workers=1)
        assert (folder.name, found(folder)) == (old, wanted(hub, old))
        folder = snapshot(hub, tmp_path / "cache")
        assert (folder.name, found(folder)) == (new, wanted(hub, new))


def test_model_info_tree_and_refs_are_read_by_the_client(hub):
    api = hf.HfApi(endpoint=hub.url, token=False)
    commit = hub.site.store.commit(MODEL, "main")
    info = api.model_info(MODEL, files_metadata=True)
    assert (info.sha, info.gated, info.private) == (commit.id, False, False)
    rows = {one.rfilename: (one.size, one.blob_id, one.lfs and one.lfs.sha256) for one in info.siblings}
    assert rows == {file.path: (file.size, file.oid, file.sha256 if file.lfs else None) for file in commit.files}
    entries = list(api.list_repo_tree(MODEL, recursive=True))
    rows = {one.path: (one.size, one.blob_id, one.lfs and one.lfs.sha256) for one in entries if isinstance(one, hf.RepoFile)}
    assert rows == {file.path: (file.size, file.oid, file.sha256 if file.lfs else None) for file in commit.files}
    assert [one.path for one in entries if isinstance(one, hf.RepoFolder)] == ["inference"]
    assert [one.path for one in api.list_repo_tree(MODEL, "inference")] == ["inference/a b+c%.json"]
    assert [(one.name, one.target_commit) for one in api.list_repo_refs(MODEL).branches] == [("main", commit.id)]
    large = hf.get_hf_file_metadata(hf.hf_hub_url(MODEL, SHARD, endpoint=hub.url), token=False)
    assert (large.etag, large.size, large.commit_hash) == (commit.find(SHARD).sha256, BIG, commit.id)
    assert large.location.startswith(hub.cdn_url) and large.xet_file_data is None
    small = hf.get_hf_file_metadata(hf.hf_hub_url(MODEL, "config.json", endpoint=hub.url), token=False)
    assert (small.etag, small.size) == (commit.find("config.json").oid, len(FILES["config.json"]))


def test_gated_private_and_missing_raise_the_clients_own_errors(root, tmp_path):
    owner, other, nobody = (secrets.token_hex(16) for _number in range(3))
    gated, private = "org/gated", "org/private"
    for model in (gated, private):
        make_model(root, model, {"config.json": b"{}", "model.safetensors": 1000})
    with Hub(root, tokens=[other]) as hub:
        hub.guard(gated, "gated", [owner])
        hub.guard(private, "private", [owner])

        def get(model, name="model.safetensors", token=False, revision="main"):
            options = {"endpoint": hub.url, "cache_dir": tmp_path / "cache", "token": token, "revision": revision}
            return hf.hf_hub_download(model, name, **options)

        for token, status in ((False, 401), (nobody, 401), (other, 403)):
            with pytest.raises(errors.GatedRepoError, match="restricted") as caught:
                get(gated, token=token)
            assert caught.value.response.status_code == status
        hidden = [(model, token, 404 if token else 401) for model in (private, "org/none") for token in (False, other)]
        for model, token, status in hidden:
            with pytest.raises(errors.RepositoryNotFoundError) as caught:
                get(model, token=token)
            assert (caught.value.response.status_code, type(caught.value)) == (status, errors.RepositoryNotFoundError)
            with pytest.raises(errors.RepositoryNotFoundError):
                snapshot(hub, tmp_path / "cache", repo_id=model, token=token)
        with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials") as caught:
            get(MODEL, token=nobody)
        assert (caught.value.response.status_code, type(caught.value)) == (401, errors.HfHubHTTPError)
        with pytest.raises(errors.RevisionNotFoundError):
            get(MODEL, "config.json", revision="v9")
        with pytest.raises(errors.RevisionNotFoundError):
            snapshot(hub, tmp_path / "cache", revision="0" * 40)
        with pytest.raises(errors.RemoteEntryNotFoundError):
            get(MODEL, "nothing.json")
        assert hf.HfApi(endpoint=hub.url, token=False).model_info(gated).gated == "manual"
        hub.forget()
        for model in (gated, private):
            stored = hub.site.store.commit(model, "main").folder / "model.safetensors"
            assert Path(get(model, token=owner)).read_bytes() == stored.read_bytes()
        assert {one.auth for one in hub.log if one.face == "hf"} == {True}
        assert {one.auth for one in hub.log if one.face == "cdn"} == {False}, "a token must not reach the storage"


def test_cut_connections_are_resumed_and_429_waited_for(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hf.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 18)  # what the client has not in whole chunks it asks again
    hub.fault(SHARD, cut=1_000_000)
    hub.fault("model-00002*", face="cdn", status=429, retry_after="0")
    assert found(snapshot(hub, tmp_path / "cache")) == wanted(hub)
    parts = [one for one in hub.log if one.path == SHARD and one.content and one.method == "GET"]
    assert [(one.status, one.start, one.sent) for one in parts] == [(200, 0, 1_000_000), (206, 786_432, BIG - 786_432)]
    assert parts[1].range == "bytes=786432-"
    assert [one.status for one in hub.log if one.path.startswith("model-00002") and one.face == "cdn"] == [429, 200]


def test_wrong_length_is_seen_by_the_client_and_wrong_bytes_only_by_its_verification(hub, tmp_path):
    hub.fault(SHARD, length=-100)
    with pytest.raises(OSError, match="Consistency check failed"):
        snapshot(hub, tmp_path / "one")
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    hub.fault(SHARD, corrupt=BIG - 1)
    status, output = run("hf", "download", MODEL, "--local-dir", tmp_path / "two", **environment)
    assert status == 0, output
    assert [path for path, sha256 in found(tmp_path / "two").items() if sha256 != wanted(hub)[path]] == [SHARD]
    status, output = run("hf", "cache", "verify", MODEL, "--local-dir", tmp_path / "two", **environment)
    assert status != 0 and SHARD in output
    (tmp_path / "two" / SHARD).write_bytes((hub.site.store.commit(MODEL, "main").folder / SHARD).read_bytes())
    checked = hf.HfApi(endpoint=hub.url, token=False).verify_repo_checksums(MODEL, local_dir=tmp_path / "two")
    assert (checked.checked_count, checked.mismatches, checked.missing_paths) == (len(FILES), [], [])


# --- ModelScope


def test_modelscope_downloads_the_model_and_verifies_it(hub, tmp_path):
    api = scope(hub, tmp_path / "cache")
    folder = api.download_repo(MODEL, "model", local_dir=tmp_path / "out")
    assert found(Path(folder)) == wanted(hub)
    checked = api.verify_cache(MODEL, local_dir=folder)
    assert (checked.checked_count, checked.mismatches, checked.missing_paths) == (6, [], [".gitattributes"])
    large = [one for one in hub.log if one.path == SHARD]
    assert [(one.face, one.status, one.sent) for one in large] == [("modelscope", 302, 0), ("cdn", 200, BIG)]
    commit = hub.site.store.refs(MODEL)["main"]
    at_commit = api.download_file(MODEL, "model", "config.json", revision=commit, local_dir=tmp_path / "commit")
    assert Path(at_commit).read_bytes() == FILES["config.json"]
    assert [row["Revision"] for row in api.list_repo_revisions(MODEL, "model")] == ["master"]


def test_modelscope_files_name_the_commit_that_changed_them_last(tmp_path):
    old = make_model(tmp_path, MODEL, FILES)
    new = make_model(tmp_path, MODEL, {**FILES, "config.json": b"{}"})
    with Hub(tmp_path) as hub:
        rows = scope(hub, tmp_path / "cache").legacy.list_repo_files(MODEL, "model")
    assert {row["Path"]: row["Revision"] for row in rows if row["Type"] == "blob"} == {
        path: new if path == "config.json" else old for path in FILES
    }


def test_modelscope_lists_stop_silently_at_the_cap(tmp_path, monkeypatch):
    make_model(tmp_path, MODEL, {f"{folder}/{n:04}.json": b"" for folder in ("a", "b") for n in range(20)})
    with Hub(tmp_path) as hub:
        assert hub.site.list_cap == _legacy_api.REPO_FILES_TRUNCATION_LIMIT == 3000
        monkeypatch.setattr(_legacy_api, "REPO_FILES_TRUNCATION_LIMIT", 30)
        hub.site.list_cap = 30
        legacy = scope(hub, tmp_path / "cache").legacy
        page = legacy._list_files_page(MODEL, "model", "master", recursive=True)
        whole = legacy.list_repo_files(MODEL, "model")
    assert (len(page), len([row for row in whole if row["Type"] == "blob"])) == (30, 40)


def test_modelscope_tokens_and_missing_things_raise_the_clients_own_errors(root, tmp_path):
    owner, other, nobody = (secrets.token_hex(16) for _number in range(3))
    make_model(root, "org/own", {"model.safetensors": 1000})
    with Hub(root, tokens=[other]) as hub:
        hub.guard("org/own", "private", [owner])
        cases = [(None, ms.AuthenticationError), (nobody, ms.AuthenticationError), (other, ms.PermissionDeniedError)]
        for token, expected in cases:
            with pytest.raises(expected):
                scope(hub, tmp_path / "cache", token).download_repo("org/own", "model", local_dir=tmp_path / "out")
        for model, revision in (("org/none", None), (MODEL, "v9"), (MODEL, "main/x")):
            with pytest.raises(ms.NotExistError):
                scope(hub, tmp_path / "cache").download_repo(model, "model", revision=revision, local_dir=tmp_path / "out")
        with pytest.raises(ms.NotExistError):
            scope(hub, tmp_path / "cache").download_file(MODEL, "model", "nothing.json", local_dir=tmp_path / "out")
        hub.forget()
        scope(hub, tmp_path / "cache", owner).download_repo("org/own", "model", local_dir=tmp_path / "out")
        assert {one.auth for one in hub.log if "/repos/" not in one.path and one.face == "modelscope"} == {True}
        assert {one.auth for one in hub.log if one.face == "cdn"} == {False}, "a token must not reach the storage"
        assert (tmp_path / "out" / "model.safetensors").stat().st_size == 1000


def test_modelscope_resumes_a_cut_and_fetches_wrong_bytes_again(hub, tmp_path):
    hub.fault(SHARD, cut=2 << 20)
    hub.fault("model-00002*", corrupt=7)
    status, output = run("modelscope", "download", MODEL, "--local-dir", tmp_path / "out", MODELSCOPE_ENDPOINT=hub.url)
    assert status == 0, output
    assert found(tmp_path / "out") == wanted(hub)
    parts = [(one.start, one.sent) for one in hub.log if one.path == SHARD and one.content]
    assert sum(sent for _start, sent in parts) == BIG and parts[1] == (2 << 20, 1 << 20)
    assert hub.sent("model-00002-of-00002.safetensors") == 2 * (BIG // 2)
