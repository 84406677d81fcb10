# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options against the list of a real release (arguments-0.32.0.json says how it was made).

What is accepted and refused was compared with the real parser of vLLM 0.32.0, which got 5781 pairs of option and value through
--config files as the module writes them: all that it refuses is refused here, but for what is wrong inside JSON and lora-modules.
"""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils import _engine_names as names
from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._engine import yaml_text
from ansible_collections.idc.llm.plugins.module_utils._engine_options import as_vllm_reads, parse_arguments, refusal, validate
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fleet import hosts_on_paper
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan

TEXT = (Path(__file__).parent / "arguments-0.32.0.json").read_text(encoding="utf-8")
REAL = parse_arguments(TEXT, "arguments.json")
SITE = Path(__file__).parents[4] / "inventories/demo/group_vars/all/site.yml"


def said(name, value):
    """What is wrong with one option, in English; "" where nothing is."""
    problems = validate({name: value}, {}, REAL)
    assert len(problems) <= 1
    return problems[0].en if problems else ""


def said_of(name, value):
    """What is wrong with one variable."""
    problems = validate({}, {name: value}, REAL)
    return problems[0].en if problems else ""


# --- what the house itself writes


@pytest.mark.parametrize(("model", "profile"), [
    ("deepseek-ai/DeepSeek-V3", "1*hgx-h200-8"), ("deepseek-ai/DeepSeek-R1", "2*hgx-h100-8"),
    ("deepseek-ai/DeepSeek-V3.2", "1*hgx-h200-8"), ("deepseek-ai/DeepSeek-V4-Flash", "1*hgx-h200-4"),
    ("deepseek-ai/DeepSeek-V4-Pro", "1*hgx-b300-8"), ("deepseek-ai/DeepSeek-V4.1-Flash", "1*hgx-h200-8"),
    ("Qwen/Qwen3-8B", "2*l40s-4"),
])
def test_no_planned_engine_is_refused(model, profile):
    deployment = parse_deployment({"name": "m", "model": model, "revision": "r"}, 1)
    plan = make_plan([deployment], hosts_on_paper(profile, []), Wishes("0.32.0", "/store"), None, {"m": metadata_for(model)})
    assert plan["engines"]
    for engine in plan["engines"]:
        assert validate(engine["config"], engine["environment"], REAL, gpus=True) == ()
        assert as_vllm_reads(engine["config"], REAL) == engine["config"]


def test_the_demo_is_not_refused():
    demo = yaml.safe_load(SITE.read_text(encoding="utf-8"))["idc_llm_deployments"][0]
    assert demo["engine_args"] and demo["environment"]
    assert validate(demo["engine_args"], demo["environment"], REAL) == ()


# --- values


@pytest.mark.parametrize(("name", "value"), [
    ("max-model-len", 8192), ("max-model-len", "8192"), ("max-model-len", -1), ("max-model-len", "auto"), ("max-model-len", "32k"),
    ("max-model-len", "1.5k"), ("max_num_batched_tokens", "8k"), ("kv-cache-memory-bytes", "64M"),
    ("gpu-memory-utilization", 0.92), ("gpu-memory-utilization", "0.9"), ("gpu-memory-utilization", 1), ("enforce-eager", True),
    ("no-enable-prefix-caching", True), ("served-model-name", "a"), ("served-model-name", ["a", "b"]), ("dtype", "bfloat16"),
    ("max-lora-rank", 64), ("max-lora-rank", "64"), ("moe-backend", "FLASHINFER-CUTLASS"), ("lora-modules", ["a=/x"]),
    ("lora-modules", [{"name": "a", "path": "/x"}]), ("limit-mm-per-prompt", {"image": 1}), ("allowed-origins", ["*"]),
    ("allowed-origins", '["*"]'), ("compilation-config", {"mode": 3, "pass_config": {"fuse_allreduce_rms": True}}),
    ("speculative-config", {"method": "mtp", "num_speculative_tokens": 1}), ("structured-outputs-config", {"backend": "xgrammar"}),
    ("kv-transfer-config", '{"kv_connector": "NixlConnector", "kv_role": "kv_both"}'), ("hf-overrides", {"rope_scaling": {"x": 1}}),
    ("cudagraph-capture-sizes", [1, 2, 4]), ("tensor-parallel-size", None), ("api-server-count", 2), ("log-level", "DEBUG"),
])
def test_accepted(name, value):
    assert said(name, value) == ""


@pytest.mark.parametrize(("name", "value", "wanted"), [
    ("max-model-len", "long", 'is "long", wanted a whole number, also as 64M or auto'),
    ("max-model-len", "1.5K", "wanted a whole number"),
    ("max-num-seqs", "8k", "wanted a whole number"),
    ("max-num-seqs", 8.5, "is 8.5, wanted a whole number"),
    ("max-num-seqs", True, "is true, wanted a whole number"),
    ("max-num-seqs", [1, 2], "is [1, 2]"),
    ("max-lora-rank", 65, "is 65, wanted one of 1, 8, 16, 32, 64, 128, 256, 320, 512"),
    ("gpu-memory-utilization", "most", "wanted a number"),
    ("cpu-offload-gb", -0.5, "is -0.5, wanted a number that is not negative"),
    ("enforce-eager", "true", 'is "true", wanted true or false, without quotes'),  # vLLM would take "true" for the model
    ("dtype", "fp16", 'is "fp16", wanted one of auto, bfloat16'),
    ("moe-backend", "fastest", "wanted one of"),
    ("chat-template", "-x", "wanted text that does not begin with a dash"),
    ("chat-template", True, "is true, wanted text"),
    ("served-model-name", ["a", "-b"], "a list of any number of items, each text"),
    ("compilation-config", 3, "is 3, wanted a mapping"),
    ("compilation-config", "{mode", "wanted a mapping"),
    ("middleware", ["a", "b"], "wanted text"),  # vLLM would take b for the model
    ("speculative-config", {"num_speculative_token": 1}, "has no key num_speculative_token (did you mean num_speculative_tokens"),
    ("kv-transfer-config", '{"kv_conector": "x"}', "has no key kv_conector (did you mean kv_connector"),
    ("compilation-config", {"mod": 3, "pass_config": {"fuse": True}}, "has no key pass_config.fuse"),
    ("compilation-config", {"mod": 3, "pass_config": {"fuse": True}}, "has no key mod (did you mean mode"),
])
def test_refused(name, value, wanted):
    assert wanted in said(name, value)


def test_every_switch_is_a_switch_and_every_choice_fits():
    """As wide as the release: 317 options."""
    assert len(REAL.options) > 300 and len(REAL.variables) > 300
    for name, option in REAL.options.items():
        if name in names.OWNED_OPTIONS or "deprecated" in option:
            continue
        assert bool(said(name, True)) == (option["kind"] != "bool" and not option.get("bare")), name
        for choice in option.get("choices", ()):
            assert said(name, choice) == "", (name, choice)
        if "choices" in option:
            assert "wanted" in said(name, "no-such-choice"), name


# --- what reaches vLLM


def test_a_switch_is_turned_off():
    """vLLM 0.32.0 passes over ``false`` in its file (tried): prefix caching would stay on."""
    config = {"enable_prefix_caching": False, "enforce-eager": True, "headless": False, "no-async-scheduling": True}
    assert validate(config, {}, REAL) == ()
    assert as_vllm_reads(config, REAL) == {
        "no-enable-prefix-caching": True, "enforce-eager": True, "headless": False, "no-async-scheduling": True}


def test_lists_that_vllm_wants_as_json():
    config = {"allowed-origins": ["*"], "lora-modules": [{"path": "/x", "name": "a"}], "served-model-name": ["a", "b"]}
    read = yaml.safe_load(yaml_text(as_vllm_reads(config, REAL)))
    assert read == {"allowed-origins": '["*"]', "lora-modules": ['{"name": "a", "path": "/x"}'], "served-model-name": ["a", "b"]}


def test_the_same_option_twice():
    (problem,) = validate({"max_model_len": 1, "max-model-len": 2}, {}, REAL)
    assert (problem.where, problem.en) == ("config.max-model-len", "means the same as max_model_len")
    assert len(validate({"enable-prefix-caching": True, "no-enable-prefix-caching": True}, {}, REAL)) == 1


# --- names


@pytest.mark.parametrize(("name", "words"), [
    ("--model_parallel_size", "which calls it tensor-parallel-size (in a deployment: tensor_parallel)"),
    ("max_batch_size", "which calls it max-num-seqs, requests in one step"),
    ("enable_cuda_graph", "CUDA graphs are on unless enforce-eager: true"),
    ("--memory-efficient-attention", "which calls it attention-backend, seldom needed"),
    ("num-shard", "tensor-parallel-size"), ("mem-fraction-static", "gpu-memory-utilization"),
    ("kv_cache_free_gpu_memory_fraction", "gpu-memory-utilization"), ("gemm-plugin", "building a TensorRT engine"),
    ("micro-batch-size", "training"), ("num-scheduler-steps", "earlier releases had it"), ("tp", "tensor-parallel-size"),
    ("sc", "speculative-config"),  # the short form of an option
    ("swap-space", "kv-offloading-size"), ("enable-reasoning", "naming the parser turns it on"), ("temperature", "each request"),
    ("max-model-length", "did you mean max-model-len"), ("enable-prefix-cashing", "did you mean enable-prefix-caching"),
    ("--enforce-eager", "goes without the dashes: enforce-eager"), ("compilation-config.mode", "compilation-config: {mode: …}"),
    ("max-model", "did you mean max-model-len"),  # vLLM would accept the beginning of a name
    ("no-enable-prefix-caching", "write enable-prefix-caching: true or false"), ("no-dtype", "no option"),
    ("disable-cascade-attn", "without effect in vLLM 0.32.0"), ("zzz", "no option of vLLM 0.32.0"),
    ("api-key", "idc_llm_secrets.engine_key"), ("hf_token", "idc_llm_secrets.hf_token"), ("device-ids", "gpus"),
    ("config", "this mapping is that file"), ("uds", "host and port"), ("help", "print its help"),
])
def test_names(name, words):
    value = False if name.startswith("no-") else True if name == "--enforce-eager" else 1
    assert words in said(name, value)


def test_what_circulates_points_to_options_that_exist_and_hides_none():
    assert names.OPTIONS and set(names.OPTIONS) & {"model-parallel-size", "max-batch-size"}
    for name, (real, (en, zh)) in names.OPTIONS.items():
        assert REAL.named(name) is None, f"{name} is an option"
        assert real in REAL.options or (not real and en), name
        assert bool(en) == bool(zh), name
    assert not set(names.VARIABLES) & set(REAL.variables)
    assert set(names.PLACES) <= set(REAL.options)


def test_a_name_that_another_release_knows_is_never_refused():
    other = json.loads(TEXT)
    other["options"]["max-batch-size"] = {"names": ["--max-batch-size"], "kind": "int"}
    other["variables"]["VLLM_USE_V1"] = {"kind": "bool", "values": ["0", "1"]}
    del other["options"]["kv-offloading-size"]
    arguments = parse_arguments(json.dumps(other), "x")
    assert validate({"max-batch-size": 8}, {"VLLM_USE_V1": "1"}, arguments) == ()
    assert "kv-offloading-size" not in validate({"swap-space": 8}, {}, arguments)[0].en


# --- variables


@pytest.mark.parametrize(("name", "value"), [
    ("VLLM_HOST_IP", "192.0.2.1"), ("VLLM_NO_USAGE_STATS", "1"), ("VLLM_NO_USAGE_STATS", 1), ("VLLM_USE_MODELSCOPE", "true"),
    ("VLLM_USE_MODELSCOPE", True), ("VLLM_ENGINE_READY_TIMEOUT_S", 3600), ("VLLM_DEEP_GEMM_WARMUP", "skip"),
    ("VLLM_FLOAT32_MATMUL_PRECISION", "HIGH"), ("VLLM_LOG_STATS_INTERVAL", "2.5"), ("VLLM_CUSTOM_ALLREDUCE_ALGO", "x"),
    ("NCCL_SOCKET_IFNAME", "eth0"), ("NCCL_DEBUG", "WARN"), ("NCCL_P2P_DISABLE", "1"), ("GLOO_SOCKET_IFNAME", "eth0"),
    ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("CUDA_LAUNCH_BLOCKING", "0"), ("CUDA_VISIBLE_DEVICES", "0"), ("OMP_NUM_THREADS", "8"),
    ("HF_HUB_OFFLINE", "1"), ("DO_NOT_TRACK", "1"), ("TORCH_NCCL_BLOCKING_WAIT", "1"), ("LMCACHE_CONFIG_FILE", "/x"),
])
def test_variables_accepted(name, value):
    assert said_of(name, value) == ""


@pytest.mark.parametrize(("name", "value", "words"), [
    ("VLLM_USE_V1", "1", "there is one engine now"),
    ("VLLM_ATTENTION_BACKEND", "FLASHINFER", "an option, written in config: attention-backend"),
    ("VLLM_USE_FLASHINFER_MOE_FP8", "1", "moe-backend"), ("VLLM_USE_FLASHINFER_MOE_FP4", "1", "moe-backend"),
    ("VLLM_MAX_MODEL_LEN", "8", "it is an option, written in config: max-model-len"),
    ("VLLM_ENGINE_READY_TIMEOUT", "8", "did you mean VLLM_ENGINE_READY_TIMEOUT_S"), ("VLLM_ZZZ", "1", "no variable of vLLM 0.32.0"),
    ("VLLM_NO_USAGE_STATS", True, 'is true, wanted "0" or "1", in quotes'),  # "True" == "1" is false: the statistics would go out
    ("VLLM_ENABLE_V1_MULTIPROCESSING", "false", 'wanted "0" or "1"'),
    ("VLLM_ENGINE_READY_TIMEOUT_S", "10m", "wanted a whole number"),
    ("VLLM_LOG_STATS_INTERVAL", "often", "wanted a number"), ("VLLM_DEEP_GEMM_WARMUP", "fast", "wanted one of skip, full, relax"),
    ("VLLM_HOST_IP", ["a"], "wanted text"), ("NCCL_BLOCKING", "1", "NCCL reads no such variable"),
    ("NCCL_TREE_THRESHOLD", "0", "NCCL_ALGO"), ("CUDA_LAUNCH_BLOCKING", "1", "much slower"),
    ("CUDA_LAUNCH_BLOCKING", 1, "much slower"),
])
def test_variables_refused(name, value, words):
    assert words in said_of(name, value)


def test_the_cards_are_said_once():
    assert validate({}, {"CUDA_VISIBLE_DEVICES": "0"}, REAL, gpus=True)[0].where == "environment.CUDA_VISIBLE_DEVICES"


# --- the error


def test_all_problems_at_once_in_both_languages_and_no_secret():
    secret = "k" * 20 + "-never-shown"
    config = {"max_batch_size": 8, "dtype": "fp16", "api-key": secret, "max-model-len": 512, "zz--z": 1}
    problems = validate(config, {"VLLM_API_KEY": secret, "HF_TOKEN": secret, "NCCL_BLOCKING": "1"}, REAL)
    error = refusal(problems, REAL, "m-blue-0", "/opt/arguments.json")
    assert isinstance(error, IdcError) and error.code == "IDC-ENG-015"
    assert len(problems) == 7
    for lang in ("en", "zh"):
        text = error.render(lang)
        assert all(f"{row.where}" in text for row in problems) and "max-num-seqs" in text
        assert secret not in text and "m-blue-0" in text and "/opt/arguments.json" in text
    assert "应为" in error.render("zh") and "wanted" not in error.render("zh") and "max-model-len" not in error.render("en")


def test_no_problem_is_no_error():
    assert refusal((), REAL, "m", "/x") is None


@pytest.mark.parametrize(("text", "words"), [
    ("", "it is not there"), ("{", "JSONDecodeError"), ("[]", "TypeError"), ('{"schema": 2}', "schema 2"),
    ('{"schema": 1}', "KeyError"),
    ('{"schema": 1, "vllm": "1", "options": {}, "variables": {}}', "no option named model"),
])
def test_a_list_that_is_of_no_use(text, words):
    with pytest.raises(IdcError, match="IDC-ENG-016") as caught:
        parse_arguments(text, "/opt/arguments.json")
    assert words in caught.value.render() and "--tags vllm_install" in caught.value.render("zh")
