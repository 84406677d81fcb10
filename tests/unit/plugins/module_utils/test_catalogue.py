# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue against arithmetic of its own: parameters from shapes, bytes from parameters, both against published figures."""
from __future__ import annotations

import json

import pytest
from ansible_collections.idc.llm.plugins.module_utils._catalogue import catalogued, metadata_for

NAMES = catalogued()
COMMON = {
    "architectures",
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "torch_dtype",
}
GROUPED = {"intermediate_size", "head_dim"}
EXPERTS = {"moe_intermediate_size", "n_routed_experts", "n_shared_experts", "num_experts_per_tok"}
LATENT = {"q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "first_k_dense_replace"}
COMPRESSED = {"head_dim", "q_lora_rank", "o_lora_rank", "o_groups", "sliding_window", "compress_ratios", "index_head_dim"}
FAMILIES = {
    "deepseek_v2": COMMON | EXPERTS | LATENT | {"intermediate_size"},
    "deepseek_v3": COMMON | EXPERTS | LATENT | {"intermediate_size", "num_nextn_predict_layers"},
    "deepseek_v32": COMMON | EXPERTS | LATENT | {"index_head_dim", "index_n_heads", "index_topk"},
    "deepseek_v4": COMMON | EXPERTS | COMPRESSED | {"expert_dtype", "quantization_config", "index_topk"},
    "deepseek_v41": COMMON | EXPERTS | COMPRESSED | {"kv_source_layer_ids", "index_source_layer_ids", "engram_num_embeddings"},
    "llama": COMMON | GROUPED,
    "qwen2": COMMON | GROUPED,
    "qwen3": COMMON | GROUPED,
    "qwen3_moe": COMMON | GROUPED | {"moe_intermediate_size", "num_experts", "num_experts_per_tok"},
    "gpt_oss": COMMON | GROUPED | {"num_local_experts", "num_experts_per_tok", "sliding_window", "layer_types"},
}


def flat(name):
    """The entry's config, a nested text model on the top level."""
    config = metadata_for(name)["config"]
    return {**config, **config.get("text_config", {}), "model_type": config["model_type"]}


def attention(c, ratio=0):
    """Parameters of one layer's attention."""
    h, heads = c["hidden_size"], c["num_attention_heads"]
    if "kv_lora_rank" in c:
        nope, rope, v, rank, q = (
            c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank", "q_lora_rank")
        )
        index = c["index_n_heads"] * (q * c["index_head_dim"] + h) + h * c["index_head_dim"] if "index_topk" in c else 0
        query = (h + heads * (nope + rope)) * q if q else h * heads * (nope + rope)
        return query + h * (rank + rope) + rank * heads * (nope + v) + heads * v * h + index
    if "o_lora_rank" in c:
        d, q, o = c["head_dim"], c["q_lora_rank"], c["o_groups"] * c["o_lora_rank"]
        own = h * (q + d) + q * heads * d + heads * d // c["o_groups"] * o + o * h
        index = q * c["index_n_heads"] * c["index_head_dim"] if ratio == 4 else 0
        width = 2 * (2 if ratio == 4 else 1) * (d + (c["index_head_dim"] if ratio == 4 else 0)) if ratio > 2 else 0
        return own + index + width * h
    return h * c["head_dim"] * 2 * (heads + c["num_key_value_heads"])


def parts(name):
    """Parameters: (sparse layers, routed experts of one, everything else, embeddings); no prediction layers, no Engram tables."""
    c = flat(name)
    h, layers = c["hidden_size"], c["num_hidden_layers"]
    ratios = c.get("compress_ratios", [0] * layers)
    rest = sum(attention(c, ratios[i]) for i in range(layers))
    count = c.get("n_routed_experts") or c.get("num_experts") or c.get("num_local_experts") or 0
    inner = c.get("moe_intermediate_size", c.get("intermediate_size"))
    dense = (c.get("first_k_dense_replace", 0) if count else layers) * 3 * h * c.get("intermediate_size", 0)
    sparse = layers - c.get("first_k_dense_replace", 0) if count else 0
    rest += dense + sparse * h * (3 * inner * c.get("n_shared_experts", 0) + count)
    return sparse, count * 3 * h * inner, rest, 2 * c["vocab_size"] * h


def parameters(name):
    sparse, experts, rest, embeddings = parts(name)
    return sparse * experts + rest + embeddings


PUBLISHED = {  # parameters in 10^9 as their makers give them, without the prediction layers
    "deepseek-ai/DeepSeek-V3": 671,
    "deepseek-ai/DeepSeek-V3.2-Exp": 671.9,
    "deepseek-ai/DeepSeek-V4-Flash": 284,
    "deepseek-ai/DeepSeek-V4.1-Flash": 552,
    "deepseek-ai/DeepSeek-V2-Lite": 15.7,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": 70.6,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": 32.5,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": 14.7,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7.61,
    "Qwen/Qwen3-8B": 8.2,
    "Qwen/Qwen3-32B": 32.8,
    "Qwen/Qwen2.5-72B-Instruct": 72.7,
    "Qwen/Qwen3-235B-A22B": 235,
    "openai/gpt-oss-120b": 116.8,
}


@pytest.mark.parametrize("name, published", PUBLISHED.items())
def test_shapes_give_the_published_parameters(name, published):
    assert parameters(name) == pytest.approx(published * 1e9, rel=0.01)


def test_v3_to_five_figures():
    """671.03 B with 0.93 B of embedding and as much of head (DeepSeek-V3's weight file documentation: 671 B, 0.9 B each)."""
    assert parameters("deepseek-ai/DeepSeek-V3") == pytest.approx(671.026e9, rel=1e-4)
    assert parts("deepseek-ai/DeepSeek-V3")[3] == pytest.approx(1.853e9, rel=1e-3)


def test_v4_pro_has_1_6_trillion():
    assert parameters("deepseek-ai/DeepSeek-V4-Pro") == pytest.approx(1.6e12, rel=0.02)  # published with two figures only


def test_engram_is_196_billion():
    c = flat("deepseek-ai/DeepSeek-V4.1-Flash")
    assert sum(c["engram_num_embeddings"]) * c["engram_head_dim"] == pytest.approx(196e9, rel=0.01)


# bytes for a parameter: routed experts, other matrices; then the prediction layers in the files, their experts of each, their width
BF16, FP8, FP4, NVFP4 = 2, 1 + 4 / 128**2, 0.5 + 1 / 32, 0.5 + 1 / 16
AWQ_64, AWQ_128 = 0.5 + 2.5 / 64, 0.5 + 2.5 / 128
STORED = {
    "deepseek-ai/DeepSeek-V3": (FP8, FP8, 1, 256, FP8),
    "deepseek-ai/DeepSeek-V3.1": (FP8, FP8, 1, 256, FP8),
    "deepseek-ai/DeepSeek-V3.2-Exp": (FP8, FP8, 1, 256, FP8),
    "unsloth/DeepSeek-R1-BF16": (BF16, BF16, 1, 256, BF16),
    "cognitivecomputations/DeepSeek-R1-AWQ": (AWQ_64, AWQ_64, 0, 0, 0),
    "meituan/DeepSeek-R1-Channel-INT8": (1, 1, 1, 256, 1),
    "nvidia/DeepSeek-R1-0528-NVFP4-v2": (NVFP4, BF16, 1, 256, BF16),
    "deepseek-ai/DeepSeek-V4-Flash": (FP4, FP8, 1, 256, FP4),
    "deepseek-ai/DeepSeek-V4-Flash-0731": (FP4, FP8, 3, 256, FP4),
    "deepseek-ai/DeepSeek-V4-Pro": (FP4, FP8, 1, 384, FP4),
    "deepseek-ai/DeepSeek-V4-Pro-0813": (FP4, FP8, 3, 384, FP4),
    "deepseek-ai/DeepSeek-V4.1-Flash": (FP4, FP8, 3, 128, FP4),
    "casperhansen/deepseek-r1-distill-llama-70b-awq": (0, AWQ_128, 0, 0, 0),
    "Qwen/Qwen2.5-72B-Instruct-AWQ": (0, AWQ_128, 0, 0, 0),
    "Qwen/Qwen3-235B-A22B-FP8": (FP8, FP8, 0, 0, 0),
    "openai/gpt-oss-120b": (FP4, BF16, 0, 0, 0),
}


@pytest.mark.parametrize("name", NAMES)
def test_bytes_agree_with_parameters(name):
    sparse, experts, rest, embeddings = parts(name)
    expert_width, width, predictions, predicted_experts, predicted_width = STORED.get(name, (BF16, BF16, 0, 0, 0))
    c = flat(name)
    each = experts // c["n_routed_experts"] if predictions else 0
    tables = sum(c.get("engram_num_embeddings", [])) * (c.get("engram_head_dim", 0) * 33 // 32)
    expected = sparse * experts * expert_width + rest * width + embeddings * BF16 + tables
    expected += predictions * predicted_experts * each * predicted_width
    assert metadata_for(name)["weights"]["bytes"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-8B", "Qwen/Qwen3-32B", "deepseek-ai/DeepSeek-V2-Lite", "Qwen/Qwen3-235B-A22B"]
)
def test_unquantised_sizes_are_exact_but_for_norms(name):
    assert metadata_for(name)["weights"]["bytes"] == pytest.approx(2 * parameters(name), rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_complete(name):
    entry = metadata_for(name)
    assert set(entry) == {"schema", "config", "weights", "source"}
    assert entry["schema"] == 1
    config = flat(name)
    assert FAMILIES[config["model_type"]] - set(config) == set()
    assert config["num_attention_heads"] % config["num_key_value_heads"] == 0
    assert len(config.get("compress_ratios", [0] * 99)) >= config["num_hidden_layers"]
    assert len(config.get("layer_types", [])) in (0, config["num_hidden_layers"])
    assert set(entry["weights"]) == {"bytes", "files", "tensors"}
    assert entry["weights"]["tensors"] is None
    assert entry["weights"]["files"] is None or entry["weights"]["files"] > 0
    assert entry["source"].startswith("shipped catalogue: ")
    assert json.loads(json.dumps(entry)) == entry


@pytest.mark.parametrize("name", [name for name in NAMES if "quantization_config" in metadata_for(name)["config"]])
def test_quantisation_is_one_that_vllm_knows(name):
    quantization = metadata_for(name)["config"]["quantization_config"]
    assert quantization["quant_method"] in {"fp8", "awq", "compressed-tensors", "modelopt", "mxfp4"}
    if quantization["quant_method"] == "fp8":
        assert len(quantization["weight_block_size"]) == 2
    if quantization["quant_method"] == "awq":
        assert quantization["bits"] == 4
        assert flat(name)["intermediate_size"] % quantization["group_size"] == 0


@pytest.mark.parametrize(
    "alias, name",
    [
        ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-V3"),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek-ai/DeepSeek-V3"),
        ("deepseek-ai/DeepSeek-V3.1-Terminus", "deepseek-ai/DeepSeek-V3.1"),
        ("deepseek-ai/DeepSeek-V3.2", "deepseek-ai/DeepSeek-V3.2-Exp"),
        ("deepseek-ai/DeepSeek-V2-Lite-Chat", "deepseek-ai/DeepSeek-V2-Lite"),
        ("Valdemardi/DeepSeek-R1-Distill-Llama-70B-AWQ", "casperhansen/deepseek-r1-distill-llama-70b-awq"),
        ("QWEN/qwen3-8b", "Qwen/Qwen3-8B"),
    ],
)
def test_aliases_resolve(alias, name):
    assert metadata_for(alias) == metadata_for(name)
    assert name in NAMES


def test_known_sums_of_files():
    v3, v41 = metadata_for("deepseek-ai/DeepSeek-R1"), metadata_for("deepseek-ai/DeepSeek-V4.1-Flash")
    assert (v3["weights"]["bytes"], v3["weights"]["files"]) == (688586727753, 163)
    assert (v41["weights"]["bytes"], v41["weights"]["files"]) == (510313353565, 48)


@pytest.mark.parametrize(
    "name, four, hundred_and_twenty_eight, window",
    [("deepseek-ai/DeepSeek-V4-Flash-0731", 21, 20, 2), ("deepseek-ai/DeepSeek-V4-Pro", 30, 31, 0)],
)
def test_v4_layers(name, four, hundred_and_twenty_eight, window):
    c = flat(name)
    ratios = c["compress_ratios"][: c["num_hidden_layers"]]
    assert [ratios.count(r) for r in (4, 128, 0)] == [four, hundred_and_twenty_eight, window]


def test_v41_cache_sources_are_compressed_layers():
    c = flat("deepseek-ai/DeepSeek-V4.1-Flash")
    assert [c["compress_ratios"][i] for i in c["kv_source_layer_ids"]] == [2, 2, 2, 1]
    assert set(c["kv_source_layer_ids"]) <= set(c["index_source_layer_ids"])


def test_what_it_returns_is_a_copy():
    metadata_for("Qwen/Qwen3-8B")["config"]["hidden_size"] = 1
    metadata_for("deepseek-ai/DeepSeek-V3")["config"]["quantization_config"]["weight_block_size"].append(1)
    assert metadata_for("Qwen/Qwen3-8B")["config"]["hidden_size"] == 4096
    assert metadata_for("deepseek-ai/DeepSeek-V3")["config"]["quantization_config"]["weight_block_size"] == [128, 128]


@pytest.mark.parametrize("name", ["", "DeepSeek-R1", "deepseek-ai/DeepSeek-R2"])
def test_unknown_models_have_no_entry(name):
    assert metadata_for(name) is None
