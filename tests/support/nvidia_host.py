# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container as a host with NVIDIA's cards, for the role nvidia_stack: the cards are a tree like /sys, nvidia-smi reads a file."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.box import SYSTEMD, Box, Run, docker, image
from tests.support.nvml import Machine

WINDOWS = {"resource": "0x10000000 0x10ffffff 0x14220c\n0x100000000000 0x103fffffffff 0x14220c"}


@dataclass
class Cards:
    """A container with cards. given: the variables of this host."""

    box: Box
    here: Path
    given: dict[str, Any]

    def run(self, *options: str, **variables: Any) -> Run:
        """The role, with these variables beside the host's own."""
        return self.box.play(self.here, {"name": "idc.llm.nvidia_stack"}, "-e", "__nvidia_stack_sysfs=/srv/sys", "-e",
                             "__nvidia_stack_proc=/srv/proc", *options, **{**self.given, **variables})

    def boot(self, version: str) -> None:
        """What a boot does: this module is loaded."""
        text = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build"
        self.box.sh(f"mkdir -p /srv/sys/module/nvidia /srv/proc/driver/nvidia; echo {version} > /srv/sys/module/nvidia/version; "
                    f"echo '{text}' > /srv/proc/driver/nvidia/version")


def start(name: str, suite: str) -> Box:
    """A fresh container in which systemd is up."""
    docker("rm", "-f", name, check=False)  # what a run that was killed left
    docker("run", "-d", "--name", name, *SYSTEMD, image(suite))
    box = Box(name, 900)
    box.sh("until systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.3; done")  # it clears /tmp
    return box


def give_cards(box: Box, folder: Path, libraries: str) -> None:
    """Eight H100 on the bus, nouveau loaded; what nvidia-smi will say, once the driver's package has brought it."""
    machine = Machine.load("hgx-h100-8").with_(gpus={"defaults": {"sysfs": WINDOWS}},
                                               sysfs={"modules": ["nouveau"], "iommu": "DMA"})
    box.sh("mkdir -p /srv/sys /srv/proc")
    tree = machine.install(folder / "machine").sysfs
    box.put(tree, "/srv/sys")
    state = {"library": f"{libraries}/libnvidia-ml.so.1", "module": "/srv/sys/module/nvidia/version", "gpus": gpus()}
    (folder / "gpus.json").write_text(json.dumps(state))
    box.put(folder / "gpus.json", "/srv/gpus.json")


def gpus() -> list[dict[str, Any]]:
    """Rows of nvidia-smi: an H200 as it says it."""
    return [{"index": number, "uuid": f"GPU-ef31555b-905f-81cd-95b6-547c8e21ee{number:02d}", "persistence_mode": "Enabled",
             "power.limit": 700.0, "power.default_limit": 700.0, "power.min_limit": 200.0, "power.max_limit": 700.0,
             "clocks.applications.graphics": 1980, "clocks.applications.memory": 3201, "mig.mode.current": "Disabled",
             "mig.mode.pending": "Disabled", "instances": [], "apps": False} for number in range(2)]


def good(run: Run, changed: bool | None = None) -> None:
    assert run.rc == 0, run.output
    assert changed is None or (run.recap["changed"] > 0) is changed, run.output


def refused(run: Run, *words: str) -> None:
    assert run.rc != 0, run.output
    for word in words:
        assert word in run.text, f"{word!r} is not in {run.output}"
