# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two servers of a hub, and what a test holds in its hand: ``Hub``."""
from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterable
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import IO, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from . import _huggingface, _modelscope
from ._faces import Guard, Site
from ._models import Store, move
from ._reply import NONE, Ask, Fault, Reply, Request, pieces, span

STEP = 16 << 20


class Hub:
    """A hub with both faces over a folder of models, running while the ``with`` block does.

    ``url`` is the endpoint of both faces, ``cdn_url`` the storage that LFS files are redirected to (another address of
    this machine by default). ``log`` is what was asked; ``fault`` makes the next requests go wrong, as class Fault says.
    """

    def __init__(
        self,
        root: Path,
        *,
        tokens: Iterable[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        cdn_host: str | None = None,
        cdn_port: int = 0,
        redirect: bool = True,
        certificate: Path | None = None,
        journal: IO[str] | None = None,
        **options: Any,
    ) -> None:
        self.site = Site(Store(root), tokens=frozenset(tokens), redirect=redirect, **options)
        self._journal = journal
        self._log: dict[int, Request] = {}
        self._begun = 0
        self._faults: list[Fault] = []
        self._lock, self._active, self.stopping = threading.Condition(), 0, threading.Event()
        cdn_host = cdn_host or ("127.0.0.2" if host == "127.0.0.1" else host)
        self._servers = [_Server((host, port), self, False), _Server((cdn_host, cdn_port), self, True)]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            for server in self._servers:
                server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https" if certificate else "http"
        self.site.url, self.site.cdn_url = (f"{scheme}://{s.server_address[0]}:{s.server_address[1]}" for s in self._servers)
        self.url, self.cdn_url = self.site.url, self.site.cdn_url

    def __enter__(self) -> Hub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_args: object) -> None:
        self.stopping.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
            server.drop_clients()

    def guard(self, model: str, kind: str, tokens: Iterable[str] = ()) -> None:
        """Let only these tokens read a model; ``kind``: gated (its card and list stay public) or private."""
        self.site.guards[model] = Guard(kind, frozenset(tokens))

    def move(self, model: str, ref: str, commit: str) -> None:
        """Point a branch at another commit."""
        move(self.site.store.root, model, ref, commit)

    def fault(self, path: str = "*", **what: Any) -> Fault:
        """Make requests for that path (a glob; a file's path, or the URL's for the API) go wrong; see Fault."""
        fault = Fault(path, **what)
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """No faults any more."""
        with self._lock:
            self._faults.clear()

    @property
    def log(self) -> tuple[Request, ...]:
        """Every request answered so far, in the order of their beginnings; waits up to 5 s for those under way."""
        with self._lock:
            self._lock.wait_for(lambda: self._active == 0, 5)
            return tuple(self._log[number] for number in sorted(self._log))

    def forget(self) -> None:
        """Empty the log."""
        with self._lock:
            self._lock.wait_for(lambda: self._active == 0, 5)
            self._log.clear()

    def sent(self, path: str | None = None) -> int:
        """Bytes of files sent so far: of one path, or of all."""
        return sum(one.sent for one in self.log if one.content and path in (None, one.path))

    def take(self, method: str, reply: Reply, path: str) -> Fault:
        """The fault that strikes this request."""
        with self._lock:
            return next((one for one in self._faults if one.strikes(method, reply, path)), NONE)

    def begin(self) -> int:
        """A request has come: its number."""
        with self._lock:
            self._active += 1
            self._begun += 1
            return self._begun

    def end(self, number: int, request: Request | None) -> None:
        """It is answered: which may be a moment after its client has all of it and asks again."""
        with self._lock:
            self._active -= 1
            if request:
                self._log[number] = request
                if self._journal:
                    self._journal.write(json.dumps(asdict(request)) + "\n")
                    self._journal.flush()
            self._lock.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 256

    def __init__(self, address: tuple[str, int], hub: Hub, storage: bool) -> None:
        super().__init__(address, _Handler)
        self.hub, self.storage = hub, storage
        self._clients: set[socket.socket] = set()

    def server_bind(self) -> None:
        """Without the name look-up of HTTPServer, which may take seconds."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._clients.discard(request)
        super().shutdown_request(request)

    def drop_clients(self) -> None:
        """End every connection that is still open."""
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news; anything else is a bug of this file."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer, and remember it."""
        hub, self.sent, self.start, self.status, self.told = self.server.hub, 0, 0, 0, None
        number = hub.begin()
        try:
            self._answer(hub)
        finally:
            hub.end(number, self.told and replace(self.told, status=self.status, start=self.start, sent=self.sent))

    do_HEAD = do_GET

    def _answer(self, hub: Hub) -> None:
        address = urlsplit(self.path)
        path = tuple(unquote(part) for part in address.path.strip("/").split("/"))
        query = dict(reversed(parse_qsl(address.query, keep_blank_values=True)))
        ask = Ask(self.command, path, query, self.headers, address.path)
        if self.server.storage:
            reply = hub.site.stored(ask)
        elif path[:2] == ("api", "v1") or path[:1] == ("openapi",):
            reply = _modelscope.answer(hub.site, ask)
        else:
            reply = _huggingface.answer(hub.site, ask)
        name = reply.file or address.path
        fault = hub.take(self.command, reply, name)
        wanted, agent, faulty = self.headers.get("Range", ""), self.headers.get("User-Agent", ""), fault is not NONE
        content, auth = reply.content is not None, bool(ask.token)
        self.told = Request(reply.face, self.command, reply.model, name, wanted, 0, 0, 0, content, auth, faulty, agent)
        if fault.call:
            fault.call()
        if fault.status:
            after = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            reply = Reply(fault.status, {"Content-Type": "text/plain", **after}, b"fault")
            self.told = replace(self.told, content=False)
        if fault.location is not None:
            before = urlsplit(reply.headers["Location"])
            reply = replace(reply, headers={**reply.headers, "Location": f"{fault.location}{before.path}?{before.query}"})
        self._send(reply, fault, wanted)

    def _send(self, reply: Reply, fault: Fault, wanted: str) -> None:
        size = reply.size + fault.length if reply.content else len(reply.body)
        first, last = 0, size - 1
        headers, status, body = dict(reply.headers), reply.status, reply.content is not None
        if reply.content and reply.ranges and not fault.ignore_range:
            headers["Accept-Ranges"] = "bytes"
            changed = self.headers.get("If-Range", headers.get("ETag")) != headers.get("ETag")
            try:
                found = None if changed else span(wanted, size)
            except ValueError:
                status, body, last = 416, False, -1
                headers["Content-Range"] = f"bytes */{size}"
                self.told = self.told and replace(self.told, content=False)
            else:
                if found:
                    status, (first, last) = 206, found
                    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.status, self.start = status, first
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header(*(("Transfer-Encoding", "chunked") if reply.chunked else ("Content-Length", str(last - first + 1))))
        self.end_headers()
        if self.command == "HEAD":
            return
        if not body:
            data = reply.body[first : last + 1]
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if reply.chunked else data)
            self.sent = last - first + 1
            return
        assert reply.content
        with reply.content.open("rb") as stream:
            for piece in pieces(first, last + 1, reply.size, fault.corrupt):
                if isinstance(piece, tuple):
                    self._pump(stream, *piece, fault)
                elif isinstance(piece, int):
                    stream.seek(piece)
                    self._pump(io.BytesIO(bytes([stream.read(1)[0] ^ 0xFF])), 0, 1, fault)
                else:
                    self._pump(io.BytesIO(piece), 0, len(piece), fault)
                if self.close_connection:
                    break

    def _pump(self, stream: IO[bytes], position: int, stop: int, fault: Fault) -> None:
        """Send bytes position … stop-1 with sendfile, as slow and as far as the fault lets."""
        hub = self.server.hub
        step = max(1, fault.rate // 20) if fault.rate else STEP
        while position < stop:
            count = min(step, stop - position)
            if fault.stall and self.sent == fault.after:
                hub.stopping.wait(fault.stall)
            elif fault.stall and self.sent < fault.after:
                count = min(count, fault.after - self.sent)
            if hub.stopping.is_set():
                break
            if fault.cut is not None:
                count = min(count, fault.cut - self.sent)
                if count <= 0:
                    break
            try:
                self.connection.sendfile(stream, position, count)
            finally:
                done = stream.tell() - position
                self.sent += done
            position += done
            if done < count:
                break
            if fault.rate:
                hub.stopping.wait(count / fault.rate)
        self.close_connection = self.close_connection or position < stop
