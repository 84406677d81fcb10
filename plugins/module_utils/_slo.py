# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of many requests, and verdicts on them: objectives, and ratios to a baseline. Pure; private to this collection."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

PERCENTS = (50, 90, 99)
LATENCIES = ("ttft_p50", "ttft_p99", "itl_p50", "itl_p99", "e2e_p50", "e2e_p99")  # less is better
RATES = ("output_tokens_per_s", "requests_per_s")  # more is better
OBJECTIVES = ("ttft_p99_ms", "itl_p99_ms", "e2e_p99_ms", "error_rate")


@dataclass(frozen=True)
class Verdict:
    """One figure against its limit; ``observed`` None: there was no sample, which is never good enough."""

    name: str
    observed: float | None
    limit: float
    ok: bool
    sign: str = "<="

    def text(self) -> str:
        """The same in every language: ttft_p99_ms=812.3 (<= 500)."""
        seen = "none" if self.observed is None else f"{self.observed:g}"
        return f"{self.name}={seen} ({self.sign} {self.limit:g})"

    def as_dict(self) -> dict[str, Any]:
        """As a return value."""
        return asdict(self)


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of a sorted, non-empty sample: its value number ceil(percent / 100 * n), from 1.

    It is always a value that was seen, and under 100 samples p99 is the largest. Definition 1 of Hyndman and Fan,
    "Sample Quantiles in Statistical Packages", The American Statistician 50 (1996), doi:10.2307/2684934; numpy calls it
    ``inverted_cdf``. ``vllm bench serve`` interpolates between two values instead, so its figures differ a little.
    """
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """p50, p90, p99, mean and max in ms, and the count; None where there is no sample."""
    ordered = sorted(seconds)
    count = len(ordered)
    figures: dict[str, Any] = {f"p{p}": _ms(percentile(ordered, p)) if count else None for p in PERCENTS}
    figures["mean"] = _ms(sum(ordered) / count) if count else None
    figures["max"] = _ms(ordered[-1]) if count else None
    return {**figures, "count": count}


def figures(load: Mapping[str, Any]) -> dict[str, float | None]:
    """The few figures of a load's results that are kept and compared: latencies in ms, rates a second."""
    latencies = {}
    for name in LATENCIES:
        kind, _sep, which = name.partition("_")
        latencies[f"{name}_ms"] = load[f"{kind}_ms"][which]
    return {**latencies, **{name: load[name] for name in RATES}}


def judge_slo(load: Mapping[str, Any], slo: Mapping[str, float | None]) -> list[Verdict]:
    """Each objective that was set; ``error_rate`` always, 0 unless set, so that failed requests never pass unseen."""
    seen = {**figures(load), "error_rate": load["error_rate"]}
    limits = {**dict.fromkeys(OBJECTIVES), **slo}
    limits["error_rate"] = limits["error_rate"] or 0.0
    return [_at_most(name, seen[name], limits[name]) for name in OBJECTIVES if limits[name] is not None]


def ratios(now: Mapping[str, float | None], before: Mapping[str, float | None]) -> dict[str, float | None]:
    """New figure to old, by name; None where one of them is missing or the old one is 0."""
    found: dict[str, float | None] = {}
    for name in LATENCIES + RATES:
        key = f"{name}_ms" if name in LATENCIES else name
        new, old = now.get(key), before.get(key)
        found[name] = round(new / old, 4) if new is not None and old else None
    return found


def judge_regression(found: Mapping[str, float | None], limits: Mapping[str, float | None]) -> list[Verdict]:
    """Each ratio that has a limit: at most it for a latency, at least it for a rate."""
    verdicts = []
    for name, limit in limits.items():
        if limit is None:
            continue
        ratio = found[name]
        if name in RATES:
            verdicts.append(Verdict(name, ratio, limit, ratio is not None and ratio >= limit, ">="))
        else:
            verdicts.append(_at_most(name, ratio, limit))
    return verdicts


def _at_most(name: str, observed: float | None, limit: float | None) -> Verdict:
    limit = limit or 0.0
    return Verdict(name, observed, limit, observed is not None and observed <= limit)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
