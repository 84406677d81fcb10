# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hubs' faces look like: which URL to ask, how to read the answer. Pure; private to this collection.

Hugging Face (https://huggingface.co/docs/hub/api, as huggingface_hub 2.4.0 asks it)::

    GET /api/models/{id}/revision/{revision}             {"sha": commit, ...}
    GET /api/models/{id}/tree/{commit}?recursive=true    [{type, path, size, oid, lfs: {oid: sha256, size}}], pages by Link
    GET /{id}/resolve/{commit}/{path}                    the bytes, mostly by way of a redirect; Range works

A file without ``lfs`` has no sha256: its ``oid`` is git's, sha1 of ``blob <size>\\0`` and the bytes.

ModelScope (as modelscope-hub 0.5.1 asks it)::

    GET /api/v1/models/{id}/repo/files?Revision=&Recursive=True&Root=
                    {"Data": {"Files": [{Type, Path, Size, Sha256, Revision}], "LatestCommitter": {ShortId}}}
    GET /api/v1/models/{id}/repo?Revision=&FilePath=    the bytes; Range works

It has no pages and stops silently at 3000 entries: a list of that length is asked for again folder by folder. It tells
no more of a branch's commit than its first digits; but a file's own Revision is the commit that changed it last, so
bytes are asked for by that one, and the commit is known where the last one changed a file that is still there.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Sequence
from urllib.parse import parse_qs, quote, urlencode, urlsplit

HF, MODELSCOPE = "hf", "modelscope"
DEFAULT_BRANCH = {HF: "main", MODELSCOPE: "master"}
LIST_LIMIT = 3000  # entries of one ModelScope list
RESERVED = ("manifest.json", "progress.json")  # names that the store itself uses in a revision's top folder
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')


class HubError(Exception):
    """A hub's answer is not what it should be; the message says why."""


@dataclass(frozen=True)
class Hub:
    """One hub: HF or MODELSCOPE, and the endpoint without a slash at its end."""

    kind: str
    endpoint: str

    def branch(self, revision: str) -> str:
        """The revision as this hub names it: the default branch is main on one and master on the other."""
        return DEFAULT_BRANCH[self.kind] if revision in DEFAULT_BRANCH.values() else revision

    def revision_url(self, model: str, revision: str) -> str:
        """Where Hugging Face tells the commit of a revision."""
        return f"{self.endpoint}/api/models/{quote(model)}/revision/{quote(revision, safe='')}"

    def list_url(self, model: str, commit: str, root: str = "", recursive: bool = True, query: str = "") -> str:
        """Where the files are listed; ``query`` is that of a following page (Hugging Face)."""
        if self.kind == HF:
            url = f"{self.endpoint}/api/models/{quote(model)}/tree/{quote(commit, safe='')}"
            return f"{url}?{query or 'recursive=true'}"
        wanted = {"Revision": commit, "Recursive": str(recursive)}
        if root:
            wanted["Root"] = root
        return f"{self.endpoint}/api/v1/models/{quote(model)}/repo/files?{urlencode(wanted)}"

    def file_url(self, model: str, commit: str, path: str) -> str:
        """Where the bytes of a file are."""
        if self.kind == HF:
            return f"{self.endpoint}/{quote(model)}/resolve/{quote(commit, safe='')}/{quote(path)}"
        return f"{self.endpoint}/api/v1/models/{quote(model)}/repo?{urlencode({'Revision': commit, 'FilePath': path})}"


def is_commit(revision: str) -> bool:
    """Whether it is a whole commit id, which nothing can move."""
    return bool(_COMMIT.match(revision))


def parse_commit(data: Any) -> str:
    """The commit in Hugging Face's answer about a revision."""
    commit = data.get("sha") if isinstance(data, dict) else None
    if not isinstance(commit, str) or not is_commit(commit):
        raise HubError("its answer about the revision names no commit")
    return commit


def parse_tree(data: Any) -> list[dict[str, Any]]:
    """Rows {path, size, sha256 or git} of a page of Hugging Face's tree."""
    if not isinstance(data, list):
        raise HubError("its list of files is not a list")
    rows = []
    for item in data:
        if not isinstance(item, dict):
            raise HubError("a row of its list of files is not an object")
        if item.get("type") != "file" or item.get("path") in RESERVED:
            continue
        lfs = item.get("lfs")
        if isinstance(lfs, dict):
            sha256 = str(lfs.get("oid") or lfs.get("sha256") or "")
            if sha256.startswith("sha256:"):
                sha256 = sha256[len("sha256:"):]
            rows.append({"path": item.get("path"), "size": lfs.get("size", item.get("size")), "sha256": sha256})
        else:
            rows.append({"path": item.get("path"), "size": item.get("size"), "git": item.get("oid")})
    return rows


def next_query(link: str | None) -> str:
    """The query of the next page, "" after the last one; the rest of the link is not followed: mirrors name others."""
    found = _NEXT.search(link or "")
    query = urlsplit(found.group(1)).query if found else ""
    return query if parse_qs(query) else ""


@dataclass(frozen=True)
class Page:
    """A ModelScope list: rows {path, size, sha256, revision}, paths of folders, entries in all, the commit's digits."""

    rows: list[dict[str, Any]]
    folders: list[str]
    count: int
    short: str = ""


def parse_files(data: Any) -> Page:
    """A ModelScope list."""
    if isinstance(data, dict) and (data.get("Success") is False or data.get("Code", 200) not in (200, "200", None)):
        raise HubError(f"it says: {data.get('Message') or data.get('Code')}")
    inner = data.get("Data") if isinstance(data, dict) else None
    files = inner.get("Files") if isinstance(inner, dict) else inner
    if not isinstance(files, list):
        raise HubError("its list of files is not a list")
    rows, folders = [], []
    for item in files:
        if not isinstance(item, dict):
            raise HubError("a row of its list of files is not an object")
        path = item.get("Path") or item.get("Name")
        if item.get("Type") == "tree":
            folders.append(str(path))
        elif path not in RESERVED:
            if not item.get("Sha256"):
                raise HubError(f"it gives no sha256 for {path}, so nothing can prove that file")
            revision = str(item.get("Revision") or "")
            row = {"path": path, "size": item.get("Size"), "sha256": item.get("Sha256")}
            rows.append(dict(row, revision=revision if is_commit(revision) else ""))
    latest = inner.get("LatestCommitter") if isinstance(inner, dict) else None
    return Page(rows, folders, len(files), str(latest.get("ShortId") or "") if isinstance(latest, dict) else "")


def latest_commit(pages: Sequence[Page], revision: str) -> str | None:
    """The commit that ModelScope's revision stands for: itself, or the file's that fits the digits; None: not known."""
    if is_commit(revision):
        return revision
    short = next((page.short for page in pages if len(page.short) >= 7), "")
    found = {row["revision"] for page in pages for row in page.rows if short and row["revision"].startswith(short)}
    return found.pop() if len(found) == 1 else None


def distinct(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each path once: lists of folders overlap."""
    return list({str(row["path"]): row for row in rows}.values())
