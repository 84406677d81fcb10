# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the follower of a rank's head decides, and the program that starts the rank anew."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils import _agent_follower as agent
from ansible_collections.idc.llm.plugins.module_utils._agent_follower import (
    HEALTHY,
    REFUSED,
    SILENT,
    Account,
    Config,
    Look,
    Trail,
    Unit,
)

ROOT = Path(__file__).resolve().parents[4]
CONFIG = Config("r1-blue-0-rank1", "idc-vllm@r1-blue-0-rank1.service", "10.0.0.1", 8000)
AGE = {"old": 5000.0, "young": 30.0}


def verdicts(heads, ages=(), starts=(), every=3.0, config=CONFIG):
    """The verdict of each look: what the head says (or (what, its start)), ``every`` seconds apart."""
    trail, found = Trail(), []
    for number, head in enumerate(heads):
        said, born = head if isinstance(head, tuple) else (head, 1.5e9)
        unit = Unit("active", starts[number] if starts else "s1", ages[number] if ages else AGE["old"])
        trail, verdict = agent.judge(config, trail, Look(number * every, unit, said, born if said == HEALTHY else None))
        found.append(verdict.reason or verdict.kind)
    return found


# --- deciding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("why", "heads", "expected"), [
    ("a head that serves is followed", [HEALTHY] * 3, ["following"] * 3),
    ("nobody listens for 10 s where a head was healthy", [HEALTHY, *[REFUSED] * 5],
     ["following", "missed", "missed", "missed", "missed", "gone"]),
    ("a port that refuses for less than that is not gone", [HEALTHY, *[REFUSED] * 4, HEALTHY, *[REFUSED] * 4],
     ["following", *["missed"] * 4] * 2),
    ("a network that is cut proves nothing, however long", [HEALTHY, *[SILENT] * 500], ["following", *["cut"] * 500]),
    ("what refuses in between does not count on", [HEALTHY, *[REFUSED] * 4, SILENT, *[REFUSED] * 4],
     ["following", *["missed"] * 4, "cut", *["missed"] * 4]),
    ("another process answers there", [(HEALTHY, 100.0), SILENT, (HEALTHY, 200.0)], ["following", "cut", "replaced"]),
    ("several API servers do not say their start", [(HEALTHY, None), (HEALTHY, None), (HEALTHY, 7.0), (HEALTHY, None)],
     ["following"] * 4),
    ("a host that is off is waited for", [SILENT] * 400, ["cut"] * 400),
])
def test_a_head_has_gone_or_not(why, heads, expected):
    assert verdicts(heads) == expected, why


def test_a_rank_that_loads_is_left_alone_for_its_ready_timeout_and_then_begins_anew():
    ages = [60.0 * number for number in range(20)]
    found = verdicts([REFUSED] * 20, ages, every=60.0)
    assert found[:11] == ["loading"] * 11 and found[11] == "stuck", "660 s"
    assert verdicts([REFUSED, REFUSED], [700.0, 703.0]) == ["missed"] * 2, "refused once proves nothing"
    assert set(verdicts([SILENT] * 20, ages, every=60.0)) == {"cut"}


def test_another_start_of_the_rank_has_met_nobody_yet():
    ages = [AGE["old"], *[AGE["young"]] * 9]
    assert verdicts([HEALTHY, *[REFUSED] * 9], ages, ["s1", *["s2"] * 9]) == ["following", *["loading"] * 9]


def test_a_rank_that_came_back_under_the_old_head_follows_that_and_leaves_it():
    """Rank 1 died; its head answers /metrics until the next request, at which it dies, too."""
    ages = [AGE["young"]] * 8
    assert verdicts([HEALTHY, HEALTHY, *[REFUSED] * 6], ages, ["s1", *["s2"] * 7])[-1] == "gone"


@pytest.mark.parametrize("active", ["inactive", "deactivating", "activating", "failed", "unknown"])
def test_a_unit_that_is_not_active_is_left_alone_and_forgotten(active):
    trail, verdict = agent.judge(CONFIG, Trail("s1", True, 1.0, 0.0), Look(900.0, Unit(active, "s1"), REFUSED))
    assert (trail, verdict.kind) == (Trail(), "alone")


def test_restarts_come_later_and_later_but_never_end():
    waits, at, now = [], [], 0.0
    for _number in range(8):
        wait = agent.hold(CONFIG, at, now)
        waits.append(wait)
        now += wait
        at.append(now)
    assert waits == [0.0, 60.0, 120.0, 240.0, 480.0, 660.0, 660.0, 660.0]
    assert agent.hold(CONFIG, [0.0] * 50, 3600.0) == 0.0, "an hour is forgiven"
    assert agent.hold(replace(CONFIG, ready_timeout_s=9000.0), [0.0] * 50, 8999.0) == 1.0, "but a load is never cut short"


# --- the program -----------------------------------------------------------------------------------------------------


SYSTEMCTL = '''\
#!/bin/sh
here=$(dirname "$0")
echo "$@" >> "$here/calls"
case $1 in
show) cat "$here/show" ;;
kill) [ ! -e "$here/broken" ] || { echo "Access denied"; exit 4; } ;;
esac
'''


class Head(BaseHTTPRequestHandler):
    """A head's /metrics."""

    status, text, seconds = 200, "process_start_time_seconds 1.79535882931e+09\n", 0.0

    def log_message(self, *_args):
        """Say nothing."""

    def do_GET(self):
        time.sleep(self.seconds)
        self.send_response(self.status if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(("vllm:x 1\n" + self.text).encode())


class Place:
    """A rank's host: a systemd that is one file, and a head that can be started and stopped."""

    def __init__(self, folder):
        self.folder, self.lines, self.server, self.port = folder, [], None, 0
        for name in ("bin", "state", "metrics"):
            (folder / name).mkdir()
        (folder / "bin/systemctl").write_text(SYSTEMCTL)
        (folder / "bin/systemctl").chmod(0o755)
        self.systemd()

    def systemd(self, start="s1", active="active", age=100.0):
        entered = int((time.monotonic() - age) * 1e6)
        show = {"ActiveState": active, "InvocationID": start, "ActiveEnterTimestampMonotonic": entered}
        (self.folder / "bin/show").write_text("".join(f"{key}={value}\n" for key, value in show.items()))

    def head(self, **faces):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Now", (Head,), faces))
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def gone(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def follower(self, **changed):
        values = {"engine": "r1-blue-0-rank1", "unit": "rank.service", "host": "127.0.0.1", "port": self.port, "gone_s": 0.0,
                  "timeout_s": 0.3, "state_dir": f"{self.folder}/state", "metrics_dir": f"{self.folder}/metrics", **changed}
        return agent.Follower(Config(**values), self.lines.append)

    def kills(self):
        return [call for call in (self.folder / "bin/calls").read_text().splitlines() if not call.startswith("show ")]

    def metric(self, name):
        lines = (self.folder / "metrics/idc_llm_follower_r1-blue-0-rank1.prom").read_text().splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"idc_llm_follower_{name}"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    made = Place(tmp_path)
    yield made
    made.gone()


@pytest.mark.parametrize(("faces", "expected"), [
    ({}, (HEALTHY, 1795358829.31)), ({"text": ""}, (HEALTHY, None)),
    ({"text": "process_start_time_seconds what\n"}, (HEALTHY, None)), ({"status": 503}, (SILENT, 1795358829.31)),
    ({"seconds": 1.0}, (SILENT, None)), (None, (REFUSED, None))])
def test_what_a_head_says(place, faces, expected):
    place.head(**faces or {})
    if faces is None:
        place.gone()
    assert agent.ask("127.0.0.1", place.port, 0.3) == expected


def test_the_rank_is_ended_once_when_its_head_has_gone_and_waits_for_the_next(place):
    place.head()
    follower = place.follower()
    assert follower.tick().kind == "following" and place.metric("head_healthy") == 1
    place.gone()
    assert follower.tick().reason == "gone"
    assert place.kills() == ["kill --signal=SIGKILL rank.service"]
    assert place.metric('restarts_total{engine="r1-blue-0-rank1",reason="gone"}') == 1 and place.metric("head_healthy") == 0
    place.systemd("s2", age=1.0)
    assert [follower.tick().kind for _look in range(3)] == ["loading"] * 3
    place.head()
    assert follower.tick().kind == "following" and len(place.kills()) == 1
    said = "\n".join(place.lines)
    assert "was healthy and has gone" in said and len(place.lines) == 4, "what is as before is not said again"


def test_a_second_one_soon_after_is_held_back(place):
    place.head()
    follower = place.follower()
    for number in range(2):
        follower.tick()
        place.gone()
        follower.tick()
        place.systemd(f"s{number + 2}")
        place.head()
    assert len(place.kills()) == 1 and place.metric("withheld") == 1
    assert "held back for" in place.lines[-1]


def test_it_only_says_what_it_would_do_where_it_may_not(place):
    place.head()
    follower = place.follower(restarts=False)
    follower.tick()
    place.gone()
    assert follower.tick().reason == "gone" and place.kills() == [] and place.metric("withheld") == 1


def test_what_it_met_outlives_it_and_only_for_that_start(place):
    place.head()
    place.follower().tick()
    place.gone()
    place.systemd("s2")
    assert place.follower().tick().kind == "loading", "another start"
    place.systemd("s1")
    assert place.follower().tick().reason == "gone"
    assert place.follower().account.restarts == {"gone": 1} and place.follower().account.met == ""


def test_a_rank_that_is_another_by_now_is_left_alone(place, monkeypatch):
    place.head()
    follower = place.follower()
    follower.tick()
    place.gone()
    real = agent.judge

    def slowly(*given):
        result = real(*given)
        place.systemd("s2")
        return result

    monkeypatch.setattr(agent, "judge", slowly)
    follower.tick()
    assert place.kills() == [] and place.lines[-1].endswith("left alone")


def test_a_full_disk_or_a_systemd_that_refuses_is_said_and_survived(place):
    place.head()
    follower = place.follower()
    follower.tick()
    place.gone()
    shutil.rmtree(place.folder / "state")
    (place.folder / "bin/broken").touch()
    assert follower.tick().reason == "gone"
    assert place.kills() == ["kill --signal=SIGKILL rank.service"]
    assert any("cannot be written" in line for line in place.lines) and "Access denied" in place.lines[-1]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": "b", "met": "s1", "restarts": [], "at": []}'])
def test_a_torn_account_is_begun_anew_and_times_of_another_boot_are_dropped(tmp_path, text):
    path = tmp_path / "account.json"
    path.write_text(text)
    assert agent.read_account(str(path), "b") == Account("b")
    path.write_text(json.dumps({"boot": "before", "met": "s1", "restarts": {"gone": 3}, "at": [5.0]}))
    assert agent.read_account(str(path), "b") == Account("b", "", {"gone": 3})


def run(folder, values):
    """The program as its unit starts it, for two looks."""
    (folder / "config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    command = [sys.executable, "-I", agent.__file__, f"--config={folder}/config.json", "--looks=2"]
    return subprocess.run(command, text=True, check=False, capture_output=True, timeout=60)


def test_the_program_runs_by_itself(place):
    place.head()
    done = run(place.folder, {"engine": "r1", "unit": "rank.service", "host": "127.0.0.1", "port": place.port, "interval_s": 0.01,
                              "state_dir": f"{place.folder}/state"})
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("is healthy") == 1


@pytest.mark.parametrize(("changed", "named"), [
    ("{", "Expecting"), ({"port": "x"}, "port is 'x'"), ({"interval_s": 0}, "interval_s is 0"), ({"restarts": 1}, "restarts is 1"),
    ({"nobody": 1}, "nobody")])
def test_a_configuration_that_cannot_be_used_is_named(tmp_path, changed, named):
    values = changed if isinstance(changed, str) else {"engine": "r1", "unit": "u", "host": "h", "port": 1, **changed}
    done = run(tmp_path, values)
    assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr


def test_its_unit_reaches_the_heads_alone_and_little_else(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("no systemd-analyze here")
    template = ROOT / "roles/vllm/templates/idc-vllm-follower@.service.j2"
    defaults = yaml.safe_load((ROOT / "roles/vllm/defaults/main.yml").read_text())
    rows = [{"leader": {"address": "192.0.2.7"}}, {"leader": {"address": "192.0.2.9"}}, {"leader": {"address": "192.0.2.7"}}]
    text = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(template.read_text()).render(
        **defaults, __vllm_lib="/usr/local/lib/idc_llm", __vllm_follower_etc="/etc/idc_llm/follower", __vllm_followed=rows)
    assert "IPAddressAllow=192.0.2.7 192.0.2.9\n" in text
    assert re.search(r"^CapabilityBoundingSet=$", text, re.M), "systemd ends the rank, it does not"
    unit = tmp_path / "idc-vllm-follower@tiny.service"
    unit.write_text(text)
    verified = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = [analyze, "security", "--offline=yes", "--threshold=25", "--no-pager", str(unit)]
    shut = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shut.returncode == 0, shut.stdout + shut.stderr
