# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of model_fetch: what is observed, done and reported for each. Private to this collection."""
from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Iterator

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import Chooser, View
from ansible_collections.idc.llm.plugins.module_utils._fetch_lock import STALE, locked
from ansible_collections.idc.llm.plugins.module_utils._hash_pool import cores
from ansible_collections.idc.llm.plugins.module_utils._model_fetch import Fetch, Store, fetch_and_publish, remove, verify
from ansible_collections.idc.llm.plugins.module_utils._model_reader import describe, local
from ansible_collections.idc.llm.plugins.module_utils._model_store import (
    MANIFEST,
    PART,
    FetchPlan,
    Manifest,
    check_space,
    plan_fetch,
    right_sized,
)
from ansible_collections.idc.llm.plugins.module_utils._progress import metric_file
from ansible_collections.idc.llm.plugins.module_utils._store_files import Stopped, free_bytes, remove_file, sizes


def present(store: Store, fetch: Fetch, lock_timeout: float, check_mode: bool) -> dict[str, Any]:
    """Published, complete; a revision that is so already is left alone, and no source is asked."""
    there = store.complete()
    if there:
        return result(store, there)
    before = store.published()
    listed = fetch.manifest(store)
    manifest = listed
    if before:  # damaged: it is made whole as it was published, whatever the revision has become
        manifest = replace(before.with_sources({}), commit=before.commit)
        if before.commit and fetch.listed_by:
            fetch.listed_by.pin(before.commit)
    more: dict[str, Any] = {}
    if fetch.listed_by and fetch.listed_by.asked_hub:
        moved = bool(before and before.commit and listed.commit and listed.commit != before.commit)
        more = {"moved": moved, "hub_commit": listed.commit}
    if check_mode:
        after, plan = _preview(store, fetch, manifest, before)
        more["would_fetch"] = [{"path": e.path, "size": e.size, "source": e.source} for e in after.files if e.source]
    else:
        with _alone(store, fetch, lock_timeout):
            there = store.complete()
            if there:  # another run brought it while this one waited
                return result(store, there)
            after, plan = fetch_and_publish(store, fetch, manifest)
    brought = {entry.path for entry in plan.todo}
    used = {entry.source for entry in after.files if entry.path in brought and entry.source}
    names = [origin.name for origin in fetch.origins]
    return dict(
        result(store, after),
        changed=True,
        fetched_files=len(plan.todo),
        fetched_bytes=plan.size,
        sources=[name for name in names if name in used] + sorted(used - set(names)),
        rejected=fetch.rejected,
        diff=_diff(store, before, after),
        **more,
    )


def verified(store: Store, fetch: Fetch) -> dict[str, Any]:
    """Every byte is right; all cores read."""
    return result(store, verify(store, max(fetch.jobs, cores())))


def listed(store: Store, fetch: Fetch, metadata: bool) -> dict[str, Any]:
    """The manifest, of the store where it is complete there, else of a source; and what the model needs."""
    there = store.complete()
    manifest = there or fetch.manifest(store)
    answer = dict(result(store, manifest), manifest=manifest.as_dict(store.model, store.revision))
    if metadata:
        reader = local(store.path, fetch.jobs) if there else fetch
        answer["metadata"] = describe(reader, manifest, f"{store.model} {store.revision}")
    return dict(answer, rejected=fetch.rejected)


def absent(store: Store, fetch: Fetch, lock_timeout: float, check_mode: bool) -> dict[str, Any]:
    """Neither published nor begun."""
    before = store.published()
    changed = os.path.isdir(store.path) or os.path.isdir(store.partial)
    if changed and not check_mode:
        with _alone(store, fetch, lock_timeout):
            remove(store)
            if fetch.settings.metrics_dir:
                remove_file(metric_file(fetch.settings.metrics_dir, store.model, store.revision))
    return dict(result(store, before or Manifest(())), changed=changed, diff=_diff(store, before, None))


def result(store: Store, manifest: Manifest) -> dict[str, Any]:
    """What every state reports, for nothing done."""
    return {
        "changed": False,
        "path": store.path,
        "commit": manifest.commit,
        "files": len(manifest.files),
        "bytes": manifest.size,
        "fetched_files": 0,
        "fetched_bytes": 0,
        "sources": [],
        "rejected": [],
    }


def _preview(store: Store, fetch: Fetch, manifest: Manifest, before: Manifest | None) -> tuple[Manifest, FetchPlan]:
    """What a run would bring, and from where, as far as can be told without reading or writing a file."""
    folder = store.path if before else store.partial
    plan = plan_fetch(manifest, right_sized(manifest, sizes(folder, manifest)), sizes(folder, manifest, PART))
    check_space(plan, free_bytes(folder), fetch.settings.min_free, folder)
    fetch.peers.look(plan.todo)
    alive = tuple(origin.name for origin in fetch.origins if origin.name not in fetch.ledger.dead)
    sources: dict[str, str | None] = {}
    for entry in plan.todo:
        choice = Chooser().next(View((entry,), peers=fetch.peers.files(), sources=alive))
        sources[entry.path] = choice.source if choice else None
    return manifest.with_sources(sources), plan


@contextmanager
def _alone(store: Store, fetch: Fetch, lock_timeout: float) -> Iterator[None]:
    """Under the revision's lock; a run that loses it stops."""
    try:
        with locked(store.lock, lock_timeout, fetch.line.stop.set, model=store.model, revision=store.revision):
            yield
    except Stopped:
        raise IdcError(
            "IDC-FETCH-021", lock=store.lock, model=store.model, revision=store.revision, stale=f"{STALE:g}",
            rejected=fetch.rejected,
        ) from None  # fmt: skip


def _diff(store: Store, before: Manifest | None, after: Manifest | None) -> dict[str, str]:
    texts = [manifest.as_text(store.model, store.revision) if manifest else "" for manifest in (before, after)]
    header = os.path.join(store.path, MANIFEST)
    return {"before": texts[0], "after": texts[1], "before_header": header, "after_header": header}
