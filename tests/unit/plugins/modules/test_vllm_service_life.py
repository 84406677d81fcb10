# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine's life on real files, ports and HTTP: taken back to what was good, warmed, one run at a time."""
from __future__ import annotations

import dataclasses
import errno
import functools
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _engine_files as disk
from ansible_collections.idc.llm.plugins.module_utils import _engine_host
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

from tests.support.engine_unit import DIES, KILLED, LOADS, SERVES, Systemd, longer, make_spec, release, run
from tests.support.openai_server import KEY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files get root as their owner")


@pytest.fixture
def spec(tmp_path):
    return make_spec(tmp_path)


@pytest.fixture
def systemd(spec):
    unit = Systemd(spec, lambda text: DIES if "max-model-len: 7\n" in text else SERVES)
    unit.journal = "ValueError: seven is too short\n"
    yield unit
    unit.end("inactive")


BAD = functools.partial(longer, length=7)


def state_of(spec) -> dict[str, str]:
    """What is on the disk, and what runs."""
    folder = Path(spec.config_dir, spec.name)
    texts = {path.name: path.read_text() for path in (*folder.iterdir(), *Path(spec.unit_dir).rglob("*.*")) if path.is_file()}
    running = Path(spec.run_dir, spec.name, "digest")
    return {**texts, "link": os.readlink(spec.link), "running": running.read_text() if running.exists() else ""}


# --- would_restart ---------------------------------------------------------------------------------------------------


def test_a_playbook_learns_beforehand_which_engine_restarts(spec, systemd):
    other = longer(spec, 9)
    assert run(systemd, spec, dry=True)["would_restart"] is False  # it does not run yet
    run(systemd, spec)
    assert run(systemd, spec, dry=True)["would_restart"] is False
    systemd.did()
    assert run(systemd, other, dry=True)["would_restart"] is True
    assert systemd.did() == []
    assert run(systemd, spec, "restarted", dry=True)["would_restart"] is True
    assert run(systemd, other)["would_restart"] is True
    assert run(systemd, other)["would_restart"] is False


# --- the last good configuration -------------------------------------------------------------------------------------


def test_what_gave_a_token_is_kept_for_root_alone(spec, systemd):
    path = f"{spec.config_dir}/{spec.name}/good.json"
    run(systemd, spec, wait=False)
    assert not os.path.exists(path)  # nothing was proven
    run(systemd, spec)
    info = os.stat(path)
    assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o600, 0)
    second = run(systemd, spec)
    assert (second["changed"], os.stat(path).st_ino) == (False, info.st_ino)
    run(systemd, longer(spec, 9))
    assert os.stat(path).st_ino != info.st_ino


def test_a_configuration_that_dies_is_taken_back(spec, systemd):
    run(systemd, spec)
    before = state_of(spec)
    systemd.did()
    with pytest.raises(IdcError) as caught:
        run(systemd, BAD(dataclasses.replace(spec, environment={"A": "1"}, drain_timeout=7)))
    assert (caught.value.code, caught.value.details["rolled_back"]) == ("IDC-ENG-018", True)
    for lang, words in (("en", "last good configuration runs again"), ("zh", "已恢复运行上一次可用的配置")):
        assert words in caught.value.render(lang)
        assert "ValueError: seven is too short" in caught.value.render(lang)
        assert KEY not in caught.value.render(lang)
    assert state_of(spec) == before
    assert (systemd.state["SubState"], systemd.did()) == ("running", ["daemon-reload", "restart", "daemon-reload", "restart"])
    assert len(systemd.server.seen) == 1  # it was asked for a token
    unchanged = run(systemd, spec)
    assert (unchanged["changed"], unchanged["action"]) == (False, "none")


def test_a_second_run_tries_again_and_says_so_before(spec, systemd):
    run(systemd, spec)
    for _time in range(2):
        assert run(systemd, BAD(spec), dry=True)["would_restart"] is True
        with pytest.raises(IdcError, match="IDC-ENG-018.*tries what is wanted anew"):
            run(systemd, BAD(spec))
    systemd.fate = lambda text: SERVES  # what was outside of the configuration is mended
    assert run(systemd, BAD(spec))["action"] == "restart"
    assert run(systemd, BAD(spec))["changed"] is False


def test_a_release_that_dies_is_taken_back(spec, systemd, tmp_path):
    run(systemd, spec)
    release(tmp_path / "root", "2.0")
    systemd.fate = lambda text: DIES if os.readlink(spec.link).endswith("2.0") else SERVES
    with pytest.raises(IdcError, match="IDC-ENG-018.*release 1.0"):
        run(systemd, dataclasses.replace(spec, release="2.0"))
    assert os.readlink(spec.link) == spec.release_dir


def test_an_engine_that_does_not_get_ready_in_time_is_taken_back(spec, systemd):
    run(systemd, spec)
    systemd.fate = lambda text: LOADS if "max-model-len: 7\n" in text else SERVES
    systemd.did()
    with pytest.raises(IdcError, match="IDC-ENG-018.*gave no token"):
        run(systemd, BAD(spec), ready_timeout=1)
    assert systemd.did() == ["restart", "daemon-reload", *KILLED, "restart"]


def test_when_the_last_good_one_does_not_run_either_both_are_said(spec, systemd):
    run(systemd, spec)
    systemd.fate = lambda text: DIES
    with pytest.raises(IdcError) as caught:
        run(systemd, BAD(spec))
    assert (caught.value.code, caught.value.details["rolled_back"]) == ("IDC-ENG-019", False)
    assert caught.value.render().count("died while starting: ValueError: seven is too short") == 2
    assert caught.value.render("zh").count("在启动时退出") == 2
    assert "max-model-len" not in state_of(spec)["config.yaml"]  # it is what stays


def test_a_unit_that_systemd_does_not_start_is_taken_back(spec, systemd):
    run(systemd, spec)
    systemd.fails = "restart"
    with pytest.raises(IdcError, match="IDC-ENG-019.*Job failed.*Then, with release 1.0.*Job failed"):
        run(systemd, BAD(spec))


def test_a_release_that_is_gone_cannot_be_gone_back_to(spec, systemd, tmp_path):
    run(systemd, spec)
    release(tmp_path / "root", "2.0")
    shutil.rmtree(spec.release_dir)
    systemd.fate = lambda text: DIES
    with pytest.raises(IdcError, match="IDC-ENG-019.*releases/1.0/bin/vllm is missing"):
        run(systemd, dataclasses.replace(spec, release="2.0"))
    assert os.readlink(spec.link).endswith("2.0")


ACROSS = {"one world across hosts": {"nnodes": 2}, "data parallel across hosts": {"data_parallel_address": "192.0.2.7"}}


@pytest.mark.parametrize("prepared", ["never", "unproven", "torn", *ACROSS])
def test_without_a_way_back_the_fault_is_told_alone(spec, systemd, prepared):
    if prepared != "never":
        run(systemd, spec, wait=prepared != "unproven")
    if prepared == "torn":
        Path(spec.config_dir, spec.name, "good.json").write_text('{"schema": 1, "files": [')
    wanted = BAD(spec)
    if prepared in ACROSS:
        wanted = dataclasses.replace(wanted, config={**wanted.config, **ACROSS[prepared]})
    with pytest.raises(IdcError, match="IDC-ENG-007"):
        run(systemd, wanted)
    assert "max-model-len: 7" in state_of(spec)["config.yaml"]


@pytest.mark.parametrize("fate", [DIES, LOADS])
def test_a_run_that_was_killed_while_the_bad_one_started_is_made_good(spec, systemd, monkeypatch, fate):
    run(systemd, spec)
    before = state_of(spec)
    systemd.fate = lambda text: fate if "max-model-len: 7\n" in text else SERVES
    cut(monkeypatch, systemd, BAD(spec), after=0)
    assert "max-model-len: 7" in state_of(spec)["config.yaml"]
    with pytest.raises(IdcError, match="IDC-ENG-018"):
        run(systemd, BAD(spec), ready_timeout=1)
    assert state_of(spec) == before


def test_a_run_that_was_killed_while_it_went_back_leaves_no_mixture_for_good(spec, systemd, monkeypatch):
    run(systemd, spec)
    before = state_of(spec)
    cut(monkeypatch, systemd, BAD(spec), after=1)
    run(systemd, spec)
    assert state_of(spec) == before
    with pytest.raises(IdcError, match="IDC-ENG-018"):
        run(systemd, BAD(spec))
    assert state_of(spec) == before


def cut(monkeypatch, systemd, wanted, after):
    """A run that is killed when it waits for readiness once more than ``after`` times."""
    waits, real = [], _engine_host.wait_ready

    def wait_ready(*arguments):
        waits.append(1)
        if len(waits) > after:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(_engine_host, "wait_ready", wait_ready)
    with pytest.raises(KeyboardInterrupt):
        run(systemd, wanted)
    monkeypatch.setattr(_engine_host, "wait_ready", real)


def test_one_missed_probe_takes_nothing_back(spec, systemd):
    """What runs was never proven, but it was not started by this run either."""
    run(systemd, spec)
    run(systemd, longer(spec, 9), wait=False)
    systemd.did()
    systemd.faults[:] = ["500"]
    with pytest.raises(IdcError, match="IDC-ENG-009"):
        run(systemd, longer(spec, 9))
    assert systemd.did() == []


def test_a_full_disk_touches_no_running_engine(spec, systemd, monkeypatch):
    run(systemd, spec)
    systemd.did()

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device", file.path)

    monkeypatch.setattr(disk, "write", full)
    with pytest.raises(IdcError, match=r"IDC-ENG-011: writing .*config.yaml.*No space left"):
        run(systemd, BAD(spec))
    assert (systemd.did(), systemd.state["SubState"]) == ([], "running")


def test_memory_that_was_short_is_told_with_what_was_planned(spec, systemd):
    systemd.fate = lambda text: DIES
    systemd.journal = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
    planned = {"weights_bytes": 3 << 30, "reserve_bytes": 1 << 30, "kv_bytes": 5 << 29, "kv_tokens": 4096}
    with pytest.raises(IdcError) as caught:
        run(systemd, spec, memory=planned)
    assert caught.value.details["fault"] == "gpu_memory"
    assert "3.0 GiB of weights, 1.0 GiB of reserve and 2.5 GiB of KV cache on each card, 4096 tokens" in caught.value.render()
    assert "每卡权重 3.0 GiB" in caught.value.render("zh")


# --- one run at a time -----------------------------------------------------------------------------------------------


def test_two_runs_at_once_on_one_engine(spec, systemd):
    other = dataclasses.replace(spec, name="tiny-blue-1")
    with disk.locked(f"{spec.run_dir}/{spec.name}.lock", spec.name):
        for state in ("started", "drained", "absent"):
            with pytest.raises(IdcError, match=f"IDC-ENG-020.*process {os.getpid()} "):
                run(systemd, spec, state)
        assert systemd.did() == []
        assert run(systemd, spec, dry=True)["action"] == "start"
        with disk.locked(f"{spec.run_dir}/{other.name}.lock", other.name):
            pass
    assert run(systemd, spec)["action"] == "start"


def test_a_run_that_was_killed_holds_nothing(tmp_path):
    path = f"{tmp_path}/deep/engine.lock"
    code = """if 1:
        import fcntl, sys, time
        stream = open(sys.argv[1], "a")
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write("1234567")
        stream.flush()
        print(flush=True)
        time.sleep(60)"""
    os.mkdir(f"{tmp_path}/deep")
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(IdcError, match="1234567"), disk.locked(path, "x"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with disk.locked(path, "x"):
        assert Path(path).read_text() == f"{os.getpid()}\n"


# --- warm-up ---------------------------------------------------------------------------------------------------------


def test_a_started_engine_is_warmed_before_it_counts_as_ready(spec, systemd):
    result = run(systemd, spec, warmup=(8, 64))
    prompts = [entry["payload"]["messages"][0]["content"] for entry in systemd.server.seen]
    assert [len(prompt.split()) for prompt in prompts[1:3]] == [8, 64]
    assert not prompts[2].startswith(prompts[1])  # a prefix that is cached warms nothing
    assert prompts[3] == prompts[0]  # the token that counts comes last
    assert (result["warmed"], len(prompts)) == (2, 4)
    assert run(systemd, spec, warmup=(8, 64))["warmed"] == 0  # unchanged: asked once
    assert len(systemd.server.seen) == 5


def test_a_prompt_too_long_for_the_engine_ends_the_warm_up(spec, systemd):
    systemd.faults[:] = ["", "", "400", ""]
    result = run(systemd, spec, warmup=(8, 64, 512))
    assert (result["warmed"], result["probe"]["text"], len(systemd.server.seen)) == (1, "Hello there!", 4)


def test_an_engine_that_breaks_in_its_warm_up_is_not_ready(spec, systemd):
    systemd.faults[:] = ["", "500"]
    with pytest.raises(IdcError, match="IDC-ENG-008.*cannot schedule"):
        run(systemd, spec, warmup=(8,), ready_timeout=1)
