# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Byte streams from the ``file://`` and ``http(s)://`` sources of models. Private."""
from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Iterator
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit

from ansible.module_utils.urls import open_url

_BROKEN = (OSError, HTTPException)


@dataclass(frozen=True)
class Access:
    """How a source may be reached: bearer token, CA file or folder, seconds without a byte before giving up."""

    token: str | None = None
    ca_path: str | None = None
    timeout: float = 60.0


class SourceError(Exception):
    """A source did not give what was asked; ``unreachable`` means that asking it for more is useless."""

    def __init__(self, reason: str, unreachable: bool = False) -> None:
        self.reason = reason
        self.unreachable = unreachable
        super().__init__(reason)


def source_problem(source: str) -> str | None:
    """Why this cannot be a source, or None; what it carries is never repeated in the answer."""
    try:
        parts = urlsplit(source)
        _port = parts.port
    except ValueError:
        return "it is not a URL"
    if parts.scheme not in ("file", "http", "https"):
        return "it does not begin with file://, http:// or https://"
    if "@" in parts.netloc:
        return "it carries a user name or password"
    if parts.query or parts.fragment:
        return "it has a query or a fragment"
    if parts.scheme == "file" and (parts.netloc not in ("", "localhost") or not parts.path.startswith("/")):
        return "a file source is written file:///folder"
    if parts.scheme != "file" and not parts.hostname:
        return "it names no host"
    return None


def join(source: str, path: str) -> str:
    """The URL of one file of a source; ``path`` is relative, with slashes."""
    return source.rstrip("/") + "/" + quote(path)


@contextmanager
def open_stream(url: str, access: Access, first: int | None = None) -> Iterator[Any]:
    """A readable stream of the URL's bytes. Every failure to open is a SourceError.

    ``first``: only so many bytes from the beginning are wanted. A server is asked for that range; one that answers
    with the whole file, as HTTP lets it, sends little more than what is read before the stream is closed.
    """
    stream = _open_file(unquote(urlsplit(url).path)) if url.startswith("file:") else _open_http(url, access, first)
    try:
        yield stream
    finally:
        stream.close()


def read(stream: Any, size: int) -> bytes:
    """At most ``size`` bytes, b"" at the end; a broken stream is a SourceError."""
    try:
        data: bytes = stream.read(size)
    except _BROKEN as exc:
        raise SourceError(f"the stream broke: {exc}") from exc
    return data


def read_up_to(stream: Any, count: int) -> bytes:
    """``count`` bytes, less only where the stream ends before; a broken stream is a SourceError."""
    parts, left = [], count
    while left:
        data = read(stream, min(left, 1 << 20))
        if not data:
            break
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def _open_file(path: str) -> Any:
    try:
        # not blocking: a FIFO in the place of a file must not hold the run
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except OSError as exc:
        raise SourceError(exc.strerror or str(exc)) from exc
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise SourceError("not a regular file")
    return stream


def _open_http(url: str, access: Access, first: int | None) -> Any:
    if access.ca_path and not os.path.exists(access.ca_path):
        raise SourceError(f"CA file {access.ca_path}: there is no such file", unreachable=True)
    # Ansible's own way out: proxies, no_proxy and the system's authorities as for its other modules
    headers, own = {"Range": f"bytes=0-{first - 1}"} if first else {}, []
    if access.token:
        headers["Authorization"], own = "Bearer " + access.token, ["Authorization"]
    try:
        answer = open_url(url, headers=headers, unredirected_headers=own, timeout=access.timeout, http_agent="idc.llm",
                          ca_path=access.ca_path, follow_redirects="safe")
    except HTTPError as exc:
        exc.close()
        raise SourceError(f"HTTP {exc.code} {exc.reason}") from exc
    except URLError as exc:
        raise SourceError(f"cannot be reached: {exc.reason}", unreachable=True) from exc
    except _BROKEN as exc:
        raise SourceError(f"cannot be reached: {exc}", unreachable=True) from exc
    part = answer.headers.get("Content-Range") or ""
    if answer.getcode() == 206 and not (first and part.startswith("bytes 0-")):
        answer.close()
        raise SourceError(f"it answers with a part that was not asked for: {part or 'no Content-Range'}")
    return answer
