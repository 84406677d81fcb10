# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faces of hubs: addresses, lists, pages, commits."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._hub import (
    Hub,
    HubError,
    Page,
    distinct,
    latest_commit,
    next_query,
    parse_commit,
    parse_files,
    parse_tree,
)
from ansible_collections.idc.llm.plugins.module_utils._source import hub_of, source_problem

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA = "ab" * 32
HF = Hub("hf", "https://hub.example")
MS = Hub("modelscope", "https://hub.example")


def test_addresses_are_quoted():
    assert HF.revision_url("org/name", "refs/pr/1") == "https://hub.example/api/models/org/name/revision/refs%2Fpr%2F1"
    assert HF.list_url("org/name", COMMIT) == f"https://hub.example/api/models/org/name/tree/{COMMIT}?recursive=true"
    assert HF.file_url("org/name", COMMIT, "a b/c#.json") == f"https://hub.example/org/name/resolve/{COMMIT}/a%20b/c%23.json"
    listed = MS.list_url("org/name", "v 1", "a b")
    assert listed == "https://hub.example/api/v1/models/org/name/repo/files?Revision=v+1&Recursive=True&Root=a+b"
    assert MS.list_url("o/n", "v", recursive=False).endswith("?Revision=v&Recursive=False")
    assert MS.file_url("o/n", "v", "a b/c&d") == "https://hub.example/api/v1/models/o/n/repo?Revision=v&FilePath=a+b%2Fc%26d"


@pytest.mark.parametrize(
    ("source", "hub"),
    [
        ("hf", Hub("hf", "https://one.example")),
        ("hf+https://mirror.example/", Hub("hf", "https://mirror.example")),
        ("modelscope", Hub("modelscope", "https://two.example")),
        ("modelscope+http://127.0.0.1:8", Hub("modelscope", "http://127.0.0.1:8")),
        ("https://host/hf", None),
    ],
)
def test_which_hub_a_source_stands_for(source, hub):
    assert source_problem(source) is None
    assert hub_of(source, {"hf": "https://one.example/", "modelscope": "https://two.example"}) == hub


@pytest.mark.parametrize("source", ["hf+", "hf+file:///x", "hf+mirror", "hf+https://u:hidden@h", "hg", "hf+hf", "modelscope+ftp://h"])
def test_sources_that_are_no_hub(source):
    problem = source_problem(source)
    assert problem and "hidden" not in problem


def test_default_branches_have_two_names():
    assert [HF.branch(name) for name in ("main", "master", "v1")] == ["main", "main", "v1"]
    assert [MS.branch(name) for name in ("main", "master", COMMIT)] == ["master", "master", COMMIT]


def test_a_commit_is_forty_digits():
    assert parse_commit({"sha": COMMIT}) == COMMIT
    for data in ([], {}, {"sha": "main"}, {"sha": COMMIT[:-1]}):
        with pytest.raises(HubError, match="no commit"):
            parse_commit(data)


def test_a_tree_gives_sha256_of_large_files_and_gits_id_of_small_ones():
    rows = parse_tree([
        {"type": "directory", "path": "sub", "oid": COMMIT},
        {"type": "file", "path": "config.json", "size": 5, "oid": COMMIT},
        {"type": "file", "path": "m.safetensors", "size": 9, "oid": COMMIT, "lfs": {"oid": SHA, "size": 9, "pointerSize": 1}},
        {"type": "file", "path": "old.bin", "size": 9, "oid": COMMIT, "lfs": {"oid": "sha256:" + SHA, "size": 9}},
        {"type": "file", "path": "manifest.json", "size": 9, "oid": COMMIT},
    ])
    assert rows == [
        {"path": "config.json", "size": 5, "git": COMMIT},
        {"path": "m.safetensors", "size": 9, "sha256": SHA},
        {"path": "old.bin", "size": 9, "sha256": SHA},
    ]
    for data in ({}, ["x"], None):
        with pytest.raises(HubError):
            parse_tree(data)


@pytest.mark.parametrize(
    ("link", "query"),
    [
        (None, ""),
        ('<https://elsewhere.example/api?recursive=true&cursor=YQ%3D%3D>; rel="next"', "recursive=true&cursor=YQ%3D%3D"),
        ('<https://h/p?cursor=1>; rel="prev", <https://h/p?cursor=3>; rel="next"', "cursor=3"),
        ('<https://h/p?cursor=1>; rel="prev"', ""),
        ("rubbish", ""),
    ],
)
def test_the_next_page_is_a_query_and_never_another_host(link, query):
    assert next_query(link) == query
    assert HF.list_url("o/n", COMMIT, query=query).startswith("https://hub.example/api/models/o/n/tree/")


def test_a_list_of_modelscope():
    data = {
        "Code": 200,
        "Success": True,
        "Data": {
            "Files": [
                {"Type": "tree", "Path": "sub"},
                {"Type": "blob", "Path": "sub/a", "Size": 3, "Sha256": SHA, "Revision": COMMIT},
                {"Type": "blob", "Path": "b", "Size": 3, "Sha256": SHA, "Revision": "master"},
                {"Type": "blob", "Path": "manifest.json", "Size": 3, "Sha256": SHA},
            ],
            "LatestCommitter": {"ShortId": COMMIT[:8]},
        },
    }
    row = {"size": 3, "sha256": SHA}
    page = Page([dict(row, path="sub/a", revision=COMMIT), dict(row, path="b", revision="")], ["sub"], 4, COMMIT[:8])
    assert parse_files(data) == page
    assert latest_commit([page], "master") == COMMIT
    assert latest_commit([Page(page.rows, [], 4, "fffffff")], "master") is None
    assert latest_commit([Page(page.rows, [], 4, "")], "master") is None
    assert latest_commit([], COMMIT) == COMMIT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"Code": 10010205001, "Success": False, "Message": "no such model"}, "no such model"),
        ({"Data": {}}, "not a list"),
        ([], "not a list"),
        ({"Data": {"Files": ["x"]}}, "not an object"),
        ({"Data": {"Files": [{"Type": "blob", "Path": "a", "Size": 1, "Sha256": ""}]}}, "no sha256 for a"),
    ],
)
def test_what_is_no_list_of_modelscope(data, reason):
    with pytest.raises(HubError, match=reason):
        parse_files(data)


def test_lists_of_folders_overlap():
    rows = [{"path": "a", "size": 1}, {"path": "b", "size": 1}, {"path": "a", "size": 1}]
    assert distinct(rows) == rows[:2]
