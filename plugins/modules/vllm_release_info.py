#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases of vLLM a host has, and who uses them."""
from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_release_info
short_description: Which releases of vLLM a host has, and who uses them
version_added: "0.1.0"
author:
  - The idc.llm founders (@idc-llm)
description:
  - Looks at the virtual environments below C(releases) of O(root). Changes nothing.
  - A release is used by an engine whose link C(current) leads to it, by an engine whose last good configuration (C(good.json))
    would go back to it, and by processes that run from it.
  - A folder with neither a list of packages nor C(bin), C(lib) or C(pyvenv.cfg) is no release and is not listed.
extends_documentation_fragment:
  - idc.llm._common
options:
  root:
    description: Folder of the releases and of each engine's link to one.
    type: path
    default: /opt/idc_llm
  config_dir:
    description: Folder with one folder per engine.
    type: path
    default: /etc/idc_llm/engines
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: See which releases are there
  idc.llm.vllm_release_info:
  register: there

- name: Tell which of them nobody uses
  ansible.builtin.debug:
    msg: "{{ there.releases | rejectattr('used_by') | map(attribute='name') }}"
"""

RETURN = r"""
releases:
  description: The releases, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of its folder.
      type: str
      sample: "0.33.0"
    path:
      description: Its folder.
      type: str
    list:
      description: The list of packages that it was made from; none where its install was not finished.
      type: str
    made:
      description: When it was finished (else begun), in seconds since 1970.
      type: float
    used_by:
      description: Who uses it, each in a few words.
      type: list
      elements: str
      sample: [engine r1-blue-0, process 4711]
    kernels:
      description: Versions of FlashInfer's packages in it, by name.
      type: dict
      sample: {"flashinfer-python": "0.7.2.post1"}
"""

import glob
import json
import os
import re
from typing import Any, Iterator

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils._release import FLASHINFER, KERNELS, MARKER

PARTS = (MARKER, "pyvenv.cfg", "bin", "lib")  # one of them makes a folder a release, an unfinished one too


def read(path: str) -> str | None:
    """A file's text; None where it is not there."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return None


def users(root: str, config_dir: str, proc: str = "/proc") -> Iterator[tuple[str, str]]:
    """(path that is used, by whom)."""
    for link in sorted(glob.glob(f"{root}/deployments/*/current")):
        yield os.path.realpath(link), f"engine {link.split('/')[-2]}"
    for path in sorted(glob.glob(f"{config_dir}/*/good.json")):
        try:
            good = json.loads(read(path) or "{}").get("release_dir", "")
        except (ValueError, AttributeError):  # vllm_service goes back to nothing that it cannot read
            good = ""
        if good:
            yield os.path.realpath(good), f"the last good configuration of engine {path.split('/')[-2]}"
    for path in glob.glob(f"{proc}/[0-9]*/cmdline"):
        try:
            command = (read(path) or "").split("\0")[0]
        except OSError:  # it ended, or is not ours to see
            continue
        if command.startswith(f"{root}/releases/"):
            yield command, f"process {path.split('/')[-2]}"


def kernels(path: str) -> dict[str, str]:
    """Versions of FlashInfer's packages in a virtual environment."""
    found = {}
    for folder in glob.glob(f"{path}/lib/python*/site-packages/flashinfer*.dist-info"):
        name, version = os.path.basename(folder)[:-len(".dist-info")].split("-", 1)
        found[re.sub(r"[-_.]+", "-", name).lower()] = version
    return {name: version for name, version in sorted(found.items()) if name in (FLASHINFER,) + KERNELS}


def releases(root: str, config_dir: str) -> list[dict[str, Any]]:
    """The releases below a root, by name."""
    real = os.path.realpath(root)
    used = list(users(real, config_dir))
    rows = []
    for path in sorted(glob.glob(f"{real}/releases/*")):
        if os.path.islink(path) or not any(os.path.lexists(f"{path}/{part}") for part in PARTS):
            continue
        text = read(f"{path}/{MARKER}")
        rows.append({
            "name": os.path.basename(path), "path": path, "list": text,
            "made": os.path.getmtime(path if text is None else f"{path}/{MARKER}"),
            "used_by": list(dict.fromkeys(who for what, who in used if what == path or what.startswith(path + "/"))),
            "kernels": kernels(path),
        })
    return rows


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/idc_llm"},
            "config_dir": {"type": "path", "default": "/etc/idc_llm/engines"},
            "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, releases=releases(module.params["root"], module.params["config_dir"]))


if __name__ == "__main__":
    main()
