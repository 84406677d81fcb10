# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a checkpoint stores its linear layers. Pure; private to this collection."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping


@dataclass(frozen=True)
class Quantisation:
    """How the linear layers are stored. bits: per weight with its scales; block: side of a scale's square, 0 for none."""

    method: str = "none"
    bits: float = 16.0
    block: int = 0
    experts_only: bool = False

    def __str__(self) -> str:
        return self.method if self.method != "none" else "unquantised"


def quantisation(config: Mapping[str, Any]) -> Quantisation:
    """How ``quantization_config`` stores linear layers; scales included (one of 16 bits a group, 32 bits a block).

    A method that is not vLLM's (vllm/model_executor/layers/quantization/__init__.py), such as blockwise_int8, keeps its name.
    """
    said = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(said, Mapping):
        return Quantisation()
    method = str(said.get("quant_method") or "none").lower().replace("_", "-")
    if method == "none":
        return Quantisation()
    block = said.get("weight_block_size")
    side = int(block[0]) if isinstance(block, (list, tuple)) and block else 0
    if method in ("awq", "gptq", "awq-marlin", "gptq-marlin", "auto-awq", "auto-gptq"):
        bits = int(said.get("bits") or said.get("w_bit") or 4)
        group = int(said.get("group_size") or said.get("q_group_size") or 128)
        return Quantisation("awq" if "awq" in method else "gptq", bits + (16 + bits) / group if group > 0 else float(bits))
    if method in ("mxfp4", "gpt-oss-mxfp4"):
        return Quantisation("mxfp4", 4.25, experts_only=True)
    if method.startswith("modelopt"):
        algorithm = str(said.get("quant_algo") or (said.get("quantization") or {}).get("quant_algo") or "").upper()
        return Quantisation("nvfp4", 4.5) if "FP4" in algorithm or "fp4" in method else Quantisation("fp8", 8.0)
    if method == "compressed-tensors":
        return _compressed_tensors(said)
    if method in ("fp8", "deepseek-v4-fp8"):
        expert = str(said.get("expert_dtype") or config.get("expert_dtype") or "")
        return Quantisation("fp8-fp4-experts" if "4" in expert else "fp8", 8.0 + (32 / side ** 2 if side else 0.0), side)
    return Quantisation(method, float(said.get("bits") or 16))


def _compressed_tensors(said: Mapping[str, Any]) -> Quantisation:
    groups = said.get("config_groups") or {}
    first: Mapping[str, Any] = next(iter(groups.values()), {})
    weight = first.get("weights") or {}
    bits, kind = int(weight.get("num_bits") or 16), str(weight.get("type") or "")
    group = int(weight.get("group_size") or 0)
    activations = first.get("input_activations")
    if bits == 4:
        return Quantisation("nvfp4", 4.5) if kind == "float" else Quantisation("int4", 4 + (16 / group if group > 0 else 0))
    if bits == 8:
        return Quantisation("fp8" if kind == "float" else "int8" if activations else "int8-weights", 8.0)
    return Quantisation("compressed-tensors", float(bits))
