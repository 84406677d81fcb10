# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a sequence takes in the KV cache, layer by layer. Pure; private to this collection.

MHA and GQA keep keys and values of each KV head; MLA one latent vector (DeepSeek-V2, https://arxiv.org/abs/2405.04434,
section 2.1.2), which tensor parallel does not split; sparse MLA (V3.2) an indexer's key beside it; V4 and V4.1 one entry
for several tokens on compressed layers, and a sliding window on all. Entry sizes are those of vLLM's cache layouts
(vllm/v1/attention/backends/mla, vllm/models/deepseek_v4, deepseek_v41).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Tuple, Union

from ansible_collections.idc.llm.plugins.module_utils._model import PLAIN, Model

# Bytes of an element, by the beginning of --kv-cache-dtype: one byte; 4 bits and an 8-bit scale for 16; 16 bits otherwise
ELEMENT = (("fp8", 1.0), ("int8", 1.0), ("nvfp4", 0.5625))
FP8_MLA = 656          # fp8_ds_mla: 512 fp8 + 16 bytes of scales + 64 bf16
NVFP4_MLA = 352        # nvfp4_ds_mla: 256 bytes of 4 bits + 32 of scales + 64 fp8
FP8_V4 = 584           # V4: 448 fp8 + 64 bf16 + 8 bytes of scales; V4.1 too on Hopper
FP8_V41 = 528          # V4.1 on Blackwell: 512 fp8 + 16 bytes of scales
INDEXER_SCALE = 128    # one 4-byte scale for so many elements of an indexer's key
BLOCK = 256            # tokens of one block of V4's and V4.1's compressed caches


@dataclass(frozen=True)
class Cache:
    """The cache of one layer: bytes of a token over all its heads; window: tokens kept, 0 for all; shards: into how many
    parts tensor parallel can split it (1 for MLA)."""

    token: float
    window: int = 0
    shards: int = 1


@dataclass(frozen=True)
class Stage:
    """The caches of one pipeline stage whose layers are counted one by one."""

    caches: Tuple[Cache, ...]

    def sequence(self, length: int, tensor: int, in_flight: int) -> float:
        """Bytes on each GPU of a sequence of that length. in_flight: tokens that a window keeps beyond itself."""
        return sum(cache.token * (min(length, cache.window - 1 + in_flight) if cache.window else length)
                   / min(tensor, cache.shards) for cache in self.caches)


@dataclass(frozen=True)
class Pool:
    """The caches of one stage of V4 or V4.1, which share one pool of equal blocks (vllm/v1/core/kv_cache_utils.py).

    block: bytes; windows: (times, tokens kept beyond the step, tokens of a block) of each windowed group, which takes whole
    blocks of the pool; rings: blocks that a sequence takes whatever its length. Not split by tensor parallel.
    """

    block: float
    windows: Tuple[Tuple[int, int, int], ...]
    rings: int = 0

    def sequence(self, length: int, tensor: int, in_flight: int) -> float:
        """Bytes on each GPU of a sequence of that length, as vLLM's own line counts them."""
        del tensor
        blocks = -(-length // BLOCK) + self.rings
        for times, window, step in self.windows:
            blocks += times * (-(-min(length, window + in_flight) // step) + 1)
        return blocks * self.block


Caches = Union[Stage, Pool]


def kv_caches(model: Model, dtype: str, first: int, last: int, capability: Tuple[int, int]) -> Caches:
    """The caches of layers first … last-1 for a ``--kv-cache-dtype``; an empty Stage where the architecture is not known.

    Layers from num_hidden_layers on are MTP's. Where layers differ in kind, vLLM pads them to equal pages (kv_cache_utils.py); that
    is left out but for V4, where it counts.
    """
    config = model.config
    if model.by_sizes:
        return Stage(())
    if config.get("compress_ratios"):
        return _pool(model, first, last, capability)
    dtype = cache_dtype(config, dtype)
    size = next((width for start, width in ELEMENT if dtype.startswith(start)), PLAIN)
    if model.number("kv_lora_rank"):
        token = (model.number("kv_lora_rank") + model.number("qk_rope_head_dim")) * size
        if model.number("index_topk"):  # sparse: a layout of its own for what is not 16 bits; SM120 has no other
            narrow = size < PLAIN or (dtype == "auto" and capability[0] == 12)
            token = (NVFP4_MLA if dtype.startswith("nvfp4") else FP8_MLA if narrow else token) + _indexer_entry(config)
        return Stage((Cache(token),) * (last - first))
    heads = model.kv_heads
    wide = model.number("head_dim", "kv_channels", default=model.number("hidden_size", "n_embd") // max(model.heads, 1))
    kinds = [layer_kind(config, index) for index in range(first, last)]
    return Stage(tuple(Cache(2 * heads * wide * size, model.number("sliding_window") if kind == "sliding" else 0, heads)
                       for kind in kinds if kind != "state"))


def cache_dtype(config: Mapping[str, Any], dtype: str) -> str:
    """What ``auto`` becomes: the checkpoint's own, where it comes with scales for a cache (vllm/utils/torch_utils.py)."""
    said = config.get("quantization_config")
    if dtype != "auto" or not isinstance(said, Mapping):
        return dtype
    inner = said.get("quantization")
    scheme = next((found for part in (inner, said) if isinstance(part, Mapping)
                   for found in (part.get("kv_cache_scheme"), part.get("kv_cache_quant_algo")) if found), None)
    if isinstance(scheme, Mapping):
        return {8: "fp8", 4: "nvfp4"}.get(int(scheme.get("num_bits") or 0), "auto")
    return str(scheme).lower() if str(scheme).lower() in ("fp8", "nvfp4") else "auto"


def layer_kind(config: Mapping[str, Any], index: int) -> str:
    """full, sliding, or state (of fixed size for a sequence, small beside the weights), by config.json.

    Without ``layer_types`` every layer slides that a model's ``sliding_window_pattern`` does not leave out (Gemma 2, gpt-oss: 2).
    """
    kinds = config.get("layer_types") or ()
    if index < len(kinds):
        kind = str(kinds[index])
        return "state" if "linear" in kind or "mamba" in kind else "sliding" if "sliding" in kind else "full"
    window = not kinds and config.get("sliding_window") and config.get("use_sliding_window", True)
    pattern = config.get("sliding_window_pattern") or (2 if config.get("model_type") in ("gemma2", "gpt_oss") else 0)
    return "sliding" if window and (not pattern or (index + 1) % int(pattern)) else "full"


def _indexer_entry(config: Mapping[str, Any]) -> int:
    wide = int(config.get("index_head_dim") or 0)
    return wide + wide // INDEXER_SCALE * 4


def _page(size: int, alignment: int = 576) -> int:
    return -(-size // alignment) * alignment


def _pool(model: Model, first: int, last: int, capability: Tuple[int, int]) -> Pool:
    """V4: a window on every layer, compressed entries and a compressor's state on those with a ratio, an indexer on ratio 4.
    V4.1 keeps compressed entries only on ``kv_source_layer_ids``; the layers between read their source's. On Blackwell (10.x) it
    may pack them tighter still, to 288 bytes in NVFP4, if its own attention kernel is there: not counted on."""
    config = model.config
    listed = [int(ratio or 0) for ratio in config["compress_ratios"]][:model.number("num_hidden_layers")]
    ratios = (listed + [0] * last)[first:last]
    window = model.number("sliding_window", "window_size", default=128)
    key, wide = _indexer_entry(config), model.number("head_dim", default=512)
    sources = config.get("kv_source_layer_ids")
    if sources:
        entry, align = (FP8_V41, 512) if capability[0] == 10 else (FP8_V4, 576)
        own = [ratios[index - first] or 1 for index in sources if first <= index < last]
        block = sum(_page(BLOCK // ratio * entry, align) + _page(BLOCK // ratio * key, align) for ratio in own) or 1
        pages = len(ratios) * _page(32 * entry, align)
        return Pool(block, ((-(-pages // block), window - 1, 32),), rings=1)
    block = sum(_page(BLOCK // ratio * FP8_V4) + (_page(BLOCK // ratio * key) if ratio == 4 else 0)
                for ratio in ratios if ratio > 1) or 1
    windows = [(-(-len(ratios) * _page(64 * FP8_V4) // block), window - 1, 64)]
    for ratio, step, kept in ((4, 4, 8), (128, 8, 128)):
        count = ratios.count(ratio)
        page = _page(step * 4 * wide * (4 if ratio == 4 else 2)) \
            + (_page(step * 4 * 4 * model.number("index_head_dim")) if ratio == 4 else 0)
        if count:
            windows.append((-(-count * page // block), kept - 1, step))
    return Pool(block, tuple(windows))
