"""The machines under test. Run by molecule's verify step, or by hand: IDC_LLM_FLEET=luks .venv/bin/python -m pytest tests/luks

The tests go on from each other, in the order of the files: a boot takes most of a minute here, and each has several cases.
"""
from __future__ import annotations

import os
import threading

os.environ["IDC_LLM_FLEET"] = "luks"

import pytest  # the fleet is named before what reads it is imported

from tests.luks.lab import Lab


@pytest.fixture(scope="session")
def lab():
    """The machines, as converged; the controller's processes are watched meanwhile."""
    it = Lab()
    watcher = threading.Thread(target=it.watch.run)
    watcher.start()
    yield it
    it.watch.done.set()
    watcher.join()
