"""A line for each run of a playbook, on the controller."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
OLD = '{"time": "2020-01-01T00:00:00+00:00"}\n'


def run(folder: Path, *options: str) -> str:
    """One run of a playbook with a task that changes something and one that does not, on an inventory in a folder of its own."""
    tasks = [{"name": "Change", "ansible.builtin.debug": {"msg": "x"}, "changed_when": True},
             {"name": "Look", "ansible.builtin.debug": {"msg": "x"}}]
    (folder / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    (folder / "inv").mkdir(exist_ok=True)
    (folder / "inv/hosts.yml").write_text(json.dumps({"all": {"hosts": {"n1": {"ansible_connection": "local"}}}}))
    done = subprocess.run([PLAYBOOK, "-i", folder / "inv", folder / "play.yml", *options], cwd=ROOT, capture_output=True, text=True,
                          check=True, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def test_who_ran_what_from_which_commit_and_what_it_changed(tmp_path):
    state = tmp_path / ".state/inv"
    run(tmp_path)
    assert not state.exists(), "a folder that is not there is not made"
    state.mkdir(parents=True)
    (state / "runs.jsonl").write_text(OLD)
    run(tmp_path, "--check", "--tags", "all", "--limit", "n1")
    assert "run_log" not in run(tmp_path).lower()
    first, second = [json.loads(line) for line in (state / "runs.jsonl").read_text().splitlines()]
    assert first["check"] is True and first["limit"] == "n1" and first["tags"] == ["all"] and second["check"] is False
    assert second["hosts"]["n1"] == {"ok": 2, "changed": 1, "failures": 0, "dark": 0, "skipped": 0}
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    assert not head or second["commit"].startswith(head)
    assert second["user"] and second["controller"] and second["playbook"].endswith("play.yml")
    assert oct((state / "runs.jsonl").stat().st_mode & 0o777) in ("0o640", "0o644")
