# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What models weigh: against published parameter counts and file sizes, and from tensors as from config.json."""
from __future__ import annotations

import dataclasses
import math

import pytest
from ansible_collections.idc.llm.plugins.module_utils._catalogue import catalogued, metadata_for
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._model import is_moe_layer, model_from, tensor_kind
from ansible_collections.idc.llm.plugins.module_utils._model_metadata import rows, tally
from ansible_collections.idc.llm.plugins.module_utils._quantisation import quantisation

from tests.support.make_tiny_model import CONFIG as TINY
from tests.support.make_tiny_model import shapes as v3_shapes

V3, V32 = "deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-V3.2-Exp"
V4_FLASH, V41 = "deepseek-ai/DeepSeek-V4-Flash", "deepseek-ai/DeepSeek-V4.1-Flash"
LINEAR = ("_proj.weight", "kv_a_proj_with_mqa.weight")


def config_of(name: str) -> dict:
    return metadata_for(name)["config"]


def dense(hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int, **more) -> dict:
    return {"architectures": ["XForCausalLM"], "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocabulary, "torch_dtype": "bfloat16",
            **more}


def model_of(config: dict, size: int | None = None, tensors: list | None = None):
    return model_from("test", {"schema": 1, "config": config, "source": "a test",
                               "weights": {"bytes": size, "files": 1, "tensors": tensors}})


def plain(config: dict) -> dict:
    """The same model, unquantised."""
    keep = ("quantization_config", "expert_dtype")
    return {key: plain(value) if isinstance(value, dict) else value for key, value in config.items() if key not in keep}


# --- from config.json

MIXTRAL = dense(4096, 14336, 32, 32, 8, 32000, num_local_experts=8, num_experts_per_tok=2, head_dim=None)
QWEN_MOE = dense(2048, 5632, 24, 16, 16, 151936, num_experts=60, moe_intermediate_size=1408, shared_expert_intermediate_size=5632)
LLAMA_1B = dense(2048, 8192, 16, 32, 8, 128256, head_dim=64, tie_word_embeddings=True)


@pytest.mark.parametrize(
    "config, parameters",
    [
        (config_of("deepseek-ai/DeepSeek-V2-Lite"), 15_706_484_224),
        (config_of(V3), 671_026_419_200),
        (config_of("Qwen/Qwen3-8B"), 8_190_735_360),
        (config_of("Qwen/Qwen3-32B"), 32_762_123_264),
        (config_of("Qwen/Qwen3-235B-A22B"), 235_093_634_560),
        (config_of("deepseek-ai/DeepSeek-R1-Distill-Llama-70B"), 70_553_706_496),
        (config_of("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"), 7_615_616_512),
        (config_of("openai/gpt-oss-120b"), 116_829_156_672),
        (MIXTRAL, 46_702_792_704),
        (QWEN_MOE, 14_315_784_192),
        (LLAMA_1B, 1_235_814_400),
    ],
    ids=["v2-lite", "v3", "qwen3-8b", "qwen3-32b", "qwen3-235b", "llama-70b", "qwen-7b", "gpt-oss-120b", "mixtral", "qwen1.5-moe",
         "llama-1b-tied"],
)
def test_a_config_counts_the_published_parameters(config, parameters):
    assert model_of(plain(config)).weights / 2 == pytest.approx(parameters, rel=1e-3)


@pytest.mark.parametrize("name, billions", [(V4_FLASH, 284), ("deepseek-ai/DeepSeek-V4-Pro", 1600), (V41, 552)])
def test_a_config_of_v4_counts_the_announced_parameters(name, billions):
    assert model_of(plain(config_of(name))).weights / 2e9 == pytest.approx(billions, rel=0.02)


def test_v41_keeps_its_engram_tables_in_the_hosts_memory():
    model = model_from("m", metadata_for(V41))
    assert model.host == 202_758_032_400  # 768,022,850 rows x (256 + 8)
    assert model.weights + model.drafts.total == pytest.approx(510_313_353_565 - model.host, rel=1e-6)


@pytest.mark.parametrize("name", catalogued())
def test_a_config_lets_expect_the_size_of_its_files(name):
    """Scales, indexers, compressors and MTP layers included; NVFP4 lets some attention be, which config.json does not say."""
    metadata = metadata_for(name)
    counted = model_of(metadata["config"]).download
    assert counted == pytest.approx(metadata["weights"]["bytes"], rel=0.02 if "NVFP4" in name else 0.004)
    believed = model_from("m", metadata)
    assert believed.weights + believed.drafts.total + believed.host == pytest.approx(metadata["weights"]["bytes"])
    assert believed.warnings == ()


@pytest.mark.parametrize(
    "name, main, drafts",
    [
        (V3, 673.3e9, 15.3e9),
        ("unsloth/DeepSeek-R1-BF16", 1342.05e9, 26.93e9),
        ("nvidia/DeepSeek-R1-0528-NVFP4-v2", 386e9, 27e9),
        ("cognitivecomputations/DeepSeek-R1-AWQ", 364.6e9, 0),
        ("deepseek-ai/DeepSeek-V4-Flash-0731", 156.1e9, 10.8e9),
        ("deepseek-ai/DeepSeek-V4-Pro-0813", 850.8e9, 42e9),
        (V41, 299.6e9, 7.9e9),
    ],
)
def test_mtp_layers_are_kept_apart(name, main, drafts):
    model = model_from("m", metadata_for(name))
    assert (model.weights, model.drafts.total) == (pytest.approx(main, rel=0.01), pytest.approx(drafts, rel=0.03))


def test_a_copy_without_mtp_layers_is_told_by_its_size():
    model = model_of(config_of(V3), 673_260_000_000)
    assert model.drafts.total == 0
    assert model.weights == pytest.approx(673.26e9)
    assert model.layers[-1].total == pytest.approx(model_from("m", metadata_for(V3)).layers[-1].total, rel=1e-3)


def test_files_are_believed_where_config_lets_expect_something_else():
    config = dense(4096, 12288, 36, 32, 8, 151936, head_dim=128)
    model = model_of(config, 8_000_000_000)
    assert model.weights == pytest.approx(8e9)
    assert "8 GB" in model.warnings[0] and "16 GB" in model.warnings[0]


def test_files_smaller_than_the_embedding_leave_no_negative_layer():
    model = model_of(dense(4096, 12288, 36, 32, 8, 151936), 1_000_000)
    assert all(layer.total > 0 for layer in model.layers) and model.warnings


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_float32_files_are_loaded_in_16_bits(key):
    config = dense(2048, 8192, 16, 32, 8, 128256, head_dim=64)
    half = model_of(config).weights
    config.pop("torch_dtype")
    model = model_of({**config, key: "float32"}, int(2 * half))
    assert model.weights == pytest.approx(half) and model.download == int(2 * half) and not model.warnings


def test_a_multimodal_config_is_read_inside():
    inner = dense(4096, 12288, 36, 32, 8, 151936)
    outer = {"architectures": ["VForConditionalGeneration"], "text_config": inner, "vision_config": {"hidden_size": 1}}
    model = model_of(outer)
    assert (model.architecture, len(model.layers), model.heads) == ("VForConditionalGeneration", 36, 32)
    assert model.weights == model_of(inner).weights


@pytest.mark.parametrize(
    "keys, moe",
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"first_k_dense_replace": 3, "moe_layer_freq": 1}, [3, 4, 5]),
        ({"first_k_dense_replace": 1, "moe_layer_freq": 2}, [2, 4]),
        ({"moe_layer_freq": 2}, [0, 2, 4]),
        ({"moe_layer_freq": [0, 0, 1, 1, 0, 1]}, [2, 3, 5]),
        ({"decoder_sparse_step": 2}, [1, 3, 5]),
        ({"decoder_sparse_step": 1, "mlp_only_layers": [0, 4]}, [1, 2, 3, 5]),
        ({"interleave_moe_layer_step": 2}, [1, 3, 5]),
        ({"num_experts": 0}, []),
    ],
)
def test_which_layers_have_experts(keys, moe):
    config = {"num_experts": 8, **keys}
    assert [index for index in range(6) if is_moe_layer(config, index)] == moe


def weights(bits: int, kind: str, group: int | None = None, **more) -> dict:
    return {"quant_method": "compressed-tensors", "config_groups": {"g": {
        "weights": {"num_bits": bits, "type": kind, "group_size": group}, **more}}}


@pytest.mark.parametrize(
    "said, method, bits",
    [
        (None, "none", 16),
        ("fp8", "none", 16),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 8 + 32 / 128 ** 2),
        ({"quant_method": "fp8"}, "fp8", 8),
        ({"quant_method": "deepseek_v4_fp8", "weight_block_size": [128, 128]}, "fp8", 8 + 32 / 128 ** 2),
        ({"quant_method": "blockwise_int8", "weight_block_size": [128, 128]}, "blockwise-int8", 16),  # another engine's: refused
        ({"quant_method": "w8a8_int8"}, "w8a8-int8", 16),
        ({"quant_method": "auto_gptq", "bits": 4, "group_size": 128}, "gptq", 4 + 20 / 128),
        ({"quant_method": "fp8", "weight_block_size": [32, 32], "expert_dtype": "fp4"}, "fp8-fp4-experts", 8 + 1 / 32),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq", 4 + 20 / 128),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "awq", 4 + 20 / 64),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "gptq", 8),
        ({"quant_method": "mxfp4"}, "mxfp4", 4.25),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", 4.5),
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "FP8"}}, "fp8", 8),
        (weights(8, "int", input_activations={"num_bits": 8}), "int8", 8),
        (weights(8, "int"), "int8-weights", 8),
        (weights(8, "float", input_activations={"num_bits": 8}), "fp8", 8),
        (weights(4, "int", 128), "int4", 4 + 16 / 128),
        (weights(4, "float", 16), "nvfp4", 4.5),
    ],
)
def test_quantisation(said, method, bits):
    found = quantisation({"quantization_config": said})
    assert (found.method, found.bits) == (method, bits)


def test_mxfp4_of_gpt_oss_is_for_its_experts_only():
    model = model_of(config_of("openai/gpt-oss-120b"))
    count = 128 * 3 * 2880 * 2880
    assert model.layers[0].experts == count * 4.25 / 8
    assert model.layers[0].attention == 2 * 2880 * 64 * 64 * 2.0


@pytest.mark.parametrize(
    "name, each",
    [(V3, 2 * 128 * 256 * 512), ("unsloth/DeepSeek-R1-BF16", 0), (V4_FLASH, 0), ("Qwen/Qwen3-8B", 0)],
)
def test_quantised_mla_keeps_its_up_projections_in_16_bits_too(name, each):
    assert model_from("m", metadata_for(name)).unpacked == each


def test_the_indexer_of_v32_is_whole_on_every_rank():
    """64 heads of 128 from the query's 1536, one key of 128 and 64 head weights from the hidden 7168."""
    with_indexer, without = (model_of(plain(config_of(name))).layers[9] for name in (V32, V3))
    assert with_indexer.replicated - without.replicated == 2 * (1536 * 64 * 128 + 7168 * (128 + 64))
    assert dataclasses.replace(with_indexer, replicated=0) == dataclasses.replace(without, replicated=0)


# --- from tensors

@pytest.mark.parametrize(
    "kind, names",
    {
        "embedding": "model.embed_tokens.weight transformer.wte.weight embed.weight model.language_model.embed_tokens.weight"
                     " language_model.model.embed_tokens.weight transformer.embedding.word_embeddings.weight",
        "head": "lm_head.weight head.weight output.weight language_model.lm_head.weight transformer.output_layer.weight",
        "other": "model.norm.weight norm.weight model.visual.blocks.*.attn.qkv.weight visual.blocks.*.mlp.gate_proj.weight"
                 " visual.patch_embed.proj.weight vision.layers.*.attn.wq.weight aligner.weight"
                 " vision_tower.encoder.layers.*.output.weight"
                 " multi_modal_projector.linear_1.weight audio_tower.layers.*.self_attn.k_proj.weight transformer.wpe.weight",
        "host": "layers.*.engram.embed.weight layers.*.engram.embed.scale",
        "replicated": "model.layers.*.input_layernorm.weight model.layers.*.self_attn.q_norm.weight model.layers.*.mlp.gate.weight"
                      " model.layers.*.mlp.gate.e_score_correction_bias model.layers.*.mlp.router.weight layers.*.ffn.gate.tid2eid"
                      " model.layers.*.block_sparse_moe.gate.weight model.layers.*.mlp.shared_expert_gate.weight"
                      " model.layers.*.self_attn.q_a_proj.weight model.layers.*.self_attn.kv_a_proj_with_mqa.weight_scale_inv"
                      " model.layers.*.self_attn.q_a_layernorm.weight model.layers.*.self_attn.indexer.wq_b.weight"
                      " model.layers.*.self_attn.indexer.wk.weight_scale_inv layers.*.attn.wq_a.weight layers.*.attn.wkv.scale"
                      " layers.*.attn.compressor.wgate.weight layers.*.attn.indexer.compressor.wkv.weight layers.*.hc_attn_fn"
                      " layers.*.engram.wkv.weight model.layers.*.eh_proj.weight mtp.*.e_proj.weight transformer.h.*.ln_1.weight",
        "experts": "model.layers.*.mlp.experts.*.gate_proj.weight model.layers.*.mlp.experts.*.gate_proj.weight_scale_inv"
                   " model.layers.*.block_sparse_moe.experts.*.w1.weight model.layers.*.mlp.experts.gate_up_proj_blocks"
                   " model.layers.*.mlp.experts.down_proj_scales layers.*.ffn.experts.*.w2.scale mtp.*.ffn.experts.*.w3.weight"
                   " model.layers.*.feed_forward.experts.gate_up_proj model.language_model.layers.*.mlp.experts.down_proj"
                   " mtp.layers.*.mlp.experts.*.up_proj.weight",
        "mlp": "model.layers.*.mlp.gate_proj.weight model.layers.*.mlp.down_proj.qweight model.layers.*.mlp.up_proj.g_idx"
               " model.layers.*.mlp.shared_experts.gate_proj.weight model.layers.*.mlp.shared_expert.down_proj.weight_scale_inv"
               " layers.*.ffn.shared_experts.w1.weight transformer.h.*.mlp.c_fc.weight model.layers.*.feed_forward.w2.weight"
               " model.layers.*.embed_tokens.weight model.layers.*.shared_head.head.weight mtp.*.emb.tok_emb.weight",
        "key_value": "model.layers.*.self_attn.k_proj.weight model.layers.*.self_attn.v_proj.qzeros"
                     " model.layers.*.self_attn.v_proj.scales layers.*.attention.wk.weight"
                     " model.language_model.layers.*.self_attn.k_proj.weight",
        "attention": "model.layers.*.self_attn.q_proj.weight model.layers.*.self_attn.o_proj.qweight model.layers.*.self_attn.sinks"
                     " transformer.h.*.attn.c_attn.weight layers.*.attn.wo_a.weight layers.*.attn.wo_b.scale"
                     " layers.*.attn.attn_sink layers.*.attn.wq_b.weight",
    }.items(),
)
def test_where_a_tensor_belongs(kind, names):
    assert {name: tensor_kind(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


@pytest.mark.parametrize("leaf", ["q_b_proj.weight", "q_b_proj.weight_scale_inv", "kv_b_proj.weight", "kv_b_proj.weight_scale_inv",
                                  "o_proj.weight", "q_proj.weight"])
def test_mla_has_no_heads_of_keys_to_replicate(leaf):
    assert tensor_kind(f"model.layers.*.self_attn.{leaf}") == "attention"


def as_rows(shapes: dict, dtype: str = "BF16") -> list:
    """Tensor rows of shapes by name, by way of a safetensors header."""
    return rows([tally({name: {"dtype": dtype, "shape": list(shape)} for name, shape in shapes.items()})])


def v2_lite_shapes(config: dict) -> dict:
    """As V3's, with one q_proj for the pair of a low rank."""
    wide = config["num_attention_heads"] * (config["qk_nope_head_dim"] + config["qk_rope_head_dim"])
    named = v3_shapes({**config, "q_lora_rank": 1})
    return {name.replace("q_b_proj", "q_proj"): (wide, config["hidden_size"]) if "q_b_proj" in name else shape
            for name, shape in named.items() if ".q_a_" not in name}


def llama_shapes(config: dict) -> dict:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    wide = config.get("head_dim") or hidden // config["num_attention_heads"]
    out = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    out["lm_head.weight"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        out[f"{block}.self_attn.q_proj.weight"] = (config["num_attention_heads"] * wide, hidden)
        out[f"{block}.self_attn.o_proj.weight"] = (hidden, config["num_attention_heads"] * wide)
        for part in "kv":
            out[f"{block}.self_attn.{part}_proj.weight"] = (config["num_key_value_heads"] * wide, hidden)
        out[f"{block}.mlp.gate_proj.weight"] = out[f"{block}.mlp.up_proj.weight"] = (inner, hidden)
        out[f"{block}.mlp.down_proj.weight"] = (hidden, inner)
        out[f"{block}.input_layernorm.weight"] = out[f"{block}.post_attention_layernorm.weight"] = (hidden,)
    return out


@pytest.mark.parametrize(
    "config, shapes",
    [
        ({**plain(config_of(V3)), "num_nextn_predict_layers": 0}, v3_shapes),
        (config_of("deepseek-ai/DeepSeek-V2-Lite"), v2_lite_shapes),
        (TINY, v3_shapes),
        (config_of("Qwen/Qwen3-8B"), llama_shapes),
        (LLAMA_1B, llama_shapes),
    ],
    ids=["v3", "v2-lite", "tiny", "qwen3-8b", "llama-1b-tied"],
)
def test_tensors_and_config_agree_part_by_part(config, shapes):
    counted, weighed = model_of(config), model_of(config, tensors=as_rows(shapes(config)))
    assert weighed.weights == pytest.approx(counted.weights, rel=0.01)
    for field in ("embedding", "head", "host"):
        assert getattr(weighed, field) == getattr(counted, field)
    for mine, theirs in zip(counted.layers, weighed.layers, strict=True):
        assert dataclasses.astuple(theirs) == pytest.approx(dataclasses.astuple(mine), rel=0.05 if config is TINY else 0.01)


def test_fp8_tensors_of_v3_are_as_large_as_its_files():
    """Weights of one byte with a float32 scale for each 128 x 128, MTP as layer 61: the published bytes, headers aside."""
    config = config_of(V3)
    named = v3_shapes({**config, "num_hidden_layers": 62})
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    named.update({"model.layers.61.embed_tokens.weight": (vocabulary, hidden),
                  "model.layers.61.eh_proj.weight": (hidden, 2 * hidden),
                  "model.layers.61.shared_head.head.weight": (vocabulary, hidden)})
    quantised = {name: shape for name, shape in named.items() if name.endswith(LINEAR) and "eh_proj" not in name}
    scales = {f"{name}_scale_inv": tuple(math.ceil(side / 128) for side in shape) for name, shape in quantised.items()}
    plain_ones = {name: shape for name, shape in named.items() if name not in quantised}
    tensors = as_rows(quantised, "F8_E4M3") + as_rows(scales, "F32") + as_rows(plain_ones)
    model = model_of(config, tensors=tensors)
    assert model.weights + model.drafts.total == pytest.approx(688_586_727_753, rel=2e-4)
    assert model.drafts.total == pytest.approx(15.4e9, rel=0.01)
    counted = model_from("m", metadata_for(V3))
    assert dataclasses.astuple(model.layers[60]) == pytest.approx(dataclasses.astuple(counted.layers[60]), rel=0.01)


def row(name: str, shape: list, layers: list | None = None, dtype: str = "BF16", count: int = 1) -> dict:
    return {"name": name, "dtype": dtype, "shape": shape, "layers": layers, "count": count}


def test_rows_of_other_parts_go_to_no_layer():
    config = dense(8, 16, 2, 2, 2, 32)
    tensors = [
        row("model.visual.blocks.*.attn.qkv.weight", [10], [[0, 31]]),
        row("mtp.*.ffn.experts.*.w1.weight", [3], None, "I8", 4),
        row("mtp.layers.*.mlp.up_proj.weight", [5], [[0, 1]]),
        row("model.layers.*.mlp.up_proj.weight", [7], [[0, 2]]),
        row("resampler.*.weight", [11]),
    ]
    model = model_of(config, tensors=tensors)
    assert model.other == 32 * 10 * 2 + 11 * 2
    assert (model.drafts.experts, model.drafts.mlp) == (12, 5 * 2 * 2 + 7 * 2)
    assert [layer.total for layer in model.layers] == [14, 14]


def test_a_range_far_beyond_the_layers_takes_no_time():
    model = model_of(dense(8, 16, 2, 2, 2, 32), tensors=[row("model.layers.*.mlp.up_proj.weight", [1], [[1, 10 ** 12]])])
    assert model.layers[1].mlp == 2 and model.drafts.mlp == 2 * (10 ** 12 - 1)


def test_engram_tables_in_tensors_are_the_hosts():
    tables = [row("layers.*.engram.embed.weight", [count, 256], [[layer, layer]], "F8_E4M3")
              for layer, count in ((1, 384006168), (14, 384016682))]
    scales = [row("layers.*.engram.embed.scale", [count, 8], [[layer, layer]], "F8_E8M0")
              for layer, count in ((1, 384006168), (14, 384016682))]
    model = model_of(config_of(V41), tensors=[*tables, *scales, row("layers.*.engram.wkv.weight", [4], [[1, 1]])])
    assert model.host == model_from("m", metadata_for(V41)).host == 768022850 * 264
    assert (model.weights, model.layers[1].replicated) == (8, 8)


def test_float32_tensors_of_a_float32_model_are_loaded_in_16_bits():
    tensors = [row("model.layers.*.mlp.up_proj.weight", [100], [[0, 1]], "F32")]
    config = dense(8, 16, 2, 2, 2, 32)
    assert model_of({**config, "torch_dtype": "float32"}, tensors=tensors).weights == 400
    assert model_of(config, tensors=tensors).weights == 800


# --- what is not known

def test_an_unknown_architecture_is_planned_by_its_size():
    model = model_of({"architectures": ["StrangeModel"], "num_hidden_layers": 10}, 20_000_000_000)
    assert model.by_sizes and len(model.layers) == 10 and model.weights == pytest.approx(20e9)
    assert "StrangeModel does not say hidden_size, num_attention_heads" in model.warnings[0]


def test_neither_shape_nor_size_is_refused():
    with pytest.raises(IdcError) as caught:
        model_of({"architectures": ["StrangeModel"], "hidden_size": 10})
    assert caught.value.code == "IDC-PLAN-010"
    text = str(caught.value)
    assert "StrangeModel" in text and "num_hidden_layers, num_attention_heads, the size of the weight files" in text
