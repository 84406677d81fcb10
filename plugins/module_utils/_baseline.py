# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A baseline's file: figures and golden answers of an engine that was well. Private to this collection.

It holds digests of prompts and answers, never their text, and no key: so it may be read by all. A digest hides no text
that can be guessed.
"""
from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

SCHEMA = 1


@dataclass(frozen=True)
class Answers:
    """Golden answers: a chain of digests for each prompt's digest; ``noise``: the rate between runs of that engine."""

    unit: str
    max_tokens: int
    noise: float
    chains: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Baseline:
    """``workload``: what was asked, which has to be equal for ``figures`` to be compared; None or {}: not measured."""

    model: str
    date: str  # ISO 8601, UTC
    workload: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float | None] = field(default_factory=dict)
    golden: Answers | None = None

    def to_text(self) -> str:
        """What ``read`` reads."""
        golden = None if self.golden is None else {
            "unit": self.golden.unit, "max_tokens": self.golden.max_tokens, "noise": self.golden.noise,
            "chains": {prompt: list(row) for prompt, row in self.golden.chains.items()},
        }
        document = {"schema": SCHEMA, "model": self.model, "date": self.date, "workload": dict(self.workload),
                    "figures": dict(self.figures), "golden": golden}
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    def misfit(self, model: str, workload: Mapping[str, Any] | None, prompts: Sequence[str], max_tokens: int) -> str:
        """Why a run can't be compared with this, "" where it can; ``prompts``: digests, () where there are none."""
        if model != self.model:
            return f"it is of {self.model}"
        if workload is not None and not self.figures:
            return "it holds no figures of a load"
        changed = [key for key in workload or {} if workload and workload[key] != self.workload.get(key)]
        if changed and workload:
            return "its load was another: " + ", ".join(f"{key} {self.workload.get(key)}, now {workload[key]}" for key in changed)
        if prompts and self.golden is None:
            return "it holds no golden answers"
        if prompts and self.golden and self.golden.max_tokens != max_tokens:
            return f"its golden_max_tokens was {self.golden.max_tokens}, now {max_tokens}"
        unknown = [number for number, prompt in enumerate(prompts) if self.golden and prompt not in self.golden.chains]
        return f"it does not know golden prompt {unknown[0]} (from 0)" if unknown else ""


def parse(text: str) -> Baseline:
    """Raises ValueError where it is no baseline."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ValueError(f"it is no baseline of schema {SCHEMA}")
    try:
        golden = None if data["golden"] is None else Answers(
            str(data["golden"]["unit"]), int(data["golden"]["max_tokens"]), float(data["golden"]["noise"]),
            {str(prompt): tuple(row) for prompt, row in data["golden"]["chains"].items()})
        figures = {str(name): None if value is None else float(value) for name, value in data["figures"].items()}
        return Baseline(str(data["model"]), str(data["date"]), dict(data["workload"]), figures, golden)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it is no baseline: {error!r}") from error


def read(path: str) -> Baseline:
    """The baseline in a file; raises IdcError."""
    try:
        with open(path, encoding="utf-8") as stream:
            return parse(stream.read())
    except OSError as error:
        raise IdcError("IDC-PROBE-017", path=path, detail=error.strerror or str(error)) from error
    except ValueError as error:
        raise IdcError("IDC-PROBE-017", path=path, detail=str(error)) from error


def require_folder(folder: str) -> None:
    """Raises IdcError where nothing can be written, before a long run and not after it."""
    if not os.path.isdir(folder):
        raise IdcError("IDC-PROBE-018", path=folder, detail="no such folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise IdcError("IDC-PROBE-018", path=folder, detail="permission denied")
