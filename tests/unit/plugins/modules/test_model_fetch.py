# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell of model_fetch: arguments, results and failures as Ansible sees them."""
from __future__ import annotations

import hashlib
import json

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.idc.llm.plugins.doc_fragments._model_fetch import ModuleDocFragment
from ansible_collections.idc.llm.plugins.module_utils._model_metadata import build, tally
from ansible_collections.idc.llm.plugins.modules import model_fetch


@pytest.fixture
def source(tmp_path):
    """A file source of one small file."""
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "config.json").write_bytes(b"{}")
    row = {"path": "config.json", "size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": [row]}))
    return folder


def call(capsys, **arguments):
    """(exit status, result) of the module."""
    with patch_module_args(arguments), pytest.raises(SystemExit) as done:
        model_fetch.main()
    return done.value.code, json.loads(capsys.readouterr().out)


def test_fetch_then_nothing_to_do(tmp_path, source, capsys):
    arguments = {"model": "demo/tiny", "revision": "r1", "sources": [source.as_uri()], "root": str(tmp_path / "s")}
    arguments["min_free"] = 0
    rc, planned = call(capsys, _ansible_check_mode=True, _ansible_diff=True, **arguments)
    assert (rc, planned["changed"], planned["diff"]["before"]) == (0, True, "")
    assert not (tmp_path / "s").exists()
    rc, result = call(capsys, **arguments)
    assert (rc, result["changed"], result["fetched_bytes"]) == (0, True, 2)
    rc, again = call(capsys, **arguments)
    assert (rc, again["changed"], again["path"]) == (0, False, str(tmp_path / "s/demo/tiny/r1"))


def test_a_failure_has_code_sentence_and_what_was_rejected(tmp_path, source, capsys):
    (source / "config.json").write_bytes(b"[]")
    rc, result = call(
        capsys, model="demo/tiny", revision="r1", sources=[source.as_uri()], root=str(tmp_path / "s"), min_free=0
    )
    assert rc == 1
    assert result["error"]["code"] == "IDC-FETCH-024"
    assert result["rejected"][0]["path"] == "config.json"
    assert "config.json" in result["msg"]


def test_listed_returns_metadata_where_it_is_asked_for_and_as_documented(tmp_path, source, capsys):
    arguments = {"model": "demo/tiny", "revision": "r1", "sources": [source.as_uri()], "root": str(tmp_path / "s")}
    arguments["state"] = "listed"
    assert "metadata" not in call(capsys, **arguments)[1]
    rc, result = call(capsys, metadata=True, _ansible_check_mode=True, **arguments)
    assert (rc, result["changed"], result["metadata"]["config"]) == (0, False, {})
    documented = yaml.safe_load(model_fetch.RETURN)["metadata"]["contains"]
    assert set(result["metadata"]) == set(documented)
    assert set(result["metadata"]["weights"]) == set(documented["weights"]["contains"])
    row = build({}, [tally({"layers.0.w": {"dtype": "I8", "shape": [1]}})], 1, 1, "")["weights"]["tensors"][0]
    assert set(row) == set(documented["weights"]["contains"]["tensors"]["sample"][0])


def test_a_failure_to_read_metadata_says_what_was_rejected(tmp_path, source, capsys):
    (source / "config.json").unlink()
    rc, result = call(
        capsys, model="demo/tiny", revision="r1", sources=[source.as_uri()], root=str(tmp_path), state="listed", metadata=True
    )
    assert (rc, result["error"]["code"]) == (1, "IDC-FETCH-011")
    assert [row["path"] for row in result["rejected"]] == ["config.json"]


def test_failures_speak_chinese(capsys):
    _rc, result = call(capsys, model="tiny", revision="r1", lang="zh")
    assert result["msg"].startswith("IDC-FETCH-001: ")
    assert "不可用" in result["msg"]


def test_a_root_that_cannot_be_written_is_one_sentence(tmp_path, source, capsys):
    (tmp_path / "s").write_text("a file")
    rc, result = call(
        capsys, model="demo/tiny", revision="r1", sources=[source.as_uri()], root=str(tmp_path / "s"), min_free=0
    )
    assert (rc, result["error"]["code"]) == (1, "IDC-FETCH-009")
    assert str(tmp_path / "s") in result["msg"]


def test_the_token_is_never_shown(tmp_path, source, capsys):
    _rc, result = call(
        capsys, model="demo/tiny", revision="r1", sources=[source.as_uri()], root=str(tmp_path), token="hub-secret-1"
    )
    assert "hub-secret-1" not in json.dumps(result)


def test_the_documentation_names_the_arguments_with_their_types_and_defaults():
    documented = yaml.safe_load(model_fetch.DOCUMENTATION)["options"]
    documented.update(yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"])
    spec = {name: rule for name, rule in model_fetch.ARGUMENTS.items() if name != "lang"}
    assert set(documented) == set(spec)
    for name, rule in spec.items():
        for key in ("type", "default", "choices", "elements"):
            assert documented[name].get(key) == rule.get(key), (name, key)
