# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watchdog of an engine decides, and how it reads vLLM's metrics."""
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_watchdog as agent
from ansible_collections.idc.llm.plugins.module_utils._agent_watchdog import Config, Look, Rank, Trail, Unit

CONFIG = Config("tiny-blue-0", "idc-vllm@tiny-blue-0.service", "127.0.0.1", 8000, "tiny")
UP = Unit("active", "start-1", age_s=10000.0, pid=7)
IDLE, STUCK = {"0": Rank(0, 0, 0.0, (5, 5, 5, 5))}, {"0": Rank(3, 9, 0.5, (5, 5, 5, 5))}
HANG = Look(0, UP, agent.OK, agent.NONE, "no answer in 20 s", 20.0, "", STUCK)


def flowing(count, kv=0.5):
    """A busy rank that made ``count`` tokens."""
    return {"0": Rank(8, 300, kv, (count, count, count, 5))}


def verdicts(looks, config=CONFIG, every=25.0):
    """The verdict of each look; they are ``every`` seconds apart."""
    trail, found = Trail(), []
    for number, look in enumerate(looks):
        trail, verdict = agent.judge(config, trail, replace(look, at=number * every))
        found.append((verdict.kind, verdict.reason))
    return found


def kinds(looks, **more):
    return [kind for kind, _reason in verdicts(looks, **more)]


# --- deciding --------------------------------------------------------------------------------------------------------


def test_an_engine_hangs_when_requests_wait_and_no_token_is_made():
    assert verdicts([HANG] * 5) == [("missed", "")] * 4 + [("hung", "hung")], "90 s are over at the fifth look"
    assert verdicts([HANG] * 3, every=60)[-1] == ("hung", "hung")
    assert verdicts([HANG] * 2, every=600)[-1] == ("missed", ""), "two misses are not three"


def test_a_probe_without_an_answer_is_work_that_waits_though_the_gauges_of_a_stopped_core_say_none():
    idle = replace(HANG, ranks=IDLE)
    assert verdicts([idle] * 5)[-1] == ("hung", "hung")
    assert verdicts([idle] + [replace(idle, answer=agent.ERROR)] * 4)[-1] == ("hung", "hung"), "the first one still waits"


def test_a_busy_engine_is_never_restarted():
    looks = [replace(HANG, ranks=flowing(number * 100)) for number in range(200)]
    assert set(kinds(looks)) == {"missed", "busy"}
    assert "missed" not in kinds(looks)[1::2]


def test_a_long_prompt_that_gives_no_token_for_minutes_is_busy():
    looks = [replace(HANG, ranks=flowing(0, kv=number / 50)) for number in range(50)]
    assert set(kinds(looks)[1:]) == {"busy"}
    sawtooth = [replace(HANG, ranks=flowing(0, kv=0.1 + number % 2 / 10)) for number in range(9)]
    assert kinds(sawtooth)[-1] == "hung", "it allocates and gives back, and makes no token"


def test_one_token_forgives_all_misses():
    well = replace(HANG, answer=agent.TOKEN, seconds=0.1)
    assert kinds([*[HANG] * 4, well, *[HANG] * 4]) == ["missed"] * 4 + ["well"] + ["missed"] * 4


def test_counters_that_begin_anew_are_progress():
    assert kinds([HANG, HANG, replace(HANG, ranks=flowing(0)), HANG]) == ["missed", "missed", "busy", "missed"]


@pytest.mark.parametrize("active", ["inactive", "deactivating", "activating", "failed", "unknown"])
def test_a_unit_that_is_not_active_is_left_alone(active):
    assert set(kinds([replace(HANG, unit=Unit(active, "start-1"))] * 9)) == {"alone"}


def test_an_engine_that_loads_is_left_alone_for_its_ready_timeout():
    refused = Look(0, UP, agent.REFUSED, agent.NONE, "the port refuses")
    looks = [replace(refused, unit=replace(UP, age_s=25.0 * number)) for number in range(40)]
    found = verdicts(looks)
    assert {kind for kind, _reason in found[:24]} == {"loading"}
    assert found[24] == ("missed", "") and found[28] == ("hung", "refused")
    silent = [replace(look, health=agent.SILENT) for look in looks]
    assert set(kinds(silent)[:24]) == {"loading"}


def test_a_port_that_closes_again_is_systemds_business_as_long_as_a_start_may_take():
    young = replace(UP, age_s=100.0)
    ready, refused = Look(0, young, agent.OK, agent.TOKEN), Look(0, young, agent.REFUSED, agent.NONE)
    assert set(kinds([ready, *[refused] * 9])) == {"well", "loading"}


def test_another_start_of_the_unit_is_counted_from_the_beginning():
    again = replace(HANG, unit=replace(UP, start="start-2"))
    assert kinds([*[HANG] * 4, *[again] * 5]) == ["missed"] * 8 + ["hung"]


def test_an_engine_that_was_ready_once_is_not_loading_though_it_is_young():
    young = replace(UP, age_s=30.0)
    assert kinds([replace(HANG, unit=young)] * 5)[-1] == "hung"


def test_a_scrape_that_fails_is_no_progress_while_health_answers():
    assert verdicts([replace(HANG, ranks=None)] * 5)[-1] == ("hung", "hung")
    assert kinds([replace(HANG, ranks=None)] * 4 + [HANG]) == ["missed"] * 5, "the first counters are compared with nothing"


def test_an_engine_of_which_nothing_answers_gets_twice_the_time():
    assert kinds([Look(0, UP, agent.SILENT, agent.NONE)] * 9) == ["missed"] * 8 + ["hung"]
    assert verdicts([Look(0, UP, agent.SILENT, agent.NONE)] * 9)[-1] == ("hung", "deaf")


def test_an_engine_that_calls_itself_dead_and_stays_is_restarted():
    assert verdicts([Look(0, UP, agent.DEAD, agent.ERROR, ranks=IDLE)] * 5)[-1] == ("hung", "dead")


def test_without_counters_nothing_is_known_and_nothing_done():
    assert set(kinds([replace(HANG, ranks={})] * 20)) == {"blind"}


def test_a_probe_that_is_refused_proves_nothing_unless_requests_wait():
    refused = replace(HANG, answer=agent.ERROR, detail="no token but status 401")
    assert set(kinds([replace(refused, ranks=IDLE)] * 20)) == {"failing"}
    assert verdicts([refused] * 5)[-1] == ("hung", "hung")


def test_a_stuck_rank_is_seen_among_ranks_that_work():
    def look(number, asked="1"):
        ranks = {"0": Rank(5, 0, 0.1, (number,) * 4), "1": Rank(1, 2, 0.1, (7,) * 4)}
        return replace(HANG, rank=asked, ranks=ranks)

    assert verdicts([look(number) for number in range(5)])[-1] == ("hung", "stuck_rank")
    assert set(kinds([look(number, "0") for number in range(5)])[1::2]) == {"busy"}
    assert verdicts([look(0) for _number in range(5)])[-1] == ("hung", "hung"), "no rank moves: the whole engine hangs"


def test_ranks_are_asked_in_turn_and_one_that_missed_again():
    names = ["0", "1", "2"]
    assert [agent.next_rank(names, Trail(), last) for last in ("", "0", "2", "9")] == ["0", "1", "0", "0"]
    assert agent.next_rank(names, Trail(misses=1, rank="1"), "1") == "1"
    assert agent.next_rank(names, Trail(misses=1, rank=""), "") == "0", "asked before the ranks were known"
    assert agent.next_rank(["0"], Trail(), "") == ""
    assert agent.in_order({"10": Rank(), "9": Rank()}) == ["9", "10"]


def test_restarts_are_held_back_for_longer_and_longer_up_to_the_limit_of_a_day():
    config = replace(CONFIG, ready_timeout_s=600, restarts_per_day=9)
    assert agent.hold(config, [], 50.0) == 0.0
    assert [agent.hold(config, [0.0] * count, 0.0) for count in range(1, 8)] == [600, 1200, 2400, 4800, 7200, 7200, 7200]
    assert agent.hold(config, [0.0], 600.0) == 0.0
    assert agent.hold(replace(config, restarts_per_day=2), [1000.0, 5000.0], 20000.0) == 1000.0 + agent.DAY_S - 20000.0
    assert agent.hold(replace(config, restarts_per_day=2), [1000.0, 5000.0], 1000.0 + agent.DAY_S) == 0.0
    assert agent.hold(replace(config, restarts_per_day=0), [], 0.0) > 0.0, "0: it only reports"
    assert agent.hold(replace(config, ready_timeout_s=9000), [0.0, 0.0], 0.0) == 9000, "no less than ready_timeout_s"


# --- reading ---------------------------------------------------------------------------------------------------------

METRICS = '''\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a } b\\",engine=\\"9\\""} 2.0
vllm:num_requests_running{engine="1",model_name="tiny"} 1.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 3.0
vllm:num_requests_waiting{engine="1",model_name="tiny"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="tiny"} NaN
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 1.0e+06
vllm:prompt_tokens_total{engine="0",model_name="other"} 5.0
vllm:prompt_tokens_created{engine="0",model_name="tiny"} 1.795e+09
vllm:generation_tokens_total{engine="0",model_name="tiny"} 7.0
vllm:generation_tokens_total{engine="1",model_name="tiny"} 8.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="tiny"} 4.0
vllm:iteration_tokens_total_count{engine="0",model_name="tiny"} 4.0
vllm:iteration_tokens_total_sum{engine="0",model_name="tiny"} 70.0
vllm:iteration_tokens_total_created{engine="0",model_name="tiny"} 1.795e+09
'''


def test_metrics_are_read_rank_by_rank():
    assert agent.read_metrics(METRICS) == {
        "0": Rank(2.0, 3.0, 0.25, (4.0, 70.0, 7.0, 1000005.0)), "1": Rank(1.0, 0.0, 0.0, (0.0, 0.0, 8.0, 0.0))}


@pytest.mark.parametrize("text", ["", "<html>", "python_info 1.0", "vllm:num_requests_running{} x", "vllm:num_requests_running 1"])
def test_what_holds_no_counters_gives_no_rank(text):
    assert agent.read_metrics(text) == {}


def test_drained_is_no_request_on_any_rank_and_needs_counters():
    assert agent.drained({"0": Rank(), "1": Rank()})
    assert not agent.drained({"0": Rank(), "1": Rank(waiting=1)})
    assert not agent.drained({"0": Rank(running=1)})
    assert not agent.drained({})
