# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a package: dependencies, documentation, playbooks that parse."""
from __future__ import annotations

import importlib
import json
import re
from typing import Any

import ansible_collections
import pytest
from ansible_collections.idc.llm.tests.unit.repo import tree
from packaging.specifiers import SpecifierSet

GALAXY = tree.load(tree.ROOT / "galaxy.yml")
PINS = {c["name"]: str(c["version"]) for c in tree.load(tree.ROOT / "requirements.yml")["collections"]}
OURS = f"{GALAXY['namespace']}.{GALAXY['name']}"
INVENTORIES = ("example", "prod", "demo")


def filters() -> list[str]:
    found: set[str] = set()
    for path in (tree.ROOT / "plugins/filter").glob("[!_]*.py"):
        module = importlib.import_module(f"ansible_collections.idc.llm.plugins.filter.{path.stem}")
        found |= set(module.FilterModule().filters())
    return sorted(found)


def test_both_lists_of_collections_agree_and_pins_lie_in_the_ranges() -> None:
    assert set(PINS) == set(GALAXY["dependencies"])
    assert [n for n, pin in PINS.items() if pin not in SpecifierSet(GALAXY["dependencies"][n])] == []
    assert [n for n, pin in PINS.items() if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", pin)] == []


def test_the_installed_collections_lie_in_the_ranges() -> None:
    """The package `ansible` brings them; which versions depends on Python."""
    wrong = {}
    for name, wanted in GALAXY["dependencies"].items():
        found = None
        for folder in ansible_collections.__path__:
            manifest = tree.Path(folder) / name.replace(".", "/") / "MANIFEST.json"
            if manifest.exists():
                found = json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"]
                break
        if found is None or found not in SpecifierSet(wanted):
            wrong[name] = f"found {found}, wanted {wanted}"
    assert wrong == {}


def used_collections() -> set[str]:
    """Collections whose names stand as a task's action, a filter, a lookup, a connection or a become method."""
    found = set()
    for path in tree.task_files():
        for task in tree.tasks(tree.load(path)):
            found |= {".".join(key.split(".")[:2]) for key in task if isinstance(key, str) and key.count(".") == 2}
    for path in tree.files("roles", "playbooks", "molecule", "inventories", ".config", "ansible.cfg"):
        if path.suffix in (".yml", ".yaml", ".j2", ".cfg"):
            code = re.sub(r"(?m)#.*$", "", path.read_text(encoding="utf-8"))
            found |= {n for n in PINS if re.search(rf"\b{re.escape(n)}\.[a-z_0-9]+", code)}
    return found


def test_each_collection_is_declared_and_used() -> None:
    used = used_collections() - {"ansible.builtin", OURS}
    assert used == set(PINS)


def documented(kind: str, names: list[str]) -> dict[str, Any]:
    done = tree.run("ansible-doc", "--json", "-t", kind, *[f"{OURS}.{n}" for n in names])
    # ansible-core 2.21 warns of a collection of its own
    assert [w for w in done.stderr.split("[WARNING]")[1:] if "_protomatter" not in w] == []
    return json.loads(done.stdout)


@pytest.mark.parametrize(("kind", "names"), [("module", tree.MODULES), ("filter", filters()), ("role", tree.ROLES)])
def test_ansible_doc_renders_all(kind: str, names: list[str]) -> None:
    assert names, f"no {kind} in the collection"
    docs = documented(kind, names)
    assert set(docs) == {f"{OURS}.{n}" for n in names}
    for name, doc in docs.items():
        assert "error" not in doc, f"{name}: {doc.get('error')}"
        if kind == "role":
            assert doc["entry_points"], name
        else:
            assert doc["doc"]["description"], name
            assert doc["examples"], name
            assert doc["return"], name
    text = tree.run("ansible-doc", "-t", kind, *[f"{OURS}.{n}" for n in names]).stdout
    assert [n for n in names if n.upper() not in text.upper()] == []


def test_modules_are_in_the_action_group() -> None:
    groups = tree.load(tree.ROOT / "meta/runtime.yml")["action_groups"]
    assert sorted(groups["all"]) == tree.MODULES


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_every_playbook_parses_against_the_inventory(inventory: str) -> None:
    folder = f"inventories/{inventory}"
    assert (tree.ROOT / folder).is_dir()
    done = tree.run("ansible-playbook", "--syntax-check", "-i", folder, *tree.PLAYBOOKS)
    assert "Unable to parse" not in done.stderr, done.stderr
    groups = set(json.loads(tree.run("ansible-inventory", "-i", folder, "--list", "--export").stdout))
    assert {"gpu_nodes", "gateways", "monitors"} <= groups


def test_playbooks_can_be_called_by_their_collection_name() -> None:
    names = [tree.Path(p).stem for p in tree.PLAYBOOKS]
    assert [n for n in names if not n.isidentifier()] == []
    assert {"site", "plan", "verify", "acceptance", "status"} <= set(names)
