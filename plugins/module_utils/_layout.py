# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a replica can be cut on one kind of host, best first; or why it can't, and the nearest that would do. Pure.

Private to this collection. Recipes: https://github.com/vllm-project/recipes (models/deepseek-ai).
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._deployment import Deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said
from ansible_collections.idc.llm.plugins.module_utils._kv import cache_dtype
from ansible_collections.idc.llm.plugins.module_utils._memory import Card, Estimate, Layout, estimate, pipeline_stages, settings_for
from ansible_collections.idc.llm.plugins.module_utils._model import Model
from ansible_collections.idc.llm.plugins.module_utils._products import PRODUCTS

COMFORT = 0.45         # share of a GPU's memory left for KV cache from which more GPUs a replica are not worth it
NODES = (1, 2, 4, 8)   # hosts of one replica

# What vLLM needs beside the sizes, by architecture: how to cut it (data: data parallel + experts), and its options.
_V4 = {"kv-cache-dtype": "fp8", "block-size": 256, "tokenizer-mode": "deepseek_v4", "reasoning-parser": "deepseek_v4",
       "tool-call-parser": "deepseek_v4", "enable-auto-tool-choice": True}
_V41 = {**_V4, "tokenizer-mode": "deepseek_v41", "reasoning-parser": "deepseek_v41", "tool-call-parser": "deepseek_v41"}


@dataclass(frozen=True)
class Recipe:
    """How a family is served. capability: the least compute capability that its kernels run on."""

    cut: str = "tensor"
    arguments: Tuple[Tuple[str, Any], ...] = ()
    capability: Tuple[int, int] = (7, 5)


RECIPES: Dict[str, Recipe] = {
    "DeepseekV2ForCausalLM": Recipe(capability=(8, 0)),
    "DeepseekV3ForCausalLM": Recipe(capability=(8, 0)),
    "DeepseekV32ForCausalLM": Recipe("data", capability=(9, 0)),
    "DeepseekV4ForCausalLM": Recipe("data", tuple(_V4.items()), (9, 0)),
    "DeepseekV41ForCausalLM": Recipe("tensor", tuple(_V41.items()), (9, 0)),
    "DeepseekV41ForConditionalGeneration": Recipe("tensor", tuple(_V41.items()), (9, 0)),
}

# The least compute capability for a way of storing weights, and from which on its own units are used: below that vLLM
# unpacks the weights in the kernel (Marlin), which saves memory but no computing. vllm/model_executor/layers/quantization.
SUPPORT: Dict[str, Tuple[Tuple[int, int], Tuple[int, int]]] = {
    "none": ((7, 0), (7, 0)), "fp8": ((7, 5), (8, 9)), "fp8-fp4-experts": ((9, 0), (10, 0)), "int8": ((7, 5), (7, 5)),
    "int8-weights": ((7, 5), (7, 5)), "awq": ((7, 5), (7, 5)), "gptq": ((6, 0), (6, 0)), "int4": ((7, 5), (7, 5)),
    "nvfp4": ((7, 5), (10, 0)), "mxfp4": ((8, 0), (9, 0)), "compressed-tensors": ((7, 0), (7, 0)), "torchao": ((7, 5), (7, 5)),
    "moe-wna16": ((7, 0), (7, 0)), "experts-int8": ((8, 0), (8, 0)), "fbgemm-fp8": ((8, 0), (8, 9)), "inc": ((7, 5), (7, 5)),
    "quark": ((8, 0), (8, 0)),
}


@dataclass(frozen=True)
class Kind:
    """A kind of host: equal ones are planned once. gpus: usable ones; domain: most GPUs that share NVLink, 1 for PCIe only.

    memory: bytes of the host's own memory, rounded down; rdma: Gbit/s of all its RDMA ports, 0 without.
    """

    card: Card
    gpus: int
    domain: int = 1
    memory: int = 0
    rdma: float = 0.0

    def __str__(self) -> str:
        return f"{self.gpus} × {self.card}"


@dataclass(frozen=True)
class Way:
    """One way to serve a replica on a kind of host."""

    kind: Kind
    estimate: Estimate
    whole_context: bool = True
    by_recipe: bool = True

    @property
    def rank(self) -> Tuple[int, bool, bool, bool, bool, int]:
        """Smaller is better: few hosts, the whole context, no pipeline within a host, cut as the recipe says, room for KV
        cache, little memory taken."""
        layout, card = self.estimate.layout, self.kind.card
        return (layout.nodes, not self.whole_context, layout.pipeline > layout.nodes, not self.by_recipe,
                self.estimate.kv < COMFORT * card.memory, layout.gpus * card.memory)


def recipe_for(model: Model) -> Recipe:
    """The family's recipe, or the plain one."""
    return RECIPES.get(model.architecture, Recipe())


def engine_arguments(deployment: Deployment, model: Optional[Model]) -> Dict[str, Any]:
    """The recipe's options under the deployment's own; names as vLLM's --config has them."""
    said = {str(key).lstrip("-").replace("_", "-"): value for key, value in deployment.engine_args.items()}
    base = dict(recipe_for(model).arguments) if model and deployment.device == "cuda" else {}
    return {**base, **said}


def check_deployment(deployment: Deployment, model: Model) -> None:
    """What is wrong with a deployment whatever the hosts. Raises IdcError (IDC-PLAN-006, -007, -015, -016)."""
    if model.quantisation.method not in SUPPORT:
        raise IdcError("IDC-PLAN-016", deployment=deployment.name, method=model.quantisation.method,
                       known=", ".join(sorted(set(SUPPORT) - {"none"})))
    if deployment.max_model_len and model.context and deployment.max_model_len > model.context:
        raise IdcError("IDC-PLAN-006", deployment=deployment.name, wanted=deployment.max_model_len, longest=model.context)
    tensor = deployment.tensor_parallel
    if tensor and not divides(model, tensor):
        good = [str(size) for size in range(1, 65) if divides(model, size)]
        raise IdcError("IDC-PLAN-007", deployment=deployment.name, tensor=tensor, heads=model.heads, kv_heads=model.kv_heads,
                       sizes=", ".join(good[:12]))
    if (deployment.pipeline_parallel or 1) > len(model.layers) and not model.by_sizes:
        raise IdcError("IDC-PLAN-015", deployment=deployment.name, pipeline=deployment.pipeline_parallel, layers=len(model.layers))


def divides(model: Model, tensor: int) -> bool:
    """Whether tensor parallel of that size divides the heads (MLA: query heads only; V4: groups of its output too)."""
    if model.by_sizes:
        return True
    if model.heads % tensor or model.number("o_groups", default=tensor) % tensor:
        return False
    latent = model.number("kv_lora_rank") or model.config.get("compress_ratios")
    return bool(latent) or model.kv_heads % tensor == 0 or tensor % model.kv_heads == 0


def unsupported(model: Model, card: Card, kv_dtype: str = "auto") -> Optional[Tuple[str, Tuple[int, int]]]:
    """(what, least compute capability) where this card cannot run the model at all; None where it can."""
    recipe, method = recipe_for(model), model.quantisation.method
    if card.capability < recipe.capability:
        return model.architecture, recipe.capability
    least = SUPPORT[method][0]
    if card.capability < least:
        return f"the format {method}", least
    if cache_dtype(model.config, kv_dtype).startswith("fp8") and model.number("kv_lora_rank") and card.capability < (8, 9):
        return "an fp8 KV cache with MLA", (8, 9)
    return None


def falls_back(model: Model, card: Card) -> bool:
    """Whether vLLM unpacks the weights in the kernel, for want of units that compute in their format."""
    return card.capability < SUPPORT[model.quantisation.method][1]


def ways(deployment: Deployment, model: Model, kind: Kind, hosts: int = 1) -> List[Way]:
    """All ways that fit on this kind of host, best first. hosts: how many of the kind there are."""
    settings = settings_for(engine_arguments(deployment, model), kind.card)
    if unsupported(model, kind.card, settings.kv_dtype) or model.host > kind.memory > 0:
        return []
    wanted = deployment.max_model_len or model.context
    found = []
    for layout in layouts(deployment, model, kind, hosts):
        held = estimate(model, layout, kind.card, settings, wanted)
        whole = held.context is None or held.context >= wanted
        if held.fits and (whole or not deployment.max_model_len):
            by_recipe = layout.gpus == 1 or (layout.data == layout.gpus) == (recipe_for(model).cut == "data")
            found.append(Way(kind, held, whole, by_recipe))
    return sorted(found, key=lambda way: way.rank)


def layouts(deployment: Deployment, model: Model, kind: Kind, hosts: int) -> Iterator[Layout]:
    """The layouts to try, by number of GPUs; sizes that the deployment fixes are kept."""
    data_first = recipe_for(model).cut == "data" and bool(model.experts)
    for nodes in (size for size in NODES if size <= hosts):
        sizes = sorted({1 << power for power in range(9) if 1 << power <= kind.gpus} | {kind.gpus})
        for per_node in sizes if nodes == 1 else [kind.gpus]:
            cuts = list(_cuts(deployment, model, kind, nodes, per_node))
            cuts.sort(key=lambda cut: (-cut.data if data_first else cut.data, cut.pipeline != nodes, cut.pipeline))
            yield from cuts[:1] if not data_first else cuts[:2]


def _cuts(deployment: Deployment, model: Model, kind: Kind, nodes: int, per_node: int) -> Iterator[Layout]:
    """Every tensor × pipeline × data of these GPUs that vLLM accepts and that makes sense."""
    total = nodes * per_node
    fixed = (deployment.tensor_parallel, deployment.pipeline_parallel, deployment.data_parallel)
    any_fixed = any(size is not None for size in fixed)
    data_first = recipe_for(model).cut == "data" and bool(model.experts)
    within = kind.domain if 1 < kind.domain < per_node and deployment.tensor_parallel is None else per_node
    for tensor in (size for size in range(1, per_node + 1) if per_node % size == 0):
        for data in (size for size in range(1, total // tensor + 1) if total // tensor % size == 0):
            pipeline = total // tensor // data
            if any(size is not None and size != got for size, got in zip(fixed, (tensor, pipeline, data))):
                continue
            if deployment.data_parallel is None and data > 1 and not (data_first and tensor == 1 and pipeline == 1):
                continue
            if deployment.pipeline_parallel is None and pipeline not in (1, nodes, total // within) and not any_fixed:
                continue
            if tensor > within or pipeline > max(len(model.layers), 1):
                continue
            if nodes > 1 and data % nodes and (pipeline % nodes or nodes % data):
                continue
            expert = deployment.expert_parallel if deployment.expert_parallel is not None else \
                bool(model.experts) and tensor * data > 1 and model.quantisation.method not in ("awq", "gptq", "int4")
            if divides(model, tensor) and _whole_groups(model, pipeline) and _whole_blocks(model, tensor * data, expert, kind.card):
                yield Layout(tensor, pipeline, data, expert, nodes)


def _whole_groups(model: Model, pipeline: int) -> bool:
    """V4.1's layers that share a KV cache must be of one stage (vllm/models/deepseek_v41/attention.py)."""
    sources = model.config.get("kv_source_layer_ids") or ()
    return not sources or all(first in sources or first < min(sources) for first, unused in
                              pipeline_stages(len(model.layers), pipeline))


def _whole_blocks(model: Model, parts: int, expert: bool, card: Card) -> bool:
    """Block-scaled experts that are cut by columns: whole blocks in each part, or (on cards with FP8 units) a fraction of a
    block of at least 32. vllm/model_executor/layers/fused_moe/oracle/fp8.py"""
    block, inner = model.quantisation.block, model.number("moe_intermediate_size")
    if not (model.experts and block and inner) or expert:
        return True
    if inner % parts:
        return False
    left = math.gcd(block, inner // parts)
    return left == block or (left >= 32 and card.capability >= (8, 9))


def bottleneck(way: Way, nvlink: bool) -> str:
    """What holds this layout back first, as a sentence's end."""
    layout, held, kind = way.estimate.layout, way.estimate, way.kind
    if layout.nodes > 1 and kind.rdma < 100:
        return "the network between hosts ({})".format(f"{kind.rdma:.0f} Gbit/s RDMA" if kind.rdma else "no RDMA")
    if held.sequences is not None and held.sequences < 4:
        return f"KV cache ({held.sequences:.1f} sequences of {held.context} tokens at once)"
    if layout.tensor > 1 and not nvlink:
        return "PCIe between the GPUs (no NVLink)"
    return "memory bandwidth of the GPUs"


def refuse(deployment: Deployment, model: Model, kinds: Mapping[Kind, Sequence[str]]) -> IdcError:
    """Why no kind of host can hold a replica: the reason on the kind that comes nearest, and what would do.

    kinds: names of the hosts of each kind.
    """
    kind = max(kinds, key=lambda one: (not unsupported(model, one.card), one.gpus * one.card.memory))
    host = kinds[kind][0]
    settings = settings_for(engine_arguments(deployment, model), kind.card)
    stop = unsupported(model, kind.card, settings.kv_dtype)
    have = "{}.{}".format(*kind.card.capability)
    if stop:
        return IdcError("IDC-PLAN-012", deployment=deployment.name, what=stop[0], host=host, card=kind.card.name, observed=have,
                        wanted="{}.{}".format(*stop[1]))
    if model.host > kind.memory > 0:
        return IdcError("IDC-PLAN-013", deployment=deployment.name, wanted=_gb(model.host), host=host, observed=_gb(kind.memory))
    if settings.kv_bytes:
        free = [held.kv for held in (estimate(model, layout, kind.card, replace(settings, kv_bytes=None), 0)
                                     for layout in layouts(deployment, model, kind, len(kinds[kind]))) if held.kv > 0]
        if free:
            return IdcError("IDC-PLAN-017", deployment=deployment.name, wanted=_gb(settings.kv_bytes), host=host,
                            observed=_gb(free[0]))
    near = nearest(deployment, model, kind, len(kinds[kind]))
    total = kind.gpus * kind.card.nominal
    if deployment.sizes and not list(layouts(deployment, model, kind, len(kinds[kind]))):
        return no_such_cut(deployment, kinds)
    context = deployment.max_model_len or model.context
    tried = [estimate(model, layout, kind.card, settings, context)
             for layout in layouts(deployment, model, kind, len(kinds[kind]))]
    best = max(tried, key=lambda held: held.context or 0, default=None)
    if best and best.kv > 0:
        return IdcError("IDC-PLAN-011", deployment=deployment.name, context=context, host=host, gpus=kind, layout=best.layout,
                        weights=_gb(best.weights), left=_gb(best.kv), longest=best.context or 0, near=near)
    hosts = len(kinds[kind])
    return IdcError("IDC-PLAN-005", deployment=deployment.name, weights=_gb(model.download), host=host, hosts=hosts,
                    gpus=kind.gpus, memory=kind.card, total=total, near=near)


def no_such_cut(deployment: Deployment, kinds: Mapping[Kind, Sequence[str]]) -> IdcError:
    """No kind of host can be cut into the sizes that the deployment fixes."""
    tensor, pipeline, data = deployment.sizes or (1, 1, 1)
    seen = "; ".join(f"{len(names)} × ({kind})" for kind, names in kinds.items()) or "no usable host"
    return IdcError("IDC-PLAN-002", deployment=deployment.name, wanted=tensor * pipeline * data, tensor=tensor, pipeline=pipeline,
                    data=data, observed=seen)


def nearest(deployment: Deployment, model: Model, kind: Kind, hosts: int) -> Said:
    """The nearest that would fit: more such hosts, and one host with other cards. As a clause in each language."""
    english: List[str] = []
    chinese: List[str] = []
    for more in (size for size in NODES if size > hosts):
        found = [way for way in ways(_free(deployment), model, kind, more) if way.whole_context]
        if found:
            held = found[0].estimate
            english.append(f"on {held.layout.nodes} such hosts ({held.layout}: {_gb(held.weights)} of weights per GPU, "
                           f"about {_gb(held.kv)} left for KV cache)")
            chinese.append(f"{held.layout.nodes} 台此类主机（{held.layout}：每块 GPU 权重 {_gb(held.weights)}，"
                           f"约余 {_gb(held.kv)} 用于 KV 缓存）")
            break
    for product in sorted(PRODUCTS, key=lambda one: one.memory_bytes):
        card = card_of(product.name, product.memory_bytes, product.compute_capability)
        for gpus in (kind.gpus, 8):
            other = Kind(card, gpus, gpus, 0, 0)
            larger = gpus * card.memory > kind.gpus * kind.card.memory
            if larger and not any("on one with" in text for text in english) and \
                    any(way.whole_context for way in ways(_free(deployment), model, other)):
                english.append(f"on one with {other}")
                chinese.append(f"一台有 {other} 的主机")
    if not english:
        return Said("It fits on nothing this planner knows.", "本规划器已知的硬件均不够。")
    return Said("It fits " + ", or ".join(english) + ".", "可用" + "，或".join(chinese) + "。")


def _free(deployment: Deployment) -> Deployment:
    """The same wish without fixed sizes and hosts."""
    return Deployment(name=deployment.name, model=deployment.model, revision=deployment.revision,
                      max_model_len=deployment.max_model_len, engine_args=deployment.engine_args)


def card_of(name: str, total: int, capability: str, reserved: Optional[int] = None) -> Card:
    """A Card from what NVML or the product table says; without a driver's word 0.43 % are reserved, as on an H200."""
    major, minor = (int(part) for part in capability.split("."))
    return Card(name, total, total - (reserved if reserved is not None else int(total * 0.0043)), (major, minor))


def _gb(size: float) -> str:
    return f"{size / 1e9:.0f} GB" if size >= 10e9 else f"{size / 1e9:.1f} GB"
