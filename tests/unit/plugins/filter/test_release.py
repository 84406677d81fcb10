# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role vllm's way to what is decided in _release and _firewall; what is decided there has tests of its own."""
from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.filter import release

SUM = "a" * 64
LIST = f"vllm==1.0 --hash=sha256:{SUM}\n"
OFFER = {"text": LIST, "where": "/w/requirements.txt", "source": "wheels"}
HEAD = json.dumps({"schema": 1, "release": "1.0", "path": "/r/1.0", "python": "3.12", "interpreter": "/p", "machine": "x86_64",
                   "list": LIST})


def row(name="1.0", text=LIST, made=1.0, used_by=(), kernels=None):
    return {"name": name, "path": f"/r/{name}", "list": text, "made": made, "used_by": list(used_by), "kernels": kernels or {}}


def test_a_choice_is_plain_data():
    assert release.release_choice([], "1.0", ["1.0"], OFFER, "n1") == {
        "install": True, "source": "wheels", "list": LIST, "missing": False, "problem": ""}
    held = release.release_choice([row(text="vllm==1.0", used_by=["engine r1"])], "1.0", ["1.0"], OFFER, "n1", lang="zh")
    assert held["problem"].startswith("IDC-ENG-026: n1 上的版本") and not held["install"]
    assert release.release_choice([], "1.0", ["1.0"], {**OFFER, "text": ""}, "n1", ["/a.tar.gz", HEAD])["source"] == "archive"


def test_misfits_are_sentences():
    here = {"path": "/r/1.0", "interpreter": "/p", "python": "3.11", "machine": "x86_64", "sums": ["b", "b"]}
    said, = release.release_misfits(HEAD, "n1", "/a.tar.gz", here)
    assert said.startswith("IDC-ENG-028: /a.tar.gz does not fit n1: its Python is 3.12, wanted: 3.11.")
    with pytest.raises(AnsibleFilterError, match=r"no release\.json"):
        release.release_misfits("", "n1", "/a.tar.gz", here)


def test_surplus_and_kernels_by_name():
    rows = [row("1.0", made=1.0), row("2.0", made=2.0, kernels={"flashinfer-python": "1.1"}), row("3.0", made=3.0)]
    assert release.release_surplus(rows, "1", ["3.0"]) == ["1.0"]
    told, = release.release_kernels(rows, "n1", ["1.0", "2.0"])
    assert "IDC-ENG-031" in told and "flashinfer-python 1.1, but not flashinfer-cubin==1.1, flashinfer-jit-cache==1.1" in told
    assert release.release_kernels(rows, "n1", ["1.0"]) == []


def test_sources_and_versions():
    values = {"index_url": "", "index_list": "", "index_list_there": False, "archive": "/a.tar.gz", "archive_sha256": ""}
    said, = release.release_sources(values, "n1", "zh")
    assert "vllm_archive_sha256" in said and "空" in said
    names = ("0.33.0", "0.33.0+2", "0.33.0+cu129")
    assert [release.release_version(name) for name in names] == ["0.33.0", "0.33.0", "0.33.0+cu129"]


def test_guards_and_what_is_wrong_with_them():
    plan = {"hosts": {"gw": {"address": "10.0.0.2", "groups": ["gateways"]}},
            "engines": [{"name": "e", "deployment": "e", "slot": "blue", "replica": 0, "head": True, "host": "n1",
                         "address": "10.0.0.1", "port": 8000, "config": {}}]}
    assert release.engine_guards(plan, "n1") == [{"port": 8000, "what": "e", "ip": ["10.0.0.1", "10.0.0.2"], "ip6": []}]
    with pytest.raises(AnsibleFilterError, match="IDC-ENG-027"):
        release.engine_guards(plan, "n1", ["nowhere"])
