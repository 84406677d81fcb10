# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one GPU holds under a layout: weights, reserve, KV cache, and what that means in tokens. Pure; private to this collection.

The budget is vLLM's (vllm/v1/worker/gpu_worker.py): the memory CUDA sees × gpu-memory-utilization − weights − the peak of a
profiling run. That peak is estimated here by ``reserve``, from the shapes that cause it; the constant was fitted to two
models measured on an H200 (docs/guides/planning.md) and holds there within 1 %.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple

from ansible_collections.idc.llm.plugins.module_utils._kv import Caches, Stage, kv_caches
from ansible_collections.idc.llm.plugins.module_utils._model import Layer, Model

GIB = 1 << 30
UTILISATION = 0.92                # vLLM's default; written into every engine's configuration, so that both agree
CONTEXT_BYTES = 0.4e9             # CUDA context, kernels, workspaces: measured on H200, see above
COMMUNICATION_BYTES = 0.45e9      # NCCL's and all-reduce's buffers of an engine with more than one GPU: measured on 2 × H200


@dataclass(frozen=True)
class Layout:
    """How one replica is cut: sizes of its parallel groups, experts by expert or not, hosts that it spans.

    tensor × pipeline × data = GPUs. pipeline stages, or data-parallel ranks, are spread evenly over ``nodes`` hosts.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: bool = False
    nodes: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline * self.data

    @property
    def per_node(self) -> int:
        """GPUs of one replica on each of its hosts."""
        return self.gpus // self.nodes

    def __str__(self) -> str:
        sizes = (("tensor", self.tensor), ("pipeline", self.pipeline), ("data", self.data))
        return " × ".join(f"{name} {size}" for name, size in sizes if size > 1) or "one GPU"


@dataclass(frozen=True)
class Card:
    """A GPU model as far as memory and kernels go. total: bytes as NVML says; memory: those that CUDA sees; capability: (9, 0)."""

    name: str
    total: int
    memory: int
    capability: Tuple[int, int]

    @property
    def nominal(self) -> int:
        """The size it is sold by: whole GiB, rounded up (an "80 GB" card has 79.6 GiB)."""
        return math.ceil(self.total / GIB)

    def __str__(self) -> str:
        return f"{self.nominal} GB"


@dataclass(frozen=True)
class Settings:
    """The options of an engine that change what fits. seqs, batched: --max-num-seqs, --max-num-batched-tokens; draft: MTP layers
    are loaded; kv_bytes: --kv-cache-memory-bytes, of each GPU whatever the utilisation."""

    utilisation: float = UTILISATION
    kv_dtype: str = "auto"
    seqs: int = 256
    batched: int = 2048
    draft: bool = False
    kv_bytes: Optional[int] = None


def settings_for(args: Mapping[str, Any], card: Card) -> Settings:
    """What the engine's arguments say, else vLLM's defaults for this card (vllm/engine/arg_utils.py, get_batch_defaults)."""
    said = {str(key).lstrip("-").replace("_", "-"): value for key, value in args.items() if value is not None}
    large = card.total >= 70 * GIB and "a100" not in card.name.lower()
    double = 2 if said.get("performance-mode") == "throughput" else 1
    usual = double * (16384 if card.total >= 160 * GIB else 8192 if large else 2048)
    batched = in_bytes(said.get("max-num-batched-tokens")) or usual
    return Settings(
        utilisation=float(said.get("gpu-memory-utilization", UTILISATION)),
        kv_dtype=str(said.get("kv-cache-dtype", "auto")),
        seqs=int(said.get("max-num-seqs") or min(double * (1024 if large else 256), batched)),
        batched=batched,
        draft=any(said.get(key) for key in ("speculative-config", "sc", "spec-method", "spec-model", "spec-tokens")),
        kv_bytes=in_bytes(said.get("kv-cache-memory-bytes")),
    )


def in_bytes(text: Any) -> Optional[int]:
    """A number as vLLM reads it: 64m is decimal, 64M binary (vllm/utils/argparse_utils.py, human_readable_int). None for none."""
    if text is None:
        return None
    value = str(text).strip()
    power = "kmgt".find(value[-1:].lower()) + 1
    if not power or not value:
        return int(float(value))
    return int(float(value[:-1]) * (1000 if value[-1].islower() else 1024) ** power)


@dataclass(frozen=True)
class Estimate:
    """One replica under one layout. Bytes are of its fullest GPU; tokens and sequences are of the whole replica.

    context: longest sequence that fits, at most what was asked; sequences: how many of that length fit at once.
    None where the model's KV cache is not known.
    """

    layout: Layout
    weights: float
    reserve: float
    kv: float
    tokens: Optional[int] = None
    context: Optional[int] = None
    sequences: Optional[float] = None

    @property
    def fits(self) -> bool:
        """Whether the weights leave room for at least one sequence of the context."""
        return self.kv > 0 and self.context != 0


def estimate(model: Model, layout: Layout, card: Card, settings: Settings, context: int) -> Estimate:
    """What each GPU of a replica holds. context: tokens that a sequence may have (0: not known)."""
    stages = pipeline_stages(len(model.layers), layout.pipeline)
    reserve = reserve_bytes(model, layout, settings)
    held = [_stage_weights(model, layout, first, last, settings.draft) for first, last in stages]
    free = [_free(weights + reserve, card, settings) for weights in held]
    drafts = model.draft_layers if settings.draft else 0  # on the last stage
    caches = [kv_caches(model, settings.kv_dtype, first, last + (drafts if last == len(model.layers) else 0), card.capability)
              for first, last in stages]
    fullest, least = max(held), min(free)
    if least <= 0:
        return Estimate(layout, fullest, reserve, least, tokens=0, context=0, sequences=0.0)
    if not context or all(isinstance(part, Stage) and not part.caches for part in caches):
        return Estimate(layout, fullest, reserve, least)
    in_flight = (layout.pipeline + 1) * settings.batched  # steps under way at once, with async scheduling
    longest = min(_longest(part, room, context, layout.tensor, in_flight) for part, room in zip(caches, free))
    if not longest:
        return Estimate(layout, fullest, reserve, least, tokens=0, context=0, sequences=0.0)
    each = min(room / max(part.sequence(longest, layout.tensor, in_flight), 1.0) for part, room in zip(caches, free))
    return Estimate(layout, fullest, reserve, least, tokens=int(each * longest) * layout.data, context=longest,
                    sequences=round(each * layout.data, 2))


def _free(taken: float, card: Card, settings: Settings) -> float:
    """Bytes for KV cache on a GPU; below zero: so much is missing."""
    if settings.kv_bytes is None:
        return card.memory * settings.utilisation - taken
    left = card.memory - taken - settings.kv_bytes
    return float(settings.kv_bytes) if left >= 0 else left


def _longest(part: Caches, free: float, context: int, tensor: int, in_flight: int) -> int:
    """The longest sequence up to the context that fits, in steps of 256 tokens below it."""
    if part.sequence(context, tensor, in_flight) <= free:
        return context
    low, high = 0, context // 256
    while low < high:
        middle = (low + high + 1) // 2
        if part.sequence(middle * 256, tensor, in_flight) <= free:
            low = middle
        else:
            high = middle - 1
    return low * 256


def pipeline_stages(layers: int, stages: int) -> List[Tuple[int, int]]:
    """(first, end) of each stage's layers; what doesn't divide goes to the last stages but one (vllm get_pp_indices)."""
    sizes = [layers // stages] * stages
    for extra in range(2, layers % stages + 2):
        sizes[-extra] += 1
    ends = [sum(sizes[:index + 1]) for index in range(stages)]
    return [(end - size, end) for size, end in zip(sizes, ends)]


def _stage_weights(model: Model, layout: Layout, first: int, last: int, draft: bool) -> float:
    tensor = layout.tensor
    held = sum(_layer_weights(layer, layout, model) for layer in model.layers[first:last])
    if first == 0:
        held += model.embedding / tensor
    if last == len(model.layers):
        head = model.head or (model.embedding if layout.pipeline > 1 else 0.0)  # tied: the last stage needs its own copy
        held += head / tensor + (_layer_weights(model.drafts, layout, model) if draft else 0.0)
    return held + model.other


def _layer_weights(layer: Layer, layout: Layout, model: Model) -> float:
    """Experts are cut over tensor × data either way: whole ones with EP, columns of each without (vLLM's FusedMoE). The rest is
    cut over tensor alone: each data-parallel rank has its own."""
    parts = layout.tensor * layout.data
    share = math.ceil(model.experts / parts) / model.experts if layout.expert and model.experts else 1 / parts
    return (layer.attention + layer.mlp + model.unpacked) / layout.tensor \
        + layer.key_value / min(layout.tensor, max(model.kv_heads, 1)) + layer.replicated + layer.experts * share


def reserve_bytes(model: Model, layout: Layout, settings: Settings) -> float:
    """What a GPU needs beside weights and KV cache: context, buffers, and the peak of a step of ``batched`` tokens.

    Peak: 16-bit activations of the widest MLP plus float32 logits of ``seqs`` sequences. Experts see the tokens of all
    data-parallel ranks at once (vllm/model_executor/layers/fused_moe: naive_dp_ep.py gathers them, modular_kernel.py takes all).
    """
    fixed = CONTEXT_BYTES + (COMMUNICATION_BYTES if layout.gpus > 1 else 0.0)
    if model.by_sizes:
        return fixed + 1.5e9
    hidden = model.number("hidden_size", "n_embd")
    width = 3 * model.number("intermediate_size", "n_inner", default=4 * hidden) / layout.tensor
    if model.experts:
        inner = model.number("moe_intermediate_size", "intermediate_size") / (1 if layout.expert else layout.tensor * layout.data)
        width = max(width, layout.data * model.number("num_experts_per_tok", "moe_topk", default=1) * (hidden + 3 * inner))
    return fixed + 2.0 * settings.batched * width + 4.0 * settings.seqs * model.number("vocab_size")
