# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a revision: one holder, dead ones found out, a lost one told."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _fetch_lock
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fetch_lock import is_dead, locked, read_holder, started

ABOUT = {"model": "org/name", "revision": "r1"}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model" / ".lock-r1")


def me():
    return _fetch_lock._who()


def left(path, **more):
    """A lock file that somebody left."""
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as out:
        json.dump({**me(), "token": "x", **more}, out)


def test_it_is_there_while_held_and_gone_after(path):
    with locked(path, 0, **ABOUT):
        assert read_holder(path)["pid"] == os.getpid()
        with pytest.raises(IdcError, match=rf"IDC-FETCH-006: Another run holds {path} .*process {os.getpid()} on "), locked(
            path, 0, **ABOUT
        ):
            pass
        assert os.listdir(os.path.dirname(path)) == [".lock-r1"]
    assert os.listdir(os.path.dirname(path)) == []


def test_a_holder_of_this_host_that_died_is_passed_over(path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    left(path, pid=child.pid, started=started(child.pid), host="me")
    with pytest.raises(IdcError, match=f"process {child.pid} on me"), locked(path, 0, **ABOUT):
        pass
    child.kill()
    child.wait()
    with locked(path, 0, **ABOUT):
        assert read_holder(path)["pid"] == os.getpid()


def test_a_number_that_another_process_has_now_is_not_the_holder(path):
    left(path, started="1")
    with locked(path, 0, **ABOUT):
        pass


@pytest.mark.parametrize("other", [{"boot": "another"}, {"space": "pid:[1]"}, {"pid": None}, {"boot": ""}])
def test_a_holder_elsewhere_is_known_by_its_last_sign_of_life(path, other):
    left(path, **other)
    with pytest.raises(IdcError, match="IDC-FETCH-006"), locked(path, 0, **ABOUT):
        pass
    long_ago = time.time() - _fetch_lock.STALE - 5
    os.utime(path, (long_ago, long_ago))
    with locked(path, 0, **ABOUT):
        assert read_holder(path)["token"] != "x"


def test_a_torn_lock_file_ages_too(path):
    os.makedirs(os.path.dirname(path))
    open(path, "w").close()
    with pytest.raises(IdcError, match="has not written its name"), locked(path, 0, **ABOUT):
        pass
    os.utime(path, (1, 1))
    with locked(path, 0, **ABOUT):
        pass


def test_age_counts_only_where_the_process_cannot_be_seen():
    assert is_dead(me(), me(), lambda: pytest.fail("not asked for")) is False
    assert is_dead({**me(), "boot": "b"}, me(), lambda: 59.0) is False
    assert is_dead({**me(), "boot": "b"}, me(), lambda: 61.0) is True


def test_a_holder_gives_signs_of_life_and_notices_when_it_is_robbed(path, monkeypatch):
    monkeypatch.setattr(_fetch_lock, "BEAT", 0.01)
    lost = threading.Event()
    with locked(path, 0, lost.set, **ABOUT):
        os.utime(path, (1, 1))
        while os.stat(path).st_mtime < 1000:
            time.sleep(0.01)
        assert not lost.is_set()
        with open(path + ".new", "w") as out:
            json.dump({**me(), "token": "thief"}, out)
        os.rename(path + ".new", path)
        assert lost.wait(10)
    assert read_holder(path)["token"] == "thief"


def test_breaking_takes_only_the_dead_ones_file(path):
    left(path, token="quicker")
    _fetch_lock._break(path, {**me(), "token": "dead"})
    assert read_holder(path)["token"] == "quicker"
    assert os.listdir(os.path.dirname(path)) == [".lock-r1"]


def test_without_links_the_file_is_made_all_the_same(path, monkeypatch):
    def link(_source, _target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(_fetch_lock.os, "link", link)
    with locked(path, 0, **ABOUT):
        assert read_holder(path)["pid"] == os.getpid()
        with pytest.raises(IdcError), locked(path, 0, **ABOUT):
            pass


def test_many_at_once_hold_it_one_after_the_other(path):
    inside, most = [], []

    def hold():
        with locked(path, 30, **ABOUT):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=hold) for _turn in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
