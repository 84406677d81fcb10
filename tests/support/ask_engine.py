"""An engine asked on its own host, past the gateway."""
from __future__ import annotations

import json


def token(node, engine):
    """Whether it gives a token now. node: its host, of testinfra; engine: its row of the plan."""
    key = node.check_output(". /etc/idc_llm/engines/%s/env; echo $VLLM_API_KEY", engine["name"])
    body = json.dumps({"model": "tiny", "prompt": "hello", "max_tokens": 2})
    return node.run(f"echo 'Authorization: Bearer {key}' | curl -sf -m 10 -H @- -H 'Content-Type: application/json' "
                    f"http://{engine['address']}:{engine['port']}/v1/completions -d '{body}'").rc == 0
