# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's contract: defaults and argument_specs say the same, every entry point has its tasks."""
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.idc.llm.tests.unit.repo import tree

KINDS = {
    "str": str, "path": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict, "raw": object,
}


def specs(role: str) -> dict[str, Any]:
    return tree.load(tree.ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]


def defaults(role: str) -> dict[str, Any]:
    path = tree.ROOT / "roles" / role / "defaults/main.yml"
    return (tree.load(path) or {}) if path.exists() else {}


def same(one: Any, other: Any) -> bool:
    """Equal in value and type: 1, 1.0 and true differ."""
    return type(one) is type(other) and one == other


def wrong_kind(name: str, option: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with the type of a default; a template is text whatever it becomes."""
    if value is None or (isinstance(value, str) and "{{" in value):
        return []
    kind = KINDS[option["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and option["type"] in ("int", "float")):
        return [f"{name}: {value!r} is not of type {option['type']}"]
    if isinstance(value, list) and "elements" in option:
        return [w for item in value for w in wrong_kind(f"{name}[]", {"type": option["elements"]}, item)]
    return []


def undocumented(name: str, option: dict[str, Any]) -> list[str]:
    """Options, nested ones too, that lack a description, a type, or a list's element type."""
    found = [f"{name}: no {key}" for key in ("description", "type") if not option.get(key)]
    if option.get("type") == "list" and "elements" not in option:
        found.append(f"{name}: no elements")
    for child, inner in (option.get("options") or {}).items():
        found += undocumented(f"{name}.{child}", inner)
    return found


def test_there_are_roles() -> None:
    assert tree.ROLES


def test_preflight_asks_each_role_that_can_say_what_is_wrong_with_its_variables() -> None:
    asked = tree.load(tree.ROOT / "roles/preflight/vars/main.yml")["__preflight_roles"]
    can = {role for role in tree.ROLES if (tree.ROOT / "roles" / role / "tasks/given.yml").exists()} - {"preflight"}
    assert {role for roles in asked.values() for role in roles} == can


@pytest.mark.parametrize("role", tree.ROLES)
def test_defaults_equal_the_argument_specs(role: str) -> None:
    options = specs(role)["main"].get("options") or {}
    given = defaults(role)
    optional = {name: option for name, option in options.items() if not option.get("required")}
    assert set(given) == set(optional)
    wrong = [f"{name}: no default in the specs" for name, option in optional.items() if "default" not in option]
    wrong += [
        f"{name}: defaults say {given[name]!r}, specs {option['default']!r}"
        for name, option in optional.items()
        if "default" in option and not same(given[name], option["default"])
    ]
    wrong += [w for name, option in optional.items() for w in wrong_kind(name, option, given[name])]
    assert wrong == []


@pytest.mark.parametrize("role", tree.ROLES)
def test_every_option_is_described_and_carries_the_roles_name(role: str) -> None:
    wrong = []
    for entry in specs(role).values():
        if not entry.get("short_description"):
            wrong.append("no short_description")
        for name, option in (entry.get("options") or {}).items():
            wrong += undocumented(name, option)
            if not name.startswith(f"{role}_"):
                wrong.append(f"{name}: not the role's own name")
    assert wrong == []


@pytest.mark.parametrize("role", tree.ROLES)
def test_entry_points_have_tasks_and_agree_with_the_defaults(role: str) -> None:
    given = defaults(role)
    for entry, spec in specs(role).items():
        assert (tree.ROOT / "roles" / role / "tasks" / f"{entry}.yml").is_file(), entry
        for name, option in (spec.get("options") or {}).items():
            if "default" in option:
                assert given.get(name) == option["default"], f"{entry}: {name}"


@pytest.mark.parametrize("role", tree.ROLES)
def test_a_role_has_its_papers(role: str) -> None:
    papers = ("README.md", "meta/main.yml", "tasks/main.yml")
    assert [f for f in papers if not (tree.ROOT / "roles" / role / f).is_file()] == []
