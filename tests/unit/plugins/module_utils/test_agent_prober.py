# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prober: an engine that hangs behind a healthy /health is out, one that is busy stays, and a token brings it back."""
from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils import _agent_prober as agent
from ansible_collections.idc.llm.plugins.module_utils._agent_balancer import FULL, HELD, LOW, OUT
from ansible_collections.idc.llm.plugins.module_utils._agent_prober import Prober, Settings, Track, decide, held_back_s

from tests.support.gateway_files import ONE, TWO, House
from tests.support.waiting import wait_for
from tests.support.watched_engine import Double

SETTINGS = Settings(misses=2, stall_s=10.0, slow_ms=500.0, slow_probes=3)
AT_ONCE = Settings(interval_s=0.02, timeout_s=0.2, misses=2, stall_s=0.1)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def look(at, answer="token", seconds=0.02, **more):
    """A look of the prober at a given second."""
    unit = agent.watchdog.Unit("active", "there", 3600)
    return agent.watchdog.Look(at, unit, more.pop("health", "ok"), answer, "", seconds, **more)


def silent(at, **more):
    ranks = {"0": agent.watchdog.Rank(running=1.0)}
    return look(at, "none", ranks=more.pop("ranks", ranks), **more)


def through(looks, share=FULL, track=None, others=(0.02, 0.03)):
    """The shares after each look."""
    shares, track = [], track or Track(0)
    for one in looks:
        track, share, _why = decide(SETTINGS, track, one, share, others)
        shares.append(share)
    return shares, track


# --- what a probe means ----------------------------------------------------------------------------------------------


def test_an_engine_that_hangs_is_out_after_its_time_and_in_after_a_token():
    shares, track = through([look(0), silent(1), silent(6), silent(12), silent(15)])
    assert shares == [FULL, FULL, FULL, OUT, OUT]
    assert through([silent(18), look(20)], OUT, track)[0] == [OUT, FULL]


def test_an_engine_that_is_busy_stays_in():
    def busy(at):
        return silent(at, ranks={"0": agent.watchdog.Rank(running=9.0, waiting=9.0, tokens=(float(at), 0.0, 0.0, 0.0))})
    assert through([look(0)] + [busy(at) for at in range(1, 60)])[0] == [FULL] * 60


def test_an_engine_that_nobody_reaches_is_out():
    gone = [look(at, "none", health="refused") for at in (1, 6, 12)]
    assert through(gone)[0] == [FULL, FULL, OUT]


def test_one_that_comes_and_goes_must_be_well_for_longer_each_time():
    assert [held_back_s([0.0] * count, 1.0) for count in range(6)] == [0, 0, 10, 20, 40, 80]
    assert held_back_s([0.0] * 50, 1.0) == 600 and held_back_s([0.0] * 50, 4000.0) == 0
    track = Track(0, outs=(0.0, 50.0, 90.0))
    assert through([look(at) for at in (100, 110, 119, 120)], OUT, track)[0] == [HELD, HELD, HELD, FULL]
    assert through([look(100), look(115), silent(116), look(121)], OUT, track)[0] == [HELD] * 4, "without a pause"
    shares, track = through([look(100), silent(101), silent(107), silent(113), look(114)], OUT, track)
    assert shares == [HELD, HELD, HELD, OUT, HELD] and len(track.outs) == 4, "held back, and out again"


def test_a_slow_one_gets_half_then_nothing_and_comes_back_when_it_is_fast():
    slow, fast = [look(at, seconds=0.8) for at in range(20)], [look(at) for at in range(20, 40)]
    shares, track = through(slow[:7])
    assert shares == [FULL, FULL, LOW, LOW, LOW, OUT, OUT]
    assert through(fast[:1], OUT, track)[0] == [FULL]
    shares, track = through(slow[:3])
    assert through(fast[:4], LOW, track)[0] == [LOW, LOW, FULL, FULL]
    assert through([slow[0], fast[0], slow[1]] * 4)[0] == [FULL] * 12, "only in a row"


def test_where_all_are_slow_there_is_much_to_do():
    slow = [look(at, seconds=2.0) for at in range(20)]
    assert through(slow, others=(1.8, 2.5))[0] == [FULL] * 20
    assert through(slow, others=())[0] == [FULL] * 20, "nor is the last one"
    assert LOW in through(slow, others=(0.9, 0.9))[0]


# --- the prober, with engines that answer ----------------------------------------------------------------------------


@pytest.fixture
def engines():
    servers = [Double(), Double()]
    yield servers
    for server in servers:
        server.open.set()
        server.shutdown()
        server.server_close()


def test_a_hang_behind_a_healthy_health_is_found_and_a_token_ends_it(house, engines, monkeypatch):
    monkeypatch.setattr(agent, "RELOAD_S", 0.0)
    house.plan([replace(server, address="127.0.0.1", port=double.server_port)
                for server, double in zip((ONE, TWO), engines, strict=True)])
    house.balancer.apply()
    key = secrets.token_hex(16)
    for double in engines:
        double.key = key
    prober = Prober(house.balancer, AT_ONCE, key, house.lines.append)
    thread = threading.Thread(target=prober.watch, daemon=True)
    thread.start()
    try:
        engines[0].mode = "hung"
        assert wait_for(lambda: house.down() == ["tiny-blue-0"], 60, 0.02), house.lines
        engines[0].mode = "well"
        engines[0].open.set()
        assert wait_for(lambda: house.down() == [], 60, 0.02), house.lines
        assert house.reloads == 3, "once at first, once for each change"
        house.balancer.say(["tiny-blue-1"], True)
        asked = len(engines[1].seen)
        engines[1].mode = "hung"
        assert not wait_for(lambda: house.state("tiny-blue-1").share != FULL, 0.6, 0.02), "who is drained is left alone"
        assert len(engines[1].seen) <= asked + 1
    finally:
        prober.stop()
        thread.join()
    assert [line.partition(":")[0] for line in house.lines] == ["tiny-blue-0"] * 2


@pytest.mark.parametrize(("text", "said"), [
    ("", "Expecting value"), ('{"no": 1}', "'no'"), ('{"stall_s": "soon"}', "stall_s is 'soon', wanted a number from 0"),
    ('{"misses": 0}', "misses is 0, wanted a number from 1"), ('{"key_file": "/nonexistent"}', "/nonexistent"),
])
def test_what_cannot_be_used_is_said(tmp_path, capsys, text, said):
    (tmp_path / "prober.json").write_text(text)
    assert agent.main(["--config", str(tmp_path / "prober.json")]) == 2
    assert said in capsys.readouterr().err


def test_a_key_that_others_can_read_is_refused(tmp_path, capsys):
    key = tmp_path / "key"
    key.write_text(secrets.token_hex(16))
    key.chmod(0o644)
    (tmp_path / "prober.json").write_text(json.dumps({"key_file": str(key)}))
    assert agent.main(["--config", str(tmp_path / "prober.json")]) == 2
    assert "0600" in capsys.readouterr().err


def test_systemd_takes_the_unit_and_calls_it_well_shut(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("no systemd-analyze here")
    role = Path(__file__).resolve().parents[4] / "roles/gateway"
    values = {}
    for name in ("defaults", "vars"):
        values.update(yaml.safe_load((role / name / "main.yml").read_text()))
    plan = {"gateway": {"upstreams": [{"servers": [{"address": "192.0.2.7"}, {"address": "192.0.2.6"}]}]}}
    text = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        (role / "templates/idc-llm-prober.service.j2").read_text()).render(**{**values, "idc_llm_plan": plan})
    assert "IPAddressAllow=localhost 192.0.2.6 192.0.2.7\n" in text
    unit = tmp_path / "idc-llm-prober.service"
    unit.write_text(text)
    verified = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    shut = subprocess.run([analyze, "security", "--offline=yes", "--threshold=30", "--no-pager", str(unit)], capture_output=True,
                          text=True, check=False)
    assert shut.returncode == 0, shut.stdout + shut.stderr
