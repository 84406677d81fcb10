# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other hosts' stores: what they have, by the listing of their web server (nginx, autoindex_format json), and their bytes,
of finished files and of those that still grow there. Private."""
from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Mapping, Sequence, Tuple
from urllib.parse import urlsplit

from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import PeerFiles
from ansible_collections.idc.llm.plugins.module_utils._model_store import PART, PARTIAL, FileEntry
from ansible_collections.idc.llm.plugins.module_utils._source import (
    Access,
    Opened,
    SourceError,
    join,
    tls_context,
    without_proxy,
)
from ansible_collections.idc.llm.plugins.module_utils._store_files import in_threads

LOOKS = 8.0  # looks in a second, over all peers, while there is news
QUIET = 5.0  # seconds between two looks at a peer that has had no news for long
REST = 10.0  # seconds until a peer that did not answer is looked at again
GROWS = 10.0  # seconds without growth, from which on an unfinished file of a peer is not under way any more
LOOK_TIMEOUT = 5.0
BUFFERED = 64 << 10  # bytes that may have left the socket for a buffer already: http.client has 8 KiB, TLS records of 16
WAKE = 256 << 10  # bytes that wake a reader: a slow link brings them in hundreds of small pieces
LIST_LIMIT = 8 << 20
ERROR_LIMIT = 64 << 10


class Body:
    """What a peer sends. While much is to come, the reader sleeps until WAKE bytes are there (tcp(7), SO_RCVLOWAT)."""

    def __init__(self, answer: http.client.HTTPResponse, line: socket.socket) -> None:
        self._answer, self._line, self._lazy = answer, line, False

    def readinto(self, view: memoryview) -> int:
        """Fill the view; 0 at the end."""
        lazy = (self._answer.length or 0) >= len(view) + WAKE + BUFFERED
        if lazy != self._lazy:
            self._line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE if lazy else 1)
            self._lazy = lazy
        return self._answer.readinto(view)

    def close(self) -> None:
        """Nothing: the connection is its peer's."""


class Peer:
    """One peer's store, and what was seen of one revision there. Looked at by one thread at a time, read by many."""

    def __init__(self, url: str, access: Access, folders: Sequence[str]) -> None:
        self.url, self.folder = url, ""
        self.seen: PeerFiles | None = None  # None: it does not answer
        self.due, self.pause = 0.0, 0.0
        self.wake = threading.Event()
        self._access, self._folders = access, folders
        self._grew: Dict[str, Tuple[int, float]] = {}  # {path: bytes of the unfinished file, when it had grown}
        self._spare: list[http.client.HTTPConnection] = []  # kept open for the next question

    def look(self, entries: Sequence[FileEntry], fastest: float) -> bool:
        """Look, and say whether there is news; without any the next look is later."""
        before, folder = self.seen, self.folder
        try:
            self.folder, self.seen = self._list(entries)
        except (SourceError, OSError, ValueError, http.client.HTTPException):
            self.seen = None
        now = time.monotonic()
        news = (before, folder) != (self.seen, self.folder)
        self.pause = REST if self.seen is None else fastest if news else min(QUIET, max(fastest, self.pause * 1.5))
        self.due = now + self.pause
        return news

    def _list(self, entries: Sequence[FileEntry]) -> Tuple[str, PeerFiles]:
        """The folder and its files: where it was the last time, else the published one first."""
        for folder in sorted(self._folders, key=lambda name: name != self.folder):
            top = self._names(f"{folder}/")
            if top is None:
                continue
            names = {"": top}
            for below in {entry.path.rpartition("/")[0] for entry in entries} - {""}:
                known = below.partition("/")[0] in top
                names[below] = (self._names(f"{folder}/{below}/") or {}) if known else {}
            finished, growing = set(), {}
            for entry in entries:
                below, _slash, name = entry.path.rpartition("/")
                if names[below].get(name) == entry.size:
                    finished.add(entry.path)
                elif name + PART in names[below] and self._grows(entry.path, names[below][name + PART]):
                    growing[entry.path] = names[below][name + PART]
            return folder, PeerFiles(frozenset(finished), growing)
        return self._folders[-1], PeerFiles()

    def _grows(self, path: str, size: int) -> bool:
        known, now = self._grew.get(path), time.monotonic()
        if known is None or known[0] != size:
            known = self._grew[path] = (size, now)
        return now - known[1] < GROWS

    def _names(self, path: str) -> Dict[str, int] | None:
        """{name: bytes, of a folder 0} of what a folder holds, None where it is not there."""
        with self.read(path, 0, LOOK_TIMEOUT) as (answer, _line, _total):
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise SourceError(f"HTTP {answer.status}")
            data = answer.read(LIST_LIMIT)
            if not answer.isclosed():
                raise SourceError("its listing is too long")
        rows: Any = json.loads(data)
        if not isinstance(rows, list):
            raise SourceError("its listing is not a list")
        return {str(row.get("name")): int(row.get("size") or 0) for row in rows if isinstance(row, dict)}

    @contextmanager
    def read(
        self, path: str, start: int, timeout: float = float("inf")
    ) -> Iterator[Tuple[http.client.HTTPResponse, socket.socket, int | None]]:
        """The answer for bytes from ``start`` on, its socket, and how large the file is said to be; a failure is a SourceError."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        while True:
            spare = self._take()
            line = spare or self._connect()
            line.timeout = min(timeout, self._access.timeout)
            try:
                if spare:
                    line.sock.settimeout(line.timeout)
                else:
                    line.connect()
                sock = line.sock  # a server that closes after its answer takes it from the connection
                line.request("GET", urlsplit(join(self.url, path)).path, headers={"User-Agent": "idc.llm", **headers})
                answer = line.getresponse()
                break
            except (OSError, http.client.HTTPException) as exc:
                line.close()
                if not spare:  # else it was closed at the other end while nobody used it
                    raise SourceError(f"cannot be reached: {exc}", "unreachable") from exc
        total = (answer.getheader("Content-Range") or "").rpartition("/")[2]
        try:
            yield answer, sock, int(total) if total.isdigit() else answer.length
        finally:
            if answer.status >= 400 and answer.length is not None and answer.length < ERROR_LIMIT:
                with suppress(OSError, http.client.HTTPException):  # what was refused is known; its words only free the connection
                    answer.read()
            if answer.isclosed() and line.sock:
                self._spare.append(line)
            else:
                line.close()

    def close(self) -> None:
        """Close what is kept open."""
        for line in iter(self._take, None):
            line.close()

    def _take(self) -> http.client.HTTPConnection | None:
        with suppress(IndexError):
            return self._spare.pop()
        return None

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            context: ssl.SSLContext = tls_context(self._access.ca_path)
            return http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context)
        return http.client.HTTPConnection(parts.hostname or "", parts.port)


@dataclass(frozen=True)
class PeerFile:
    """One file at a peer, finished or growing; see _source.Remote."""

    peer: Peer
    entry: FileEntry
    folder: str

    @contextmanager
    def open(self, start: int = 0) -> Iterator[Opened]:
        """Its bytes from ``start`` on: all of them, or what has come there until now. Every failure is a SourceError."""
        path = f"{self.folder}/{self.entry.path}"
        seen = self.peer.seen
        names = (path + PART, path) if seen and self.entry.path in seen.growing else (path,)
        for name in names:  # what grew when it was looked at may be finished by now
            with self.peer.read(name, start) as (answer, line, total):
                growing = name.endswith(PART)
                if answer.status == 404:
                    continue
                if answer.status == 503:
                    raise SourceError("it serves as many files as it may", "busy")
                if answer.status == 416 or (growing and total is not None and total <= start):
                    raise SourceError("it has no more of it yet", "behind")
                if answer.status not in (200, 206):
                    raise SourceError(f"HTTP {answer.status} {answer.reason}")
                yield Opened(Body(answer, line), start if answer.status == 206 else 0, total, answer.headers, growing)
                return
        raise SourceError("HTTP 404 Not Found", "missing")


class Peers:
    """The peers of one revision; ``urls`` are their stores' roots, as http://10.0.0.2:8090."""

    def __init__(self, urls: Sequence[str], access: Access, model: str, revision: str) -> None:
        self._access = without_proxy(access)
        folders = (f"{model}/{revision}", f"{model}/{PARTIAL}{revision}")
        names = dict.fromkeys(url.rstrip("/") for url in urls)
        self._peers = {url: Peer(url, self._access, folders) for url in names}
        self._fastest = max(0.1, len(self._peers) / LOOKS)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __bool__(self) -> bool:
        return bool(self._peers)

    @property
    def names(self) -> list[str]:
        """Their addresses."""
        return list(self._peers)

    def files(self) -> Mapping[str, PeerFiles]:
        """{peer: files} of those that answer, by the last look."""
        return {url: peer.seen for url, peer in self._peers.items() if peer.seen is not None}

    def look(self, entries: Sequence[FileEntry]) -> None:
        """Look at all of them, once."""
        in_threads(16, lambda peer: peer.look(entries, self._fastest), list(self._peers.values()))

    def watch(self, entries: Sequence[FileEntry], changed: Callable[[], None]) -> None:
        """Look again and again, and tell of news, until ``stop``."""
        for peer in self._peers.values():
            self._threads.append(threading.Thread(target=self._watch, args=(peer, entries, changed), daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        for peer in self._peers.values():
            peer.wake.set()
        for thread in self._threads:
            thread.join()
        for peer in self._peers.values():
            peer.close()

    def remote(self, name: str, entry: FileEntry) -> PeerFile:
        """Where the peer has the file."""
        peer = self._peers[name]
        if peer.seen is None:
            raise SourceError("it no longer answers", "missing")
        return PeerFile(peer, entry, peer.folder)

    def proven(self, name: str, entry: FileEntry) -> bool:
        """Whether the peer said that it has all of the file, and has proven it."""
        seen = self._peers[name].seen
        return bool(seen and entry.path in seen.finished)

    def doubt(self, name: str, gone: bool) -> None:
        """Something went wrong with a peer: nothing is asked of it until it is looked at again, at once or after a rest."""
        peer = self._peers[name]
        peer.seen = None
        peer.due = time.monotonic() + (REST if gone else 0.0)
        peer.wake.set()

    def _watch(self, peer: Peer, entries: Sequence[FileEntry], changed: Callable[[], None]) -> None:
        while not self._over.is_set():
            wait = peer.due - time.monotonic()
            if wait > 0:
                peer.wake.wait(wait)
                peer.wake.clear()
            elif peer.look(entries, self._fastest):
                changed()
