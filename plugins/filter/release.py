# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role vllm: what a release is made from, which are needed no more, who may reach an engine."""
from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.module_utils import _firewall, _release
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._release import Offer, Release


def _rows(releases: Sequence[Mapping[str, Any]]) -> list[Release]:
    return [Release(one["name"], one["path"], one["list"], one["made"], one["used_by"], one["kernels"]) for one in releases]


def release_choice(releases: Sequence[Mapping[str, Any]], release: str, known: Sequence[str], offer: Mapping[str, str], host: str,
                   archive: Sequence[str] = ("", ""), lang: str = "en") -> dict[str, Any]:
    """What to do for a release: install, source, list, problem (a sentence, empty when there is none), missing."""
    path, head = archive
    choice = _release.choose(release, _rows(releases), known, Offer(**offer), host, path, _release.read_head(head))
    return {"install": choice.install, "source": choice.source, "list": choice.text, "missing": choice.missing,
            "problem": choice.problem.render(lang) if choice.problem else ""}


def release_misfits(head: str, host: str, archive: str, here: Mapping[str, Any], lang: str = "en") -> list[str]:
    """Sentences about what keeps an archive from running on a host."""
    found = _release.read_head(head)
    if found is None:
        raise AnsibleFilterError("release_misfits: this is no release.json")
    errors = [IdcError("IDC-ENG-028", host=host, archive=archive, **details) for details in _release.misfits(found, **here)]
    return [error.render(lang) for error in errors]


def release_surplus(releases: Sequence[Mapping[str, Any]], keep: int, named: Sequence[str] = ()) -> list[str]:
    """Names of the releases that are needed no more."""
    return sorted(one.name for one in _release.surplus(_rows(releases), int(keep), named))


def release_sources(values: Mapping[str, Any], host: str, lang: str = "en") -> list[str]:
    """Sentences about what is wrong with the variables that say where releases come from."""
    return [error.render(lang) for error in _release.source_errors(values, host)]


def release_kernels(releases: Sequence[Mapping[str, Any]], host: str, names: Sequence[str], lang: str = "en") -> list[str]:
    """Sentences about the releases of these names that lack precompiled kernels."""
    told = []
    for one in _rows(releases):
        missing = _release.kernels_missing(one.kernels)
        if one.name in names and missing:
            told.append(IdcError("IDC-ENG-031", host=host, release=one.name, missing=", ".join(missing),
                                 version=one.kernels[_release.FLASHINFER]).render(lang))
    return told


def release_version(release: str) -> str:
    """vLLM's version in a release's name."""
    return _release.base_version(release)


def engine_guards(plan: Mapping[str, Any], host: str, more: Sequence[str] = (), lang: str = "en") -> list[dict[str, Any]]:
    """Ports of a host's engines with the addresses that may reach them."""
    try:
        return _firewall.rules(plan, host, more)
    except IdcError as error:
        raise AnsibleFilterError(error.render(lang)) from error


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        return {"release_choice": release_choice, "release_misfits": release_misfits, "release_surplus": release_surplus,
                "release_sources": release_sources, "release_kernels": release_kernels, "release_version": release_version,
                "engine_guards": engine_guards}
