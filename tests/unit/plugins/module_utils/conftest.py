# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the model store's tests."""
from __future__ import annotations

from contextlib import ExitStack

import pytest
from ansible_collections.idc.llm.plugins.modules.model_fetch import run

from tests.support.model_source import REVISION, serving


@pytest.fixture
def serve():
    """serve(folder) -> a running server; see serving."""
    with ExitStack() as servers:
        yield lambda folder: servers.enter_context(serving(folder))


@pytest.fixture
def fetch(tmp_path):
    """fetch(sources, check_mode=False, **arguments) -> the module's result."""

    def call(*sources, check_mode=False, **arguments):
        params = {
            "model": "demo/tiny",
            "revision": REVISION,
            "sources": list(sources),
            "root": str(tmp_path / "store"),
            "state": "present",
            "jobs": 2,
            "timeout": 5,
            "lock_timeout": 0,
            "min_free": 0,
            "retries": 0,
            "token": None,
            "ca_path": None,
        }
        return run({**params, **arguments}, check_mode)

    return call


@pytest.fixture
def model(tmp_path):
    """The model's folder in the store."""
    return tmp_path / "store" / "demo" / "tiny"
