"""Two lines for each run of a playbook, on the controller."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.idc.llm.plugins.callback import run_log
from ansible_collections.idc.llm.tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
OLD = '{"time": "2020-01-01T00:00:00+00:00"}\n'


def lines(state: Path) -> list[dict]:
    """What the file says."""
    path = state / "runs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def start(folder: Path, *options: str, tasks: list | None = None) -> subprocess.Popen:
    """A run of a playbook with a task that changes something and one that does not, on an inventory in a folder of its own."""
    tasks = tasks or [{"name": "Change", "ansible.builtin.debug": {"msg": "x"}, "changed_when": True},
                      {"name": "Look", "ansible.builtin.debug": {"msg": "x"}}]
    (folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    (folder / "inv").mkdir(exist_ok=True)
    (folder / "inv/hosts.yml").write_text(json.dumps({"all": {"hosts": {"n1": HERE}}}))
    return subprocess.Popen([PLAYBOOK, "-i", folder / "inv", folder / "play.yml", *options], cwd=ROOT, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")})


def run(folder: Path, *options: str) -> str:
    """The same, to its end."""
    with start(folder, *options) as process:
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    return output


def kill_all(word: str) -> None:
    """Each process that has it among its words: Ansible's workers have sessions of their own, and outlive who forked them."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in place.read_bytes().split(b"\0"):
                os.kill(int(place.parent.name), signal.SIGKILL)
        except OSError:
            pass  # gone meanwhile


def test_who_ran_what_from_which_commit_and_what_it_changed(tmp_path):
    state = tmp_path / ".state/inv"
    run(tmp_path)
    assert not state.exists(), "a folder that is not there is not made"
    state.mkdir(parents=True)
    (state / "runs.jsonl").write_text(OLD)
    run(tmp_path, "--check", "--tags", "all", "--limit", "n1")
    assert "run_log" not in run(tmp_path).lower()
    began, first, again, second = lines(state)
    assert [one["event"] for one in (began, first, again, second)] == ["started", "ended"] * 2
    assert began["run"] == first["run"] != again["run"] == second["run"]
    assert began["hosts"] == {} and began["pattern"] == ["all"] and began["commit"] == first["commit"] and began["limit"] == "n1"
    assert first["check"] is True and first["limit"] == "n1" and first["tags"] == ["all"] and second["check"] is False
    assert second["hosts"]["n1"] == {"ok": 2, "changed": 1, "failures": 0, "dark": 0, "skipped": 0}
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    assert not head or second["commit"].startswith(head)
    assert second["user"] and second["controller"] and second["playbook"].endswith("play.yml")
    assert oct((state / "runs.jsonl").stat().st_mode & 0o777) == "0o640", "also after old lines went"


def test_a_run_that_makes_the_folder_has_both_lines(tmp_path):
    state = tmp_path / ".state/inv"
    with start(tmp_path, tasks=[{"name": "Make", "ansible.builtin.file": {"path": str(state), "state": "directory"}}]) as process:
        output = process.communicate(timeout=120)[0]
    assert [one["event"] for one in lines(state)] == ["started", "ended"], output


def test_a_run_that_is_killed_has_said_that_it_started(tmp_path):
    state = tmp_path / ".state/inv"
    state.mkdir(parents=True)
    with start(tmp_path, tasks=[{"name": "Work", "ansible.builtin.pause": {"seconds": 20}}]):
        assert wait_for(lambda: lines(state), 60, 0.1)
        kill_all(str(tmp_path / "play.yml"))
    (only,) = lines(state)
    assert only["event"] == "started" and only["user"] and only["playbook"].endswith("play.yml")


def test_runs_at_once_lose_no_line_while_old_ones_go(tmp_path):
    path, now = str(tmp_path / "runs.jsonl"), datetime.now(UTC)

    def write(writer: int) -> None:
        for number in range(20):
            run_log.keep(path, json.dumps({"time": now.isoformat(), "run": f"{writer}/{number}"}), now, 190)
            run_log.keep(path, OLD.strip(), now, 190)  # the next line prunes it: a new file each time

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    runs = [line["run"] for line in lines(tmp_path) if "run" in line]
    assert sorted(runs) == sorted(f"{writer}/{number}" for writer in range(8) for number in range(20))
