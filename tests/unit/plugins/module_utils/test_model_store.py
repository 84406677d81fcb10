# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests, names, space: the pure part of the model store."""
from __future__ import annotations

import json

import pytest
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._model_store import (
    ManifestError,
    check_names,
    check_space,
    human_bytes,
    parse_manifest,
    plan_fetch,
    right_sized,
    select,
)

SHA = "a" * 64


def manifest_text(*rows):
    return json.dumps({"files": [dict({"size": 1, "sha256": SHA}, **row) for row in rows]})


def test_a_manifest_is_sorted_and_summed():
    manifest = parse_manifest(manifest_text({"path": "b/x", "size": 5, "sha256": "B" * 64}, {"path": "a", "size": 7}))
    assert [(e.path, e.size, e.sha256) for e in manifest.files] == [("a", 7, SHA), ("b/x", 5, "b" * 64)]
    assert manifest.size == 12


def test_a_published_manifest_reads_back():
    manifest = parse_manifest(manifest_text({"path": "a"}, {"path": "b"})).with_sources({"a": "file:///x"})
    assert parse_manifest(manifest.as_text("demo/tiny", "r1")) == manifest
    assert manifest.as_dict("demo/tiny", "r1")["files"][1] == {"path": "b", "size": 1, "sha256": SHA, "source": None}


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/passwd", "", "a//b", "./a", "a/.", "a/", "a\\b", "a\nb", "a\0b", "manifest.json", 7,
     "x" * 246, "a.part", "b/a.part.json", "progress.json"],
)  # fmt: skip
def test_unsafe_paths_are_refused(path):
    with pytest.raises(ManifestError, match="safe relative path"):
        parse_manifest(manifest_text({"path": path}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        ("[]", "no files"),
        ('{"files": []}', "no files"),
        ('{"files": ["a"]}', "not an object"),
        (manifest_text({"path": "a"}, {"path": "a"}), "twice"),
        (manifest_text({"path": "a"}, {"path": "a/b/c"}), "inside"),
        (manifest_text({"path": "a", "size": -1}), "size"),
        (manifest_text({"path": "a", "size": True}), "size"),
        (manifest_text({"path": "a", "size": "1"}), "size"),
        (manifest_text({"path": "a", "sha256": "abc"}), "sha256"),
        (manifest_text({"path": "a", "sha256": None}), "sha256"),
    ],
)
def test_broken_manifests_are_refused(text, reason):
    with pytest.raises(ManifestError, match=reason):
        parse_manifest(text)


@pytest.mark.parametrize("name", ["a", "a/b/c", "../b", "a/..", ".a/b", "a/.b", "/a", "a b/c", "a/b\n"])
def test_model_names_that_are_not_two_folders(name):
    with pytest.raises(IdcError, match="IDC-FETCH-001"):
        check_names(name, "r1")


@pytest.mark.parametrize("revision", ["", "..", ".partial-x", "a/b", "r1\n"])
def test_revisions_that_are_not_one_folder(revision):
    with pytest.raises(IdcError, match="IDC-FETCH-001"):
        check_names("demo/tiny", revision)


def test_good_names():
    check_names("deepseek-ai/DeepSeek-R1", "v1.0_b-3")


def test_right_sized_and_plan():
    manifest = parse_manifest(manifest_text({"path": "a", "size": 3}, {"path": "b", "size": 4}, {"path": "c"}))
    kept = right_sized(manifest, {"a": 3, "b": 5})
    assert kept == ["a"]
    plan = plan_fetch(manifest, kept)
    assert ([e.path for e in plan.todo], [e.path for e in plan.kept], plan.size) == (["b", "c"], ["a"], 5)


def test_space_is_counted_to_the_byte():
    plan = plan_fetch(parse_manifest(manifest_text({"path": "a", "size": 1000})), [])
    check_space(plan, free=1500, min_free=500, path="/x")
    with pytest.raises(IdcError, match=r"1\.5 kB free, wanted 1\.0 kB for the files and 501 B to spare.*least 1 B"):
        check_space(plan, free=1500, min_free=501, path="/x")


def test_nothing_to_bring_needs_no_space():
    check_space(plan_fetch(parse_manifest(manifest_text({"path": "a"})), ["a"]), free=0, min_free=10, path="/x")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (688586727753, "688.6 GB"), (1300000000000, "1.3 TB")],
)
def test_human_bytes(count, text):
    assert human_bytes(count) == text


def entries(*paths):
    return parse_manifest(manifest_text(*({"path": path} for path in paths)))


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        ([], None, ["a.json", "m.safetensors", "sub/b.json"]),
        ([], [], ["a.json", "m.bin", "m.safetensors", "original/c.json", "sub/b.json"]),
        (["*.json"], None, ["a.json", "sub/b.json"]),
        (["sub/", "m.*"], [], ["m.bin", "m.safetensors", "sub/b.json"]),
        ([], ["*"], []),
        (["*.JSON"], None, []),
    ],
)
def test_what_is_wanted_of_a_list(include, exclude, left):
    manifest = entries("a.json", "m.bin", "m.safetensors", "original/c.json", "sub/b.json")
    assert [entry.path for entry in select(manifest, include, exclude).files] == left


def test_duplicates_are_wanted_where_there_is_nothing_else():
    manifest = entries("config.json", "pytorch_model.bin")
    assert select(manifest, [], None) == manifest


def test_a_fetch_under_way_may_not_know_every_sha256():
    text = json.dumps({"commit": "c" * 40, "files": [{"path": "LICENSE.txt", "size": 1, "sha256": None}]})
    with pytest.raises(ManifestError, match="no sha256"):
        parse_manifest(text)
    manifest = parse_manifest(text, proven=False)
    assert (manifest.files[0].sha256, manifest.files[0].identity, manifest.license) == ("", "", "LICENSE.txt")
    assert manifest.as_dict("o/n", "r")["files"][0]["sha256"] is None
    known = manifest.with_sha256({"LICENSE.txt": SHA})
    assert (known.files[0].identity, known.commit) == ("sha256:" + SHA, "c" * 40)
    assert parse_manifest(known.as_text("o/n", "r")) == known


def test_what_unfinished_files_have_is_not_brought_again():
    manifest = parse_manifest(manifest_text({"path": "a", "size": 10}, {"path": "b", "size": 5}, {"path": "c", "size": 7}))
    plan = plan_fetch(manifest, ["c"], {"a": 4, "b": 99, "c": 3})
    assert (plan.begun, plan.size, [e.path for e in plan.todo]) == (9, 6, ["a", "b"])
