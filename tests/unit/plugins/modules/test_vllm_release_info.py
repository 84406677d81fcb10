# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases lie on a host, and who uses them."""
from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from ansible_collections.idc.llm.plugins.modules import vllm_release_info as info

from tests.support.waiting import wait_for


@pytest.fixture
def host(tmp_path):
    """Three releases, the third unfinished, and a folder that is none."""
    for name in ("1.0", "2.0", "half"):
        (tmp_path / "releases" / name / "bin").mkdir(parents=True)
    for name in ("1.0", "2.0"):
        (tmp_path / "releases" / name / info.MARKER).write_text(f"vllm=={name}\n")
    (tmp_path / "releases/1.0-docker").mkdir()
    (tmp_path / "releases/1.0-docker/arguments.json").write_text("{}")
    (tmp_path / "releases/link").symlink_to("1.0")
    return tmp_path


def seen(host):
    return {row["name"]: row for row in info.releases(str(host), str(host / "engines"))}


def test_releases_their_lists_and_nothing_else(host):
    os.utime(host / "releases/1.0" / info.MARKER, (5, 5))
    rows = seen(host)
    assert {name: row["list"] for name, row in rows.items()} == {"1.0": "vllm==1.0\n", "2.0": "vllm==2.0\n", "half": None}
    assert rows["1.0"]["made"] == 5.0 and rows["1.0"]["path"] == str(host / "releases/1.0")
    assert all(row["used_by"] == [] and row["kernels"] == {} for row in rows.values())


def test_links_and_ways_back_use_a_release(host):
    (host / "deployments/a-blue-0").mkdir(parents=True)
    (host / "deployments/a-blue-0/current").symlink_to(host / "releases/2.0")
    back = json.dumps({"release_dir": str(host / "releases/1.0")})
    for engine, text in (("a-blue-0", back), ("b-blue-0", "{ torn"), ("c", "[]")):
        (host / "engines" / engine).mkdir(parents=True)
        (host / "engines" / engine / "good.json").write_text(text)
    rows = seen(host)
    assert rows["2.0"]["used_by"] == ["engine a-blue-0"]
    assert rows["1.0"]["used_by"] == ["the last good configuration of engine a-blue-0"]
    assert rows["half"]["used_by"] == []


def test_a_process_that_runs_from_a_release_uses_it(host):
    sleep = host / "releases/1.0/bin/sleep"
    shutil.copy(shutil.which("sleep"), sleep)
    with subprocess.Popen([sleep, "60"]) as process:
        try:
            assert wait_for(lambda: seen(host)["1.0"]["used_by"] == [f"process {process.pid}"], 60, 0.05)  # it has just begun
            assert seen(host)["2.0"]["used_by"] == []
        finally:
            process.kill()


def test_flashinfers_packages_are_found_by_their_names(host):
    site = host / "releases/1.0/lib/python3.12/site-packages"
    for name in ("flashinfer_python-0.7.2.post1", "flashinfer_cubin-0.7.2.post1", "flashinfer_jit_cache-0.7.2.post1+cu130",
                 "flashinfer_more-1"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    assert seen(host)["1.0"]["kernels"] == {"flashinfer-python": "0.7.2.post1", "flashinfer-cubin": "0.7.2.post1",
                                            "flashinfer-jit-cache": "0.7.2.post1+cu130"}


def test_a_host_without_releases(tmp_path):
    assert seen(tmp_path) == {}
