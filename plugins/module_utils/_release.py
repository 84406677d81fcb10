# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of vLLM on a host: what one is made from, whether it may be made anew, which are needed no more. Pure, private.

A release is a virtual environment, ``<root>/releases/<name>``. Its name is vLLM's version, or the version, ``+`` and a number: the
same version from another list of packages, beside the first. A list is pip's requirements file, complete and with hashes.
"""
from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said

MARKER = "installed-requirements.txt"  # written last into a release: what it was made from
HEAD = "release.json"  # first in an archive: what it is
SCHEMA = 1
SHA256 = re.compile(r"^[0-9a-f]{64}$")
_VLLM = re.compile(r"^vllm\s*==\s*([^\s;]+)")
_NAME = re.compile(r"^[A-Za-z0-9]")
_COUNTED = re.compile(r"^(.+)\+([0-9]+)$")
# What FlashInfer compiles on the host at start where these are missing or of another version; without them and without nvcc and
# ninja vLLM switches it off: https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/utils/flashinfer.py
FLASHINFER = "flashinfer-python"
KERNELS = ("flashinfer-cubin", "flashinfer-jit-cache")


@dataclass(frozen=True)
class Release:
    """One that lies on the host. text: its list, None where its install was not finished; made: seconds since 1970;
    used_by: who runs from it, or goes back to it; kernels: versions of FlashInfer's packages in it."""

    name: str
    path: str
    text: Optional[str]
    made: float
    used_by: Sequence[str] = ()
    kernels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """A list of packages, where it was read (for errors), and where pip takes them from: ``wheels`` or ``index``."""

    text: str
    where: str
    source: str = "wheels"


@dataclass(frozen=True)
class Archive:
    """A packed release. ``python``: major.minor; ``interpreter``: the path that its virtual environment leads to."""

    release: str
    path: str
    python: str
    interpreter: str
    machine: str
    text: str


@dataclass(frozen=True)
class Choice:
    """What is to be done for a release. source: archive, index or wheels; missing: it can be had nowhere (yet)."""

    install: bool
    source: str = ""
    text: str = ""
    problem: Optional[IdcError] = None
    missing: bool = False


def requirements(text: str) -> FrozenSet[str]:
    """The lines of a list that count, whatever their order, comments and breaks."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).split() for line in joined.splitlines())
    return frozenset(" ".join(words[:1] + sorted(words[1:])) for words in lines if words)


def version_of(text: str) -> str:
    """The version of vLLM in a list; empty where it has none."""
    return next((match.group(1) for match in map(_VLLM.match, sorted(requirements(text))) if match), "")


def unhashed(text: str) -> List[str]:
    """Requirements of a list that carry no sha256, and lines that are no requirement (an index, another file)."""
    return sorted(line.split()[0] for line in requirements(text) if "--hash=sha256:" not in line or not _NAME.match(line))


def offered(release: str, text: str, known: Sequence[str]) -> bool:
    """Whether a list is meant for this release: the same version, and no known remake of it has a higher number.

    ``0.33.0`` is offered by ``vllm==0.33.0`` and ``vllm==0.33.0+cu129``, ``0.33.0+2`` by ``vllm==0.33.0``.
    """
    version = version_of(text)
    base, number = _counted(release)
    if not version or release != version and base != version and (release != base or version.split("+")[0] != base):
        return False
    return all(number >= other for name, other in map(_counted, known) if name == base)


def _counted(release: str) -> Tuple[str, int]:
    match = _COUNTED.match(release)
    return (match.group(1), int(match.group(2))) if match else (release, 0)


def base_version(release: str) -> str:
    """vLLM's version in a release's name."""
    return _counted(release)[0]


def read_head(text: str) -> Optional[Archive]:
    """What an archive is, by the first file in it; None where that says nothing."""
    try:
        whole = json.loads(text)
        if whole["schema"] != SCHEMA:
            return None
        return Archive(*(str(whole[key]) for key in ("release", "path", "python", "interpreter", "machine", "list")))
    except (ValueError, KeyError, TypeError):
        return None


def choose(release: str, there: Sequence[Release], known: Sequence[str], offer: Offer, host: str, archive_path: str = "",
           archive: Optional[Archive] = None) -> Choice:
    """What to do for a release, before anything is changed.

    A list that changed makes a release anew, but not under those who run from it: then it needs a name of its own.
    """
    row = next((one for one in there if one.name == release), None)
    from_archive = archive is not None and archive.release == release
    source, text, where = offer.source, offer.text, offer.where
    if archive and from_archive:
        source, text, where = "archive", archive.text, archive_path
    available = from_archive or offered(release, offer.text, known)
    if row and row.text is not None and (not available or requirements(row.text) == requirements(text)):
        return Choice(False)
    if not available:
        problem = IdcError("IDC-ENG-013", host=host, release=release, list=offer.where)
        if archive_path:
            seen = Said(f"that of release {archive.release}", f"版本 {archive.release}") if archive else \
                Said(f"no file, or one that does not begin with {HEAD}", f"不存在，或不以 {HEAD} 开头")
            problem = IdcError("IDC-ENG-028", host=host, archive=archive_path, what=Said("it", "该文件"), seen=seen,
                               wanted=Said(f"release {release}", f"版本 {release}"))
        return Choice(True, source, "", problem, missing=True)
    if row and row.text is not None and row.used_by:
        differ = len(requirements(row.text) ^ requirements(text))
        base = base_version(release)
        another = f"{base}+{max([0] + [number for name, number in map(_counted, known) if name == base]) + 1}"
        return Choice(False, problem=IdcError("IDC-ENG-026", host=host, release=release, list=where, count=differ,
                                              users=", ".join(row.used_by), another=another))
    bare = unhashed(text)
    if bare:
        more = f" (+{len(bare) - 3})" if len(bare) > 3 else ""
        return Choice(False, problem=IdcError("IDC-ENG-027", host=host, variable=where, seen=", ".join(bare[:3]) + more,
                                              wanted=Said("NAME==VERSION --hash=sha256:… on each line",
                                                          "每行都是 NAME==VERSION --hash=sha256:…")))
    return Choice(True, source, text)


def misfits(archive: Archive, path: str, interpreter: str, python: str, machine: str,
            sums: Sequence[str]) -> List[Dict[str, Any]]:
    """Details of what keeps an archive from running here. sums: the file's sha256 and the wanted one."""
    pairs = (
        (Said("its sha256", "其 sha256"), sums[0], sums[1]),
        (Said("the path that it was packed from", "其打包路径"), archive.path, path),
        (Said("its interpreter", "其解释器"), archive.interpreter, interpreter),
        (Said("its Python", "其 Python 版本"), archive.python, python),
        (Said("its machine", "其处理器架构"), archive.machine, machine),
    )
    return [{"what": what, "seen": seen, "wanted": wanted} for what, seen, wanted in pairs if seen != wanted]


def surplus(there: Sequence[Release], keep: int, named: Sequence[str]) -> List[Release]:
    """Releases to remove: nobody uses or names them, and they are unfinished or ``keep`` finished ones are younger; none if < 0."""
    idle = [one for one in there if not one.used_by and one.name not in named]
    whole = sorted((one for one in idle if one.text is not None), key=lambda one: (one.made, one.name), reverse=True)
    return [one for one in idle if one not in whole[:keep]] if keep >= 0 else []


def kernels_missing(kernels: Mapping[str, str]) -> List[str]:
    """Packages of FlashInfer's precompiled kernels that a release lacks or has of another version: ``NAME==VERSION``."""
    wanted = kernels.get(FLASHINFER, "")
    return [f"{name}=={wanted}" for name in KERNELS if kernels.get(name, "").split("+")[0] != wanted] if wanted else []


def source_errors(values: Mapping[str, Any], host: str) -> List[IdcError]:
    """What is wrong with the variables that say where releases come from.

    values: index_url, index_list, index_list_there (whether that file is on the controller), archive, archive_sha256.
    """
    url, archive = values["index_url"], values["archive"]
    found: List[IdcError] = []

    def wrong(name: str, seen: Any, wanted: Said) -> None:
        found.append(IdcError("IDC-ENG-027", host=host, variable=f"vllm_{name}", seen=seen, wanted=wanted))

    if url and not re.match(r"^https?://[^/\s@]+(/\S*)?$", url):
        seen = re.sub(r"//[^/]*@", "//********@", url)
        wrong("index_url", seen, Said("http(s)://HOST/PATH; a name and password belong into root's ~/.netrc",
                                      "http(s)://HOST/PATH；用户名和密码应写入 root 的 ~/.netrc"))
    if url and not values["index_list_there"]:
        wrong("index_list", values["index_list"] or Said("empty", "空"),
              Said("a requirements file with hashes on the controller, since vllm_index_url is set",
                   "控制机上带哈希的 requirements 文件，因为设置了 vllm_index_url"))
    if archive and not SHA256.match(values["archive_sha256"]):
        wrong("archive_sha256", values["archive_sha256"] or Said("empty", "空"),
              Said("the 64 hexadecimal digits that script/archive printed", "script/archive 打印的 64 位十六进制数"))
    if archive and not archive.endswith((".tar.gz", ".tar.zst")):
        wrong("archive", archive, Said("a path that ends with .tar.gz or .tar.zst", "以 .tar.gz 或 .tar.zst 结尾的路径"))
    return found
