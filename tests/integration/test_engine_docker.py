# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines as containers of the real local daemon. The image is made here and its ``vllm`` is a stand-in; the real vLLM is in
test_engine_docker_real.py."""
from __future__ import annotations

import dataclasses
import json
import os
import secrets
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._engine import Container, Spec
from ansible_collections.idc.llm.plugins.module_utils._engine_docker import Docker
from ansible_collections.idc.llm.plugins.module_utils._engine_host import EngineHost
from ansible_collections.idc.llm.plugins.module_utils._engine_life import Proof
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

from tests.support import engine_image
from tests.support.engine_unit import ARGUMENTS, free_port
from tests.support.fleet import BIN, RECAP, ROOT
from tests.support.openai_server import MODEL
from tests.support.waiting import wait_for

docker = pytest.importorskip("docker")


@pytest.fixture(scope="module")
def client():
    """The local daemon with the fleet's base image."""
    try:
        found = docker.from_env()
    except docker.errors.DockerException as error:
        pytest.fail(f"no Docker daemon: {error}. Remedy: script/bootstrap docker")  # a gate of its own: it is there, or it is red
    if os.geteuid() != 0 or not engine_image.base(found):
        pytest.fail("needs root, and the fleet's image: script/bootstrap fleet")
    return found


@pytest.fixture(scope="module")
def image(client):
    with engine_image.stand_in(client) as tag:
        yield tag


def make_spec(folder: Path, image: str, **config) -> Spec:
    """An engine below this folder, of an image that is there."""
    folder.chmod(0o755)
    spec = Spec(
        name=f"test-{secrets.token_hex(4)}", release="1.0", api_key=secrets.token_hex(16), drain_timeout=20,
        config={"model": str(folder / "model"), "served-model-name": MODEL, "host": "127.0.0.1", "port": free_port(), **config},
        root=str(folder / "root"), config_dir=str(folder / "engines"), unit_dir=str(folder / "units"), run_dir=str(folder / "run"),
        user="nobody", group="nogroup", memlock_bytes=1 << 20, nofile=4096,
        container=Container(image, home=str(folder / "home")),
    )
    Path(spec.release_dir).mkdir(parents=True)
    return spec


@pytest.fixture
def spec(client, image, tmp_path):
    """An engine; nothing of it is left afterwards."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_text("weights")
    made = make_spec(tmp_path, image)
    Path(Docker(False).arguments(made)).write_bytes(ARGUMENTS.read_bytes())
    yield made
    remove(client, made)


def remove(client, spec: Spec) -> None:
    for container in client.containers.list(all=True, filters={"name": f"^{spec.unit}(-next|-before)?$"}):
        container.remove(force=True, v=True)


def names(client, spec: Spec) -> list[str]:
    """The engine's containers."""
    return sorted(one.name for one in client.containers.list(all=True, filters={"name": f"^{spec.unit}"}))


def run(spec: Spec, state: str = "started", dry: bool = False, **proof):
    """The module's result."""
    host = EngineHost(lambda argv: (1, "", "not asked"), lambda name: None, dry)
    if state in ("started", "restarted"):
        return host.bring_up(spec, state, Proof(**{"ready_timeout": 30, "probe_timeout": 5, "warmup": (2,), **proof}))
    return host.take_down(spec, state)


def with_config(spec: Spec, **config) -> Spec:
    return dataclasses.replace(spec, config={**spec.config, **{key.replace("_", "-"): value for key, value in config.items()}})


def starts(spec: Spec) -> int:
    """How often the program began."""
    return len(Path(spec.container.home, "starts").read_text().splitlines())


def test_start_again_and_changed(client, spec):
    told = run(spec, dry=True)
    assert (told["changed"], told["action"], told["pending"], names(client, spec)) == (True, "start", [], [])
    first = run(spec)
    assert (first["action"], first["changed"], first["warmed"], first["diff"]) == ("start", True, 1, told["diff"])
    assert spec.api_key not in str(first)
    again = run(spec)
    assert (again["action"], again["changed"], again["diff"], starts(spec)) == ("none", False, [], 1)

    longer = with_config(spec, max_model_len=64)
    assert run(longer, dry=True)["would_restart"] is True
    assert (run(longer)["action"], run(longer)["changed"], starts(spec)) == ("restart", False, 2)
    assert names(client, spec) == [spec.unit, f"{spec.unit}-before"]
    key = dataclasses.replace(longer, api_key=secrets.token_hex(16))
    assert run(key)["action"] == "restart"  # and the proof asked with the new key
    smaller = dataclasses.replace(key, container=dataclasses.replace(spec.container, shm_bytes=1 << 26))
    assert [entry["after_header"].rpartition("/")[2] for entry in run(smaller)["diff"]] == ["container.json", "digest"]
    assert starts(spec) == 4


def test_a_policy_that_somebody_changed_is_put_right_without_a_restart(client, spec):
    run(spec)
    client.api.update_container(spec.unit, restart_policy={"Name": "no"})
    result = run(spec)
    assert (result["changed"], result["action"], run(spec)["changed"], starts(spec)) == (True, "none", False, 1)
    assert client.containers.get(spec.unit).attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_a_run_that_was_cut_while_it_replaced_is_made_good(client, spec):
    """Cut at each call that changes something: the next run brings the wanted one up, and nothing is left beside it."""
    run(spec)
    lengths = iter(range(64, 90))
    for verb in ("create_container_from_config", "update_container", "stop", "rename", "start"):
        changed = with_config(spec, max_model_len=next(lengths))

        class Cut(BaseException):
            pass

        def cut(*_arguments, **_more):
            raise Cut

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(docker.APIClient, verb, cut)
            with pytest.raises(Cut):
                run(changed)
        result = run(changed)
        assert (result["changed"], result["probe"]["status"], run(changed)["changed"]) == (True, 200, False), verb
        assert names(client, spec) == [spec.unit, f"{spec.unit}-before"], verb
        label = client.containers.get(spec.unit).labels["idc.llm.digest"]
        assert label == Path(spec.config_dir, spec.name, "digest").read_text().strip()


def test_what_the_engine_can_and_cannot(client, spec):
    """Seen from inside, and by the daemon."""
    run(spec)
    container = client.containers.get(spec.unit)
    seen = json.loads(container.logs().decode().partition("seen ")[2].splitlines()[0])
    config = f"{spec.config_dir}/{spec.name}/config.yaml"
    assert (seen["argv"], seen["home"], seen["model"]) == (
        ["serve", "--config", config], spec.container.home, ["model.safetensors"])
    assert (seen["uid"], seen["CORE"], seen["MEMLOCK"], seen["NOFILE"]) == (65534, [0, 0], [1 << 20] * 2, [4096] * 2)

    def tried(program: str) -> int:
        return container.exec_run(["/usr/bin/python3", "-c", program]).exit_code

    assert tried("open('/tmp/x', 'w')") == 0
    assert tried("open('/usr/local/x', 'w')") == 1
    assert tried(f"open('{spec.config['model']}/x', 'w')") == 1
    assert tried(f"open('{spec.config_dir}/{spec.name}/env')") == 1
    status = container.exec_run(["cat", "/proc/self/status"]).output.decode()
    assert "CapBnd:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    assert spec.api_key not in " ".join(container.attrs["Args"])
    assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert container.attrs["Config"]["StopTimeout"] == 35


def test_a_bad_configuration_is_taken_back(client, spec):
    run(spec)
    with pytest.raises(IdcError) as caught:
        run(with_config(spec, max_model_len=13))
    details = caught.value.details
    assert (caught.value.code, details["fault"], details["rolled_back"]) == ("IDC-ENG-018", "context", True)
    assert "max_model_len (13)" in caught.value.render() and f"docker logs {spec.unit}-before" in caught.value.render()
    assert "max_model_len (13)" in client.containers.get(f"{spec.unit}-before").logs().decode()
    assert client.containers.get(f"{spec.unit}-before").attrs["HostConfig"]["RestartPolicy"]["Name"] == "no"
    again = run(spec)
    assert (again["changed"], again["action"]) == (False, "none")


def test_the_first_start_that_fails_says_why(spec):
    with pytest.raises(IdcError) as caught:
        run(with_config(spec, max_model_len=13))
    assert (caught.value.code, caught.value.details["fault"]) == ("IDC-ENG-007", "context")
    assert "Docker keeps trying" in caught.value.render() and "systemd" not in caught.value.render()
    assert run(spec)["action"] == "restart"  # the daemon was still trying the other one


def test_a_killed_engine_comes_back_by_itself(client, spec):
    run(spec)
    container = client.containers.get(spec.unit)
    os.kill(main_process(client, spec), 9)
    assert wait_for(lambda: starts(spec) == 2, 30, 0.2)
    container.reload()
    assert container.attrs["RestartCount"] == 1
    again = run(spec)
    assert (again["changed"], again["action"], again["probe"]["status"]) == (False, "none", 200)


def main_process(client, spec: Spec) -> int:
    """The pid, on the host, of the engine itself."""
    rows = client.api.top(spec.unit, ps_args="-eo pid,args")["Processes"]
    return next(int(pid) for pid, words in rows if "vllm serve" in words and "docker-init" not in words)


def test_drained_waits_for_what_is_under_way_and_keeps_it_down(client, spec):
    run(with_config(spec, long_prefill_token_threshold=1))  # the stand-in gives a token a second
    answer: list[bytes] = []
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{spec.config['port']}/v1/chat/completions", body,
                                     {"Authorization": f"Bearer {spec.api_key}", "Content-Type": "application/json"})

    def ask():
        with urllib.request.urlopen(request, timeout=30) as reply:
            answer.append(reply.read())

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    assert run(spec, "drained", dry=True)["drained"] is False
    result = run(spec, "drained")
    asking.join(5)
    assert (result["drained"], result["action"], result["changed"], answer[0].endswith(b"[DONE]\n\n")) == (True, "stop", True, True)
    container = client.containers.get(spec.unit)
    assert (container.status, container.attrs["State"]["ExitCode"]) == ("exited", 0)
    assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "no"  # nor at the next boot
    assert run(spec, "drained")["changed"] is False
    assert run(spec)["action"] == "start"


def test_one_that_loads_takes_no_sigterm_and_is_killed(client, spec):
    loading = with_config(spec, max_model_len=17)
    assert run(loading, wait=False)["action"] == "start"
    assert wait_for(lambda: b"seen" in client.containers.get(spec.unit).logs(), 60, 0.2)
    began = client.containers.get(spec.unit)
    assert run(spec, "stopped")["action"] == "stop"
    began.reload()
    assert (began.status, began.attrs["State"]["ExitCode"]) == ("exited", 137)


def test_absent_leaves_nothing(client, spec):
    run(spec)
    run(with_config(spec, max_model_len=64))
    by_systemd = dataclasses.replace(spec, container=None)  # who takes down need not know
    assert run(by_systemd, "absent", dry=True)["changed"] is True
    assert len(names(client, spec)) == 2
    assert run(by_systemd, "absent")["changed"] is True
    assert names(client, spec) == []
    assert not os.path.exists(f"{spec.config_dir}/{spec.name}") and not os.path.lexists(spec.link)
    assert run(spec, "absent")["changed"] is False


def test_the_other_runtime_is_refused_while_this_one_runs(client, spec):
    run(spec)
    with pytest.raises(IdcError, match="IDC-ENG-006: runtime is 'systemd'"):
        run(dataclasses.replace(spec, container=None))
    assert client.containers.get(spec.unit).status == "running"


def test_what_the_daemon_refuses_stops_nothing(client, spec):
    """A GPU on a host without them: it cannot start, and the old one comes back; a folder that is not there: it cannot be made."""
    run(spec)
    with pytest.raises(IdcError, match="IDC-ENG-018"):
        run(dataclasses.replace(spec, gpus=("GPU-00000000-0000-0000-0000-000000000000",)))
    assert (run(spec)["changed"], starts(spec)) == (False, 2)
    folders = (spec.config["model"], "/does/not/exist")
    with pytest.raises(IdcError, match="/does/not/exist"):
        run(dataclasses.replace(spec, container=dataclasses.replace(spec.container, folders=folders)))
    assert run(spec)["changed"] is False


def test_an_image_that_is_not_there(client, spec):
    gone = dataclasses.replace(spec, container=dataclasses.replace(spec.container, image="idc-llm-none:1"))
    with pytest.raises(IdcError, match="IDC-ENG-025"):
        run(gone)
    assert "idc-llm-none:1" in run(gone, dry=True)["pending"][0]
    run(spec)
    with pytest.raises(IdcError, match="IDC-ENG-025"):
        run(gone)
    assert (run(spec)["changed"], starts(spec)) == (False, 1)


def test_an_image_whose_arguments_were_not_listed(spec):
    Path(Docker(False).arguments(spec)).unlink()
    with pytest.raises(IdcError, match="IDC-ENG-016"):
        run(spec)


def play_image(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """The role's image tasks on this host: exit code, output, recap."""
    given = {"vllm_runtime": "docker", "vllm_root": str(folder / "root"), "vllm_docker_packages": [], "__vllm_release": "1.0",
             "ansible_python_interpreter": sys.executable, **variables}
    tasks = [{"ansible.builtin.include_role": {"name": "idc.llm.vllm", "tasks_from": "image"}}]
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": given, "tasks": tasks}]
    (folder / "play.json").write_text(json.dumps(play))
    done = subprocess.run([BIN / "ansible-playbook", "-i", "localhost,", *arguments, folder / "play.json"], cwd=ROOT, text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=300,
                          env={**os.environ, "ANSIBLE_NOCOLOR": "1"})
    return done.returncode, done.stdout, dict(RECAP.findall(done.stdout)).get("localhost", "")


def test_the_role_loads_an_archive_once_and_lists_its_arguments_once(client, tmp_path):
    (tmp_path / "root/releases").mkdir(parents=True)
    with engine_image.stand_in(client) as tag:
        identity = client.images.get(tag).id
        archive = tmp_path / "image-1.0.tar"
        with archive.open("wb") as stream:
            for chunk in client.images.get(tag).save(named=tag):
                stream.write(chunk)
        client.images.remove(tag, force=True)
        where = {"vllm_image": tag, "vllm_image_archive": f"{tmp_path}/image-{{release}}.tar"}

        rc, output, recap = play_image(tmp_path, "--check", **where)
        assert (rc, client.images.list(tag)) == (0, []), output
        rc, output, recap = play_image(tmp_path, **{**where, "vllm_image_archive": ""})
        assert rc != 0 and f"IDC-ENG-025: The image {tag} is not on this host" in output
        rc, output, recap = play_image(tmp_path, **where)
        assert rc == 0 and "changed=3 " in recap, output  # loaded, the folder, the list
        listed = tmp_path / f"root/releases/1.0-docker/arguments-{identity.partition(':')[2][:12]}.json"
        assert json.loads(listed.read_text())["vllm"] == "1.0+test"
        archive.unlink()
        for arguments in ((), ("--check",)):
            rc, output, recap = play_image(tmp_path, *arguments, **where)
            assert rc == 0 and "changed=0 " in recap, output
        rc, output, recap = play_image(tmp_path, __vllm_release="1.0.1", **where)
        assert rc != 0 and f"vllm_image is '{tag}, vLLM 1.0+test'" in output, output
