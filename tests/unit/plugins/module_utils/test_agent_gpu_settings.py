# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power limits, clocks and MIG, against the stand-in for nvidia-smi; ACS, against trees like /sys."""
from __future__ import annotations

import json

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_cuda_report as report
from ansible_collections.idc.llm.plugins.module_utils import _agent_gpu_settings as settings

from tests.support.nvml import Machine, nvidia_smi

# What an H200 with driver 580.159.04 printed, its UUID replaced.
REAL = "0, GPU-ef31555b-905f-81cd-95b6-547c8e21eee5, Enabled, 700.00, 700.00, 200.00, 700.00, 1980, 3201, Disabled, Disabled\n"
UUID = "GPU-ef31555b-905f-81cd-95b6-547c8e21eee5"


@pytest.fixture
def host(tmp_path):
    """A host's nvidia-smi: state (may be changed), run, and what it was asked to change."""
    library = tmp_path / "libnvidia-ml.so.1"
    library.symlink_to("libnvidia-ml.so.580.159.04")
    (tmp_path / "version").write_text("580.159.04\n")

    class Host:
        asked: list[list[str]] = []
        state = {"library": str(library), "module": str(tmp_path / "version"), "gpus": [
            {**dict(zip(settings.FIELDS, (number, UUID[:-1] + str(number), "Enabled", 700.0, 700.0, 200.0, 700.0, 1980, 3201,
                                          "Disabled",
                                          "Disabled"), strict=True)), "instances": [], "apps": False} for number in range(2)]}

        def run(self, argv):
            self.asked = self.asked if str(argv[0]).startswith("--") or argv[0] == "-L" else [*self.asked, list(argv)]
            text, status, _changed = nvidia_smi.answer(list(argv), self.state)
            return status, text

    return Host()


def test_the_stand_in_prints_what_the_card_printed(host):
    host.state["gpus"] = [{**host.state["gpus"][0], "uuid": UUID}]
    assert host.run(["--query-gpu=" + ",".join(settings.FIELDS), "--format=csv,noheader,nounits"]) == (0, REAL)
    assert host.run(["-L"]) == (0, f"GPU 0: NVIDIA H200 (UUID: {UUID})\n")
    unknown = 'Field "nonsense" is not a valid field to query.\n\n'
    assert host.run(["--query-gpu=index,nonsense", "--format=csv,noheader"]) == (2, unknown)


def test_a_real_card_is_read():
    [gpu] = settings.parse_gpus(REAL, f"GPU 0: NVIDIA H200 (UUID: {UUID})\n", "")
    seen = (gpu.index, gpu.uuid, gpu.limit, gpu.default, gpu.graphics, gpu.mig, gpu.busy)
    assert seen == ("0", UUID, 700.0, 700.0, 1980.0, "Disabled", False)
    other = REAL.replace("1980, 3201, Disabled, Disabled", "[N/A], [N/A], [N/A], [N/A]")
    [plain] = settings.parse_gpus(other, "", UUID + "\n")
    assert plain.graphics is None and plain.mig is None and plain.busy


def test_watts_and_percent_once(host):
    said = settings.apply({"power_limit": "80%"}, host.run, False)
    assert said["errors"] == [] and said["changed"][0] == "GPU 0: power limit 560 W instead of 700" and len(host.asked) == 2
    assert [gpu["power.limit"] for gpu in host.state["gpus"]] == [560.0, 560.0]
    assert settings.apply({"power_limit": "560"}, host.run, False) == {"changed": [], "pending": [], "errors": []}


def test_check_changes_nothing(host):
    said = settings.apply({"power_limit": "400", "clocks": {"graphics": 1410, "memory": 3201}, "mig": {"0": ["3g.71gb"]}},
                          host.run, True)
    assert len(said["changed"]) == 5 and host.asked == [] and said["errors"] == []


def test_a_limit_that_the_card_does_not_take(host):
    said = settings.apply({"power_limit": "900"}, host.run, False)
    assert said["errors"] == ["GPU 0: 900 is 900 W, it takes 200 to 700 W", "GPU 1: 900 is 900 W, it takes 200 to 700 W"]
    assert host.asked == []


def test_clocks(host):
    assert settings.apply({"clocks": {"graphics": 1410, "memory": 3201}}, host.run, False)["errors"] == []
    assert host.state["gpus"][1]["clocks.applications.graphics"] == 1410
    said = settings.apply({"clocks": {"graphics": 1410, "memory": 999}}, host.run, False)
    assert "not supported" in said["errors"][0]
    host.state["gpus"][0]["clocks.applications.graphics"] = None
    assert "GPU 0 has no application clocks" in settings.apply({"clocks": {"graphics": 1, "memory": 1}}, host.run, True)["errors"]


def test_mig_made_changed_and_taken_away(host):
    wanted = {"mig": {"all": ["3g.71gb", "3g.71gb"], "1": []}}
    said = settings.apply(wanted, host.run, False)
    assert said == {"changed": ["GPU 0: MIG on", "GPU 0: instances 3g.71gb, 3g.71gb"], "pending": [], "errors": []}
    assert host.state["gpus"][0]["instances"] == ["3g.71gb", "3g.71gb"] and host.state["gpus"][1]["mig.mode.current"] == "Disabled"
    assert settings.apply(wanted, host.run, False)["changed"] == []
    changed = settings.apply({"mig": {"0": ["1g.18gb", "2g.35gb"]}}, host.run, False)
    assert changed["errors"] == [] and host.state["gpus"][0]["instances"] == ["1g.18gb", "2g.35gb"]
    gone = settings.apply({"mig": {host.state["gpus"][0]["uuid"]: []}}, host.run, False)
    assert gone["errors"] == [] and host.state["gpus"][0]["mig.mode.current"] == "Disabled"
    assert host.state["gpus"][0]["instances"] == []


def test_mig_is_not_changed_under_programs(host):
    host.state["gpus"][0]["apps"] = True
    said = settings.apply({"mig": {"0": ["3g.71gb"]}}, host.run, False)
    assert said["changed"] == [] and host.asked == [] and "programs run on it" in said["errors"][0]


def test_mig_that_waits_for_a_reset(host):
    """An A100 takes the mode with its next reset."""
    host.state["reset_for_mig"] = True
    said = settings.apply({"mig": {"0": ["3g.71gb"]}}, host.run, False)
    assert said["pending"] == ["GPU 0: MIG Enabled"] and said["errors"] == [] and host.state["gpus"][0]["instances"] == []


def test_names_and_answers_that_are_not_there(host):
    assert settings.apply({"mig": {"7": []}}, host.run, False)["errors"] == ["there is no GPU 7"]
    host.state["module"] = "/nonexistent"
    [problem] = settings.apply({"power_limit": "400"}, host.run, False)["errors"]
    assert problem.startswith("nvidia-smi gives no answer: NVIDIA-SMI has failed")


def config(control: int) -> bytes:
    """Configuration space of a bridge whose ACS control register says so, behind another capability."""
    space = bytearray(4096)
    space[0x100:0x104] = (0x0001 | 0x1 << 16 | 0x148 << 20).to_bytes(4, "little")
    space[0x148:0x14C] = (0x000D | 0x1 << 16).to_bytes(4, "little")
    space[0x14E:0x150] = control.to_bytes(2, "little")
    return bytes(space)


def test_acs_is_read_and_switched_off(tmp_path, capsys, host):
    tree = Machine.load("hgx-h100-8").install(tmp_path / "machine").sysfs
    bridges = settings.bridges(str(tree))
    assert "0000:17:00.0" in bridges and "0000:18:00.0" not in bridges and "0000:07:00.0" not in bridges
    for name in bridges:
        (tree / "bus/pci/devices" / name / "config").write_bytes(config(0x1D if name == "0000:17:00.0" else 0x01))
    assert settings.acs_redirects(config(0x1D)) and not settings.acs_redirects(config(0x01))
    assert not settings.acs_redirects(bytes(64))
    (tmp_path / "wanted.json").write_text(json.dumps({"acs_off": True}))
    words = [f"--config={tmp_path}/wanted.json", f"--sysfs={tree}"]
    assert settings.main([*words, "--check"], host.run) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == ["bridge 0000:17:00.0: ACS redirects off"]
    assert settings.main(words, host.run) == 0 and settings.main(words, host.run) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["changed"] == []
    left = (tree / "bus/pci/devices/0000:17:00.0/config").read_bytes()
    assert left == config(0x11)  # nothing but the two bits


def test_report_of_torch():
    class Torch:
        __version__ = "2.11.0+cu130"

        class version:
            cuda = "13.0"

        class backends:
            class cudnn:
                version = staticmethod(lambda: 91900)

        class cuda:
            class nccl:
                version = staticmethod(lambda: (2, 28, 9))

    assert report.report(Torch) == {"torch": "2.11.0+cu130", "cuda": "13.0", "cudnn": 91900, "nccl": "2.28.9"}
    Torch.version.cuda = None
    assert report.report(Torch)["nccl"] is None
