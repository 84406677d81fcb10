# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that share a prefix go where its cache is, by the role's own configuration; never more than an engine may have."""
from __future__ import annotations

import secrets
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Gateway
from tests.support.waiting import together, wait_for

KEY = secrets.token_hex(24)
AFFINITY = {"tiny": {"by": "header", "header": "X-Chat", "at_once": 2}, "long": {"by": "prefix", "at_once": 8}}
ENGINES = 3
MANY = 40  # by chance one of three engines gets none of so many once in a million times


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with ExitStack() as stack:
        engines = [stack.enter_context(serve()) for _number in range(ENGINES)]
        ports = [engine.server_port for engine in engines]
        made = Gateway(tmp_path_factory.mktemp("affinity"), dict.fromkeys(AFFINITY, ports), {"one": {"keys": [KEY]}}, ENGINE_KEY,
                       gateway_affinity=AFFINITY)
        made.engines = engines
        yield made
        made.close()


def chat(model="tiny", content="hello"):
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def reached(house, count, body, headers=None):
    """{engine: requests} of so many, one after the other; body, headers: made of the number of each."""
    before = [len(engine.seen) for engine in house.engines]
    for number in range(count):
        house.ask(key=KEY, body=body(number), **(headers(number) if headers else {}))
    return {number: len(engine.seen) - before[number] for number, engine in enumerate(house.engines)
            if len(engine.seen) != before[number]}


def test_a_session_stays_with_its_engine_and_sessions_spread(house):
    homes = Counter()
    for session in range(MANY):
        found = reached(house, 2, lambda _number: chat(), lambda _number, name=f"s{session}": {"X-Chat": name})
        assert list(found.values()) == [2], f"session {session}: {found}"
        homes.update(found.keys())
    assert len(homes) == ENGINES, homes
    assert len(reached(house, MANY, lambda _number: chat())) == ENGINES, "without a session any engine will do"


def test_the_beginning_of_the_body_chooses_and_its_end_does_not(house):
    system = "You are the bank's assistant. " * 100
    for app in range(4):
        found = reached(house, 4, lambda number, text=f"{app} {system}": chat("long", text + str(number)))
        assert list(found.values()) == [4], found
    assert len(reached(house, MANY, lambda number: chat("long", f"{number} {system}"))) == ENGINES
    large = "x" * (2 << 20)  # in a file
    assert list(reached(house, 3, lambda number: chat("long", large + str(number))).values()) == [3]


def at_once(house, count):
    return together(count, lambda _number: house.ask(key=KEY, body=chat(), **{"X-Chat": "busy"}))


def test_more_than_an_engine_may_have_go_to_the_next_and_then_to_the_one_with_the_fewest(house):
    for engine in house.engines:
        engine.pace, engine.most = 0.3, 0
    answers = at_once(house, 4)
    assert [answer.status for answer in answers] == [200] * 4
    assert sorted(engine.most for engine in house.engines) == [0, 2, 2], "the session's own, and one more"
    answers = at_once(house, ENGINES * 2 + 3)
    for engine in house.engines:
        engine.pace = 0.0
    assert [answer.status for answer in answers] == [200] * (ENGINES * 2 + 3)
    assert {engine.most for engine in house.engines} == {3}
    line = house.line(next(answer for answer in answers if "sticky" in house.line(answer)["upstream"]))
    assert (line["tenant"], line["deployment"], line["tokens_from"]) == ("one", "tiny", "usage"), "counted as any other"


def test_a_request_that_kills_engines_kills_two_and_no_more(house):
    for engine in house.engines:
        engine.faults[:] = ["500"]
    before = [len(engine.seen) for engine in house.engines]
    answer = house.ask(key=KEY, body=chat(), **{"X-Chat": "poison"})
    reached_ = [len(engine.seen) - count for engine, count in zip(house.engines, before, strict=True)]
    for engine in house.engines:
        engine.faults[:] = ["well"]
    assert (answer.status, sum(reached_), max(reached_)) == (500, 2, 1)
    time.sleep(5.5)  # fail_timeout


def test_where_all_are_gone_the_answer_is_503_with_when_to_come_again(house):
    names = [f"tiny-{engine.server_port}" for engine in house.engines]
    house.balancer.say(names, True)
    house.nginx("-s", "reload")
    assert wait_for(lambda: house.ask(key=KEY, body=chat()).status == 503, 60, 0.2)
    full = house.ask(key=KEY, body=chat())
    assert full.error["code"] == "service_unavailable" and int(full.headers["Retry-After"]) > 0
    house.balancer.say(names, False)
    house.nginx("-s", "reload")
    assert wait_for(lambda: house.ask(key=KEY, body=chat()).status == 200, 60, 0.2)


def test_a_drained_engine_gives_its_sessions_to_others_and_gets_them_back(house):
    def home():
        return reached(house, 3, lambda _number: chat(), lambda _number: {"X-Chat": "mine"})
    [own] = home()
    name = f"tiny-{house.engines[own].server_port}"
    house.balancer.say([name], True)
    house.nginx("-s", "reload")
    elsewhere = home()
    for _turn in range(20):  # until the new workers are there
        if own not in elsewhere:
            break
        elsewhere = home()
    assert own not in elsewhere and len(elsewhere) == 1
    house.balancer.say([name], False)
    house.nginx("-s", "reload")
    assert any(home() == {own: 3} for _turn in range(20))


def test_what_reads_configurations_finds_nothing_here_either(house):
    house.check_configuration()
