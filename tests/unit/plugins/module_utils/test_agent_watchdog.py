# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that starts a hanging engine anew, and leaves a busy one alone."""
from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import jinja2
import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils import _agent_watchdog as agent
from ansible_collections.idc.llm.plugins.module_utils._agent_watchdog import Account, Config, Look, Unit

from tests.support.watched_engine import Double, House

ROOT = Path(__file__).resolve().parents[4]
CONFIG = Config("tiny-blue-0", "idc-vllm@tiny-blue-0.service", "127.0.0.1", 8000, "tiny")


@pytest.fixture
def engine():
    servers = []

    def start(ranks=1):
        servers.append(Double(ranks))
        return servers[-1]

    yield start
    for server in servers:
        server.open.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def house(tmp_path, monkeypatch):
    made = House(tmp_path, monkeypatch)
    yield made
    made.process.kill()
    made.process.wait()


def looks(dog, count):
    return [dog.tick().kind for _number in range(count)]


# --- watching it -----------------------------------------------------------------------------------------------------


def test_it_asks_for_one_token_with_the_key_and_says_how_long_that_took(house, engine):
    server = engine()
    server.key = secrets.token_hex(16)
    dog = house.watchdog(server, server.key)
    assert looks(dog, 2) == ["well", "well"]
    path, rank, payload = server.seen[0]
    assert (path, rank, payload["max_tokens"], payload["model"]) == ("/v1/completions", None, 1, "tiny")
    assert 0 < house.gauge("probe_seconds") < 5 and house.gauge("misses") == 0 and house.restarts() == 0
    assert len(house.lines) == 1, "what is as before is not said again"
    assert server.key not in "".join(house.lines) and house.did() == []


def test_an_answer_that_pythons_library_closes_with_its_last_byte_is_whole(house, engine, monkeypatch):
    """As Python 3.13's does, on Debian 13: there, each token was taken for silence."""
    def read1(response, size=-1):
        part = before(response, size)
        if len(part) == int(response.headers["Content-Length"]) and not response.isclosed():
            response._close_conn()
        return part

    before = http.client.HTTPResponse.read1
    monkeypatch.setattr(http.client.HTTPResponse, "read1", read1)
    server = engine()
    assert looks(house.watchdog(server), 2) == ["well", "well"]
    assert agent.scrape("127.0.0.1", server.server_port)["0"].tokens[2] == 12
    assert agent.call("127.0.0.1", server.server_port, "/health", 5) == (200, "")


def test_a_hanging_engine_is_recorded_killed_and_counted(house, engine):
    server = engine()
    dog = house.watchdog(server)
    assert looks(dog, 1) == ["well"]
    server.mode = "hung"
    house.process.send_signal(signal.SIGSTOP)  # as a core that takes no signal but SIGKILL
    assert looks(dog, 3) == ["missed", "missed", "hung"]
    assert house.did() == ["kill --signal=SIGKILL idc-vllm@tiny-blue-0.service"]
    assert house.process.wait(10) == -signal.SIGKILL
    assert house.restarts() == 1
    record = (house.folder / "state/tiny-blue-0-1.txt").read_text()
    assert f"process {house.process.pid}: Name: python" in record and "T (stopped)" in record
    assert any("tiny-blue-0-1.txt" in line for line in house.lines)
    assert looks(dog, 2) == ["alone", "alone"], "while systemd brings it up"


def test_a_process_that_still_can_writes_pythons_stacks(house, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(agent, "DUMP_S", 15.0)  # a busy machine
    server = engine()
    server.mode = "hung"
    house.process.kill()
    house.process.wait()
    with open(tmp_path / "journal", "w") as journal:
        code = "import time\ndef deep_in_the_engine():\n    print('up', flush=True); time.sleep(600)\ndeep_in_the_engine()"
        house.process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONFAULTHANDLER": "1"},
                                         stdout=subprocess.PIPE, stderr=journal)
        house.process.stdout.readline()
    (house.folder / "cgroup/unit/cgroup.procs").write_text(f"{house.process.pid}\n")
    house.systemd()
    assert looks(house.watchdog(server), 3)[-1] == "hung"
    assert house.process.wait(10) == -signal.SIGABRT
    assert "deep_in_the_engine" in (tmp_path / "journal").read_text()


def test_a_busy_engine_is_never_touched(house, engine):
    server = engine()
    server.mode, server.ranks[0][1] = "queued", 300
    assert set(looks(house.watchdog(server), 9)) == {"missed", "busy"}
    assert house.did() == [] and house.process.poll() is None
    assert 1 <= sum("busy" in line for line in house.lines) <= 3, "when it is new, not at each look"


def test_an_idle_engine_whose_core_stands_still_is_seen(house, engine):
    server = engine()
    server.mode = "hung"
    assert looks(house.watchdog(server), 3)[-1] == "hung" and house.restarts() == 1


@pytest.mark.parametrize(("mode", "reason", "count"), [("deaf", "deaf", 6), ("dead", "dead", 3)])
def test_other_ways_to_hang(house, engine, mode, reason, count):
    server = engine()
    server.mode = mode
    assert looks(house.watchdog(server), count) == ["missed"] * (count - 1) + ["hung"]
    assert house.restarts(reason) == 1


def test_a_port_that_refuses_for_longer_than_a_start_may_take(house, engine):
    server = engine()
    server.shutdown()
    server.server_close()
    dog = house.watchdog(server)
    house.systemd(ActiveEnterTimestampMonotonic=int((time.monotonic() - 5) * 1e6))
    assert looks(dog, 5) == ["loading"] * 5 and house.did() == []
    house.systemd()
    assert looks(dog, 3)[-1] == "hung" and house.restarts("refused") == 1


def test_a_stopped_or_draining_unit_is_not_even_asked(house, engine):
    server = engine()
    house.systemd(ActiveState="deactivating")
    assert looks(house.watchdog(server), 3) == ["alone"] * 3
    assert server.seen == [] and house.did() == []


def test_without_counters_or_with_a_wrong_key_it_only_reports(house, engine):
    server = engine()
    server.mode = "blind"
    assert looks(house.watchdog(server), 5) == ["blind"] * 5
    server.mode, server.key = "well", "another"
    assert looks(house.watchdog(server), 5) == ["failing"] * 5
    assert house.did() == [] and "status 401" in house.lines[-1]


def test_a_stuck_rank_is_restarted_with_its_drain_time(house, engine):
    server = engine(ranks=3)
    dog = house.watchdog(server)
    assert looks(dog, 5) == ["well"] * 5
    assert [rank for _path, rank, _payload in server.seen] == [None, "0", "1", "2", "0"]
    server.stuck = {1}
    for _number in range(3):
        server.ranks[0][2] += 5  # the others go on
        kind = dog.tick().kind
    assert kind == "hung" and house.restarts("stuck_rank") == 1
    assert house.did() == ["restart --no-block idc-vllm@tiny-blue-0.service"]
    assert house.process.poll() is None, "the answers of the other ranks are under way"


def test_a_unit_that_was_started_anew_meanwhile_is_left_alone(house, engine):
    dog = house.watchdog(engine())
    look = Look(0, Unit("active", "start-0", 10000, house.process.pid, "/unit"))
    dog.restart("hung", look)
    assert house.did() == [] and dog.account.restarts == {} and house.process.poll() is None


def test_the_next_restart_is_held_back_and_the_count_survives_the_watchdog(house, engine):
    server = engine()
    server.mode = "hung"
    assert looks(house.watchdog(server), 3)[-1] == "hung"
    house.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    house.systemd(InvocationID="start-2")
    again = house.watchdog(server)
    assert looks(again, 4) == ["missed", "missed", "hung", "hung"]
    assert house.restarts() == 1 and house.gauge("withheld") == 1 and house.gauge("misses") == 4
    assert house.process.poll() is None
    assert sum("held back for" in line for line in house.lines) == 1


def test_times_of_another_boot_are_dropped_and_the_count_is_kept(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"boot": "b1", "restarts": {"hung": 4}, "at": [5.0]}))
    assert agent.read_account(str(path), "b1") == Account("b1", {"hung": 4}, [5.0])
    assert agent.read_account(str(path), "b2") == Account("b2", {"hung": 4}, [])
    for torn in ('{"boot"', "[]", '{"boot": "b1", "restarts": {"hung": "x"}, "at": []}'):
        path.write_text(torn)
        assert agent.read_account(str(path), "b1") == Account("b1")


def test_a_jump_of_the_clock_changes_nothing(house, engine, monkeypatch):
    server = engine()
    server.mode = "hung"
    dog = house.watchdog(server, hang_s=3600.0)
    jumps = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(agent.time, "time", lambda: next(jumps))
    assert looks(dog, 4) == ["missed"] * 4, "an hour has not passed"


def test_a_full_disk_keeps_no_engine_from_its_restart(house, engine, monkeypatch):
    server = engine()
    server.mode = "hung"
    monkeypatch.setattr(agent.base.tempfile, "mkstemp", Mock(side_effect=OSError(28, "No space left on device")))
    assert looks(house.watchdog(server), 3)[-1] == "hung"
    assert house.process.wait(10) < 0
    assert any("No space left" in line for line in house.lines)


def test_only_the_latest_records_are_kept(house, engine):
    dog = house.watchdog(engine())
    for number in range(agent.RECORDS + 3):
        dog.account.restarts["hung"] = number + 1
        dog._record([os.getpid()], "x")
    kept = sorted(path.name for path in (house.folder / "state").glob("*.txt"))
    assert kept == [f"tiny-blue-0-{number}.txt" for number in range(4, 9)]


def test_a_record_counts_equal_threads_and_is_bounded(house, engine, monkeypatch):
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait, daemon=True) for _number in range(5)]
    for thread in threads:
        thread.start()
    text = "\n".join(agent.stacks([os.getpid(), 2**22 + 1]))
    stop.set()
    assert f"process {os.getpid()}: " in text and "Threads:" in text and " x " in text
    monkeypatch.setattr(agent, "RECORD_LIMIT", 40)
    dog = house.watchdog(engine())
    dog._record([os.getpid()], "x" * 100)
    assert len((house.folder / "state/tiny-blue-0-0.txt").read_text()) == 41


def test_a_systemctl_that_fails_is_told(house, engine):
    dog = house.watchdog(engine())
    (house.folder / "bin/broken").touch()
    dog.restart("stuck_rank", Look(0, Unit("active", "start-1", 10000, house.process.pid, "/unit")))
    assert "failed: 1: Unit not found." in house.lines[-1]


# --- waiting for a drain ---------------------------------------------------------------------------------------------


def test_an_engine_is_drained_when_it_was_calm_for_several_looks(engine):
    server = engine(ranks=2)
    server.ranks[1] = [2, 1, 10]
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        server.ranks[1] = [[1, 0, 10], [0, 0, 10], [0, 1, 10]][len(naps) - 1] if len(naps) < 4 else [0, 0, 10]

    assert agent.wait_drained("127.0.0.1", server.server_port, 100, sleep=sleep) == (True, "0 running, 0 waiting")
    assert len(naps) == 6, "a request that came in between begins the calm anew"


def test_a_drain_that_takes_too_long_says_what_is_left(engine):
    server = engine()
    server.ranks[0] = [2, 1, 10]
    clock = iter([0.0, 0.0, 5.0, 11.0])
    found = agent.wait_drained("127.0.0.1", server.server_port, 10, clock=lambda: next(clock), sleep=lambda _seconds: None)
    assert found == (False, "2 running, 1 waiting")


def test_an_engine_without_counters_is_not_called_drained_and_one_without_a_port_is(engine, monkeypatch):
    monkeypatch.setattr(agent, "LOOK_S", 0.2)
    server = engine()
    server.mode = "blind"
    assert agent.wait_drained("127.0.0.1", server.server_port, 0) == (False, "/metrics has no counters")
    server.shutdown()
    server.server_close()
    assert agent.wait_drained("127.0.0.1", server.server_port, 0) == (True, "nobody listens there")


def test_a_server_that_trickles_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def trickle():
            link, _address = listener.accept()
            with link:
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                for _number in range(200):
                    try:
                        link.sendall(b"x")
                    except OSError:
                        return
                    time.sleep(0.02)

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        with pytest.raises(agent.NoReply) as caught:
            agent.call("", listener.getsockname()[1], "/metrics", 0.2)
        thread.join(10)
    assert not caught.value.refused and not thread.is_alive()


# --- as a program ----------------------------------------------------------------------------------------------------


def test_it_runs_by_itself_and_tells_systemd_that_it_lives(house, engine, tmp_path):
    server = engine()
    server.key = secrets.token_hex(16)
    (tmp_path / "key").write_text(server.key + "\n")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "config.json").write_text(json.dumps(vars(house.config(server, metrics_dir="", key_file=str(tmp_path / "key")))))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    command = [sys.executable, "-I", agent.__file__, "--config", str(tmp_path / "config.json"), "--looks", "2"]
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny-blue-0: a token after ") and server.key not in done.stdout
    assert [listener.recv(100) for _number in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    listener.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"misses": 0}, "misses is 0, wanted a number from 1"),
        ({"hang_s": "90"}, "hang_s is '90'"),
        ({"port": True}, "port is True"),
        ({"colour": "red"}, "colour"),
        ({"key_file": "KEY"}, "can be read by others, wanted mode 0600"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path, capsys, change, words):
    (tmp_path / "key").write_text(secrets.token_hex(16))
    (tmp_path / "key").chmod(0o640)
    values = {**vars(CONFIG), **{name: str(tmp_path / "key") if value == "KEY" else value for name, value in change.items()}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert agent.main(["--config", str(tmp_path / "config.json"), "--looks", "1"]) == 2
    assert words in capsys.readouterr().err


def test_a_key_is_read_from_a_file_of_mode_0600_and_must_fit_a_header(tmp_path):
    key, place = secrets.token_hex(16), tmp_path / "key"
    place.write_text(key + "\n")
    place.chmod(0o600)
    (tmp_path / "config.json").write_text(json.dumps({**vars(CONFIG), "key_file": str(place)}))
    assert agent.read_config(str(tmp_path / "config.json"))[1] == key
    place.write_text(f"{key}\nX-Other: 1")
    with pytest.raises(ValueError, match="forbids"):
        agent.read_config(str(tmp_path / "config.json"))


# --- its unit --------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_unit_and_calls_it_well_shut(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("no systemd-analyze here")
    template = ROOT / "roles/vllm/templates/idc-vllm-watchdog@.service.j2"
    defaults = yaml.safe_load((ROOT / "roles/vllm/defaults/main.yml").read_text())
    fleet = [{"config": {"host": "192.0.2.7"}}, {"config": {}}]
    text = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(template.read_text()).render(
        **defaults, __vllm_lib="/usr/local/lib/idc_llm", __vllm_watchdog_etc="/etc/idc_llm/watchdog", __vllm_watched=fleet)
    assert "IPAddressAllow=localhost 127.0.0.1 192.0.2.7\n" in text and "WatchdogSec=180\n" in text
    unit = tmp_path / "idc-vllm-watchdog@tiny.service"
    unit.write_text(text)
    verified = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = [analyze, "security", "--offline=yes", "--threshold=30", "--no-pager", str(unit)]
    shut = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shut.returncode == 0, shut.stdout + shut.stderr
