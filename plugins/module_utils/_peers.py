# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other hosts' stores: what they have, by the listing of their web server (nginx, autoindex_format json). Private."""
from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from typing import Any, Callable, Dict, Mapping, Sequence, Tuple
from urllib.parse import urlsplit

from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import PeerFiles
from ansible_collections.idc.llm.plugins.module_utils._model_store import PART, PARTIAL, FileEntry
from ansible_collections.idc.llm.plugins.module_utils._source import Access, Remote, SourceError, join, tls_context, without_proxy
from ansible_collections.idc.llm.plugins.module_utils._store_files import in_threads

LOOKS = 50.0  # looks in a second, over all peers, while there is news
QUIET = 5.0  # seconds between two looks at a peer that has had no news for long
REST = 10.0  # seconds until a peer that did not answer is looked at again
GROWS = 30.0  # seconds without growth, from which on an unfinished file of a peer is not under way any more
LOOK_TIMEOUT = 5.0
LIST_LIMIT = 8 << 20


class Peer:
    """One peer's store, and what was seen of one revision there. Looked at by one thread at a time."""

    def __init__(self, url: str, access: Access, folders: Sequence[str]) -> None:
        self.url, self.folder = url, ""
        self.seen: PeerFiles | None = None  # None: it does not answer
        self.due, self.pause = 0.0, 0.0
        self.wake = threading.Event()
        self._access, self._folders = access, folders
        self._grew: Dict[str, Tuple[int, float]] = {}  # {path: bytes of the unfinished file, when it had grown}
        self._line: http.client.HTTPConnection | None = None

    def look(self, entries: Sequence[FileEntry], fastest: float) -> bool:
        """Look, and say whether there is news; without any the next look is later."""
        before, folder = self.seen, self.folder
        try:
            self.folder, self.seen = self._list(entries)
        except (SourceError, OSError, ValueError, http.client.HTTPException):
            self._close()
            self.seen = None
        now = time.monotonic()
        news = (before, folder) != (self.seen, self.folder)
        self.pause = REST if self.seen is None else fastest if news else min(QUIET, max(fastest, self.pause * 1.5))
        self.due = now + self.pause
        return news

    def _list(self, entries: Sequence[FileEntry]) -> Tuple[str, PeerFiles]:
        """The folder and its files, the published one first."""
        for folder in self._folders:
            top = self._names(f"{self.url}/{folder}/")
            if top is None:
                continue
            names = {"": top}
            for below in {entry.path.rpartition("/")[0] for entry in entries} - {""}:
                known = below.partition("/")[0] in top
                names[below] = (self._names(join(self.url, f"{folder}/{below}") + "/") or {}) if known else {}
            finished, under_way = set(), set()
            for entry in entries:
                below, _slash, name = entry.path.rpartition("/")
                if names[below].get(name) == entry.size:
                    finished.add(entry.path)
                elif name + PART in names[below] and self._grows(entry.path, names[below][name + PART]):
                    under_way.add(entry.path)
            return folder, PeerFiles(frozenset(finished), frozenset(under_way))
        return self._folders[-1], PeerFiles()

    def _grows(self, path: str, size: int) -> bool:
        known, now = self._grew.get(path), time.monotonic()
        if known is None or known[0] != size:
            known = self._grew[path] = (size, now)
        return now - known[1] < GROWS

    def _names(self, url: str) -> Dict[str, int] | None:
        """{name: bytes, of a folder 0} of what a folder holds, None where it is not there."""
        fresh = self._line is None
        try:
            answer = self._ask(url)
        except (OSError, http.client.HTTPException):
            self._close()
            if fresh:
                raise
            answer = self._ask(url)  # the server had closed what was kept open
        data = answer.read(LIST_LIMIT)
        if not answer.isclosed():
            raise SourceError("its listing is too long")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise SourceError(f"HTTP {answer.status}")
        rows: Any = json.loads(data)
        if not isinstance(rows, list):
            raise SourceError("its listing is not a list")
        return {str(row.get("name")): int(row.get("size") or 0) for row in rows if isinstance(row, dict)}

    def _ask(self, url: str) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        if self._line is None:
            timeout = min(self._access.timeout, LOOK_TIMEOUT)
            if parts.scheme == "https":
                context: ssl.SSLContext = tls_context(self._access.ca_path)
                self._line = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)
            else:
                self._line = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        self._line.request("GET", parts.path, headers={"User-Agent": "idc.llm"})
        return self._line.getresponse()

    def _close(self) -> None:
        if self._line:
            self._line.close()
            self._line = None


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

    def remote(self, name: str, entry: FileEntry) -> Remote:
        """Where the peer has the file."""
        peer = self._peers[name]
        if peer.seen is None:
            raise SourceError("it no longer answers", "missing")
        return Remote(join(name, f"{peer.folder}/{entry.path}"), self._access)

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
