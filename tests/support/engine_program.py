# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vllm serve --config FILE`` in a test image: answers like vLLM, counts like vLLM, and at SIGTERM ends what is under way first.

``max-model-len: 13`` ends it as vLLM ends; 17 makes it load for ever. Lies in the image beside ``openai_server.py``.
"""
from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time

import openai_server


class Face(openai_server.Handler):
    """Also the route that counts."""

    def do_GET(self):
        """The gauges that a drain looks at."""
        if self.path != "/metrics":
            return super().do_GET()
        labels = '{engine="0",model_name="tiny"}'
        rows = {"num_requests_running": self.server.now, "num_requests_waiting": 0, "generation_tokens_total": 1,
                "iteration_tokens_total_count": 1}
        return self._send(200, "".join(f"vllm:{name}{labels} {value}\n" for name, value in rows.items()).encode(), "text/plain")


def main():
    """Serve until SIGTERM."""
    config = {}
    with open(sys.argv[sys.argv.index("--config") + 1], encoding="utf-8") as stream:
        for line in stream:
            key, _colon, value = line.partition(": ")
            config[key] = json.loads(value)
    limits = {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("CORE", "MEMLOCK", "NOFILE")}
    seen = {"argv": sys.argv[1:], "uid": os.getuid(), "home": os.environ["HOME"], "model": os.listdir(config["model"]), **limits}
    print("seen " + json.dumps(seen), flush=True)
    with open(os.path.join(os.environ["HOME"], "starts"), "a", encoding="utf-8") as stream:
        stream.write("started\n")
    length = config.get("max-model-len")
    if length == 13:
        sys.exit("ValueError: User-specified max_model_len (13) is greater than the derived max_model_len (7)")
    if length == 17:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    openai_server.KEY = os.environ["VLLM_API_KEY"]
    server = openai_server.Server([""], config["port"], later=True)
    server.RequestHandlerClass = Face
    server.pace = config.get("long-prefill-token-threshold", 0)
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_arguments: end.set())
    server.begin()
    end.wait()
    while server.now:
        time.sleep(0.05)


if __name__ == "__main__":
    main()
