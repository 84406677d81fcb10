"""The generated test model: the same bytes for a seed, tensors that fit its config, a manifest that tells the truth."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import struct
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "support" / "make_tiny_model.py"


def load():
    """The generator as a module."""
    spec = importlib.util.spec_from_file_location("make_tiny_model", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A generated model folder of seed 0."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    maker.write(folder)
    return folder


def header_of(data):
    """The JSON header of a safetensors file and the offset of its data."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), 8 + length


def test_same_seed_same_bytes_other_seed_other_weights(model, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    maker.write(again)
    maker.write(other, seed=1)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in model.iterdir()}
    assert (other / "model.safetensors").read_bytes() != (model / "model.safetensors").read_bytes()
    assert (other / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()


def test_weights_are_pinned():
    """The bytes must not change unnoticed: plans, stores and tests name this revision r1."""
    digest = hashlib.sha256(maker.safetensors(maker.CONFIG, 0)).hexdigest()
    assert digest == "9c5e4b78652aa0aba044f8cd6c3673b4b9776ddf9fdb1187684e44f62412dbf6"


def test_manifest_is_true_sorted_and_complete(model):
    rows = json.loads((model / "manifest.json").read_text())["files"]
    assert [row["path"] for row in rows] == sorted(p.name for p in model.iterdir() if p.name != "manifest.json")
    for row in rows:
        data = (model / row["path"]).read_bytes()
        assert (row["size"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_files_are_readable_by_a_service_user(model):
    assert {p.stat().st_mode & 0o777 for p in model.iterdir()} == {0o644}
    assert model.stat().st_mode & 0o777 == 0o755


def test_tensors_fill_the_file_without_gaps(model):
    data = (model / "model.safetensors").read_bytes()
    header, start = header_of(data)
    assert header.pop("__metadata__") == {"format": "pt"}
    end = 0
    for row in sorted(header.values(), key=lambda row: row["data_offsets"]):
        count = 1
        for size in row["shape"]:
            count *= size
        assert row["dtype"] == "BF16"
        assert row["data_offsets"] == [end, end + 2 * count]
        end = row["data_offsets"][1]
    assert start % 8 == 0
    assert len(data) == start + end


def test_tensors_fit_the_config(model):
    config = json.loads((model / "config.json").read_text())
    header, _start = header_of((model / "model.safetensors").read_bytes())
    shape = {name: row["shape"] for name, row in header.items() if name != "__metadata__"}
    attention = "model.layers.1.self_attn"
    assert shape["model.embed_tokens.weight"] == [config["vocab_size"], config["hidden_size"]]
    assert shape[f"{attention}.kv_a_proj_with_mqa.weight"] == [512 + 64, config["hidden_size"]]
    assert shape[f"{attention}.q_b_proj.weight"] == [2 * (32 + 64), config["q_lora_rank"]]
    assert shape["model.layers.1.mlp.gate.e_score_correction_bias"] == [config["n_routed_experts"]]
    assert "model.layers.0.mlp.gate_proj.weight" in shape  # the first layer is dense
    assert "model.layers.1.mlp.gate_proj.weight" not in shape
    assert sum(name.endswith(".down_proj.weight") for name in shape) == 1 + config["n_routed_experts"] + 1


def test_a_token_for_each_byte_and_the_special_ones(model):
    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    assert sorted(vocab.values()) == list(range(config["vocab_size"]))
    assert (vocab["A"], vocab["Ġ"], vocab["Ċ"]) == (ord("A"), ord(" "), ord("\n"))
    assert vocab["<|end|>"] == config["eos_token_id"]
    assert {row["content"]: row["id"] for row in tokenizer["added_tokens"]} == {text: vocab[text] for text in maker.SPECIALS}


def test_only_printable_tokens_have_output_weights(model):
    data = (model / "model.safetensors").read_bytes()
    header, start = header_of(data)
    begin, _end = header["lm_head.weight"]["data_offsets"]
    row_bytes = 2 * maker.CONFIG["hidden_size"]
    live = [
        row
        for row in range(maker.CONFIG["vocab_size"])
        if any(data[start + begin + row * row_bytes : start + begin + (row + 1) * row_bytes])
    ]
    assert live == list(range(32, 127))


def test_bfloat16_is_the_upper_half():
    assert maker.bfloat16([1.0, -2.0, 0.0]) == b"\x80\x3f\x00\xc0\x00\x00"
