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
  - Fetches the files that a source's C(manifest.json) lists, several at once, and hashes them as the bytes arrive.
  - A revision is published in one rename under C(<root>/<model>/<revision>/), with a C(manifest.json) inside, when
    every file has its size and sha256. Until then it grows in C(.partial-<revision>/) beside it. After a failed or
    killed run the next one keeps the files that are whole and right, which it proves again by hashing them.
  - A file with wrong bytes is deleted, the next source is tried for it, and RV(rejected) says so.
  - A second run with O(state=present) reads no weights and asks no source. It compares the manifest with the sizes
    of the files. A revision with a file missing or of another size is repaired.
  - Folders are made 0755 and files 0644, owned by the user who runs the module, so that the engine's user can read
    and not change them.
extends_documentation_fragment:
  - idc.llm._common
options:
  model:
    description: The model as the hub names it, C(org/name).
    type: str
    required: true
  revision:
    description: The pinned revision, best a commit. One folder name, no slashes.
    type: str
    required: true
  sources:
    description:
      - Where the files may come from, tried in this order.
      - Each is V(file:///folder), V(http://host/folder) or V(https://host/folder), and holds C(manifest.json) with
        C({"files":[{"path":, "size":, "sha256":}]}).
      - The first good manifest counts. A later source serves only files that match it.
      - Proxies are taken from the environment (C(https_proxy), C(no_proxy)).
    type: list
    elements: str
    default: []
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
  jobs:
    description: Files fetched, hashed or looked into at once.
    type: int
    default: 4
  timeout:
    description: Seconds without a byte before a source is given up.
    type: int
    default: 60
  lock_timeout:
    description: Seconds to wait for another run on the same revision before refusing.
    type: int
    default: 30
  min_free:
    description: Bytes that must stay free on the store's file system. Checked before the first byte is fetched.
    type: int
    default: 1073741824
  token:
    description:
      - Sent to C(http) and C(https) sources as a bearer token, and to no host that they redirect to.
    type: str
  ca_path:
    description: File or folder of CA certificates that C(https) sources are checked against, instead of the system's.
    type: path
attributes:
  check_mode:
    support: full
    description: Tells files, bytes and source, and refuses for want of space. It reads manifests, but no weights.
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
  description: Bytes that were brought, or would be in check mode.
  returned: success
  type: int
sources:
  description: Sources that files came from. In check mode the one whose manifest counts.
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
    files:
      description: C(path), C(size) in bytes, C(sha256), and C(source) (null where it is not known) of each file.
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

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._model_fetch import (
    Fetch,
    Store,
    fetch_and_publish,
    free_bytes,
    locked,
    remove,
    sizes,
    verify,
)
from ansible_collections.idc.llm.plugins.module_utils._model_reader import describe, folder_source
from ansible_collections.idc.llm.plugins.module_utils._model_store import (
    Manifest,
    check_names,
    check_space,
    plan_fetch,
    right_sized,
)
from ansible_collections.idc.llm.plugins.module_utils._source import Access, source_problem

ARGUMENTS = {
    "model": {"type": "str", "required": True},
    "revision": {"type": "str", "required": True},
    "sources": {"type": "list", "elements": "str", "default": []},
    "root": {"type": "path", "default": "/var/lib/idc_llm/store"},
    "state": {"type": "str", "choices": ["present", "verified", "absent", "listed"], "default": "present"},
    "metadata": {"type": "bool", "default": False},
    "jobs": {"type": "int", "default": 4},
    "timeout": {"type": "int", "default": 60},
    "lock_timeout": {"type": "int", "default": 30},
    "min_free": {"type": "int", "default": 1073741824},
    "token": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
}


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's result for its arguments; raises IdcError."""
    check_names(params["model"], params["revision"])
    for number, source in enumerate(params["sources"], start=1):
        problem = source_problem(source)
        if problem:
            raise IdcError("IDC-FETCH-002", number=number, problem=problem)
    store = Store(params["root"], params["model"], params["revision"])
    fetch = Fetch(
        tuple(params["sources"]), Access(params["token"], params["ca_path"], params["timeout"]), max(1, params["jobs"])
    )
    if params["state"] == "present":
        return _present(store, fetch, params, check_mode)
    if params["state"] == "absent":
        return _absent(store, params, check_mode)
    if params["state"] == "verified":
        return _result(store, verify(store, fetch.jobs))
    return _listed(store, fetch, params)


def _present(store: Store, fetch: Fetch, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    there = store.complete()
    if there:
        return _result(store, there)
    before = store.published()
    manifest = fetch.manifest(store)
    source = next(s for s in fetch.sources if s not in {row["source"] for row in fetch.rejected})
    if check_mode:
        folder = store.path if before else store.partial
        plan = plan_fetch(manifest, right_sized(manifest, sizes(folder, manifest)))
        check_space(plan, free_bytes(folder), params["min_free"], folder)
        after = manifest.with_sources({entry.path: source for entry in plan.todo})
    else:
        with locked(store, params["lock_timeout"]):
            there = store.complete()
            if there:  # another run brought it while this one waited
                return _result(store, there)
            after, plan = fetch_and_publish(store, fetch, manifest, params["min_free"])
    used = {entry.source for entry in after.files if entry.source}
    return dict(
        _result(store, after),
        changed=True,
        fetched_files=len(plan.todo),
        fetched_bytes=plan.size,
        sources=[s for s in fetch.sources if s in used],
        rejected=fetch.rejected,
        diff=_diff(store, before, after),
    )


def _listed(store: Store, fetch: Fetch, params: dict[str, Any]) -> dict[str, Any]:
    there = store.complete()
    manifest = there or fetch.manifest(store)
    result = dict(_result(store, manifest), manifest=manifest.as_dict(store.model, store.revision))
    if params.get("metadata"):
        reader = Fetch((folder_source(store.path),), Access(), fetch.jobs) if there else fetch
        result["metadata"] = describe(reader, manifest, f"{store.model} {store.revision}")
    return dict(result, rejected=fetch.rejected)


def _absent(store: Store, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    before = store.published()
    changed = os.path.isdir(store.path) or os.path.isdir(store.partial)
    if changed and not check_mode:
        with locked(store, params["lock_timeout"]):
            remove(store)
    return dict(_result(store, before or Manifest(())), changed=changed, diff=_diff(store, before, None))


def _result(store: Store, manifest: Manifest) -> dict[str, Any]:
    return {
        "changed": False,
        "path": store.path,
        "files": len(manifest.files),
        "bytes": manifest.size,
        "fetched_files": 0,
        "fetched_bytes": 0,
        "sources": [],
        "rejected": [],
    }


def _diff(store: Store, before: Manifest | None, after: Manifest | None) -> dict[str, str]:
    texts = [m.as_text(store.model, store.revision) if m else "" for m in (before, after)]
    header = os.path.join(store.path, "manifest.json")
    return {"before": texts[0], "after": texts[1], "before_header": header, "after_header": header}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except IdcError as exc:
        more = {key: exc.details[key] for key in ("rejected", "wrong") if key in exc.details}
        module.fail_json(**dict(exc.as_result(module.params["lang"]), **more))
    except OSError as exc:
        error = IdcError("IDC-FETCH-009", path=exc.filename or module.params["root"], reason=exc.strerror or str(exc))
        module.fail_json(**error.as_result(module.params["lang"]))


if __name__ == "__main__":
    main()
