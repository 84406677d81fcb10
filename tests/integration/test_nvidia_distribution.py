# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's own driver for real, 535 on Debian 12, 550 on Debian 13, built by DKMS against Debian's headers.

With the proprietary modules: those are in Debian's security updates and follow its kernels. The open ones (2026-11: 535.261.03)
do not build against the newest (6.1.192: "too few arguments to function pci_resize_resource").

The module cannot be loaded in a container, whose kernel is another one: what is asserted is the file that DKMS built. The card is a
tree like /sys. Minutes of compiling: script/test nvidia.
"""
from __future__ import annotations

import re

import pytest

from tests.support.box import SYSTEMD, Box, docker, image
from tests.support.nvml import Machine

WINDOWS = {"resource": "0x10000000 0x10ffffff 0x14220c\n0x100000000000 0x103fffffffff 0x14220c"}
EXPECTED = {"bookworm": "535", "trixie": "550"}


@pytest.mark.parametrize("suite", EXPECTED)
def test_debians_driver_is_built_pinned_and_stays(suite, tmp_path):
    if not image(suite):
        pytest.skip("no image of this suite: script/bootstrap fleet")
    name = f"nvidia-distribution-{suite}"
    docker("rm", "-f", name, check=False)
    docker("run", "-d", "--name", name, *SYSTEMD, image(suite))
    box = Box(name, 2400)
    try:
        box.sh("until systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.3; done; mkdir -p /srv/sys")
        box.sh("apt-get update -q")
        machine = Machine.load("l40s-4").with_(gpus={"defaults": {"sysfs": WINDOWS}}, sysfs={"modules": []})
        box.put(machine.install(tmp_path / "machine").sysfs, "/srv/sys")
        depends = box.sh("apt-cache show --no-all-versions linux-headers-amd64 | grep ^Depends:")
        kernel = re.search(r"linux-headers-(\S+-amd64)", depends).group(1)
        given = {"nvidia_stack_source": "distribution", "nvidia_stack_kernel": kernel, "nvidia_stack_dcgm_enabled": False,
                 "nvidia_stack_modules": "proprietary"}
        words = ({"name": "idc.llm.nvidia_stack"}, "-e", "__nvidia_stack_sysfs=/srv/sys")
        fresh = box.play(tmp_path, *words, **given)
        assert fresh.rc == 0, fresh.output
        found = dict(line.split() for line in box.sh(
            "dpkg-query -W -f '${Package} ${Version}\\n' '*nvidia*' libcuda1 | awk 'NF==2'").splitlines())
        built = box.sh(f"find /lib/modules/{kernel}/updates -name 'nvidia*.ko*'").split()
        print(f"{suite}: {kernel} {found['nvidia-kernel-dkms']}\n" + "\n".join(built))
        # Debian's names for nvidia.ko and its kin
        names = {path.rpartition("/")[2].partition(".ko")[0] for path in built}
        assert names >= {"nvidia-current", "nvidia-current-uvm", "nvidia-current-peermem"}
        version = box.sh(f"modinfo -k {kernel} -F version nvidia-current")
        assert version.startswith(EXPECTED[suite]) and found["nvidia-kernel-dkms"].startswith(version)
        assert box.sh(f"modinfo -k {kernel} -F license nvidia-current") == "NVIDIA"
        loose = {name: one for name, one in found.items() if name not in box.sh("apt-mark showhold").split()}
        assert not [name for name, one in loose.items() if one.startswith(version)], loose
        print(f"of other versions, not held: {loose}")
        again = box.play(tmp_path, *words, **given)
        assert again.rc == 0 and again.recap["changed"] == 0, again.output
        assert "nvidia" not in box.sh("apt-get -s dist-upgrade | grep ^Inst || true")
    finally:
        docker("rm", "-f", name)
