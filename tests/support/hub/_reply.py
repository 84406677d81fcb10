# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the faces answer, what can go wrong with it, and what is remembered of it; no I/O here."""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ask:
    """A request as the faces see it: ``path`` split at slashes and unquoted after, ``query`` with its first values."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    raw_path: str

    @property
    def token(self) -> str:
        """What the client shows: a bearer token, or ModelScope's session cookie; empty when nothing."""
        kind, space, value = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and space:
            return value.strip()
        found = re.search(r"\bm_session_id=([^;\s]+)", self.headers.get("Cookie", ""))
        return found.group(1) if found else ""


@dataclass(frozen=True)
class Reply:
    """An answer before anything goes wrong. ``content`` is a file's bytes; ``ranges`` says whether Range counts there.
    A ``chunked`` body names no length."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content: Path | None = None
    size: int = 0
    ranges: bool = True
    chunked: bool = False
    face: str = ""
    model: str = ""
    file: str = ""


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; header names with underscores for dashes."""
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **named}, json.dumps(value).encode())


@dataclass(frozen=True)
class Request:
    """One answered request. ``path`` is the file's where there is one, else the URL's; ``start`` its first byte's offset,
    ``sent`` the bytes of body handed to the kernel (a client that died may not have read the last megabytes of them)."""

    face: str
    method: str
    model: str
    path: str
    range: str
    status: int
    start: int
    sent: int
    content: bool
    auth: bool
    faulty: bool
    agent: str


@dataclass
class Fault:
    """What goes wrong, for ``count`` requests (None: for all) that match ``path`` (a glob), ``face`` and ``method``.

    A fault of the body (cut, stall, rate, corrupt, length, ignore_range) waits for a GET that sends a file's bytes; one of the
    address (location) for a redirect; the others take the first request that matches. Several may be given together.
    """

    path: str = "*"
    face: str | None = None
    method: str | None = None
    count: int | None = 1
    skip: int = 0
    #: close the connection after that many bytes of the body
    cut: int | None = None
    #: say nothing for that many seconds, once ``after`` bytes of the body are out
    stall: float = 0.0
    after: int = 0
    #: bytes a second
    rate: int | None = None
    #: offset in the file of a byte that is served wrong
    corrupt: int | None = None
    #: the file is served as that many bytes longer (zeros) or shorter, and Content-Length says so
    length: int = 0
    #: 200 and the whole file, whatever Range says
    ignore_range: bool = False
    #: "http://host:port" put in the place of a redirect's own
    location: str | None = None
    #: answer with this status instead
    status: int | None = None
    retry_after: str | None = None
    #: run when the fault strikes, before the answer goes out
    call: Callable[[], Any] | None = None

    @property
    def of_body(self) -> bool:
        """Whether it needs a file's bytes to strike."""
        return bool(self.stall or self.length or self.ignore_range) or not (self.cut is self.rate is self.corrupt is None)

    def strikes(self, method: str, reply: Reply, path: str) -> bool:
        """Whether this request is one for it; counts down when so."""
        fits = fnmatchcase(path, self.path) and self.face in (None, reply.face) and self.method in (None, method)
        if not fits or self.count == 0:
            return False
        if self.of_body and (method != "GET" or not reply.content):
            return False
        if self.location is not None and "Location" not in reply.headers:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.count is not None:
            self.count -= 1
        return True


NONE = Fault(count=0)


def span(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte that a Range header asks of ``size`` bytes; None: the whole (no, bad or several ranges).

    Raises ValueError when nothing of it exists (416). https://www.rfc-editor.org/rfc/rfc9110#name-range
    """
    found = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", header, re.IGNORECASE)
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    if (not first and int(last) == 0) or (first and int(first) >= size) or size == 0:
        raise ValueError(header)
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


def pieces(first: int, stop: int, size: int, corrupt: int | None) -> Iterator[tuple[int, int] | int | bytes]:
    """What to send for bytes first … stop-1 of a file of ``size``: (from, to) as they are, an offset whose byte is turned
    over, and zeros beyond the end."""
    end = min(stop, size)
    if corrupt is not None and first <= corrupt < end:
        if first < corrupt:
            yield first, corrupt
        yield corrupt
        first = corrupt + 1
    if first < end:
        yield first, end
    if stop > size:
        yield bytes(stop - max(first, size))
