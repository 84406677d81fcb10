# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role acceptance and of the playbooks that report on it."""
from __future__ import annotations

import json
from typing import Any, Callable, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _acceptance, _acceptance_fleet, _acceptance_pairs, _acceptance_report
from ansible_collections.idc.llm.plugins.module_utils._acceptance_tools import measured_from
from ansible_collections.idc.llm.plugins.module_utils._fleet import address_of


def acceptance_lines(verdict: Mapping[str, Any]) -> list[str]:
    """The verdict in words: what it is, each check that does not hold, each figure, what was not run, and what became slower."""
    return _acceptance.lines(verdict)


def acceptance_errors(verdict: Optional[Mapping[str, Any]], host: str, lang: str = "en") -> list[str]:
    """Sentences about all that keeps the host from being accepted; empty where it is."""
    return [error.render(lang) for error in _acceptance.errors(host, verdict)]


def acceptance_wrong(given: Mapping[str, Any], lang: str = "en") -> list[str]:
    """What is wrong with the role's numbers, given by name without ``acceptance_``."""
    return [error.render(lang) for error in _acceptance.given_errors(given)]


def acceptance_measured(said: Mapping[str, Any], dcgm_level: int = 0, absent: Optional[Mapping[str, str]] = None) -> dict[str, Any]:
    """What gpu_facts is to judge, from what the tasks that measure registered. absent: why a part was not tried; a task that was
    skipped for no reason that is given there says nothing."""
    ran = {part: result for part, result in said.items() if result and not result.get("skipped")}
    return measured_from({**{part: {"not_run": reason} for part, reason in (absent or {}).items()}, **ran}, int(dcgm_level))


def acceptance_pair(said: Mapping[str, Any], pair: Mapping[str, Any], host: str) -> dict[str, Any]:
    """What gpu_facts is to judge of a pair, from what this host's half said."""
    other = next(name for name in pair["hosts"] if name != host)
    found = measured_from({"pair": said})["pair"]
    return {"pairs": {other: {**found, "wire_gbs": pair["wire_gbs"]}}}


def _members(hostvars: Mapping[str, Any], ring: Sequence[str], reached: Sequence[str]) -> list[_acceptance_pairs.Member]:
    found = []
    for name in ring:
        if name not in hostvars:
            continue
        variables, facts = hostvars[name], hostvars[name].get("ansible_facts") or {}
        engines = (variables.get("__acceptance_engines") or {}).get("stdout") or ""
        gpu = facts.get("idc_llm_gpu") if name in reached else None
        found.append(_acceptance_pairs.member(name, address_of(variables), gpu, engines))
    return found


def acceptance_rounds(hostvars: Mapping[str, Any], ring: Sequence[str], reached: Sequence[str], again: bool = False,
                      port: int = _acceptance_pairs.PORT) -> list[list[dict[str, Any]]]:
    """Pairs of hosts to be measured, round by round. reached: the hosts of this run."""
    return _acceptance_pairs.rounds(_members(hostvars, ring, reached), again, int(port))


def acceptance_alone(hostvars: Mapping[str, Any], ring: Sequence[str], reached: Sequence[str]) -> dict[str, str]:
    """Why a host of the ring is in no pair, by host."""
    return _acceptance_pairs.alone(_members(hostvars, ring, reached))


def acceptance_spanning(deployments: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any], groups: Mapping[str, Sequence[str]],
                        plan: Any = None) -> list[str]:
    """Hosts that deployments over several hosts use, by their sizes and by the kept plan (its text, or none)."""
    gpus = {}
    for name in groups.get("gpu_nodes") or ():
        fact = (hostvars[name].get("ansible_facts") or {}).get("idc_llm_gpu")
        if fact is not None:
            gpus[name] = len(fact.get("gpus") or ())
    return _acceptance_pairs.spanning([row for row in deployments if isinstance(row, Mapping)], gpus, _read(plan))


def _read(kept: Any) -> Mapping[str, Any]:
    """A mapping from a file's text; an empty one where there is none that can be read."""
    try:
        found = json.loads(kept) if isinstance(kept, str) and kept else kept
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def acceptance_fleet(hostvars: Mapping[str, Any], names: Sequence[str], reached: Sequence[str], kept: Any = None,
                     release: str = "", site: Optional[Mapping[str, str]] = None) -> dict[str, Any]:
    """The fleet's report as a mapping. reached: hosts whose verdict was read in this run; kept: the last report's text."""
    seen = {}
    for name in reached:
        facts = hostvars[name].get("ansible_facts") or {}
        fact = facts.get("idc_llm_gpu") or {}
        verdict = fact.get("acceptance") or fact.get("acceptance_now")
        if name in names and verdict:
            seen[name] = _acceptance_fleet.host_row(name, fact, verdict, facts, hostvars[name].get("vllm_release") or release)
    return _acceptance_fleet.fleet(names, seen, _read(kept), site or {})


def acceptance_report(fleet: Mapping[str, Any], lang: str = "en") -> str:
    """The fleet's report as a page of HTML."""
    return _acceptance_report.report(fleet, lang)


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        named = (acceptance_alone, acceptance_errors, acceptance_fleet, acceptance_lines, acceptance_measured, acceptance_pair,
                 acceptance_report, acceptance_rounds, acceptance_spanning, acceptance_wrong)
        return {function.__name__: function for function in named}
