# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an engine died, read out of its journal: pure. Private to this collection.

The words are those of vLLM 0.32.0 (vllm/v1/worker/utils.py, v1/core/kv_cache_utils.py, config/model.py, transformers_utils), of
PyTorch, NCCL, Gloo and systemd; most were seen when the fault was made.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Optional

from ansible_collections.idc.llm.plugins.module_utils._errors import Said

# vLLM's own prefix: "(EngineCore pid=7) ERROR 11-22 03:00:00 [core.py:1] ", and torch's "[rank0]: "
_PREFIX = re.compile(
    r"^(\([^)]*pid=\d+\)\s*)?((DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\]\s?)?(\[rank\d+\]:\s?)?"
)
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|NotFound)\b(: .*)?$")
# They name a fault that was got over: another port is taken, a plugin that NCCL can do without.
_HARMLESS = re.compile(r"Retrying with a new port|NCCL INFO |NET/Plugin")
# They only say that something else, further up, went wrong.
_WRAPPERS = re.compile(
    r"See root cause above|for (?:the )?root cause|EngineDeadError|EngineCore encountered an issue|Executor failed|Cancelled"
    r"|SystemExit|KeyboardInterrupt"
)
_SYSTEMD = re.compile(r"Main process exited|Failed at step|Failed to (?:execute|locate|set up|load)|status=\d+/")


@dataclass(frozen=True)
class Fault:
    """What an engine died of. ``kind``: a key of ADVICE, "" for one that is not known; ``line``: the telling one, or ""."""

    kind: str
    line: str


# Lines that name the cause by themselves, surest first.
_PLAIN = tuple((kind, re.compile(pattern)) for kind, pattern in (
    ("gpu_memory", r"(?i)CUDA out of memory|OutOfMemoryError|\bout of memory"),
    ("host_memory", r"(?i)oom-kill|killed by the OOM killer|Cannot allocate memory|DefaultCPUAllocator: can't allocate"),
    ("kv_memory", r"No available memory for the cache blocks|To serve at least one request with the model's max seq len"),
    ("gpu_in_use", r"Free memory on device"),
    ("port", r"Address already in use|EADDRINUSE"),
    ("disk", r"No space left on device|Disk quota exceeded"),
    ("driver", r"NVIDIA driver on your system is too old|Error 80[34]\b|unsupported display driver / cuda driver combination"
               r"|forward compatibility was attempted"),
    ("fabric", r"Error 802\b|system not yet initialized"),
    ("no_gpu", r"Found no NVIDIA driver|No CUDA GPUs are available|Failed to infer device type|invalid device ordinal"),
    ("interface", r"no socket interface found|no NCCL_SOCKET_IFNAME|Unable to find (?:address|interface) for"
                  r"|connecting to address.* is neither AF_INET"),
    ("library", r"cannot open shared object file|version `GLIBC\w*_[\d.]+' not found"),
    ("option", r"unrecognized arguments: |error: argument |the following arguments are required"),
    ("context", r"User-specified max_model_len .* is greater than the derived"),
    ("option", r"Value error, "),
    ("path", r"Repo id must be in the form|Cannot find an appropriate cached snapshot folder"
             r"|Invalid repository ID or local directory|Cannot find any model weights with"),
    ("permission", r"^PermissionError\b|^OSError: \[Errno (?:13|30)\]"),
    ("nccl", r"NCCL error|ncclSystemError|ncclInternalError|ncclRemoteError"),
))

ADVICE = {
    "gpu_memory": Said(
        "a card's memory is full: lower max-num-batched-tokens, max-num-seqs or gpu-memory-utilization, or use more cards",
        "显存不足：请降低 max-num-batched-tokens、max-num-seqs 或 gpu-memory-utilization，或用更多卡切分模型"),
    "host_memory": Said("the host's memory is full: see what else runs there, and how many engines share it",
                        "主机内存不足：请检查同机的其他程序和引擎数量"),
    "kv_memory": Said("the weights leave too little for the KV cache: lower max-model-len, or cut the model over more cards",
                      "权重之外留给 KV 缓存的显存不足：请降低 max-model-len，或用更多卡切分模型"),
    "gpu_in_use": Said("something else holds memory of the card: nvidia-smi shows who", "该卡的显存被占用：用 nvidia-smi 查看"),
    "port": Said("another process listens there: ss -ltnp shows who; master-port is one of the engine's ports, too",
                 "端口被其他进程占用：用 ss -ltnp 查看；master-port 也是引擎使用的端口"),
    "disk": Said("a file system is full: look at df -h for the engine's home, /tmp and /dev/shm",
                 "文件系统已满：请用 df -h 查看引擎的主目录、/tmp 和 /dev/shm"),
    "driver": Said("the NVIDIA driver does not fit this release: install a newer one (--tags nvidia_stack) or run an older release",
                   "NVIDIA 驱动与该版本不匹配：请安装更新的驱动（--tags nvidia_stack），或使用较旧的版本"),
    "fabric": Said("the NVSwitch fabric is not up: look at nvidia-fabricmanager.service, whose version must be the driver's",
                   "NVSwitch 互连未就绪：请检查 nvidia-fabricmanager.service，其版本必须与驱动一致"),
    "no_gpu": Said("no card is seen: compare nvidia-smi -L with the uuids in gpus",
                   "看不到 GPU：请将 nvidia-smi -L 与 gpus 中的 UUID 对照"),
    "interface": Said(
        "NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names an interface that is not there or has no address: see ip -br addr",
        "NCCL_SOCKET_IFNAME 或 GLOO_SOCKET_IFNAME 指定的网卡不存在或没有地址：请查看 ip -br addr"),
    "library": Said("the release lacks a library of the system: install it, see vllm_packages",
                    "缺少系统库：请安装，参见 vllm_packages"),
    "option": Said("an option is wrong: correct engine_args of the deployment", "选项有误：请改正部署的 engine_args"),
    "context": Said("the context is longer than the model's own: lower max-model-len",
                    "上下文长度超过模型自身的上限：请降低 max-model-len"),
    "path": Said("model in the configuration is no folder with a whole model: fetch it again (--tags model_store)",
                 "配置中的 model 不是包含完整模型的目录：请重新获取（--tags model_store）"),
    "permission": Said("the engine's user may not write that path; beside its home, /tmp and /dev/shm all is read-only to it",
                       "引擎用户无权写入该路径；除其主目录、/tmp 和 /dev/shm 外均为只读"),
    "nccl": Said("the cards cannot talk to each other: NCCL_DEBUG=INFO in the environment says more",
                 "GPU 之间无法通信：在环境变量中设置 NCCL_DEBUG=INFO 可得更多信息"),
}
OF_MEMORY = ("gpu_memory", "kv_memory", "gpu_in_use")


def find_fault(lines: Iterable[str], secret: str = "") -> Fault:
    """What a death came from. The line has at most 400 characters; "" = the journal says nothing.

    A known cause first, then the last exception that is no mere wrapper, then systemd's own words.
    """
    clean = [_PREFIX.sub("", line.strip(), count=1).strip() for line in lines]
    clean = [line for line in clean if not _HARMLESS.search(line)]
    for kind, pattern in _PLAIN:
        for line in reversed(clean):
            if pattern.search(line):
                return Fault(kind, _tidy(line, secret))
    for test in (_is_cause, _EXCEPTION.match, _SYSTEMD.search):
        for line in reversed(clean):
            if test(line):
                return Fault("", _tidy(line, secret))
    return Fault("", "")


def tell(fault: Fault, planned: Optional[Mapping[str, Any]] = None) -> Said:
    """The line with what to do about it; where memory was short, also what the plan (``planned``, its engine's memory in bytes for
    each card) counted with."""
    if not fault.line:
        return Said("nothing", "无")
    advice = ADVICE.get(fault.kind)
    notes = [advice] if advice else []
    if planned and fault.kind in OF_MEMORY:
        notes.append(_plan_text(planned))
    if not notes:
        return Said(fault.line, fault.line)
    return Said(f"{fault.line} ({'; '.join(note.en for note in notes)})", f"{fault.line}（{'；'.join(note.zh for note in notes)}）")


def _plan_text(planned: Mapping[str, Any]) -> Said:
    sizes = [f"{float(planned.get(key) or 0) / (1 << 30):.1f} GiB" for key in ("weights_bytes", "reserve_bytes", "kv_bytes")]
    tokens = planned.get("kv_tokens") or 0
    return Said("the plan has {} of weights, {} of reserve and {} of KV cache on each card, {} tokens".format(*sizes, tokens),
                "规划为每卡权重 {}、预留 {}、KV 缓存 {}，共 {} 个 token".format(*sizes, tokens))


def _is_cause(line: str) -> bool:
    return bool(_EXCEPTION.match(line)) and not _WRAPPERS.search(line)


def _tidy(line: str, secret: str) -> str:
    line = line.replace(secret, "***") if secret else line
    return line if len(line) <= 400 else line[:400] + "…"
