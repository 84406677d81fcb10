# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine goes through after its files are decided: proof, drain, and the way back to what was proven. Pure, private.

The way back is one file, ``good.json`` in the engine's folder, written whole after each proof of something new: a run that is
killed leaves the copy before or the copy after, never a mixture. It holds the engine's key, so it is root's alone.
"""
from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _engine
from ansible_collections.idc.llm.plugins.module_utils._engine import File, Spec
from ansible_collections.idc.llm.plugins.module_utils._errors import LANGUAGES, IdcError, Said
from ansible_collections.idc.llm.plugins.module_utils._ready import LOADING

SCHEMA = 1
WARMUP = (32, 256, 1024)  # words of each warm-up prompt
_ROW = re.compile(r"^(host|port|headless|shutdown-timeout): (.*)$", re.M)
_COUNTS = re.compile(r"^(\d+) running, (\d+) waiting$")
_SEEN = {"/metrics gave nothing": "/metrics 没有应答", "/metrics has no counters": "/metrics 中没有计数器"}


@dataclass(frozen=True)
class Proof:
    """How an engine is proven. ``model``: "" = the first name it serves; times in seconds; ``warmup``: words of each prompt sent
    before; ``memory``: what the plan counted with, bytes for each card."""

    wait: bool = True
    model: str = ""
    ready_timeout: float = 600
    probe_timeout: float = 60
    warmup: Sequence[int] = ()
    memory: Optional[Mapping[str, Any]] = None


@dataclass(frozen=True)
class Target:
    """Whom to ask for a token."""

    url: str
    model: str
    api_key: str


@dataclass(frozen=True)
class Good:
    """The configuration that gave a token last: its files, the release they ran with, and whom to ask for a token."""

    release_dir: str
    target: Target
    files: tuple[File, ...]


def target(spec: Spec, model: str) -> Target:
    """Whom to ask when this engine runs."""
    return Target(_engine.base_url(spec.config), model or _engine.served_model(spec.config), spec.api_key)


def good_file(spec: Spec, good: Good) -> File:
    """The copy as a file."""
    rows = [[file.path, file.text, file.owner, file.group, file.mode] for file in good.files]
    whole = {"schema": SCHEMA, "release_dir": good.release_dir, "target": vars(good.target), "files": rows}
    return File(good_path(spec), json.dumps(whole, indent=1) + "\n", "root", "root", 0o600, "")


def good_path(spec: Spec) -> str:
    """Where the copy lives."""
    return f"{spec.config_dir}/{spec.name}/good.json"


def read_good(text: str) -> Optional[Good]:
    """The copy; None where there is none, or none that this version can read."""
    try:
        whole = json.loads(text)
        if whole["schema"] != SCHEMA:
            return None
        files = tuple(File(path, text, owner, group, mode, "") for path, text, owner, group, mode in whole["files"])
        return Good(whole["release_dir"], Target(**whole["target"]), files) if files else None
    except (ValueError, KeyError, TypeError):
        return None


def way_back(good: Good, wanted: Sequence[File], spec: Spec, failure: IdcError) -> bool:
    """Whether what failed is something else than what was proven last, so that this can be put back.

    Not where an engine that was left as it is missed one probe, unless nobody listens there; not for a part of a replica across
    hosts, whose other parts would keep the new configuration.
    """
    if failure.code == "IDC-ENG-009" and failure.details["probe"] != LOADING:
        return False
    if spans_hosts(spec.config):
        return False
    if [file.path for file in good.files] != [file.path for file in wanted]:
        return False
    texts = [file.text for file in good.files[:-1]] != [file.text for file in wanted[:-1]]
    return texts or good.release_dir != spec.release_dir


def spans_hosts(config: Mapping[str, Any]) -> bool:
    """Whether an engine with this configuration is one rank of a replica on several hosts, of either kind (``_plan``)."""
    return int(_engine.option(config, "nnodes", 1) or 1) > 1 or bool(_engine.option(config, "data-parallel-address", ""))


def went_back(spec: Spec, good: Good, failure: IdcError, second: Optional[IdcError]) -> IdcError:
    """The error that says both: what the new configuration ended with, and what became of the old one."""
    release = good.release_dir.rpartition("/")[2]
    details = dict(failure.details, engine=spec.name, log=spec.log, first=_what(failure), release=release,
                   rolled_back=second is None)
    if second is None:
        return IdcError("IDC-ENG-018", **details)
    return IdcError("IDC-ENG-019", **dict(details, second=_what(second)))


def _what(error: IdcError) -> Said:
    return Said(*(error.text(lang).what for lang in LANGUAGES))


def on_disk(text: str) -> dict[str, Any]:
    """What a config.yaml that ``_engine.files`` wrote, or a person mended, says of port, host, headless and shutdown-timeout."""
    found: dict[str, Any] = {}
    for key, value in _ROW.findall(text):
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value.strip()
    return found


def counts(seen: str) -> tuple[Optional[int], Optional[int]]:
    """(running, waiting) of what ``wait_drained`` saw last; None where it could not be seen."""
    match = _COUNTS.match(seen)
    if match:
        return int(match.group(1)), int(match.group(2))
    return (0, 0) if seen == "nobody listens there" else (None, None)


def not_drained(spec: Spec, seen: str, rest_s: int) -> IdcError:
    """What to say of an engine whose requests took longer than the drain time. ``rest_s``: what vLLM itself lets them have."""
    running, waiting = counts(seen)
    if running is None:
        said = Said(seen, _SEEN.get(seen, seen))
    else:
        said = Said(f"{running} requests run, {waiting} wait", f"{running} 个请求在运行，{waiting} 个在等待")
    details = {"engine": spec.name, "timeout": spec.drain_timeout, "seen": said}
    return IdcError("IDC-ENG-021", rest=rest_s, **details) if rest_s else IdcError("IDC-ENG-022", **details)
