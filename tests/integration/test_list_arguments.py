# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""list_arguments.py as the role runs it, on a package that is built as vLLM is where the script looks: no torch, a second.

The real vLLM 0.32.0 gave tests/unit/plugins/module_utils/arguments-0.32.0.json; molecule runs the script on it at each install.
"""
from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._engine_options import as_vllm_reads, parse_arguments, validate

SCRIPT = Path(__file__).parents[2] / "roles/vllm/files/list_arguments.py"

PACKAGE = {
    "vllm/__init__.py": "",
    "vllm/platforms/__init__.py": """
class Unspecified:
    device_type = ""
    def is_unspecified(self): return True
current_platform = Unspecified()
""",
    "vllm/platforms/cpu.py": "class CpuPlatform:\n    device_type = 'cpu'\n    def is_unspecified(self): return False\n",
    "vllm/envs.py": """
import os
def with_choices(name, choices, case_sensitive=True):
    def read():
        value = os.getenv(name)
        if value is not None and (value if case_sensitive else value.lower()) not in choices:
            raise ValueError(name)
        return value
    return read
environment_variables = {
    "VLLM_NUMBER_SWITCH": lambda: bool(int(os.getenv("VLLM_NUMBER_SWITCH", "0"))),
    "VLLM_WORD_SWITCH": lambda: os.getenv("VLLM_WORD_SWITCH", "0").lower() in ("1", "true"),
    "VLLM_ONE_SWITCH": lambda: os.getenv("VLLM_ONE_SWITCH", "0") == "1",
    "VLLM_COUNT": lambda: int(os.getenv("VLLM_COUNT", "8")),
    "VLLM_SECONDS": lambda: float(os.getenv("VLLM_SECONDS", "8")),
    "VLLM_TEXT": lambda: os.getenv("VLLM_TEXT", "given" if "VLLM_FROM_SHELL" in os.environ else ""),
    "VLLM_CHOICE": with_choices("VLLM_CHOICE", ["a", "b"]),
    "VLLM_ANY_CASE": with_choices("VLLM_ANY_CASE", ["a"], case_sensitive=False),
    "MAX_JOBS": lambda: None,
}
""",
    "vllm/worker.py": "import os\nALGO = os.environ.get('VLLM_READ_IN_PASSING')\n",
    "vllm/config.py": """
from dataclasses import dataclass, field
from typing import Optional
@dataclass
class Pass:
    fuse: bool = False
@dataclass
class Compile:
    mode: int = 0
    passes: Pass = field(default_factory=Pass)
    made: int = field(default=0, init=False)
@dataclass
class Draft:
    method: str = ""
@dataclass
class VllmConfig:
    compilation_config: Compile
    speculative_config: Optional[Draft] = None
""",
    "vllm/entrypoints/__init__.py": "", "vllm/entrypoints/cli/__init__.py": "",
    "vllm/entrypoints/cli/serve.py": """
import argparse, json
from vllm.config import Compile
from vllm.platforms import current_platform
if not current_platform.device_type:
    raise RuntimeError("Failed to infer device type")
class FlexibleArgumentParser(argparse.ArgumentParser):
    pass
def optional(convert):
    def read(text):
        return None if text == "None" else convert(text)
    return read
def compile_of(text, cls=Compile):
    return cls(**json.loads(text))
def human(text):
    return int(text[:-1]) * 1000 if text.endswith("k") else int(text)
class ServeSubcommand:
    def subparser_init(self, subparsers):
        parser = subparsers.add_parser("serve")
        add = parser.add_argument
        add("model_tag", nargs="?")
        add("--model")
        add("--headless", action="store_true")
        add("--enable-prefix-caching", action=argparse.BooleanOptionalAction)
        add("--tensor-parallel-size", "-tp", type=int)
        add("--max-model-len", type=lambda text: -1 if text == "auto" else human(text))
        add("--gpu-memory-utilization", type=optional(float))
        add("--dtype", choices=["auto", "half"])
        add("--max-lora-rank", type=int, choices=[8, 16, 1])
        add("--moe-backend", type=lambda text: text.lower().replace("-", "_"), choices=["deep_gemm"])
        add("--served-model-name", nargs="+")
        add("--sizes", nargs=2, type=int)
        add("--allowed-origins", type=json.loads, default=["*"])
        add("--compilation-config", "-cc", type=optional(compile_of))
        add("--speculative-config", type=optional(json.loads))
        add("--hf-overrides", type=lambda text: json.loads(text) if text.startswith("{") else text)
        add("--hf-token", nargs="?", const=True)
        add("--old", action="store_true", help="Deprecated is not the word; it is deprecated and has no effect.")
        return parser
""",
    "vllm-9.9.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 9.9\n",
    "plug.py": "import os\nos.getenv('VLLM_OF_A_PLUGIN')\n",
    "plug-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: plug\nVersion: 1\n",
    "plug-1.dist-info/RECORD": "plug.py,,\n",
    "plug-1.dist-info/entry_points.txt": "[vllm.general_plugins]\nplug = plug:main\n",
    "other.py": "import os\nos.getenv('VLLM_OF_NOBODY')\n",
    "other-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1\n",
    "other-1.dist-info/RECORD": "other.py,,\n",
}


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """The file that the script writes."""
    site, release = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("release")
    for name, text in PACKAGE.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    (site / "vllm-9.9.dist-info/RECORD").write_text("".join(f"{name},,\n" for name in PACKAGE if name.startswith("vllm/")))
    environment = {**os.environ, "PYTHONPATH": str(site), "VLLM_FROM_SHELL": "1"}
    path = release / "arguments.json"
    done = subprocess.run([sys.executable, "-", str(path)], input=SCRIPT.read_bytes(), env=environment, capture_output=True,
                          check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert [one.name for one in release.iterdir()] == ["arguments.json"]
    return path


def test_the_list_is_what_the_parser_takes(listed):
    found = json.loads(listed.read_text())
    assert (found["schema"], found["vllm"]) == (1, "9.9")
    assert stat.S_IMODE(listed.stat().st_mode) == 0o644
    names = {name: option.pop("names") for name, option in found["options"].items()}
    assert names["tensor-parallel-size"] == ["--tensor-parallel-size", "-tp"]
    assert found["options"] == {
        "help": {"kind": "bool"}, "model": {"kind": "str"}, "headless": {"kind": "bool"},
        "enable-prefix-caching": {"kind": "bool", "negatable": True},
        "tensor-parallel-size": {"kind": "int"}, "max-model-len": {"kind": "int", "suffixes": True, "words": ["auto"]},
        "gpu-memory-utilization": {"kind": "float"}, "dtype": {"kind": "str", "choices": ["auto", "half"]},
        "max-lora-rank": {"kind": "int", "choices": ["1", "8", "16"]},
        "moe-backend": {"kind": "str", "choices": ["deep_gemm"], "folds": True},
        "served-model-name": {"kind": "list", "items": "str"}, "sizes": {"kind": "list", "items": "int", "length": 2},
        "allowed-origins": {"kind": "json", "array": True},
        "compilation-config": {"kind": "json", "fields": {"mode": {}, "passes": {"fuse": {}}}},
        "speculative-config": {"kind": "json", "fields": {"method": {}}}, "hf-overrides": {"kind": "json", "text": True},
        "hf-token": {"kind": "str", "bare": True},
        "old": {"kind": "bool", "deprecated": "Deprecated is not the word; it is deprecated and has no effect."},
    }


def test_the_list_is_what_the_package_reads(listed):
    assert json.loads(listed.read_text())["variables"] == {
        "VLLM_NUMBER_SWITCH": {"kind": "bool", "values": ["0", "1"]},
        "VLLM_WORD_SWITCH": {"kind": "bool", "values": ["0", "1", "false", "true", "False", "True"]},
        "VLLM_ONE_SWITCH": {"kind": "bool", "values": ["0", "1", "false", "False"]},
        "VLLM_COUNT": {"kind": "int"}, "VLLM_SECONDS": {"kind": "float"}, "VLLM_TEXT": {"kind": "str"},
        "VLLM_CHOICE": {"kind": "str", "choices": ["a", "b"]},
        "VLLM_ANY_CASE": {"kind": "str", "choices": ["a"], "folds": True},
        "VLLM_READ_IN_PASSING": {"kind": "str"}, "VLLM_OF_A_PLUGIN": {"kind": "str"},
    }


def test_the_module_reads_what_the_script_writes(listed):
    arguments = parse_arguments(listed.read_text(), str(listed))
    good = {"model": "/m", "enable_prefix_caching": False, "compilation-config": {"passes": {"fuse": True}}, "max-model-len": "8k"}
    assert validate(good, {"VLLM_OF_A_PLUGIN": "x"}, arguments) == ()
    assert as_vllm_reads(good, arguments)["no-enable-prefix-caching"] is True
    bad = {"compilation-config": {"made": 1}, "sizes": [1], "dtype": "fp16", "tp": 2, "old": True}
    assert [row.where for row in validate(bad, {"VLLM_OF_NOBODY": "1"}, arguments)] == [
        "config.compilation-config", "config.sizes", "config.dtype", "config.tp", "config.old", "environment.VLLM_OF_NOBODY"]
