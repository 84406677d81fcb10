#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chat requests to an OpenAI-compatible endpoint, one or many, and their verdict."""
from __future__ import annotations

DOCUMENTATION = r"""
module: llm_probe
short_description: Ask an OpenAI-compatible endpoint for tokens and judge the answers
version_added: "0.1.0"
author:
  - The idc.llm founders (@idc-llm)
description:
  - Sends one streamed chat request and asserts the HTTP status, a complete, non-empty answer and, if asked for, its
    latency.
  - C(/health) says 200 for an engine that dies on its first token, so readiness here means that a real token came back.
  - With O(requests) it sends many more and judges their latencies; with O(golden) it judges whether the answers are still
    the same; with O(baseline) both are compared with an earlier run. What misses a limit fails the module, and the figures
    are returned all the same.
  - Asking changes nothing, so everything is asked in check mode, too; files are then not written.
  - Reports a change only where O(baseline_save) was written.
  - Needs nothing but Python's standard library. Proxies from the environment are not used.
extends_documentation_fragment:
  - idc.llm._common
  - idc.llm._llm_probe
attributes:
  check_mode:
    support: full
    description: Asks all the same, and writes no file.
  diff_mode:
    support: none
    description: There is nothing to compare.
options:
  url:
    description:
      - Base address of the endpoint, with or without a trailing C(/v1).
    type: str
    required: true
  model:
    description: Name of the served model, which is the name of the deployment.
    type: str
    required: true
  api_key:
    description:
      - Key sent as bearer token. Without it no C(Authorization) header is sent.
      - It never appears in a message or in a return value.
    type: str
  ca_path:
    description:
      - PEM file, on the host where the module runs, with the authority that signed the endpoint's certificate.
      - Without it the system's own authorities are trusted.
    type: path
  server_name:
    description:
      - Name that the certificate must carry and that is sent as C(Host), when it differs from the host in O(url).
      - Lets a gateway be asked on its loopback address.
    type: str
  prompt:
    description: What to ask.
    type: str
    default: Say hello.
  max_tokens:
    description: Most tokens to ask for.
    type: int
    default: 8
  timeout:
    description: Seconds for one attempt, from connecting to the last token.
    type: float
    default: 60
  retries:
    description:
      - How many times to ask again after a failure that may pass.
      - These are a refused connection, a status of 500 or more, a broken-off answer, a timeout and an answer that was
        too slow.
    type: int
    default: 0
  delay:
    description: Seconds between two attempts.
    type: float
    default: 2
  ttft_max_s:
    description: Most seconds until the first token. Without it any time will do.
    type: float
  total_max_s:
    description: Most seconds until the last token. Without it any time will do.
    type: float
seealso:
  - module: idc.llm.vllm_service
notes:
  - A failed objective is IDC-PROBE-014, a regression IDC-PROBE-015, other golden answers IDC-PROBE-016. Where several
    limits are missed, RV(error) is the first and the message names all.
"""

EXAMPLES = r"""
- name: Ask the gateway for a token over TLS
  idc.llm.llm_probe:
    url: https://127.0.0.1:8443
    server_name: llm.example.internal
    ca_path: /etc/idc_llm/ca.pem
    model: deepseek-r1
    api_key: "{{ idc_llm_secrets.tenants.research.keys[0] }}"
    ttft_max_s: 2.0
  register: __probe

- name: Wait until an engine answers
  idc.llm.llm_probe:
    url: http://172.30.77.11:8000
    model: tiny
    api_key: "{{ idc_llm_secrets.engine_key }}"
    retries: 30
    delay: 2

- name: Save how the engine does while it is well
  idc.llm.llm_probe:
    <<: &measured
      url: https://llm.example.internal
      model: deepseek-r1
      api_key: "{{ idc_llm_secrets.tenants.research.keys[0] }}"
      requests: 400
      concurrency: 32
      prompt_tokens: 1024
      max_tokens: 128
      slo:
        ttft_p99_ms: 2000
        itl_p99_ms: 80
      golden: "{{ golden_prompts }}"
    baseline_save: /var/lib/idc_llm/baseline/deepseek-r1.json

- name: Compare after an upgrade
  idc.llm.llm_probe:
    <<: *measured
    baseline: /var/lib/idc_llm/baseline/deepseek-r1.json
    regression:
      ttft_p99: 1.2
      output_tokens_per_s: 0.9
    metrics_dir: /var/lib/prometheus/node-exporter

- name: Prove that a stranger is refused
  idc.llm.llm_probe:
    url: https://llm.example.internal
    model: deepseek-r1
    api_key: not-a-key
    expect:
      status: 401
"""

RETURN = r"""
status:
  description: HTTP status of the answer.
  returned: success
  type: int
  sample: 200
text:
  description: The answer; the thinking of a reasoning model if it did not get further than that.
  returned: success
  type: str
  sample: Hello! How can I
ttft_s:
  description: Seconds from sending the request to the first token.
  returned: success
  type: float
  sample: 0.0512
total_s:
  description: Seconds from sending the request to the end of the stream.
  returned: success
  type: float
  sample: 0.1131
completion_tokens:
  description: Tokens in the answer, as counted by the engine; by events where it does not say.
  returned: success
  type: int
  sample: 8
tokens_per_s:
  description: Tokens per second after the first token.
  returned: success
  type: float
  sample: 129.7
tls_version:
  description: TLS version of the connection, empty for plain HTTP.
  returned: success
  type: str
  sample: TLSv1.3
attempts:
  description: How many requests it took.
  returned: success
  type: int
  sample: 1
load:
  description: The figures of RV(load.requests) requests. Latencies and rates are those of the good ones.
  returned: when O(requests) were sent, also on failure
  type: dict
  contains:
    requests:
      description: How many were asked for.
      type: int
      sample: 400
    good:
      description: How many were answered as expected.
      type: int
      sample: 399
    failed:
      description: How many were not.
      type: int
      sample: 1
    error_rate:
      description: RV(load.failed) by RV(load.requests).
      type: float
      sample: 0.0025
    errors:
      description:
        - Number of failures by kind. C(status) is an HTTP status that was not expected, C(cut) an answer that broke off,
          C(timeout) one that did not end in time, C(connect) no connection, C(empty) no text, C(expect) other text than
          expected, C(unsent) not sent before O(deadline).
      type: dict
      sample: {status: 1, cut: 0, timeout: 0, connect: 0, empty: 0, expect: 0, unsent: 0}
    statuses:
      description: Number of answers by HTTP status.
      type: dict
      sample: {"200": 399, "429": 1}
    error_samples:
      description: Up to three messages of each kind.
      type: list
      elements: dict
      sample: [{kind: status, detail: rate limit exceeded}]
    concurrency:
      description: As asked for.
      type: int
      sample: 32
    duration_s:
      description: Seconds from the first request to the end of the last.
      type: float
      sample: 41.2
    ttft_ms:
      description:
        - Time to the first token in ms, as C(p50), C(p90), C(p99), C(mean), C(max) and the C(count) of samples.
        - Percentiles are by nearest rank, so each is a time that was seen. With fewer than 100 samples C(p99) is the largest.
      type: dict
      sample: {p50: 120.1, p90: 180.3, p99: 402.9, mean: 131.7, max: 480.2, count: 399}
    itl_ms:
      description: The same for the time between two events with text.
      type: dict
    e2e_ms:
      description: The same for the time to the end of an answer.
      type: dict
    output_tokens:
      description: Tokens of all good answers.
      type: int
      sample: 51072
    output_tokens_per_s:
      description: RV(load.output_tokens) by RV(load.duration_s).
      type: float
      sample: 1239.6
    requests_per_s:
      description: RV(load.good) by RV(load.duration_s).
      type: float
      sample: 9.68
    prompt_tokens:
      description: Length of the prompts as the server counted it.
      type: dict
      sample: {min: 1019, max: 1031, mean: 1024.3}
slo:
  description: Each objective, with C(name), C(observed), C(limit), C(ok) and C(sign).
  returned: when O(requests) were sent
  type: list
  elements: dict
  sample: [{name: error_rate, observed: 0.0025, limit: 0, ok: false, sign: <=}]
comparison:
  description: The load's figures against O(baseline).
  returned: when O(requests) were sent and O(baseline) is given
  type: dict
  contains:
    date:
      description: When the baseline was saved.
      type: str
      sample: "2026-11-22T10:00:00Z"
    ratios:
      description: New figure to old by name, null where there is none.
      type: dict
      sample: {ttft_p99: 1.04, output_tokens_per_s: 0.99}
    verdicts:
      description: Each ratio with a limit, as in RV(slo).
      type: list
      elements: dict
golden:
  description: The golden answers.
  returned: when O(golden) is given, also on failure
  type: dict
  contains:
    unit:
      description: What a position is, V(tokens) or V(words).
      type: str
      sample: tokens
    answers:
      description: How many answers were compared.
      type: int
      sample: 40
    noise:
      description: Rate of difference between this run's own rounds.
      type: float
      sample: 0.0
    difference:
      description: Rate of difference to the baseline. This and what follows only with O(baseline).
      type: float
      sample: 0.0004
    baseline_noise:
      description: The noise that the baseline keeps.
      type: float
      sample: 0.0
    excess:
      description: Difference less that noise, which is what O(golden_limit) limits.
      type: float
      sample: 0.0004
    limit:
      description: As asked for.
      type: float
      sample: 0.001
    ok:
      description: Whether it holds.
      type: bool
      sample: true
    positions:
      description: How many positions were compared.
      type: int
      sample: 2504
    parted:
      description: Each answer that differs, as number of its C(prompt) and first C(position) that differs, both from 0.
      type: list
      elements: dict
      sample: [{prompt: 7, position: 41}]
error:
  description: The error in parts.
  returned: failure
  type: dict
  contains:
    code:
      description: Stable code of the error.
      type: str
      sample: IDC-PROBE-003
    what:
      description: What was seen.
      type: str
    why:
      description: What it means.
      type: str
    remedy:
      description: How to mend it.
      type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._measure import MEASURE_ARGUMENTS, measure, plan_of, prepare
from ansible_collections.idc.llm.plugins.module_utils._probe import ask_until

ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "model": {"type": "str", "required": True},
    "api_key": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "server_name": {"type": "str"},
    "prompt": {"type": "str", "default": "Say hello."},
    "max_tokens": {"type": "int", "default": 8, "no_log": False},
    "timeout": {"type": "float", "default": 60},
    "retries": {"type": "int", "default": 0},
    "delay": {"type": "float", "default": 2},
    "ttft_max_s": {"type": "float"},
    "total_max_s": {"type": "float"},
    **MEASURE_ARGUMENTS,
    "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
}


def main() -> None:
    """Read the arguments, ask, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    lang = given["lang"]
    plan = plan_of(given, module.check_mode)
    try:
        known = prepare(plan)
        first, attempts = ask_until(plan.probe, given["retries"], given["delay"], time.sleep)
    except IdcError as error:
        module.fail_json(**error.as_result(lang))
    done = measure(plan, known)
    for warning in done.warnings:
        module.warn(warning)
    results = dict(first, attempts=attempts, changed=done.changed, **done.results)
    if done.misses:
        message = "\n".join(miss.render(lang) for miss in done.misses)
        module.fail_json(**{**results, **done.misses[0].as_result(lang), "msg": message})
    module.exit_json(**results)


if __name__ == "__main__":
    main()
