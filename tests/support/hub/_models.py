# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models on disk as a hub keeps them: immutable commits, and branches or tags that point at one.

    <root>/<org>/<name>/<commit>/…       the files of a commit (40 hex digits)
    <root>/<org>/<name>/<commit>.json    its listing: path, size, sha256, git object id, LFS or not; and its parent
    <root>/<org>/<name>/refs.json        {"main": commit, …}; may be rewritten while a hub runs
"""
from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import cached_property, lru_cache
from pathlib import Path

BLOCK = 4 << 20
# What .gitattributes of a new repository sends to LFS, shortened; and git itself takes no file above 10 MiB there
LFS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.onnx", "*.gguf", "*.model", "*.zip")
LFS_FROM = 10 << 20


@dataclass(frozen=True)
class File:
    """One file of a commit; ``oid`` is git's blob id: of the file itself, or of its pointer when ``lfs``."""

    path: str
    size: int
    sha256: str
    oid: str
    lfs: bool

    @property
    def pointer_size(self) -> int:
        """Bytes of the LFS pointer that git keeps in the file's place."""
        return len(_pointer(self.sha256, self.size))


@dataclass(frozen=True)
class Commit:
    """What a commit holds, sorted by path; ``folder`` has the bytes."""

    id: str
    parent: str
    files: tuple[File, ...]
    folder: Path

    def find(self, path: str) -> File | None:
        """The file of that path."""
        return self._by_path.get(path)

    @cached_property
    def _by_path(self) -> dict[str, File]:
        return {one.path: one for one in self.files}

    def folders(self) -> list[str]:
        """Every folder that a file lies in."""
        return sorted({"/".join(parts[:n]) for one in self.files for parts in [one.path.split("/")] for n in range(1, len(parts))})


@dataclass(frozen=True)
class Store:
    """The models below one folder."""

    root: Path

    def folder(self, model: str) -> Path | None:
        """Where a model lies; None when there is none of that name."""
        parts = model.split("/")
        folder = self.root.joinpath(*parts)
        return folder if len(parts) == 2 and ".." not in parts and (folder / "refs.json").is_file() else None

    def refs(self, model: str) -> dict[str, str]:
        """Branches and tags: name → commit."""
        folder = self.folder(model)
        return json.loads((folder / "refs.json").read_text(encoding="utf-8")) if folder else {}

    def commit(self, model: str, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a full commit id means now."""
        folder = self.folder(model)
        wanted = self.refs(model).get(revision, revision)
        if not folder or len(wanted) != 40 or not wanted.isalnum() or not (folder / f"{wanted}.json").is_file():
            return None
        return _commit(folder, wanted)

    def last_change(self, model: str, commit: Commit, path: str) -> str:
        """The newest commit up to this one that changed the file."""
        here = commit.find(path)
        while (before := self.commit(model, commit.parent)) and before.find(path) == here:
            commit = before
        return commit.id


@lru_cache(maxsize=256)
def _commit(folder: Path, commit: str) -> Commit:
    data = json.loads((folder / f"{commit}.json").read_text(encoding="utf-8"))
    return Commit(commit, data["parent"], tuple(File(**row) for row in data["files"]), folder / commit)


def make_model(
    root: Path, model: str, files: Mapping[str, bytes | int | Path], *, ref: str = "main", lfs: tuple[str, ...] = LFS
) -> str:
    """Commit ``files`` to a model and point ``ref`` at it; returns the commit's id.

    A file is its bytes, a number of bytes to invent (the same for the same path, size and model), or a file to link.
    The commit holds these files only, and has what ``ref`` pointed at as its parent.
    """
    folder = root.joinpath(*model.split("/"))
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(root)
    refs = store.refs(model)
    work = folder / "new"
    rows = [_write(work / path, path, what, f"{model}/{path}", lfs) for path, what in sorted(files.items())]
    text = json.dumps({"parent": refs.get(ref, ""), "files": [asdict(row) for row in rows]})
    commit = hashlib.sha1(text.encode()).hexdigest()
    if not (folder / commit).exists():
        work.mkdir(exist_ok=True)
        work.rename(folder / commit)
        (folder / f"{commit}.json").write_text(text, encoding="utf-8")
    shutil.rmtree(work, ignore_errors=True)
    move(root, model, ref, commit)
    return commit


def move(root: Path, model: str, ref: str, commit: str) -> None:
    """Point a branch or tag at a commit, at once for whoever asks next."""
    folder = root.joinpath(*model.split("/"))
    refs = {**Store(root).refs(model), ref: commit}
    (folder / "refs.json.new").write_text(json.dumps(refs), encoding="utf-8")
    (folder / "refs.json.new").rename(folder / "refs.json")


def _write(target: Path, path: str, what: bytes | int | Path, seed: str, lfs: tuple[str, ...]) -> File:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(what, Path):
        try:
            os.link(what.resolve(), target)
        except OSError:
            shutil.copyfile(what, target)
        size, blocks = target.stat().st_size, _read(target)
    else:
        size = what if isinstance(what, int) else len(what)
        blocks = _invent(seed, what) if isinstance(what, int) else iter([what])
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    large = size >= LFS_FROM or any(fnmatch(path, pattern) for pattern in lfs)
    with open(os.devnull if isinstance(what, Path) else target, "wb") as out:
        for block in blocks:
            out.write(block)
            sha256.update(block)
            if not large:
                blob.update(block)
    if large:
        pointer = _pointer(sha256.hexdigest(), size)
        blob = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer)
    return File(path, size, sha256.hexdigest(), blob.hexdigest(), large)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            yield block


def _invent(seed: str, size: int) -> Iterator[bytes]:
    """Bytes that differ between files and from block to block, at the speed of copying."""
    block = random.Random(seed).randbytes(min(size, BLOCK))
    for start in range(0, size, BLOCK):
        mark = start.to_bytes(8, "big")
        yield (mark + block[8:])[: size - start] if start else block[: size - start]


def _pointer(sha256: str, size: int) -> bytes:
    """https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
