# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a disk reads, on this machine's own."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_disk_check as agent

FIO = """\
#!/bin/sh
case "$1" in --version) echo fio-3.33; exit ;; esac
echo "$@" >{folder}/asked
for word; do case "$word" in --filename=*) test -r "${{word#--filename=}}" || exit 1 ;; esac; done
echo 'fio: a note before the JSON'
echo '{{"fio version": "fio-3.33", "jobs": [{{"jobname": "store", "read": {{"bw_bytes": {rate}}}}}]}}'
"""


def run(path, *words):
    return subprocess.run([sys.executable, "-I", agent.__file__, str(path), "--seconds", "0.2", "--mib", "64", *words],
                          text=True, check=False, capture_output=True)


def test_a_disk_is_read_and_nothing_stays_behind(tmp_path):
    store = tmp_path / "store/not/made/yet"
    done = run(store, "--fio", str(tmp_path / "none"))
    found = json.loads(done.stdout)
    assert (done.returncode, found["by"], found["bytes"], found["path"]) == (0, "own reader", 64 << 20, str(store))
    assert found["gbs"] > 0 and found["filesystem"] and os.listdir(tmp_path) == []


def test_fio_reads_where_it_is_there(tmp_path):
    program = tmp_path / "bin/fio"
    program.parent.mkdir()
    program.write_text(FIO.format(folder=tmp_path, rate=24_500_000_000))
    program.chmod(0o755)
    found = json.loads(run(tmp_path, "--fio", str(program)).stdout)
    assert (found["gbs"], found["by"]) == (24.5, "fio-3.33")
    asked = (tmp_path / "asked").read_text().split()
    assert {"--rw=read", "--direct=1", "--readonly", f"--size={8 << 20}", "--numjobs=8"} <= set(asked)
    for text in (FIO.format(folder=tmp_path, rate=0), "#!/bin/sh\nexit 1\n"):  # has read nothing; has no libaio
        program.write_text(text)
        assert json.loads(run(tmp_path, "--fio", str(program)).stdout)["by"] == "own reader"


def test_what_keeps_it_from_measuring_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(agent.os, "statvfs", lambda _path: os.statvfs_result((4096, 4096, 0, 0, 25600, 0, 0, 0, 0, 255)))
    assert agent.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{tmp_path}: 100 MiB free, wanted at least 640 MiB\n"


@pytest.mark.parametrize(("wanted", "free", "size"), [(4096, 1 << 20, 4096), (4096, 10240, 1024), (70, 1 << 20, 64)])
def test_no_more_than_a_tenth_of_what_is_free_is_written(wanted, free, size):
    assert agent.size_for(wanted << 20, free << 20) == size << 20


def test_a_filesystem_that_knows_no_nameless_files(tmp_path, monkeypatch):
    real = os.open

    def refuse(path, flags, mode=0o777, **words):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "not supported")
        return real(path, flags, mode, **words)

    monkeypatch.setattr(agent.os, "open", refuse)
    handle = agent.nameless(str(tmp_path))
    assert os.write(handle, b"x") == 1 and os.listdir(tmp_path) == []
    os.close(handle)


def test_the_filesystem_below_a_path():
    table = "/dev/a / ext4 rw 0 0\n/dev/b /var/lib xfs rw 0 0\nnone /var/library tmpfs rw 0 0\n/dev/c /var/lib btrfs rw 0 0\n"
    assert [agent.filesystem(path, table) for path in ("/var/lib/idc_llm", "/var/lib", "/var/library/x", "/srv")] == [
        "btrfs", "btrfs", "tmpfs", "ext4"]
    assert agent.filesystem("/", "") == ""
