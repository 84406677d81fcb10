# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's way to an error of the catalogue: ``'IDC-LUKS-001' | idc.llm.idc_error(lang='zh', devices=[...])``."""
from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.module_utils._errors import CATALOGUE, IdcError


def idc_error(code: str, lang: str = "en", **details: Any) -> str:
    """One line for a person: code, what, why, remedy; lists among the details are joined by commas."""
    if code not in CATALOGUE:
        raise AnsibleFilterError(f"idc_error: there is no error {code!r} in the catalogue")
    texts = {k: ", ".join(str(i) for i in v) if isinstance(v, (list, tuple)) else v for k, v in details.items()}
    try:
        return IdcError(code, **texts).render(lang)
    except KeyError as exc:
        raise AnsibleFilterError(f"idc_error: {code} needs the detail {exc}") from exc


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """{name: function}"""
        return {"idc_error": idc_error}
