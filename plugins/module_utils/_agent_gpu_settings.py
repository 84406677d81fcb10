# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives GPUs the settings that a reboot takes away: power limit, application clocks, MIG instances, ACS of their bridges.

    _agent_gpu_settings.py --config=FILE [--check]

Run by the role nvidia_stack, and by idc-llm-gpu-settings.service at each boot before engines start. The file:

    power_limit   watts ("400"), percent of the card's default ("80%"), or "" to leave it
    clocks        graphics and memory in MHz, or nothing
    mig           GPU (its index, its UUID or "all") → profiles of its instances; [] is MIG off, a GPU not named is left as it is
    acs_off       whether bridges above GPUs shall send traffic straight on (bare metal only)

Prints one JSON object: changed (in words; with --check what would be), pending (what the next reset of the GPU brings), errors.
Standard library only, nothing of ansible, Python 3.9+. Exit status 1 with errors.
"""
from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Sequence

FIELDS = ("index", "uuid", "persistence_mode", "power.limit", "power.default_limit", "power.min_limit", "power.max_limit",
          "clocks.applications.graphics", "clocks.applications.memory", "mig.mode.current", "mig.mode.pending")
ACS, REDIRECTS = 0x000D, 0b1100  # PCI Express extended capability; request and completion redirect in its control register
Run = Callable[[Sequence[str]], "tuple[int, str]"]


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi tells it; None where the card does not know the setting."""

    index: str
    uuid: str
    persistence: Optional[str] = None
    limit: Optional[float] = None
    default: Optional[float] = None
    least: Optional[float] = None
    most: Optional[float] = None
    graphics: Optional[float] = None
    memory: Optional[float] = None
    mig: Optional[str] = None
    mig_pending: Optional[str] = None
    instances: tuple[str, ...] = ()
    busy: bool = False


@dataclass(frozen=True)
class Step:
    """One call of nvidia-smi, and what it is in words."""

    words: str
    argv: tuple[str, ...]


def _known(word: str) -> Optional[str]:
    return None if word.startswith("[") or word in ("", "N/A") else word


def _number(word: str) -> Optional[float]:
    try:
        return float(word)
    except ValueError:
        return None


def parse_gpus(csv: str, listed: str, busy: str) -> list[Gpu]:
    """Of --query-gpu, -L (which lists MIG devices below their GPU) and --query-compute-apps=gpu_uuid."""
    instances: dict[str, list[str]] = {}
    current = ""
    for line in listed.splitlines():
        gpu, part = re.match(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)", line), re.match(r"\s+MIG (\S+)\s+Device", line)
        if gpu:
            current = gpu.group(1)
        elif part:
            instances.setdefault(current, []).append(part.group(1))
    gpus = []
    for line in csv.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == len(FIELDS):
            limit, default, least, most, graphics, memory = (_number(word) for word in words[3:9])
            gpus.append(Gpu(words[0], words[1], _known(words[2]), limit, default, least, most, graphics, memory, _known(words[9]),
                            _known(words[10]), tuple(sorted(instances.get(words[1], []))), words[1] in busy.split()))
    return gpus


def power_steps(wanted: str, gpu: Gpu) -> tuple[list[Step], list[str]]:
    """To the limit that is wanted."""
    if not wanted:
        return [], []
    if gpu.limit is None or gpu.default is None:
        return [], [f"GPU {gpu.index} tells no power limit"]
    watts = float(int(gpu.default * float(wanted[:-1]) / 100 + 0.5)) if wanted.endswith("%") else float(wanted)
    if not (gpu.least or 0) <= watts <= (gpu.most or watts):
        return [], [f"GPU {gpu.index}: {wanted} is {watts:.0f} W, it takes {gpu.least or 0:.0f} to {gpu.most or 0:.0f} W"]
    if abs(gpu.limit - watts) < 1:
        return [], []
    words = f"GPU {gpu.index}: power limit {watts:.0f} W instead of {gpu.limit:.0f}"
    return [Step(words, ("-i", gpu.uuid, "-pl", f"{watts:.0f}"))], []


def clock_steps(wanted: Mapping[str, Any], gpu: Gpu) -> tuple[list[Step], list[str]]:
    """To the application clocks that are wanted."""
    if not wanted:
        return [], []
    if gpu.graphics is None or gpu.memory is None:
        return [], [f"GPU {gpu.index} has no application clocks"]
    if (gpu.graphics, gpu.memory) == (wanted["graphics"], wanted["memory"]):
        return [], []
    words = (f"GPU {gpu.index}: clocks {wanted['graphics']} and {wanted['memory']} MHz instead of {gpu.graphics:.0f} and "
             f"{gpu.memory:.0f}")
    return [Step(words, ("-i", gpu.uuid, "-ac", f"{wanted['memory']},{wanted['graphics']}"))], []


def mig_wanted(wanted: Mapping[str, Sequence[str]], gpu: Gpu) -> Optional[list[str]]:
    """The profiles of a GPU: of its own name before those of all; None where nothing is said of it."""
    for name in (gpu.uuid, gpu.index, "all"):
        if name in wanted:
            return sorted(wanted[name])
    return None


def mig_steps(wanted: Mapping[str, Sequence[str]], gpu: Gpu) -> tuple[list[Step], list[str]]:
    """To the instances that are wanted. What is there and differs is taken away whole: instances cannot be moved."""
    profiles = mig_wanted(wanted, gpu)
    if profiles is None or (profiles == [] and gpu.mig in (None, "Disabled") and gpu.mig_pending in (None, "Disabled")):
        return [], []
    if gpu.mig is None:
        return [], [f"GPU {gpu.index} knows no MIG"]
    on = gpu.mig == "Enabled"
    if on and gpu.mig_pending == "Enabled" and list(gpu.instances) == profiles:
        return [], []
    if gpu.busy:
        return [], [f"GPU {gpu.index}: MIG instances {profiles or 'off'} wanted, and programs run on it"]
    steps = []
    if gpu.instances:
        named = ", ".join(gpu.instances)
        steps += [Step(f"GPU {gpu.index}: compute instances away", ("mig", "-i", gpu.index, "-dci")),
                  Step(f"GPU {gpu.index}: instances {named} away", ("mig", "-i", gpu.index, "-dgi"))]
    if bool(profiles) != on or (gpu.mig_pending or gpu.mig) != gpu.mig:
        word, digit = ("on", "1") if profiles else ("off", "0")
        steps.append(Step(f"GPU {gpu.index}: MIG {word}", ("-i", gpu.uuid, "-mig", digit)))
    if profiles and on:
        steps.append(Step(f"GPU {gpu.index}: instances {', '.join(profiles)}",
                          ("mig", "-i", gpu.index, "-cgi", ",".join(profiles), "-C")))
    return steps, []


def plan(wanted: Mapping[str, Any], gpus: Sequence[Gpu]) -> tuple[list[Step], list[str]]:
    """All steps, and what keeps some from being."""
    steps: list[Step] = []
    errors: list[str] = []
    for gpu in gpus:
        for more, wrong in (power_steps(wanted.get("power_limit", ""), gpu), clock_steps(wanted.get("clocks", {}), gpu),
                            mig_steps(wanted.get("mig", {}), gpu)):
            steps += more
            errors += wrong
    known = {name for gpu in gpus for name in (gpu.index, gpu.uuid)} | {"all"}
    errors += [f"there is no GPU {name}" for name in wanted.get("mig", {}) if name not in known]
    return steps, errors


def acs_control(config: bytes) -> int:
    """Where the ACS control register of a PCIe device is, by its config space; 0 without one."""
    at, left = 0x100, 64
    while at and at + 8 <= len(config) and left:
        header = int.from_bytes(config[at:at + 4], "little")
        if header & 0xFFFF == ACS:
            return at + 6
        at, left = header >> 20, left - 1
    return 0


def acs_redirects(config: bytes) -> bool:
    """Whether a bridge sends traffic between the devices below it up to the root."""
    at = acs_control(config)
    return bool(at and int.from_bytes(config[at:at + 2], "little") & REDIRECTS)


def bridges(sysfs: str) -> list[str]:
    """PCIe bridges above NVIDIA's GPUs."""
    root = os.path.join(sysfs, "bus/pci/devices")
    above: set[str] = set()
    there = sorted(os.listdir(root)) if os.path.isdir(root) else []
    for address in there:
        with open(os.path.join(root, address, "vendor"), encoding="ascii") as vendor, open(
                os.path.join(root, address, "class"), encoding="ascii") as kind:
            if vendor.read().strip() == "0x10de" and kind.read().strip()[2:6] in ("0300", "0302"):
                above |= set(os.path.realpath(os.path.join(root, address)).split(os.sep)[:-1])
    return [address for address in there if address in above]


def acs_off(sysfs: str, check: bool) -> list[str]:
    """Switch both redirects off; what was (or would be) changed."""
    changed = []
    for address in bridges(sysfs):
        path = os.path.join(sysfs, "bus/pci/devices", address, "config")
        with open(path, "rb") as stream:
            config = stream.read(4096)
        if acs_redirects(config):
            at = acs_control(config)
            if not check:
                with open(path, "r+b") as stream:
                    stream.seek(at)
                    stream.write((int.from_bytes(config[at:at + 2], "little") & ~REDIRECTS).to_bytes(2, "little"))
            changed.append(f"bridge {address}: ACS redirects off")
    return changed


def run_smi(argv: Sequence[str]) -> tuple[int, str]:
    """nvidia-smi's exit status and what it printed."""
    try:
        done = subprocess.run(["nvidia-smi", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=120, check=False, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout


def look(run: Run) -> tuple[list[Gpu], str]:
    """The GPUs, or why there is no answer."""
    rc, csv = run(["--query-gpu=" + ",".join(FIELDS), "--format=csv,noheader,nounits"])
    if rc:
        return [], "nvidia-smi gives no answer: " + " ".join(csv.split())[:200]
    return parse_gpus(csv, run(["-L"])[1], run(["--query-compute-apps=gpu_uuid", "--format=csv,noheader"])[1]), ""


def apply(wanted: Mapping[str, Any], run: Run, check: bool) -> dict[str, list[str]]:
    """Do it, twice where MIG has to be on before it has instances, and look whether it held."""
    changed: list[str] = []
    for _turn in (1, 2):
        gpus, problem = look(run)
        if problem:
            return {"changed": changed, "pending": [], "errors": [problem]}
        steps, errors = plan(wanted, gpus)
        steps = [step for step in steps if step.words not in changed]
        for step in steps:
            rc, said = (0, "") if check else run(step.argv)
            if rc:
                return {"changed": changed, "pending": [], "errors": [*errors, f"{step.words}: " + " ".join(said.split())[:200]]}
            changed.append(step.words)
        if check or errors or not steps:
            break
    gpus, _problem = look(run)
    pending = [f"GPU {gpu.index}: MIG {gpu.mig_pending}" for gpu in gpus if gpu.mig_pending != gpu.mig and not check]
    if not check and not errors and not pending:
        errors = [f"{step.words}: it did not hold" for step in plan(wanted, gpus)[0]]
    return {"changed": changed, "pending": pending, "errors": errors}


def main(argv: Sequence[str] | None = None, run: Run = run_smi) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--sysfs", default="/sys")
    given = parser.parse_args(argv)
    with open(given.config, encoding="utf-8") as stream:
        wanted = json.load(stream)
    said = apply(wanted, run, given.check)
    if wanted.get("acs_off"):
        said["changed"] += acs_off(given.sysfs, given.check)
    sys.stdout.write(json.dumps(said) + "\n")
    return 1 if said["errors"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
