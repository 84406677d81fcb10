# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where logs are shipped to. Pure; private to this collection."""
from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Dict, List

from ansible_collections.idc.llm.plugins.module_utils._deployment import mapping_errors
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

KEYS = ("address", "port", "tls", "ca", "name")
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def _is_host(text: str) -> bool:
    """A name or an address. Of those only IPv6 has a colon: name:port would be looked up as a name, and never found."""
    if ":" not in text:
        return bool(HOST.fullmatch(text))
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def log_host_errors(raw: Any, readable: Callable[[str], bool] = lambda path: True) -> List[IdcError]:
    """What is wrong with C(idc_llm_log_host): nothing, a name, or a mapping. readable: whether the controller can read a file."""
    if not raw:
        return []
    if isinstance(raw, str):
        raw = {"address": raw}
    errors = mapping_errors(raw, "idc_llm_log_host", KEYS)
    if errors:
        return errors
    port = str(raw.get("port", 514))
    for key, good, wanted in (
            ("address", _is_host(str(raw.get("address") or "")),
             "a host's name or address; a port stands beside it, as in {address: log.example.internal, port: 6514}"),
            ("port", bool(re.fullmatch(r"\d{1,5}", port)) and 0 < int(port) < 65536, "1 to 65535"),
            ("tls", str(raw.get("tls", True)).lower() in ("true", "false"), "true | false"),
            ("ca", not raw.get("ca") or (str(raw["ca"]).startswith("/") and readable(str(raw["ca"]))),
             "the whole path of a file that is on the controller and can be read there"),
            ("name", not raw.get("name") or _is_host(str(raw["name"])), "a name in the log host's certificate")):
        if not good:
            errors.append(IdcError("IDC-MON-008", name=f"idc_llm_log_host.{key}", observed=repr(raw.get(key)), wanted=wanted))
    return errors


def log_target(raw: Any) -> Dict[str, Any]:
    """The same with everything said; {} for nothing. Without a word TLS is spoken: what is shipped says who did what."""
    if not raw:
        return {}
    if isinstance(raw, str):
        raw = {"address": raw}
    tls = str(raw.get("tls", True)).lower() == "true"
    port = int(raw.get("port") or (6514 if tls else 514))
    return {"address": raw["address"], "port": port, "tls": tls, "ca": raw.get("ca") or "",
            "name": raw.get("name") or raw["address"]}
