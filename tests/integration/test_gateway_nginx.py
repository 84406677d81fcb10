# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may use what and how much, by the role's own configuration in the real nginx; engines that answer stand behind it."""
from __future__ import annotations

import json
import secrets
import threading

import pytest

from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Gateway

KEYS = {name: secrets.token_hex(24) for name in ("one", "two", "none", "slow", "narrow", "small")}
TENANTS = {
    "one": {"keys": [KEYS["one"]], "deployments": ["tiny"]},
    "two": {"keys": [KEYS["two"]], "deployments": ["tiny", "other"]},
    "none": {"keys": [KEYS["none"]], "deployments": ["gone"]},
    "slow": {"keys": [KEYS["slow"]], "deployments": ["tiny"], "limits": {"requests_per_minute": 6, "burst": 2}},
    "narrow": {"keys": [KEYS["narrow"]], "limits": {"deployments": {"tiny": {"concurrent_requests": 2}}}},
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
    house.ask(key=KEYS["two"], body=chat("other"))
    line = house.audit()[-1]
    assert (line["tenant"], line["deployment"], line["path"]) == ("two", "other", "/v1/chat/completions")
    logs = "".join(file.read_text() for file in (house.folder / "log").iterdir())
    assert not any(key in logs for key in (*KEYS.values(), ENGINE_KEY)) and "hello" not in logs
    assert "uninitialized" not in house.errors() and "lua" not in house.errors().lower(), house.errors()
