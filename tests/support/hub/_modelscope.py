# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The face of modelscope.cn: what modelscope-hub asks of it (its _legacy_api.py and _download.py).

- The default branch is called master. A listing stops at 3000 entries, folders among them, and does not say so.
- Every file has a sha256. Files of LFS are a 302 to the storage, which honours Range; others come at once, and whole.
- No field says a branch's commit in full: a listing has its first digits (LatestCommitter.ShortId; Id is empty), and each
  file's Revision is the commit that last changed that file. A commit's full id is good as Revision in every request.
- Not documented and guessed: 401 to nobody and 403 to somebody else for a model that is not theirs, private or gated.
"""
from __future__ import annotations

from dataclasses import replace

from ._faces import Site, content
from ._models import Commit
from ._reply import Ask, Reply, as_json

DATE = 1767225600


def answer(site: Site, ask: Ask) -> Reply:
    """The reply to a path below /api/v1 or /openapi."""
    reply = _route(site, ask)
    return replace(reply, face="modelscope")


def _route(site: Site, ask: Ask) -> Reply:
    parts = ask.path
    if parts == ("api", "v1", "repos", "internalAccelerationInfo"):
        return _data({"InternalRegionQueryAddress": "", "Enabled": False})
    if parts[:3] != ("api", "v1", "models") or len(parts) < 5:
        return _error(404, "not found")
    model, what = "/".join(parts[3:5]), "/".join(parts[5:])
    refused = _refused(site, ask, model)
    if refused:
        return replace(refused, model=model, file=ask.query.get("FilePath", ""))
    if what == "":
        owner, name = model.split("/")
        return _data({"Id": 1, "Path": owner, "Name": name, "Visibility": 5, "Revision": "master", "LastUpdatedTime": DATE})
    if what == "revisions":
        names = ["master" if name == "main" else name for name in site.store.refs(model)]
        rows = [{"Revision": name, "CreatedAt": DATE} for name in names]
        return _data({"RevisionMap": {"Branches": rows, "Tags": []}})
    revision = ask.query.get("Revision") or "master"
    commit = site.store.commit(model, "main" if revision == "master" else revision)
    if not commit:
        return _error(404, f"revision {revision} not found")
    if what == "repo/files":
        return _files(site, ask, model, commit)
    if what == "repo":
        return _file(site, ask, model, commit)
    return _error(404, "not found")


def _refused(site: Site, ask: Ask, model: str) -> Reply | None:
    if ask.token and not site.knows(ask.token):
        return _error(401, "user not logged in")
    if not site.store.folder(model):
        return _error(404, "模型不存在")
    if not site.lets(model, ask.token):
        return _error(403, "access denied") if ask.token else _error(401, "user not logged in")
    return None


def _files(site: Site, ask: Ask, model: str, commit: Commit) -> Reply:
    root = ask.query.get("Root", "").strip("/")
    prefix = f"{root}/" if root else ""
    rows = [
        {"Path": path, "Name": path.rsplit("/", 1)[-1], "Type": "tree", "Size": 0, "Sha256": "", "Mode": "16384", "IsLFS": False}
        for path in commit.folders()
    ]
    rows += [
        {
            "Path": file.path,
            "Name": file.path.rsplit("/", 1)[-1],
            "Type": "blob",
            "Size": file.size,
            "Sha256": file.sha256,
            "Mode": "33188",
            "IsLFS": file.lfs,
        }
        for file in commit.files
    ]
    rows = sorted((row for row in rows if str(row["Path"]).startswith(prefix)), key=lambda row: str(row["Path"]))
    if ask.query.get("Recursive", "").lower() != "true":
        rows = [row for row in rows if "/" not in str(row["Path"])[len(prefix) :]]
    if root and not rows:
        return _error(404, f"{root} not found")
    for row in rows[: site.list_cap]:
        changed = site.store.last_change(model, commit, str(row["Path"])) if row["Type"] == "blob" else commit.id
        row |= {"Revision": changed, "CommittedDate": DATE, "CommitterName": "double", "CommitMessage": "commit", "InCheck": False}
    latest = {"Id": "", "ShortId": commit.id[:8], "CommitterName": "double", "CommittedDate": DATE, "Message": "commit"}
    return _data({"Files": rows[: site.list_cap], "IsVisual": 0, "LatestCommitter": latest})


def _file(site: Site, ask: Ask, model: str, commit: Commit) -> Reply:
    path = ask.query.get("FilePath", "")
    file = commit.find(path)
    if not file:
        return replace(_error(404, f"file {path} not found"), model=model, file=path)
    if file.lfs and site.redirect:
        location = site.signed("modelscope", model, commit, file)
        return Reply(302, {"Location": location, "Content-Type": "text/html"}, b"", model=model, file=path)
    headers = {"Content-Type": "application/octet-stream"}
    return content(commit, file, model, "modelscope", headers, ranges=file.lfs)


def _data(value: object) -> Reply:
    return as_json({"Code": 200, "Data": value, "Message": "success", "RequestId": "double", "Success": True})


def _error(status: int, message: str) -> Reply:
    return as_json({"Code": status, "Message": message, "RequestId": "double", "Success": False}, status)
