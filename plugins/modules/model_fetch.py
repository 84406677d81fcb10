#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one revision of a model into the store, proven, or tell about it. Thin over module_utils/_model_fetch."""
from __future__ import annotations

DOCUMENTATION = r"""
module: model_fetch
short_description: Bring a model's revision into the store, proven file by file
version_added: 0.1.0
author:
  - The idc.llm founders (@idc-llm)
description:
  - Fetches a pinned revision from any of several sources, several files at once, and hashes the bytes as they arrive.
  - A branch or tag of a hub is resolved to a commit once, at the start, and RV(commit) says which. What is published
    stays as it is when the branch moves.
  - A revision is published in one rename under C(<root>/<model>/<revision>/), with a C(manifest.json) inside, when
    every file has its size and sha256 (small files of V(hf) have git's id instead). Until then it grows in
    C(.partial-<revision>/) beside it. After a failed or killed run the next one proves again what is there, and goes on
    from the last checkpoint of each unfinished file. Checkpoints are 16 MiB apart.
  - A file with wrong bytes is deleted, the next source is tried for it, and RV(rejected) says so.
  - A second run with O(state=present) reads no weights and asks no source. It compares the manifest with the sizes
    of the files. A revision with a file missing or of another size is repaired.
  - Ansible shows nothing while a module runs. C(.partial-<revision>/progress.json) holds a C(line) for people with
    bytes, rate, time left and source, renewed every 2 s, as for
    C(watch -n 2 jq -r .line <root>/<model>/.partial-<revision>/progress.json).
  - Folders are made 0755 and files 0644, owned by the user who runs the module, so that the engine's user can read
    and not change them.
extends_documentation_fragment:
  - idc.llm._common
  - idc.llm._model_fetch
options:
  model:
    description: The model as the hub names it, C(org/name).
    type: str
    required: true
  revision:
    description: The pinned revision, best a commit. One folder name, no slashes.
    type: str
    required: true
  root:
    description: The store's folder.
    type: path
    default: /var/lib/idc_llm/store
  state:
    description:
      - V(present) fetches and publishes what is missing.
      - V(verified) reads every byte of a published revision and fails naming the wrong files. It asks no source.
      - V(absent) removes the revision and what an unfinished fetch left.
      - V(listed) returns the manifest of the published revision, or of a source, and writes nothing.
    type: str
    choices: [present, verified, absent, listed]
    default: present
  metadata:
    description:
      - With O(state=listed), return RV(metadata) too, which is what M(idc.llm.serving_plan) reckons with.
      - Reads C(config.json), the index and the header of each safetensors file (HTTP sources are asked for a range), and
        no weights. A complete revision in the store is read without asking any source.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Tells files, bytes and sources (RV(would_fetch)), and refuses for want of space. It reads no weights.
  diff_mode:
    support: full
    description: The published manifest before and after.
"""

EXAMPLES = r"""
- name: Bring the model from a disk that a person carried in, else from the mirror
  idc.llm.model_fetch:
    model: deepseek-ai/DeepSeek-R1
    revision: 56d4cbbb4d29f4355bab4b9a39ccb717a14ad5ad
    sources:
      - file:///srv/media/models/deepseek-r1
      - https://mirror.example.com/models/deepseek-r1
    token: "{{ model_store_token }}"

- name: Bring it from the hubs in China, else from elsewhere, with what the neighbours have already
  idc.llm.model_fetch:
    model: deepseek-ai/DeepSeek-R1
    revision: 56d4cbbb4d29f4355bab4b9a39ccb717a14ad5ad
    sources: [modelscope, "hf+https://hf-mirror.example.com", hf]
    peers: [http://10.0.0.2:8090, http://10.0.0.3:8090]
    limit_rate: 500000000

- name: Prove that every byte is still right
  idc.llm.model_fetch:
    model: deepseek-ai/DeepSeek-R1
    revision: 56d4cbbb4d29f4355bab4b9a39ccb717a14ad5ad
    state: verified
    jobs: 16

- name: Learn what the model needs, before a single byte of its weights is fetched
  idc.llm.model_fetch:
    model: deepseek-ai/DeepSeek-R1
    revision: 56d4cbbb4d29f4355bab4b9a39ccb717a14ad5ad
    sources:
      - https://mirror.example.com/models/deepseek-r1
    state: listed
    metadata: true
    jobs: 16
  register: listed
"""

RETURN = r"""
path:
  description: The revision's folder.
  returned: success
  type: str
  sample: /var/lib/idc_llm/store/deepseek-ai/DeepSeek-R1/56d4cbbb
files:
  description: Number of files of the revision. With O(state=absent), of what was removed.
  returned: success
  type: int
bytes:
  description: Bytes of all files of the revision.
  returned: success
  type: int
fetched_files:
  description: Number of files that were brought, or would be in check mode.
  returned: success
  type: int
fetched_bytes:
  description: Bytes that were brought, or would be in check mode, without those of files that an earlier run began.
  returned: success
  type: int
commit:
  description: The commit that the revision stood for. Null where no source told it.
  returned: success
  type: str
moved:
  description: Whether the revision of what is published has become another commit. It is not changed for that.
  returned: when O(state=present) asked a hub
  type: bool
hub_commit:
  description: The commit that the revision stands for now. Null where the hub does not tell it (ModelScope).
  returned: when O(state=present) asked a hub
  type: str
would_fetch:
  description: C(path), C(size) in bytes and C(source) of each file that a run would bring.
  returned: in check mode, when O(state=present) has something to do
  type: list
  elements: dict
sources:
  description: Sources and peers that files came from, or would come from in check mode.
  returned: success
  type: list
  elements: str
rejected:
  description: What a source gave wrongly or not at all, in the order it was met.
  returned: success, and when a fetch failed
  type: list
  elements: dict
  contains:
    source:
      description: The source's URL.
      type: str
      returned: success
    path:
      description: The file asked for.
      type: str
      returned: success
    reason:
      description: What was seen and what was wanted.
      type: str
      returned: success
  sample:
    - {source: "http://mirror/x", path: model-00001.safetensors, reason: "it is 3 bytes, wanted 4096"}
wrong:
  description: Paths whose size or sha256 is not the manifest's.
  returned: when O(state=verified) found wrong files
  type: list
  elements: str
manifest:
  description: The manifest.
  returned: when O(state=listed)
  type: dict
  contains:
    schema:
      description: Version of this layout.
      type: int
      returned: success
    model:
      description: The model.
      type: str
      returned: success
    revision:
      description: The revision.
      type: str
      returned: success
    commit:
      description: The commit that the revision stood for, or null.
      type: str
      returned: success
    license:
      description: Path of the file with the licence, or null.
      type: str
      returned: success
    files:
      description: C(path), C(size) in bytes, C(sha256) and C(source) of each file, null where they are not known.
      type: list
      elements: dict
      returned: success
metadata:
  description: What the model needs, as its files say it.
  returned: when O(state=listed) and O(metadata=true)
  type: dict
  contains:
    schema:
      description: Version of this layout.
      type: int
      returned: success
    config:
      description: The model's C(config.json).
      type: dict
      returned: success
      sample: {model_type: deepseek_v3, num_hidden_layers: 61}
    weights:
      description: Its weights, those in the top folder.
      type: dict
      returned: success
      contains:
        bytes:
          description:
            - Bytes of the safetensors files, with an index of those that it names.
            - Without any, of the C(.bin) or C(.pt) files, else what the index says. Null where nothing says it.
          type: int
          returned: success
        files:
          description: How many files these are. Null where there are none.
          type: int
          returned: success
        tensors:
          description:
            - Its tensors in rows of equal ones, sorted by name. Null without safetensors files.
            - C(name) with each number replaced by C(*), C(dtype) as safetensors writes it, and C(shape).
            - C(layers) that have it as ranges with both ends in, or null. The layer is the first number right after
              C(layers), C(h) or C(blocks).
            - C(count) of such tensors in each of these layers, in all where C(layers) is null.
          type: list
          elements: dict
          returned: success
          sample:
            - name: model.layers.*.mlp.experts.*.gate_proj.weight
              dtype: F8_E4M3
              shape: [2048, 7168]
              layers: [[3, 60]]
              count: 256
    source:
      description: Where this is from.
      type: str
      returned: success
      sample: config.json and the headers of 163 safetensors file(s) of https://mirror.example.com/models/deepseek-r1
error:
  description: C(code), C(what), C(why) and C(remedy) of an error of the collection's catalogue.
  returned: failure
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._model_fetch import ENDPOINTS, Fetch, Settings, Store, disk_error
from ansible_collections.idc.llm.plugins.module_utils._model_states import absent, listed, present, verified
from ansible_collections.idc.llm.plugins.module_utils._model_store import check_names
from ansible_collections.idc.llm.plugins.module_utils._source import Access, source_problem

ARGUMENTS = {
    "model": {"type": "str", "required": True},
    "revision": {"type": "str", "required": True},
    "sources": {"type": "list", "elements": "str", "default": []},
    "peers": {"type": "list", "elements": "str", "default": []},
    "peer_self": {"type": "str"},
    "root": {"type": "path", "default": "/var/lib/idc_llm/store"},
    "state": {"type": "str", "choices": ["present", "verified", "absent", "listed"], "default": "present"},
    "metadata": {"type": "bool", "default": False},
    "hf_endpoint": {"type": "str", "default": ENDPOINTS["hf"]},
    "modelscope_endpoint": {"type": "str", "default": ENDPOINTS["modelscope"]},
    "endpoint_only": {"type": "bool", "default": False},
    "token": {"type": "str", "no_log": True},
    "modelscope_token": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "include": {"type": "list", "elements": "str", "default": []},
    "exclude": {"type": "list", "elements": "str"},
    "jobs": {"type": "int", "default": 8},
    "limit_rate": {"type": "int", "default": 0},
    "timeout": {"type": "int", "default": 60},
    "retries": {"type": "int", "default": 5},
    "lock_timeout": {"type": "int", "default": 30},
    "min_free": {"type": "int", "default": 1073741824},
    "metrics_dir": {"type": "path"},
    "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's result for its arguments, those left out as by default; raises IdcError."""
    params = {**{name: rule.get("default") for name, rule in ARGUMENTS.items()}, **params}
    check_names(params["model"], params["revision"])
    for number, source in enumerate(params["sources"], start=1):
        problem = source_problem(source)
        if problem:
            raise IdcError("IDC-FETCH-002", number=number, problem=problem)
    named = [(f"peer number {number}", url) for number, url in enumerate(params["peers"], start=1)]
    single = [(key, params[key]) for key in ("peer_self", "hf_endpoint", "modelscope_endpoint") if params[key]]
    for option, url in [*named, *single]:
        problem = source_problem(url) if url.startswith(("http://", "https://")) else "it is not an HTTP address"
        if problem:
            raise IdcError("IDC-FETCH-023", option=option, problem=problem)
    store = Store(params["root"], params["model"], params["revision"])
    fetch = _fetch(params)
    if params["state"] == "present":
        return present(store, fetch, params["lock_timeout"], check_mode)
    if params["state"] == "absent":
        return absent(store, fetch, params["lock_timeout"], check_mode)
    return verified(store, fetch) if params["state"] == "verified" else listed(store, fetch, params["metadata"])


def _fetch(params: dict[str, Any]) -> Fetch:
    exclude = params["exclude"]
    settings = Settings(
        params["jobs"], max(0, params["retries"]), max(0, params["limit_rate"]), params["min_free"],
        tuple(params["include"]), None if exclude is None else tuple(exclude), params["metrics_dir"],
    )  # fmt: skip
    access = Access(params["token"], params["ca_path"], params["timeout"], params["endpoint_only"])
    endpoints = {"hf": params["hf_endpoint"], "modelscope": params["modelscope_endpoint"]}
    tokens = {"modelscope": params["modelscope_token"]}
    return Fetch(
        params["sources"], access, settings, params["model"], params["revision"], params["peers"], params["peer_self"] or "",
        endpoints, tokens,
    )  # fmt: skip


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except IdcError as exc:
        error = exc
    except OSError as exc:
        error = disk_error(exc, module.params["root"])
    more = {key: error.details[key] for key in ("rejected", "wrong") if key in error.details}
    module.fail_json(**dict(error.as_result(module.params["lang"]), **more))


if __name__ == "__main__":
    main()
