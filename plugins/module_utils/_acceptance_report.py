# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's acceptance as a page that two sides sign: HTML that needs nothing else, runs nothing, and prints on A4.

Pure; private to this collection.
"""
from __future__ import annotations

import html
import re
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._acceptance import code_of, errors
from ansible_collections.idc.llm.plugins.module_utils._acceptance_fleet import Cell, common, matrix, threshold, versions_of, whose
from ansible_collections.idc.llm.plugins.module_utils._acceptance_table import NAMES
from ansible_collections.idc.llm.plugins.module_utils._acceptance_words import LABELS, SAID, STYLE, WANTED, WORDS

COLUMNS = 4  # hosts side by side, as A4 has room for
MARKS = {"ok": "✓", "failed": "✗", "not_run": "–", "none": "–"}
PARTS = {"cuda": "CUDA", "nccl": "NCCL", "engine": "vLLM", "dcgm": "DCGM"}
PLAIN = ("driver", "results", "clocks")  # where all is well there is nothing more to say than what was wanted


def report(fleet: Mapping[str, Any], lang: str = "en") -> str:
    """The whole page."""
    return "\n".join(_Page(lang).lines(fleet)) + "\n"


class _Page:
    """Writes in one language; every word that comes from outside is escaped."""

    def __init__(self, lang: str) -> None:
        self.chinese = lang == "zh"
        self.lang = "zh" if self.chinese else "en"

    def word(self, key: str, **values: Any) -> str:
        """A word of ours, escaped."""
        return html.escape(WORDS[key][self.chinese].format(**values))

    def said(self, text: str) -> str:
        """What a check says, escaped; its usual words in the report's language."""
        for english, chinese in SAID if self.chinese else ():
            text = re.sub(rf"\b{english}\b", chinese, text)
        return html.escape(text)

    def label(self, kind: str) -> str:
        """A check's name, escaped."""
        return html.escape(LABELS[kind][self.chinese] if kind in LABELS else kind)

    def lines(self, fleet: Mapping[str, Any]) -> Iterator[str]:
        """The page, block by block."""
        hosts = fleet["hosts"]
        yield "<!DOCTYPE html>"
        yield f'<html lang="{"zh-CN" if self.chinese else "en"}"><head><meta charset="utf-8">'
        yield '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">'
        yield f"<title>{self.word('title')} {html.escape(fleet['site'])}</title><style>{STYLE}</style></head><body>"
        yield from self.head(fleet)
        yield f"<h2>{self.word('hosts')}</h2>"
        alike = common(hosts)
        yield self.table(("host", "10%"), ("server", "38%"), ("gpus", "13%"), ("versions", "14%"), ("verdict", "25%"),
                         rows=[self.host(host, alike) for host in hosts])
        seen = [host for host in hosts if host.get("checks")]
        if seen:
            yield f"<h2>{self.word('checks')}</h2>"
        for at in range(0, len(seen), COLUMNS):
            yield self.checks(seen[at:at + COLUMNS])
        if seen:
            yield f'<p class="small">{self.word("note")}</p>'
        yield from self.faults(hosts)
        yield self.signatures(fleet)
        yield from self.cards(hosts)
        yield "</body></html>"

    def head(self, fleet: Mapping[str, Any]) -> Iterator[str]:
        """Title, site, date and the verdict on all."""
        hosts = fleet["hosts"]
        good = sum(bool(host["accepted"]) for host in hosts)
        gpus = sum(len(host.get("gpus") or ()) for host in hosts)
        state, word = ("ok", "accepted") if fleet["accepted"] else ("failed", "refused")
        facts = [("site", fleet["site"]), ("customer", fleet["customer"]), ("contractor", fleet["contractor"]),
                 ("date", _day(fleet["date"])), ("gpus", str(gpus)), ("everywhere", _versions(common(hosts)))]
        yield f"<header><div><h1>{self.word('title')}</h1><dl>"
        yield "".join(f"<dt>{self.word(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in facts if value)
        yield f'</dl></div><div class="seal {state}">{self.word(word)}</div></header>'
        yield f"<p>{self.word('all' if fleet['accepted'] else 'some', good=good, total=len(hosts))}</p>"

    def table(self, *columns: Sequence[str], rows: Sequence[str], style: str = "") -> str:
        """A table with headings of ours."""
        head = "".join(f'<th style="width:{width}">{self.word(key)}</th>' for key, width in columns)
        return f'<table class="{style}"><tr>{head}</tr>{"".join(rows)}</table>'

    def host(self, host: Mapping[str, Any], alike: Mapping[str, str]) -> str:
        """A host's row of the first table. alike: versions that are the same on all hosts."""
        state, word = {True: ("ok", "accepted"), False: ("failed", "refused"), None: ("none", "nothing")}[host["accepted"]]
        kinds: Dict[str, int] = {}
        for gpu in host.get("gpus") or ():
            kinds[gpu["name"]] = kinds.get(gpu["name"], 0) + 1
        own = {key: value for key, value in versions_of(host).items() if alike.get(key) != value}
        machine = ", ".join(word for word in (host.get("machine"), host.get("serial")) if word)
        mark = {"ok": "✓ ", "failed": "✗ "}.get(state, "")
        health = f' <span class="small">({self.word("unmeasured")})</span>' if host["accepted"] and not host.get("measured") else ""
        cards = ", ".join(f"{count} × {name}" for name, count in kinds.items())
        cells = [f"<b>{html.escape(host['name'])}</b>", html.escape(machine) or "–", html.escape(cards) or "–",
                 html.escape(_versions(own)) or (self.word("as_all") if host.get("versions") else "–")]
        last = f'{mark}{self.word(word)}{health} <span class="small">{html.escape(_day(host.get("date"))[:16])}</span>'
        return "<tr>" + "".join(f"<td>{text}</td>" for text in cells) + f'<td class="{state}"><b>{last}</b></td></tr>'

    def checks(self, hosts: Sequence[Mapping[str, Any]]) -> str:
        """Checks by hosts."""
        width = f"{(100 - 25 - 15) / COLUMNS:g}%"
        head = f'<tr><th style="width:25%">{self.word("check")}</th><th style="width:15%">{self.word("wanted")}</th>'
        head += "".join(f'<th style="width:{width}">{html.escape(host["name"])}</th>' for host in hosts)
        head += "<th></th>" * (len(hosts) < COLUMNS) + "</tr>"
        rows = []
        for kind, cells in matrix(hosts):
            row = f"<tr><td>{self.label(kind)}</td><td>{self.wanted(kind, cells)}</td>"
            row += "".join(f'<td class="{one.state}">{MARKS[one.state]} {self.seen(kind, one)}</td>' for one in cells)
            rows.append(row + "<td></td>" * (len(hosts) < COLUMNS) + "</tr>")
        return f"<table>{head}{''.join(rows)}</table>"

    def seen(self, kind: str, one: Cell) -> str:
        """A cell's words, escaped: what does not fit stands under the reasons, in full."""
        if one.state == "ok" and kind in PLAIN:
            return html.escape(WANTED[kind][self.chinese])
        text = "not run" if one.state == "not_run" else one.text
        return self.said(text if len(text) <= 60 else text[:58] + "…")

    def wanted(self, kind: str, cells: Sequence[Cell]) -> str:
        """What a row of the checks has to reach, escaped."""
        figure = threshold(cells)
        if figure:
            return html.escape(figure)
        if all(one.state in ("not_run", "none") for one in cells):
            return "–"
        if kind in WANTED:
            return html.escape(WANTED[kind][self.chinese])
        texts = dict.fromkeys(one.wanted for one in cells if one.wanted)
        if any(one.least for one in cells) or any(text.startswith("any") for text in texts):
            return self.word("any")
        return html.escape(", ".join(texts)) or self.word("any")

    def faults(self, hosts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """What keeps hosts out, with the catalogue's remedies, and what became slower."""
        rows: List[str] = []
        for host in hosts:
            for error in errors(host["name"], host if host.get("checks") else None):
                failed = [check for check in host.get("checks") or () if not check["ok"]]
                bad = [check for check in failed if code_of(check) == error.code]
                text = error.text(self.lang)
                seen = "<br>".join(self.fault(check) for check in bad) or html.escape(text.what)
                remedy = f'{html.escape(text.why)} {html.escape(text.remedy)} <span class="small">{error.code}</span>'
                rows.append(f"<tr><td>{html.escape(host['name'])}</td><td>{seen}</td><td>{remedy}</td></tr>")
        if rows:
            yield f"<h2>{self.word('faults')}</h2>"
            yield self.table(("host", "10%"), ("seen", "38%"), ("remedy", "52%"), rows=rows)
        slower = [f"{html.escape(host['name'])}: {self.drift(text)}" for host in hosts for text in host.get("drift") or ()]
        if slower:
            yield f"<h2>{self.word('drift')}</h2><p>{'<br>'.join(slower)}</p>"
        else:
            yield f'<p class="small">{self.word("drift")}: {self.word("none")}</p>'

    def fault(self, check: Mapping[str, Any]) -> str:
        """A check that does not hold, escaped."""
        wanted = f"≥ {check['least']:g}" if check["least"] else self.plain_wanted(check)
        return (f"{html.escape(whose(check['name']))}{self.label(check['kind'])}: <b>{self.said(check['observed'])}</b> "
                f"({self.word('threshold')}: {html.escape(wanted)})")

    def drift(self, text: str) -> str:
        """What became slower, escaped."""
        for figure, name in NAMES.items() if self.chinese else ():
            text = text.replace(name, LABELS.get(figure, LABELS["disk"])[1])
        return html.escape(text.replace(", was ", "，上次 ") if self.chinese else text)

    def plain_wanted(self, check: Mapping[str, Any]) -> str:
        """What is wanted where it is no figure."""
        return WANTED[check["kind"]][self.chinese] if check["kind"] in WANTED else str(check["wanted"])

    def signatures(self, fleet: Mapping[str, Any]) -> str:
        """Lines for both sides."""
        sides = []
        for side in ("customer", "contractor"):
            name = f": {html.escape(fleet[side])}" if fleet[side] else ""
            lines = "".join(f"<div>{self.word(key)}</div>" for key in ("name", "signature", "day"))
            sides.append(f"<div><b>{self.word(side)}{name}</b>{lines}</div>")
        return f'<div class="sign">{"".join(sides)}</div>'

    def cards(self, hosts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """Each GPU by its serial number and UUID, on a page of its own."""
        rows = []
        for host in hosts:
            for gpu in host.get("gpus") or ():
                texts = (host["name"], gpu["index"], gpu["name"], gpu.get("serial"), gpu.get("uuid"), gpu.get("pci_address"))
                cells = [html.escape("–" if text in (None, "") else str(text)) for text in texts]
                rows.append("<tr>" + "".join(f"<td>{text}</td>" for text in cells[:4])
                            + "".join(f"<td><code>{text}</code></td>" for text in cells[4:]) + "</tr>")
        if rows:
            yield f'<section class="annex"><h2>{self.word("cards")}</h2>'
            yield self.table(("host", "13%"), ("gpu", "6%"), ("card", "17%"), ("serial", "16%"), ("uuid", "34%"), ("pci", "14%"),
                             rows=rows, style="cards") + "</section>"


def _day(date: Any) -> str:
    """2026-11-30 14:02 UTC, of an ISO 8601 time."""
    return re.sub(r"^(\S+)T(\d\d:\d\d):\d\dZ$", r"\1 \2 UTC", str(date or ""))


def _versions(versions: Mapping[str, str]) -> str:
    """driver 580.159.04, CUDA 13.0 and so on."""
    return ", ".join(f"{PARTS.get(key, key)} {value}" for key, value in versions.items())
