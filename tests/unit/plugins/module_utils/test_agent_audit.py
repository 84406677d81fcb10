# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit log's chain: a changed, shortened or missing day is seen; packing and age are not mistaken for it."""
from __future__ import annotations

import fcntl
import gzip
import json
import os
import struct
import time

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_audit as agent

NOW = time.mktime((2026, 11, 22, 0, 30, 0, 0, 0, -1))


def row(day="2026-11-20", tenant="a", **more):
    return json.dumps({"time": f"{day}T10:00:00+00:00", "tenant": tenant, "deployment": "r1", "status": "200", "prompt_tokens": "5",
                       "completion_tokens": "7", "tokens_from": "usage", **more}) + "\n"


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """Three finished days and the one that is being written; the chain stays writable, for what a root may do to it."""
    monkeypatch.setattr(agent, "append_only", lambda descriptor: False)
    for day in ("20261119", "20261120", "20261121"):
        path = tmp_path / f"audit.log-{day}"
        path.write_text(row() * 3 + day + "\n")
        os.utime(path, (NOW - 90000, NOW - 90000))
    (tmp_path / "audit.log").write_text(row("2026-11-22"))
    return tmp_path


def wrong(logs, keep=190):
    return agent.verify(str(logs), keep, NOW)


def test_each_finished_log_is_added_once_and_all_is_well(logs):
    added = [json.loads(line) for line in agent.extend(str(logs), NOW)]
    assert [line["file"] for line in added] == ["audit.log-20261119", "audit.log-20261120", "audit.log-20261121"]
    assert added[0]["previous"] == "" and added[0]["lines"] == 4
    assert agent.extend(str(logs), NOW) == [] and wrong(logs) == []


def test_a_log_that_may_still_be_written_to_waits(logs):
    os.utime(logs / "audit.log-20261121", (NOW - 5, NOW - 5))
    assert len(agent.extend(str(logs), NOW)) == 2
    assert len(agent.extend(str(logs), NOW + 700)) == 1 and wrong(logs) == []


def test_packing_changes_nothing(logs):
    agent.extend(str(logs), NOW)
    path = logs / "audit.log-20261119"
    (logs / "audit.log-20261119.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert wrong(logs) == [] and agent.extend(str(logs), NOW) == []


@pytest.mark.parametrize(("what", "said"), [
    ("changed", "audit.log-20261120: changed"), ("shortened", "3 lines"),
    ("missing", "audit.log-20261120: missing, and not 190 days old"),
    ("line out", "does not follow"), ("line changed", "does not follow"),
    ("torn", "audit.log-20261121: its line of the chain does not follow"),
])
def test_what_somebody_did_is_said(logs, what, said):
    agent.extend(str(logs), NOW)
    path, chain = logs / "audit.log-20261120", logs / "audit.chain"
    lines = agent.read_chain(str(logs))
    if what == "changed":
        path.write_text(path.read_text().replace('"a"', '"b"'))
    elif what == "shortened":
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    elif what == "missing":
        path.unlink()
    elif what == "line out":
        chain.write_text("\n".join([lines[0], lines[2]]) + "\n")
    elif what == "line changed":
        chain.write_text("\n".join([lines[0], lines[1].replace('"lines": 4', '"lines": 3'), lines[2]]) + "\n")
    else:
        chain.write_text("\n".join([lines[0], "{", lines[2]]) + "\n")
    assert any(said in sentence for sentence in wrong(logs)), wrong(logs)


def test_a_log_past_its_days_may_be_gone(logs):
    agent.extend(str(logs), NOW)
    (logs / "audit.log-20261119").unlink()
    assert wrong(logs, keep=2) == [] and wrong(logs, keep=4) != []


def test_a_crash_while_the_chain_was_written_is_made_good(logs):
    agent.extend(str(logs), NOW)
    chain = logs / "audit.chain"
    whole = chain.read_text()
    chain.write_text(whole[:-30])
    assert [json.loads(line)["file"] for line in agent.extend(str(logs), NOW)] == ["audit.log-20261121"]
    assert wrong(logs) == [] and agent.extend(str(logs), NOW) == []


def test_the_chain_can_only_grow_where_the_file_system_allows(tmp_path):
    path = tmp_path / "file"
    with path.open("w") as stream:
        if not agent.append_only(stream.fileno()):
            pytest.skip("neither this file system nor these rights have it")
        try:
            with pytest.raises(PermissionError):
                path.write_text("")
            with path.open("a") as more:
                more.write("x")
        finally:
            flags = struct.unpack("l", fcntl.ioctl(stream.fileno(), agent.GETFLAGS, struct.pack("l", 0)))[0]
            fcntl.ioctl(stream.fileno(), agent.SETFLAGS, struct.pack("l", flags & ~agent.APPEND))


def test_usage_by_day_and_tenant(logs):
    with (logs / "audit.log").open("a") as log:
        log.write(row("2026-11-22", "b", tokens_from="estimated", prompt_tokens=""))
        log.write(row("2026-11-22", "", status="401", prompt_tokens="", completion_tokens="", deployment="") + "torn")
    rows = agent.usage(str(logs), "2026-11-22", "2026-11-22")
    assert [(one["tenant"], one["requests"], one["refused"], one["prompt_tokens"], one["completion_tokens"], one["estimated"])
            for one in rows] == [("", 1, 1, 0, 0, 0), ("a", 1, 0, 5, 7, 0), ("b", 1, 0, 0, 7, 1)]
    assert sum(one["completion_tokens"] for one in agent.usage(str(logs), "2026-11-01", "2026-11-21")) == 63


def test_the_program_says_by_its_exit_what_it_found(logs, capsys):
    assert agent.main(["chain", str(logs), "--keep-days", "10000"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    (logs / "audit.log-20261120").write_text("")
    assert agent.main(["verify", str(logs)]) == 1 and "20261120: changed" in capsys.readouterr().err
    assert agent.main(["verify", str(logs / "no")]) == 2
    assert agent.main(["usage", str(logs), "--since", "2026-11-22"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["tenant"] == "a"
