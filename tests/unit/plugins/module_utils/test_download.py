# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One file's stream: checkpoints, what proves right of them, the limit of speed."""
from __future__ import annotations

import hashlib
import json
import os
import random

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _download
from ansible_collections.idc.llm.plugins.module_utils._download import Line, Part, Rate, bring
from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry
from ansible_collections.idc.llm.plugins.module_utils._source import Access, Remote, SourceError, back_off
from ansible_collections.idc.llm.plugins.module_utils._store_files import Stopped

STEP = 1000
DATA = random.Random(7).randbytes(10 * STEP + 5)
ENTRY = FileEntry("a/b", len(DATA), hashlib.sha256(DATA).hexdigest())


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(_download, "CHECKPOINT", STEP)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a" / "b"


def part_of(target, entry=ENTRY, origin=""):
    part = Part(str(target), entry, origin)
    part.open(lambda: None)
    return part


def filled(target, count, entry=ENTRY, step=STEP):
    """A part with its first bytes, dropped as a killed run drops it."""
    part = part_of(target, entry)
    part.sources.append("one")
    for start in range(0, count, step):
        part.write(memoryview(DATA[start:min(count, start + step)]))
    part.close()


def test_a_part_is_taken_up_at_its_last_checkpoint(target):
    filled(target, 3 * STEP + 700, step=350)
    part = part_of(target)
    assert (part.offset, part.sources) == (3 * STEP + 150, ["one"])
    part.write(memoryview(DATA[part.offset:]))
    assert part.problem() is None
    proof = part.publish()
    assert (proof.sha256, target.read_bytes()) == (ENTRY.sha256, DATA)
    assert [p.name for p in target.parent.iterdir()] == ["b"]
    assert target.stat().st_mode & 0o777 == 0o644


def test_a_part_that_was_paused_lost_nothing(target):
    part = part_of(target)
    part.write(memoryview(DATA[:STEP + 7]))
    part.write(memoryview(DATA[STEP + 7:STEP + 20]))
    part.pause()
    assert part_of(target).offset == STEP + 20
    part_of(target).pause()


def test_a_disk_that_gets_full_in_mid_write_loses_nothing_of_what_it_took(target, monkeypatch):
    part = part_of(target)
    part.write(memoryview(DATA[:300]))
    real, turn = os.write, iter([100])

    def write(descriptor, data):
        if len(data) < 500:  # a checkpoint's line
            return real(descriptor, data)
        for count in turn:
            return real(descriptor, data[:count])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_download.os, "write", write)
    with pytest.raises(OSError, match="No space"):
        part.write(memoryview(DATA[300:1300]))
    part.pause()
    again = part_of(target)
    assert again.offset == 300
    again.write(memoryview(DATA[300:799]))
    assert again.hash.proof().sha256 == hashlib.sha256(DATA[:799]).hexdigest()


def test_an_empty_part_leaves_nothing(target):
    part_of(target).pause()
    assert list(target.parent.iterdir()) == []


def test_bytes_that_changed_on_disk_are_given_up_back_to_the_checkpoint_before(target):
    filled(target, 5 * STEP)
    path = target.with_name("b.part")
    raw = bytearray(path.read_bytes())
    raw[2 * STEP + 500] ^= 1
    path.write_bytes(raw)
    part = part_of(target)
    assert (part.offset, path.stat().st_size) == (2 * STEP, 2 * STEP)
    part.write(memoryview(DATA[2 * STEP:]))
    assert part.problem() is None


def test_a_part_that_is_shorter_than_its_checkpoints_say(target):
    filled(target, 5 * STEP)
    with open(target.with_name("b.part"), "r+b") as stream:
        stream.truncate(3 * STEP + 1)
    assert part_of(target).offset == 3 * STEP


@pytest.mark.parametrize("damage", ["torn", "other file", "no notes", "rubbish", "backwards", "beyond"])
def test_notes_that_cannot_be_trusted(target, damage):
    filled(target, 2 * STEP)
    notes = target.with_name("b.part.json")
    first, *rows = notes.read_text().splitlines()
    more = {"offset": STEP if damage == "backwards" else len(DATA) + 1, "sha256": "x", "sources": []}
    texts = {
        "torn": "\n".join([first, *rows])[:-20],
        "other file": "\n".join([json.dumps({"of": "sha256:" + "0" * 64}), *rows]),
        "rubbish": "[1]\n",
        "backwards": "\n".join([first, *rows, json.dumps(more)]),
        "beyond": "\n".join([first, *rows, json.dumps(more)]),
    }
    if damage == "no notes":
        notes.unlink()
    else:
        notes.write_text(texts[damage])
    offsets = {"torn": STEP, "backwards": 2 * STEP, "beyond": 2 * STEP}
    part = part_of(target)
    assert part.offset == offsets.get(damage, 0)
    assert target.with_name("b.part").stat().st_size == part.offset


def test_a_file_known_by_nothing_is_taken_up_for_the_same_source_only(target):
    nameless = FileEntry("a/b", len(DATA), "")
    part = part_of(target, nameless, "file:///one")
    part.write(memoryview(DATA[:STEP]))
    part.close()
    assert part_of(target, nameless, "file:///one").offset == STEP
    assert part_of(target, nameless, "file:///two").offset == 0


def test_gits_id_goes_on_over_a_resume(target):
    git = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    entry = FileEntry("a/b", len(DATA), "", git=git)
    filled(target, 4 * STEP, entry)
    part = part_of(target, entry)
    part.write(memoryview(DATA[4 * STEP:]))
    assert part.problem() is None
    assert part.publish().git == git


def test_who_stops_while_old_bytes_are_proven(target):
    filled(target, 4 * STEP)

    def over():
        raise Stopped()

    with pytest.raises(Stopped):
        Part(str(target), ENTRY).open(over)


def test_a_linked_part_is_not_followed(target, tmp_path):
    target.parent.mkdir()
    (tmp_path / "victim").write_bytes(b"keep")
    target.with_name("b.part").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        part_of(target)
    assert (tmp_path / "victim").read_bytes() == b"keep"


def test_bring_counts_what_comes_and_is_no_proof(target, tmp_path):
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    (tmp_path / "src").write_bytes(wrong)
    part, line, came = part_of(target), Line(), []
    line.count = lambda source, count: came.append((source, count))
    bring(Remote((tmp_path / "src").as_uri(), Access()), "one", part, line, 0)
    assert sum(count for _source, count in came) == len(DATA) == part.offset
    assert "sha256" in part.problem()
    part.discard()
    assert (part.offset, target.with_name("b.part").stat().st_size, part.sources) == (0, 0, [])


def test_a_run_that_is_over_stops_streams(target, tmp_path):
    (tmp_path / "src").write_bytes(DATA)
    line = Line()
    line.stop.set()
    with pytest.raises(Stopped):
        bring(Remote((tmp_path / "src").as_uri(), Access()), "one", part_of(target), line, 0)


def test_another_length_is_seen_before_a_byte_is_read(target, tmp_path):
    (tmp_path / "src").write_bytes(DATA + b"x")
    part = part_of(target)
    with pytest.raises(SourceError, match=f"longer than {len(DATA)} bytes") as caught:
        bring(Remote((tmp_path / "src").as_uri(), Access()), "one", part, Line(), 3)
    assert (caught.value.kind, part.offset) == ("wrong", 0)


def test_the_rate_is_shared_and_even(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(_download.time, "monotonic", lambda: clock[0])
    rate, waits = Rate(1000), []
    for _turn in range(3):
        rate.wait(500, waits.append)
    assert waits == [0.5, 1.0, 1.5]
    clock[0] = 110.0
    rate.wait(100, waits.append)
    assert waits[3:] == [pytest.approx(0.1)]
    Rate(0).wait(10**9, lambda seconds: pytest.fail("no limit"))
    assert (Rate(0).step, Rate(10**6).step, Rate(10).step) == (_download.BUFFER, 10**5, 4096)


def test_pauses_grow_and_are_never_all_the_same():
    pauses = [back_off(attempt) for attempt in range(9)]
    assert all(min(60, 2**n) / 2 <= pause <= min(60, 2**n) for n, pause in enumerate(pauses))
    assert 7 <= back_off(0, 7.0) <= 8
    assert len({back_off(5) for _turn in range(9)}) > 1
