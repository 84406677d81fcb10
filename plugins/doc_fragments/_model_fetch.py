# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of model_fetch: where files come from, and how. Private to this collection."""
from __future__ import annotations


class ModuleDocFragment:
    """The options about sources, streams and the store's disk."""

    DOCUMENTATION = r"""
options:
  sources:
    description:
      - Where the files may come from, tried in this order, and mixed file by file. No other host is asked.
      - V(file:///folder), V(http://host/folder) or V(https://host/folder) hold C(manifest.json) with
        C({"files":[{"path":, "size":, "sha256":}]}). A folder on disk that has none but a C(config.json) is listed as
        it is, and hashed as it is read.
      - V(hf) and V(modelscope) are hubs, with O(hf_endpoint) and O(modelscope_endpoint). V(hf+https://host) and
        V(modelscope+https://host) name another endpoint, as of a mirror.
      - The first source that lists the files counts. A later one gives only files with the same bytes, a hub that
        doesn't know the revision those of its default branch.
      - Proxies are taken from the environment (C(https_proxy), C(no_proxy)).
    type: list
    elements: str
    default: []
  peers:
    description:
      - Stores of other hosts, as V(http://10.0.0.2:8090), which serve their root with C(autoindex_format json).
      - A peer that has a file with a known sha256 is asked for it before any source. No proxy and no token is used.
    type: list
    elements: str
    default: []
  peer_self:
    description:
      - This host's store as its peers name it in their O(peers). With it the hosts share the work without talking.
      - Each brings its part from the sources, in turns, and takes the rest from the others.
    type: str
  hf_endpoint:
    description: Where O(sources=hf) asks.
    type: str
    default: https://huggingface.co
  modelscope_endpoint:
    description: Where O(sources=modelscope) asks.
    type: str
    default: https://modelscope.cn
  endpoint_only:
    description: Follow no redirect to another host than the one that was asked. Hubs and mirrors send to others.
    type: bool
    default: false
  token:
    description:
      - Sent to C(http) and C(https) sources and to V(hf) as a bearer token, and to no host that they redirect to.
    type: str
  modelscope_token:
    description: Sent to V(modelscope) instead of O(token), which never goes there.
    type: str
  ca_path:
    description: File or folder of CA certificates that C(https) sources are checked against, instead of the system's.
    type: path
  include:
    description:
      - Shell patterns of the paths that are wanted, as V(*.safetensors). All where it is empty.
      - C(*) also stands for slashes. A pattern that ends with C(/) means all below.
    type: list
    elements: str
    default: []
  exclude:
    description:
      - Patterns of the paths that are not wanted.
      - Where it is not given and there are safetensors, what repeats them in another form is left out, as V(*.bin),
        V(*.pth), V(*.gguf), V(*.onnx) and V(original/).
    type: list
    elements: str
  jobs:
    description: Files fetched or looked into at once. O(state=verified) uses all cores.
    type: int
    default: 8
  limit_rate:
    description: Bytes a second, over all streams. V(0) is no limit.
    type: int
    default: 0
  timeout:
    description: Seconds without a byte before a stream is given up.
    type: int
    default: 60
  retries:
    description:
      - How often a stream is taken up again, where it stopped, after it was cut or the server said 429 or 5xx.
      - The pauses are 1, 2, 4 … 60 s, or what the server asks for (C(Retry-After), up to 300 s).
    type: int
    default: 5
  lock_timeout:
    description: Seconds to wait for another run on the same revision before refusing.
    type: int
    default: 30
  min_free:
    description: Bytes that must stay free on the store's file system. Checked before the first byte is fetched.
    type: int
    default: 1073741824
  metrics_dir:
    description: Folder of node_exporter's textfile collector, to write the progress to as a metric. Off where not given.
    type: path
"""
