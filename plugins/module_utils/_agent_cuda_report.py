# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CUDA, cuDNN and NCCL as an engine's Python loads them, without touching a GPU.

Runs on hosts with the Python of an engine's release; standard library and torch, nothing of ansible, Python 3.9+. Prints one JSON
object: torch, cuda ("13.0", null for a build without), cudnn (91300), nccl ("2.27.7"). Exit status 1 without torch.
"""
from __future__ import annotations

import json
import sys
from typing import Any


def report(torch: Any) -> dict[str, Any]:
    """Versions; null for what this build does not have."""
    cuda = torch.version.cuda
    return {
        "torch": str(torch.__version__),
        "cuda": cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
    }


def main() -> int:
    """Entry point."""
    try:
        import torch
    except ImportError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(report(torch)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
