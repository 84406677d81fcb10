# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role model_store: who shares files with whom, and which revisions are surplus."""
from __future__ import annotations

import os
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._model_store import MANIFEST, PARTIAL, given_errors


def store_errors(given: Mapping[str, Any], host: str, lang: str = "en") -> list[str]:
    """Sentences about what is wrong with the role's variables: tls_certificate, tls_key, allowed_networks."""
    return [error.render(lang) for error in given_errors(given, host)]


def store_members(plan: Mapping[str, Any]) -> list[str]:
    """Addresses of the hosts that may read a store: the fleet's GPU nodes. A gateway has no need of weights."""
    return sorted(host["address"] for host in plan["hosts"].values() if host["address"] and "gpu_nodes" in host["groups"])


def store_peers(plan: Mapping[str, Any], host: str, row: Mapping[str, Any], scheme: str = "http") -> list[str]:
    """Stores of the other hosts that have or need the row's revision, beginning with the one after ``host``."""
    names = sorted(name for name, rows in plan["stores"].items() if any(_same(row, other) for other in rows))
    turn = names.index(host) + 1 if host in names else 0
    order = [name for name in names[turn:] + names[:turn] if name != host]
    addresses = [(plan["hosts"].get(name) or {}).get("address") for name in order]
    return [f"{scheme}://{store_host(address)}:{plan['ports']['store']}" for address in addresses if address]


def store_host(address: str) -> str:
    """An address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def store_surplus(found: Sequence[Mapping[str, Any]], root: str, rows: Sequence[Mapping[str, Any]],
                  keep: int) -> list[dict[str, str]]:
    """Revisions to remove, of ``found`` manifests ({path, mtime}) below ``root``: model, revision, path.

    What ``rows`` need stays, and so do the ``keep`` revisions of each model that were published last. An unfinished
    fetch of a revision that is not needed is surplus.
    """
    needed = {(row["model"], row["revision"]) for row in rows}
    published: dict[str, list[tuple[float, str]]] = {}
    begun: set[tuple[str, str]] = set()
    for manifest in found:
        parts = os.path.relpath(manifest["path"], root).split(os.sep)
        if len(parts) != 4 or parts[3] != MANIFEST or parts[0].startswith("."):
            continue
        model, folder = "/".join(parts[:2]), parts[2]
        if folder.startswith(PARTIAL):
            begun.add((model, folder[len(PARTIAL):]))
        elif not folder.startswith("."):
            published.setdefault(model, []).append((float(manifest["mtime"]), folder))
    kept, surplus = set(needed), {one: PARTIAL + one[1] for one in begun}
    for model, revisions in published.items():
        surplus.update({(model, revision): revision for _mtime, revision in revisions})
        kept.update((model, revision) for _mtime, revision in sorted(revisions, reverse=True)[:max(1, int(keep))])
    return [{"model": model, "revision": revision, "path": os.path.join(root, model, folder)}
            for (model, revision), folder in sorted(surplus.items()) if (model, revision) not in kept]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["model"], one["revision"]) == (other["model"], other["revision"])


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        return {"store_errors": store_errors, "store_members": store_members, "store_peers": store_peers, "store_host": store_host,
                "store_surplus": store_surplus}
