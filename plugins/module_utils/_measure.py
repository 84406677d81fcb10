# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What llm_probe does beyond one request: load, golden answers, baseline, and what misses its limit. Private to this collection."""
from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Mapping

from ansible_collections.idc.llm.plugins.module_utils import _baseline, _golden, _load, _slo
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._expect import Expect
from ansible_collections.idc.llm.plugins.module_utils._http import Call, Reply, send
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe
from ansible_collections.idc.llm.plugins.module_utils._store_files import write_text

MAX_REQUESTS, MAX_CONCURRENCY, MAX_PROMPT_TOKENS, MAX_DEADLINE_S = 10000, 512, 1 << 20, 86400
MAX_EVENTS = 5000000  # requests * max_tokens: a gap of 8 bytes is kept of each
MAX_GOLDEN, MAX_REPEAT = 1000, 10

# llm_probe's arguments beyond one request; described in plugins/doc_fragments/_llm_probe.py
MEASURE_ARGUMENTS: dict[str, Any] = {
    "requests": {"type": "int"},
    "concurrency": {"type": "int", "default": 1},
    "prompt_tokens": {"type": "int", "no_log": False},
    "expect": {
        "type": "dict",
        "options": {"status": {"type": "int", "default": 200}, "regex": {"type": "str"}, "json_schema": {"type": "dict"}},
    },
    "slo": {
        "type": "dict",
        "options": {
            **{name: {"type": "float"} for name in ("ttft_p99_ms", "itl_p99_ms", "e2e_p99_ms")},
            "error_rate": {"type": "float", "default": 0},
        },
    },
    "baseline": {"type": "path"},
    "baseline_save": {"type": "path"},
    "regression": {"type": "dict", "options": {name: {"type": "float", "no_log": False} for name in _slo.LATENCIES + _slo.RATES}},
    "golden": {"type": "list", "elements": "str"},
    "golden_repeat": {"type": "int", "default": 2},
    "golden_max_tokens": {"type": "int", "default": 64, "no_log": False},
    "golden_limit": {"type": "float", "default": 0.001},
    "metrics_dir": {"type": "path"},
    "deadline": {"type": "float", "default": 600},
}


@dataclass(frozen=True)
class Plan:
    """All that was asked for. ``deadline``: seconds for load and golden answers together."""

    probe: Probe
    load: _load.Load | None = None
    golden: _golden.Golden | None = None
    slo: Mapping[str, float | None] = field(default_factory=dict)
    regression: Mapping[str, float | None] = field(default_factory=dict)
    baseline: str = ""
    baseline_save: str = ""
    metrics_dir: str = ""
    deadline: float = 600.0
    dry: bool = False  # asks, but writes nothing

    def refusal(self) -> tuple[str, Any, str]:
        """(option, what it is, what is wanted) of the first that can't be; ("", ...) where all can."""
        option, wrong = self.probe.expect.refusal()
        if option:
            return option, wrong, "a regular expression of Python, or the part of JSON schema that is understood"
        bounds: list[tuple[str, float, float, float]] = [
            ("deadline", self.deadline, 0.001, MAX_DEADLINE_S), ("max_tokens", self.probe.max_tokens, 1, MAX_EVENTS)]
        if self.load:
            bounds += [("requests", self.load.requests, 1, MAX_REQUESTS),
                       ("concurrency", self.load.concurrency, 1, MAX_CONCURRENCY),
                       ("requests * max_tokens", self.load.requests * self.probe.max_tokens, 1, MAX_EVENTS)]
            if self.load.prompt_tokens is not None:
                bounds.append(("prompt_tokens", self.load.prompt_tokens, 1, MAX_PROMPT_TOKENS))
        if self.golden:
            bounds += [("the number of golden prompts", len(self.golden.prompts), 1, MAX_GOLDEN),
                       ("golden_repeat", self.golden.repeat, 1, MAX_REPEAT),
                       ("golden_max_tokens", self.golden.max_tokens, 1, MAX_EVENTS), ("golden_limit", self.golden.limit, 0, 1)]
        for name, value, low, high in bounds:
            if not low <= value <= high:
                return name, value, f"{low:g} to {high:g}"
        if self.load is None and (self.slo or self.regression):
            return "requests", "not given", "a number, for slo and regression judge many requests"
        if self.load is None and self.golden is None and (self.baseline or self.baseline_save):
            return "requests", "not given", "requests or golden, for a baseline to be about"
        if self.regression and not self.baseline:
            return "baseline", "not given", "a file, for regression compares with it"
        return "", None, ""

    @property
    def workload(self) -> dict[str, Any] | None:
        """What has to be equal for two loads to be comparable; the number of requests need not be."""
        if self.load is None:
            return None
        prompt = "" if self.load.prompt_tokens else _golden.digest(self.probe.prompt)
        return {"concurrency": self.load.concurrency, "prompt_tokens": self.load.prompt_tokens,
                "max_tokens": self.probe.max_tokens, "prompt": prompt}


def plan_of(given: Mapping[str, Any], dry: bool) -> Plan:
    """The module's arguments as what to do."""
    wanted = given["expect"] or {}
    probe = Probe(
        url=given["url"],
        model=given["model"],
        api_key=given["api_key"] or "",
        prompt=given["prompt"],
        max_tokens=given["max_tokens"],
        ca_path=given["ca_path"] or "",
        server_name=given["server_name"] or "",
        timeout=given["timeout"],
        ttft_max_s=given["ttft_max_s"],
        total_max_s=given["total_max_s"],
        expect=Expect(wanted.get("status", 200), wanted.get("regex") or "", wanted.get("json_schema")),
    )
    load: _load.Load | None = None
    golden: _golden.Golden | None = None
    if given["requests"] is not None:
        load = _load.Load(given["requests"], given["concurrency"], given["prompt_tokens"])
    if given["golden"] is not None:
        golden = _golden.Golden(tuple(given["golden"]), given["golden_repeat"], given["golden_max_tokens"], given["golden_limit"])
    files = {name: given[name] or "" for name in ("baseline", "baseline_save", "metrics_dir")}
    return Plan(probe, load, golden, given["slo"] or {}, given["regression"] or {}, deadline=given["deadline"], dry=dry, **files)


@dataclass
class Measured:
    """Return values, and the limits that were missed as errors."""

    results: dict[str, Any] = field(default_factory=dict)
    misses: list[IdcError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    changed: bool = False


def prepare(plan: Plan) -> _baseline.Baseline | None:
    """Refuse what can't work before anything is asked; the baseline to compare with. Raises IdcError."""
    option, observed, wanted = plan.refusal()
    if option:
        raise IdcError("IDC-PROBE-012", option=option, observed=observed, wanted=wanted)
    if plan.baseline_save and not plan.dry:
        _baseline.require_folder(os.path.dirname(plan.baseline_save) or ".")
    if plan.metrics_dir and not plan.dry:
        _baseline.require_folder(plan.metrics_dir)
    if not plan.baseline:
        return None
    known = _baseline.read(plan.baseline)
    prompts = [_golden.digest(prompt) for prompt in plan.golden.prompts] if plan.golden else []
    wrong = known.misfit(plan.probe.model, plan.workload, prompts, plan.golden.max_tokens if plan.golden else 0)
    if wrong:
        raise IdcError("IDC-PROBE-017", path=plan.baseline, detail=wrong)
    return known


def measure(
    plan: Plan,
    known: _baseline.Baseline | None,
    transport: Callable[[Call], Reply] = send,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Measured:
    """Ask, judge, and write what is to be written: a baseline only of a run that misses nothing."""
    done, ends = Measured(), clock() + plan.deadline
    answers = None
    figures: dict[str, float | None] = {}
    try:
        if plan.golden:
            answers = _ask_golden(plan, plan.golden, known, done, ends, transport, clock)
        if plan.load:
            figures = _drive(plan, plan.load, known, done, ends, transport, clock)
    except IdcError as error:
        done.misses.append(error)
    if plan.baseline_save and not done.misses:
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now()))
        fresh = _baseline.Baseline(plan.probe.model, date, plan.workload or {}, figures, answers)
        done.changed = True
        _write(plan, plan.baseline_save, fresh.to_text(), done)
    return done


def _ask_golden(
    plan: Plan, golden: _golden.Golden, known: _baseline.Baseline | None, done: Measured, ends: float,
    transport: Callable[[Call], Reply], clock: Callable[[], float],
) -> _baseline.Answers:
    """Golden answers, the noise between their runs, and how they differ from the baseline's."""
    by, runs = _golden.ask_all(plan.probe, golden, ends, clock, transport)
    own = _golden.difference(runs[0], runs[1:])
    done.results["golden"] = report = _golden.report(by, own)
    if own.rate > golden.limit:
        done.warnings.append(f"the engine's own noise {own.rate:.4g} is above golden_limit {golden.limit:g}")
    digests = [_golden.digest(prompt) for prompt in golden.prompts]
    if known and known.golden:
        if known.golden.unit != by:
            raise IdcError("IDC-PROBE-017", path=plan.baseline, detail=f"it counts {known.golden.unit}, this server gives {by}")
        found = _golden.difference([known.golden.chains[one] for one in digests], runs)
        excess = max(0.0, found.rate - known.golden.noise)
        report.update(
            answers=found.answers, positions=found.positions, difference=round(found.rate, 6),
            baseline_noise=round(known.golden.noise, 6), excess=round(excess, 6), limit=golden.limit, ok=excess <= golden.limit,
            parted=[{"prompt": prompt, "position": at} for prompt, at in found.parted])
        if plan.metrics_dir:
            text = _golden.metric_text(plan.probe.model, found.rate, known.golden.noise)
            _write(plan, os.path.join(plan.metrics_dir, _golden.metric_file(plan.probe.model)), text, done)
        if excess > golden.limit:
            sum_up = f"{found.rate:.4g} - {known.golden.noise:.4g} = {excess:.4g} > {golden.limit:g}"
            detail = f"{len(found.parted)}/{found.answers}; {sum_up}"
            done.misses.append(IdcError("IDC-PROBE-016", url=plan.probe.url, model=plan.probe.model, detail=detail))
    return _baseline.Answers(by, golden.max_tokens, own.rate, dict(zip(digests, runs[0])))


def _drive(
    plan: Plan, load: _load.Load, known: _baseline.Baseline | None, done: Measured, ends: float,
    transport: Callable[[Call], Reply], clock: Callable[[], float],
) -> dict[str, float | None]:
    """The load, its objectives, and its ratios to the baseline."""
    probe = plan.probe
    salt = os.urandom(8).hex()  # another one each run: prompts of an earlier run may still be in the engine's prefix cache
    words = 0
    if load.prompt_tokens:
        # vLLM goes on to max_tokens; words by chance would end anywhere
        probe = replace(probe, extra={**probe.extra, "ignore_eos": True})
        left = max(0.001, min(probe.timeout, ends - clock()))
        words = _load.calibrate(replace(probe, timeout=left), load.prompt_tokens, salt, transport)
    results = _load.drive(
        probe, load, lambda number: _load.synthetic(words, salt, number + 1) if words else probe.prompt, ends, transport, clock)
    done.results["load"] = results
    figures = _slo.figures(results)
    verdicts = _slo.judge_slo(results, plan.slo)
    done.results["slo"] = [verdict.as_dict() for verdict in verdicts]
    _miss(plan, done, "IDC-PROBE-014", verdicts, results)
    if known:
        found = _slo.ratios(figures, known.figures)
        verdicts = _slo.judge_regression(found, plan.regression)
        done.results["comparison"] = {"date": known.date, "ratios": found, "verdicts": [verdict.as_dict() for verdict in verdicts]}
        _miss(plan, done, "IDC-PROBE-015", verdicts, results)
    return figures


def _miss(plan: Plan, done: Measured, code: str, verdicts: list[_slo.Verdict], results: Mapping[str, Any]) -> None:
    """One error that names all that was missed, and what failed."""
    missed = [verdict for verdict in verdicts if not verdict.ok]
    if missed:
        detail = ", ".join(verdict.text() for verdict in missed)
        if any(verdict.name == "error_rate" for verdict in missed):
            detail += ": " + ", ".join(f"{kind} {count}" for kind, count in results["errors"].items() if count)
        done.misses.append(IdcError(code, url=plan.probe.url, model=plan.probe.model, detail=detail))


def _write(plan: Plan, path: str, text: str, done: Measured) -> None:
    """Whole or not at all, 0644; the run's figures outlive a full disk."""
    if plan.dry:
        return
    try:
        write_text(path, text)
    except OSError as error:
        done.misses.append(IdcError("IDC-PROBE-018", path=path, detail=error.strerror or str(error)))
