"""What a part of site.yml does when it is run alone, by its tags."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROOF = "Ask each deployment for a token as a tenant would, over TLS"


SHOWN = [("model_store", False), ("exporters", False), ("vllm", True), ("gateway", True), ("all", True)]


@pytest.mark.parametrize(("tags", "proves"), SHOWN)
def test_the_endpoint_is_proven_where_it_was_worked_on(tags, proves):
    """`--tags model_store` on a bare fleet brings the weights, long before there is an endpoint."""
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "inventories/demo", "playbooks/site.yml", "--tags", tags]
    done = subprocess.run([*command, "--list-tasks"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (PROOF in done.stdout) is proves
