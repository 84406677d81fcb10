# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many files hashed by processes: right, and alive after a disk that fails."""
from __future__ import annotations

import hashlib
import os
import random
import signal

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _hash_pool
from ansible_collections.idc.llm.plugins.module_utils._hash_pool import cores, sha256_of_all


@pytest.fixture
def files(tmp_path, monkeypatch):
    """{path: bytes} of files of many sizes, larger and smaller than what is hashed at once."""
    monkeypatch.setattr(_hash_pool, "WINDOW", 4096)
    monkeypatch.setattr(_hash_pool, "AHEAD", 8192)
    chance, made = random.Random(3), {}
    for number, size in enumerate([0, 1, 4095, 4096, 4097, 100_000, 8192, 20_000]):
        path = tmp_path / str(number)
        path.write_bytes(chance.randbytes(size))
        made[str(path)] = size
    return made


def hashes(files):
    return {path: hashlib.sha256(open(path, "rb").read()).hexdigest() for path in files}


@pytest.mark.parametrize("workers", [0, 1, 3, 99])
def test_every_file_is_hashed(files, workers):
    assert sha256_of_all(files, workers) == hashes(files)


def test_nothing_to_hash():
    assert sha256_of_all({}, 4) == {}


def test_a_file_that_cannot_be_read_has_none(files, tmp_path):
    gone = str(tmp_path / "gone")
    assert sha256_of_all({**files, gone: 1, str(tmp_path): 1}, 2) == {**hashes(files), gone: None, str(tmp_path): None}


def test_a_file_that_kills_its_reader_has_none_and_the_others_are_hashed(files, monkeypatch):
    """As a disk that fails does with SIGBUS."""
    real, victims = _hash_pool._sha256, sorted(files, key=files.get)[-2:]

    def sha256(path):
        if path in victims:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path)

    monkeypatch.setattr(_hash_pool, "_sha256", sha256)
    assert sha256_of_all(files, 2) == {**hashes(files), **dict.fromkeys(victims)}


def test_no_process_is_left(files):
    sha256_of_all(files, 3)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_cores_that_may_be_used(monkeypatch):
    monkeypatch.setattr(_hash_pool.os, "sched_getaffinity", lambda _pid: {1, 5, 9})
    assert cores() == 3
