# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about published models, for plans on paper. Private to this collection.

The last resort of the planner: what a deployment gives itself, a verified store and a listing of the hub come first, because the
files of a name can change. An entry has the keys of config.json that memory and layout depend on, under
config.json's own names, and the bytes of its safetensors files. Where a figure is not published exactly, the entry's ``source``
says "derived" (parameters x stored width, scales included) or "assumed".

Sources of the figures:
  - DeepSeek-V3 technical report (arXiv 2412.19437) and the V3 weight file documentation (671 B + 14 B of the prediction module);
    163 files, 688,586,727,753 bytes.
  - DeepSeek-V3.2-Exp model page (the indexer: 64 heads of 128, top 2048); DeepSeek-V2 paper (arXiv 2405.04434) for V2-Lite.
  - DeepSeek-V4 technical report (arXiv 2606.19348), its model pages and vLLM's own model code (models/deepseek_v4); sums of the
    files' sizes as published for V4-Flash, V4-Flash-0731, V4-Pro, V4-Pro-0813 and V3.2-Exp.
  - DeepSeek-V4.1-Flash model page at dba1be0a, the recipe of vLLM and vLLM's models/deepseek_v41.
  - Model pages of Qwen and Meta; index files' total sizes (they equal parameters x 2 bytes, which a test computes).
"""
from __future__ import annotations

import copy
from typing import Any, Dict, List, Optional

_FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}

_V3: Dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "num_nextn_predict_layers": 1,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
_V2_LITE: Dict[str, Any] = {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "q_lora_rank": None,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "vocab_size": 102400,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
# Compressed attention: every layer has a sliding window; by compress_ratios also a cache of one entry for 4 or 128 tokens, and the
# ratio 4 layers an indexer. The list goes on over the prediction layers (0 = window only), which the engine does not read.
_V4: Dict[str, Any] = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "model_type": "deepseek_v4",
    "num_key_value_heads": 1,
    "head_dim": 512,
    "qk_rope_head_dim": 64,
    "o_lora_rank": 1024,
    "n_shared_experts": 1,
    "num_experts_per_tok": 6,
    "num_hash_layers": 3,
    "num_nextn_predict_layers": 1,
    "sliding_window": 128,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "hc_mult": 4,
    "expert_dtype": "fp4",
    "vocab_size": 129280,
    "max_position_embeddings": 1048576,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "quantization_config": dict(_FP8, scale_fmt="ue8m0"),
}
_V4_FLASH: Dict[str, Any] = dict(
    _V4,
    hidden_size=4096,
    moe_intermediate_size=2048,
    num_hidden_layers=43,
    num_attention_heads=64,
    q_lora_rank=1024,
    o_groups=8,
    n_routed_experts=256,
    index_topk=512,
    compress_ratios=[0, 0] + [4, 128] * 20 + [4, 0],
)
_V4_PRO: Dict[str, Any] = dict(
    _V4,
    hidden_size=7168,
    moe_intermediate_size=3072,
    num_hidden_layers=61,
    num_attention_heads=128,
    q_lora_rank=1536,
    o_groups=16,
    n_routed_experts=384,
    index_topk=1024,
    compress_ratios=[128, 128] + [4, 128] * 29 + [4, 0],
)
# Of the compressed layers only kv_source_layer_ids own a cache and an index; the others read the nearest one below them. The Engram
# tables (engram_num_embeddings rows of engram_head_dim FP8 bytes and one scale byte for 32 of them) are in the checkpoint and go to
# pinned host memory.
_V41_TEXT: Dict[str, Any] = {
    "model_type": "deepseek_v41_text",
    "hidden_size": 5120,
    "moe_intermediate_size": 2304,
    "num_hidden_layers": 40,
    "num_attention_heads": 64,
    "num_key_value_heads": 1,
    "head_dim": 512,
    "qk_rope_head_dim": 64,
    "q_lora_rank": 1280,
    "o_lora_rank": 1024,
    "o_groups": 8,
    "n_routed_experts": 384,
    "n_shared_experts": 1,
    "num_experts_per_tok": 6,
    "sliding_window": 128,
    "compress_ratios": [0] * 2 + [2] * 18 + [1] * 20,
    "kv_source_layer_ids": [2, 8, 14, 20],
    "index_source_layer_ids": [2, 8, 14, 20, 24, 28, 32, 36],
    "index_n_heads": 32,
    "index_head_dim": 128,
    "index_topk": 512,
    "candidate_source_layer_id": 20,
    "hc_mult": 4,
    "engram_layer_ids": [1, 14],
    "engram_num_embeddings": [384006168, 384016682],
    "engram_max_ngram_size": 4,
    "engram_n_heads": 8,
    "engram_head_dim": 256,
    "num_nextn_predict_layers": 3,
    "dspark_block_size": 5,
    "dspark_target_layer_ids": [37, 38, 39],
    "dspark_n_routed_experts": 128,
    "dspark_num_experts_per_tok": 3,
    "vocab_size": 129280,
    "max_position_embeddings": 1048576,
}
_V41_FLASH: Dict[str, Any] = {
    "architectures": ["DeepseekV41ForCausalLM"],
    "model_type": "deepseek_v41",
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "quantization_config": {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [32, 32],
        "scale_fmt": "ue8m0",
        "expert_dtype": "fp4",
    },
    "text_config": _V41_TEXT,
    "vision_config": {"num_hidden_layers": 32, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 2816},
}


def _dense(
    family: str, hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocab: int, context: int
) -> Dict[str, Any]:
    """config.json of a dense model with grouped attention and heads of 128."""
    return {
        "architectures": [{"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[family] + "ForCausalLM"],
        "model_type": family,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 128,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


_LLAMA_70B = _dense("llama", 8192, 28672, 80, 64, 8, 128256, 131072)
_QWEN25_72B = _dense("qwen2", 8192, 29568, 80, 64, 8, 152064, 32768)
_QWEN3_235B: Dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "moe_intermediate_size": 1536,
    "num_hidden_layers": 94,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
_GPT_OSS_120B: Dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "vocab_size": 201088,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "mxfp4"},
}
# Per-channel weights, per-token activations: the one INT8 scheme whose experts vLLM runs. Written as compressed-tensors writes it.
_INT8: Dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True, "dynamic": False},
            "input_activations": {"num_bits": 8, "type": "int", "strategy": "token", "symmetric": True, "dynamic": True},
        }
    },
    "ignore": ["lm_head"],
}

_MODELS: Dict[str, Dict[str, Any]] = {}
_ALIASES: Dict[str, str] = {}


def _add(names: str, config: Dict[str, Any], size: int, files: Optional[int], source: str, quantization: Any = None) -> None:
    """One entry: names apart by spaces, the first is the entry's own; ``quantization`` becomes quantization_config."""
    first, *others = names.split()
    if quantization:
        config = dict(config, quantization_config=quantization)
    weights = {"bytes": size, "files": files, "tensors": None}
    _MODELS[first] = {"schema": 1, "config": config, "weights": weights, "source": "shipped catalogue: " + source}
    _ALIASES.update({other.lower(): first for other in (first, *others)})


_add(
    "deepseek-ai/DeepSeek-V3 deepseek-ai/DeepSeek-V3-0324 deepseek-ai/DeepSeek-R1 deepseek-ai/DeepSeek-R1-0528",
    _V3,
    688586727753,
    163,
    "DeepSeek-V3 technical report; size of the V3 and R1 files as published",
    _FP8,
)
_add(
    "deepseek-ai/DeepSeek-V3.1 deepseek-ai/DeepSeek-V3.1-Terminus",
    _V3,
    688586727753,
    163,
    "DeepSeek-V3.1 model page; size assumed equal to V3 (same tensors, 163 files)",
    dict(_FP8, scale_fmt="ue8m0"),
)
_add(
    "unsloth/DeepSeek-R1-BF16 unsloth/DeepSeek-R1-0528-BF16 unsloth/DeepSeek-V3-bf16",
    _V3,
    1368979691008,
    None,
    "derived from DeepSeek-V3: 684,489,845,504 parameters (prediction layer included) x 2 bytes",
)
_add(
    "cognitivecomputations/DeepSeek-R1-AWQ cognitivecomputations/DeepSeek-R1-0528-AWQ cognitivecomputations/DeepSeek-V3-AWQ"
    " cognitivecomputations/DeepSeek-V3-0324-AWQ",
    dict(_V3, num_nextn_predict_layers=0, torch_dtype="float16"),
    364589617424,
    None,
    "derived from DeepSeek-V3: linear layers 4 bits + scales and zero points for 64, the rest 2 bytes; group size and the"
    " missing prediction layer assumed",
    dict(_AWQ, group_size=64, modules_to_not_convert=["self_attn.kv_a_proj_with_mqa"]),
)
_add(
    "meituan/DeepSeek-R1-Channel-INT8",
    _V3,
    689100000000,
    None,
    "derived from DeepSeek-V3: linear layers 1 byte + a 4-byte scale for a row, the rest 2 bytes; that its config.json is in"
    " the form of compressed-tensors is assumed (the publisher shows it with another engine)",
    _INT8,
)
_add(
    "nvidia/DeepSeek-R1-0528-NVFP4-v2 nvidia/DeepSeek-R1-0528-FP4-v2",
    _V3,
    413340567567,
    163,
    "published size of all files of the model (NVFP4 v2, documents included)",
    {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16},
)
_add(
    "deepseek-ai/DeepSeek-V3.2-Exp deepseek-ai/DeepSeek-V3.2 deepseek-ai/DeepSeek-V3.2-Speciale",
    dict(
        _V3,
        architectures=["DeepseekV32ForCausalLM"],
        model_type="deepseek_v32",
        index_head_dim=128,
        index_n_heads=64,
        index_topk=2048,
    ),
    689483049129,
    163,
    "DeepSeek-V3.2-Exp model page; size summed over its files (V3.2 and V3.2-Speciale assumed equal)",
    dict(_FP8, scale_fmt="ue8m0"),
)
_add("deepseek-ai/DeepSeek-V4-Flash", _V4_FLASH, 159617149040, 46, "DeepSeek-V4 technical report and model page")
_add(
    "deepseek-ai/DeepSeek-V4-Flash-0731",
    dict(
        _V4_FLASH,
        compress_ratios=_V4_FLASH["compress_ratios"] + [0, 0],
        dspark_block_size=5,
        dspark_target_layer_ids=[40, 41, 42],
    ),
    166886535336,
    48,
    "DeepSeek-V4 technical report and model page (three draft stages)",
)
_add("deepseek-ai/DeepSeek-V4-Pro", _V4_PRO, 864721029744, 64, "DeepSeek-V4 technical report and model page")
_add(
    "deepseek-ai/DeepSeek-V4-Pro-0813",
    dict(_V4_PRO, compress_ratios=_V4_PRO["compress_ratios"] + [0, 0]),
    892744322880,
    66,
    "size summed over the published files; shapes assumed equal to DeepSeek-V4-Pro but for three draft stages",
)
_add(
    "deepseek-ai/DeepSeek-V4.1-Flash",
    _V41_FLASH,
    510313353565,
    48,
    "DeepSeek-V4.1-Flash model page at dba1be0a (size of all 88 files, documents included)",
)
_add(
    "deepseek-ai/DeepSeek-V2-Lite deepseek-ai/DeepSeek-V2-Lite-Chat",
    _V2_LITE,
    31412968448,
    None,
    "DeepSeek-V2 paper; total size of the published index",
)
_add(
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
    _LLAMA_70B,
    141107412992,
    None,
    "model page; total size as of Llama 3.1 70B, whose shapes it has",
)
_add(
    "casperhansen/deepseek-r1-distill-llama-70b-awq Valdemardi/DeepSeek-R1-Distill-Llama-70B-AWQ"
    " casperhansen/llama-3.3-70b-instruct-awq",
    dict(_LLAMA_70B, torch_dtype="float16"),
    39767785472,
    None,
    "derived from Llama 70B: linear layers 4 bits + scales and zero points for 128, the rest 2 bytes; quantisation keys assumed",
    _AWQ,
)
_add(
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
    _dense("qwen2", 5120, 27648, 64, 40, 8, 152064, 131072),
    65527752704,
    None,
    "model page; size derived (parameters x 2 bytes)",
)
_add(
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
    _dense("qwen2", 5120, 13824, 48, 40, 8, 152064, 131072),
    29540067328,
    None,
    "model page; size derived (parameters x 2 bytes)",
)
_add(
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    _dense("qwen2", 3584, 18944, 28, 28, 4, 152064, 131072),
    15231233024,
    None,
    "model page; total size of the published index of Qwen2.5-7B, whose shapes it has",
)
_add(
    "Qwen/Qwen3-8B",
    _dense("qwen3", 4096, 12288, 36, 32, 8, 151936, 40960),
    16381470720,
    None,
    "model page; total size of the published index",
)
_add(
    "Qwen/Qwen3-32B",
    _dense("qwen3", 5120, 25600, 64, 64, 8, 151936, 40960),
    65524246528,
    17,
    "model page; total size of the published index",
)
_add("Qwen/Qwen2.5-72B-Instruct", _QWEN25_72B, 145412407296, 37, "model page; total size of the published index")
_add(
    "Qwen/Qwen2.5-72B-Instruct-AWQ",
    dict(_QWEN25_72B, intermediate_size=29696, torch_dtype="float16"),
    41595518976,
    None,
    "model page (intermediate size padded to a multiple of the group); size derived as for Llama 70B",
    _AWQ,
)
_add("Qwen/Qwen3-235B-A22B", _QWEN3_235B, 470187269120, None, "model page; total size of the published index")
_add(
    "Qwen/Qwen3-235B-A22B-FP8",
    _QWEN3_235B,
    236416915456,
    None,
    "derived from Qwen3-235B-A22B: linear layers 1 byte + scales for blocks of 128, the rest 2 bytes",
    _FP8,
)
_add("openai/gpt-oss-120b", _GPT_OSS_120B, 65248893184, 15, "model page; size summed over the published files")


def metadata_for(model: str) -> Optional[Dict[str, Any]]:
    """Metadata of a model by its hub name (any case), a copy that the caller may change; None where the catalogue has no entry."""
    name = _ALIASES.get(model.lower())
    return copy.deepcopy(_MODELS[name]) if name else None


def catalogued() -> List[str]:
    """The names of the entries, without aliases, sorted."""
    return sorted(_MODELS)
