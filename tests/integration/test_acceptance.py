# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acceptance as the playbooks run it, over a fleet of H200 hosts: the role, the report, the plan that follows.

The GPUs are doubles (tests/support/nvml, and a program that prints what two H200 gave); Ansible, modules, files, the disk, the
report and the plan are real. Each "host" is this machine with an interpreter of its own, which shows it its own GPUs.
"""
from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.nvml import Machine

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FIGURES = {"matmul_tflops": 671.2, "memory_gbs": 4243.5, "to_gpu_gbs": 55.1, "from_gpu_gbs": 55.3}
# what measures: as _agent_gpu_check.py on the engine's torch, of which it takes the same words and gives the same answers
TORCH = """\
#!{python}
import json, sys
words = sys.argv[1:]
wrong = json.load(open("{folder}/wrong"))
open("{folder}/asked", "a").write(" ".join(words[2:]) + "\\n")
if "--meet" in words:
    print(json.dumps({{"gpus": 4, "bytes": 1 << 30, "busbw_gbs": wrong.get("pair", 45.2), "wrong": 0}}))
    raise SystemExit
gpus = [{{"index": at, "name": "NVIDIA H200", "uuid": uuid, "wrong": 0, "sm_mhz": 1455, "watts": 690.4, "celsius": 53,
         "slowed": [], "pcie": {{"generation": 5, "lanes": 16, "generation_max": 5, "lanes_max": 16}}, **{figures}}}
        for at, uuid in enumerate({uuids})]
gpus[1].update(wrong.get("gpu1", {{}}))
print(json.dumps({{"torch": "2.11.0+cu130", "cuda": "13.0", "nccl": "2.28.9", "gpus": gpus,
                  "all_reduce": {{"gpus": 2, "bytes": 1 << 30, "busbw_gbs": 320.7, "wrong": 0}}}}))
"""
DCGMI = """\
#!/bin/sh
echo "$@" >>{folder}/diagnosed
echo '{{"DCGM Diagnostic": {{"test_categories": [{{"category": "Deployment", "tests": [
  {{"name": "software", "results": [{{"entity_group": "GPU", "entity_id": 0, "status": "Pass"}}]}}]}}]}},
  "metadata": {{"version": "4.2.3"}}}}'
"""
# as far as the role knows of them: what they are asked, and an answer in the form of their own
NVBANDWIDTH = """\
#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES: $*" >>{folder}/copied
echo '{{"nvbandwidth": {{"version": "v0.8", "testcases": [{{"name": "host_to_device_memcpy_ce", "status": "Passed",
  "bandwidth_matrix": [["55.3", "55.1"]]}}]}}}}'
"""
NCCL_TESTS = """\
#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES: $*" >>{folder}/summed
echo '  1073741824     268435456     float     sum      -1   3301.3  325.25  325.25      0   3299.8  325.40  325.40      0'
"""
DEPLOYMENTS = [{"name": "v3", "model": "org/v3", "revision": "abc", "tensor_parallel": 2, "sources": ["file:///srv/v3"]}]


class Fleet:
    """Two hosts of two H200 each, and playbooks over them."""

    names = ("gpu1", "gpu2")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hosts = {}
        for number, name in enumerate(self.names, 1):
            home, uuids = folder / name, [f"GPU-{number}{gpu}" for gpu in range(2)]
            machine = Machine.load("h200-2")
            for gpu, uuid in enumerate(uuids):
                machine = machine.with_gpu(gpu, uuid=uuid, serial=f"16540230{number}{gpu}")
            installed = machine.install(home / "machine")
            exported = "".join(f"export {key}={value}\n" for key, value in installed.environment.items())
            program(home / "python", f"#!/bin/sh\n{exported}exec {sys.executable} \"$@\"\n")
            program(home / "torch", TORCH.format(python=sys.executable, folder=home, figures=FIGURES, uuids=uuids))
            self.gives(name)
            hosts[name] = {"ansible_python_interpreter": str(home / "python"), "acceptance_file": str(home / "acceptance.json"),
                           "idc_llm_address": f"10.0.0.{number}", "test_torch": str(home / "torch")}
        program(folder / "dcgmi", DCGMI.format(folder=folder))
        key = secrets.token_hex(24)
        site = {
            "ansible_connection": "local", "ansible_become": False, "idc_llm_deployments": DEPLOYMENTS,
            "idc_llm_customer": "Bank & Sons", "idc_llm_state_dir": str(folder / "state"), "idc_llm_domain": "llm.bank.internal",
            "acceptance_disk_mib": 64, "acceptance_seconds": 1, "acceptance_dcgmi": str(folder / "dcgmi"),
            "idc_llm_secrets": {"tenants": {"bank": {"keys": [key]}}, "engine_key": key[::-1]}}
        groups = {"gpu_nodes": {"hosts": hosts}, "gateways": {"hosts": {"gpu1": None}}, "monitors": {"hosts": {"gpu1": None}}}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": site}, **groups}))
        # over what playbooks and role say themselves: nothing of this machine is written to
        self.over = {"__acceptance_lib": str(folder / "lib"), "acceptance_python": "{{ test_torch }}",
                     "acceptance_store_path": str(folder), "__idc_llm_plan_only": True}

    def gives(self, name: str, **wrong) -> None:
        """What this host's GPUs give from now on, where it is not what two good H200 give."""
        (self.folder / name / "wrong").write_text(json.dumps(wrong))

    def verdict(self, name: str) -> dict:
        return json.loads((self.folder / name / "acceptance.json").read_text())

    def asked(self, name: str) -> list[str]:
        """The words that this host's measuring program was called with."""
        path = self.folder / name / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def report(self) -> tuple[dict, str]:
        folder = self.folder / "state/acceptance"
        return json.loads((folder / "report.json").read_text()), (folder / "report.html").read_text()

    def play(self, playbook: str, *arguments: str, **over) -> tuple[int, str]:
        """(status, output on one line). over: extra variables, and PATH of the environment."""
        path = over.pop("PATH", os.environ["PATH"])
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", self.folder / "hosts.yml", f"playbooks/{playbook}.yml", "-e",
             json.dumps({**self.over, **over}), *arguments],
            cwd=ROOT, text=True, check=False, timeout=900, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_PIPELINING": "1", "PATH": path,
                 "COLUMNS": "400"})
        return done.returncode, re.sub(r"\s+", " ", done.stdout)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def changes(output: str) -> dict[str, int]:
    """By host, of the recap."""
    return {name: int(count) for name, count in re.findall(r"(gpu\d) : ok=\d+ changed=(\d+)", output)}


def test_from_a_bad_gpu_to_a_fleet_that_is_accepted(tmp_path):
    fleet = Fleet(tmp_path)
    fleet.gives("gpu2", gpu1={"wrong": 3})

    # measures all, writes the report, and ends as failed with what was seen, what was wanted and the remedy
    rc, output = fleet.play("acceptance", "--skip-tags", "always")
    assert rc != 0 and "IDC-ACC-003: gpu2 is not accepted: GPU 1: results: 3 wrong of a product (wanted: 0)." in output, output
    assert "Replace the card that is named" in output and "IDC-ACC-003: gpu1" not in output
    assert (fleet.verdict("gpu1")["accepted"], fleet.verdict("gpu2")["accepted"]) == (True, False)
    measured = fleet.verdict("gpu1")["measured"]
    assert (measured["disk"]["bytes"], measured["dcgm"]["version"]) == (64 << 20, "4.2.3") and measured["disk"]["gbs"] > 0
    assert measured["nvbandwidth"] == {"not_run": "there is no /usr/bin/nvbandwidth"}
    found, page = fleet.report()
    assert [(row["name"], row["accepted"], row["gpus"][0]["serial"]) for row in found["hosts"]] == [
        ("gpu1", True, "1654023010"), ("gpu2", False, "1654023020")]
    assert not found["accepted"] and "Bank &amp; Sons" in page and "GPU 1: 3 wrong" in page

    # the house leaves that host out and says why, the other one serves; nothing is measured or written again
    rc, output = fleet.play("site", "--tags", "acceptance", "--skip-tags", "preflight_host,preflight_install")
    assert rc == 0 and changes(output) == {"gpu1": 0, "gpu2": 0}, output
    assert "v3-blue-0 gpu1" in output and "v3-blue-1" not in output, output
    assert "gpu2 is left out: acceptance failed: GPU 1: results: 3 wrong of a product, wanted 0" in output, output
    assert fleet.report() == (found, page) and [len(fleet.asked(name)) for name in fleet.names] == [1, 1]

    # another host in its place: that one is measured, and both together
    fleet.gives("gpu2")
    (tmp_path / "gpu2/acceptance.json").unlink()
    program(tmp_path / "nvbandwidth", NVBANDWIDTH.format(folder=tmp_path))
    program(tmp_path / "all_reduce_perf", NCCL_TESTS.format(folder=tmp_path))
    rc, output = fleet.play("acceptance", "--skip-tags", "always", acceptance_pairs=True,
                            acceptance_nvbandwidth=str(tmp_path / "nvbandwidth"),
                            acceptance_nccl_tests=str(tmp_path / "all_reduce_perf"))
    assert rc == 0, output
    met = "--seconds 1 --meet tcp://10.0.0.1:29500 --world 4 --first"
    assert fleet.asked("gpu1") == ["--seconds 1", f"{met} 0"] and fleet.asked("gpu2") == ["--seconds 1"] * 2 + [f"{met} 2"]
    assert fleet.verdict("gpu1")["measured"]["pairs"]["gpu2"]["busbw_gbs"] == 45.2
    assert (tmp_path / "diagnosed").read_text().splitlines() == ["diag -r 1 -j"] * 3
    parts = fleet.verdict("gpu2")["measured"]
    assert parts["pairs"]["gpu1"]["wrong"] == 0
    assert (parts["nvbandwidth"]["to_gpu_gbs"], parts["nccl_tests"]["busbw_gbs"]) == (55.1, 325.25)
    assert (tmp_path / "copied").read_text() == (
        "GPU-20,GPU-21: -j -t host_to_device_memcpy_ce device_to_host_memcpy_ce device_to_device_memcpy_read_ce\n")
    assert (tmp_path / "summed").read_text() == "GPU-20,GPU-21: -b 1G -e 8G -f 2 -g 2\n"
    assert fleet.report()[0]["accepted"]


def test_nothing_is_measured_in_check_mode_nor_beside_an_engine(tmp_path):
    fleet = Fleet(tmp_path)
    rc, output = fleet.play("acceptance", "--skip-tags", "always", "--check", "--limit", "gpu1")
    assert rc == 0 and fleet.asked("gpu1") == [] and not (tmp_path / "state").exists() and not (tmp_path / "lib").exists(), output

    program(tmp_path / "bin/systemctl", "#!/bin/sh\necho idc-vllm@v3-blue-0.service loaded activating start\n")
    rc, output = fleet.play("acceptance", "--skip-tags", "always", "--limit", "gpu1", PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert rc == 0 and fleet.asked("gpu1") == [] and "the GPUs are not measured: programs run on them" in output, output
    assert fleet.verdict("gpu1")["due"] and fleet.verdict("gpu1")["measured"] is None
    assert [row["accepted"] for row in fleet.report()[0]["hosts"]] == [True, None]
