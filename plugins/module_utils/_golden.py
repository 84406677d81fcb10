# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an engine still says what it said: greedy answers to golden prompts, position by position. Private to this collection.

The rate is the number of answers that part from their reference, by the number of positions compared. An answer is
compared up to and including the first position where it differs: from there on it continues another text, and what
follows says nothing. So the rate estimates how likely one token is to differ after the same text (events by exposure,
the maximum-likelihood estimate of a geometric distribution). A position is a token where the server gives the ids of
the tokens (vLLM's ``return_token_ids``), else a word; an answer that ends earlier differs at the position of its end.

An unchanged engine is not free of it: kernels add up in another order in another batch, greedy or not (Thinking
Machines Lab, "Defeating Nondeterminism in LLM Inference", 2025). That noise is measured by asking again, and prompts
are sent one at a time, so that they share no batch with each other.
"""
from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Any, Callable, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._expect import Expect
from ansible_collections.idc.llm.plugins.module_utils._http import Call, Reply, send
from ansible_collections.idc.llm.plugins.module_utils._probe import Answer, Probe, check, reach

METRIC = "idc_llm_output_difference"
DIGEST = 8  # hex digits kept of a position: two that differ look the same once in 4e9


@dataclass(frozen=True)
class Golden:
    """What to ask, how often, and how much may differ (above the noise, a ratio)."""

    prompts: tuple[str, ...]
    repeat: int = 2
    max_tokens: int = 64
    limit: float = 0.001


@dataclass(frozen=True)
class Difference:
    """``answers`` were compared with their references over ``positions``; ``parted``: (prompt, position) from 0."""

    answers: int
    positions: int
    parted: tuple[tuple[int, int], ...]

    @property
    def rate(self) -> float:
        """Of the positions."""
        return len(self.parted) / self.positions if self.positions else 0.0


def digest(text: str) -> str:
    """A prompt's name in a baseline."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def unit(answers: Sequence[Answer]) -> str:
    """What a position is: tokens, where every answer came with their ids, else words."""
    return "tokens" if all(answer.token_ids for answer in answers) else "words"


def chain(answer: Answer, by: str) -> list[str]:
    """A digest for each position, of all text up to there: equal just as far as two answers are."""
    parts = [str(number) for number in answer.token_ids] if by == "tokens" else re.findall(r"\s*\S+", answer.text)
    state, found = hashlib.sha256(), []
    for part in parts:
        state.update(part.encode("utf-8") + b"\0")
        found.append(state.hexdigest()[:DIGEST])
    return found


def difference(references: Sequence[Sequence[str]], runs: Sequence[Sequence[Sequence[str]]]) -> Difference:
    """Each run's answers to the references, both as chains in the order of the prompts."""
    positions, parted = 0, []
    for run in runs:
        for prompt, (old, new) in enumerate(zip(references, run)):
            if list(old) == list(new):
                positions += len(old)
                continue
            at = next((at for at, (one, other) in enumerate(zip(old, new)) if one != other), min(len(old), len(new)))
            positions += at + 1
            parted.append((prompt, at))
    return Difference(len(references) * len(runs), positions, tuple(parted))


def ask_all(
    probe: Probe, golden: Golden, ends: float, clock: Callable[[], float], transport: Callable[[Call], Reply] = send
) -> tuple[str, list[list[list[str]]]]:
    """(unit, chains of each run): every prompt ``repeat`` times, one at a time, greedy and seeded; raises IdcError."""
    extra = {**probe.extra, "seed": 0, "return_token_ids": True}
    answers: list[list[Answer]] = []
    for run in range(golden.repeat):
        answers.append([])
        for prompt in golden.prompts:
            left = ends - clock()
            if left <= 0:
                done = run * len(golden.prompts) + len(answers[run])
                raise IdcError("IDC-PROBE-008", url=probe.url, model=probe.model,
                               detail=f"{done} of {golden.repeat * len(golden.prompts)} golden answers by the deadline")
            asked = replace(probe, prompt=prompt, max_tokens=golden.max_tokens, timeout=min(probe.timeout, left), extra=extra,
                            expect=Expect())
            answers[run].append(check(asked, reach(asked, transport)))
    by = unit([answer for row in answers for answer in row])
    return by, [[chain(answer, by) for answer in row] for row in answers]


def metric_file(model: str) -> str:
    """Name of the file for node_exporter's textfile collector."""
    return f"{METRIC}_{re.sub(r'[^A-Za-z0-9._-]', '_', model)}.prom"


def metric_text(model: str, rate: float, noise: float) -> str:
    """Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
    label = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    rows = (
        ("ratio", "Share of the positions of greedy answers that differ from the baseline.", rate),
        ("noise_ratio", "The same between two runs of the unchanged engine, when the baseline was saved.", noise),
    )
    return "".join(
        f'# HELP {METRIC}_{key} {words}\n# TYPE {METRIC}_{key} gauge\n{METRIC}_{key}{{deployment="{label}"}} {value:.6g}\n'
        for key, words, value in rows)


def report(by: str, own: Difference) -> dict[str, Any]:
    """The module's return value ``golden``, before a comparison."""
    return {"unit": by, "answers": own.answers, "noise": round(own.rate, 6)}
