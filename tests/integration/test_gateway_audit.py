# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full disk under the audit log: nothing is served unrecorded where a site wants that, by the role's own configuration."""
from __future__ import annotations

import json
import secrets
import subprocess
from contextlib import contextmanager

import pytest

from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Gateway
from tests.support.waiting import wait_for

KEY = secrets.token_hex(24)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}


@contextmanager
def small_disk(folder, size):
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: that takes root, with all rights")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(file):
    with open(file, "wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(b"x" * 4096)


@pytest.fixture(params=[True, False], ids=["required", "not required"])
def house(tmp_path, request):
    with small_disk(tmp_path / "log", "2m"), serve() as tiny:
        (tmp_path / "log/error.log").symlink_to(tmp_path / "error.log")  # which a full disk would take no line of
        made = Gateway(tmp_path, {"tiny": [tiny.server_port]}, {"one": {"keys": [KEY]}}, ENGINE_KEY,
                       gateway_audit_required=request.param)
        made.engine, made.required = tiny, request.param
        yield made
        made.close()


def test_a_full_disk_under_the_audit_log(house):
    assert house.ask(key=KEY, body=CHAT).status == 200
    fill(house.folder / "log/ballast")
    if not house.required:
        assert not wait_for(lambda: house.ask(key=KEY, body=CHAT).status != 200, 4, 0.5)
        return
    assert wait_for(lambda: house.ask(key=KEY, body=CHAT).status == 503, 60, 0.2)
    asked = len(house.engine.seen)
    answer = house.ask(key=KEY, body=CHAT)
    assert answer.error["code"] == "audit_unavailable" and int(answer.headers["Retry-After"]) > 0
    assert house.ask("/v1/models", KEY).status == 503 and house.ask("/health").status == 200
    assert len(house.engine.seen) == asked
    house.variables["gateway_audit_required"] = False
    (house.folder / "log/audit.room").unlink(missing_ok=True)
    house.write()
    house.nginx("-s", "reload")
    assert wait_for(lambda: house.ask(key=KEY, body=CHAT).status == 200, 60, 0.2), "who takes the wish back is served again"
    house.variables["gateway_audit_required"] = True
    house.write()
    house.nginx("-s", "reload")
    assert wait_for(lambda: house.ask(key=KEY, body=CHAT).status == 503, 60, 0.2)
    (house.folder / "log/ballast").unlink()
    assert wait_for(lambda: house.ask(key=KEY, body=CHAT).status == 200, 60, 0.2)
    assert "cannot grow, nothing is served" in house.errors() and "can grow again" in house.errors()


def test_a_full_disk_under_the_count_of_tokens_spoils_nothing_of_it(tmp_path):
    with small_disk(tmp_path / "meter", "64k"), serve() as tiny:
        gateway = Gateway(tmp_path, {"tiny": [tiny.server_port]}, {"one": {"keys": [KEY]}}, ENGINE_KEY)
        kept = tmp_path / "meter/tokens.json"

        def counted():
            return json.loads(kept.read_text())["t|one|tiny|completion"][0] if kept.exists() else 0
        try:
            gateway.line(gateway.ask(key=KEY, body=CHAT))
            assert wait_for(counted, 60)
            before = counted()
            fill(tmp_path / "meter/ballast")
            gateway.line(gateway.ask(key=KEY, body=CHAT))
            assert wait_for(lambda: "the count of tokens cannot be kept" in gateway.errors(), 60)
            assert counted() == before
            (tmp_path / "meter/ballast").unlink()
            assert wait_for(lambda: counted() == 2 * before, 60), "without another request"
        finally:
            gateway.close()
