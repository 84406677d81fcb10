#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One chat request to an OpenAI-compatible endpoint, and its verdict."""
from __future__ import annotations

DOCUMENTATION = r"""
module: llm_probe
short_description: Ask an OpenAI-compatible endpoint for a few tokens and judge the answer
version_added: "0.1.0"
author:
  - The idc.llm founders (@idc-llm)
description:
  - Sends one streamed chat request and asserts the HTTP status, a complete, non-empty answer and, if asked for, its
    latency.
  - C(/health) says 200 for an engine that dies on its first token, so readiness here means that a real token came back.
  - Reads only. It therefore runs in check mode, too, and never reports a change.
  - Needs nothing but Python's standard library. Proxies from the environment are not used.
extends_documentation_fragment:
  - idc.llm._common
attributes:
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
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe, ask_until

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
    "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
}


def main() -> None:
    """Read the arguments, ask, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given = module.params
    probe = Probe(
        url=given["url"],
        model=given["model"],
        api_key=given["api_key"] or "",
        prompt=given["prompt"],
        max_tokens=given["max_tokens"],
        ca_path=given["ca_path"] or "",
        server_name=given["server_name"] or "",
        timeout=given["timeout"],
        ttft_max_s=given["ttft_max_s"],
        total_max_s=given["total_max_s"],
    )
    try:
        result, attempts = ask_until(probe, given["retries"], given["delay"], time.sleep)
    except IdcError as error:
        module.fail_json(**error.as_result(given["lang"]))
    module.exit_json(changed=False, attempts=attempts, **result)


if __name__ == "__main__":
    main()
