# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release is made from, whether it may be made anew, which are needed no more."""
from __future__ import annotations

import json
import secrets

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _release as release
from ansible_collections.idc.llm.plugins.module_utils._release import Archive, Offer, Release

SUM = "a" * 64
LIST = f"torch==2.1 --hash=sha256:{SUM}\nvllm==0.33.0 --hash=sha256:{SUM}\n"
NEWER = LIST.replace("torch==2.1", "torch==2.2")
ARCHIVE = Archive("0.33.0", "/opt/r/0.33.0", "3.12", "/usr/bin/python3", "x86_64", LIST)


def there(name="0.33.0", text=LIST, **more):
    return Release(name, f"/opt/r/{name}", text, **{"made": 1.0, **more})


def choose(rows=(), text=LIST, name="0.33.0", known=(), **more):
    return release.choose(name, rows, [name, *known], Offer(text, "/w/requirements.txt"), "n1", **more)


@pytest.mark.parametrize("other", [
    f"# by a tool\nvllm==0.33.0 \\\n    --hash=sha256:{SUM}\n\ntorch==2.1  --hash=sha256:{SUM}  # via vllm\n",
    LIST.replace("\n", "\r\n"),
])
def test_order_comments_and_breaks_make_no_other_list(other):
    assert release.requirements(other) == release.requirements(LIST) != release.requirements(NEWER)
    assert release.version_of(other) == "0.33.0"


def test_two_hashes_in_another_order_are_the_same_line():
    one, two = f"a==1 --hash=sha256:{SUM} --hash=sha256:{'b' * 64}", f"a==1 --hash=sha256:{'b' * 64} --hash=sha256:{SUM}"
    assert release.requirements(one) == release.requirements(two)


@pytest.mark.parametrize(("name", "listed", "known", "wanted"), [
    ("0.33.0", "0.33.0", [], True),
    ("0.33.0", "0.33.0+cu129", [], True),  # a build of that version
    ("0.33.0+cu129", "0.33.0+cu129", [], True),
    ("0.33.0+cu129", "0.33.0+cu130", [], False),
    ("0.33.0+cu129", "0.33.0", [], False),
    ("0.33.0+2", "0.33.0", [], True),
    ("0.33.0+cu129+2", "0.33.0+cu129", [], True),
    ("0.33", "0.33.0", [], False),
    ("0.33.0", "0.33.0", ["0.33.0+1"], False),  # the list is the remake's
    ("0.33.0+1", "0.33.0", ["0.33.0", "0.33.0+2"], False),
    ("0.33.0+10", "0.33.0", ["0.33.0+9", "0.32.0+99"], True),
    ("0.33.0", "", [], False),
])
def test_for_which_release_a_list_is_meant(name, listed, known, wanted):
    assert release.offered(name, f"vllm=={listed} --hash=sha256:{SUM}" if listed else "torch==1", [name, *known]) is wanted


def test_a_new_release_is_installed_and_a_finished_one_left_alone():
    assert choose() == release.Choice(True, "wheels", LIST)
    assert choose([there(text=None)]) == release.Choice(True, "wheels", LIST)  # its install was not finished
    assert choose([there()]) == release.Choice(False)
    assert choose([there()], text="") == release.Choice(False)  # the folder holds another version by now
    assert choose([there("0.32.0")]).install


def test_another_list_makes_it_anew_but_not_under_somebody():
    assert choose([there()], text=NEWER) == release.Choice(True, "wheels", NEWER)
    held = choose([there(used_by=["engine r1", "process 7"])], text=NEWER, known=["0.33.0"])
    assert not held.install and held.problem.code == "IDC-ENG-026"
    assert held.problem.details["users"] == "engine r1, process 7" and held.problem.details["another"] == "0.33.0+1"
    assert held.problem.details["count"] == 2
    held = choose([there("0.33.0+4", used_by=["engine r1"])], text=NEWER, name="0.33.0+4")
    assert held.problem.details["another"] == "0.33.0+5"
    assert not choose([there(used_by=["engine r1"])], text=NEWER, known=["0.33.0+1"]).problem


def test_what_can_be_had_nowhere_says_where_it_was_looked_for():
    for text in ("", LIST.replace("0.33.0", "0.32.0")):
        missing = choose(text=text)
        assert missing.missing and missing.install and missing.problem.code == "IDC-ENG-013"
        assert "/w/requirements.txt" in str(missing.problem)


@pytest.mark.parametrize("line", ["torch==2.1", "torch==2.1 --hash=md5:00", f"--index-url=x --hash=sha256:{SUM}", "-r more.txt"])
def test_lines_without_a_hash_are_refused(line):
    choice = choose(text=LIST + line)
    assert not choice.install and choice.problem.code == "IDC-ENG-027" and line.split()[0] in str(choice.problem)


def test_an_archive_of_the_release_comes_first():
    assert choose(text="", archive_path="/a.tar.gz", archive=ARCHIVE) == release.Choice(True, "archive", LIST)
    assert choose([there()], text=NEWER, archive_path="/a.tar.gz", archive=ARCHIVE) == release.Choice(False)
    assert choose(name="0.32.0", text=LIST.replace("0.33", "0.32"), archive_path="/a", archive=ARCHIVE).source == "wheels"
    assert choose([there()], text="", archive_path="/gone.tar.gz") == release.Choice(False)  # it is needed once
    for archive, word in ((None, "no file, or one that does not begin"), (ARCHIVE, "that of release 0.33.0")):
        missing = choose(name="0.32.0", archive_path="/a.tar.gz", archive=archive)
        assert missing.missing and missing.problem.code == "IDC-ENG-028" and word in str(missing.problem)


def test_an_archive_is_known_by_its_first_file():
    whole = {"schema": 1, "release": "0.33.0", "path": "/opt/r/0.33.0", "python": "3.12", "interpreter": "/usr/bin/python3",
             "machine": "x86_64", "list": LIST}
    assert release.read_head(json.dumps(whole)) == ARCHIVE
    for wrong in ("", "[]", json.dumps({**whole, "schema": 2}), json.dumps({"schema": 1})):
        assert release.read_head(wrong) is None


@pytest.mark.parametrize(("change", "seen"), [
    ({}, []), ({"sums": ["b", "a"]}, ["b"]), ({"path": "/data/0.33.0"}, ["/opt/r/0.33.0"]), ({"python": "3.11"}, ["3.12"]),
    ({"interpreter": "/usr/bin/python3.12"}, ["/usr/bin/python3"]), ({"machine": "aarch64"}, ["x86_64"]),
    ({"python": "3.11", "machine": "aarch64"}, ["3.12", "x86_64"]),
])
def test_what_keeps_an_archive_from_running_here(change, seen):
    here = {"path": "/opt/r/0.33.0", "interpreter": "/usr/bin/python3", "python": "3.12", "machine": "x86_64", "sums": ["a", "a"]}
    assert [row["seen"] for row in release.misfits(ARCHIVE, **{**here, **change})] == seen


def test_the_youngest_idle_releases_stay():
    rows = [there(str(age), made=age) for age in range(6)]
    rows += [there("half", None, made=99.0), there("busy", made=0.0, used_by=["x"])]
    assert [one.name for one in release.surplus(rows, 2, ["0"])] == ["1", "2", "3", "half"]
    assert [one.name for one in release.surplus(rows, 0, [])] == ["0", "1", "2", "3", "4", "5", "half"]
    assert release.surplus(rows, -1, []) == []
    assert release.surplus([there("half", None)], 2, ["half"]) == []  # it is being made


@pytest.mark.parametrize(("kernels", "missing"), [
    ({}, []),
    ({"flashinfer-cubin": "1.0"}, []),
    ({"flashinfer-python": "1.1"}, ["flashinfer-cubin==1.1", "flashinfer-jit-cache==1.1"]),
    ({"flashinfer-python": "1.1", "flashinfer-cubin": "1.1", "flashinfer-jit-cache": "1.0+cu130"}, ["flashinfer-jit-cache==1.1"]),
    ({"flashinfer-python": "1.1", "flashinfer-cubin": "1.1", "flashinfer-jit-cache": "1.1+cu130"}, []),
])
def test_kernels_of_the_same_version_are_wanted_where_flashinfer_is(kernels, missing):
    assert release.kernels_missing(kernels) == missing


@pytest.mark.parametrize(("change", "variables"), [
    ({}, []),
    ({"index_url": "https://mirror/simple", "index_list": "l", "index_list_there": True}, []),
    ({"index_url": "https://mirror/simple"}, ["vllm_index_list"]),
    ({"index_url": "https://mirror/simple", "index_list": "l"}, ["vllm_index_list"]),
    ({"index_url": "mirror", "index_list": "l", "index_list_there": True}, ["vllm_index_url"]),
    ({"archive": "/a.tar.zst", "archive_sha256": SUM}, []),
    ({"archive": "/a.tar.gz"}, ["vllm_archive_sha256"]),
    ({"archive": "/a.zip", "archive_sha256": "xyz"}, ["vllm_archive_sha256", "vllm_archive"]),
])
def test_variables_that_say_where_releases_come_from(change, variables):
    values = {"index_url": "", "index_list": "", "index_list_there": False, "archive": "", "archive_sha256": "", **change}
    assert [error.details["variable"] for error in release.source_errors(values, "n1")] == variables


def test_a_password_in_the_index_url_is_refused_and_not_repeated():
    word = secrets.token_hex(8)
    values = {"index_url": f"https://bank:{word}@mirror/simple", "index_list": "l", "index_list_there": True, "archive": "",
              "archive_sha256": ""}
    error, = release.source_errors(values, "n1")
    assert word not in str(error) and "~/.netrc" in str(error) and "~/.netrc" in error.render("zh")
