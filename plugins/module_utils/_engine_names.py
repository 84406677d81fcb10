# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of options and variables that circulate, and what vLLM has instead. A table of facts; private to this collection.

They come from articles, other engines (Megatron-LM, FasterTransformer, text-generation-inference, TensorRT-LLM, SGLang) and older
vLLM. A name that the installed release knows is never looked up here. A test holds each name on the right-hand side against the
options of a real release.

Sources: vLLM's arg_utils.py and envs.py of 0.32.0, and what earlier releases had there; the launchers' references of
text-generation-inference (huggingface.co/docs/text-generation-inference/reference/launcher), trtllm-serve
(nvidia.github.io/TensorRT-LLM/commands/trtllm-serve.html) and SGLang (docs.sglang.io/advanced_features/server_arguments.html);
NCCL's variables (docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html), PyTorch's (docs.pytorch.org/docs/stable/
torch_nccl_environment_variables.html).
"""
from __future__ import annotations

from typing import Dict, Mapping, Tuple

Reason = Tuple[str, str]  # English, Chinese

# What the house sets an option from: a deployment's key, or the module's own argument. {option: place}
PLACES: Mapping[str, str] = {
    "model": "model", "served-model-name": "name", "port": "port", "tensor-parallel-size": "tensor_parallel",
    "pipeline-parallel-size": "pipeline_parallel", "data-parallel-size": "data_parallel",
    "enable-expert-parallel": "expert_parallel", "max-model-len": "max_model_len",
}

# {vLLM's name: names that mean the same elsewhere}
_CALLED: Mapping[str, str] = {
    "tensor-parallel-size": "model-parallel-size tensor-model-parallel-size tensor-parallel tensor-parallel-degree mp-size tp-size "
                            "tp num-shard num-shards num-gpus num-gpu gpu-count",
    "pipeline-parallel-size": "pipeline-model-parallel-size pipeline-parallel pp-size pp",
    "data-parallel-size": "data-parallel dp-size dp",
    "decode-context-parallel-size": "context-parallel-size cp-size dcp-size dcp",
    "all2all-backend": "moe-a2a-backend",
    "model": "model-path model-id model-name-or-path model-dir checkpoint-path model-tag",
    "served-model-name": "model-name served-name model-alias",
    "host": "hostname bind-address server-name",
    "max-model-len": "max-seq-len max-sequence-length max-seq-length seq-length context-length max-context-len max-context-length "
                     "max-length max-input-len max-input-length max-input-tokens max-position-embeddings",
    "max-num-seqs": "max-batch-size batch-size max-concurrent-requests max-running-requests max-concurrency concurrency",
    "max-num-batched-tokens": "max-num-tokens max-batch-tokens max-batch-prefill-tokens max-prefill-tokens chunked-prefill-size",
    "max-num-queued-reqs": "max-queued-requests max-queue-size",
    "gpu-memory-utilization": "gpu-memory-fraction cuda-memory-fraction mem-fraction-static gpu-mem-utilization gpu-memory-usage "
                              "kv-cache-free-gpu-memory-fraction kv-cache-free-gpu-mem-fraction free-gpu-memory-fraction",
    "kv-cache-memory-bytes": "kv-cache-size kv-cache-memory max-batch-total-tokens",
    "kv-offloading-size": "swap-space kv-cache-host-memory-bytes",
    "kv-cache-dtype": "kv-cache-type kv-cache-precision",
    "block-size": "page-size tokens-per-block kv-cache-block-size",
    "num-gpu-blocks-override": "num-gpu-blocks num-pages",
    "quantization": "quantize quant quantization-method load-in-4bit load-in-8bit",
    "dtype": "precision data-type torch-dtype fp16 bf16 half",
    "enable-chunked-prefill": "chunked-prefill enable-chunked-context",
    "scheduling-policy": "schedule-policy",
    "attention-backend": "memory-efficient-attention use-memory-efficient-attention enable-memory-efficient-attention "
                         "use-flash-attn use-flash-attention enable-flash-attention flash-attn flash-attention enable-xformers "
                         "attn-implementation",
    "moe-backend": "moe-runner-backend",
    "max-cudagraph-capture-size": "max-seq-len-to-capture max-context-len-to-capture cuda-graph-max-bs",
    "cudagraph-capture-sizes": "cuda-graph-bs cuda-graphs cuda-graph-sizes",
    "speculative-config": "speculative-algorithm speculative-draft-model-path speculative-num-steps speculative-eagle-topk "
                          "speculate speculative-draft-tensor-parallel-size ngram-prompt-lookup-max ngram-prompt-lookup-min",
    "spec-model": "speculative-model draft-model",
    "spec-tokens": "num-speculative-tokens speculative-num-draft-tokens",
    "structured-outputs-config": "guided-decoding-backend guided-decoding-disable-fallback guided-decoding-disable-any-whitespace "
                                 "grammar-backend",
    "hf-overrides": "rope-scaling rope-theta json-model-override-args",
    "runner": "task is-embedding",
    "pooler-config": "override-pooler-config",
    "reasoning-parser": "enable-reasoning",
    "api-server-count": "workers num-workers",
    "download-dir": "huggingface-hub-cache cache-dir",
    "master-addr": "master-address dist-init-addr head-address",
    "nnodes": "num-nodes",
    "kv-transfer-config": "disaggregation-mode",
    "profiler-config": "profile",
    "seed": "random-seed",
    "uvicorn-log-level": "log-level-http",
}

# What is worth adding where the meaning is not quite the same.
_NOTES: Mapping[str, Reason] = {
    "max-model-len": ("prompt and answer together", "提示与回答合计"),
    "max-num-seqs": ("requests in one step; further ones wait", "同一步内的请求数；其余的排队"),
    "max-num-batched-tokens": ("tokens of one step, prompts being cut to fit", "同一步内的词元数，过长的提示会被切分"),
    "gpu-memory-utilization": ("a part of the whole card, weights included", "占整块显卡的比例，含权重"),
    "kv-cache-memory-bytes": ("bytes of one GPU", "每块 GPU 的字节数"),
    "kv-offloading-size": ("GiB of host memory for the whole engine", "整个引擎使用的主机内存，单位 GiB"),
    "quantization": ("seldom needed: read from the checkpoint", "通常不需要：从模型文件读取"),
    "dtype": ("as in dtype: bfloat16", "例如 dtype: bfloat16"),
    "attention-backend": ("seldom needed: the best for the card is chosen", "通常不需要：会为显卡自动选择最佳实现"),
    "max-cudagraph-capture-size": ("a number of requests, not a length", "指请求数，而不是长度"),
    "speculative-config": ("a mapping: method, num_speculative_tokens", "一个映射：method、num_speculative_tokens"),
    "structured-outputs-config": ("a mapping: backend", "一个映射：backend"),
    "hf-overrides": ("a mapping over the model's config.json", "覆盖模型 config.json 的映射"),
    "runner": ("generate or pooling", "generate 或 pooling"),
    "reasoning-parser": ("naming the parser turns it on", "指定解析器即启用"),
}

_BUILT_IN: Reason = ("vLLM always does this; there is no switch", "vLLM 始终如此，没有开关")
_BUILD: Reason = ("this belongs to building a TensorRT engine; vLLM builds none", "这是构建 TensorRT 引擎时的选项；vLLM 不需要构建")
_TRAINING: Reason = ("this belongs to training, not to serving", "这是训练选项，与推理服务无关")
_MODEL: Reason = ("vLLM reads this from the model's config.json", "vLLM 从模型的 config.json 读取")
_REQUEST: Reason = ("each request says this itself; defaults: override-generation-config",
                    "由每个请求自行给出；默认值：override-generation-config")
_GONE: Reason = ("earlier releases had it; it has no successor", "旧版本才有；没有替代")

# {names: why there is none}
_REFUSED: Tuple[Tuple[str, Reason], ...] = (
    ("enable-cuda-graph use-cuda-graph cuda-graph enable-cudagraph enable-cuda-graphs",
     ("CUDA graphs are on unless enforce-eager: true turns them off", "CUDA 图默认开启，只有 enforce-eager: true 会关闭")),
    ("disable-cuda-graph", ("write enforce-eager: true", "请写 enforce-eager: true")),
    ("enable-torch-compile",
     ("compilation is on unless enforce-eager: true turns it off", "默认已编译，只有 enforce-eager: true 会关闭")),
    ("disable-radix-cache disable-prefix-caching", ("write enable-prefix-caching: false", "请写 enable-prefix-caching: false")),
    ("enable-radix-cache enable-kv-cache-reuse enable-block-reuse kv-cache-reuse",
     ("on by default; the option is enable-prefix-caching", "默认开启；对应选项是 enable-prefix-caching")),
    ("expert-parallel-size expert-model-parallel-size moe-ep-size ep-size ep expert-parallel enable-ep-moe enable-deepep-moe",
     ("write enable-expert-parallel: true; its size is tensor-parallel-size x data-parallel-size",
      "请写 enable-expert-parallel: true；其规模为 tensor-parallel-size x data-parallel-size")),
    ("enable-dp-attention enable-attention-dp",
     ("write data-parallel-size with enable-expert-parallel: true", "请写 data-parallel-size 并加 enable-expert-parallel: true")),
    ("worker-use-ray engine-use-ray use-ray",
     ("write distributed-executor-backend: ray", "请写 distributed-executor-backend: ray")),
    ("disable-log-requests",
     ("off by default; enable-log-requests: true turns it on", "默认关闭；enable-log-requests: true 才会开启")),
    ("disable-frontend-multiprocessing enable-metrics enable-paged-attention use-paged-attention paged-attention paged-kv-cache "
     "enable-continuous-batching continuous-batching enable-inflight-batching inflight-batching use-inflight-batching "
     "enable-kv-cache use-cache use-kv-cache dynamic-batching enable-dynamic-batching use-v2-block-manager "
     "enable-overlap-schedule", _BUILT_IN),
    ("remove-input-padding gemm-plugin gpt-attention-plugin use-fused-mlp use-paged-context-fmha context-fmha max-beam-width "
     "engine-dir replace-with-kernel-inject", _BUILD),
    ("micro-batch-size global-batch-size gradient-accumulation-steps zero-stage deepspeed ds-config sequence-parallel "
     "use-distributed-optimizer recompute-granularity gradient-checkpointing fsdp", _TRAINING),
    ("num-layers hidden-size num-attention-heads num-experts vocab-size", _MODEL),
    ("temperature top-p top-k repetition-penalty max-tokens max-new-tokens use-beam-search num-beams", _REQUEST),
    ("num-scheduler-steps multi-step-stream-outputs preemption-mode scheduler-delay-factor num-lookahead-slots max-paddings "
     "disable-async-output-proc enable-prompt-adapter max-prompt-adapters quantization-param-path long-lora-scaling-factors "
     "max-num-partial-prefills max-long-partial-prefills lora-extra-vocab-size "
     "typical-acceptance-sampler-posterior-threshold", _GONE),
    ("device", ("the build decides it; the module's gpus says which cards", "由构建决定；用哪些卡由模块的 gpus 指定")),
    ("gpu-ids cuda-visible-devices gpus", ("the module's gpus says which cards, by uuid", "用哪些卡由模块的 gpus 按 uuid 指定")),
    ("timeout request-timeout", ("the gateway limits a request's time", "请求时限由网关控制")),
    ("max-total-tokens max-total-token-num",
     ("write max-model-len for one request; the cache takes what gpu-memory-utilization leaves",
      "单个请求请写 max-model-len；缓存使用 gpu-memory-utilization 留出的部分")),
    ("waiting-served-ratio max-waiting-tokens schedule-conservativeness max-best-of validation-workers",
     ("vLLM's scheduler has no such knob", "vLLM 的调度器没有这个参数")),
)

# The module's own: a configuration that says them, too, would be a second place, or a secret in a file that is not secret.
OWNED_OPTIONS: Mapping[str, Reason] = {
    "api-key": ("a secret; it belongs in the module's api_key (idc_llm_secrets.engine_key)",
                "这是机密；应放在模块的 api_key（idc_llm_secrets.engine_key）"),
    "hf-token": ("a secret; model_store fetches the model, with idc_llm_secrets.hf_token, and the engine asks no hub",
                 "这是机密；模型由 model_store 用 idc_llm_secrets.hf_token 获取，引擎不访问模型站"),
    "config": ("this mapping is that file", "本映射就是该文件"),
    "device-ids": ("the module's gpus says which cards, by uuid", "用哪些卡由模块的 gpus 按 uuid 指定"),
    "uds": ("host and port would be ignored and nobody could reach the engine", "host 和 port 会被忽略，无人能访问引擎"),
    "grpc": ("it replaces HTTP, over which the engine is proven and used", "它会取代 HTTP，而引擎通过 HTTP 验证和使用"),
    "help": ("the engine would print its help and end", "引擎会打印帮助后退出"),
    "version": ("the engine would print its version and end", "引擎会打印版本后退出"),
}
OWNED_VARIABLES: Mapping[str, Reason] = {
    "VLLM_API_KEY": OWNED_OPTIONS["api-key"],
    "HF_TOKEN": OWNED_OPTIONS["hf-token"],
    "HUGGING_FACE_HUB_TOKEN": OWNED_OPTIONS["hf-token"],
}

GPUS: Reason = ("the module's gpus says it already", "模块的 gpus 已经指定")  # of CUDA_VISIBLE_DEVICES, where there are gpus

_OPTION = "now an option, written in config: {}"
_OPTION_ZH = "现在是选项，写在 config 中：{}"
_MOE: Reason = (_OPTION.format("moe-backend"), _OPTION_ZH.format("moe-backend"))
_NCCL_25: Reason = ("dead since NCCL 2.5; NCCL_ALGO and NCCL_PROTO force a choice",
                    "自 NCCL 2.5 起失效；可用 NCCL_ALGO 和 NCCL_PROTO 强制选择")
_NCCL_TUNED: Reason = ("NCCL_MIN_NCHANNELS and NCCL_MAX_NCHANNELS took its place; NCCL's own choice is rarely beaten",
                       "已由 NCCL_MIN_NCHANNELS 和 NCCL_MAX_NCHANNELS 取代；NCCL 自己的选择通常最好")

# {variable: why it is refused}; the VLLM_ ones only where the release does not know them.
VARIABLES: Mapping[str, Reason] = {
    "NCCL_BLOCKING": ("NCCL reads no such variable; waiting is PyTorch's TORCH_NCCL_BLOCKING_WAIT, and serving needs neither",
                      "NCCL 不读取此变量；等待方式由 PyTorch 的 TORCH_NCCL_BLOCKING_WAIT 控制，而推理服务两者都不需要"),
    "NCCL_BLOCKING_WAIT": ("PyTorch calls it TORCH_NCCL_BLOCKING_WAIT", "PyTorch 中的名称是 TORCH_NCCL_BLOCKING_WAIT"),
    "NCCL_ASYNC_ERROR_HANDLING": ("PyTorch calls it TORCH_NCCL_ASYNC_ERROR_HANDLING",
                                  "PyTorch 中的名称是 TORCH_NCCL_ASYNC_ERROR_HANDLING"),
    "NCCL_TREE_THRESHOLD": _NCCL_25, "NCCL_LL_THRESHOLD": _NCCL_25, "NCCL_SINGLE_RING_THRESHOLD": _NCCL_25,
    "NCCL_RINGS": _NCCL_TUNED, "NCCL_MAX_NRINGS": _NCCL_TUNED, "NCCL_MIN_NRINGS": _NCCL_TUNED,
    "NCCL_IB_CUDA_SUPPORT": ("NCCL_NET_GDR_LEVEL took its place in NCCL 2.4", "自 NCCL 2.4 起由 NCCL_NET_GDR_LEVEL 取代"),
    "VLLM_USE_V1": ("there is one engine now; leave it out", "现在只有一种引擎；请删除"),
    "VLLM_ATTENTION_BACKEND": (_OPTION.format("attention-backend"), _OPTION_ZH.format("attention-backend")),
    "VLLM_USE_FLASHINFER_MOE_FP4": _MOE, "VLLM_USE_FLASHINFER_MOE_FP8": _MOE, "VLLM_USE_FLASHINFER_MOE_FP16": _MOE,
    "VLLM_FLASHINFER_MOE_BACKEND": _MOE,
    "VLLM_ALL2ALL_BACKEND": (_OPTION.format("all2all-backend"), _OPTION_ZH.format("all2all-backend")),
    "VLLM_TORCH_PROFILER_DIR": (_OPTION.format("profiler-config"), _OPTION_ZH.format("profiler-config")),
}

# Variables that exist and make an engine useless unless they are off.
OFF_ONLY: Mapping[str, Reason] = {
    "CUDA_LAUNCH_BLOCKING": ("for finding a bug: each kernel waits for the last, an engine becomes much slower",
                             "仅用于查错：每个内核都等待前一个，引擎会慢很多"),
}


def _hints() -> Dict[str, Tuple[str, Reason]]:
    found: Dict[str, Tuple[str, Reason]] = {}
    for real, names in _CALLED.items():
        found.update({name: (real, _NOTES.get(real, ("", ""))) for name in names.split()})
    for names, reason in _REFUSED:
        found.update(dict.fromkeys(names.split(), ("", reason)))
    return found


# {a circulating option, dashed: (vLLM's name or "", note or reason)}
OPTIONS: Mapping[str, Tuple[str, Reason]] = _hints()
