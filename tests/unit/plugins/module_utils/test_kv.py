# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of KV cache: measured ones, those of the families' papers, and vLLM's blocks of V4 and V4.1."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._kv import Pool, Stage, cache_dtype, kv_caches, layer_kind
from ansible_collections.idc.llm.plugins.module_utils._model import model_from

HOPPER, BLACKWELL, SM120 = (9, 0), (10, 0), (12, 0)
V2_LITE, QWEN_8B, QWEN_235B = "deepseek-ai/DeepSeek-V2-Lite", "Qwen/Qwen3-8B", "Qwen/Qwen3-235B-A22B"
V3, V32 = "deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-V3.2"
FLASH, PRO, V41 = "deepseek-ai/DeepSeek-V4-Flash", "deepseek-ai/DeepSeek-V4-Pro", "deepseek-ai/DeepSeek-V4.1-Flash"
MILLION = 1 << 20


def model(name: str, **changes):
    metadata = metadata_for(name)
    metadata["config"].update(changes)
    return model_from(name, metadata)


def caches(of, dtype: str = "auto", capability: tuple = HOPPER):
    return kv_caches(of, dtype, 0, len(of.layers), capability)


@pytest.mark.parametrize(
    "name, dtype, tensor, capability, expected",
    [
        (V2_LITE, "auto", 1, HOPPER, 31_104),         # these four measured on an H200
        (V2_LITE, "fp8", 1, HOPPER, 15_552),
        (QWEN_8B, "auto", 1, HOPPER, 147_456),
        (QWEN_8B, "fp8", 1, HOPPER, 73_728),
        (QWEN_8B, "fp8_e5m2", 1, HOPPER, 73_728),
        (QWEN_8B, "bfloat16", 1, HOPPER, 147_456),
        (QWEN_8B, "nvfp4", 1, BLACKWELL, 41_472),
        (QWEN_8B, "auto", 8, HOPPER, 147_456 / 8),
        (QWEN_8B, "auto", 16, HOPPER, 147_456 / 8),   # 8 KV heads: replicated beyond
        (QWEN_235B, "auto", 8, HOPPER, 2 * 128 * 2 * 94),
        (V3, "auto", 1, HOPPER, 70_272),
        (V3, "auto", 8, HOPPER, 70_272),              # MLA is not split
        (V3, "fp8", 8, HOPPER, 35_136),
        (V32, "auto", 1, HOPPER, 78_324),
        (V32, "fp8", 1, HOPPER, 48_068),
        (V32, "fp8_ds_mla", 8, BLACKWELL, 48_068),
        (V32, "nvfp4_ds_mla", 1, BLACKWELL, (352 + 132) * 61),
        (V32, "auto", 1, SM120, 48_068),
        (V32, "bfloat16", 1, SM120, 78_324),
    ],
)
def test_bytes_of_a_token(name, dtype, tensor, capability, expected):
    assert caches(model(name), dtype, capability).sequence(1000, tensor, 0) == 1000 * expected


def test_without_grouping_every_head_has_keys_and_values():
    of = model(QWEN_8B, num_key_value_heads=None)
    assert caches(of).sequence(1, 1, 0) == 2 * 32 * 128 * 2 * 36


def test_the_width_of_a_head_may_be_left_to_the_hidden_size():
    assert caches(model(QWEN_8B, head_dim=None, hidden_size=2048)).sequence(1, 1, 0) == 2 * 8 * 64 * 2 * 36


def test_a_stage_has_its_own_layers_only():
    assert kv_caches(model(V3), "fp8", 0, 31, HOPPER).sequence(1, 1, 0) == 31 * 576


@pytest.mark.parametrize(
    "said, dtype",
    [
        (None, "auto"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "NVFP4"}}, "nvfp4"),
        ({"quant_method": "modelopt", "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"}}, "fp8"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "fp8"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, "auto"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "INT3"}, "auto"),
    ],
)
def test_auto_is_what_the_checkpoint_was_made_for(said, dtype):
    assert cache_dtype({"quantization_config": said}, "auto") == dtype
    assert cache_dtype({"quantization_config": said}, "bfloat16") == "bfloat16"
    of = model(QWEN_8B, quantization_config=said)
    assert caches(of).sequence(1, 1, 0) == {"auto": 147_456, "fp8": 73_728, "nvfp4": 41_472}[dtype]


# --- sliding windows

@pytest.mark.parametrize(
    "config, kinds",
    [
        ({}, "full full full full"),
        ({"sliding_window": 4096}, "sliding sliding sliding sliding"),
        ({"sliding_window": 4096, "use_sliding_window": False}, "full full full full"),
        ({"sliding_window": 4096, "sliding_window_pattern": 2}, "sliding full sliding full"),
        ({"sliding_window": 4096, "sliding_window_pattern": 4}, "sliding sliding sliding full"),
        ({"sliding_window": 4096, "model_type": "gemma2"}, "sliding full sliding full"),
        ({"layer_types": ["linear_attention", "full_attention", "sliding_attention", "mamba"], "sliding_window": 8},
         "state full sliding state"),
        ({"layer_types": ["full_attention"] * 4, "sliding_window": 8, "use_sliding_window": True}, "full full full full"),
    ],
)
def test_which_layers_slide(config, kinds):
    assert [layer_kind(config, index) for index in range(4)] == kinds.split()


def test_a_window_keeps_its_tokens_and_those_of_the_step():
    of = model("openai/gpt-oss-120b")
    token = 2 * 8 * 64 * 2
    assert caches(of).sequence(131_072, 1, 16_384) == 18 * token * (131_072 + 127 + 16_384)
    assert caches(of).sequence(100, 2, 16_384) == 36 * token * 100 / 2  # not more than there is
    blocks = 131_072 // 16 + -(-(127 + 16_384) // 16) + 1                # vLLM's: a block of 16 tokens, groups of 18 layers
    assert caches(of).sequence(131_072, 1, 16_384) == pytest.approx(blocks * 16 * 18 * token, rel=1e-3)


def test_a_layer_with_a_state_keeps_no_tokens():
    of = model(QWEN_8B, layer_types=["linear_attention", "linear_attention", "full_attention"] * 12)
    assert caches(of).sequence(1, 1, 0) == 147_456 / 3


# --- V4 and V4.1

@pytest.mark.parametrize(
    "name, capability, block, length, in_flight, blocks",
    [
        (FLASH, HOPPER, 1_002_240, MILLION, 16_384, 10_778),
        (FLASH, BLACKWELL, 1_002_240, MILLION, 8_192, 7_450),
        (FLASH, HOPPER, 1_002_240, 131_072, 16_384, 7_194),
        (FLASH, HOPPER, 1_002_240, 256, 16_384, 1 + 2 * 5 + 65 + 33),  # windows hold no more than the sequence
        (PRO, HOPPER, 1_435_968, MILLION, 16_384, 10_778),
        (V41, HOPPER, 460_224, MILLION, 16_384, 5_131),
        (V41, SM120, 460_224, MILLION, 16_384, 5_131),
        (V41, BLACKWELL, 1_650 * 256, MILLION, 16_384, 5_131),
    ],
)
def test_blocks_of_v4(name, capability, block, length, in_flight, blocks):
    pool = caches(model(name), "fp8", capability)
    assert isinstance(pool, Pool) and pool.block == block
    assert pool.sequence(length, 1, in_flight) == pool.sequence(length, 8, in_flight) == blocks * block


@pytest.mark.parametrize("name, gigabytes", [(FLASH, 10.80), (PRO, 15.48), (V41, 2.36)])
def test_a_sequence_of_the_whole_context(name, gigabytes):
    assert caches(model(name), "fp8").sequence(MILLION, 1, 16_384) == pytest.approx(gigabytes * 1e9, rel=2e-3)


@pytest.mark.parametrize("first, last, block, blocks", [(0, 22, 478_080, 14_106), (22, 43, 524_160, 14_106)])
def test_stages_of_v4_have_their_own_blocks(first, last, block, blocks):
    pool = kv_caches(model(FLASH), "fp8", first, last, HOPPER)
    assert (pool.block, pool.sequence(MILLION, 1, 24_576)) == (block, blocks * block)


def test_mtp_layers_of_v4_have_a_window_only():
    """One more window changes neither the block nor, while two groups hold them all, the number of blocks."""
    of = model(FLASH)
    assert kv_caches(of, "fp8", 0, 44, HOPPER) == caches(of, "fp8")
    assert kv_caches(of, "fp8", 0, 60, HOPPER).windows[0][0] == 3


def test_an_unknown_architecture_has_unknown_caches():
    of = model_from("m", {"config": {"architectures": ["Strange"]}, "weights": {"bytes": 10}})
    assert caches(of) == Stage(())
