# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of llm_probe beyond one request: load, golden answers, baseline. Private to this collection."""
from __future__ import annotations


class ModuleDocFragment:
    """The options about measuring and comparing."""

    DOCUMENTATION = r"""
options:
  requests:
    description:
      - How many requests to send after the first one, which is judged as without this option. 1 to 10000.
      - They are counted, measured and judged together; O(retries), O(ttft_max_s) and O(total_max_s) concern the first only.
      - Latencies count from sending a request; connecting is not part of them. Every request has a connection of its own.
      - For hours of load use C(vllm bench serve), and the Locust file in the collection's C(playbooks/files) to drive
        twice the planned peak. C(vllm bench serve) exits with 0 even if every request failed.
    type: int
  concurrency:
    description:
      - How many of O(requests) are under way at once, each in a thread. 1 to 512.
      - A token costs the reader about 0.1 ms on one core, so from some thousand tokens a second on the latencies are its own.
    type: int
    default: 1
  prompt_tokens:
    description:
      - Length of synthetic prompts that O(requests) send instead of O(prompt), each of other words, so that no cache of
        prefixes answers them. 1 to 1048576.
      - The chat template counts. Two short requests find out how many tokens the server makes of a word, and the prompts
        are cut to that, which is exact where each word has the same number of tokens and usually within a few percent.
        RV(load.prompt_tokens) says what the server counted. Where it counts nothing, a word is taken for a token.
      - These requests carry C(ignore_eos), so that vLLM always goes on to O(max_tokens).
    type: int
  expect:
    description: What the answer has to be, of the first request and of each of O(requests).
    type: dict
    suboptions:
      status:
        description:
          - The HTTP status.
          - With another than V(200), O(expect.regex) and O(expect.json_schema) look at the body. A refusal can so be proven.
        type: int
        default: 200
      regex:
        description: Regular expression of Python that has to be found in the answer.
        type: str
      json_schema:
        description:
          - Schema of the answer, which then has to be JSON and nothing else.
          - Understood are C(type), C(properties), C(required), C(enum) of plain values, C(items) as one schema,
            C(minimum) and C(maximum), besides C($schema), C(title) and C(description). Any other keyword is refused.
        type: dict
  slo:
    description: Most that O(requests) may show, or the module fails. Percentiles are by nearest rank.
    type: dict
    suboptions:
      ttft_p99_ms:
        description: Milliseconds to the first token.
        type: float
      itl_p99_ms:
        description: Milliseconds between two events with text, of all good answers together. An event may hold several tokens.
        type: float
      e2e_p99_ms:
        description: Milliseconds to the end of the answer.
        type: float
      error_rate:
        description: Share of the requests that failed. This limit holds even without O(slo).
        type: float
        default: 0
  baseline:
    description:
      - File on the host where the module runs, written by O(baseline_save), to compare with.
      - Model, O(concurrency), O(prompt_tokens), O(max_tokens) and O(prompt) have to be those of that run, and the golden
        prompts have to be among its own.
    type: path
  baseline_save:
    description:
      - File to write this run to, for later runs to compare with. It is replaced as a whole, and readable by all.
      - It is written only where no limit was missed. Writing is reported as a change.
      - It holds digests of prompts and answers instead of their text. Text that can be guessed is not hidden by that.
    type: path
  regression:
    description:
      - Limits for the ratio of a figure to the one in O(baseline); most for latencies, least for rates. Without a limit a
        ratio is reported only.
    type: dict
    suboptions:
      ttft_p50:
        description: Most that the median time to the first token may grow to; V(1.1) allows 10 percent more.
        type: float
      ttft_p99:
        description: The same for its 99th percentile.
        type: float
      itl_p50:
        description: The same for the median time between two events.
        type: float
      itl_p99:
        description: The same for its 99th percentile.
        type: float
      e2e_p50:
        description: The same for the median time of a whole answer.
        type: float
      e2e_p99:
        description: The same for its 99th percentile.
        type: float
      output_tokens_per_s:
        description: Least that the tokens per second may fall to; V(0.9) allows 10 percent less.
        type: float
      requests_per_s:
        description: The same for the good requests per second.
        type: float
  golden:
    description:
      - Prompts whose answers have to stay the same, at most 1000. They are sent one at a time, with temperature 0 and seed 0.
      - The rate of difference is the number of answers that part from the baseline's, by the number of positions compared.
        An answer is compared up to and including the first position that differs. A position is a token where the server
        gives the tokens' ids (vLLM does), else a word.
      - With fewer than 1 / O(golden_limit) positions in all, one answer that differs is a failure.
    type: list
    elements: str
  golden_repeat:
    description:
      - How often each golden prompt is asked, 1 to 10. The answers of the later rounds against the first are the noise of
        the unchanged engine, which the baseline keeps.
    type: int
    default: 2
  golden_max_tokens:
    description: Most tokens of a golden answer.
    type: int
    default: 64
  golden_limit:
    description: Most that the rate of difference may exceed the baseline's noise by, or the module fails.
    type: float
    default: 0.001
  metrics_dir:
    description:
      - Folder of node_exporter's textfile collector, where the rate of difference to the baseline is written as
        C(idc_llm_output_difference_ratio), and the baseline's noise as C(idc_llm_output_difference_noise_ratio).
    type: path
  deadline:
    description:
      - Seconds for O(requests) and O(golden) together. What is under way then fails with a timeout, what was not sent counts
        as failed, too.
    type: float
    default: 600
"""
