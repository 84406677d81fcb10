# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a person reads it. Pure; private to this collection."""
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence


def plan_table(plan: Mapping[str, Any]) -> list[str]:
    """A heading and one line for each engine; replicas of one deployment that differ in nothing else stand together."""
    rows = []
    for engine in plan["engines"]:
        memory = engine.get("memory") or {}
        rows.append({
            "engine": engine["name"], "host": engine["host"],
            "listens-on": f"{engine['address']}:{engine['port']}" if engine["head"] else "-",
            "gpus": str(len(engine["gpus"]) or "cpu"), "layout": layout_text(engine.get("layout")),
            "weights/GPU": _gb(memory.get("weights_bytes")), "KV/GPU": _gb(memory.get("kv_bytes")),
            "KV-tokens": _count(memory.get("kv_tokens")), "context": _count(memory.get("context")),
            "at-once": f"{memory['sequences']:.1f}" if memory.get("sequences") is not None else "-",
            "release": engine["release"]})
    return aligned(rows)


def plan_notes(plan: Mapping[str, Any]) -> list[str]:
    """What stands under the table: each deployment's model, bottleneck and room for a second slot; then the warnings."""
    notes = []
    for deployment in plan["deployments"]:
        held = sum(engine["deployment"] == deployment["name"] and engine["head"] for engine in plan["engines"])
        notes.append(f"{deployment['name']}: {deployment['model']}@{deployment['revision']}, {held} replica(s), held back by "
                     f"{deployment['bottleneck']}. {deployment['change']['sentence']}")
    return notes + [f"warning: {text}" for text in plan["warnings"]]


def layout_text(layout: Optional[Mapping[str, Any]]) -> str:
    """TP8+PP2+EP/2hosts: without blanks, so that a table's line is not broken."""
    if not layout:
        return "-"
    sizes = [f"{short}{layout[name]}" for short, name in (("TP", "tensor"), ("PP", "pipeline"), ("DP", "data")) if layout[name] > 1]
    return "+".join((sizes or ["1GPU"]) + (["EP"] if layout["expert"] else [])) \
        + (f"/{layout['nodes']}hosts" if layout["nodes"] > 1 else "")


def _gb(size: Optional[float]) -> str:
    return f"{size / 1e9:.1f}GB" if size else "-"


def _count(number: Optional[int]) -> str:
    return f"{number:,}" if number else "-"


def status_rows(plan: Mapping[str, Any], probes: Mapping[str, Any],
                gateways: Mapping[str, Optional[Mapping[str, Any]]]) -> list[dict[str, str]]:
    """One row per engine for a person: where it is, whether a token came back just now, whether gateways leave it out.

    probes: llm_probe's result by engine name (none: its host was not reached); gateways: by host what its balancer knows of each
    engine, None where it could not be asked.
    """
    rows = []
    for engine in plan["engines"]:
        probe = probes.get(engine["name"])
        if probe is None:
            token = "unknown: host not reached"
        elif probe.get("failed") or "ttft_s" not in probe:
            token = f"none: {probe.get('msg', 'no answer')}"
        else:
            token = f"now, after {probe['ttft_s']:.3f} s"
        rows.append({"engine": engine["name"], "host": engine["host"], "gpus": str(len(engine["gpus"]) or "cpu"),
                     "release": engine["release"], "last token": token, "left out": _left_out(engine["name"], gateways)})
    return rows


def _left_out(engine: str, gateways: Mapping[str, Optional[Mapping[str, Any]]]) -> str:
    """no; unknown; or which gateway gives it less than its share, since when and why."""
    if not gateways or None in gateways.values():
        return "unknown"
    for host, known in gateways.items():
        state = (known or {}).get(engine)
        if state is None:
            return f"{host}: not in its plan"
        if state["drained"] or state["share"] < 1:
            word = "drained" if state["drained"] else f"share {state['share']:g}: {state['why']}"
            return f"{host} since {state['at']}: {word}"
    return "no"


def aligned(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Rows as lines of a table with a heading; no rows, no lines."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)] if rows else []
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))] if lines else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
