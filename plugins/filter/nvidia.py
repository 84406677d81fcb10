# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role nvidia_stack and of playbooks/drivers.yml."""
from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils import _nvidia, _nvidia_files, _nvidia_state, _nvidia_turn
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said
from ansible_collections.idc.llm.plugins.module_utils._nvidia_seen import Seen, parse_seen, same
from ansible_collections.idc.llm.plugins.module_utils._openpgp import fingerprints


def nvidia_errors(given: Mapping[str, Any], lang: str = "en") -> list[str]:
    """What is wrong with the inventory's values."""
    return [error.render(lang) for error in [*_nvidia.parse_wanted(given)[1], *_nvidia_state.settings_errors(given)]]


def nvidia_plan(given: Mapping[str, Any], seen: Mapping[str, Any], host: str = "", asked: bool = False,
                lang: str = "en", drained: bool = False) -> dict[str, Any]:
    """What the tasks read. asked: the repositories have been asked, so that what they do not offer is known; drained: no engine
    will run by then, whatever runs now."""
    found = parse_seen(seen, host)
    wanted = replace(_nvidia.parse_wanted(given)[0], drained=drained)
    others = _nvidia.other_vendors(found)
    plan: dict[str, Any] = {"manage": bool(found.gpus), "errors": [error.render(lang) for error in others], "warnings": [],
                            "problems": [], "actions": [], "reboot": "", "versions": _nvidia_state.four_versions(found)}
    if not found.gpus:
        return plan
    made, errors = _nvidia.stack(wanted, found)
    errors += _nvidia.host_errors(wanted, found)
    if made and asked:
        errors += _nvidia.header_errors(made, found) + _nvidia.offer_errors(made, found)
    warnings = _nvidia_state.warnings(made, found)
    plan.update(errors=plan["errors"] + [error.render(lang) for error in errors],
                warnings=[error.render(lang) for error in warnings],
                problems=[error.render(lang) for error in _nvidia_state.problems(wanted, found)],
                reboot=_listed(_nvidia_state.reboot_reasons(found), lang), **_host(given, found, drained))
    if made:
        plan.update(_nvidia_files.tasks(made, wanted, found), actions=_nvidia_files.lines(made))
    return plan


def _host(given: Mapping[str, Any], found: Seen, drained: bool) -> dict[str, Any]:
    """What the configure stage reads of the host."""
    loads = ["ib_umad"] if found.fabric and found.hidden_switches else []
    loads += ["nvidia-peermem"] if given["rdma"] == "peermem" else []
    ready = bool(found.loaded) and same(found.loaded, found.built or found.loaded)
    loadable = bool(found.built) and not (found.loaded or found.nouveau) and found.kernel == found.running
    return {"settings": _nvidia_state.settings(given), "load": loads, "ready": ready, "loadable": loadable,
            "engines": list(found.engines), "serves": bool(found.engines) and not drained,
            "describe": ready and not (found.cdi and same(found.cdi, found.loaded)),
            "kernel": found.kernel, "elsewhere": found.kernel != found.running, "built": found.built}


def _listed(reasons: Sequence[Said], lang: str) -> str:
    return ("；" if lang == "zh" else "; ").join(getattr(reason, lang) for reason in reasons)


def nvidia_key_errors(text: str, repository: Mapping[str, Any], host: str = "", lang: str = "en") -> list[str]:
    """Why a key is not the one that is wanted: it has to be that key and no other beside it."""
    found = fingerprints(str(text).encode())
    if found == [repository["fingerprint"]]:
        return []
    place = repository["fetch"] or "nvidia_stack_key_src"
    return [IdcError("IDC-GPU-011", host=host, place=place, observed=", ".join(found) or "-",
                     wanted=repository["fingerprint"]).render(lang)]


def nvidia_engine_errors(said: Mapping[str, Any], seen: Mapping[str, Any], host: str = "", lang: str = "en") -> list[str]:
    """What the engine's own CUDA, cuDNN and NCCL lack on this host."""
    return [error.render(lang) for error in _nvidia_state.engine_errors(said, parse_seen(seen, host))]


def nvidia_replicas(plan: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, Any]:
    """Of hosts that are to be drained: their ``engines``, and the plan's rows of the ``heads`` of their replicas."""
    return _nvidia_turn.replicas(plan, hosts)


def nvidia_run_errors(at_once: Any, nodes: Sequence[str], hosts: Sequence[str], lang: str = "en") -> list[str]:
    """What is wrong with how drivers.yml was called. nodes: the group gpu_nodes; hosts: those of this run."""
    return [error.render(lang) for error in _nvidia_turn.run_errors(at_once, nodes, hosts)]


def nvidia_turn(plan: Mapping[str, Any], engines: Sequence[str], enabled: bool = True, host: str = "", lang: str = "en"
                ) -> dict[str, Any]:
    """What drivers.yml does on a host. plan: of nvidia_plan; engines: what the serving plan has there."""
    turn = _nvidia_turn.turn_of(plan, engines, enabled, host)
    return {"change": turn.change, "start": list(turn.start), "errors": [*turn.known, *(one.render(lang) for one in turn.errors)]}


def nvidia_outages(plan: Mapping[str, Any], hostvars: Mapping[str, Any], hosts: Sequence[str], asked: Sequence[str],
                   at_once: int = 1, lang: str = "en") -> list[str]:
    """What would have nobody who serves it. hosts: those looked at, in the order of their turns; asked: all of the run."""
    looked = [_nvidia_turn.Looked(host, hostvars[host]["__idc_llm_turn"]["change"],
                                  tuple(hostvars[host]["__idc_llm_before"].get("engines", ()))) for host in hosts]
    lost = [host for host in asked if host not in hosts]
    return [error.render(lang) for error in _nvidia_turn.outages(plan, looked, lost, int(at_once))]


def nvidia_as_before(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a host on which engines ran has the driver that they ran with. Both: of nvidia_plan."""
    return _nvidia_turn.as_before(before, now)


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        named = (nvidia_as_before, nvidia_engine_errors, nvidia_errors, nvidia_key_errors, nvidia_outages, nvidia_plan,
                 nvidia_replicas, nvidia_run_errors, nvidia_turn)
        return {function.__name__: function for function in named}
