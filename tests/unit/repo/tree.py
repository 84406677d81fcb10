# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks of the repository share: where things are, and how they are read."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
PLAYBOOKS = ["site.yml", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "playbooks").glob("*.yml"))]
ROLES = sorted(p.name for p in (ROOT / "roles").glob("*") if (p / "tasks").is_dir())
MODULES = sorted(p.stem for p in (ROOT / "plugins/modules").glob("*.py"))


class Loader(yaml.SafeLoader):
    """YAML as Ansible reads it: its own tags (!vault, !unsafe) are plain text here."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: getattr(node, "value", None))


def load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)


def files(*patterns: str) -> list[Path]:
    """Files that git holds or would hold, as far as they are there."""
    out = run("git", "ls-files", "-co", "--exclude-standard", "-z", "--", *patterns).stdout
    return sorted({ROOT / name for name in out.split("\0") if name and (ROOT / name).is_file()})


Done = subprocess.CompletedProcess[str]


def run(*argv: str, cwd: Path = ROOT, check: bool = True, env: dict[str, str] | None = None) -> Done:
    """Run one command; a tool of ours is taken from the virtual environment that runs the tests."""
    tool = BIN / argv[0]
    done = subprocess.run(
        [str(tool) if tool.exists() else argv[0], *argv[1:]],
        cwd=cwd,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if check:
        said = done.stdout[-4000:] + done.stderr[-4000:]
        assert done.returncode == 0, f"{' '.join(argv)} ended with {done.returncode}\n{said}"
    return done


def scalars(node: Any) -> Iterator[str]:
    """Every text in a YAML document, keys left out."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from scalars(value)
    elif isinstance(node, list):
        for value in node:
            yield from scalars(value)


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a playbook, task file or scenario that could be a play, a block or a task."""
    if isinstance(node, dict):
        yield node
        for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from tasks(node.get(key))
    elif isinstance(node, list):
        for value in node:
            yield from tasks(value)


def task_files() -> list[Path]:
    """Files that hold plays or tasks."""
    return [
        p
        for p in files("*.yml", "*.yaml")
        if p.relative_to(ROOT).parts[0] in ("roles", "playbooks", "molecule", "site.yml")
        and (p.parent.name in ("tasks", "handlers", "playbooks") or isinstance(load(p), list))
    ]
