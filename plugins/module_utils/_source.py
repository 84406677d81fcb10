# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Byte streams of files and of HTTP, from any offset on, and patience with what fails for a while. Private."""
from __future__ import annotations

import os
import random
import socket
import ssl
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http.client import HTTPException
from typing import Any, Callable, Iterator, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from ansible_collections.idc.llm.plugins.module_utils._hub import HF, MODELSCOPE, Hub

_BROKEN = (OSError, HTTPException)
_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 10
_PAUSE_LIMIT = 300.0  # seconds; a server that asks for more is given up
_KINDS = {401: "denied", 403: "denied", 404: "missing", 408: "busy", 410: "missing", 429: "busy"}
# X-Error-Code of Hugging Face and its mirrors
_CODES = {"GatedRepo": "denied", "RepoNotFound": "unknown", "RevisionNotFound": "unknown", "EntryNotFound": "missing"}
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Access:
    """How a source may be reached: bearer token, CA file or folder, seconds without a byte before giving up, whether
    redirects to other hosts are followed, whether the environment's proxies count."""

    token: str | None = None
    ca_path: str | None = None
    timeout: float = 60.0
    endpoint_only: bool = False
    proxy: bool = True


class SourceError(Exception):
    """A source did not give what was asked.

    ``kind``: "unreachable", "dns", "tls", "denied", "unknown" (model or revision), "missing" (a file), "busy" (429,
    5xx), "cut" (the stream ended or stalled), "wrong" (not the bytes that were wanted), "behind" (a peer has no more of
    the file yet), "mixed" (bytes of several are not those that were wanted), "" (else).
    ``retry_after``: seconds that the server asked to wait, None where it did not; of a name, that DNS may know it later.
    """

    def __init__(self, reason: str, kind: str = "", retry_after: float | None = None) -> None:
        self.reason = reason
        self.kind = kind
        self.retry_after = retry_after
        super().__init__(reason)

    @property
    def dead(self) -> bool:
        """Asking this source for more is useless."""
        return self.kind in ("unreachable", "dns", "tls", "denied", "unknown")

    @property
    def passing(self) -> bool:
        """The same question may be answered a little later."""
        asked = self.kind == "dns" and self.retry_after is not None
        return (asked or self.kind in ("unreachable", "busy", "cut")) and (self.retry_after or 0) <= _PAUSE_LIMIT


@dataclass(frozen=True)
class Opened:
    """A stream at ``offset`` of a file of ``total`` bytes (None: the server does not say), of which more may come
    (``growing``)."""

    stream: Any
    offset: int = 0
    total: int | None = None
    headers: Any = None
    growing: bool = False


@dataclass(frozen=True)
class Remote:
    """One file at one place."""

    url: str
    access: Access

    @contextmanager
    def open(self, start: int = 0, count: int | None = None) -> Iterator[Opened]:
        """Its bytes from ``start`` on, ``count`` of them (None: all). Every failure to open is a SourceError.

        A server may answer with the whole file, as HTTP lets it: ``offset`` of what is returned is then 0. One that is
        closed early sends little more than what was read.
        """
        if self.url.startswith("file:"):
            opened = _open_file(unquote(urlsplit(self.url).path), start)
        else:
            opened = _open_http(self.url, self.access, start, count)
        try:
            yield opened
        finally:
            opened.stream.close()


def source_problem(source: str) -> str | None:
    """Why this cannot be a source, or None; what it carries is never repeated in the answer."""
    kind, plus, endpoint = source.partition("+")
    if kind in (HF, MODELSCOPE) and not plus:
        return None
    if kind in (HF, MODELSCOPE):
        return None if endpoint.startswith(("http://", "https://")) and not source_problem(endpoint) else (
            f"{kind}+ is followed by the endpoint, http://host or https://host, and nothing else")
    try:
        parts = urlsplit(source)
        _port = parts.port
    except ValueError:
        return "it is not a URL"
    if parts.scheme not in ("file", "http", "https"):
        return "it is neither hf nor modelscope, and does not begin with file://, http:// or https://"
    if "@" in parts.netloc:
        return "it carries a user name or password"
    if parts.query or parts.fragment:
        return "it has a query or a fragment"
    if parts.scheme == "file" and (parts.netloc not in ("", "localhost") or not parts.path.startswith("/")):
        return "a file source is written file:///folder"
    if parts.scheme != "file" and not parts.hostname:
        return "it names no host"
    return None


def hub_of(source: str, endpoints: dict[str, str]) -> Hub | None:
    """The hub that a source stands for, None for a folder; ``endpoints`` are {kind: URL} of the bare names."""
    kind, plus, endpoint = source.partition("+")
    if kind not in (HF, MODELSCOPE):
        return None
    return Hub(kind, (endpoint if plus else endpoints[kind]).rstrip("/"))


def join(source: str, path: str) -> str:
    """The URL of one file of a source; ``path`` is relative, with slashes."""
    return source.rstrip("/") + "/" + quote(path)


def patiently(work: Callable[[], Answer], retries: int, pause: Callable[[float], None]) -> Answer:
    """``work``, again up to ``retries`` times after a failure that passes, waiting longer each time."""
    attempt = 0
    while True:
        try:
            return work()
        except SourceError as exc:
            if not exc.passing or attempt >= retries:
                raise
            pause(back_off(attempt, exc.retry_after))
        attempt += 1


def back_off(attempt: int, retry_after: float | None = None) -> float:
    """Seconds to wait after failure number ``attempt`` (from 0): 1, 2, 4 … 60, a part of it by chance; what a server
    asks for, and a little more, where it asks."""
    if retry_after is not None:
        return retry_after + random.uniform(0.0, 1.0)
    return min(60.0, 2.0**attempt) * random.uniform(0.5, 1.0)


def read(stream: Any, size: int) -> bytes:
    """At most ``size`` bytes, b"" at the end; a broken stream is a SourceError."""
    try:
        data: bytes = stream.read(size)
    except _BROKEN as exc:
        raise SourceError(f"the stream broke: {exc}", "cut") from exc
    return data


def read_into(stream: Any, view: memoryview) -> int:
    """Fill the view, without a copy in between; returns bytes read, 0 at the end; a broken stream is a SourceError."""
    try:
        count: int = stream.readinto(view)
    except _BROKEN as exc:
        raise SourceError(f"the stream broke: {exc}", "cut") from exc
    return count


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


def _open_file(path: str, start: int) -> Opened:
    try:
        # not blocking: a FIFO in the place of a file must not hold the run
        stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except FileNotFoundError as exc:
        raise SourceError(exc.strerror or "No such file or directory", "missing") from exc
    except OSError as exc:
        raise SourceError(exc.strerror or str(exc)) from exc
    seen = os.fstat(stream.fileno())
    if not stat.S_ISREG(seen.st_mode):
        stream.close()
        raise SourceError("not a regular file")
    stream.seek(start)
    return Opened(stream, start, seen.st_size)


def _open_http(url: str, access: Access, start: int, count: int | None) -> Opened:
    if access.ca_path and not os.path.exists(access.ca_path):
        raise SourceError(f"CA file {access.ca_path}: there is no such file", "tls")
    headers = {"Accept-Encoding": "identity", "User-Agent": "idc.llm"}
    if start or count:
        headers["Range"] = f"bytes={start}-{start + count - 1 if count else ''}"
    answer = _ask(url, headers, access)
    part = answer.headers.get("Content-Range") or ""
    span, _slash, total = part.partition("/")
    if answer.getcode() == 206 and not ("Range" in headers and span.startswith(f"bytes {start}-")):
        answer.close()
        raise SourceError(f"it answers with a part that was not asked for: {part or 'no Content-Range'}")
    if answer.getcode() == 206:
        return Opened(answer, start, int(total) if total.isdigit() else None, answer.headers)
    length = answer.headers.get("Content-Length") or ""
    return Opened(answer, 0, int(length) if length.isdigit() else None, answer.headers)


def _ask(url: str, headers: dict[str, str], access: Access) -> Any:
    """The answer, after redirects; the token goes to the first host alone."""
    first = urlsplit(url)
    for _hop in range(_HOPS):
        own = urlsplit(url)
        sent = dict(headers)
        if access.token and (own.scheme, own.netloc) == (first.scheme, first.netloc):
            sent["Authorization"] = "Bearer " + access.token
        try:
            return _opener(access.ca_path, access.proxy).open(Request(url, headers=sent), timeout=access.timeout)
        except HTTPError as exc:
            target = exc.headers.get("Location") if exc.code in _REDIRECTS and exc.headers else None
            exc.close()
            if not target:
                raise _refusal(exc, away=own.netloc != first.netloc) from exc
            url = urljoin(url, target)
            _check_redirect(own, urlsplit(url), first, access)
        except (URLError, *_BROKEN) as exc:
            raise _unreachable(exc) from exc
        except ValueError as exc:  # a token with a line break, say: it is a secret, so it isn't repeated
            raise SourceError("its address or the token has a character that HTTP forbids", "denied") from exc
    raise SourceError(f"it redirects more than {_HOPS} times")


class _NoRedirect(HTTPRedirectHandler):
    """Redirects are ours to follow: what is sent along, and where to, is decided anew each time."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        """Let it be an HTTPError."""


@lru_cache(maxsize=16)
def _opener(ca_path: str | None, proxy: bool) -> OpenerDirector:
    """As Ansible's open_url: proxies and no_proxy of the environment, the system's authorities or those given. That one
    reads all authorities anew for each request, 30 ms of a core for each of thousands of files."""
    proxies = ProxyHandler() if proxy else ProxyHandler({})
    return build_opener(proxies, HTTPSHandler(context=tls_context(ca_path)), _NoRedirect())


@lru_cache(maxsize=16)
def tls_context(ca_path: str | None) -> ssl.SSLContext:
    """Checks certificates against the system's authorities, or those of the file or folder."""
    folder = bool(ca_path) and os.path.isdir(ca_path or "")
    return ssl.create_default_context(cafile=None if folder else ca_path, capath=ca_path if folder else None)


def _check_redirect(own: Any, target: Any, first: Any, access: Access) -> None:
    if target.scheme not in ("http", "https") or not target.hostname:
        raise SourceError("it redirects to something that is not HTTP")
    if own.scheme == "https" and target.scheme == "http":
        raise SourceError(f"it redirects from https to plain http at {target.hostname}")
    if access.endpoint_only and _host(target) != _host(first):
        raise SourceError(f"it redirects to {target.netloc.rpartition('@')[2]}, and endpoint_only forbids to follow", "denied")


def _host(parts: Any) -> tuple[str, int | None]:
    """Host and port; the two usual ports are one, so that a site may lead from http to https."""
    return parts.hostname, None if parts.port in (None, 80, 443) else parts.port


def _refusal(exc: HTTPError, away: bool) -> SourceError:
    """``away``: storage behind the source refuses, as when a signed address is too old; the source gives another."""
    headers: Any = exc.headers or {}
    kind = _CODES.get(headers.get("X-Error-Code") or "", _KINDS.get(exc.code, "busy" if exc.code >= 500 else ""))
    kind = "busy" if away and kind == "denied" else kind
    said = headers.get("X-Error-Message") or ""
    words = f"HTTP {exc.code} {exc.reason}" + (f" ({said[:200]})" if said else "")
    return SourceError(words, kind, _seconds(headers.get("Retry-After")) if kind == "busy" else None)


def _seconds(text: str | None) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3): seconds or a date."""
    if not text:
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _unreachable(exc: Exception) -> SourceError:
    reason: Any = getattr(exc, "reason", None) or exc
    if isinstance(reason, socket.gaierror):
        again = 1.0 if reason.errno == socket.EAI_AGAIN else None
        return SourceError(f"its name cannot be resolved: {reason.strerror or reason}", "dns", again)
    if isinstance(reason, (ssl.SSLError, ssl.CertificateError)):
        return SourceError(f"TLS failed: {getattr(reason, 'verify_message', '') or reason}", "tls")
    return SourceError(f"cannot be reached: {reason}", "unreachable")


def without_proxy(access: Access) -> Access:
    """The same way for the site's own network: no proxy, no token, not long to wait."""
    return replace(access, token=None, proxy=False, timeout=min(access.timeout, 20.0))
