# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a journal says of an engine's death: the one line, its kind, and what to do about it."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._journal import ADVICE, Fault, find_fault, tell

CORE = "(EngineCore pid=71) ERROR 11-22 03:41:00 [core.py:1120] "
API = "(APIServer pid=7) "


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], ""),
        (["(APIServer pid=7) INFO 11-22 03:41:00 [utils.py:1] loading"], ""),
        (
            [CORE + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", API + "RuntimeError: later"],
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        ),
        (
            [CORE + "RuntimeError: Cannot find any model weights with `/m`", API + "Traceback (most recent call last):",
             API + "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"],
            "RuntimeError: Cannot find any model weights with `/m`",
        ),
        (
            [API + "RuntimeError: Engine core initialization failed. See root cause above."],
            "RuntimeError: Engine core initialization failed. See root cause above.",
        ),
        (["usage: vllm serve", "vllm: error: unrecognized arguments: --no-such-flag"],
         "vllm: error: unrecognized arguments: --no-such-flag"),
        ([API + "OSError: [Errno 98] Address already in use"], "OSError: [Errno 98] Address already in use"),
        (
            ["pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
             "  Value error, User-specified max_model_len (100000) is greater than the derived max_model_len [type=x]",
             "    For further information visit https://errors.example.org"],
            "Value error, User-specified max_model_len (100000) is greater than the derived max_model_len [type=x]",
        ),
        (  # a warning at first, an error only half a minute later
            [CORE.replace("ERROR", "WARNING") + "Failed to import from vllm._C: ImportError('libnuma.so.1: "
             "cannot open shared object file: No such file or directory')",
             CORE + "AttributeError: '_OpNamespace' '_C' object has no attribute 'init_cpu_memory_env'"],
            "Failed to import from vllm._C: ImportError('libnuma.so.1: cannot open shared object file: "
            "No such file or directory')",
        ),
        (["idc-vllm@x.service: Main process exited, code=killed, status=9/KILL"],
         "idc-vllm@x.service: Main process exited, code=killed, status=9/KILL"),
    ],
)
def test_reason(lines, reason):
    assert find_fault(lines).line == reason


# Texts of vLLM 0.32.0, PyTorch, NCCL, Gloo and systemd, with what follows them in a journal.
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("gpu_memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.50 GiB."),
        ("gpu_memory", "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please "
                       "try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine."),
        ("host_memory", "idc-vllm@x.service: A process of this unit has been killed by the OOM killer."),
        ("host_memory", "idc-vllm@x.service: Failed with result 'oom-kill'."),
        ("kv_memory", "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
        ("kv_memory", "ValueError: To serve at least one request with the model's max seq len (163840), (4.75 GiB KV cache is "
                      "needed, which is larger than the available KV cache memory (1.2 GiB)."),
        ("gpu_in_use", "ValueError: Free memory on device cuda:0 (3.1/139.80 GiB) on startup is less than desired"),
        ("port", "OSError: [Errno 98] Address already in use"),
        ("port", "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
                 "port: 29501, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"),
        ("disk", "OSError: [Errno 28] No space left on device: '/var/lib/vllm/.cache/vllm/torch_compile_cache'"),
        ("driver", "RuntimeError: The NVIDIA driver on your system is too old (found version 12080)."),
        ("driver", "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
                   "NumCudaDevices()? Error 804: forward compatibility was attempted on"),
        ("fabric", "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"),
        ("no_gpu", "RuntimeError: Failed to infer device type, please set `VLLM_LOGGING_LEVEL=DEBUG`"),
        ("no_gpu", "RuntimeError: No CUDA GPUs are available"),
        ("interface", "[rank0]: Bootstrap : no socket interface found"),
        ("interface", "RuntimeError: [enforce fail at gloo/device.cc:84] ifa != nullptr. Unable to find address for: e9"),
        ("library", "OSError: libcudart.so.13: cannot open shared object file: No such file or directory"),
        ("option", "vllm: error: argument --port: invalid int value: 'x'"),
        ("context", "Value error, User-specified max_model_len (100000) is greater than the derived max_model_len (512)"),
        ("option", "Value error, Total number of attention heads (8) must be divisible by tensor parallel size (3)."),
        ("path", "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name': '/no/where'"),
        ("path", "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder"),
        ("path", "ValueError: Invalid repository ID or local directory specified: '/var/lib/m'"),
        ("path", "RuntimeError: Cannot find any model weights with `/var/lib/m`"),
        ("permission", "PermissionError: [Errno 13] Permission denied: '/var/log/vllm'"),
        ("permission", "OSError: [Errno 30] Read-only file system: '/var/log/vllm'"),
        ("nccl", "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"),
    ],
)
def test_each_fault_is_known_among_what_follows_it(kind, line):
    before = [CORE + "host:71:71 [0] NCCL INFO NET/Plugin: libnccl-net.so: cannot open shared object file: No such file",
              CORE.replace("ERROR", "WARNING") + "Address already in use. Retrying with a new port."]
    after = [API + "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
             "idc-vllm@x.service: Main process exited, code=exited, status=1/FAILURE"]
    fault = find_fault([*before, CORE + line, *after])
    assert (fault.kind, fault.line) == (kind, line.replace("[rank0]: ", ""))
    said = tell(fault)
    assert fault.line in said.en and ADVICE[kind].en in said.en
    assert fault.line in said.zh and ADVICE[kind].zh in said.zh


def test_what_was_got_over_is_no_reason():
    lines = [CORE.replace("ERROR", "WARNING") + "Address already in use. Retrying with a new port.",
             "host:71:71 [0] NCCL INFO NET/Plugin: libnccl-net.so: cannot open shared object file: No such file or directory",
             CORE + "KeyError: 'layers.3'"]
    assert find_fault(lines) == Fault("", "KeyError: 'layers.3'")


def test_nothing_known_is_said_plainly():
    assert (tell(Fault("", "")).en, tell(Fault("", "")).zh) == ("nothing", "无")
    assert tell(Fault("", "KeyError: 'x'")).zh == "KeyError: 'x'"


def test_the_plan_is_shown_where_memory_was_short_and_nowhere_else():
    planned = {"weights_bytes": 1 << 30, "kv_tokens": 99}
    for kind in ("gpu_memory", "kv_memory", "gpu_in_use"):
        assert "the plan has 1.0 GiB of weights" in tell(Fault(kind, "line"), planned).en
    assert "the plan" not in tell(Fault("port", "line"), planned).en


def test_a_secret_never_comes_out():
    assert find_fault(["ValueError: bad key abc123secret"], "abc123secret").line == "ValueError: bad key ***"


def test_a_long_line_is_cut():
    assert len(find_fault(["ValueError: " + "x" * 9000]).line) == 401
