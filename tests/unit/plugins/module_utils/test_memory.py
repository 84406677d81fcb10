# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a GPU holds under a layout, against what vLLM logged on a real H200."""
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._kv import kv_caches
from ansible_collections.idc.llm.plugins.module_utils._memory import (
    GIB,
    Card,
    Layout,
    Settings,
    estimate,
    in_bytes,
    pipeline_stages,
    reserve_bytes,
    settings_for,
)
from ansible_collections.idc.llm.plugins.module_utils._model import Layer, model_from

H200 = Card("NVIDIA H200", 150_754_820_096, 150_754_820_096 - 644_939_776, (9, 0))  # as NVML said of the card measured
H100 = Card("NVIDIA H100 80GB HBM3", 81_559 << 20, 85_100_000_000, (9, 0))
A100 = Card("NVIDIA A100-SXM4-80GB", 81_920 << 20, 85_500_000_000, (8, 0))
A800 = Card("NVIDIA A800-SXM4-80GB", 81_920 << 20, 85_500_000_000, (8, 0))
L40S = Card("NVIDIA L40S", 46_068 << 20, 48_000_000_000, (8, 9))
B200 = Card("NVIDIA B200", 183_359 << 20, 191_438_888_960, (10, 0))
V2_LITE, QWEN, V3 = "deepseek-ai/DeepSeek-V2-Lite", "Qwen/Qwen3-8B", "deepseek-ai/DeepSeek-V3"
V4_FLASH = "deepseek-ai/DeepSeek-V4-Flash-0731"


def model(name: str, **changes):
    metadata = metadata_for(name)
    metadata["config"].update(changes)
    return model_from(name, metadata)


def weights(of, layout: Layout, **settings) -> float:
    """Bytes of weights on the fullest GPU."""
    return estimate(of, layout, H200, Settings(**settings), of.context).weights


@pytest.mark.parametrize(
    "name, dtype, loaded, free, tokens, concurrency",
    [
        (V2_LITE, "auto", 29.34, 97.95, 3_381_328, 20.64),
        (V2_LITE, "fp8", 29.34, 97.95, 6_762_624, 41.28),
        (QWEN, "auto", 15.27, 111.84, 814_368, 19.88),
        (QWEN, "fp8", 15.30, 111.81, 1_628_304, 39.75),
    ],
)
def test_what_vllm_logged_on_an_h200(name, dtype, loaded, free, tokens, concurrency):
    of = model(name)
    held = estimate(of, Layout(), H200, settings_for({"kv-cache-dtype": dtype}, H200), of.context)
    assert held.weights / GIB == pytest.approx(loaded, rel=0.01)
    assert held.kv / GIB == pytest.approx(free, rel=0.01)
    assert held.tokens == pytest.approx(tokens, rel=0.01)
    assert held.sequences == pytest.approx(concurrency, rel=0.01)
    assert held.context == of.context and held.fits


@pytest.mark.parametrize("layout, concurrency", [(Layout(data=8, expert=True), 156.9), (Layout(tensor=8, expert=True), 20.43)])
def test_what_others_logged_on_eight_b200(layout, concurrency):
    """V4-Flash at its whole context: https://github.com/vllm-project/recipes/issues/762 (a release with one step under way)."""
    of = model(V4_FLASH)
    settings = Settings(utilisation=0.95, kv_dtype="fp8", seqs=256, batched=8192)
    held = estimate(of, layout, B200, settings, of.context)
    each = kv_caches(of, "fp8", 0, 43, B200.capability).sequence(of.context, layout.tensor, 8192)
    assert layout.data * held.kv / each == pytest.approx(concurrency, rel=0.05)


# --- weights

@pytest.mark.parametrize(
    "layers, stages, sizes",
    [(61, 1, [61]), (61, 2, [31, 30]), (61, 3, [20, 21, 20]), (61, 4, [15, 15, 16, 15]), (43, 2, [22, 21]),
     (61, 8, [7, 7, 8, 8, 8, 8, 8, 7]), (7, 4, [2, 2, 2, 1]), (60, 4, [15] * 4)],
)
def test_layers_of_pipeline_stages(layers, stages, sizes):
    found = pipeline_stages(layers, stages)
    assert [last - first for first, last in found] == sizes
    assert found[0][0] == 0 and found[-1][1] == layers
    assert [first for first, unused in found[1:]] == [last for unused, last in found[:-1]]


def test_one_gpu_holds_everything():
    of = model(V2_LITE)
    assert weights(of, Layout()) == pytest.approx(of.weights)


def test_tensor_parallel_splits_all_but_what_is_whole():
    of = model(QWEN)
    norms = 36 * 2 * 4096 * 2
    assert weights(of, Layout(tensor=8)) == pytest.approx((of.weights - norms) / 8 + norms, rel=1e-4)


def test_kv_heads_are_replicated_beyond_their_number():
    of = model("Qwen/Qwen3-235B-A22B")
    keys = sum(layer.key_value for layer in of.layers)
    router = sum(layer.replicated for layer in of.layers)
    assert weights(of, Layout(tensor=8)) == pytest.approx((of.weights - keys - router) / 8 + keys / 4 + router, rel=1e-6)


def test_data_parallel_ranks_each_have_attention_and_share_the_experts():
    of = model(V3)
    experts = sum(layer.experts for layer in of.layers)
    each = of.weights - experts + experts / 8 + 61 * of.unpacked
    assert weights(of, Layout(data=8, expert=True)) == pytest.approx(each)
    assert weights(of, Layout(data=8)) == pytest.approx(each)  # by columns instead of by expert: as many bytes
    assert 100e9 < each < 105e9


def test_an_expert_is_not_cut_with_expert_parallel():
    """128 experts over 3 GPUs: the fullest has 43 of them."""
    of = model("Qwen/Qwen3-235B-A22B")
    experts = sum(layer.experts for layer in of.layers)
    rest = weights(of, Layout(data=3)) - experts / 3
    assert weights(of, Layout(data=3, expert=True)) == pytest.approx(rest + experts * 43 / 128)


def test_mla_unpacks_its_up_projections():
    of = model(V3)
    assert of.unpacked * 61 == pytest.approx(2.05e9, rel=0.01)
    bare = replace(of, config={**of.config, "kv_lora_rank": 0})
    assert weights(of, Layout(tensor=8)) - weights(bare, Layout(tensor=8)) == pytest.approx(2.05e9 / 8, rel=0.01)


def test_embedding_is_on_the_first_stage_and_head_on_the_last():
    of = replace(model(QWEN), layers=(Layer(attention=10.0),) * 4, embedding=1000.0, head=0.0)
    assert weights(of, Layout(pipeline=2)) == 1000 + 20  # not tied, no head: see below
    assert weights(replace(of, head=3000.0), Layout(pipeline=2)) == 3000 + 20
    assert weights(replace(of, head=3000.0), Layout(pipeline=4)) == 3000 + 10
    assert weights(replace(of, embedding=5000.0, head=3000.0), Layout(pipeline=2, tensor=2)) == 2500 + 10


def test_a_tied_head_is_a_second_copy_on_the_last_stage():
    """The last stage, with as many layers as the first, holds the copy and is as full."""
    of = replace(model(QWEN), layers=(Layer(attention=10.0), Layer(attention=500.0)), embedding=1000.0, head=0.0)
    assert weights(of, Layout()) == 1510
    assert weights(of, Layout(pipeline=2)) == 1500


def test_the_fullest_stage_counts():
    of = model(V3)
    first = sum(layer.total for layer in of.layers[:31])
    last = sum(layer.total for layer in of.layers[31:])
    assert weights(of, Layout(pipeline=2)) == pytest.approx(
        max(first + of.embedding + 31 * of.unpacked, last + of.head + 30 * of.unpacked))


def test_mtp_layers_are_loaded_for_speculative_decoding_only():
    """Cut like the other layers."""
    of = model(V3)
    whole = of.drafts.replicated
    for layout, expected in ((Layout(tensor=8, expert=True), (of.drafts.total - whole + of.unpacked) / 8 + whole),
                             (Layout(data=8, expert=True), of.drafts.total - of.drafts.experts * 7 / 8 + of.unpacked)):
        assert weights(of, layout, draft=True) - weights(of, layout) == pytest.approx(expected)


# --- options

@pytest.mark.parametrize(
    "card, seqs, batched", [(A100, 256, 2048), (A800, 1024, 8192), (L40S, 256, 2048), (H100, 1024, 8192), (H200, 1024, 8192),
                            (B200, 1024, 16384)],
    ids=lambda value: getattr(value, "name", None),
)
def test_defaults_of_a_card(card, seqs, batched):
    assert settings_for({}, card) == Settings(0.92, "auto", seqs, batched, False, None)


@pytest.mark.parametrize(
    "args, expected",
    [
        ({"gpu_memory_utilization": 0.8}, {"utilisation": 0.8}),
        ({"--gpu-memory-utilization": "0.8"}, {"utilisation": 0.8}),
        ({"max_num_batched_tokens": "16k", "max-num-seqs": "64"}, {"batched": 16000, "seqs": 64}),
        ({"max-num-batched-tokens": "16K"}, {"batched": 16384}),
        ({"max-num-batched-tokens": 512}, {"batched": 512, "seqs": 512}),
        ({"performance-mode": "throughput"}, {"batched": 16384, "seqs": 2048}),
        ({"performance_mode": "throughput", "max_num_seqs": 64}, {"batched": 16384, "seqs": 64}),
        ({"--kv_cache_dtype": "fp8"}, {"kv_dtype": "fp8"}),
        ({"kv-cache-memory-bytes": "64M"}, {"kv_bytes": 64 << 20}),
        ({"kv_cache_memory_bytes": 10 ** 9}, {"kv_bytes": 10 ** 9}),
        ({"speculative_config": {"method": "mtp", "num_speculative_tokens": 1}}, {"draft": True}),
        ({"speculative-config": '{"method": "mtp"}'}, {"draft": True}),
        ({"-sc": "{}"}, {"draft": True}),
        ({"spec-method": "mtp"}, {"draft": True}),
        ({"speculative-config": None, "gpu-memory-utilization": None}, {}),
    ],
)
def test_options_in_every_spelling(args, expected):
    assert settings_for(args, H200) == replace(settings_for({}, H200), **expected)


@pytest.mark.parametrize(
    "text, number",
    [(None, None), (5, 5), ("123", 123), ("64m", 64_000_000), ("64M", 64 << 20), ("25.6k", 25_600), (" 2g ", 2 * 10 ** 9),
     ("2G", 2 << 30), ("1T", 1 << 40), ("1e9", 10 ** 9)],
)
def test_numbers_as_vllm_reads_them(text, number):
    assert in_bytes(text) == number


def test_utilisation_is_of_the_memory_that_cuda_sees():
    of = model(QWEN)
    held = [estimate(of, Layout(), H200, Settings(utilisation=share), of.context) for share in (0.92, 0.5)]
    assert held[0].kv - held[1].kv == pytest.approx(0.42 * H200.memory)


def test_a_fixed_cache_is_had_whatever_the_utilisation():
    of = model(QWEN)
    held = estimate(of, Layout(), H200, Settings(utilisation=0.2, kv_bytes=100 * 147_456 * 1024), of.context)
    assert (held.kv, held.tokens) == (100 * 147_456 * 1024, 102_400)


def test_a_fixed_cache_that_has_no_room_does_not_fit():
    of = model(QWEN)
    held = estimate(of, Layout(), H200, Settings(kv_bytes=140 * 10 ** 9), of.context)
    assert held.kv < 0 and not held.fits and held.tokens == 0


# --- tokens and sequences

def test_mla_is_not_split_so_data_parallel_holds_more():
    of = model(V3)
    tensor = estimate(of, Layout(tensor=8, expert=True), H200, Settings(batched=512), of.context)
    data = estimate(of, Layout(data=8, expert=True), H200, Settings(batched=512), of.context)
    assert tensor.tokens == pytest.approx(tensor.kv / 70_272, rel=1e-4)
    assert data.tokens == pytest.approx(8 * data.kv / 70_272, rel=1e-4)
    assert data.sequences == pytest.approx(data.tokens / of.context, abs=0.01)


def test_grouped_heads_are_split():
    of = model(QWEN)
    held = estimate(of, Layout(tensor=4), H200, Settings(), of.context)
    assert held.tokens == pytest.approx(held.kv / (147_456 / 4), rel=1e-4)


def test_each_stage_of_a_pipeline_has_its_own_room():
    """Stages of equal layers; then of V3, whose first stage has a layer more but lighter ones: neither stage alone says it."""
    of = model(QWEN)
    held = estimate(of, Layout(pipeline=2), H200, Settings(), of.context)
    assert held.tokens == pytest.approx(held.kv / (147_456 / 2), rel=1e-4)
    of = model(V3)
    held = estimate(of, Layout(tensor=8, pipeline=2, expert=True, nodes=2), H100, Settings(), of.context)
    assert held.kv / (31 * 1152) < held.tokens < held.kv / (30 * 1152)


def test_mtp_layers_have_a_cache_of_their_own():
    of = model(QWEN, num_nextn_predict_layers=4)
    assert of.drafts.total == 0  # the files have room for none
    plain, drafting = (estimate(of, Layout(), H200, Settings(draft=draft), of.context) for draft in (False, True))
    assert drafting.tokens == pytest.approx(plain.tokens * 36 / 40, rel=1e-3)


def test_steps_under_way_take_blocks_of_v4():
    """Two steps with one stage, three with two: the windows keep their tokens."""
    of = model(V4_FLASH)
    one = estimate(of, Layout(tensor=4), H200, Settings(batched=8192), of.context)
    assert one.sequences == pytest.approx(one.kv / (10_778 * 1_002_240), abs=0.01)
    two = estimate(of, Layout(tensor=4, pipeline=2), H200, Settings(batched=8192), of.context)
    assert two.sequences == pytest.approx(two.kv / (14_106 * 524_160), rel=0.03)


def test_the_longest_context_is_offered_where_not_all_fits():
    of = model(QWEN)
    settings = Settings(kv_bytes=10_000 * 147_456)
    held = estimate(of, Layout(), H200, settings, of.context)
    assert (held.context, held.sequences, held.fits) == (9_984, 1.0, True)
    assert estimate(of, Layout(), H200, settings, 8_000).context == 8_000
    assert not estimate(of, Layout(), H200, Settings(kv_bytes=100), of.context).fits


def test_weights_that_are_too_large_leave_less_than_nothing():
    held = estimate(model(V3), Layout(tensor=8, expert=True), H100, Settings(), 1000)
    assert held.kv < 0 and not held.fits and (held.tokens, held.context, held.sequences) == (0, 0, 0.0)


def test_an_unknown_architecture_fits_by_its_size_and_says_no_tokens():
    of = model_from("m", {"config": {"architectures": ["Strange"]}, "weights": {"bytes": 100 * 10 ** 9}})
    held = estimate(of, Layout(), H200, Settings(), 0)
    assert held.fits and held.weights == pytest.approx(100e9) and (held.tokens, held.context, held.sequences) == (None, None, None)
    assert not estimate(of, Layout(), H100, Settings(), 0).fits
    assert estimate(of, Layout(tensor=2), H100, Settings(), 0).weights == pytest.approx(50e9)


# --- reserve

def test_experts_see_the_tokens_of_all_data_parallel_ranks():
    """Each of 8192 x 8 tokens in 8 experts: 16 bits of 7168 in and out of 2048 times 3."""
    of, settings = model(V3), Settings(batched=8192)
    one, eight = (reserve_bytes(of, Layout(data=data, expert=True), settings) for data in (2, 8))
    assert eight - one == pytest.approx(6 * 8192 * 2 * 8 * (7168 + 3 * 2048))


def test_more_tokens_a_step_and_more_gpus_need_more():
    of = model(QWEN)
    small = reserve_bytes(of, Layout(), Settings(batched=2048))
    assert reserve_bytes(of, Layout(), Settings(batched=8192)) - small == 6144 * 2 * 3 * 12288
    assert reserve_bytes(of, Layout(), Settings(batched=2048, seqs=512)) - small == 256 * 4 * 151_936
    assert reserve_bytes(of, Layout(pipeline=2), Settings(batched=2048)) > small
