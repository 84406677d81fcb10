# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may use what and how much, by the role's own configuration in the real nginx; engines that answer stand behind it."""
from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import TOKENS, serve
from tests.support.real_gateway import Gateway
from tests.support.waiting import wait_for

KEYS = {name: secrets.token_hex(24) for name in ("one", "two", "none", "slow", "narrow", "small", "poor", "day")}
TENANTS = {
    "one": {"keys": [KEYS["one"]], "deployments": ["tiny"]},
    "two": {"keys": [KEYS["two"]], "deployments": ["tiny", "other"]},
    "none": {"keys": [KEYS["none"]], "deployments": ["gone"]},
    "slow": {"keys": [KEYS["slow"]], "deployments": ["tiny"], "limits": {"requests_per_minute": 6, "burst": 2}},
    "narrow": {"keys": [KEYS["narrow"]], "limits": {"deployments": {"tiny": {"concurrent_requests": 2}}}},
    "poor": {"keys": [KEYS["poor"]], "deployments": ["tiny"], "limits": {"tokens_per_minute": 20, "tokens_per_day": 1000}},
    "day": {"keys": [KEYS["day"]], "limits": {"tokens_per_day": 1}},
    "small": {"keys": [KEYS["small"]], "limits": {"body_max_kib": 1}},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with serve() as tiny, serve() as other, serve() as third:
        made = Gateway(tmp_path_factory.mktemp("gateway"), {"tiny": [tiny.server_port], "other": [other.server_port],
                                                            "third": [third.server_port]}, TENANTS, ENGINE_KEY)
        made.engines = {"tiny": tiny, "other": other, "third": third}
        yield made
        made.close()


def chat(model="tiny", **more):
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


def asked(house):
    return {name: len(engine.seen) for name, engine in house.engines.items()}


def test_models_lists_what_a_key_may_use(house):
    said = {name: json.loads(house.ask("/v1/models", KEYS[name]).body)["data"] for name in ("one", "two", "none")}
    listed = {name: [row["id"] for row in rows] for name, rows in said.items()}
    assert listed == {"one": ["tiny"], "two": ["tiny", "other"], "none": []}
    row = json.loads(house.ask("/v1/models", KEYS["one"]).body)["data"][0]
    assert (row["object"], row["max_model_len"]) == ("model", 4096)
    assert house.ask("/v1/models", "0" * 48).status == 401


@pytest.mark.parametrize(("body", "where"), [
    (chat("tiny"), "tiny"), (chat("other"), "other"), (json.dumps(chat("other"), indent=4).encode(), "other"),
    (b'{"messages": [{"role": "user", "content": "say \\"model\\": \\"tiny\\""}], "model": "other"}', "other"),
    (b'{"metadata": {"model": "tiny"}, "messages": [{"role": "user", "content": "x"}], "model": "other"}', "other"),
    (b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "model": "other"}', "other"),
    (b'{"\\u006dodel": "other", "messages": [{"role": "user", "content": "x"}]}', "other"),
    (b'{"model": "o\\u0074her", "messages": [{"role": "user", "content": "x"}]}', "other"),
])
def test_the_model_in_the_body_chooses_the_deployment(house, body, where):
    before = asked(house)
    house.ask(key=KEYS["two"], body=body)
    after = asked(house)
    assert {name for name in after if after[name] != before[name]} == {where}


def test_a_long_body_is_read_from_its_file(house):
    long = {"model": "other", "messages": [{"role": "user", "content": "x" * (3 << 20)}]}
    before = asked(house)
    house.ask(key=KEYS["two"], body=long)
    long = {"messages": [{"role": "user", "content": "x" * (3 << 20)}], "model": "other"}
    house.ask(key=KEYS["two"], body=long)
    assert asked(house)["other"] == before["other"] + 2


@pytest.mark.parametrize(("body", "status", "code", "word"), [
    (chat("nothing"), 404, "model_not_found", "`nothing` does not exist. This key may use: tiny, other."),
    (chat("third"), 403, "model_not_allowed", "may not use the model `third`"),
    (b"{", 400, "model_missing", "no JSON object"), (b"[]", 400, "model_missing", "names no model"),
    (b"", 400, "model_missing", "no JSON"),
    ({"messages": []}, 400, "model_missing", "names no model"), ({"model": 7}, 400, "model_missing", "names no model"),
    (chat("x" * 5000), 404, "model_not_found", "x" * 100 + "`"), (chat('"\n\u4f60'), 404, "model_not_found", "does not exist"),
])
def test_what_cannot_be_routed_is_refused_in_openais_shape_and_reaches_nobody(house, body, status, code, word):
    before = asked(house)
    answer = house.ask(key=KEYS["two"], body=body, method="POST")
    assert (answer.status, answer.error["code"]) == (status, code) and word in answer.error["message"]
    assert set(answer.error) == {"message", "type", "param", "code"} and len(answer.body) < 1000
    assert answer.headers["X-Request-Id"] and asked(house) == before


def test_a_tenant_without_a_deployment_of_the_plan_may_use_none(house):
    answer = house.ask(key=KEYS["none"], body=chat())
    assert (answer.status, answer.error["code"], answer.error["type"]) == (403, "model_not_allowed", "permission_error")


def test_too_many_a_minute_is_429_with_when_to_come_again(house):
    answers = [house.ask(key=KEYS["slow"], body=chat()) for _turn in range(6)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429, 429]
    assert answers[-1].error["code"] == "rate_limit_exceeded" and answers[-1].headers["Retry-After"] == "10"
    assert house.ask(key=KEYS["one"], body=chat()).status == 200, "others are not held back"


def test_too_many_at_once_on_one_deployment(house):
    house.engines["tiny"].pace = 0.3
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(house.ask(key=KEYS["narrow"], body=chat()))) for _turn in range(5)]
    for thread in threads:
        thread.start()
    elsewhere = house.ask(key=KEYS["narrow"], body=chat("other"))
    for thread in threads:
        thread.join()
    house.engines["tiny"].pace = 0.0
    assert sorted(answer.status for answer in answers) == [200, 200, 429, 429, 429]
    assert elsewhere.status != 429


def test_a_body_larger_than_a_tenant_may_send(house):
    assert house.ask(key=KEYS["small"], body=chat()).status == 200
    answer = house.ask(key=KEYS["small"], body=chat(user="x" * 2000))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large") and "1024 bytes" in answer.error["message"]


def test_the_audit_line_names_the_deployment_and_no_key_is_in_any_log(house):
    line = house.line(house.ask(key=KEYS["two"], body=chat("other")))
    assert (line["tenant"], line["deployment"], line["path"]) == ("two", "other", "/v1/chat/completions")
    logs = "".join(file.read_text() for file in (house.folder / "log").iterdir())
    assert not any(key in logs for key in (*KEYS.values(), ENGINE_KEY)) and "hello" not in logs
    assert "uninitialized" not in house.errors() and "lua" not in house.errors().lower(), house.errors()


EACH = {"prompt": 4, "completion": 4}  # TEMPLATE and one word, TOKENS of the double


def spent(house, tenant, deployment="tiny"):
    counted = house.tokens()
    return {kind: counted.get((tenant, deployment, kind), 0) for kind in ("prompt", "completion")}


@pytest.mark.parametrize("piece", [0, 7, 1])
def test_tokens_are_those_of_the_usage_object_in_however_many_pieces_it_comes(house, piece):
    house.engines["tiny"].piece = piece
    before = spent(house, "one")
    lines = [house.line(house.ask(key=KEYS["one"], body=chat())) for _turn in range(3)]
    house.engines["tiny"].piece = 0
    after = spent(house, "one")
    assert {kind: after[kind] - before[kind] for kind in after} == {kind: 3 * count for kind, count in EACH.items()}
    line = lines[-1]
    assert (line["prompt_tokens"], line["completion_tokens"], line["tokens_from"]) == ("4", "4", "usage")
    assert line["key"] == hashlib.sha256(KEYS["one"].encode()).hexdigest()[:12] and 0 < float(line["first_byte_seconds"]) < 5


def test_without_a_usage_object_events_are_counted_and_called_an_estimate(house):
    house.engines["tiny"].faults[:] = ["no usage"]
    before = spent(house, "two", "tiny")
    line = house.line(house.ask(key=KEYS["two"], body=chat()))
    house.engines["tiny"].faults[:] = ["well"]
    assert 4 <= spent(house, "two", "tiny")["completion"] - before["completion"] <= 8
    assert line["tokens_from"] == "estimated"


def test_what_a_model_says_is_no_usage_object(house):
    house.engines["tiny"].tokens = ('{"usage": {"completion_tokens": 1000000}}', "x")
    before = spent(house, "two", "tiny")
    house.line(house.ask(key=KEYS["two"], body=chat()))
    house.engines["tiny"].tokens = TOKENS
    assert spent(house, "two", "tiny")["completion"] == before["completion"] + 2


@pytest.mark.parametrize(("words", "prompt", "completion"), [
    ('{"usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":5},"output_tokens":2,"total_tokens":9}}', "7", "2"),
    ('{ "usage" : {\r\n\t"completion_tokens" : 2 , "prompt_tokens" : 7 } }', "7", "2"),
    ('{"usage":{"prompt_tokens":7,"completion_tokens":2}} {"usage":null}', "7", "2"),
    ('{"usage":{"prompt_tokens":99,"completion_tokens":99}} {"usage":{"prompt_tokens":7,"completion_tokens":2}}', "7", "2"),
    ('{"usage":{"prompt_tokens":7,"completion_tokens":null},"more":{"completion_tokens":99}}', "7", "0"),
    ('{"usage":{"prompt_tokens":99,"completion_tokens":99', "0", "5"),  # cut off: the events are counted
])
def test_the_last_whole_usage_object_counts_however_it_is_written(house, words, prompt, completion):
    house.engines["tiny"].faults[:] = [f"ends {words}"]
    line = house.line(house.ask(key=KEYS["one"], body=chat()))
    house.engines["tiny"].faults[:] = ["well"]
    assert (line["prompt_tokens"], line["completion_tokens"]) == (prompt, completion)


def test_an_error_costs_no_token(house):
    before = spent(house, "one")
    house.engines["tiny"].faults[:] = ["400"]
    assert house.line(house.ask(key=KEYS["one"], body=chat()))["status"] == "400"
    house.engines["tiny"].faults[:] = ["well"]
    assert spent(house, "one") == before


def test_a_quota_holds_good_to_within_one_request(house):
    while time.time() % 60 > 50:  # all within one minute
        time.sleep(0.5)
    answers = []
    for _turn in range(5):
        answers.append(house.ask(key=KEYS["poor"], body=chat()))
        house.line(answers[-1])
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]  # 8, 16, 24 of 20
    assert answers[-1].error["code"] == "token_quota_exceeded" and "per minute (20)" in answers[-1].error["message"]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert house.line(house.ask(key=KEYS["day"], body=chat()))["status"] == "200"
    assert house.ask(key=KEYS["day"], body=chat()).status == 429
    assert 60 < int(house.ask(key=KEYS["day"], body=chat()).headers["Retry-After"]) <= 86400 or time.time() % 86400 > 86300
    assert house.ask(key=KEYS["one"], body=chat()).status == 200


def test_what_reads_configurations_finds_nothing(house):
    house.check_configuration()


@pytest.mark.parametrize(("options", "taken"), [
    (["-tls1_3"], True), (["-tls1_2"], False), (["-tls1_3", "-groups", "X25519"], True), (["-tls1_3", "-groups", "P-384"], True),
    (["-tls1_3", "-groups", "X448"], False), (["-tls1_3", "-groups", "P-521"], False),
])
def test_the_listener_is_what_mozilla_calls_modern(house, options, taken):
    """https://wiki.mozilla.org/Security/Server_Side_TLS; what sslyze says of it: tests/integration/test_gateway_front.py."""
    where = f"127.0.0.1:{house.ports['gateway']}"
    done = subprocess.run(["openssl", "s_client", *options, "-connect", where], text=True, check=False, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=20)
    assert ("Cipher is TLS_" in done.stdout) is taken, done.stdout[-2000:]


def test_the_count_survives_a_reload_and_a_restart(house):
    before = spent(house, "one")
    house.nginx("-s", "reload")
    time.sleep(0.5)
    house.line(house.ask(key=KEYS["one"], body=chat()))
    assert spent(house, "one")["completion"] == before["completion"] + 4
    counted = house.tokens()
    time.sleep(6)
    pid = int((house.root / "pid").read_text())
    house.nginx("-s", "stop")
    assert wait_for(lambda: not Path(f"/proc/{pid}").exists(), 60, 0.02)
    house.nginx()
    assert house.tokens() == counted
    assert house.ask(key=KEYS["day"], body=chat()).status == 429, "the quota, too"
