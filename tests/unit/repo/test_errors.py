# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of errors: complete in two languages, every code known, used, and given what its sentences need."""
from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._errors import CATALOGUE, Entry, IdcError
from ansible_collections.idc.llm.tests.unit.repo import tree

CODE = re.compile(r"IDC-[A-Z]+-[0-9]+")
HOME = tree.ROOT / "plugins/module_utils/_errors.py"


def mentions() -> Iterator[tuple[Path, str]]:
    for path in tree.files("plugins", "roles", "playbooks"):
        if path != HOME and path.suffix in (".py", ".yml", ".yaml", ".j2"):
            for code in CODE.findall(path.read_text(encoding="utf-8")):
                yield path.relative_to(tree.ROOT), code


def places(entry: Entry, lang: str) -> set[str]:
    """Names of the places that a language's sentences leave open."""
    text = getattr(entry, lang)
    found = set()
    for part in (text.what, text.why, text.remedy):
        found |= {field[1] for field in string.Formatter().parse(part) if field[1] is not None}
    return found


def test_every_code_in_use_is_in_the_catalogue() -> None:
    assert {f"{path}: {code}" for path, code in mentions() if code not in CATALOGUE} == set()


def test_every_entry_is_in_use() -> None:
    assert set(CATALOGUE) - {used[1] for used in mentions()} == set()


def test_codes_are_sorted_within_their_area_and_areas_stand_together() -> None:
    codes = list(CATALOGUE)
    areas = [code.split("-")[1] for code in codes]
    blocks = [area for n, area in enumerate(areas) if n == 0 or areas[n - 1] != area]
    assert len(blocks) == len(set(blocks)), f"an area stands in two places: {blocks}"
    for area in blocks:
        own = [code for code in codes if code.split("-")[1] == area]
        assert own == sorted(own)


@pytest.mark.parametrize("code", CATALOGUE)
def test_both_languages_say_all_three_things_about_the_same_details(code: str) -> None:
    assert CODE.fullmatch(code)
    assert re.fullmatch(r"IDC-[A-Z]+-[0-9]{3}", code)
    entry = CATALOGUE[code]
    for lang in ("en", "zh"):
        text = getattr(entry, lang)
        assert all(part.strip() for part in (text.what, text.why, text.remedy)), lang
    assert places(entry, "en") == places(entry, "zh")
    assert re.search("[\u4e00-\u9fff]", entry.zh.what), "the Chinese text is not Chinese"
    details = dict.fromkeys(places(entry, "en"), "seen")
    assert IdcError(code, **details).render("zh").startswith(f"{code}: ")


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """(place, code, details given) of every error raised with a literal code and no ``**details``."""
    for path in tree.files("plugins/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", None) != "IdcError":
                continue
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and all(k.arg for k in node.keywords):
                yield f"{path.relative_to(tree.ROOT)}:{node.lineno}", first.value, {str(k.arg) for k in node.keywords}


def test_each_error_is_raised_with_the_details_its_sentences_name() -> None:
    wrong = [
        f"{place}: {code} lacks {sorted(places(CATALOGUE[code], 'en') - given)}"
        for place, code, given in calls()
        if code in CATALOGUE and places(CATALOGUE[code], "en") - given
    ]
    assert wrong == []
