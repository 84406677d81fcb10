# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The face of huggingface.co: what huggingface_hub asks of it, and the headers and error codes it looks for.

- https://huggingface.co/docs/hub/api; huggingface_hub's file_download.py (``get_hf_file_metadata``) and utils/_http.py
  (``hf_raise_for_status``).
- Files of git itself are a 307 to a relative address on the same host, files of LFS a 302 to another host. X-Linked-Etag is
  the sha256 of an LFS file, and git's blob id of another. There is no Xet header, so clients take plain HTTP.
- Who accepts gzip gets git's files packed, without a length, when they are of some size.
"""
from __future__ import annotations

import gzip
from dataclasses import replace
from urllib.parse import quote, urlencode

from ._faces import Site, content
from ._models import Commit, File
from ._reply import Ask, Reply, as_json

PACKED_FROM = 1024
DATE = "2026-01-01T00:00:00.000Z"


def answer(site: Site, ask: Ask) -> Reply:
    """The reply to any path that is not ModelScope's."""
    reply = _route(site, ask)
    return replace(reply, face="hf")


def _route(site: Site, ask: Ask) -> Reply:
    parts = ask.path
    if parts[:2] == ("api", "models") and len(parts) >= 4:
        return _api(site, ask, "/".join(parts[2:4]), parts[4:])
    if parts[:3] == ("api", "resolve-cache", "models") and len(parts) >= 7:
        if len(parts[5]) != 40:
            return _error(400, "", "Invalid rev id")
        return _resolve(site, ask, "/".join(parts[3:5]), parts[5], "/".join(parts[6:]), cached=True)
    if len(parts) >= 5 and parts[2] == "resolve":
        return _resolve(site, ask, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
    return _error(404, "", "Sorry, we can't find the page you are looking for.")


def _refused(site: Site, ask: Ask, model: str, *, files: bool) -> Reply | None:
    """Why this caller does not get at the model (``files``: at its bytes): the codes of hf_raise_for_status."""
    guard = site.guards.get(model)
    known = site.knows(ask.token)
    if guard and guard.kind == "gated" and files and not site.lets(model, ask.token):
        text = f"Access to model {model} is restricted"
        if known:
            text += f" and you are not in the authorized list. Visit {site.url}/{model} to ask for access."
            return _error(403, "GatedRepo", text)
        return _error(401, "GatedRepo", f"{text}. You must have access to it and be authenticated to access it. Please log in.")
    if ask.token and not known:
        return _error(401, "", "Invalid credentials in Authorization header")
    if not site.store.folder(model) or (guard and guard.kind == "private" and not site.lets(model, ask.token)):
        return _error(404 if known else 401, "RepoNotFound", "Repository not found")
    return None


def _api(site: Site, ask: Ask, model: str, rest: tuple[str, ...]) -> Reply:
    refused = _refused(site, ask, model, files=False)
    if refused:
        return refused
    what, revision = (rest + ("", ""))[:2]
    if what == "refs":
        refs = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": id} for name, id in site.store.refs(model).items()]
        return as_json({"branches": refs, "converts": [], "tags": []})
    commit = site.store.commit(model, revision or "main")
    if not commit:
        return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    if what in ("", "revision"):
        return as_json(_info(site, model, commit, ask.query.get("blobs", "").lower() == "true"))
    if what == "tree":
        return _tree(site, ask, commit, "/".join(rest[2:]))
    return _error(404, "", "Not found")


def _info(site: Site, model: str, commit: Commit, blobs: bool) -> dict[str, object]:
    guard = site.guards.get(model)
    return {
        "_id": commit.id[:24],
        "id": model,
        "modelId": model,
        "author": model.split("/", 1)[0],
        "sha": commit.id,
        "lastModified": DATE,
        "createdAt": DATE,
        "private": bool(guard and guard.kind == "private"),
        "gated": "manual" if guard and guard.kind == "gated" else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [_sibling(file) if blobs else {"rfilename": file.path} for file in commit.files],
    }


def _sibling(file: File) -> dict[str, object]:
    row: dict[str, object] = {"rfilename": file.path, "blobId": file.oid, "size": file.size}
    return row | ({"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}} if file.lfs else {})


def _entry(file: File) -> dict[str, object]:
    row: dict[str, object] = {"type": "file", "oid": file.oid, "size": file.size, "path": file.path}
    return row | ({"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}} if file.lfs else {})


def _tree(site: Site, ask: Ask, commit: Commit, below: str) -> Reply:
    """One page of the listing; the next is named by a Link header with an opaque cursor."""
    prefix = f"{below}/" if below else ""
    rows: list[dict[str, object]] = [
        {"type": "directory", "oid": commit.id, "size": 0, "path": path} for path in commit.folders() if path.startswith(prefix)
    ]
    rows += [_entry(file) for file in commit.files if file.path.startswith(prefix)]
    if ask.query.get("recursive", "").lower() not in ("true", "1"):
        rows = [row for row in rows if "/" not in str(row["path"])[len(prefix) :]]
    if below and not rows:
        return _error(404, "EntryNotFound", f"{below} does not exist on \"{commit.id}\"")
    limit = min(int(ask.query.get("limit", site.page)), site.page)
    start = int(ask.query.get("cursor", "0"), 16)
    headers = {"X-Repo-Commit": commit.id}
    if start + limit < len(rows):
        query = urlencode({**ask.query, "cursor": f"{start + limit:x}"})
        headers["Link"] = f'<{site.url}{ask.raw_path}?{query}>; rel="next"'
    return as_json(rows[start : start + limit], 200, **headers)


def _resolve(site: Site, ask: Ask, model: str, revision: str, path: str, *, cached: bool = False) -> Reply:
    refused = _refused(site, ask, model, files=True)
    if refused:
        return replace(refused, model=model, file=path)
    commit = site.store.commit(model, revision)
    if not commit:
        return replace(_error(404, "RevisionNotFound", f"Invalid rev id: {revision}"), model=model, file=path)
    file = commit.find(path)
    if not file:
        missing = _error(404, "EntryNotFound", "Entry not found")
        return replace(missing, headers=missing.headers | {"X-Repo-Commit": commit.id}, model=model, file=path)
    tag = f'"{file.sha256 if file.lfs else file.oid}"'
    headers = {"X-Repo-Commit": commit.id, "X-Linked-Size": str(file.size), "X-Linked-Etag": tag, "Accept-Ranges": "bytes"}
    if file.lfs and site.redirect:
        return _moved(302, headers, site.signed("hf", model, commit, file), model, path)
    if not file.lfs and not cached:
        query = urlencode({f"/{model}/resolve/{revision}/{path}": "", "etag": f'"{file.oid}"'})
        return _moved(307, headers, f"/api/resolve-cache/models/{model}/{commit.id}/{quote(path)}?{query}", model, path)
    headers |= {"ETag": tag, "Content-Type": "application/octet-stream" if file.lfs else "text/plain; charset=utf-8"}
    packs = "gzip" in ask.headers.get("Accept-Encoding", "") and "Range" not in ask.headers and ask.method == "GET"
    if packs and not file.lfs and file.size >= PACKED_FROM:
        headers |= {"Content-Encoding": "gzip", "ETag": f"W/{tag}", "Vary": "Accept-Encoding"}
        return Reply(200, headers, gzip.compress((commit.folder / path).read_bytes()), chunked=True, model=model, file=path)
    return content(commit, file, model, "hf", headers)


def _moved(status: int, headers: dict[str, str], location: str, model: str, path: str) -> Reply:
    text = f"{'Found' if status == 302 else 'Temporary Redirect'}. Redirecting to {location}".encode()
    headers = {**headers, "Location": location, "Content-Type": "text/plain; charset=utf-8"}
    return Reply(status, headers, text, model=model, file=path)


def _error(status: int, code: str, message: str) -> Reply:
    headers = {"X_Error_Message": message} | ({"X_Error_Code": code} if code else {})
    return as_json({"error": message}, status, **headers)
