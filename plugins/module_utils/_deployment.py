# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one entry of ``idc_llm_deployments`` may say, and its typed form. Private to this collection."""
from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Optional

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SOURCE = re.compile(r"(file:///|https?://|(hf|modelscope)\+https?://).+|hf|modelscope")

# vLLM options that the plan itself sets; engine_args may not say them a second time.
PLANNED_ARGS = (
    "model", "served-model-name", "host", "port", "tensor-parallel-size", "pipeline-parallel-size",
    "data-parallel-size", "max-model-len", "nnodes", "node-rank", "master-addr", "master-port", "api-key",
    "shutdown-timeout",
)


@dataclass(frozen=True)
class Deployment:
    """One served model name, as an operator wrote it, checked. Sizes are counts of GPUs (or CPU ranks)."""

    name: str
    model: str
    revision: str
    sources: tuple[str, ...] = ()
    device: str = "cuda"
    hosts: tuple[str, ...] = ()
    replicas: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    max_model_len: Optional[int] = None
    port: Optional[int] = None
    release: Optional[str] = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def gpus_per_replica(self) -> int:
        """GPUs that one replica occupies; 0 on CPU."""
        if self.device == "cpu":
            return 0
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel


REQUIRED = ("name", "model", "revision")
COUNTS = ("replicas", "tensor_parallel", "pipeline_parallel", "data_parallel", "max_model_len", "port")
LISTS = ("sources", "hosts")
MAPPINGS = ("engine_args", "environment")
TEXTS = ("release",)
KEYS = (*REQUIRED, *COUNTS, *LISTS, *MAPPINGS, *TEXTS, "device")


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like this one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return close[0] if close else ", ".join(known)


def parse_deployment(raw: Any, position: int) -> Deployment:
    """Check one entry and give its typed form. position: its place in the list, from 1, for entries without a name.

    Raises IdcError (IDC-INV-…) at the first thing that is wrong.
    """
    if not isinstance(raw, Mapping):
        raise IdcError("IDC-INV-001", where=f"idc_llm_deployments[{position}]", observed=repr(raw))
    label = str(raw.get("name") or f"#{position}")
    for key in raw:
        if key not in KEYS:
            raise IdcError("IDC-INV-003", deployment=label, key=key, nearest=nearest(str(key), KEYS))
    for key in REQUIRED:
        if not raw.get(key):
            raise IdcError("IDC-INV-002", deployment=label, key=key)
    values: dict[str, Any] = {}
    for key in (*REQUIRED, *TEXTS):
        if raw.get(key) is not None:
            values[key] = str(raw[key])
    for key, pattern in (("name", NAME), ("model", MODEL), ("revision", REVISION)):
        if not pattern.fullmatch(values[key]):
            raise IdcError("IDC-INV-004", deployment=label, key=key, observed=values[key], wanted=pattern.pattern)
    for key in COUNTS:
        if raw.get(key) is not None:
            values[key] = _count(raw[key], key, label)
    for key in LISTS:
        if raw.get(key) is not None:
            if isinstance(raw[key], (str, Mapping)) or not isinstance(raw[key], Iterable):
                raise IdcError("IDC-INV-004", deployment=label, key=key, observed=repr(raw[key]), wanted="a list")
            values[key] = tuple(str(item) for item in raw[key])
    for key in MAPPINGS:
        if raw.get(key) is not None:
            if not isinstance(raw[key], Mapping):
                raise IdcError("IDC-INV-004", deployment=label, key=key, observed=repr(raw[key]), wanted="a mapping")
            values[key] = dict(raw[key])
    values["device"] = str(raw.get("device", "cuda"))
    if values["device"] not in ("cuda", "cpu"):
        raise IdcError("IDC-INV-004", deployment=label, key="device", observed=values["device"], wanted="cuda | cpu")
    for source in values.get("sources", ()):
        if not SOURCE.fullmatch(source):
            raise IdcError("IDC-INV-004", deployment=label, key="sources", observed=source,
                           wanted="file:///folder, http(s)://…, hf, modelscope, or either with +https://endpoint")
    for key in values.get("engine_args", {}):
        if str(key).replace("_", "-").lstrip("-") in PLANNED_ARGS:
            raise IdcError("IDC-INV-005", deployment=label, key=key)
    return Deployment(**values)


def _count(value: Any, key: str, label: str) -> int:
    """A whole number of at least 1 (0 replicas are allowed: nothing serves, the weights stay)."""
    least = 0 if key == "replicas" else 1
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)) or int(value) < least:
        raise IdcError("IDC-INV-004", deployment=label, key=key, observed=repr(value),
                       wanted=f"a whole number, at least {least}")
    if key == "port" and int(value) > 65535:
        raise IdcError("IDC-INV-004", deployment=label, key=key, observed=repr(value), wanted="1 to 65535")
    return int(value)
