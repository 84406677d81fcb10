# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engines nginx sends requests to: what the operator says and what the prober finds never overwrite each other."""
from __future__ import annotations

import json
import ssl
import subprocess
import threading
from dataclasses import replace

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_balancer as agent
from ansible_collections.idc.llm.plugins.module_utils._agent_balancer import (
    HEALTH,
    HELD,
    LOW,
    OUT,
    Refused,
    Server,
    State,
    render,
    texts,
)

from tests.support.gateway_files import ONE, TWO, House
from tests.support.openai_server import serve


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


# --- what nginx reads ------------------------------------------------------------------------------------------------


def test_an_engine_stands_in_nginx_as_plan_operator_and_prober_say():
    servers = [replace(ONE, weight=3), TWO, Server("tiny-blue-2", "tiny", "fd00::7", 8001)]
    states = {"tiny-blue-0": State(share=LOW), "tiny-blue-1": State(drained=True), "tiny-blue-2": State(share=OUT)}
    assert render("tiny", servers, states).splitlines()[1:] == [
        "server 192.0.2.1:8000 weight=15 max_fails=2 fail_timeout=5s; # tiny-blue-0",
        "server 192.0.2.2:8000 weight=10 max_fails=2 fail_timeout=5s down; # tiny-blue-1",
        "server [fd00::7]:8001 weight=10 max_fails=2 fail_timeout=5s down; # tiny-blue-2"]
    states = {"tiny-blue-1": State(share=HELD), "tiny-blue-2": State(share=HELD)}
    assert [line.partition("fail_timeout=5s")[2] for line in render("tiny", servers, states).splitlines()[1:]] == [
        "; # tiny-blue-0", " backup; # tiny-blue-1", " backup; # tiny-blue-2"]
    sticky = [replace(server, max_conns=4) for server in servers]
    lines = texts({"tiny": sticky}, states)["tiny.sticky.conf"].splitlines()[1:]
    assert [line.partition("fail_timeout=5s")[2] for line in lines] == [
        " max_conns=4; # tiny-blue-0", " max_conns=4; # tiny-blue-1", " max_conns=4; # tiny-blue-2"], "a hash knows no backup"
    assert set(texts({"tiny": sticky, "other": servers[:2]}, states)) == {
        "tiny.conf", "tiny.sticky.conf", "other.conf", HEALTH}
    assert "backup" not in render("tiny", [TWO], states), "somebody must be first"
    assert render("tiny", [], {}).splitlines()[1:] == ["server 127.0.0.1:9 down;"], "nginx wants one"


def test_behind_a_canary_stand_the_engines_in_whose_place_it_is_tried():
    canary = replace(ONE, engine="next-blue-0", deployment="next", behind="tiny")
    found = texts({"tiny": [ONE, TWO], "next": [canary]}, {"tiny-blue-1": State(drained=True), "next-blue-0": State(share=OUT)})
    assert [line.partition("fail_timeout=5s")[2] for line in found["next.tried.conf"].splitlines()[1:]] == [
        " down; # next-blue-0", " backup; # tiny-blue-0", " down; # tiny-blue-1"]
    assert "next" not in found["tiny.conf"] and set(found) == {"tiny.conf", "next.conf", "next.tried.conf", HEALTH}
    assert "tiny-blue" not in found["next.conf"], "who asks for it by name gets no other"


@pytest.mark.parametrize(("drained", "status", "serving"), [
    ([], "ok", 2), (["tiny-blue-0"], "ok", 2), (["tiny-blue-0", "tiny-blue-1"], "degraded", 1),
    (["tiny-blue-0", "tiny-blue-1", "more-blue-0"], "down", 0)])
def test_health_says_how_many_deployments_have_an_engine(drained, status, serving):
    upstreams = {"tiny": [ONE, TWO], "more": [replace(ONE, engine="more-blue-0", deployment="more")]}
    said = texts(upstreams, {engine: State(drained=True) for engine in drained})[HEALTH].splitlines()[1]
    answer = json.loads(said.removeprefix("return 200 '").removesuffix("';"))
    assert answer == {"status": status, "deployments": {"all": 2, "serving": serving}}


# --- who wins --------------------------------------------------------------------------------------------------------


def test_drain_and_undrain_reload_once_each_and_a_second_word_changes_nothing(house):
    wanted = [f"{house.folder}/nginx/engines/{name}" for name in ("_health.conf", "tiny.conf")]
    assert house.balancer.apply() == wanted and house.reloads == 1
    assert house.balancer.apply() == [] and house.reloads == 1
    assert house.balancer.say(["tiny-blue-0"], True, check=True) != [] and house.down() == []
    assert house.balancer.say(["tiny-blue-0", "no-such-engine"], True) != [] and house.down() == ["tiny-blue-0"]
    assert house.balancer.say(["tiny-blue-0"], True) == [] and house.reloads == 2
    assert house.balancer.say(["tiny-blue-0"], False) != [] and house.down() == [] and house.reloads == 3
    assert not (house.folder / "nginx/reload-pending").exists()


def test_a_probe_that_began_before_the_operator_spoke_has_no_say_after_it(house):
    house.balancer.apply()
    epoch = house.state("tiny-blue-0").epoch
    house.balancer.say(["tiny-blue-0"], True)
    assert not house.balancer.judge("tiny-blue-0", epoch, OUT, "hung")
    house.balancer.say(["tiny-blue-0"], False)
    assert not house.balancer.judge("tiny-blue-0", epoch, OUT, "hung") and house.down() == []
    assert house.balancer.judge("tiny-blue-0", house.state("tiny-blue-0").epoch, OUT, "hung") and house.down() == ["tiny-blue-0"]
    house.balancer.say(["tiny-blue-1"], True)
    assert house.down() == ["tiny-blue-0", "tiny-blue-1"], "a drain keeps what the prober found"
    house.balancer.say(["tiny-blue-0"], False)
    assert house.down() == ["tiny-blue-1"], "who lets an engine in again has proven it"


def test_the_last_one_is_not_taken_out_for_being_slow_but_for_hanging(house):
    house.balancer.apply()
    house.balancer.say(["tiny-blue-1"], True)
    assert not house.balancer.judge("tiny-blue-0", 0, OUT, "10 slow ones in a row", may_be_last=False)
    assert house.balancer.judge("tiny-blue-0", 0, OUT, "no progress: hung") and len(house.down()) == 2


def test_many_at_once_lose_no_word(house):
    house.plan([Server(f"e{number}", "tiny", "192.0.2.9", 8000 + number) for number in range(16)])
    threads = [threading.Thread(target=house.balancer.say, args=([f"e{number}"], True)) for number in range(0, 16, 2)]
    threads += [threading.Thread(target=house.balancer.judge, args=(f"e{number}", 0, OUT, "hung")) for number in range(1, 16, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(house.down()) == sorted(f"e{number}" for number in range(16))


def test_an_undrain_of_what_is_not_drained_leaves_a_slow_one_as_it_is(house):
    house.balancer.apply()
    house.balancer.judge("tiny-blue-0", 0, LOW, "3 slow ones in a row")
    reloads = house.reloads
    assert house.balancer.say(["tiny-blue-0", "tiny-blue-1"], False) == [] and house.reloads == reloads
    assert house.state("tiny-blue-0").share == LOW, "a run that changes nothing changes nothing"


# --- what keepalived asks ---------------------------------------------------------------------------------------------


def test_somebody_has_an_engine_unless_all_are_out_or_drained(house):
    out, drained = State(share=OUT), State(drained=True)
    assert agent.alive([out, drained, State()]) and agent.alive([out, State(share=HELD)])
    assert not agent.alive([out, drained]) and not agent.alive([])
    assert agent.main(["alive", "--engines", house.places.engines]) == 0
    house.plan([])
    assert agent.main(["alive", "--engines", house.places.engines]) == 1


def test_a_door_answers_over_tls_or_it_is_shut(tmp_path):
    files = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=gateway", "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    with serve(context=context) as nginx:
        assert agent.main(["door", f"--port={nginx.server_port}"]) == 0
        port = nginx.server_port
    assert agent.main(["door", f"--port={port}"]) == 1, "nobody listens"


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_nginx_refuses_is_put_back(house):
    house.balancer.apply()
    before = house.live()
    house.refuses = "host not found"
    with pytest.raises(Refused, match="host not found"):
        house.balancer.say(["tiny-blue-0"], True)
    assert house.live() == before and not (house.folder / "nginx/reload-pending").exists()


def test_a_run_that_was_killed_before_the_reload_is_made_good(house):
    house.balancer.apply()
    (house.folder / "nginx/reload-pending").write_text("")
    assert house.balancer.apply() == [] and house.reloads == 2
    assert house.balancer.apply() == [] and house.reloads == 2


def test_torn_and_stale_states_mean_nothing(house):
    house.balancer.say(["tiny-blue-0"], True)
    states = house.folder / "states"
    (states / "tiny-blue-0.json").write_text('{"drained": tr')
    (states / "gone.json").write_text("{}")
    house.balancer.apply()
    assert house.down() == [] and not (states / "gone.json").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"upstreams": [{"deployment": "x", "servers": [{"no": 1}]}]}'])
def test_a_file_of_the_role_that_cannot_be_read_changes_nothing(house, text, capsys):
    house.balancer.apply()
    before = house.live()
    (house.folder / "engines.json").write_text(text)
    assert agent.main(["status", "--engines", house.places.engines]) == 2
    assert "cannot go on" in capsys.readouterr().err and house.live() == before
