# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rate of difference between greedy answers, and the file that keeps them."""
from __future__ import annotations

import json
import random
import stat

import pytest
from ansible_collections.idc.llm.plugins.module_utils._baseline import Answers, Baseline, parse, read
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._golden import chain, difference, metric_file, metric_text
from ansible_collections.idc.llm.plugins.module_utils._probe import Answer
from ansible_collections.idc.llm.plugins.module_utils._store_files import write_text


def answer(text="", ids=()):
    return Answer(text, 1, 0.0, 0.0, "", True, token_ids=tuple(ids))


def tokens(*ids):
    return chain(answer(ids=ids), "tokens")


def test_a_position_counts_up_to_the_first_that_differs():
    found = difference([tokens(1, 2, 3, 4), tokens(5, 6, 7)], [[tokens(1, 2, 9, 4), tokens(5, 6, 7)]])
    assert (found.answers, found.positions, found.parted) == (2, 3 + 3, ((0, 2),))
    assert found.rate == 1 / 6


def test_the_rate_is_that_of_a_token_whatever_the_length():
    """An engine that changes each token with chance p shows p, and not the chaos that follows a change."""
    chance, wrong = random.Random(7), 0.02
    old = [[chance.randrange(1000) for _at in range(200)] for _prompt in range(300)]
    new = [[token if chance.random() > wrong else -1 for token in row] for row in old]
    found = difference([tokens(*row) for row in old], [[tokens(*row) for row in new]])
    assert found.rate == pytest.approx(wrong, rel=0.15)
    assert len(found.parted) > 250  # nearly each answer differs somewhere


@pytest.mark.parametrize(("old", "new", "positions"), [((1, 2), (1, 2, 3), 3), ((1, 2, 3), (1, 2), 3), ((1,), (2,), 1)])
def test_an_answer_that_ends_elsewhere_differs_there(old, new, positions):
    found = difference([tokens(*old)], [[tokens(*new)]])
    assert (found.positions, len(found.parted)) == (positions, 1)


def test_the_same_is_no_difference_and_nothing_is_none():
    assert difference([tokens(1, 2)], [[tokens(1, 2)], [tokens(1, 2)]]).rate == 0.0
    assert difference([tokens(1, 2)], []).rate == 0.0


def test_words_where_there_are_no_tokens():
    one, other = (chain(answer("a b  c"), "words"), chain(answer("a b c"), "words"))
    assert len(one) == 3 and one[:2] == other[:2] and one[2] != other[2]
    assert chain(answer(ids=(1, 23)), "tokens") != chain(answer(ids=(12, 3)), "tokens")


def test_the_metric():
    assert metric_text('a"b\\c', 0.0012, 0.0).splitlines()[2] == 'idc_llm_output_difference_ratio{deployment="a\\"b\\\\c"} 0.0012'
    assert metric_file("org/name v1") == "idc_llm_output_difference_org_name_v1.prom"


WORKLOAD = {"concurrency": 4, "prompt_tokens": None, "max_tokens": 8, "prompt": "digest"}
SAVED = Baseline("tiny", "2026-11-22T10:00:00Z", WORKLOAD, {"ttft_p50_ms": 1.5, "itl_p50_ms": None},
                 Answers("tokens", 64, 0.01, {"p1": ("aa", "bb")}))


def test_a_baseline_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text("the one before")
    write_text(str(path), SAVED.to_text())
    assert read(str(path)) == SAVED
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["baseline.json"]
    assert json.loads(path.read_text())["schema"] == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "golden": 3, "figures": {}}'])
def test_what_is_no_baseline_is_refused(tmp_path, text):
    (tmp_path / "b").write_text(text)
    with pytest.raises(ValueError):
        parse(text)
    with pytest.raises(IdcError, match="IDC-PROBE-017"):
        read(str(tmp_path / "b"))


def test_a_baseline_that_is_not_there(tmp_path):
    with pytest.raises(IdcError, match=r"IDC-PROBE-017.*No such file"):
        read(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"model": "other"}, "it is of tiny"),
        ({"workload": {**WORKLOAD, "concurrency": 8}}, "concurrency 4, now 8"),
        ({"prompts": ["p1", "p2"]}, "does not know golden prompt 1"),
        ({"max_tokens": 32}, "golden_max_tokens was 64, now 32"),
    ],
)
def test_only_the_same_questions_are_compared(changes, says):
    given = {"model": "tiny", "workload": WORKLOAD, "prompts": ["p1"], "max_tokens": 64, **changes}
    found = SAVED.misfit(**given)
    assert says in found if says else found == ""


def test_a_baseline_without_the_part_that_is_asked_for():
    bare = Baseline("tiny", "2026-11-22T10:00:00Z")
    assert bare.misfit("tiny", WORKLOAD, [], 0) == "it holds no figures of a load"
    assert bare.misfit("tiny", None, ["p1"], 64) == "it holds no golden answers"
    assert bare.misfit("tiny", None, [], 0) == ""
