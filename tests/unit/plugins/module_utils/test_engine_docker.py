# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container shall be and how one is read; the real daemon is in tests/integration/test_engine_docker.py."""
from __future__ import annotations

import dataclasses
import sys

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _engine
from ansible_collections.idc.llm.plugins.module_utils._engine import Container, Spec
from ansible_collections.idc.llm.plugins.module_utils._engine_docker import (
    check_container,
    completed,
    describe,
    is_pinned,
    last_words,
    look_of,
)
from ansible_collections.idc.llm.plugins.module_utils._engine_host import EngineHost
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Proof
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._journal import find_fault

from tests.support.engine_unit import make_spec

ID = "sha256:" + "0123456789abcdef" * 4
WANTED = Container("vllm/vllm-openai:v0.33.0", folders=("/srv/store",))
SPEC = Spec("r1-blue-0", "0.33.0", {"model": "/srv/store/org/r1", "port": 8000}, gpus=("GPU-1", "GPU-2"), drain_timeout=60,
            container=WANTED)


def described(spec=SPEC, infiniband=False):
    return describe(spec, spec.container, ID, "990:990", infiniband)


@pytest.mark.parametrize(("image", "expected"), [
    ("vllm/vllm-openai:v0.33.0", True),
    ("registry.example:5000/vllm:1", True),
    (f"vllm/vllm-openai@{ID}", True),
    (ID, True),
    ("vllm/vllm-openai", False),
    ("vllm/vllm-openai:latest", False),
    ("registry.example:5000/vllm", False),
    ("vllm@sha256:short", False),
    (":1", False),
    ("", False),
])
def test_an_image_is_named_so_that_it_stays_the_same(image, expected):
    assert is_pinned(image) is expected
    spec = dataclasses.replace(SPEC, container=dataclasses.replace(WANTED, image=image))
    if expected:
        check_container(spec)
    else:
        with pytest.raises(IdcError, match="IDC-ENG-006: image is"):
            check_container(spec)


@pytest.mark.parametrize(("model", "folders", "says"), [
    ("/srv/store/org/r1", ("/srv/stor",), "a folder that /srv/store/org/r1 lies in"),
    ("/srv/store", ("/srv/store/org",), "a folder that /srv/store lies in"),
    ("/srv/store/org/r1", ("srv/store",), "absolute paths"),
    ("/srv/store/org/r1", ("/srv/store/../..",), "absolute paths"),
])
def test_the_container_sees_its_model(model, folders, says):
    spec = dataclasses.replace(SPEC, config={"model": model}, container=dataclasses.replace(WANTED, folders=folders))
    with pytest.raises(IdcError, match=says):
        check_container(spec)


@pytest.mark.parametrize(("model", "folders", "mounted"), [
    ("/srv/store/org/r1", ("/srv/store",), ["/srv/store"]),
    ("/srv/store/org/r1", ("/",), ["/"]),
    ("/srv/store/org/r1", (), ["/srv/store/org/r1"]),
    ("org/r1", (), []),
])
def test_folders_are_read_only_and_the_home_is_not(model, folders, mounted):
    spec = dataclasses.replace(SPEC, config={"model": model}, container=dataclasses.replace(WANTED, folders=folders))
    check_container(spec)
    rows = [(row["Source"], row["Target"] == row["Source"], row["ReadOnly"]) for row in described(spec)["HostConfig"]["Mounts"]]
    config = ("/etc/idc_llm/engines/r1-blue-0/config.yaml", True, True)
    assert rows == [config, *((path, True, True) for path in mounted), ("/var/lib/vllm", True, False)]


def test_it_is_shut_as_far_as_cuda_allows_and_stays_up():
    body = described()
    host = body["HostConfig"]
    assert (body["Image"], body["Entrypoint"], body["User"]) == (ID, ["vllm"], "990:990")
    assert body["Cmd"] == ["serve", "--config", "/etc/idc_llm/engines/r1-blue-0/config.yaml"]
    assert body["StopTimeout"] == 60 + _engine.STOP_MARGIN_S
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert "Privileged" not in host and "CapAdd" not in host
    assert (host["NetworkMode"], host["RestartPolicy"]) == ("host", {"Name": "always"})
    assert {row["Name"]: (row["Soft"], row["Hard"]) for row in host["Ulimits"]} == {
        "core": (0, 0), "memlock": (-1, -1), "nofile": (1048576, 1048576)}
    assert set(host["LogConfig"]["Config"]) == {"max-size", "max-file"}


def test_cards_by_uuid_and_none_where_none_are_wanted():
    assert described()["HostConfig"]["DeviceRequests"] == [
        {"Driver": "nvidia", "DeviceIDs": ["GPU-1", "GPU-2"], "Capabilities": [["gpu", "compute", "utility"]]}]
    assert "DeviceRequests" not in described(dataclasses.replace(SPEC, gpus=()))["HostConfig"]


def test_shared_memory_is_its_own_or_the_hosts():
    own = described()["HostConfig"]
    assert (own["IpcMode"], own["ShmSize"]) == ("private", 16 << 30)
    shared = described(dataclasses.replace(SPEC, container=dataclasses.replace(WANTED, ipc="host")))["HostConfig"]
    assert shared["IpcMode"] == "host" and "ShmSize" not in shared


def test_infiniband_where_the_host_has_it():
    assert "Devices" not in described()["HostConfig"]
    assert described(infiniband=True)["HostConfig"]["Devices"][0]["PathOnHost"] == "/dev/infiniband"


def test_the_environment_file_comes_back_as_it_was_written():
    variables = {"VLLM_API_KEY": 'a"b\\c`d$e=f', "HOME": "/elsewhere", "EMPTY": ""}
    body = described()
    whole = completed(body, _engine.env_text(variables), "digest")
    given = dict(pair.split("=", 1) for pair in whole["Env"])
    assert {name: given[name] for name in variables} == variables
    assert given["USER"] == "vllm" and len(whole["Env"]) == len(given)
    assert whole["Labels"] == {**body["Labels"], "idc.llm.digest": "digest"}
    assert "a\"b" not in str(body)


def test_files_hold_a_container_in_the_place_of_the_unit():
    by_systemd = _engine.files(dataclasses.replace(SPEC, container=None), "made")
    by_docker = _engine.files(SPEC, "made", "{}\n")
    assert [file.path.rpartition("/")[2] for file in by_docker] == ["container.json", "config.yaml", "env", "digest"]
    assert [file.text for file in by_docker[1:3]] == [file.text for file in by_systemd[3:5]]
    assert by_docker[-1].text != _engine.files(SPEC, "made", "{ }\n")[-1].text
    assert by_docker[-1].text != _engine.files(SPEC, "other", "{}\n")[-1].text


def shown(status="running", restarts=0, policy="always", labels=None, **state):
    return {"State": {"Status": status, "StartedAt": "2026-11-22T14:00:00.123456789Z", **state}, "RestartCount": restarts,
            "HostConfig": {"RestartPolicy": {"Name": policy}}, "Config": {"Labels": labels}}


@pytest.mark.parametrize(("status", "unit", "digest"), [
    ("running", ("active", "running"), "d"),
    ("paused", ("active", "paused"), "d"),
    ("restarting", ("activating", "auto-restart"), "d"),
    ("exited", ("inactive", "dead"), ""),
    ("created", ("inactive", "dead"), ""),
    ("dead", ("inactive", "dead"), ""),
])
def test_a_container_in_systemds_words(status, unit, digest):
    look = look_of(shown(status, 3, labels={"idc.llm.digest": "d"}), now=1795356010.0)
    assert ((look.unit.active, look.unit.sub), look.unit.restarts, look.digest, look.enabled) == (unit, 3, digest, True)
    assert look.unit.age_s == 10.0


def test_a_container_of_somebody_else_is_no_engine_as_wanted():
    look = look_of(shown(policy="no"), now=0.0)
    assert (look.digest, look.enabled) == ("", False)


@pytest.mark.parametrize(("state", "kind", "says"), [
    ({"ExitCode": 137, "OOMKilled": True}, "host_memory", "killed by the OOM killer"),
    ({"ExitCode": 139, "OOMKilled": False, "Error": ""}, "", "status=139/"),
    ({"ExitCode": 0}, "", ""),
])
def test_what_the_daemon_says_of_an_end(state, kind, says):
    fault = find_fault(["loading", *last_words(shown("exited", **state))])
    assert fault.kind == kind and says in fault.line and bool(says) == bool(fault.line)


def docker_spec(folder):
    return dataclasses.replace(make_spec(folder), container=Container("idc-llm-none:1"))


def bring_up(spec, dry, docker="/does/not/exist.sock"):
    return EngineHost(lambda argv: (1, "", ""), lambda name: None, dry, docker).bring_up(spec, "started", Proof(wait=False))


def test_a_daemon_that_is_not_there(tmp_path):
    pytest.importorskip("docker")
    spec = docker_spec(tmp_path)
    with pytest.raises(IdcError, match=r"IDC-ENG-024.*/does/not/exist\.sock"):
        bring_up(spec, dry=False)
    told = bring_up(spec, dry=True)  # a fresh host in check mode
    assert "/does/not/exist.sock" in told["pending"][0] and "not validated" in told["pending"][-1]
    assert (told["action"], told["changed"]) == ("start", True)


def test_an_sdk_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "docker", None)
    spec = docker_spec(tmp_path)
    with pytest.raises(IdcError, match="IDC-ENG-023"):
        bring_up(spec, dry=False)
    assert "Docker SDK" in bring_up(spec, dry=True)["pending"][0]
    host = EngineHost(lambda argv: (1, "", ""), lambda name: None, False)
    with pytest.raises(IdcError, match="IDC-ENG-023"):
        host.take_down(spec, "stopped")


def test_an_engine_of_systemd_is_not_started_by_docker(tmp_path):
    spec = docker_spec(tmp_path)
    folder = tmp_path / "engines" / spec.name
    folder.mkdir()
    (folder / "config.yaml").write_text("port: 8000\n")
    with pytest.raises(IdcError, match="IDC-ENG-006: runtime is 'docker'. Wanted: systemd, with which this engine runs now"):
        bring_up(spec, dry=True)
