"""script/wheels and the stub wheel: what ends up in the folder, and that its hashes are the files' own."""

from __future__ import annotations

import argparse
import hashlib
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _release

ROOT = Path(__file__).parents[3]


def load(path):
    """A script of the repository as a module, whatever its file name ends with."""
    loader = importlib.machinery.SourceFileLoader(path.stem, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(path.stem, loader))
    loader.exec_module(module)
    return module


sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
wheels = load(ROOT / "script" / "wheels")
archive = load(ROOT / "script" / "archive")
stub = load(ROOT / "tests" / "support" / "engine" / "make_stub_wheel.py")
sys.dont_write_bytecode = before


def arguments(tmp_path, **changes):
    """What the command line would give, with `changes`."""
    given = {"release": "0.33.0", "pins": None, "python": "3.12", "no_deps": False, "extra_index": "", "extra_wheel": [],
             "kernels": False}
    return argparse.Namespace(**{**given, "out": tmp_path / "out", **changes})


def fake_pip(monkeypatch, names):
    """In pip's place: writes a file for each of `names` into the folder after --dest."""

    def run(command, check):
        assert check
        for name in names:
            (Path(command[command.index("--dest") + 1]) / name).write_bytes(name.encode())

    monkeypatch.setattr(wheels.subprocess, "run", run)
    monkeypatch.setattr(wheels, "interpreter", lambda version: sys.executable)


def test_stub_wheel_is_the_same_each_time_and_pip_installs_it(tmp_path):
    one, two = stub.write("0.32.0", tmp_path / "a"), stub.write("0.32.0", tmp_path / "b")
    assert one.name == "vllm-0.32.0+cpu-py3-none-any.whl"
    assert one.read_bytes() == two.read_bytes()
    target = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, one], check=True)
    assert (target / "vllm-0.32.0+cpu.dist-info" / "entry_points.txt").read_text() == (
        "[vllm.general_plugins]\namx = vllm_cpu_amx:register\n"
    )


def test_stub_wheel_record_names_every_file(tmp_path):
    with zipfile.ZipFile(stub.write("0.32.0", tmp_path)) as archive:
        record = archive.read("vllm-0.32.0+cpu.dist-info/RECORD").decode().splitlines()
        assert [row.split(",")[0] for row in record] == archive.namelist()


def test_requirement_carries_name_version_and_hash(tmp_path):
    wheel = tmp_path / "Foo_Bar.baz-1.2+cpu-py3-none-any.whl"
    wheel.write_bytes(b"x")
    assert wheels.requirement(wheel) == f"foo-bar-baz==1.2+cpu --hash=sha256:{hashlib.sha256(b'x').hexdigest()}"


def test_fill_replaces_the_folder_and_lists_every_wheel(tmp_path, monkeypatch):
    out, extra = tmp_path / "out", tmp_path / "vllm-1-py3-none-any.whl"
    extra.write_bytes(b"extra")
    out.mkdir()
    (out / "stale-1-py3-none-any.whl").write_bytes(b"")
    fake_pip(monkeypatch, ["b-2-py3-none-any.whl", "a-1-py3-none-any.whl"])
    assert wheels.fill(arguments(tmp_path, extra_wheel=[extra])) == 3
    lines = (out / "requirements.txt").read_text().splitlines()
    assert lines[0].startswith("# Python 3.12")
    assert [line.split(" ")[0] for line in lines[1:]] == ["a==1", "b==2", "vllm==1"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", extra.name]
    assert not (out / "stale-1-py3-none-any.whl").exists()


def test_a_failed_download_leaves_the_old_folder(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept").write_text("")

    def run(command, check):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(wheels.subprocess, "run", run)
    monkeypatch.setattr(wheels, "interpreter", lambda version: sys.executable)
    with pytest.raises(subprocess.CalledProcessError):
        wheels.fill(arguments(tmp_path))
    assert (out / "kept").exists()


def test_command_names_the_release_and_takes_only_wheels(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "interpreter", lambda version: "/usr/bin/python3.12")
    command = wheels.download_command(arguments(tmp_path), tmp_path)
    assert command[0] == "/usr/bin/python3.12"
    assert command[-1] == "vllm==0.33.0"
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert "--platform" not in command


def test_command_without_that_python_chooses_by_tags(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "interpreter", lambda version: None)
    command = wheels.download_command(arguments(tmp_path, pins=Path("pins.txt"), no_deps=True, extra_index="URL"), tmp_path)
    assert command[command.index("--python-version") + 1] == "3.12"
    assert "manylinux_2_28_x86_64" in command
    assert "--no-deps" in command
    assert command[command.index("--extra-index-url") + 1] == "URL"
    assert command[-2:] == ["-r", "pins.txt"]


def test_kernels_are_those_of_the_flashinfer_that_came(tmp_path, monkeypatch):
    asked = []

    def run(command, check):
        asked.append(command)
        name = "flashinfer_python-0.7.2-py3-none-any.whl" if len(asked) == 1 else "flashinfer_cubin-0.7.2-py3-none-any.whl"
        (Path(command[command.index("--dest") + 1]) / name).write_bytes(b"x")

    monkeypatch.setattr(wheels.subprocess, "run", run)
    monkeypatch.setattr(wheels, "interpreter", lambda version: sys.executable)
    assert wheels.fill(arguments(tmp_path, kernels=True, extra_index="URL")) == 2
    assert asked[0][-1] == "vllm==0.33.0" and "--no-deps" not in asked[0]
    assert asked[1][-2:] == ["flashinfer-cubin==0.7.2", "flashinfer-jit-cache==0.7.2"]
    assert "--no-deps" in asked[1] and "vllm==0.33.0" not in asked[1] and asked[1][asked[1].index("--extra-index-url") + 1] == "URL"


def test_kernels_without_flashinfer_are_a_mistake(tmp_path, monkeypatch):
    fake_pip(monkeypatch, ["vllm-0.33.0-py3-none-any.whl"])
    with pytest.raises(SystemExit, match="no flashinfer_python"):
        wheels.fill(arguments(tmp_path, kernels=True))


def test_an_archive_says_what_it_is_first_and_leaves_the_marker_out(tmp_path):
    release = tmp_path / "releases/1.0"
    (release / "bin").mkdir(parents=True)
    (release / "bin/python3").symlink_to("/usr/bin/python3")
    (release / "bin/python").symlink_to("python3")
    with pytest.raises(SystemExit, match="no finished release"):
        archive.pack(release, tmp_path / "out.tar.gz")
    (release / "installed-requirements.txt").write_text("vllm==1.0\n")
    digest = archive.pack(release, tmp_path / "out.tar.gz")
    assert digest == hashlib.sha256((tmp_path / "out.tar.gz").read_bytes()).hexdigest()
    assert archive.pack(release, tmp_path / "again.tar.gz") == digest
    with tarfile.open(tmp_path / "out.tar.gz") as tar:
        assert tar.getnames() == ["release.json", "bin", "bin/python", "bin/python3"]
        said = json.load(tar.extractfile("release.json"))
        assert {(one.uid, one.gid) for one in tar} == {(0, 0)}
    assert (said["release"], said["path"], said["interpreter"]) == ("1.0", str(release), "/usr/bin/python3")
    assert _release.read_head(json.dumps(said)).text == "vllm==1.0\n"
    assert (archive.MARKER, archive.HEAD) == (_release.MARKER, _release.HEAD)


def test_engine_pins_are_exact_and_leave_the_cuda_builds_out():
    lines = (ROOT / "tests" / "support" / "engine" / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(pin.count("==") == 1 for pin in pins)
    names = {pin.split("==")[0].lower() for pin in pins}
    assert {"vllm-cpu", "torch"} <= names
    assert not names & {"torchvision", "torchaudio", "torchcodec", "triton", "vllm"}
