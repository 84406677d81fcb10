# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What published recipes and plain arithmetic say of known models on known hardware, and what each refusal says."""
from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import hosts_on_paper
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan
from ansible_collections.idc.llm.plugins.module_utils._plan_view import layout_text

WISHES = Wishes(release="0.33.0", store_root="/store")
R1, V3, V32 = "deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-V3.2"
FLASH, PRO, V41 = "deepseek-ai/DeepSeek-V4-Flash", "deepseek-ai/DeepSeek-V4-Pro", "deepseek-ai/DeepSeek-V4.1-Flash"
BF16, AWQ, INT8 = "unsloth/DeepSeek-R1-BF16", "cognitivecomputations/DeepSeek-R1-AWQ", "meituan/DeepSeek-R1-Channel-INT8"
LLAMA, LLAMA_AWQ = "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "casperhansen/deepseek-r1-distill-llama-70b-awq"
QWEN = "Qwen/Qwen3-8B"


def plan_of(model, profile, change=lambda host: host, metadata=None, **wishes):
    """The plan of one deployment called m on paper."""
    deployment = parse_deployment({"name": "m", "model": model, "revision": "r", **wishes}, 1)
    hosts = [change(host) for host in hosts_on_paper(profile, [])]
    return make_plan([deployment], hosts, WISHES, None, {"m": metadata or metadata_for(model)})


def refusal(model, profile, **wishes):
    """(code, sentence) of the refusal."""
    with pytest.raises(IdcError) as caught:
        plan_of(model, profile, **wishes)
    assert "{" not in caught.value.render("zh") and caught.value.render("zh") != caught.value.render("en")
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(("model", "profile", "layout", "engines"), [
    (V3, "1*hgx-h200-8", "TP8+EP", 1),                       # recipe: FP8 on 8 x H200
    (R1, "2*hgx-h100-8", "TP8+PP2+EP/2hosts", 2),            # two ranks
    (V32, "1*hgx-h200-8", "DP8+EP", 1),                      # recipe: prefer data parallel 8 with experts
    (FLASH, "1*hgx-h200-4", "DP4+EP", 1),                    # recipe: DP4 + EP
    (V41, "1*hgx-h200-8", "TP8+EP", 1),                      # recipe: one 8 x H200 node
    (LLAMA, "1*a100-80-pcie-4", "TP4", 1),
    (LLAMA_AWQ, "1*l40s-2", "TP2", 1),
    (QWEN, "2*l40s-4", "1GPU", 8),                           # one card each, replicas fill the rest
    (BF16, "4*hgx-a100-80-8", "TP8+PP4+EP/4hosts", 4),
    (AWQ, "1*hgx-a100-80-8", "TP8", 1),
    (INT8, "2*hgx-a100-80-8", "TP8+PP2+EP/2hosts", 2),
    (R1, "2*hgx-a100-80-8", "TP8+PP2+EP/2hosts", 2),         # FP8 through Marlin, as vLLM does on Ampere
])
def test_known_layouts(model, profile, layout, engines):
    plan = plan_of(model, profile)
    assert [layout_text(engine["layout"]) for engine in plan["engines"]] == [layout] * engines
    for engine in plan["engines"]:
        memory = engine["memory"]
        assert memory["kv_bytes"] > 0 and memory["sequences"] >= 1 and memory["context"] == engine["config"]["max-model-len"]


@pytest.mark.parametrize(("model", "profile", "gigabytes"), [
    (R1, "2*hgx-h100-8", 42), (BF16, "4*hgx-a100-80-8", 42), (LLAMA, "1*a100-80-pcie-4", 35), (V3, "1*hgx-h200-8", 84),
])
def test_weights_per_gpu(model, profile, gigabytes):
    """The fullest GPU holds a little more than the average: layers don't divide evenly, parts are whole on each."""
    held = plan_of(model, profile)["engines"][0]["memory"]["weights_bytes"] / 1e9
    assert gigabytes <= held < gigabytes * 1.12


@pytest.mark.parametrize(("model", "profile", "words"), [
    (V3, "1*hgx-h100-8", ["m needs 689 GB of weights", "has 8 × 80 GB = 640 GB", "on 2 such hosts (tensor 8 × pipeline 2: 4",
                          "left for KV cache)", "or on one with 8 × 141 GB"]),
    (INT8, "1*hgx-a100-80-8", ["640 GB", "on 2 such hosts"]),
    (BF16, "2*hgx-a100-80-8", ["Hosts of this kind: 2", "on 4 such hosts (tensor 8 × pipeline 4"]),
    (R1, "1*h100-pcie-4", ["has 4 × 80 GB = 320 GB", "on 4 such hosts (tensor 4 × pipeline 4"]),
    (R1, "1*h100-pcie-2", ["has 2 × 80 GB = 160 GB", "on 8 such hosts", "8 × 141 GB"]),
    (LLAMA, "1*rtx-4090-8", None),
])
def test_too_large_is_refused_with_the_nearest_fit(model, profile, words):
    if words is None:  # 70B in BF16 on 8 x 24 GB fits, with a shorter context; said, not refused
        assert any("max-model-len is" in text for text in plan_of(model, profile)["warnings"])
        return
    code, text = refusal(model, profile)
    assert code == "IDC-PLAN-005" and all(word in text for word in words), text


@pytest.mark.parametrize(("model", "profile", "wishes", "code", "words"), [
    (R1, "1*hgx-h200-8", {"max_model_len": 200000}, "IDC-PLAN-006", ["200000", "163840"]),
    (QWEN, "1*l40s-4", {"tensor_parallel": 3}, "IDC-PLAN-007", ["tensor_parallel 3", "32 attention heads", "1, 2, 4, 8, 16, 32"]),
    (FLASH, "2*hgx-h200-8", {"tensor_parallel": 16}, "IDC-PLAN-007", ["tensor_parallel 16", "1, 2, 4, 8"]),
    (QWEN, "1*l40s-4", {"gpus": ["7"]}, "IDC-PLAN-008", ["GPU 7", "0 (paper-l40s-4-1-0)"]),
    (QWEN, "1*l40s-4", {"hosts": ["gone"]}, "IDC-PLAN-009", ["gone"]),
    (LLAMA_AWQ, "1*l40s-1", {"max_model_len": 131072}, "IDC-PLAN-011", ["131072", "The longest that fits is", "It fits on"]),
    (V32, "2*hgx-a100-80-8", {}, "IDC-PLAN-012", ["DeepseekV32ForCausalLM", "compute capability 9.0", "A100"]),
    (FLASH, "1*l40s-8", {}, "IDC-PLAN-012", ["8.9"]),
    (AWQ, "1*hgx-a100-80-8", {"engine_args": {"kv-cache-dtype": "fp8"}}, "IDC-PLAN-012", ["fp8 KV cache with MLA", "8.9", "8.0"]),
    (QWEN, "1*l40s-4", {"tensor_parallel": 8}, "IDC-PLAN-002", ["tensor 8 x pipeline 1", "1 × (4 × 45 GB)"]),
    (QWEN, "2*l40s-4", {"tensor_parallel": 4, "replicas": 3}, "IDC-PLAN-001", ["2 of 3 replicas", "0 free"]),
    (QWEN, "1*l40s-4", {"pipeline_parallel": 37}, "IDC-PLAN-015", ["37", "36 layers"]),
    (QWEN, "1*l40s-4", {"tensor_parallel": 1, "engine_args": {"kv-cache-memory-bytes": "40G"}}, "IDC-PLAN-017",
     ["asks for 43 GB", "has 27 GB left"]),
    ("org/unknown", "1*l40s-4", {}, "IDC-PLAN-010", ["org/unknown", "any metadata"]),
])
def test_each_refusal_says_what_and_how_to_mend_it(model, profile, wishes, code, words):
    got, text = refusal(model, profile, **wishes)
    assert got == code and all(word in text for word in words), text


def test_formats_that_vllm_does_not_read_are_refused():
    metadata = metadata_for(QWEN)
    metadata["config"]["quantization_config"] = {"quant_method": "blockwise_int4"}
    code, text = refusal(QWEN, "1*l40s-4", metadata=metadata)
    assert code == "IDC-PLAN-016" and "blockwise-int4" in text and "awq" in text


def test_engram_needs_the_hosts_own_memory_once_for_each_replica():
    def with_memory(gigabytes):
        return lambda host: dataclasses.replace(host, memory=gigabytes * 10 ** 9)
    assert len(plan_of(V41, "1*hgx-h200-8", with_memory(256), tensor_parallel=4)["engines"]) == 1
    assert len(plan_of(V41, "1*hgx-h200-8", with_memory(512), tensor_parallel=4)["engines"]) == 2
    with pytest.raises(IdcError) as caught:
        plan_of(V41, "1*hgx-h200-8", with_memory(128))
    assert caught.value.code == "IDC-PLAN-013" and "203 GB" in str(caught.value)


def test_weights_in_a_format_without_units_are_said():
    warnings = plan_of(R1, "2*hgx-a100-80-8")["warnings"]
    assert any("no units for fp8" in text for text in warnings)
    assert plan_of(V3, "1*hgx-h200-8")["warnings"] == []


def test_an_unknown_architecture_is_planned_by_the_size_of_its_files():
    metadata = {"config": {"architectures": ["NewForCausalLM"]}, "weights": {"bytes": 30 * 10 ** 9}, "source": "test"}
    plan = plan_of("org/new", "1*l40s-4", metadata=metadata, replicas=1)
    assert plan["engines"][0]["memory"]["kv_tokens"] is None
    assert any("by the size of its files" in text for text in plan["warnings"])
    with pytest.raises(IdcError) as caught:
        plan_of("org/new", "1*l40s-4", metadata={"config": {"architectures": ["NewForCausalLM"]}, "source": "test"})
    assert caught.value.code == "IDC-PLAN-010" and "NewForCausalLM" in str(caught.value) and "hidden_size" in str(caught.value)


@pytest.mark.parametrize(("wishes", "layout"), [
    ({"tensor_parallel": 8}, "TP8+EP"), ({"data_parallel": 8}, "DP8+EP"),
    ({"tensor_parallel": 4, "data_parallel": 2}, "TP4+DP2+EP"),
    ({"tensor_parallel": 8, "expert_parallel": False}, "TP8"), ({"tensor_parallel": 4, "pipeline_parallel": 2}, "TP4+PP2+EP"),
])
def test_what_a_deployment_fixes_is_kept_and_checked(wishes, layout):
    plan = plan_of(V3, "1*hgx-h200-8", engine_args={"kv-cache-dtype": "fp8"}, max_model_len=32768, **wishes)
    engine = plan["engines"][0]
    assert layout_text(engine["layout"]) == layout
    assert engine["config"]["tensor-parallel-size"] == engine["layout"]["tensor"]
    assert engine["config"].get("enable-expert-parallel", False) is engine["layout"]["expert"]


def test_the_recipes_options_stand_under_the_deployments_own():
    config = plan_of(FLASH, "1*hgx-h200-4", engine_args={"reasoning_parser": "mine"})["engines"][0]["config"]
    assert (config["kv-cache-dtype"], config["block-size"], config["reasoning-parser"]) == ("fp8", 256, "mine")


def test_what_holds_it_back():
    def said(*arguments, **wishes):
        return plan_of(*arguments, **wishes)["deployments"][0]["bottleneck"]
    assert said(LLAMA_AWQ, "1*l40s-2", max_model_len=4096) == "PCIe between the GPUs (no NVLink)"
    assert said(LLAMA, "1*a100-80-pcie-4").startswith("KV cache (3.")
    assert said(V3, "1*hgx-h200-8") == "memory bandwidth of the GPUs"
    assert said(R1, "2*hgx-h100-8", lambda host: dataclasses.replace(host, rdma=25.0)) == \
        "the network between hosts (25 Gbit/s RDMA)"
