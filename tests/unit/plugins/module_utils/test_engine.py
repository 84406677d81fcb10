# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine's files say and what is done to it."""
from __future__ import annotations

import dataclasses

import pytest
import yaml
from ansible_collections.idc.llm.plugins.module_utils import _engine
from ansible_collections.idc.llm.plugins.module_utils._engine import Observed, Plan, Spec
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

KEY = "engine-key-0123456789abcdef0123456789"
SPEC = Spec(
    name="tiny-blue-0",
    release="0.32.0",
    config={"model": "/store/tiny", "served-model-name": "tiny", "host": "10.0.0.1", "port": 8001},
    environment={"VLLM_HOST_IP": "10.0.0.1"},
    api_key=KEY,
    gpus=("GPU-a", "GPU-b"),
)


def text_of(spec: Spec, ending: str, installed: str = "") -> str:
    return next(file.text for file in _engine.files(spec, installed) if file.path.endswith(ending))


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"model": "/store/m", "port": 8000, "enforce-eager": True, "x": None, "served-model-name": ["a", "b"]},
        {"gpu-memory-utilization": 0.92, "tiny": 1e-05, "big": 1.5e300, "minus": -0.0},
        {"compilation-config": {"mode": 3, "pass_config": {"a": [1, 2.5, {"b": False}]}}},
        {"text": "a: b # c \" \\ ' {x} \t\n\x7f\u0085\u2028 é 模型 😀 \ufeff\ud7ff"},
        {"yes": "no", "null": "null", "1": "1", "with space": "~", "n": "0x10", "on": "2026-01-01"},
    ],
)
def test_yaml_comes_back_as_it_was(value):
    assert yaml.safe_load(_engine.yaml_text(value)) == value


def test_yaml_is_sorted_and_one_option_a_line():
    text = _engine.yaml_text({"port": 1, "model": "m", "a": {"z": 1, "b": 2}})
    assert text == 'a: {b: 2, z: 1}\nmodel: "m"\nport: 1\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_yaml_refuses_what_is_no_number(value):
    with pytest.raises(IdcError, match="IDC-ENG-006"):
        _engine.yaml_text({"x": value})


def test_environment_file_is_quoted_for_systemd_and_masked():
    variables = {"B_TOKEN": "s3cret", "A": 'say "$HOME" `x` \\n'}
    assert _engine.env_text(variables) == 'A="say \\"\\$HOME\\" \\`x\\` \\\\n"\nB_TOKEN="s3cret"\n'
    assert "s3cret" not in _engine.env_text(variables, masked=True)
    assert 'B_TOKEN="********"' in _engine.env_text(variables, masked=True)


def test_the_key_is_in_roots_file_only():
    by_path = {file.path: file for file in _engine.files(SPEC)}
    env = by_path["/etc/idc_llm/engines/tiny-blue-0/env"]
    assert (env.owner, env.group, env.mode) == ("root", "root", 0o600)
    assert f'VLLM_API_KEY="{KEY}"' in env.text
    assert KEY not in env.shown
    assert 'CUDA_VISIBLE_DEVICES="GPU-a,GPU-b"' in env.text
    assert all(KEY not in file.text + file.shown for path, file in by_path.items() if path != env.path)
    config = by_path["/etc/idc_llm/engines/tiny-blue-0/config.yaml"]
    assert (config.owner, config.group, config.mode) == ("root", "vllm", 0o640)


def test_without_gpus_and_key_nothing_is_said_about_them():
    bare = text_of(dataclasses.replace(SPEC, gpus=(), api_key=""), "/env")
    assert bare == 'VLLM_HOST_IP="10.0.0.1"\n'


def test_config_gets_dashes_and_the_drain_time():
    spec = dataclasses.replace(SPEC, config={"model": "m", "max_model_len": 512, "x": None}, drain_timeout=30)
    assert yaml.safe_load(text_of(spec, "config.yaml")) == {"model": "m", "max-model-len": 512, "shutdown-timeout": 30}
    assert text_of(spec, "drain.conf") == "[Service]\nTimeoutStopSec=45\n"


def test_an_engine_waits_for_the_disk_that_its_model_lies_on():
    spec = dataclasses.replace(SPEC, config={"model": "/srv/a b%/m"})
    assert text_of(spec, "store.conf") == '[Unit]\nRequiresMountsFor="/srv/a b%%/m"\n'
    relative = _engine.files(dataclasses.replace(SPEC, config={"model": "m"}))
    assert [file.path for file in relative if "store.conf" in file.path] == []


def test_a_drain_time_in_the_config_wins():
    spec = dataclasses.replace(SPEC, config={"shutdown_timeout": 300}, drain_timeout=30)
    assert text_of(spec, "drain.conf") == "[Service]\nTimeoutStopSec=315\n"


def test_unit_keeps_what_was_measured():
    unit = text_of(SPEC, "idc-vllm@.service").splitlines()
    for line in (
        "Restart=always",  # a dead engine ends with code 0
        "KillMode=mixed",  # workers must not get SIGTERM while the server drains
        "StartLimitIntervalSec=0",
        "User=vllm",
        "NoNewPrivileges=true",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "ExecStart=/opt/idc_llm/deployments/%i/current/bin/vllm serve --config /etc/idc_llm/engines/%i/config.yaml",
    ):
        assert line in unit
    assert not [line for line in unit if line.startswith(("PrivateDevices=", "ProtectClock="))]


@pytest.mark.parametrize("memlock, wanted", [(-1, "LimitMEMLOCK=infinity"), (8388608, "LimitMEMLOCK=8388608")])
def test_limits_are_as_given(memlock, wanted):
    unit = _engine.files(Spec("tiny", memlock_bytes=memlock, nofile=4096, config={"model": "m"}))[0].text.splitlines()
    assert wanted in unit and "LimitNOFILE=4096" in unit


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"model": "/store/tiny", "port": 8002}},
        {"environment": {"VLLM_HOST_IP": "10.0.0.2"}},
        {"api_key": "another"},
        {"gpus": ("GPU-a",)},
        {"release": "0.33.0"},
        {"user": "other"},
        {"drain_timeout": 7},
    ],
)
def test_digest_covers_everything_a_process_depends_on(change):
    assert text_of(SPEC, "digest") != text_of(dataclasses.replace(SPEC, **change), "digest")


def test_digest_covers_what_the_release_holds_and_nothing_else():
    assert text_of(SPEC, "digest", "one") != text_of(SPEC, "digest", "two")
    turned = dataclasses.replace(SPEC, config=dict(reversed(list(SPEC.config.items()))))
    assert text_of(SPEC, "digest") == text_of(turned, "digest")


UP = Observed(active="active", enabled=True, running_digest="d")


@pytest.mark.parametrize(
    ("state", "observed", "expected"),
    [
        ("started", Observed(), Plan("start", True, False)),
        ("started", Observed(unit_differs=True), Plan("start", True, True)),
        ("started", UP, Plan("none", None, False)),
        ("started", dataclasses.replace(UP, running_digest="old"), Plan("restart", None, False)),
        ("started", dataclasses.replace(UP, unit_differs=True), Plan("none", None, True)),
        ("started", dataclasses.replace(UP, active="failed"), Plan("start", None, False)),
        ("started", dataclasses.replace(UP, active="deactivating"), Plan("start", None, False)),
        # between two automatic restarts nothing runs, so there is no digest: a run starts it at once
        ("started", Observed("activating", True, False, ""), Plan("restart", None, False)),
        ("restarted", UP, Plan("restart", None, False)),
        ("restarted", Observed(), Plan("start", True, False)),
        ("stopped", UP, Plan("stop", False, False)),
        ("stopped", Observed(active="activating"), Plan("stop", None, False)),
        ("stopped", Observed(), Plan("none", None, False)),
        ("absent", UP, Plan("stop", False, False)),
        ("absent", Observed(active="failed"), Plan("none", None, False)),
    ],
)
def test_decisions(state, observed, expected):
    assert _engine.decide(state, observed, "d") == expected


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../etc"},
        {"name": "Tiny"},
        {"name": ""},
        {"name": "-a"},
        {"release": "../../tmp"},
        {"environment": {"A B": "x"}},
        {"environment": {"A": "x\nLD_PRELOAD=/tmp/x"}},
        {"environment": {"VLLM_API_KEY": "x"}},
        {"api_key": "a\nb"},
    ],
)
def test_what_could_not_be_written_safely_is_refused(change):
    with pytest.raises(IdcError) as caught:
        _engine.check(dataclasses.replace(SPEC, **change))
    assert caught.value.code == "IDC-ENG-006"


def test_a_sound_spec_passes():
    assert _engine.check(SPEC) is None


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "0.0.0.0", "port": 8001}, "http://127.0.0.1:8001"),
        ({"host": "10.0.0.1"}, "http://10.0.0.1:8000"),
        ({"host": "fd00::1", "port": "9"}, "http://[fd00::1]:9"),
    ],
)
def test_where_the_engine_is_asked(config, url):
    assert _engine.base_url(config) == url


@pytest.mark.parametrize(
    ("config", "name"),
    [({"served-model-name": ["a", "b"]}, "a"), ({"served_model_name": "a"}, "a"), ({"model": "/m"}, "/m")],
)
def test_served_model(config, name):
    assert _engine.served_model(config) == name
