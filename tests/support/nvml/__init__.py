# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of NVIDIA's management library: a C library with NVML's own symbols that nvidia-ml-py loads as the real one.

    machine = Machine.load("hgx-h100-8")
    installed = machine.install(folder)
    subprocess.run([sys.executable, ...], env={**os.environ, **installed.environment})

The reading must happen in a child process: the loader looks at LD_LIBRARY_PATH when a process starts. A machine
without the library is a child without that variable. ``installed.sysfs`` and ``installed.proc`` are trees to read in
place of /sys and /proc. Machines are in machines/; ``with_gpu`` and ``with_`` change one for a test.
"""
from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

from . import _sysfs, _table

HERE = Path(__file__).parent
LIBRARY = "libnvidia-ml.so.1"
SOURCES = ("nvml_double.c", "nvml_layout.h", "nvml_structs.h")
FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden")


class NoCompiler(RuntimeError):
    """There is no C compiler: the double cannot be built, and its tests fail rather than pass unseen."""


def compiler() -> str:
    """The C compiler's path: $CC, cc or gcc."""
    for name in (os.environ.get("CC"), "cc", "gcc"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise NoCompiler("the double of NVML needs a C compiler (cc or gcc): install gcc and libc6-dev, or gcc and glibc-devel")


def build(folder: Path) -> Path:
    """The library, built into the folder unless it is there already (once for each folder)."""
    library = Path(folder) / LIBRARY
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        fresh = library.with_name(f"{LIBRARY}.{os.getpid()}")
        command = [compiler(), *FLAGS, f"-Wl,-soname,{LIBRARY}", "-o", str(fresh), str(HERE / SOURCES[0])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the double of NVML does not compile:\n{done.stderr}")
        fresh.replace(library)
    return library


@dataclass(frozen=True)
class Installed:
    """Where a machine lies: variables for a child process, a tree like /sys, one like /proc."""

    environment: Dict[str, str]
    sysfs: Path
    proc: Path


@dataclass(frozen=True)
class Machine:
    """A machine as its JSON says, ``extends`` resolved."""

    name: str
    words: Dict[str, Any]

    @classmethod
    def load(cls, name: str) -> Machine:
        """One of machines/, by its file's name."""
        words = json.loads((HERE / "machines" / f"{name}.json").read_text(encoding="utf-8"))
        if "extends" in words:
            words = _merged(cls.load(words.pop("extends")).words, words)
        return cls(name, {**words, "name": name})

    @classmethod
    def names(cls) -> List[str]:
        """All that are described."""
        return sorted(path.stem for path in (HERE / "machines").glob("*.json"))

    def with_(self, **words: Any) -> Machine:
        """The same machine with other words; mappings are merged."""
        return Machine(self.name, _merged(self.words, words))

    def with_gpu(self, index: int, **words: Any) -> Machine:
        """The same machine, one GPU of which says something else: with_gpu(3, errors={"*": "GPU_IS_LOST"})."""
        changed = copy.deepcopy(self.words)
        changed["gpus"]["each"][index].update(words)
        return Machine(self.name, changed)

    @property
    def gpus(self) -> List[Dict[str, Any]]:
        """Each GPU with its defaults, uuid and serial filled in."""
        return _table.gpus_of(self.words)

    def table(self) -> str:
        """What the library reads."""
        return _table.flatten(self.words)

    def install(self, folder: Path) -> Installed:
        """Write the machine into a folder of its own; the library beside it is built once for all of them."""
        folder = Path(folder)
        digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()[:12]
        library = build(folder.parent / f"nvml-{digest}")
        root = folder / self.name
        root.mkdir(parents=True)
        (root / "nvml").write_text(self.table(), encoding="utf-8")
        _sysfs.write(self.words, root / "sys", root / "proc")
        environment = {"LD_LIBRARY_PATH": str(library.parent), "IDC_NVML_MACHINE": str(root / "nvml")}
        return Installed(environment, root / "sys", root / "proc")


def _merged(base: Any, over: Any) -> Any:
    """Mappings into each other; a mapping of numbers over a list changes those of its items; all else replaces."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {key: _merged(base[key], over[key]) if key in base and key in over else over.get(key, base.get(key))
                for key in {**base, **over}}
    if isinstance(base, list) and isinstance(over, dict):
        return [_merged(item, over.get(str(number), {})) for number, item in enumerate(base)]
    return copy.deepcopy(over)
