# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artefact: built from this tree, installed elsewhere without fetching anything, run from an empty folder."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
# What may lie at the top of the artefact.
TOP = {
    "FILES.json", "MANIFEST.json", "README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "COPYING",
    "changelogs", "docs", "inventories", "meta", "playbooks", "plugins", "roles", "site.yml",
    "requirements.txt", "requirements.yml", "ansible.cfg", "pyproject.toml", ".ansible-lint", ".yamllint",
}


def run(*argv: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the virtual environment as somebody who has no checkout would."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTHONPATH", "GALAXY_"))}
    return subprocess.run(
        [str(BIN / argv[0]), *argv[1:]],
        cwd=cwd,
        env={**clean, "PATH": f"{BIN}:{clean['PATH']}", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    return f"ended with {done.returncode}\n{done.stdout[-5000:]}{done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    done = run("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(folder), cwd=folder)
    assert done.returncode == 0, said(done)
    (built,) = folder.glob("idc-llm-*.tar.gz")
    return built


@pytest.fixture(scope="session")
def names(artefact: Path) -> set[str]:
    with tarfile.open(artefact) as tar:
        return {m.name for m in tar.getmembers() if not m.isdir()}


@pytest.fixture(scope="session")
def installed(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of collections it is installed in; its dependencies come with the package `ansible`."""
    folder = tmp_path_factory.mktemp("collections")
    argv = ("ansible-galaxy", "collection", "install", str(artefact), "-p", str(folder), "--no-deps", "--offline")
    done = run(*argv, cwd=folder)
    assert done.returncode == 0, said(done)
    return folder


def test_nothing_of_the_workshop_is_shipped(names: set[str]) -> None:
    tops = {n.split("/")[0] for n in names}
    assert tops - TOP == set()
    assert {n for n in names if n.startswith("inventories/") and not n.startswith("inventories/example/")} == set()
    assert {n for n in names if n.endswith((".pyc", ".tar.gz", ".whl", ".vault", ".pem", ".key"))} == set()


def test_all_that_runs_is_shipped(names: set[str]) -> None:
    folders = ("plugins", "roles", "playbooks", "inventories/example", "meta")
    argv = ["git", "ls-files", "-co", "--exclude-standard", "--", *folders]
    tracked = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"README.md", "COPYING", "site.yml", "meta/runtime.yml", "playbooks/site.yml"} <= names
    assert {n for n in tracked if (ROOT / n).is_file()} - names == set()


def test_the_installed_collection_plans_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """Its own example inventory, with this machine standing in for each host and a deployment that needs no GPU."""
    example = installed / "ansible_collections/idc/llm/inventories/example"
    facts = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "idc_llm_state_dir": str(tmp_path / "state"),
        "idc_llm_address": "127.0.0.1",
        "idc_llm_allow_unaccepted": True,
        "idc_llm_deployments": [{
            "name": "tiny", "model": "demo/tiny", "revision": "r1", "device": "cpu", "replicas": 1,
            "max_model_len": 512, "sources": ["file:///srv/media/models/tiny"],
        }],
        "idc_llm_secrets": {"tenants": {"one": {"keys": ["k" * 40]}}, "engine_key": "e" * 40},
    }
    given = tmp_path / "given.yml"
    given.write_text(yaml.safe_dump(facts), encoding="utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run(
        "ansible-playbook", "idc.llm.plan", "-i", str(example), "-e", f"@{given}", cwd=empty,
        ANSIBLE_COLLECTIONS_PATH=str(installed), ANSIBLE_INJECT_FACT_VARS="false",
    )
    assert done.returncode == 0, said(done)
    assert "tiny-blue-0" in done.stdout, said(done)
    assert list(empty.iterdir()) == []


def test_every_playbook_is_found_by_its_collection_name(installed: Path, tmp_path: Path) -> None:
    home = installed / "ansible_collections/idc/llm"
    names = sorted(p.stem for p in (home / "playbooks").glob("*.yml"))
    done = run(
        "ansible-playbook", "--syntax-check", "-i", str(home / "inventories/example"), *[f"idc.llm.{n}" for n in names],
        cwd=tmp_path, ANSIBLE_COLLECTIONS_PATH=str(installed),
    )
    assert done.returncode == 0, said(done)


def test_galaxy_importer_accepts_it(artefact: Path, tmp_path: Path) -> None:
    """As Galaxy would look at it, but for ansible-test, which is a gate of its own."""
    shutil.copy(artefact, tmp_path)
    done = run(
        "python", "-m", "galaxy_importer.main", artefact.name, cwd=tmp_path,
        GALAXY_IMPORTER_RUN_ANSIBLE_TEST="false", GALAXY_IMPORTER_CHECK_REQUIRED_TAGS="true",
        GALAXY_IMPORTER_RUN_FLAKE8="false",
    )
    assert done.returncode == 0, said(done)
    assert "Importer processing completed successfully" in done.stdout, said(done)
    assert [line for line in done.stdout.splitlines() if line.startswith(("ERROR", "WARNING"))] == [], said(done)
    result = json.loads((tmp_path / "importer_result.json").read_text(encoding="utf-8"))
    assert result["metadata"]["name"] == "llm"
    shown = {c["name"] for c in result["contents"] if c["content_type"] == "module"}
    assert shown == {p.stem for p in (ROOT / "plugins/modules").glob("*.py")}
