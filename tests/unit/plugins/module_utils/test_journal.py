# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one line of a journal that says why an engine died."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._journal import find_reason

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
    assert find_reason(lines) == reason


def test_a_secret_never_comes_out():
    assert find_reason(["ValueError: bad key abc123secret"], "abc123secret") == "ValueError: bad key ***"


def test_a_long_line_is_cut():
    assert len(find_reason(["ValueError: " + "x" * 9000])) == 401
