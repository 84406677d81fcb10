# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases by the role vllm on a container without a network: from a folder, an index and an archive, made anew, removed.

The packages are stubs of a few bytes; pip, venv and tar are the real ones.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import stub_release
from tests.support.box import ROOT, Box, Run, docker, image

NAME = "idc-rel-test"
IMAGE = image()
VERSION = "9.1.0"
MARKER = "installed-requirements.txt"

pytestmark = pytest.mark.skipif(not IMAGE, reason="no image of the fleet here: script/bootstrap fleet")


@pytest.fixture(scope="module")
def box():
    """The container, gone at the end."""
    docker("rm", "-f", NAME, check=False)  # what a run that was killed left
    docker("run", "-d", "--name", NAME, "--network=none", IMAGE, "sleep", "infinity")
    yield Box(NAME)
    docker("rm", "-f", NAME)


@dataclass(frozen=True)
class Site:
    """One test's own folder on the container, and its runs."""

    box: Box
    here: Path
    root: str

    def run(self, *options: str, entry: str = "install", **variables) -> Run:
        """The role's entry point, with a few variables changed."""
        return self.box.play(self.here, {"name": "idc.llm.vllm", "tasks_from": entry}, *options, **{
            "vllm_packages": ["python3-venv"], "vllm_root": self.root, "vllm_config_dir": f"{self.root}/etc/engines",
            "vllm_wheels_dir": f"{self.root}-wheels", "vllm_release": VERSION, **variables})

    def wheels(self, *lines: str) -> str:
        """Bring the stubs of a release, and more lines for its list; the list."""
        folder = self.here / "wheels"
        text = stub_release.vllm(folder, VERSION) + "".join(lines)
        (folder / "requirements.txt").write_text(text)
        self.box.sh(f"mkdir -p {self.root}-wheels")
        self.box.put(folder, f"{self.root}-wheels")
        return text

    def installed(self, release: str = VERSION) -> str:
        """The marker of a release; empty where there is none."""
        return self.box.sh(f"cat {self.root}/releases/{release}/{MARKER} 2>/dev/null || true")

    def engine(self, name: str, release: str) -> None:
        """Let an engine run from a release, as far as its link says so."""
        link = f"{self.root}/deployments/{name}/current"
        self.box.sh(f"mkdir -p $(dirname {link}) && ln -sfn {self.root}/releases/{release} {link}")


@pytest.fixture
def site(box, tmp_path, request):
    """A root of its own for each test."""
    return Site(box, tmp_path, f"/srv/{request.node.name.partition('[')[0]}")


def good(run: Run, changed: bool) -> None:
    assert run.rc == 0 and (run.recap["changed"] > 0) is changed, run.output


def refused(run: Run, *words: str) -> None:
    assert run.rc != 0 and run.recap["changed"] == 0, run.output
    for word in words:
        assert word in run.text, f"{word!r} is not in {run.output}"


def test_from_a_folder_once_and_whole(site):
    text = site.wheels()
    good(site.run("--check"), changed=True)
    assert site.box.sh(f"ls {site.root} 2>/dev/null || true") == ""
    good(site.run(), changed=True)
    assert site.installed() == text.strip()
    assert site.box.sh(f"{site.root}/releases/{VERSION}/bin/vllm --version") == VERSION
    good(site.run("--diff"), changed=False)
    site.box.sh(f"rm {site.root}/releases/{VERSION}/{MARKER}; touch {site.root}/releases/{VERSION}/half")  # as a kill leaves it
    good(site.run(), changed=True)
    assert site.installed() == text.strip() and "half" not in site.box.sh(f"ls {site.root}/releases/{VERSION}")


def test_another_list_needs_another_name_where_an_engine_runs(site):
    first = site.wheels()
    good(site.run(), changed=True)
    more = stub_release.wheel(site.here / "wheels", "more", "1.0")
    second = site.wheels(more)
    good(site.run(), changed=True)  # nobody runs from it: made anew in its place
    assert site.installed() == second.strip()
    site.engine("tiny-blue-0", VERSION)
    third = site.wheels(more, stub_release.wheel(site.here / "wheels", "yet_more", "1.0"))
    refused(site.run(), "IDC-ENG-026", "1 lines differ", "engine tiny-blue-0", f"Name the new one {VERSION}+1")
    assert site.installed() == second.strip() and first != third
    good(site.run(vllm_release=f"{VERSION}+1"), changed=True)
    assert site.installed(f"{VERSION}+1") == third.strip() and site.installed() == second.strip()
    good(site.run(vllm_releases=[VERSION, f"{VERSION}+1"], vllm_release=f"{VERSION}+1"), changed=False)  # one is tried, one stays


def test_from_an_index_by_the_controllers_list(site):
    simple = site.here / "simple"
    line = stub_release.vllm(simple / "vllm", VERSION)
    (simple / "vllm/index.html").write_text(f'<a href="vllm-{VERSION}-py3-none-any.whl">vllm-{VERSION}-py3-none-any.whl</a>')
    site.box.sh(f"mkdir -p {site.root}-index/simple")
    site.box.put(simple, f"{site.root}-index/simple")
    docker("exec", "-d", NAME, "python3", "-m", "http.server", "--directory", f"{site.root}-index", "--bind", "127.0.0.1", "8123")
    wanted = site.here / "list.txt"
    index = {"vllm_index_url": "http://127.0.0.1:8123/simple", "vllm_index_list": str(wanted)}
    refused(site.run(**index), "IDC-ENG-027", "vllm_index_list is not usable", "list.txt")
    wanted.write_text(line.replace("sha256:", "sha256:" + "0" * 64)[:len(line) - 1])
    failed = site.run(**index)
    assert failed.rc != 0 and site.installed() == ""
    wanted.write_text("# as a tool breaks its lines\n" + line.replace(" --hash", " \\\n    --hash"))
    good(site.run(**index), changed=True)
    assert site.installed() == wanted.read_text().strip()
    assert site.box.sh(f"{site.root}/releases/{VERSION}/bin/vllm --version") == VERSION
    good(site.run(**index), changed=False)


def test_from_an_archive_where_it_fits(site):
    text, archive = site.wheels(), f"{site.root}.tar.gz"
    good(site.run(), changed=True)
    site.box.put(ROOT / "script/archive", "/usr/local/bin/archive")
    said = site.box.sh(f"archive {site.root}/releases/{VERSION} {archive}")
    digest = said.rpartition("sha256=")[2]
    assert site.box.sh(f"sha256sum {archive}").split()[0] == digest
    site.box.sh(f"rm -rf {site.root}/releases {site.root}-wheels")
    packed = {"vllm_archive": archive, "vllm_archive_sha256": digest}
    site.box.sh(f"mkdir {site.root}/releases")
    refused(site.run(**{**packed, "vllm_archive_sha256": "0" * 64}), "IDC-ENG-028", f"its sha256 is {digest}, wanted: {'0' * 64}")
    refused(site.run(**packed, vllm_python="/usr/bin/python3.11"), "interpreter is /usr/bin/python3, wanted: /usr/bin/python3.1")
    good(site.run(**packed), changed=True)
    assert site.installed() == text.strip()
    assert site.box.sh(f"{site.root}/releases/{VERSION}/bin/vllm --version") == VERSION
    assert site.box.sh(f"find {site.root}/releases ! -user root") == ""
    site.box.sh(f"rm {archive}")
    good(site.run(**packed), changed=False)  # it is needed once


def test_a_python_for_one_release(site):
    site.wheels()
    site.box.sh("printf '#!/bin/sh\\necho Python 3.10\\n' > /srv/old-python && chmod 755 /srv/old-python")
    refused(site.run(vllm_pythons={VERSION: "/srv/old-python"}), "IDC-ENG-014", "/srv/old-python on box is Python 3.10",
            "3.11 or newer", "Ubuntu 22.04 has 3.10: put python3.11 and python3.11-venv (universe) into vllm_packages")
    good(site.run(vllm_python="/srv/old-python", vllm_pythons={VERSION: "/usr/bin/python3.11"}), changed=True)
    assert site.box.sh(f"grep -o '^command = [^ ]*' {site.root}/releases/{VERSION}/pyvenv.cfg") == "command = /usr/bin/python3.11"


def test_missing_kernels_are_told_or_refused(site):
    folder = site.here / "wheels"
    lines = [stub_release.wheel(folder, "flashinfer_python", "0.7.2"), stub_release.wheel(folder, "flashinfer_cubin", "0.7.1")]
    site.wheels(*lines)
    told = site.run()
    good(told, changed=True)
    assert "IDC-ENG-031" in told.text and "not flashinfer-cubin==0.7.2, flashinfer-jit-cache==0.7.2" in told.text
    refused(site.run(vllm_kernels="require"), "IDC-ENG-031")


def test_what_nobody_uses_goes_by_count(site):
    for age, name in enumerate(("1.0", "2.0", "3.0", "4.0", "5.0", "half", "6.0", "7.0")):
        folder = f"{site.root}/releases/{name}"
        site.box.sh(f"mkdir -p {folder}/bin; echo x > {folder}/{MARKER}; touch -d 2026-01-0{age + 1} {folder}/{MARKER}")
    site.box.sh(f"cd {site.root}/releases; rm half/{MARKER}; mkdir 9.0-docker; touch 9.0-docker/arguments.json")  # no release
    site.engine("tiny-blue-0", "1.0")
    site.box.sh(f"mkdir -p {site.root}/etc/engines/tiny-blue-0")
    good_one = json.dumps({"release_dir": f"{site.root}/releases/2.0"})
    site.box.sh(f"echo '{good_one}' > {site.root}/etc/engines/tiny-blue-0/good.json")
    plan = {"engines": [{"host": "box", "name": "tiny-blue-0", "release": "3.0", "head": True}], "hosts": {"box": {"stale": False}}}
    variables = {"entry": "prune", "vllm_release": "3.0", "idc_llm_plan": plan}
    checked = site.run("--check", **variables)
    good(checked, changed=True)
    for name in ("4.0", "5.0", "half"):
        assert f"item={site.root}" in checked.output or f"(item={name}" in checked.output, checked.output
    everything = site.box.sh(f"ls {site.root}/releases")
    assert len(everything.split()) == 9
    good(site.run(**variables), changed=True)
    assert site.box.sh(f"ls {site.root}/releases").split() == ["1.0", "2.0", "3.0", "6.0", "7.0", "9.0-docker"]
    good(site.run(**variables), changed=False)
