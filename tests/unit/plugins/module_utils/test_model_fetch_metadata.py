# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""model_fetch, state listed, with metadata, against real servers and files; and metadata that lies in a path."""
from __future__ import annotations

import json
import os
import threading
import time

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _model_reader
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._model_metadata import check
from ansible_collections.idc.llm.plugins.module_utils._model_reader import read_metadata

from tests.support.make_tiny_model import CONFIG, model_files
from tests.support.model_source import REVISION, write_source

INDEX = "model.safetensors.index.json"
LAYERS = 4


def shard(layer, columns=8, pad=0):
    """A safetensors file of one layer: BF16 weight [2, columns]; ``pad`` spaces end its header."""
    entry = {"dtype": "BF16", "shape": [2, columns], "data_offsets": [0, 4 * columns]}
    text = json.dumps({f"model.layers.{layer}.w": entry}).encode() + b" " * pad
    return len(text).to_bytes(8, "little") + text + bytes(4 * columns)


def name(layer):
    return f"model-{layer}.safetensors"


def sharded(**more):
    """A model of four shards, an index, and what does not count."""
    files = {name(layer): shard(layer) for layer in range(LAYERS)}
    index = {"metadata": {"total_size": 999}, "weight_map": {f"model.layers.{n}.w": name(n) for n in range(LAYERS)}}
    files.update({"config.json": b'{"model_type": "x"}', INDEX: json.dumps(index).encode()})
    files.update({"extra.safetensors": shard(9), "original/model.safetensors": shard(9)})
    files.update({path.replace("__", "."): data for path, data in more.items()})
    return files


ROW = {"name": "model.layers.*.w", "dtype": "BF16", "shape": [2, 8], "layers": [[0, 3]], "count": 1}
BYTES = sum(len(shard(layer)) for layer in range(LAYERS))


@pytest.fixture
def listed(fetch):
    """listed(*sources, **arguments) -> metadata."""
    return lambda *sources, **more: fetch(*sources, state="listed", metadata=True, **more)["metadata"]


def test_a_source_tells_config_bytes_and_rows(tmp_path, listed, fetch, serve):
    server = serve(write_source(tmp_path / "src", sharded()))
    metadata = listed(server.url, token="hub-secret")
    assert metadata == {
        "schema": 1,
        "config": {"model_type": "x"},
        "weights": {"bytes": BYTES, "files": LAYERS, "tensors": [ROW]},
        "source": f"config.json and the headers of 4 safetensors file(s) of {server.url}",
    }
    assert check(metadata, "x") is metadata
    assert sorted(server.ranges) == sorted(
        [("/manifest.json", None), ("/config.json", None), ("/" + INDEX, None)]
        + [("/" + name(layer), f"bytes=0-{len(shard(layer)) - 1}") for layer in range(LAYERS)]
    )
    assert {auth for _path, auth in server.seen} == {"Bearer hub-secret"}
    assert not (tmp_path / "store").exists()
    assert "metadata" not in fetch(server.url, state="listed", metadata=False)


def test_the_store_is_read_first_and_no_source_asked(tmp_path, listed, fetch, model, serve):
    server = serve(write_source(tmp_path / "src", sharded()))
    fetch(server.url)
    server.seen.clear()
    metadata = listed(server.url)
    assert server.seen == []
    assert metadata["weights"] == {"bytes": BYTES, "files": LAYERS, "tensors": [ROW]}
    assert str(model / REVISION) in metadata["source"]


def test_a_header_larger_than_the_first_look_costs_a_second_request(tmp_path, listed, serve):
    big = _model_reader.FIRST_LOOK + 5
    server = serve(write_source(tmp_path / "src", {"config.json": b"{}", "m.safetensors": shard(0, pad=big)}))
    assert listed(server.url)["weights"]["tensors"] == [{**ROW, "layers": [[0, 0]]}]
    length = len(shard(0, pad=big)) - 32
    assert [r for path, r in server.ranges if path == "/m.safetensors"] == [
        f"bytes=0-{_model_reader.FIRST_LOOK - 1}", f"bytes=0-{length - 1}"
    ]


@pytest.mark.parametrize("pad", [0, 2 << 20])
def test_a_server_without_ranges_is_not_read_to_the_end(tmp_path, listed, serve, pad):
    server = serve(write_source(tmp_path / "src", {"config.json": b"{}", "m.safetensors": shard(0, 8 << 20, pad)}))
    server.ranged = False
    assert listed(server.url)["weights"]["tensors"] == [{**ROW, "shape": [2, 8 << 20], "layers": [[0, 0]]}]
    deadline = time.monotonic() + 10
    while "/m.safetensors" not in server.cut and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.cut == {"/m.safetensors"}
    assert len([path for path, _auth in server.seen if path == "/m.safetensors"]) == 1


def test_a_redirect_keeps_the_range_and_not_the_token(tmp_path, listed, serve):
    behind, front = serve(write_source(tmp_path / "src", sharded())), serve(tmp_path)
    front.redirect = behind.url
    assert listed(front.url, token="hub-secret")["weights"]["tensors"] == [ROW]
    assert dict(behind.ranges)["/" + name(0)] == f"bytes=0-{len(shard(0)) - 1}"
    assert {auth for _path, auth in behind.seen} == {None}


@pytest.mark.parametrize("content_range", ["bytes 8-99/100", "wrong"])
def test_another_part_than_asked_for_is_refused(tmp_path, listed, serve, content_range):
    server = serve(write_source(tmp_path / "src", sharded()))
    server.content_range = content_range
    with pytest.raises(IdcError, match=rf"IDC-FETCH-011.*model-0.*a part that was not asked for: {content_range}"):
        listed(server.url)


def test_several_shards_at_once(tmp_path, listed, serve, monkeypatch):
    server = serve(write_source(tmp_path / "src", sharded()))
    together = threading.Barrier(LAYERS, timeout=10)
    real = _model_reader.read_header

    def read_header(*arguments):
        together.wait()
        return real(*arguments)

    monkeypatch.setattr(_model_reader, "read_header", read_header)
    assert listed(server.url, jobs=LAYERS)["weights"]["tensors"] == [ROW]


@pytest.mark.parametrize(
    ("path", "bad", "reason"),
    [
        (name(2), b"\xff" * 8 + b"x" * 83, "wanted at most 100000000"),
        (name(2), len(shard(2)).to_bytes(8, "little") + b"{}", "the file has only"),
        (name(2), shard(2)[:8] + b"}" + shard(2)[9:], "header is damaged"),
        (name(2), shard(2)[:20], "it ends after 20 bytes, inside its header"),
        (name(2), shard(2, columns=4), "its header speaks of"),
        ("config.json", b'{"model_type": "y"}', "its sha256 is"),
        ("config.json", b"{}", "it is 2 bytes, wanted 19"),
        (INDEX, None, "No such file or directory"),
    ],
)
def test_what_is_damaged_comes_from_the_next_source_or_is_named(tmp_path, listed, fetch, path, bad, reason):
    write_source(tmp_path / "bad", {**sharded(), path: bad or b""}, listed=sharded())
    if bad is None:
        (tmp_path / "bad" / path).unlink()
    worse, good = (tmp_path / "bad").as_uri(), write_source(tmp_path / "good", sharded()).as_uri()
    with pytest.raises(IdcError) as caught:
        listed(worse)
    assert caught.value.code == "IDC-FETCH-011"
    what = caught.value.text().what
    assert f"1 file(s) that describe demo/tiny {REVISION} cannot be used: {path}. Seen: {path} from {worse}: " in what
    assert reason in what
    assert caught.value.details["rejected"][0]["path"] == path
    result = fetch(worse, good, state="listed", metadata=True)
    assert result["metadata"]["weights"]["tensors"] == [ROW]
    assert good in result["metadata"]["source"]
    assert [row["path"] for row in result["rejected"]] == [path]


def test_a_damaged_header_in_the_store_is_an_error(tmp_path, listed, fetch, model):
    fetch(write_source(tmp_path / "src", sharded()).as_uri())
    (model / REVISION / name(1)).write_bytes(bytes(len(shard(1))))
    with pytest.raises(IdcError, match=rf"IDC-FETCH-011.*{name(1)} from file://{model / REVISION}: its header is damaged"):
        listed()


def test_no_config_and_a_shard_that_is_not_listed(tmp_path, listed):
    files = sharded()
    del files["config.json"]
    with pytest.raises(IdcError, match=rf"IDC-FETCH-012: demo/tiny {REVISION} has no config\.json\."):
        listed(write_source(tmp_path / "a", files).as_uri())
    files = sharded()
    del files[name(3)]
    with pytest.raises(IdcError, match=rf"IDC-FETCH-012: demo/tiny {REVISION} has no model-3\.safetensors\."):
        listed(write_source(tmp_path / "b", files).as_uri())


def test_without_safetensors_the_sizes_count(tmp_path, listed):
    source = write_source(tmp_path / "a", {"config.json": b"{}", "a.bin": b"123", "b.bin": b"45"}).as_uri()
    metadata = listed(source)
    assert metadata["weights"] == {"bytes": 5, "files": 2, "tensors": None}
    assert metadata["source"] == f"config.json and the size of 2 .bin file(s) of {source}"


def test_a_config_that_is_too_large_is_not_read_whole(tmp_path, listed, monkeypatch):
    monkeypatch.setattr(_model_reader, "WHOLE_LIMIT", 10)
    with pytest.raises(IdcError, match=r"IDC-FETCH-011.*config\.json.*larger than 10 B"):
        listed(write_source(tmp_path / "a", sharded()).as_uri())


def write(folder, files):
    folder.mkdir()
    for path, data in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    return str(folder)


def test_a_folder_of_a_model_needs_no_manifest(tmp_path):
    metadata = read_metadata(write(tmp_path / "my model", model_files(0)))
    assert metadata["config"] == CONFIG
    assert metadata["weights"]["bytes"] == (tmp_path / "my model/model.safetensors").stat().st_size
    assert len(metadata["weights"]["tensors"]) == 23
    assert check(metadata, "x") is metadata


def test_a_folder_of_links_as_a_hub_cache_has(tmp_path):
    write(tmp_path / "blobs", sharded())
    (tmp_path / "snapshot").mkdir()
    for item in (tmp_path / "blobs").iterdir():
        os.symlink(item, tmp_path / "snapshot" / item.name)
    assert read_metadata(str(tmp_path / "snapshot"))["weights"] == {"bytes": BYTES, "files": LAYERS, "tensors": [ROW]}


@pytest.mark.parametrize(
    ("kept", "total", "files"), [({"config.json", INDEX}, 999, LAYERS), ({"config.json"}, None, None)]
)
def test_a_folder_without_weights(tmp_path, kept, total, files):
    folder = write(tmp_path / "m", {path: data for path, data in sharded().items() if path in kept})
    assert read_metadata(folder)["weights"] == {"bytes": total, "files": files, "tensors": None}


def test_a_file_in_the_form_is_taken_as_it_is(tmp_path):
    metadata = read_metadata(write(tmp_path / "m", sharded()))
    path = tmp_path / "kept.json"
    path.write_text(json.dumps(metadata))
    assert read_metadata(str(path)) == metadata


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "m", r"IDC-FETCH-012: \S+/m has no config\.json\."),
        ({}, "gone", r"IDC-FETCH-014: \S+/gone cannot be read as metadata of a model: No such file or directory\."),
        ({"x.json": b"{"}, "m/x.json", r"IDC-FETCH-014: \S+/x\.json cannot .*it is not JSON"),
        ({"config.json": b"{}"}, "m/config.json", r"IDC-FETCH-013: The metadata of \S+ cannot be used: schema is missing"),
        ({"config.json": b"[]"}, "m", r"IDC-FETCH-011: .*config\.json.*not a JSON object"),
        ({"config.json": b"{}", INDEX: b"{}"}, "m", r"IDC-FETCH-011: .*index\.json.*weight_map"),
        ({**sharded(), name(1): b"123"}, "m", r"IDC-FETCH-011: .*model-1\.safetensors.*ends after 3 bytes"),
        ({**sharded(), INDEX: b'{"weight_map": {"a": "z.safetensors"}}'}, "m", r"IDC-FETCH-012: \S+/m has no z\.safetensors"),
    ],
)
def test_a_path_that_is_no_metadata_is_said(tmp_path, files, path, message):
    write(tmp_path / "m", files)
    with pytest.raises(IdcError, match=message) as caught:
        read_metadata(str(tmp_path / path))
    assert str(tmp_path / path) in str(caught.value)


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(_model_reader.os, "scandir", scandir)
    with pytest.raises(IdcError, match="IDC-FETCH-014.*Permission denied"):
        read_metadata(str(tmp_path))
