# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measures GPUs, as far as that goes without one; what it gave on two H200 is in docs/guides/acceptance.md."""
from __future__ import annotations

import subprocess
import sys

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_gpu_check as agent


@pytest.mark.parametrize(("mask", "words"), [
    (0x0, []), (0x1, []), (0x4, []), (0x44, ["hardware thermal"]), (0x1000, ["0x1000"]),
    (0xE8, ["hardware slowdown", "software thermal", "hardware thermal", "power brake"])])
def test_a_power_limit_is_no_fault_and_what_is_not_known_is_told(mask, words):
    assert agent.reasons(mask) == words


def test_bus_bandwidth_is_that_of_nccl_tests():
    """8 GiB in one second over two ranks cross each link once; over eight 1.75 times."""
    assert agent.bus_bandwidth(8.0, 1.0, 2) == 8.0 and agent.bus_bandwidth(8.0, 1.0, 8) == 14.0


@pytest.mark.parametrize(("said", "seen"), [
    ("1455, 690.36, 53, 0x0000000000000004\n", {"sm_mhz": 1455, "watts": 690.36, "celsius": 53, "slowed": []}),
    ("1455, [N/A], 53, 0x4\n", {}), ("No devices were found\n", {})])
def test_what_nvidia_smi_shows_is_read(tmp_path, monkeypatch, said, seen):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert agent.under_load("GPU-0") == seen


def test_without_torch_it_says_so_in_one_line():
    done = subprocess.run([sys.executable, "-I", "-S", agent.__file__], text=True, check=False, capture_output=True)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.startswith("no torch in ") and done.stderr.count("\n") == 1


def test_a_driver_that_knows_the_older_name_is_asked_by_it(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\ncase "$*" in *event*) exit 2 ;; esac\necho "1455, 690.36, 53, 0x40"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert agent.under_load("GPU-0")["slowed"] == ["hardware thermal"]


def test_memory_is_taken_beside_the_gpu(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 00000000:1B:00.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    place = tmp_path / "sys/bus/pci/devices/0000:1b:00.0/local_cpulist"
    place.parent.mkdir(parents=True)
    monkeypatch.setattr(agent.os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3})
    for text, processors in (("1-2,7\n", {1, 2}), ("8-9\n", {0, 1, 2, 3}), ("?\n", {0, 1, 2, 3})):
        place.write_text(text)
        assert agent.beside("GPU-0", str(tmp_path / "sys")) == processors


@pytest.mark.parametrize("words", [["--seconds", "0"], ["--seconds", "601"], ["--mib", "0"]])
def test_words_without_sense_are_refused(words, capsys):
    assert agent.main(words) == 1 and "wanted up to 600" in capsys.readouterr().err
