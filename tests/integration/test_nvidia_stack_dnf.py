# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nvidia_stack by dnf: a container of Debian 12, with Debian's dnf, that calls itself Rocky 9."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import nvidia_rpms as rpms
from tests.support.box import SYSTEMD, Box, Run, docker, image
from tests.support.nvidia_stub import kernel
from tests.support.nvml import Machine

NAME = "nvidia-stack-dnf"
NEW, NEWER = "580.178.04", "580.190.01"
WINDOWS = {"resource": "0x10000000 0x10ffffff 0x14220c\n0x100000000000 0x103fffffffff 0x14220c"}

pytestmark = pytest.mark.skipif(not image(), reason="no image of the fleet here: script/bootstrap fleet")


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> Iterator[tuple[Box, Path, dict[str, Any]]]:
    """The container, gone at the end."""
    folder = tmp_path_factory.mktemp("dnf")
    docker("rm", "-f", NAME, check=False)
    docker("run", "-d", "--name", NAME, *SYSTEMD, image())
    made = Box(NAME, 900)
    made.sh("until systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.3; done; mkdir -p /srv/sys")
    fingerprint = rpms.prepare(made, kernel())
    rpms.built(made, kernel(), NEW)
    machine = Machine.load("l40s-4").with_(gpus={"defaults": {"sysfs": WINDOWS}}, sysfs={"modules": []})
    made.put(machine.install(folder / "machine").sysfs, "/srv/sys")
    rpms.driver(made, NEW)
    rpms.rpm(made, "datacenter-gpu-manager-4-cuda13", "4.5.2", 1, "nvidia-dcgm.service")
    rpms.rpm(made, "python3-dnf-plugin-versionlock", "4.3.1", 0)  # Debian's dnf-plugins-core has it
    rpms.publish(made, NEW)
    docker("exec", "-d", NAME, "python3", "-m", "http.server", "--directory", "/srv/www", "--bind", "127.0.0.1", "8099")
    yield made, folder, {"nvidia_stack_repository": "http://127.0.0.1:8099/repos", "nvidia_stack_key_fingerprint": fingerprint}
    docker("rm", "-f", NAME)


def play(box: tuple[Box, Path, dict[str, Any]], *options: str, **variables: Any) -> Run:
    made, folder, given = box
    words = {**given, **variables}
    return made.play(folder, {"name": "idc.llm.nvidia_stack"}, "-e", "__nvidia_stack_sysfs=/srv/sys", *options, **words)


def good(run: Run, changed: bool) -> None:
    assert run.rc == 0 and (run.recap["changed"] > 0) is changed, run.output


def installed(box: Box) -> set[str]:
    return set(box.sh("rpm --query --all --queryformat '%{NAME}-%{VERSION}\\n' '*nvidia*' 2>/dev/null").split())


def test_stream_packages_locks_and_only_once(box):
    good(play(box, "--check"), changed=True)
    assert installed(box[0]) == set()
    good(play(box), changed=True)
    assert installed(box[0]) >= {f"nvidia-driver-cuda-{NEW}", f"kmod-nvidia-open-dkms-{NEW}", f"nvidia-persistenced-{NEW}"}
    assert "stream=580-open" in box[0].sh("cat /etc/dnf/modules.d/nvidia-driver.module")
    assert "nvidia-driver-cuda" in box[0].sh("dnf -q versionlock list")
    good(play(box), changed=False)


def test_nothing_moves_but_by_the_variable(box):
    rpms.driver(box[0], NEWER)
    rpms.publish(box[0], NEW, NEWER)
    before = installed(box[0])
    box[0].sh("dnf -q -y --refresh upgrade 2>&1")
    assert installed(box[0]) == before
    older = play(box, nvidia_stack_version="580.159.04")
    assert older.rc != 0 and "IDC-GPU-008" in older.text
    rpms.built(box[0], kernel(), NEWER)
    good(play(box, nvidia_stack_version=NEWER), changed=True)
    assert {f"nvidia-driver-cuda-{NEWER}", f"nvidia-persistenced-{NEWER}"} <= installed(box[0])
    good(play(box, nvidia_stack_version=NEWER), changed=False)
