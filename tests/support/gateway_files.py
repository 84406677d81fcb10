# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's files in one folder, with a reload that is counted."""
from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.idc.llm.plugins.module_utils import _agent_balancer as agent
from ansible_collections.idc.llm.plugins.module_utils._agent_balancer import Balancer, Places, Server

ONE, TWO = (Server(f"tiny-blue-{number}", "tiny", f"192.0.2.{number + 1}", 8000) for number in range(2))


class House:
    """refuses: what nginx says instead of taking a text up."""

    def __init__(self, folder: Path, servers=(ONE, TWO)):
        self.folder, self.reloads, self.refuses, self.lines = folder, 0, "", []
        (folder / "nginx").mkdir()
        self.places = Places(str(folder / "engines.json"), str(folder / "states"), str(folder / "nginx/engines"),
                             str(folder / "nginx/reload-pending"), str(folder / "lock"))
        self.plan(servers)
        self.balancer = Balancer(self.places, self.reload)

    def plan(self, servers):
        rows = [{key: value for key, value in vars(server).items() if key != "deployment"} for server in servers]
        (self.folder / "engines.json").write_text(json.dumps({"upstreams": [{"deployment": "tiny", "servers": rows}]}))

    def reload(self):
        assert (self.folder / "nginx/reload-pending").exists(), "a run that is killed here is noticed by the next"
        if self.refuses:
            raise agent.Refused(self.refuses)
        self.reloads += 1

    def live(self):
        return (self.folder / "nginx/engines/tiny.conf").read_text()

    def down(self):
        return [line.rpartition("# ")[2] for line in self.live().splitlines() if " down;" in line]

    def state(self, engine):
        return agent.read_state(self.places.states, engine)
