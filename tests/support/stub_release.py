# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small wheels that pip installs as it does real ones: a `vllm` that can say its version, and packages without contents."""
from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

VLLM = """import sys


def main():
    print("0.0-of-something-else" if "--version" not in sys.argv else {version!r})
"""


def wheel(folder: Path, name: str, version: str, files: dict[str, str] | None = None, scripts: str = "") -> str:
    """Write a wheel, the same bytes each time; its line for a requirements file."""
    info = f"{name}-{version}.dist-info"
    contents = dict(files or {})
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    if scripts:
        contents[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    rows = []
    for path, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
    contents[f"{info}/RECORD"] = "".join(rows) + f"{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path, date_time=(2020, 1, 1, 0, 0, 0)), text)
    return f"{name.replace('_', '-')}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


def vllm(folder: Path, version: str, arguments: str = "{}") -> str:
    """Write a wheel `vllm` with the command of that name; it brings the list of its arguments, so that nobody asks it for them."""
    files = {"vllm/__init__.py": "", "vllm/cli.py": VLLM.format(version=version),
             f"vllm-{version}.data/data/arguments.json": arguments}
    return wheel(folder, "vllm", version, files, "vllm = vllm.cli:main")
