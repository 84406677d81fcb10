# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many requests over real sockets: counted, measured, bounded."""
from __future__ import annotations

import json
import secrets
import socket
import time

import pytest
from ansible_collections.idc.llm.plugins.module_utils._expect import Expect
from ansible_collections.idc.llm.plugins.module_utils._http import Reply
from ansible_collections.idc.llm.plugins.module_utils._load import Load, calibrate, drive, one, synthetic, words_for
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe

from tests.support.openai_server import KEY, MODEL, TEMPLATE, serve


def run(server, requests, concurrency=1, deadline=30.0, **changes):
    probe = Probe(**{"url": server.url, "model": MODEL, "api_key": KEY, "timeout": 5.0, **changes})
    return drive(probe, Load(requests, concurrency), lambda number: f"say {number}", time.monotonic() + deadline)


def counted(results):
    return {kind: count for kind, count in results["errors"].items() if count}


def test_sound_answers_are_counted_and_measured():
    with serve() as server:
        results = run(server, 6, 3)
        prompts = {request["payload"]["messages"][0]["content"] for request in server.seen}
    assert prompts == {f"say {number}" for number in range(6)}
    assert (results["requests"], results["good"], results["failed"], results["error_rate"]) == (6, 6, 0, 0.0)
    assert counted(results) == {} and results["statuses"] == {"200": 6}
    assert results["ttft_ms"]["count"] == results["e2e_ms"]["count"] == 6
    assert results["itl_ms"]["count"] == 6 * 3  # four tokens have three gaps
    assert results["output_tokens"] == 24
    assert results["prompt_tokens"] == {"min": TEMPLATE + 2, "max": TEMPLATE + 2, "mean": TEMPLATE + 2.0}
    assert results["output_tokens_per_s"] == pytest.approx(24 / results["duration_s"], rel=0.01)


def test_requests_overlap_up_to_the_concurrency_and_not_beyond():
    with serve() as server:
        server.pace = 0.05
        run(server, 9, 3)
        assert server.most == 3
        assert len(server.seen) == 9


def test_times_are_those_of_the_events():
    def reply(_call):
        words = [f'{{"choices": [{{"delta": {{"content": "{word}"}}}}]}}' for word in "abc"]
        events = [(0.1, words[0]), (0.15, '{"choices": [{"delta": {"role": "assistant"}}]}'), (0.2, words[1]), (0.5, words[2]),
                  (0.6, "[DONE]")]
        return Reply(200, events=tuple(events), total_s=0.6)

    found = one(Probe("http://127.0.0.1", MODEL), reply)
    assert (found.kind, found.ttft_s, found.total_s, found.tokens) == ("", 0.1, 0.6, 3)
    assert list(found.gaps) == pytest.approx([0.1, 0.3])


@pytest.mark.parametrize(
    ("fault", "changes", "kind", "status"),
    [
        ("cut", {}, "cut", "200"),
        ("no end", {}, "cut", "200"),
        ("error event", {}, "cut", "200"),
        ("drop", {}, "cut", None),
        ("429", {}, "status", "429"),
        ("500", {}, "status", "500"),
        ("stall", {"timeout": 0.5}, "timeout", "200"),
        ("hang", {"timeout": 0.5}, "timeout", None),
        ("empty", {}, "empty", "200"),
        ("other 1", {"expect": Expect(regex="^Hello")}, "expect", "200"),
    ],
)
def test_each_kind_of_failure_is_counted_apart_from_sound_answers(fault, changes, kind, status):
    with serve("", fault, "") as server:
        results = run(server, 3, **changes)
    assert counted(results) == {kind: 1}
    assert (results["good"], results["failed"]) == (2, 1)
    assert results["statuses"] == ({"200": 3} if status == "200" else {"200": 2, **({status: 1} if status else {})})
    assert results["ttft_ms"]["count"] == 2  # a failed one is in no percentile
    assert [sample["kind"] for sample in results["error_samples"]] == [kind]


def test_nobody_listens():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        probe = Probe(f"http://127.0.0.1:{closed.getsockname()[1]}", MODEL, timeout=2)
        results = drive(probe, Load(4, 2), lambda number: "", time.monotonic() + 10)
    assert counted(results) == {"connect": 4}
    assert results["error_rate"] == 1.0
    assert len(results["error_samples"]) == 1


def test_the_deadline_ends_what_is_under_way_and_sends_nothing_more():
    with serve("", "hang") as server:
        results = run(server, 5, deadline=0.8)
        assert len(server.seen) == 2
    assert counted(results) == {"timeout": 1, "unsent": 3}
    assert results["error_rate"] == 0.8


def test_a_key_is_in_no_result():
    wrong = "wrong-" + str(time.time_ns())
    with serve() as server:
        results = run(server, 2, api_key=wrong)
    assert counted(results) == {"status": 2}
    assert "Unauthorized" in results["error_samples"][0]["detail"]
    assert wrong not in str(results)


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("before", range(0, 320, 10))
def test_a_message_that_is_cut_short_holds_no_part_of_a_key(before, status):
    key = secrets.token_hex(16)
    event = {"choices": [{"delta": {"content": "x" * before + key}}]}
    reply = Reply(status, "x" * before + key, ((0.1, json.dumps(event)), (0.2, "[DONE]")))
    for expect in (Expect(regex="wanted"), Expect(status=401)):
        found = one(Probe("http://127.0.0.1", MODEL, key, expect=expect), lambda _call: reply)
        assert found.kind and key[:6] not in found.detail


def test_synthetic_prompts_have_their_length_and_share_no_beginning():
    prompts = [synthetic(200, "salt", number) for number in range(50)]
    assert {len(prompt.split()) for prompt in prompts} == {200}
    assert len({prompt[:80] for prompt in prompts}) == 50
    assert synthetic(200, "salt", 3) == prompts[3] != synthetic(200, "other", 3)


@pytest.mark.parametrize(("fixed", "per_word"), [(0, 1), (11, 1), (5, 5), (3, 1.5)])
def test_the_length_is_found_from_two_answers(fixed, per_word):
    words = words_for(1000, lambda count: round(fixed + per_word * count))
    assert abs(fixed + per_word * words - 1000) <= per_word


def test_a_server_that_counts_nothing_gets_a_word_a_token():
    assert words_for(1000, lambda count: 0) == 1000


def test_calibration_asks_the_server():
    with serve() as server:
        words = calibrate(Probe(server.url, MODEL, KEY, timeout=5.0), 64, "salt")
        assert len(server.seen) == 2
    assert words == 64 - TEMPLATE
