# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that hold for the whole tree (docs/adr, CONTRIBUTING.md)."""
from __future__ import annotations

import ast
import re
from pathlib import Path

from ansible_collections.idc.llm.tests.unit.repo import tree

# longer than LIMIT lines, and why
LIMIT = 400
LONG = {
    "COPYING": "the licence",
    "plugins/module_utils/_errors.py": "one catalogue, a table in two languages",
    "plugins/module_utils/_catalogue.py": "a table of facts about models",
    "plugins/module_utils/_agent_watchdog.py": "a program in one file, as it runs on hosts",
    "docs/errors.md": "generated from the catalogue",
    "docs/reference/modules.md": "generated from the modules",
    "docs/reference/roles.md": "generated from the argument specs",
}
HEADER = (
    "# Copyright (c) 2026, The idc.llm founders\n"
    "# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)\n"
    "# SPDX-License-Identifier: GPL-3.0-or-later\n"
)


def name(path: Path) -> str:
    return str(path.relative_to(tree.ROOT))


def test_no_file_grows_beyond_what_one_reads_at_a_sitting() -> None:
    long = {}
    for path in tree.files():
        try:
            lines = len(path.read_text(encoding="utf-8").splitlines())
        except UnicodeDecodeError:
            continue
        if lines > LIMIT and name(path) not in LONG:
            long[name(path)] = lines
    assert long == {}


def test_no_shell_and_no_ignored_errors() -> None:
    found = []
    for path in tree.task_files():
        for task in tree.tasks(tree.load(path)):
            keys = set(task)
            if keys & {"shell", "ansible.builtin.shell", "ignore_errors"}:
                found.append(f"{name(path)}: {task.get('name')}")
    assert found == []


def test_changed_when_true_says_why() -> None:
    """A comment stands on the same line or on the line before."""
    found = []
    for path in tree.task_files():
        lines = path.read_text(encoding="utf-8").splitlines()
        for n, line in enumerate(lines):
            always = re.match(r"\s*(- )?changed_when:\s*[\"']?(true|yes)\b", line)
            if always and "#" not in line and not lines[n - 1].lstrip().startswith("#"):
                found.append(f"{name(path)}:{n + 1}")
    assert found == []


def test_tasks_hold_no_jinja_statements() -> None:
    """A decision longer than one expression belongs to module_utils."""
    found = []
    for path in tree.task_files():
        found += [f"{name(path)}: {text[:60]!r}" for text in tree.scalars(tree.load(path)) if "{%" in text]
    assert found == []


def test_injected_facts_are_not_read() -> None:
    """Fact injection is off: ``ansible_facts['x']``."""
    known = (
        r"\bansible_(distribution\w*|os_family|architecture|default_ipv4|hostname|fqdn|kernel|memtotal_mb"
        r"|processor\w*|mounts|service_mgr|pkg_mgr|date_time|python_version)\b"
    )
    found = []
    for path in tree.files("roles", "playbooks"):
        if path.suffix in (".yml", ".j2"):
            found += [f"{name(path)}: {m.group()}" for m in re.finditer(known, path.read_text(encoding="utf-8"))]
    assert found == []


def test_plugins_start_with_the_header_and_future_annotations() -> None:
    found = []
    for path in tree.files("plugins/*.py"):
        text = path.read_text(encoding="utf-8")
        start = text.split("\n", 1)[1] if text.startswith("#!") else text
        if not start.startswith(HEADER) or "from __future__ import annotations" not in text:
            found.append(name(path))
    assert found == []


def test_decisions_know_no_ansible_module() -> None:
    """module_utils hold no AnsibleModule, no fail_json; programs for hosts import nothing of ansible, only each other."""
    found = []
    for path in tree.files("plugins/module_utils/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            word = getattr(node, "id", None) or getattr(node, "attr", None)
            if word in ("AnsibleModule", "fail_json", "exit_json"):
                found.append(f"{name(path)}:{node.lineno}: {word}")
            if path.name.startswith("_agent_") and isinstance(node, (ast.Import, ast.ImportFrom)):
                source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                modules = [source + a.name for a in node.names]
                found += [f"{name(path)}:{node.lineno}: {m}" for m in modules if m.startswith("ansible") and "._agent_" not in m]
    assert found == []


def test_relative_links_in_documents_lead_somewhere() -> None:
    found = []
    for path in tree.files("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                found.append(f"{name(path)}: {target}")
    assert found == []


def test_no_fact_hides_a_tasks_own_variable() -> None:
    """What set_fact and register have set wins over the vars of a later task, silently."""
    facts: dict[str, str] = {}
    own: dict[str, str] = {}
    for path in tree.task_files():
        for task in tree.tasks(tree.load(path)):
            if "hosts" in task:
                continue
            place = str(path.relative_to(tree.ROOT))
            names = [*(task.get("ansible.builtin.set_fact") or {}), *([task["register"]] if "register" in task else [])]
            facts |= dict.fromkeys(names, place)
            own |= dict.fromkeys(task.get("vars") or {}, place)
    assert len(facts) > 100 and len(own) > 100
    assert not {name: (facts[name], own[name]) for name in facts.keys() & own.keys()}
