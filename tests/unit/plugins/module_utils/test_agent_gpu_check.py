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


@pytest.mark.parametrize(("said", "seen"), [
    ("5, 16, 5, 16\n", {"pcie": {"generation": 5, "lanes": 16, "generation_max": 5, "lanes_max": 16}}),
    ("[N/A], 16, 5, 16\n", {}), ("", {})])
def test_a_link_is_read(tmp_path, monkeypatch, said, seen):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert agent.link("GPU-0") == seen


class Dist:
    """torch.distributed as a rank uses it: remembers how it was met with."""

    def __init__(self):
        self.met, self.sums = None, 0

    def init_process_group(self, backend, **words):
        self.met = (backend, words["init_method"], words["rank"], words["world_size"])

    def all_reduce(self, data):
        self.sums += 1

    def broadcast(self, data, source):
        assert source == 0, "the first rank of all says when it is enough"

    def destroy_process_group(self):
        pass


class Tensor:
    """A number that stands for all elements of a tensor; without others to sum it up with it stays what it is."""

    def __init__(self, value):
        self.value = value

    def __ne__(self, other):
        return Tensor(int(self.value != other))

    def sum(self):
        return self.value

    def zero_(self):
        self.value = 0

    def fill_(self, value):
        self.value = value

    def item(self):
        return self.value


class Torch:
    """What rank() takes of torch."""

    def __init__(self):
        self.distributed = Dist()

    def full(self, _shape, value, device):
        assert device == "cpu"
        return Tensor(value)

    def zeros(self, _count, device):
        assert device == "cpu"
        return Tensor(0.0)


def test_a_half_s_ranks_follow_the_other_half_s():
    torch = Torch()
    found = agent.rank(torch, 1, agent.Ring("tcp://10.0.0.1:29500", 4, 2, "gloo"), 0.01, 1)
    assert torch.distributed.met == ("gloo", "tcp://10.0.0.1:29500", 3, 4)
    assert (found["gpus"], found["bytes"]) == (4, 1 << 20)
    assert torch.distributed.sums % 10 == 2, "one to see whether it is right, one by itself, then ten at a time"
    assert found["wrong"] == 1, "nobody has added anything to this rank's 4, and 10 was wanted"


def test_the_slowest_rank_counts_and_a_complaint_ends_it(tmp_path, monkeypatch):
    """A half of two ranks; in the place of this Python a program that says what each of them would."""
    python = tmp_path / "python"
    monkeypatch.setattr(agent.sys, "executable", str(python))
    python.write_text('#!/bin/sh\nfor number; do :; done\n'
                      'echo "{\\"gpus\\": 4, \\"bytes\\": 9, \\"busbw_gbs\\": 4$number.55, \\"wrong\\": $number}"\n')
    python.chmod(0o755)
    ring = agent.Ring("tcp://10.0.0.1:29500", 4, 2)
    assert agent.all_reduce(2, ring, 1, 16) == {"gpus": 4, "bytes": 9, "busbw_gbs": 40.5, "wrong": 1}
    python.write_text("#!/bin/sh\necho connection refused >&2; exit 1\n")
    with pytest.raises(RuntimeError, match="all-reduce: connection refused; connection refused"):
        agent.all_reduce(2, ring, 1, 16)


class Cuda:
    """torch with GPUs whose memory is lists; the second does not let the first read it, and the third changes a number."""

    def __init__(self):
        self.cuda, self.at = self, 0

    def set_device(self, index):
        self.at = index

    def synchronize(self, index=None):
        pass

    def can_device_access_peer(self, source, target):
        return (source, target) != (0, 1)

    def arange(self, count, device):
        return Numbers(range(count), device)

    def zeros(self, count, dtype, device):
        return Numbers([0] * count, device)


class Numbers(list):
    """A tensor of them on a GPU."""

    dtype = "int64"

    def __init__(self, numbers, device=0):
        super().__init__(numbers)
        self.device = device

    def copy_(self, other, non_blocking):
        assert non_blocking
        self[:] = [*other[:-1], -1] if self.device == 2 else other

    def __ne__(self, other):
        return Numbers(one != two for one, two in zip(self, other, strict=True))

    def sum(self):
        return sum(self)


def test_each_gpu_s_memory_is_copied_to_each_other_one_s_and_compared(monkeypatch):
    sources = []

    def timed(torch, work, seconds):
        work()
        sources.append(torch.at)
        return 0.01 if torch.at == 1 else 0.001
    monkeypatch.setattr(agent, "timed", timed)
    found = agent.peers(Cuda(), 3, 0.3, 1)
    assert found == {"ways": 6, "indirect": [[0, 1]], "wrong": 2, "gbs": 0.1} and sources == [0, 0, 1, 1, 2, 2]
