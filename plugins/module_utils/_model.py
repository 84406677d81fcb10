# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model weighs and what its KV cache takes, layer by layer, from its metadata. Pure; private to this collection.

Sizes are bytes. From tensor shapes where the metadata has them; else counted from config.json and scaled to the known size
of the files. KV caches are in ``_kv``. Formulas: DeepSeek-V2 (https://arxiv.org/abs/2405.04434) for MLA,
DeepSeek-V3 (https://arxiv.org/abs/2412.19437) for its experts and MTP layers, GQA (https://arxiv.org/abs/2305.13245).
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._quantisation import Quantisation, quantisation

PLAIN = 2.0  # bytes of an unquantised weight: vLLM loads float32 models in 16 bits too (vllm/config/model.py, _resolve_auto_dtype)
# Bytes of one element, by safetensors' name. https://huggingface.co/docs/safetensors
DTYPE_BYTES = {
    "F64": 8.0, "I64": 8.0, "U64": 8.0, "F32": 4.0, "I32": 4.0, "U32": 4.0, "F16": 2.0, "BF16": 2.0, "I16": 2.0, "U16": 2.0,
    "F8_E4M3": 1.0, "F8_E5M2": 1.0, "F8_E8M0": 1.0, "I8": 1.0, "U8": 1.0, "BOOL": 1.0, "F4": 0.5,
}
_KV_HEADS = ("num_key_value_heads", "multi_query_group_num", "num_kv_heads")


@dataclass(frozen=True)
class Layer:
    """Bytes of one transformer layer, by how vLLM splits them.

    attention and mlp (a dense MLP, or the shared experts) are split by tensor parallel; key_value too, but into no more
    parts than there are KV heads; whole on every rank: replicated (norms, router, MLA's down-projections, indexers);
    experts are split over all ranks, by expert (EP) or by column (TP).
    """

    attention: float = 0.0
    key_value: float = 0.0
    replicated: float = 0.0
    mlp: float = 0.0
    experts: float = 0.0

    @property
    def total(self) -> float:
        """Bytes of the whole layer."""
        return self.attention + self.key_value + self.replicated + self.mlp + self.experts

    def scaled(self, factor: float) -> Layer:
        """The same layer, each part times the factor."""
        return Layer(*(factor * part for part in (self.attention, self.key_value, self.replicated, self.mlp, self.experts)))


@dataclass(frozen=True)
class Model:
    """A model as the planner sees it. Sizes in bytes.

    other: vision parts, final norm; drafts: all MTP layers together, loaded only for speculative decoding; host: what one host must
    hold in its own memory beside the GPUs; files: the checkpoint, None where not known; by_sizes: the architecture is unknown, so
    only the sizes of its files count. warnings: sentences.
    """

    architecture: str
    config: Mapping[str, Any]
    source: str
    layers: Tuple[Layer, ...] = ()
    embedding: float = 0.0
    head: float = 0.0
    other: float = 0.0
    drafts: Layer = field(default_factory=Layer)
    host: float = 0.0
    files: Optional[int] = None
    quantisation: Quantisation = field(default_factory=Quantisation)
    by_sizes: bool = False
    warnings: Tuple[str, ...] = ()

    def number(self, *keys: str, default: int = 0) -> int:
        """The first of these keys of config.json that holds a number above zero."""
        return _number(self.config, *keys, default=default)

    @property
    def weights(self) -> float:
        """Bytes of weights that are loaded onto GPUs, MTP layers aside."""
        return sum(layer.total for layer in self.layers) + self.embedding + self.head + self.other

    @property
    def download(self) -> float:
        """Bytes of the checkpoint."""
        return float(self.files) if self.files is not None else self.weights + self.drafts.total + self.host

    @property
    def draft_layers(self) -> int:
        """MTP layers."""
        return _draft_layers(self.config)

    @property
    def heads(self) -> int:
        """Attention (query) heads."""
        return self.number("num_attention_heads", "n_head", "num_heads")

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values (equal to ``heads`` without GQA)."""
        return self.number(*_KV_HEADS, default=self.heads)

    @property
    def context(self) -> int:
        """Longest context in tokens; 0 when config.json does not say."""
        return self.number("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length")

    @property
    def unpacked(self) -> float:
        """Bytes of one layer's up-projections that MLA keeps in 16 bits beside the quantised ones, over all heads.

        vllm/model_executor/layers/attention/mla_attention.py, process_weights_after_loading.
        """
        if self.quantisation.method in ("none", "mxfp4") or self.config.get("compress_ratios"):
            return 0.0
        return 2.0 * self.heads * (self.number("qk_nope_head_dim") + self.number("v_head_dim")) * self.number("kv_lora_rank")

    @property
    def experts(self) -> int:
        """Routed experts of one layer; 0 for a dense model."""
        return expert_count(self.config)


def expert_count(config: Mapping[str, Any]) -> int:
    """Routed experts by config.json, under any of the names in use."""
    return _number(config, "n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")


def model_from(name: str, metadata: Mapping[str, Any]) -> Model:
    """The model behind one deployment's metadata (the form of ``model_fetch state=listed``).

    Raises IdcError (IDC-PLAN-010) when neither its architecture nor the size of its files is known.
    """
    outer = metadata.get("config") or {}
    config = _text_config(outer)
    weights = metadata.get("weights") or {}
    size, rows = weights.get("bytes"), weights.get("tensors")
    architecture = str((outer.get("architectures") or ["unknown"])[0])
    base = Model(architecture=architecture, config=config, source=str(metadata.get("source") or "unknown"), files=size,
                 quantisation=quantisation(config))
    layers = _number(config, "num_hidden_layers", "n_layer", "num_layers")
    missing = [key for key, value in (("num_hidden_layers", layers), ("hidden_size", _number(config, "hidden_size", "n_embd")),
                                      ("num_attention_heads", base.heads)) if not value]
    if missing and not size:
        raise IdcError("IDC-PLAN-010", deployment=name, architecture=architecture,
                       missing=", ".join([*missing, "the size of the weight files"]))
    if missing:
        even = Layer(attention=float(size or 0) / max(layers, 1))
        return replace(base, layers=(even,) * max(layers, 1), by_sizes=True, warnings=(
            f"{name}: config.json of {architecture} does not say {', '.join(missing)}; planned by the size of its files alone, "
            "KV cache unknown",))
    return _from_tensors(base, rows, layers) if rows else _from_config(name, base, layers)


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a multimodal config.json."""
    inner = config.get("text_config") or config.get("language_config")
    nested = ("text_config", "language_config", "vision_config", "audio_config", "architectures")
    if not isinstance(inner, Mapping):
        return config
    return {**{key: value for key, value in config.items() if key not in nested}, **inner}


def _is_float32(config: Mapping[str, Any]) -> bool:
    return str(config.get("torch_dtype") or config.get("dtype")).replace("torch.", "") in ("float32", "float")


def _number(config: Mapping[str, Any], *keys: str, default: int = 0) -> int:
    for key in keys:
        value = config.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return int(value)
    return default


# --- from config.json alone

def _from_config(name: str, base: Model, count: int) -> Model:
    """Bytes by counting parameters, scaled to the size of the files where that is known."""
    config = base.config
    linear = base.quantisation.bits / 8
    dense = PLAIN if base.quantisation.experts_only else linear
    expert = _expert_bytes(config, base.quantisation, linear)
    embedding = PLAIN * _number(config, "hidden_size", "n_embd") * _number(config, "vocab_size")
    model = replace(base, layers=tuple(_layer(config, index, dense, expert) for index in range(count)), embedding=embedding,
                    head=0.0 if config.get("tie_word_embeddings") else embedding, host=_engram_bytes(config),
                    drafts=_drafts(base, dense, expert))
    return _as_large_as_files(name, model) if base.files else model


def _as_large_as_files(name: str, model: Model) -> Model:
    """The files are believed: layers are scaled to them; MTP layers, which many copies lack, count if that comes nearer."""
    files = (model.files or 0) / (2 if _is_float32(model.config) and model.quantisation.method == "none" else 1)
    main = model.weights + model.host
    if abs(files - main) < abs(files - main - model.drafts.total):
        model = replace(model, drafts=Layer())
    counted = main + model.drafts.total
    fixed = model.embedding + model.head + model.host
    factor = (files - fixed) / max(counted - fixed, 1.0)
    warnings = model.warnings
    if not 0.8 <= factor <= 1.25:
        warnings += (f"{name}: its files hold {files / 1e9:.0f} GB, where config.json lets expect {counted / 1e9:.0f} GB; "
                     "the files are believed",)
        factor = max(factor, 0.05)
    return replace(model, layers=tuple(layer.scaled(factor) for layer in model.layers), drafts=model.drafts.scaled(factor),
                   warnings=warnings)


def _expert_bytes(config: Mapping[str, Any], quant: Quantisation, linear: float) -> float:
    """Bytes of one expert weight; MXFP4 experts beside FP8 linear layers take 4 bits and one 8-bit scale for 32."""
    return 4.25 / 8 if quant.method == "fp8-fp4-experts" or str(config.get("expert_dtype") or "").lower() == "fp4" else linear


def _draft_layers(config: Mapping[str, Any]) -> int:
    """MTP layers; V4's list of ratios goes on over them, and its DSpark stages are not always counted elsewhere."""
    beyond = len(config.get("compress_ratios") or ()) - _number(config, "num_hidden_layers")
    return max(_number(config, "num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers"), beyond,
               len(config.get("dspark_target_layer_ids") or ()))


def _drafts(model: Model, dense: float, expert: float) -> Layer:
    """All MTP layers together: each a decoder layer and a projection of two hidden states to one; DeepSeek-V3's has an embedding
    and a head of its own (section 2.2); NVFP4 files keep them in 16 bits."""
    count, hidden = model.draft_layers, model.number("hidden_size")
    if not count:
        return Layer()
    if model.quantisation.method == "nvfp4":
        dense = expert = PLAIN
    config = {**model.config, "n_routed_experts": model.number("dspark_n_routed_experts", default=model.experts)}
    layer = _layer(config, len(config.get("compress_ratios") or ()) or _number(config, "num_hidden_layers"), dense, expert)
    own = 0.0 if config.get("compress_ratios") else 2 * PLAIN * hidden * model.number("vocab_size")
    return replace(layer, replicated=layer.replicated + 2 * hidden * hidden * dense, mlp=layer.mlp + own).scaled(count)


def is_moe_layer(config: Mapping[str, Any], index: int) -> bool:
    """Whether this layer has routed experts, by the keys of DeepSeek, Qwen or Llama 4."""
    if not expert_count(config) or index in (config.get("mlp_only_layers") or ()):
        return False
    frequency = config.get("moe_layer_freq")
    if isinstance(frequency, (list, tuple)):
        return bool(index < len(frequency) and frequency[index])
    step = _number(config, "decoder_sparse_step", "interleave_moe_layer_step", default=1)
    return index >= _number(config, "first_k_dense_replace") and index % _number(config, "moe_layer_freq", default=1) == 0 \
        and (index + 1) % step == 0


def _layer(config: Mapping[str, Any], index: int, linear: float, expert: float) -> Layer:
    """One layer's bytes. linear, expert: bytes per weight of linear layers and of routed experts."""
    hidden = _number(config, "hidden_size", "n_embd")
    attention, key_value, replicated = attention_weights(config, index)
    layer = Layer(attention=attention * linear, key_value=key_value * linear, replicated=replicated * linear + 2 * hidden * PLAIN)
    if not is_moe_layer(config, index):
        inner = _number(config, "intermediate_size", "n_inner", default=4 * hidden)
        matrices = 2 if config.get("model_type") in ("gpt2", "opt", "gpt_bigcode", "bloom", "falcon") else 3
        return replace(layer, mlp=matrices * hidden * inner * linear)
    inner = _number(config, "moe_intermediate_size", "intermediate_size")
    count = expert_count(config)
    shared = _number(config, "shared_expert_intermediate_size", default=inner * _number(config, "n_shared_experts"))
    return replace(layer, mlp=3 * hidden * shared * linear, experts=3 * hidden * inner * count * expert,
                   replicated=layer.replicated + hidden * count * PLAIN)


def attention_weights(config: Mapping[str, Any], index: int) -> Tuple[float, float, float]:
    """Weights of one layer's attention: (split by heads, split by KV heads, whole on every rank).

    MLA (DeepSeek-V2, section 2.1): down-projections to q_lora_rank and kv_lora_rank + qk_rope_head_dim are replicated,
    up-projections are split. DeepSeek-V3.2's indexer and V4's compressors are replicated.
    """
    hidden, heads = _number(config, "hidden_size", "n_embd"), _number(config, "num_attention_heads", "n_head", "num_heads")
    q_rank, kv_rank = _number(config, "q_lora_rank"), _number(config, "kv_lora_rank")
    indexer = _number(config, "index_n_heads") * _number(config, "index_head_dim")
    if _number(config, "o_lora_rank") and _number(config, "head_dim"):  # DeepSeek-V4: one latent KV head, grouped output
        wide, groups, o_rank = _number(config, "head_dim"), _number(config, "o_groups", default=1), _number(config, "o_lora_rank")
        split = q_rank * heads * wide + heads * wide * o_rank + groups * o_rank * hidden
        ratios = config.get("compress_ratios") or ()
        ratio = int(ratios[index]) if index < len(ratios) and ratios[index] else 0
        compressors = 2 * hidden * wide * (2 if ratio == 4 else 1) if ratio else 0
        index_part = q_rank * indexer + 4 * hidden * _number(config, "index_head_dim") if ratio == 4 else 0
        return float(split), 0.0, float(hidden * (q_rank + wide) + compressors + index_part)
    if kv_rank:
        rope, nope = _number(config, "qk_rope_head_dim"), _number(config, "qk_nope_head_dim")
        value = _number(config, "v_head_dim")
        query = q_rank * heads * (nope + rope) if q_rank else hidden * heads * (nope + rope)
        split = query + kv_rank * heads * (nope + value) + heads * value * hidden
        down = hidden * (q_rank + kv_rank + rope)
        index_part = q_rank * indexer + hidden * (_number(config, "index_head_dim") + _number(config, "index_n_heads"))
        return float(split), 0.0, float(down + (index_part if indexer else 0))
    kv_heads = _number(config, *_KV_HEADS, default=heads)
    wide = _number(config, "head_dim", "kv_channels", default=hidden // max(heads, 1))
    return float(2 * hidden * heads * wide), float(2 * hidden * kv_heads * wide), 0.0


def _engram_bytes(config: Mapping[str, Any]) -> float:
    """Bytes of the Engram tables, which vLLM keeps in the host's memory: rows of 8-bit values and a scale byte for 32 of them.

    vllm/models/deepseek_v41/common/engram.py; one copy for the tensor-parallel ranks of a host.
    """
    rows, wide = config.get("engram_num_embeddings") or (), _number(config, "engram_head_dim")
    return float(sum(int(count) for count in rows) * (wide + wide // 32))


# --- from the tensors' shapes

def _from_tensors(base: Model, rows: Sequence[Mapping[str, Any]], count: int) -> Model:
    """Bytes by what the files hold: each row of tensors goes to its part of its layers; layers beyond ``count`` are MTP's."""
    layers: List[Dict[str, float]] = [{} for unused in range(count)]
    drafts: Dict[str, float] = {}
    parts = {"embedding": 0.0, "head": 0.0, "other": 0.0, "host": 0.0}
    widths = {**DTYPE_BYTES, "F32": PLAIN} if _is_float32(base.config) else DTYPE_BYTES
    for row in rows:
        name, spans = str(row["name"]), row.get("layers") or ()
        size = widths.get(str(row["dtype"]), PLAIN) * int(row["count"]) * math.prod(row["shape"])
        kind = tensor_kind(name)
        if kind in parts or is_draft(name):
            found = parts if kind in parts else drafts
            found[kind] = found.get(kind, 0.0) + size * (sum(last - first + 1 for first, last in spans) or 1)
            continue
        for first, last in spans:
            for index in range(first, min(last + 1, count)):
                layers[index][kind] = layers[index].get(kind, 0.0) + size
            drafts[kind] = drafts.get(kind, 0.0) + size * max(last + 1 - max(first, count), 0)
    if base.config.get("tie_word_embeddings"):
        parts["head"] = 0.0  # vLLM skips a tied head that is in the files nonetheless
    return replace(base, layers=tuple(Layer(**layer) for layer in layers), drafts=Layer(**drafts), embedding=parts["embedding"],
                   head=parts["head"], other=parts["other"], host=parts["host"] or _engram_bytes(base.config))


# Words of tensors' names, dot by dot, as the checkpoints spell them; _BESIDE: beginnings of those not of the language model
_LAYER = re.compile(r"(^|\.)(layers|h|blocks)\.\*")
_BESIDE = ("vis", "audio", "aligner", "image", "multi_modal", "mm_projector", "projector")
_EMBEDDING = {"embed_tokens", "wte", "word_embeddings", "embed", "tok_embeddings", "tok_emb", "embed_in"}
_HEAD = {"lm_head", "head", "output", "output_layer", "embed_out"}
_ROUTER = {"gate", "router", "shared_expert_gate"}
_LATENT = {"q_a_proj", "kv_a_proj_with_mqa", "wq_a", "wkv", "indexer", "compressor"}
_MLP = {"mlp", "ffn", "feed_forward", "block_sparse_moe", "shared_expert", "shared_experts"}
_ATTENTION = {"self_attn", "attn", "attention", "self_attention", "linear_attn"}
_KEY_VALUE = {"k_proj", "v_proj", "wk", "wv"}


def is_draft(name: str) -> bool:
    """Whether a tensor's name itself says that it is of an MTP layer (DeepSeek-V3's are layers beyond the last instead)."""
    return "mtp" in name.lower().split(".")


def tensor_kind(name: str) -> str:
    """Which part of the model a tensor belongs to: a field of Layer, or embedding, head, other, host (Engram's tables).

    Scales, zero points and biases go with their weight. What an MTP layer has of embedding and head is split like an MLP.
    """
    ordered = name.lower().split(".")
    words = set(ordered)
    if any(word.startswith(_BESIDE) for word in ordered):
        return "other"
    outside = "embedding" if words & _EMBEDDING else "head" if words & _HEAD else "other"
    if not (is_draft(name) or _LAYER.search(name)):
        return outside
    if "engram" in words:
        return "host" if outside == "embedding" else "replicated"
    if "experts" in words:
        return "experts"
    if words & _ROUTER or words & _LATENT or any("norm" in word for word in ordered):
        return "replicated"
    if words & _MLP:
        return "mlp"
    if words & _ATTENTION:
        return "key_value" if words & _KEY_VALUE else "attention"
    return "replicated" if outside == "other" else "mlp"
