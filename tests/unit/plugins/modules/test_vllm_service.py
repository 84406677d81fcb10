# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands of vllm_service on real files, real ports and real HTTP; only systemctl and journalctl are played here.

The real systemd and the real vLLM are molecule's.
"""
from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._engine_host import EngineHost
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Proof
from ansible_collections.idc.llm.plugins.module_utils._engine_systemd import INSTALLED
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

from tests.support.engine_unit import DIES, SERVES, Systemd, make_spec
from tests.support.openai_server import KEY, serve

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files get root as their owner")


@pytest.fixture
def spec(tmp_path):
    return make_spec(tmp_path)


def bring_up(systemd, spec, dry=False, state="started", wait=False):
    host = EngineHost(systemd, lambda name: name, dry)
    return host.bring_up(spec, state, Proof(wait, ready_timeout=5, probe_timeout=2))


def tree(path) -> list[str]:
    """All paths but the lock's."""
    found = [os.path.join(top, name) for top, dirs, files in os.walk(path) for name in files + dirs]
    return sorted(name for name in found if not name.endswith(".lock"))


def test_first_second_and_changed_run(spec):
    systemd = Systemd(spec)
    first = bring_up(systemd, spec)
    assert (first["changed"], first["action"]) == (True, "start")
    assert systemd.did() == ["daemon-reload", "enable", "start"]
    assert os.readlink(spec.link) == spec.release_dir
    env = f"{spec.config_dir}/{spec.name}/env"
    assert stat.S_IMODE(os.stat(env).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(env)).st_mode) == 0o750

    second = bring_up(systemd, spec)
    assert (second["changed"], second["action"], second["diff"], systemd.did()) == (False, "none", [], [])

    longer = dataclasses.replace(spec, config={**spec.config, "max-model-len": 512})
    assert bring_up(systemd, longer)["action"] == "restart"
    assert systemd.did() == ["restart"]
    assert bring_up(systemd, longer)["action"] == "none"
    assert systemd.did() == []


def test_check_mode_says_the_same_and_changes_nothing(spec, tmp_path):
    systemd = Systemd(spec)
    before = tree(tmp_path)
    told = bring_up(systemd, spec, dry=True)
    assert (told["changed"], told["action"], systemd.did(), tree(tmp_path)) == (True, "start", [], before)
    done = bring_up(systemd, spec)
    assert (told["diff"], told["changed_files"]) == (done["diff"], done["changed_files"])
    assert KEY not in str(told)


def test_diff_shows_the_change_and_hides_both_keys(spec):
    systemd = Systemd(spec)
    bring_up(systemd, spec)
    other = dataclasses.replace(spec, api_key="another-key-987654321", environment={"HF_HUB_OFFLINE": "1"})
    diff = {entry["before_header"]: entry for entry in bring_up(systemd, other, dry=True)["diff"]}
    env = diff[f"{spec.config_dir}/{spec.name}/env"]
    assert env["before"] == 'VLLM_API_KEY="********"\n'
    assert env["after"] == 'HF_HUB_OFFLINE="1"\nVLLM_API_KEY="********"\n'


def test_a_run_that_was_cut_between_writing_and_restarting_is_made_good(spec):
    systemd = Systemd(spec)
    bring_up(systemd, spec)
    changed = dataclasses.replace(spec, environment={"A": "1"})
    systemd_down = EngineHost(systemd, lambda name: name, dry=False)

    def killed(*_arguments):
        raise KeyboardInterrupt

    systemd_down._apply = killed
    with pytest.raises(KeyboardInterrupt):
        systemd_down.bring_up(changed, "started", Proof(wait=False))
    systemd.did()
    result = bring_up(systemd, changed)
    assert (result["diff"], result["action"], result["changed"]) == ([], "restart", True)


def test_a_release_made_anew_restarts(spec):
    systemd = Systemd(spec)
    bring_up(systemd, spec)
    with open(f"{spec.release_dir}/{INSTALLED}", "a", encoding="utf-8") as stream:
        stream.write("other==2\n")
    assert bring_up(systemd, spec)["action"] == "restart"


def test_mode_that_drifted_is_put_right_without_a_restart(spec):
    systemd = Systemd(spec)
    bring_up(systemd, spec)
    systemd.did()
    env = f"{spec.config_dir}/{spec.name}/env"
    os.chmod(env, 0o644)
    result = bring_up(systemd, spec)
    assert (result["changed"], result["changed_files"], result["action"], systemd.did()) == (True, [env], "none", [])
    assert stat.S_IMODE(os.stat(env).st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"release": "2.0"}, "IDC-ENG-001", "releases/2.0/bin/vllm"),
        ({"config": {"model": "/does/not/exist"}}, "IDC-ENG-002", "/does/not/exist"),
        ({"config": {"model": "/etc/ssl"}}, "IDC-ENG-003", "/etc/ssl"),
        ({"config": {"model": "/etc/ssl", "load-format": "dummy", "host": "192.0.2.1"}}, "IDC-ENG-005", "192.0.2.1"),
        ({"user": "nobody-has-this-name"}, "IDC-ENG-012", "nobody-has-this-name"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_written(spec, tmp_path, change, code, says):
    systemd, wrong = Systemd(spec), dataclasses.replace(spec, **change)
    before = tree(tmp_path)
    with pytest.raises(IdcError) as caught:
        bring_up(systemd, wrong)
    assert caught.value.code == code
    assert says in caught.value.render()
    assert (tree(tmp_path), systemd.did()) == (before, [])
    told = bring_up(systemd, wrong, dry=True)  # a fresh host in check mode
    assert says in told["pending"][0]


@pytest.mark.parametrize("dry", [False, True])
def test_options_that_the_release_does_not_understand_touch_nothing(spec, tmp_path, dry):
    systemd = Systemd(spec)
    bring_up(systemd, spec)
    systemd.did()
    before = tree(tmp_path)
    wrong = dataclasses.replace(spec, environment={"VLLM_USE_V1": "1"},
                                config={**spec.config, "max_batch_size": 8, "dtype": "fp16"})
    with pytest.raises(IdcError) as caught:
        bring_up(systemd, wrong, dry=dry)
    assert caught.value.code == "IDC-ENG-015"
    for words in ("3 of the settings", "config.max_batch_size", "max-num-seqs", "config.dtype", "environment.VLLM_USE_V1"):
        assert words in caught.value.render()
    assert (tree(tmp_path), systemd.did()) == (before, [])


def test_options_before_the_release_is_there_are_not_validated_yet(spec):
    wrong = dataclasses.replace(spec, release="2.0", config={**spec.config, "max_batch_size": 8})
    pending = bring_up(Systemd(spec), wrong, dry=True)["pending"]
    assert any("not validated yet: release 2.0 is not installed" in sentence for sentence in pending)
    with pytest.raises(IdcError, match="IDC-ENG-001"):
        bring_up(Systemd(spec), wrong)


@pytest.mark.parametrize("text", [None, "{", json.dumps({"schema": 99})])
def test_a_release_whose_options_nobody_listed(spec, tmp_path, text):
    systemd, path = Systemd(spec), Path(spec.release_dir, "arguments.json")
    path.unlink()
    if text is not None:
        path.write_text(text)
    before = tree(tmp_path)
    with pytest.raises(IdcError, match=r"IDC-ENG-016.*arguments\.json.*vllm_install"):
        bring_up(systemd, spec)
    assert (tree(tmp_path), systemd.did()) == (before, [])
    assert any(str(path) in sentence for sentence in bring_up(systemd, spec, dry=True)["pending"])


def test_a_switch_is_written_so_that_vllm_turns_it_off(spec):
    off = dataclasses.replace(spec, config={**spec.config, "enable_prefix_caching": False})
    bring_up(Systemd(spec), off)
    text = Path(spec.config_dir, spec.name, "config.yaml").read_text()
    assert "\nno-enable-prefix-caching: true\n" in text and "\nenable-prefix-caching" not in text


def test_the_key_of_the_module_is_no_second_place(spec):
    assert bring_up(Systemd(spec), spec)["action"] == "start"  # VLLM_API_KEY in the environment file is the module's own
    twice = dataclasses.replace(spec, environment={"VLLM_API_KEY": KEY}, gpus=("GPU-1",))
    with pytest.raises(IdcError, match="environment.VLLM_API_KEY") as caught:
        bring_up(Systemd(spec), twice)
    assert KEY not in caught.value.render()


def test_a_port_that_someone_else_holds(spec):
    with serve() as server:
        taken = dataclasses.replace(spec, config={**spec.config, "port": server.server_address[1]})
        with pytest.raises(IdcError, match="IDC-ENG-004"):
            bring_up(Systemd(spec), taken)


def test_ready_is_a_real_token(spec):
    systemd = Systemd(spec, lambda text: SERVES)
    systemd.faults = ["500", ""]
    result = bring_up(systemd, spec, wait=True)
    assert len(systemd.server.seen) == 2
    assert result["probe"]["text"] == "Hello there!"
    assert result["ready_s"] >= 1
    systemd.end("inactive")


def test_a_death_is_told_with_its_reason(spec):
    systemd = Systemd(spec, lambda text: DIES)
    systemd.journal = f"(EngineCore pid=7) ERROR 11-22 03:41:00 [core.py:1] ValueError: no {KEY} today\n"
    with pytest.raises(IdcError) as caught:
        bring_up(systemd, spec, wait=True)
    assert caught.value.code == "IDC-ENG-007"
    assert "ValueError: no *** today" in caught.value.render()


def test_an_unchanged_engine_that_gives_no_token_is_not_ok(spec):
    systemd = Systemd(spec, lambda text: SERVES)
    bring_up(systemd, spec)
    systemd.did()
    systemd.faults[:] = ["500"]
    with pytest.raises(IdcError, match="IDC-ENG-009.*cannot schedule"):
        bring_up(systemd, spec, wait=True)
    assert systemd.did() == []
    assert len(systemd.server.seen) == 1
    systemd.end("inactive")


def test_stopped_and_absent(spec):
    systemd = Systemd(spec)
    bring_up(systemd, spec)
    systemd.did()
    host = EngineHost(systemd, lambda name: name, dry=False)
    dry = EngineHost(systemd, lambda name: name, dry=True)

    assert dry.take_down(spec, "stopped")["action"] == "stop"
    assert systemd.did() == []
    assert host.take_down(spec, "stopped")["changed"] is True
    assert systemd.did() == ["disable", "stop"]
    assert host.take_down(spec, "stopped")["changed"] is False
    assert os.path.exists(f"{spec.config_dir}/{spec.name}/env")

    there = tree(spec.config_dir)
    assert len(dry.take_down(spec, "absent")["changed_files"]) == 3
    assert tree(spec.config_dir) == there
    assert host.take_down(spec, "absent")["changed"] is True
    assert not os.path.exists(f"{spec.config_dir}/{spec.name}")
    assert not os.path.lexists(spec.link)
    assert os.path.exists(spec.release_dir)
    assert host.take_down(spec, "absent") == {
        "changed": False, "action": "none", "diff": [], "pending": [], "changed_files": []}


def test_a_host_without_systemd(spec):
    with pytest.raises(IdcError, match="IDC-ENG-010"):
        EngineHost(Systemd(spec), lambda name: None, dry=False).bring_up(spec, "started", Proof())
    host = EngineHost(Systemd(spec), lambda name: None, dry=True)
    told = host.bring_up(spec, "started", Proof())
    assert told["action"] == "start"
