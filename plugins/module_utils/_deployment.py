# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one entry of ``idc_llm_deployments`` may say, and its typed form. Private to this collection."""
from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SOURCE = re.compile(r"(file:///|https?://|(hf|modelscope)\+https?://).+|hf|modelscope")

# What a deployment can promise, and does where it says nothing: a first token within a second for 99 of 100, 999 of 1000 answered.
SLO = {"ttft_p99_ms": 1000.0, "e2e_p99_ms": 30000.0, "error_rate": 0.001}

# vLLM options that the plan itself sets; engine_args may not say them a second time.
PLANNED_ARGS = (
    "model", "served-model-name", "host", "port", "tensor-parallel-size", "pipeline-parallel-size",
    "data-parallel-size", "data-parallel-size-local", "data-parallel-address", "data-parallel-start-rank",
    "data-parallel-rpc-port", "enable-expert-parallel", "headless", "max-model-len", "nnodes", "node-rank", "master-addr",
    "master-port", "api-key", "shutdown-timeout",
)


@dataclass(frozen=True)
class Canary:
    """Which requests for another deployment a deployment gets in its place: ``percent`` of them (0 to 100), all of ``tenants``."""

    of: str
    percent: int = 0
    tenants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """One served model name, as an operator wrote it, checked. Sizes are counts of GPUs (or CPU ranks).

    What is None is the planner's to choose; replicas None: one, and more where GPUs are left (a canary's: one).
    """

    name: str
    model: str
    revision: str
    sources: tuple[str, ...] = ()
    device: str = "cuda"
    hosts: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    replicas: Optional[int] = None
    tensor_parallel: Optional[int] = None
    pipeline_parallel: Optional[int] = None
    data_parallel: Optional[int] = None
    expert_parallel: Optional[bool] = None
    metadata: Optional[str] = None
    max_model_len: Optional[int] = None
    port: Optional[int] = None
    release: Optional[str] = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    canary: Optional[Canary] = None
    slo: Mapping[str, float] = field(default_factory=dict)

    @property
    def served_names(self) -> Any:
        """What its engines answer to (``served-model-name``). vLLM says the first in each answer: a canary's callers see what they
        asked for."""
        return [self.canary.of, self.name] if self.canary else self.name

    @property
    def sizes(self) -> Optional[tuple[int, int, int]]:
        """(tensor, pipeline, data) parallel as said, what is not said being 1; None where nothing is said."""
        said = (self.tensor_parallel, self.pipeline_parallel, self.data_parallel)
        return None if said == (None, None, None) else (said[0] or 1, said[1] or 1, said[2] or 1)


REQUIRED = ("name", "model", "revision")
COUNTS = ("replicas", "tensor_parallel", "pipeline_parallel", "data_parallel", "max_model_len", "port")
LISTS = ("sources", "hosts", "gpus")
MAPPINGS = ("engine_args", "environment")
TEXTS = ("release", "metadata")
KEYS = (*REQUIRED, *COUNTS, *LISTS, *MAPPINGS, *TEXTS, "device", "expert_parallel", "canary", "slo")
CANARY = ("of", "percent", "tenants")


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like this one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return close[0] if close else ", ".join(known)


def mapping_errors(value: Any, name: str, known: Iterable[str]) -> list[IdcError]:
    """What is wrong with the form of a value of the inventory that is nothing or a mapping with these names."""
    known = list(known)
    if value is None:
        return []
    if not isinstance(value, Mapping):
        return [IdcError("IDC-INV-007", name=name, observed=type(value).__name__, wanted="a mapping")]
    return [IdcError("IDC-INV-006", name=f"{name}.{key}", nearest=nearest(str(key), known))
            for key in value if key not in known]


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
    if raw.get("expert_parallel") is not None:
        if str(raw["expert_parallel"]).lower() not in ("true", "false"):
            raise IdcError("IDC-INV-004", deployment=label, key="expert_parallel", observed=raw["expert_parallel"],
                           wanted="true | false")
        values["expert_parallel"] = str(raw["expert_parallel"]).lower() == "true"
    for source in values.get("sources", ()):
        if not SOURCE.fullmatch(source):
            raise IdcError("IDC-INV-004", deployment=label, key="sources", observed=source,
                           wanted="file:///folder, http(s)://…, hf, modelscope, or either with +https://endpoint")
    for key in values.get("engine_args", {}):
        if str(key).replace("_", "-").lstrip("-") in PLANNED_ARGS:
            raise IdcError("IDC-INV-005", deployment=label, key=key)
    if raw.get("canary") is not None:
        values["canary"] = _canary(raw["canary"], label)
        values.setdefault("replicas", 1)
    values["slo"] = _slo(raw.get("slo"), label)
    return Deployment(**values)


def _canary(raw: Any, label: str) -> Canary:
    for error in mapping_errors(raw, f"idc_llm_deployments.{label}.canary", CANARY):
        raise error
    percent, tenants = raw.get("percent", 0), raw.get("tenants") or []
    if not raw.get("of"):
        raise IdcError("IDC-INV-002", deployment=label, key="canary.of")
    if not isinstance(raw["of"], str):
        raise IdcError("IDC-INV-004", deployment=label, key="canary.of", observed=repr(raw["of"]),
                       wanted="the name of a deployment")
    if isinstance(percent, bool) or not re.fullmatch(r"\d+", str(percent)) or int(percent) > 100:
        raise IdcError("IDC-INV-004", deployment=label, key="canary.percent", observed=repr(percent),
                       wanted="a whole number, 0 to 100")
    if isinstance(tenants, (str, Mapping)) or not isinstance(tenants, Iterable):
        raise IdcError("IDC-INV-004", deployment=label, key="canary.tenants", observed=repr(tenants), wanted="a list")
    return Canary(raw["of"], int(percent), tuple(map(str, tenants)))


def _slo(raw: Any, label: str) -> dict[str, float]:
    """What a deployment promises; alarms and burn rates are measured by it."""
    for error in mapping_errors(raw, f"idc_llm_deployments.{label}.slo", SLO):
        raise error
    for key, value in (raw or {}).items():
        most = 1 if key == "error_rate" else math.inf
        if isinstance(value, bool) or not 0 < _number(value) < most:
            raise IdcError("IDC-INV-004", deployment=label, key=f"slo.{key}", observed=repr(value),
                           wanted="a share between 0 and 1" if most == 1 else "a number of milliseconds above 0")
    return {key: float(value) for key, value in (raw or {}).items()}


def _number(value: Any) -> float:
    """Any form of a number, 1e-05 too; NaN, which no comparison takes, for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def canary_errors(deployments: Sequence[Deployment]) -> list[IdcError]:
    """Canaries of what is none itself; of one deployment no more than 100 percent, and each tenant once."""
    whole = [one.name for one in deployments if not one.canary]
    errors: list[IdcError] = []
    percents = dict.fromkeys(whole, 0)
    owners: dict[tuple[str, str], str] = {}
    for one in deployments:
        if not one.canary:
            continue
        of = one.canary.of
        if of not in whole:
            errors.append(IdcError("IDC-INV-021", deployment=one.name, of=of, nearest=nearest(of, whole)))
            continue
        percents[of] += one.canary.percent
        if percents[of] > 100:
            errors.append(IdcError("IDC-INV-004", deployment=one.name, key="canary.percent",
                                   observed=f"{percents[of]} with the others", wanted=f"100 at most of {of} together"))
        for tenant in one.canary.tenants:
            if owners.setdefault((of, tenant), one.name) != one.name:
                errors.append(IdcError("IDC-INV-004", deployment=one.name, key="canary.tenants", observed=tenant,
                                       wanted=f"a tenant that {owners[of, tenant]} has not got already"))
    return errors


def _count(value: Any, key: str, label: str) -> int:
    """A whole number of at least 1 (0 replicas are allowed: nothing serves, the weights stay)."""
    least = 0 if key == "replicas" else 1
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)) or int(value) < least:
        raise IdcError("IDC-INV-004", deployment=label, key=key, observed=repr(value),
                       wanted=f"a whole number, at least {least}")
    if key == "port" and int(value) > 65535:
        raise IdcError("IDC-INV-004", deployment=label, key=key, observed=repr(value), wanted="1 to 65535")
    return int(value)
