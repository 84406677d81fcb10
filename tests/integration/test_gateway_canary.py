# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment that is tried in the place of another gets its share of the requests, and takes none down with it."""
from __future__ import annotations

import json
import secrets
from contextlib import ExitStack

import pytest

from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Gateway
from tests.support.waiting import wait_for

KEYS = {name: secrets.token_hex(24) for name in ("all", "first", "one", "tester", "new")}
TENANTS = {
    "all": {"keys": [KEYS["all"]]}, "first": {"keys": [KEYS["first"]]}, "one": {"keys": [KEYS["one"]], "deployments": ["tiny"]},
    "new": {"keys": [KEYS["new"]], "deployments": ["next"]},
    "tester": {"keys": [KEYS["tester"]], "deployments": ["tiny", "next"],
               "limits": {"deployments": {"tiny": {"requests_per_minute": 6, "burst": 0}}}}}
MANY, SHARE = 100, 30
NEAR = range(8, 53)  # 30 of 100 on average; as far from it as this once in two million times
AFFINITY = dict.fromkeys(("tiny", "next"), {"by": "header", "header": "X-Chat", "at_once": 32})


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """tiny and other stand on engines of their own, next is tried in tiny's place; its engine answers to "tiny", too."""
    with ExitStack() as stack:
        engines = {name: stack.enter_context(serve()) for name in ("tiny", "other", "next")}
        canary = {"of": "tiny", "percent": SHARE, "tenants": ["first"]}
        made = Gateway(tmp_path_factory.mktemp("canary"), {name: [engine.server_port] for name, engine in engines.items()}, TENANTS,
                       ENGINE_KEY, canaries={"next": canary}, gateway_affinity=AFFINITY)
        made.engines, made.canary = engines, canary
        engines["next"].names = ("tiny", "next")
        for engine in engines.values():
            engine.pace = 0
        yield made
        made.close()


def chat(model="tiny"):
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


def tried(house, key, count, **headers):
    """Of so many requests for tiny, how many the canary got; all are answered."""
    before = {name: len(engine.seen) for name, engine in house.engines.items()}
    assert {house.ask(key=KEYS[key], body=chat(), **headers).status for _turn in range(count)} == {200}
    got = {name: len(engine.seen) - before[name] for name, engine in house.engines.items()}
    assert got["tiny"] + got["next"] == count and not got["other"], got
    return got["next"]


def change(house, **values):
    """Another share, taken up as a play does it."""
    house.canary.update(values)
    house.write()
    house.nginx("-s", "reload")


def test_everybody_sends_its_share_and_who_is_named_all(house):
    assert tried(house, "all", MANY) in NEAR
    assert tried(house, "one", MANY) in NEAR, "whoever has one deployment has its canary, too"
    assert tried(house, "first", 20) == 20


def test_a_session_stays_with_the_revision_that_it_began_with(house):
    homes = [tried(house, "all", 3, **{"X-Chat": f"s{number}"}) for number in range(40)]
    assert set(homes) == {0, 3}
    assert 0 < tried(house, "all", 40, **{"X-Chat": ""}) < 40, "an empty name is no session"


def test_a_canary_is_named_by_who_lists_it_alone(house):
    def models(key):
        return [row["id"] for row in json.loads(house.ask("/v1/models", key=KEYS[key]).body)["data"]]

    assert models("all") == ["tiny", "other"] and models("tester") == ["tiny", "next"]
    assert house.ask(key=KEYS["all"], body=chat("next")).error["code"] == "model_not_allowed"
    assert [house.ask(key=KEYS[key], body=chat("next")).status for key in ("tester", "new")] == [200, 200]
    assert {engine.seen[-1]["payload"]["model"] for name, engine in house.engines.items() if name == "next"} == {"next"}


def test_the_record_says_which_revision_answered_and_limits_are_those_of_what_was_asked_for(house):
    assert house.line(house.ask(key=KEYS["first"], body=chat()))["deployment"] == "next"
    statuses = [house.ask(key=KEYS["tester"], body=chat()).status for _turn in range(6)]
    assert statuses[0] == 200 and 429 in statuses[1:]


@pytest.mark.parametrize("fault", ["500", "drop"])
def test_a_canary_that_fails_costs_no_request(house, fault):
    house.engines["next"].faults[:] = [fault]
    assert {house.ask(key=KEYS["first"], body=chat()).status for _turn in range(10)} == {200}
    house.engines["next"].faults[:] = [""]
    assert wait_for(lambda: tried(house, "first", 3) == 3, 60), "nginx leaves it alone for five seconds"


def test_a_canary_whose_engine_is_out_costs_no_request_and_gets_its_own_again(house):
    engine = f"next-{house.engines['next'].server_port}"
    house.balancer.say([engine], True)
    house.nginx("-s", "reload")
    assert wait_for(lambda: tried(house, "first", 3) == 0, 60)
    for key, model in (("tester", "next"), ("new", "next"), ("new", "tiny")):
        answer = house.ask(key=KEYS[key], body=chat(model))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5"), house.line(answer)
    house.balancer.say([engine], False)
    house.nginx("-s", "reload")
    assert wait_for(lambda: tried(house, "first", 3) == 3, 60)


def test_another_share_counts_with_the_next_requests(house):
    change(house, percent=0, tenants=[])
    assert wait_for(lambda: tried(house, "first", 20) == 0, 60) and tried(house, "all", 20) == 0
    change(house, percent=100)
    assert wait_for(lambda: tried(house, "all", 20) == 20, 60)


def test_what_reads_configurations_finds_nothing(house):
    house.check_configuration()
