# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For Locust (https://docs.locust.io, not part of this collection): the planned peak, then twice that.

    export IDC_LLM_KEY=...                        # a tenant's key; never on the command line
    export REQUESTS_CA_BUNDLE=/etc/idc_llm/ca.pem # the gateway's authority, where the system does not know it
    locust -f locustfile.py --headless --host https://llm.example.internal --model deepseek-r1 --planned-peak 64

``--planned-peak`` is the number of requests under way at once: the plan's max_num_seqs times the replicas, say. So many
users ask without a pause for ``--stage-s`` seconds, then twice as many for as long. Locust's own --users and --run-time
are not used. Beside each request, whose time ends with the headers, the table has a row for the first token and one for
the whole answer. Locust exits with 1 where anything failed.

Only compiled, and its answers' reading tried without Locust: it was never run by Locust itself.
"""

from __future__ import annotations

import json
import os
import random
import time

from locust import HttpUser, LoadTestShape, events, task

TEXT = "able back call data each fact give hand into just keep last make name open part real same take unit very with"
WORDS = TEXT.split()


@events.init_command_line_parser.add_listener
def add_options(parser, **_kwargs):
    """The options that this file needs beside Locust's own."""
    parser.add_argument("--model", required=True, help="name of the deployment")
    parser.add_argument("--planned-peak", type=int, required=True, help="requests under way at once, as planned")
    parser.add_argument("--stage-s", type=float, default=300, help="seconds at 100 %% and again at 200 %%")
    parser.add_argument("--prompt-words", type=int, default=512, help="words of a prompt, by chance")
    parser.add_argument("--answer-tokens", type=int, default=128, help="most tokens of an answer")


def read_stream(lines, clock=time.perf_counter):
    """(clock at the first text or None, whether it ended whole) of a stream's lines."""
    first, whole = None, False
    for line in lines:
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            whole = True
            continue
        event = json.loads(data)
        if event.get("error"):
            return first, False
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            if first is None and any(delta.get(key) for key in ("content", "reasoning_content", "reasoning")):
                first = clock()
    return first, whole


class Tenant(HttpUser):
    """Asks again as soon as an answer is there."""

    def on_start(self):
        """The key, for all requests."""
        self.client.headers["Authorization"] = f"Bearer {os.environ['IDC_LLM_KEY']}"

    @task
    def chat(self):
        """One streamed answer to a prompt that no cache knows."""
        options = self.environment.parsed_options
        payload = {
            "model": options.model,
            "messages": [{"role": "user", "content": " ".join(random.choices(WORDS, k=options.prompt_words))}],
            "max_tokens": options.answer_tokens,
            "stream": True,
        }
        began = time.perf_counter()
        with self.client.post(
            "/v1/chat/completions", json=payload, stream=True, timeout=600, catch_response=True, name="chat, to the headers"
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            first, whole = read_stream(response.iter_lines())
            if first is None or not whole:
                response.failure("no text" if first is None else "cut")
                return
        self._row("first token", first - began)
        self._row("whole answer", time.perf_counter() - began)

    def _row(self, name, seconds):
        self.environment.events.request.fire(
            request_type="POST", name=f"chat, {name}", response_time=seconds * 1000, response_length=0, exception=None, context={})


class TwicePlanned(LoadTestShape):
    """100 % of the planned peak, then 200 %."""

    def tick(self):
        """(users, users to add a second), None at the end."""
        options = self.runner.environment.parsed_options
        stage = int(self.get_run_time() // options.stage_s)
        return None if stage > 1 else ((stage + 1) * options.planned_peak, max(1, options.planned_peak / 10))
