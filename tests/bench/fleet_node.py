# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of distribute.py's lab: model_fetch's own engine, without what Ansible needs to start a module.

``fleet_node.py CONFIG``: a JSON file {origin, hosts, me, root, model, revision, jobs, at (seconds of the clock), result}.
"""
from __future__ import annotations

import json
import os
import sys
import time

from ansible_collections.idc.llm.plugins.module_utils._model_fetch import Fetch, Settings, Store, fetch_and_publish
from ansible_collections.idc.llm.plugins.module_utils._source import Access


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as stream:
        config = json.load(stream)
    store = Store(config["root"], config["model"], config["revision"])
    fetch = Fetch([config["origin"]], Access(timeout=config["timeout"]), Settings(jobs=config["jobs"]), store.model, store.revision,
                  config["hosts"], config["me"])
    time.sleep(max(0.0, config["at"] - time.time()))
    begin, cpu = time.time(), time.process_time()
    published, _plan = fetch_and_publish(store, fetch, fetch.manifest(store))
    result = {"begin": begin, "end": time.time(), "cpu": time.process_time() - cpu, "files": len(published.files),
              "wrong": len([row for row in fetch.rejected if "sha256" in row["reason"]])}
    with open(config["result"] + ".new", "w", encoding="utf-8") as out:
        json.dump(result, out)
    os.rename(config["result"] + ".new", config["result"])


if __name__ == "__main__":
    main()
