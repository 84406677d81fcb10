# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each alarm has a page that says what it means, how to confirm it, what to do and whom to call; no page without an alarm."""
from __future__ import annotations

import re

import pytest
from ansible_collections.idc.llm.tests.support import rules

ALERTS = rules.alerts()
HEADINGS = ["What it means", "How to confirm", "What to do", "When to call somebody", "中文"]
MOST_LINES = 60  # who is woken by it reads it to the end


def sections(name: str) -> dict[str, str]:
    text = (rules.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    parts = re.split(r"(?m)^## (.+)$", text)
    assert parts[0].strip() == f"# {name}"
    return {title: body.strip() for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def test_pages_and_alarms_are_the_same() -> None:
    assert {path.stem for path in rules.RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_has_all_its_parts(name: str) -> None:
    found = sections(name)
    assert list(found) == HEADINGS
    assert [title for title, body in found.items() if len(body) < 12] == []
    assert "```sh" in found["How to confirm"] or "ashboard" in found["How to confirm"], "nothing to look at"
    assert re.match(r"1\. ", found["What to do"])
    assert len(re.findall("[\u4e00-\u9fff]", found["中文"])) >= 20
    assert len((rules.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_list_has_each_page_with_its_severity() -> None:
    text = (rules.RUNBOOKS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \|", text)
    assert {(name, severity) for name, link, severity in rows if name == link} == {
        (name, rule["labels"]["severity"]) for name, rule in ALERTS.items()}
