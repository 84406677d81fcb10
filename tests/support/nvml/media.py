# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lays the double and one machine into a folder, as the fleet's containers see it: media.py MACHINE FOLDER

FOLDER gets the library and the file ``machine``: LD_LIBRARY_PATH=FOLDER, IDC_NVML_MACHINE=FOLDER/machine.
"""
from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from tests.support.nvml import Machine  # run as a program, it finds the package by the line above


def main() -> None:
    """Entry point."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as scratch:
        installed = Machine.load(name).install(Path(scratch) / "machine")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(installed.environment["LD_LIBRARY_PATH"], folder)
        shutil.copy(installed.environment["IDC_NVML_MACHINE"], folder / "machine")


if __name__ == "__main__":
    main()
