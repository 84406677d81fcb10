# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many requests at once, and their figures: a thread for each that is under way. Private to this collection."""
from __future__ import annotations

import random
import time
from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Callable, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._http import Call, Reply, send
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe, check, reach
from ansible_collections.idc.llm.plugins.module_utils._slo import spread

KINDS = ("status", "cut", "timeout", "connect", "empty", "expect", "unsent")
_KIND = {"IDC-PROBE-001": "connect", "IDC-PROBE-002": "connect", "IDC-PROBE-006": "empty", "IDC-PROBE-008": "timeout",
         "IDC-PROBE-009": "cut", "IDC-PROBE-011": "connect", "IDC-PROBE-013": "expect"}
SAMPLES = 3  # messages kept of each kind of error
MESSAGE = 200  # characters of one
# Common words, with the blank before them usually one token; of one length, so that a vocabulary of bytes is even, too.
_TEXT = (
    "able away back bank base best blue body book both call came care case city come cost dark data days deal deep does done "
    "door down each east even ever face fact fall fast feel feet file fine fire five food form four free from full game gave "
    "girl give goes gold gone good half hand hard have head hear held help here high hold home hope hour idea into just keep "
    "kind know land last late less life like line list live long look lost love made main make many mean mind more most move "
    "much must name near need next nice only open over part past plan play real rest room rule same seen side some soon such "
    "sure take talk tell than that them then they this thus time took tree true turn type unit upon used very view walk want "
    "warm week well went were west what when wide will wind with word work year your")
WORDS = tuple(_TEXT.split())


@dataclass(frozen=True)
class Load:
    """How much to ask for. ``prompt_tokens`` None: the probe's own prompt each time, else synthetic ones of that length."""

    requests: int
    concurrency: int = 1
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class Outcome:
    """One request. ``kind``: "" = as wanted, or one of KINDS; ``gaps``: seconds between events with text."""

    kind: str = ""
    status: int = 0
    detail: str = ""
    ttft_s: float | None = None
    gaps: Sequence[float] = ()
    total_s: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0


def synthetic(words: int, salt: str, number: int = 0) -> str:
    """Words by chance, the same for the same salt and number; another salt or number shares no prefix worth caching."""
    return " ".join(random.Random(f"{salt}/{number}").choices(WORDS, k=words))


def words_for(tokens: int, count: Callable[[int], int]) -> int:
    """How many words make a prompt of so many tokens, the chat template included.

    ``count(words)``: prompt tokens that the server saw for a prompt of so many words, 0 where it does not say; then a
    word is taken for a token. Asked twice, for an eighth and a quarter, since a template adds a fixed number and a
    vocabulary may need several tokens a word.
    """
    few, more = max(8, tokens // 8), max(16, tokens // 4)
    low, high = count(few), count(more)
    if not low or high <= low:
        return tokens
    per_word = (high - low) / (more - few)
    return max(1, round((tokens - low) / per_word) + few)


def calibrate(probe: Probe, tokens: int, salt: str, transport: Callable[[Call], Reply] = send) -> int:
    """``words_for`` by two short requests."""

    def count(words: int) -> int:
        short = replace(probe, prompt=synthetic(words, salt), max_tokens=min(8, probe.max_tokens))
        return check(short, reach(short, transport)).prompt_tokens

    return words_for(tokens, count)


def one(probe: Probe, transport: Callable[[Call], Reply] = send) -> Outcome:
    """Send one request and measure it."""
    try:
        reply = reach(probe, transport)
        answer = check(probe, reply)
    except IdcError as error:
        status = error.details.get("status", 0)
        return Outcome(_KIND.get(error.code, "status"), status, str(error.details.get("detail", ""))[:MESSAGE])
    gaps = array("d", (after - before for before, after in zip(answer.times, answer.times[1:])))
    first = answer.times[0] if answer.times else None
    return Outcome("", reply.status, "", first, gaps, reply.total_s, answer.completion_tokens, answer.prompt_tokens)


def drive(
    probe: Probe,
    load: Load,
    prompt: Callable[[int], str],
    ends: float,
    transport: Callable[[Call], Reply] = send,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """All requests, at most ``load.concurrency`` at once; none outlives ``ends`` (a time of ``clock``). The results.

    A new one is begun when another ends (a closed loop), so a slow server is asked more slowly: it shows what so many
    users see, not what a fixed rate of arrivals does to a queue.
    """
    began = clock()

    def work(number: int) -> Outcome:
        left = ends - clock()
        if left <= 0:
            return Outcome("unsent", detail="the deadline had passed")
        return one(replace(probe, prompt=prompt(number), timeout=min(probe.timeout, left)), transport)

    with ThreadPoolExecutor(max_workers=min(load.concurrency, load.requests)) as pool:
        outcomes = list(pool.map(work, range(load.requests)))
    return summary(outcomes, load, max(clock() - began, 1e-9))


def summary(outcomes: Sequence[Outcome], load: Load, duration_s: float) -> dict[str, Any]:
    """The module's return value ``load``; latencies and rates are those of the good requests."""
    good = [outcome for outcome in outcomes if not outcome.kind]
    bad = [outcome for outcome in outcomes if outcome.kind]
    kinds = Counter(outcome.kind for outcome in bad)
    tokens = sum(outcome.tokens for outcome in good)
    prompts = [outcome.prompt_tokens for outcome in good if outcome.prompt_tokens]
    return {
        "requests": len(outcomes),
        "good": len(good),
        "failed": len(bad),
        "error_rate": round(len(bad) / len(outcomes), 6),
        "errors": {kind: kinds[kind] for kind in KINDS},
        "statuses": {str(status): count for status, count in sorted(Counter(o.status for o in outcomes if o.status).items())},
        "error_samples": _samples(bad),
        "concurrency": load.concurrency,
        "duration_s": round(duration_s, 4),
        "ttft_ms": spread([outcome.ttft_s for outcome in good if outcome.ttft_s is not None]),
        "itl_ms": spread([gap for outcome in good for gap in outcome.gaps]),
        "e2e_ms": spread([outcome.total_s for outcome in good]),
        "output_tokens": tokens,
        "output_tokens_per_s": round(tokens / duration_s, 3),
        "requests_per_s": round(len(good) / duration_s, 3),
        "prompt_tokens": {"min": min(prompts), "max": max(prompts), "mean": round(sum(prompts) / len(prompts), 2)}
        if prompts else {"min": None, "max": None, "mean": None},
    }


def _samples(bad: Sequence[Outcome]) -> list[dict[str, str]]:
    """The first few different messages of each kind."""
    rows = list(dict.fromkeys((outcome.kind, outcome.detail) for outcome in bad))
    return [{"kind": kind, "detail": detail} for name in KINDS for kind, detail in [r for r in rows if r[0] == name][:SAMPLES]]
