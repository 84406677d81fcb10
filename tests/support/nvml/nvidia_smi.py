# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for nvidia-smi, as far as the role nvidia_stack calls it: it reads and keeps its GPUs in a JSON file.

The file ($IDC_SMI_STATE, else /srv/gpus.json): ``library`` (path of the link to libnvidia-ml, whose target's name has the
version), ``module`` (path of a file with the loaded module's version), ``gpus``: rows by the names of --query-gpu, ``instances``
(names of MIG profiles) and ``apps`` (bool) beside them. Answers and exit codes are those of driver 580.159.04 on an H200: a query's
line, an unknown field (2), -L. What it says without a module (9) and beside another one (18), and what -pl, -ac and -mig print, is
as published logs have it.
"""
import json
import os
import sys

STATE = os.environ.get("IDC_SMI_STATE", "/srv/gpus.json")


def answer(words, state):
    """(what it prints, exit status, whether the state has changed)."""
    try:
        with open(state["module"], encoding="ascii") as stream:
            loaded = stream.read().strip()
    except OSError:
        return ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
                "driver is installed and running.\n", 9, False)
    driver = os.path.realpath(state["library"]).partition(".so.")[2]
    if loaded != driver:
        library = ".".join(driver.split(".")[:2])
        return f"Failed to initialize NVML: Driver/library version mismatch\nNVML library version: {library}\n", 18, False
    if words and words[0].startswith("--query-compute-apps="):
        return "".join(f"{gpu['uuid']}\n" for gpu in state["gpus"] if gpu["apps"]), 0, False
    if words and words[0].startswith("--query-gpu="):
        return query(words[0].partition("=")[2].split(","), state)
    if words == ["-L"]:
        return listed(state), 0, False
    if words and words[0] == "mig":
        return mig(words[1:], state)
    return setting(words, state)


def word(field, value):
    """As a CSV has it: watts with two digits."""
    return "[N/A]" if value is None else f"{value:.2f}" if field.startswith("power.") else str(value)


def query(fields, state):
    """One line a GPU; words that a card does not know are [N/A]."""
    rows = []
    for gpu in state["gpus"]:
        if not set(fields) <= set(gpu):
            unknown = [field for field in fields if field not in gpu][0]
            return f'Field "{unknown}" is not a valid field to query.\n\n', 2, False
        rows.append(", ".join(word(field, gpu[field]) for field in fields))
    return "\n".join(rows) + "\n", 0, False


def listed(state):
    """GPUs and their MIG devices."""
    text = ""
    for gpu in state["gpus"]:
        text += f"GPU {gpu['index']}: NVIDIA H200 (UUID: {gpu['uuid']})\n"
        for number, name in enumerate(gpu["instances"]):
            text += f"  MIG {name}     Device  {number}: (UUID: MIG-{gpu['uuid'][4:-2]}{number:02d})\n"
    return text


def one(words, state):
    """The GPU that -i names, by index or UUID."""
    name = words[words.index("-i") + 1]
    return next(gpu for gpu in state["gpus"] if name in (str(gpu["index"]), gpu["uuid"]))


def setting(words, state):
    """-pl, -ac and -mig of one GPU."""
    gpu = one(words, state)
    value = words[-1]
    if "-pl" in words:
        if not gpu["power.min_limit"] <= float(value) <= gpu["power.max_limit"]:
            return f"Provided power limit {float(value):.2f} W is not a valid power limit which should be between "\
                   f"{gpu['power.min_limit']:.2f} W and {gpu['power.max_limit']:.2f} W for GPU {gpu['uuid']}\n", 2, False
        gpu["power.limit"] = float(value)
        return "All done.\n", 0, True
    if "-ac" in words:
        memory, graphics = (int(word) for word in value.split(","))
        if memory != gpu["clocks.applications.memory"]:
            return f"Specified clock combination \"(MEM {memory}, SM {graphics})\" is not supported\n", 6, False
        gpu["clocks.applications.graphics"] = graphics
        return "All done.\n", 0, True
    if "-mig" in words:
        word = "Enabled" if value == "1" else "Disabled"
        gpu["mig.mode.pending"] = word
        if not state.get("reset_for_mig"):
            gpu["mig.mode.current"] = word
        return "All done.\n", 0, True
    return "Invalid combination of input arguments.\n", 2, False


def mig(words, state):
    """-cgi, -dci and -dgi."""
    gpu = one(words, state)
    if gpu["mig.mode.current"] != "Enabled":
        return "No MIG-enabled devices found.\n", 6, False
    if "-cgi" in words:
        gpu["instances"] = sorted(gpu["instances"] + words[words.index("-cgi") + 1].split(","))
        return "Successfully created GPU instance\n", 0, True
    if "-dgi" in words:
        gpu["instances"] = []
    return "Successfully destroyed\n", 0, True


def main():
    """Entry point."""
    with open(STATE, encoding="utf-8") as stream:
        state = json.load(stream)
    text, status, changed = answer(sys.argv[1:], state)
    if changed:
        with open(STATE, "w", encoding="utf-8") as stream:
            json.dump(state, stream)
    sys.stdout.write(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
