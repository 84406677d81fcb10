# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metadata's form: tensors in rows, which files are the weights, headers that are damaged, the check."""
from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._model_metadata import (
    HEADER_LIMIT,
    Index,
    MetadataError,
    check,
    choose_weights,
    generalise,
    header_length,
    metadata_from_folder_files,
    parse_header,
    parse_index,
    ranges,
    rows,
    tally,
)

from tests.support.make_tiny_model import CONFIG, safetensors, shapes


def header(*tensors, **more):
    """A header of (name, dtype, shape)s."""
    return {**{name: {"dtype": dtype, "shape": shape} for name, dtype, shape in tensors}, **more}


def grouped(*headers):
    """{name: (dtype, shape, layers, count)} of rows whose names are all different."""
    found = rows(map(tally, headers))
    assert len({row["name"] for row in found}) == len(found)
    return {row["name"]: (row["dtype"], row["shape"], row["layers"], row["count"]) for row in found}


@pytest.mark.parametrize(
    ("name", "general", "layer"),
    [
        ("model.embed_tokens.weight", "model.embed_tokens.weight", -1),
        ("model.layers.12.mlp.experts.255.up_proj.weight", "model.layers.*.mlp.experts.*.up_proj.weight", 12),
        ("layers.0.experts.3.w1", "layers.*.experts.*.w1", 0),
        ("transformer.h.7.attn.c_attn.weight", "transformer.h.*.attn.c_attn.weight", 7),
        ("visual.blocks.31.norm1.bias", "visual.blocks.*.norm1.bias", 31),
        ("model.layers.2.h.9.w", "model.layers.*.h.*.w", 2),
        ("mtp.0.layers.1.w", "mtp.*.layers.*.w", 1),
        ("experts.4.w", "experts.*.w", -1),
        ("0.1.w.2", "*.*.w.*", -1),
        ("model.layers.norm.3.w", "model.layers.norm.*.w", -1),
        ("layers.1a.w", "layers.1a.w", -1),
        ("layers.²", "layers.²", -1),
        ("layers", "layers", -1),
        ("layers." + "9" * 5000, "layers." + "9" * 5000, -1),
    ],
)
def test_numbers_become_stars_and_the_first_after_layers_is_the_layer(name, general, layer):
    assert generalise(name) == (general, layer)


def test_layers_are_ranges():
    assert ranges([5, 0, 1, 2, 7, 6]) == [[0, 2], [5, 7]]
    assert ranges([]) == []


def test_a_whole_v3_becomes_few_rows_over_all_its_shards():
    names = [(f"model.layers.{layer}.self_attn.o_proj.weight", "F8_E4M3", [7168, 16384]) for layer in range(62)]
    names += [(f"model.layers.{layer}.mlp.down_proj.weight", "F8_E4M3", [7168, 18432]) for layer in range(3)]
    names += [
        (f"model.layers.{layer}.mlp.experts.{expert}.gate_proj.weight", "F8_E4M3", [2048, 7168])
        for layer in range(3, 62)
        for expert in range(256)
    ]
    names += [("model.layers.61.eh_proj.weight", "BF16", [7168, 14336]), ("lm_head.weight", "BF16", [129280, 7168])]
    shards = [header(*names[start::7]) for start in range(7)]
    assert grouped(*shards) == {
        "lm_head.weight": ("BF16", [129280, 7168], None, 1),
        "model.layers.*.eh_proj.weight": ("BF16", [7168, 14336], [[61, 61]], 1),
        "model.layers.*.mlp.down_proj.weight": ("F8_E4M3", [7168, 18432], [[0, 2]], 1),
        "model.layers.*.mlp.experts.*.gate_proj.weight": ("F8_E4M3", [2048, 7168], [[3, 61]], 256),
        "model.layers.*.self_attn.o_proj.weight": ("F8_E4M3", [7168, 16384], [[0, 61]], 1),
    }
    assert [row["name"] for row in rows(map(tally, shards))] == sorted(grouped(*shards))


def test_another_dtype_shape_or_count_is_a_row_of_its_own():
    found = rows([tally(header(
        ("layers.0.w", "BF16", [4, 4]), ("layers.1.w", "BF16", [4, 4]), ("layers.2.w", "BF16", [8, 4]),
        ("layers.3.w", "F8_E4M3", [4, 4]), ("layers.5.w", "BF16", [4, 4]),
        ("layers.0.e.0.w", "BF16", [2]), ("layers.1.e.0.w", "BF16", [2]), ("layers.1.e.1.w", "BF16", [2]),
    ))])
    assert found == [
        {"name": "layers.*.e.*.w", "dtype": "BF16", "shape": [2], "layers": [[0, 0]], "count": 1},
        {"name": "layers.*.e.*.w", "dtype": "BF16", "shape": [2], "layers": [[1, 1]], "count": 2},
        {"name": "layers.*.w", "dtype": "BF16", "shape": [4, 4], "layers": [[0, 1], [5, 5]], "count": 1},
        {"name": "layers.*.w", "dtype": "BF16", "shape": [8, 4], "layers": [[2, 2]], "count": 1},
        {"name": "layers.*.w", "dtype": "F8_E4M3", "shape": [4, 4], "layers": [[3, 3]], "count": 1},
    ]


def test_scalars_unknown_dtypes_and_the_metadata_entry():
    found = grouped(header(("k_scale", "F4_X9", []), ("e.0.s", "F32", [0]), ("e.1.s", "F32", [0]), __metadata__={"a": "b"}))
    assert found == {"k_scale": ("F4_X9", [], None, 1), "e.*.s": ("F32", [0], None, 2)}


def test_the_tiny_model_is_the_sum_of_its_rows():
    raw = safetensors(CONFIG, 0)
    length = header_length(raw[:8], len(raw))
    found = rows([tally(parse_header(raw[8 : 8 + length], len(raw)))])
    assert sum(r["count"] * (sum(b - a + 1 for a, b in r["layers"]) if r["layers"] else 1) for r in found) == len(shapes(CONFIG))
    experts = next(row for row in found if row["name"] == "model.layers.*.mlp.experts.*.up_proj.weight")
    assert (experts["layers"], experts["count"], experts["shape"]) == ([[1, 1]], CONFIG["n_routed_experts"], [64, 64])


@pytest.mark.parametrize(
    ("prefix", "size", "reason"),
    [
        (b"123", 3, "ends after 3 bytes"),
        ((HEADER_LIMIT + 1).to_bytes(8, "little"), 1 << 40, "wanted at most 100000000"),
        ((93).to_bytes(8, "little"), 100, "the file has only 100"),
    ],
)
def test_a_length_that_cannot_be(prefix, size, reason):
    with pytest.raises(MetadataError, match=reason):
        header_length(prefix, size)
    assert header_length((92).to_bytes(8, "little"), 100) == 92
    assert header_length(HEADER_LIMIT.to_bytes(8, "little"), 1 << 40) == HEADER_LIMIT


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ([], "not an object"),
        ({"dtype": "I8", "shape": [4]}, "no data_offsets"),
        ({"dtype": "I8", "shape": [4], "data_offsets": [0, "4"]}, "no data_offsets"),
        ({"dtype": "I8", "shape": [4], "data_offsets": [0]}, "no data_offsets"),
        ({"dtype": "I8", "shape": [4], "data_offsets": [0, 5]}, "but the file has"),
        ({"dtype": "I8", "shape": [4], "data_offsets": [0, 3]}, "but the file has"),
    ],
)
def test_a_header_that_does_not_fit_its_file(entry, reason):
    raw = json.dumps({"w": entry}).encode()
    with pytest.raises(MetadataError, match=reason):
        parse_header(raw, 8 + len(raw) + 4)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe{", b'{"a":' * 100_000])
def test_a_header_that_is_no_json_object(raw):
    with pytest.raises(MetadataError, match="header is damaged: it is not"):
        parse_header(raw, 8 + len(raw))


@pytest.mark.parametrize(
    "entry",
    [{"shape": []}, {"dtype": 3, "shape": []}, {"dtype": "I8"}]
    + [{"dtype": "I8", "shape": shape} for shape in ([-1], "4", [True], [1.0], None)],
)
def test_a_tensor_without_dtype_or_shape(entry):
    with pytest.raises(MetadataError, match="'w' has no dtype and shape"):
        tally({"w": entry})


def test_an_index_names_files_and_bytes():
    raw = {"metadata": {"total_size": 12}, "weight_map": {"a": "x", "b": "x", "c": "y"}}
    assert parse_index(json.dumps(raw).encode()) == Index(frozenset("xy"), 12)
    raw["metadata"]["total_size"] = 12.0
    assert parse_index(json.dumps(raw).encode()).total_size == 12
    for total in (None, "12", -1, 0.5, float("inf"), True):
        raw["metadata"]["total_size"] = total
        assert parse_index(json.dumps(raw).encode()).total_size is None
    for names in (None, {}, [], {"a": 1}):
        with pytest.raises(MetadataError, match="weight_map"):
            parse_index(json.dumps({"weight_map": names}).encode())


S1, S2, C = "model-1.safetensors", "model-2.safetensors", "consolidated.safetensors"


@pytest.mark.parametrize(
    ("sizes", "named", "shards", "total", "files"),
    [
        ({S1: 5, S2: 6, "original/x.safetensors": 7}, None, (S1, S2), 11, 2),
        ({S1: 5, S2: 6, C: 11}, {S1, S2}, (S1, S2), 11, 2),
        ({S1: 5, C: 5}, None, (S1,), 5, 1),
        ({C: 5}, None, (C,), 5, 1),
        ({S1: 5, "pytorch_model.bin": 9}, None, (S1,), 5, 1),
        ({"a.bin": 5, "b.bin": 6, "training_args.bin": 1, "c.pt": 9}, None, (), 11, 2),
        ({"c.pt": 9, "optimizer.pt": 18}, None, (), 9, 1),
        ({"config.json": 2}, {S1, S2}, (), 77, 2),
        ({"config.json": 2}, None, (), None, None),
    ],
)
def test_which_files_are_the_weights(sizes, named, shards, total, files):
    found = choose_weights(sizes, Index(frozenset(named), 77) if named else None)
    assert (found.shards, found.bytes, found.files, found.missing) == (shards, total, files, ())


def test_a_shard_that_the_index_names_and_nobody_has():
    assert choose_weights({S1: 5}, Index(frozenset({S1, S2, "sub/x"}), None)).missing == (S2, "sub/x")


GOOD = metadata_from_folder_files(
    {"model_type": "x"}, [header(("layers.0.w", "BF16", [2]), ("layers.2.w", "BF16", [2]), ("n", "BF16", []))], 12, 1, "a test"
)


def test_what_is_built_passes_the_check():
    assert check(GOOD, "x") is GOOD
    assert GOOD["weights"]["tensors"][0]["layers"] == [[0, 0], [2, 2]]
    bare = metadata_from_folder_files({}, None, None, None, "a test")
    assert bare == {"schema": 1, "config": {}, "source": "a test", "weights": {"bytes": None, "files": None, "tensors": None}}
    assert check(json.loads(json.dumps(bare)), "x") == bare
    check({**GOOD, "note": "more fields are welcome"}, "x")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ((), [], "it is [], wanted a mapping"),
        (("schema",), 2, "schema is 2, wanted 1"),
        (("schema",), True, "schema is True, wanted 1"),
        (("schema",), None, "schema is None, wanted 1"),
        (("config",), "x", "config is 'x', wanted config.json as a mapping"),
        (("config",), ..., "config is missing, wanted config.json as a mapping"),
        (("source",), 3, "source is 3, wanted a text"),
        (("weights",), ..., "weights is missing, wanted a mapping"),
        (("weights", "bytes"), "689 GB", "weights.bytes is '689 GB', wanted a whole number or null"),
        (("weights", "bytes"), ..., "weights.bytes is missing"),
        (("weights", "bytes"), -1, "weights.bytes is -1"),
        (("weights", "files"), 1.5, "weights.files is 1.5"),
        (("weights", "tensors"), {}, "weights.tensors is {}, wanted a list of rows or null"),
        (("weights", "tensors"), ..., "weights.tensors is missing"),
        (("weights", "tensors", 1), "x", "weights.tensors[1] is 'x', wanted a mapping"),
        (("weights", "tensors", 1, "name"), "", "weights.tensors[1].name is '', wanted a text"),
        (("weights", "tensors", 0, "dtype"), None, "weights.tensors[0].dtype is None"),
        (("weights", "tensors", 0, "shape"), "2", "weights.tensors[0].shape is '2', wanted a list of whole numbers"),
        (("weights", "tensors", 0, "shape"), ["x" * 99], "weights.tensors[0].shape is ['" + "x" * 55 + "..., wanted"),
        (("weights", "tensors", 0, "count"), 0, "weights.tensors[0].count is 0, wanted a whole number above 0"),
        (("weights", "tensors", 0, "layers"), [], "weights.tensors[0].layers is []"),
        (("weights", "tensors", 0, "layers"), [[1]], "weights.tensors[0].layers is [[1]]"),
        (("weights", "tensors", 0, "layers"), [[2, 1]], "weights.tensors[0].layers is [[2, 1]]"),
        (("weights", "tensors", 0, "layers"), [[0, 2], [2, 3]], "weights.tensors[0].layers is [[0, 2], [2, 3]]"),
        (("weights", "tensors", 0, "layers"), ..., "weights.tensors[0].layers is missing"),
    ],
)
def test_the_check_names_the_key(keys, value, message):
    metadata = copy.deepcopy(GOOD)
    if not keys:
        metadata = value
    else:
        inner = metadata
        for key in keys[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
    with pytest.raises(IdcError) as caught:
        check(metadata, "demo/tiny")
    assert caught.value.code == "IDC-FETCH-013"
    assert message in caught.value.text().what
    assert "demo/tiny" in caught.value.text().what
