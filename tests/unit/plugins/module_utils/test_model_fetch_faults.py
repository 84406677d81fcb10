# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_fetch when things go wrong: what is taken up again, what is said, and that nothing wrong is published."""
from __future__ import annotations

import json
import secrets
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.idc.llm.plugins.module_utils import _download, _fetch_engine, _source
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.modules import model_fetch

from tests.support.hub import Hub, make_model
from tests.support.model_source import contents, write_source

MODEL = "demo/tiny"
SHARD = "model-00001.safetensors"
SIZE = 3_000_000


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "hub"
    make_model(folder, MODEL, {"config.json": b'{"a": 1}', SHARD: SIZE})
    return folder


@pytest.fixture
def hub(root):
    """The double."""
    with Hub(root) as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that were asked for, which take no time here."""
    seen = []
    monkeypatch.setattr(_download.Line, "pause", lambda line, seconds: (seen.append(seconds), line.alive()))
    return seen


def right(model, root, revision="main"):
    """Whether all is published as the hub has it, and nothing is left beside."""
    wanted = next(folder for folder in (root / MODEL).iterdir() if folder.is_dir())
    files = contents(model / revision)
    files.pop("manifest.json")
    return files == contents(wanted) and [p.name for p in model.iterdir()] == [revision]


def nothing_published(model):
    return not model.exists() or not [p for p in model.iterdir() if not p.name.startswith(".")]


@pytest.mark.parametrize(
    "fault",
    [
        {"cut": 1_000_000, "count": 2},
        {"status": 503},
        {"status": 500, "count": 3},
        {"status": 429, "retry_after": "7"},
        {"cut": 2_000_000, "ignore_range": True},
        {"stall": 2, "after": 500_000},
    ],
)
def test_what_passes_is_waited_for_and_each_byte_comes_once(root, fetch, model, hub, pauses, fault):
    hub.fault(SHARD, face="cdn", **fault)
    result = fetch(f"hf+{hub.url}", revision="main", retries=5, timeout=1, jobs=1)
    assert right(model, root)
    assert (result["rejected"], result["fetched_bytes"]) == ([], SIZE + 8)
    assert len(pauses) == fault.get("count", 1)
    if "retry_after" in fault:
        assert 7 <= pauses[0] <= 8
    else:
        assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(pauses)) or all(pause <= 1 for pause in pauses)
    starts = [one.start for one in hub.log if one.path == SHARD and one.face == "cdn" and one.content]
    if "cut" in fault and not fault.get("ignore_range"):
        assert starts == [0, 1_000_000, 2_000_000]
        assert hub.sent(SHARD) == SIZE


def test_a_server_that_ignores_ranges_is_read_again_and_written_once(root, fetch, model, hub):
    hub.fault(SHARD, cut=1_000_000)
    hub.fault(SHARD, ignore_range=True)
    fetch(f"hf+{hub.url}", revision="main", retries=1)
    assert right(model, root)
    assert hub.sent(SHARD) == SIZE + 1_000_000


def test_patience_ends(fetch, model, hub, pauses):
    hub.fault(SHARD, face="cdn", status=503, count=None)
    with pytest.raises(IdcError, match=rf"IDC-FETCH-005: 1 file\(s\) .*{SHARD} from hf.*HTTP 503"):
        fetch(f"hf+{hub.url}", revision="main", retries=3)
    assert len(pauses) == 3
    assert nothing_published(model)


def test_who_asks_to_wait_too_long_is_given_up(fetch, model, hub, pauses):
    hub.fault(SHARD, face="cdn", status=429, retry_after="3600", count=None)
    with pytest.raises(IdcError, match="HTTP 429"):
        fetch(f"hf+{hub.url}", revision="main", retries=3)
    assert pauses == []


def test_a_date_to_wait_for(monkeypatch):
    monkeypatch.setattr(_source.time, "time", lambda: 784111767.0)
    assert _source._seconds("Sun, 06 Nov 1994 08:49:37 GMT") == 10
    assert [_source._seconds(text) for text in ("12", "soon", "", None)] == [12, None, None, None]


@pytest.mark.parametrize("fault", [{"corrupt": 1_500_000}, {"length": 5}, {"length": -5}])
def test_wrong_bytes_of_one_source_never_reach_the_folder(tmp_path, root, fetch, model, hub, fault):
    hub.fault(SHARD, count=None, face="hf", **fault)
    hub.fault(SHARD, count=None, face="cdn", **fault)
    wanted = next(folder for folder in (root / MODEL).iterdir() if folder.is_dir())
    good = write_source(tmp_path / "good", contents(wanted)).as_uri()
    result = fetch(f"hf+{hub.url}", good, revision="main", retries=2)
    assert right(model, root)
    assert [(row["source"], row["path"]) for row in result["rejected"]] == [(f"hf+{hub.url}", SHARD)]
    hub.forget()
    said = rf"IDC-FETCH-024: Every source has wrong bytes for 1 file\(s\) of demo/tiny {wanted.name}: {SHARD}"
    with pytest.raises(IdcError, match=said):
        fetch(f"hf+{hub.url}", revision=wanted.name, retries=2)
    assert sorted(p.name for p in model.iterdir()) == [f".partial-{wanted.name}", "main"]
    assert {p.name for p in (model / f".partial-{wanted.name}").iterdir()} == {"config.json", "manifest.json", "progress.json"}
    assert json.loads((model / f".partial-{wanted.name}" / "progress.json").read_text())["phase"] == "failed"


def test_wrong_bytes_before_a_cut_are_not_held_against_the_next_source(tmp_path, root, fetch, model, hub):
    """The first source breaks off for good after wrong bytes; the second is asked for the rest, then for all."""
    hub.fault(SHARD, face="cdn", corrupt=0, cut=1_000_000, count=1)
    hub.fault(SHARD, face="cdn", status=404, count=1)
    wanted = next(folder for folder in (root / MODEL).iterdir() if folder.is_dir())
    good = write_source(tmp_path / "good", contents(wanted)).as_uri()
    result = fetch(f"hf+{hub.url}", good, revision="main", retries=2)
    assert right(model, root)
    assert [row["reason"] for row in result["rejected"]] == ["HTTP 404 Not Found"]


def test_small_files_without_sha256_are_checked_by_gits_id(fetch, model, hub):
    hub.fault("config.json", corrupt=3, count=None)
    with pytest.raises(IdcError, match="IDC-FETCH-024.*config.json from hf.*its git id is .*wanted"):
        fetch(f"hf+{hub.url}", revision="main", retries=5)
    assert nothing_published(model)


@pytest.mark.parametrize("face", ["hf", "modelscope"])
def test_redirects_to_other_hosts_are_not_followed_where_that_is_forbidden(root, fetch, model, hub, face):
    source = f"{face}+{hub.url}"
    with pytest.raises(IdcError, match=rf"IDC-FETCH-015.*redirects to {hub.cdn_url[7:]}, and endpoint_only forbids"):
        fetch(source, revision="main", endpoint_only=True)
    assert not [one for one in hub.log if one.face == "cdn"]
    assert nothing_published(model)
    with Hub(root, redirect=False) as mirror:
        fetch(f"{face}+{mirror.url}", revision="main", endpoint_only=True)
    assert right(model, root)


@pytest.mark.parametrize(
    ("source", "more", "code", "said"),
    [
        ("hf+{url}", {"revision": "v9"}, "IDC-FETCH-016", "Invalid rev id: v9"),
        ("modelscope+{url}", {"revision": "v9"}, "IDC-FETCH-016", "HTTP 404"),
        ("hf+{url}", {"model": "demo/none"}, "IDC-FETCH-016", "Repository not found"),
        ("modelscope+{url}", {"model": "demo/none"}, "IDC-FETCH-016", "HTTP 404"),
        ("hf+{url}", {"token": "wrong"}, "IDC-FETCH-015", "Invalid credentials"),
        ("modelscope+{url}", {"modelscope_token": "wrong"}, "IDC-FETCH-015", "HTTP 401"),
        ("hf+https://hub.invalid", {}, "IDC-FETCH-017", "its name cannot be resolved"),
        ("https://hub.invalid/x", {}, "IDC-FETCH-017", "its name cannot be resolved"),
        ("hf+http://127.0.0.1:9", {}, "IDC-FETCH-003", "cannot be reached: .*refused"),
        ("hf+{url}/elsewhere", {}, "IDC-FETCH-016", "HTTP 404"),
    ],
)
def test_each_failure_is_one_clear_sentence(fetch, model, hub, source, more, code, said):
    params = {"revision": "main", **more}
    with pytest.raises(IdcError, match=rf"{code}: .*{said}") as caught:
        fetch(source.format(url=hub.url), **params)
    assert "\n" not in str(caught.value)
    assert "wrong" not in str(caught.value.details["rejected"])
    assert caught.value.render("zh").startswith(code)
    assert nothing_published(model)


def test_all_sources_are_named_when_they_fail_in_different_ways(tmp_path, fetch, hub):
    with pytest.raises(IdcError, match=r"IDC-FETCH-003.*file:///gone: No such file.*; hf\+http.*Invalid rev id"):
        fetch("file:///gone", f"hf+{hub.url}", revision="v9")


def test_tls_is_checked(tmp_path, root, fetch, model):
    pem = tmp_path / "hub.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1,IP:127.0.0.2", "-keyout", pem, "-out", tmp_path / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_bytes(pem.read_bytes() + (tmp_path / "ca.pem").read_bytes())
    with Hub(root, certificate=pem) as hub:
        with pytest.raises(IdcError, match="IDC-FETCH-018.*self.signed certificate"):
            fetch(f"hf+{hub.url}", revision="main")
        with pytest.raises(IdcError, match="IDC-FETCH-018.*CA file .*no such file"):
            fetch(f"hf+{hub.url}", revision="main", ca_path=str(tmp_path / "gone.pem"))
        assert nothing_published(model)
        fetch(f"hf+{hub.url}", revision="main", ca_path=str(tmp_path / "ca.pem"))
    assert right(model, root)


def test_proxies_of_the_environment_are_used(root, fetch, model, hub, monkeypatch):
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setattr(_source, "_opener", _source._opener.__wrapped__)
    with pytest.raises(IdcError, match="HTTP 404"):  # the double is no proxy: it was asked, and shook its head
        fetch("http://hub.invalid/x", revision="main")
    assert [one.path for one in hub.log] == ["/x/manifest.json"]
    hub.forget()
    monkeypatch.setenv("no_proxy", "127.0.0.1,127.0.0.2")
    fetch(f"hf+{hub.url}", revision="main")
    assert right(model, root)


def run_module(capsys, **params):
    with patch_module_args({"model": MODEL, "revision": "main", "min_free": 0, "retries": 0, **params}), pytest.raises(SystemExit):
        model_fetch.main()
    return json.loads(capsys.readouterr().out)


def test_a_full_disk_is_one_sentence_and_what_came_is_kept(tmp_path, root, fetch, model, hub, capsys, monkeypatch):
    real, left = _download.Part.write, [4]

    def full(part, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(part, data)

    monkeypatch.setattr(_download.Part, "write", full)
    params = {"sources": [f"hf+{hub.url}"], "root": str(tmp_path / "store"), "jobs": 1}
    result = run_module(capsys, **params)
    assert (result["failed"], result["error"]["code"]) == (True, "IDC-FETCH-019")
    assert "No space left on device" in result["msg"]
    assert nothing_published(model)
    monkeypatch.setattr(_download.Part, "write", real)
    hub.forget()
    result = fetch(f"hf+{hub.url}", revision="main")
    kept = 3 * _download.BUFFER
    assert (result["fetched_files"], result["fetched_bytes"], hub.sent(SHARD)) == (1, SIZE - kept, SIZE - kept)
    assert right(model, root)


def test_a_store_that_may_not_be_written_is_one_sentence(hub, capsys):
    result = run_module(capsys, sources=[f"hf+{hub.url}"], root="/sys/kernel/idc_llm_store")
    assert result["error"]["code"] == "IDC-FETCH-020"
    assert "/sys/kernel/idc_llm_store" in result["msg"]


@pytest.mark.parametrize("after", [False, True])
def test_a_run_that_lost_its_lock_publishes_nothing(fetch, model, hub, monkeypatch, after):
    def robbed(engine, entries, jobs, have):
        if after:
            _run(engine, entries, jobs, have)
        engine._line.stop.set()
        if not after:
            _run(engine, entries, jobs, have)

    _run = _fetch_engine.Engine.run
    monkeypatch.setattr(_fetch_engine.Engine, "run", robbed)
    with pytest.raises(IdcError, match="IDC-FETCH-021: The lock .* was taken over"):
        fetch(f"hf+{hub.url}", revision="main")
    assert nothing_published(model)


def test_a_secret_with_a_line_break_is_not_repeated(fetch, hub):
    token = secrets.token_hex(8) + "\n"
    with pytest.raises(IdcError, match="a character that HTTP forbids") as caught:
        fetch(f"hf+{hub.url}", revision="main", token=token)
    assert token.strip() not in str(caught.value)


@pytest.mark.parametrize("peer", ["10.0.0.2:8090", "file:///x", "http://u:hidden@h:1", "http:///x"])
def test_peers_that_cannot_be_used(fetch, peer):
    with pytest.raises(IdcError, match="IDC-FETCH-023: peer number 1") as caught:
        fetch("file:///x", peers=[peer])
    assert "hidden" not in str(caught.value)
