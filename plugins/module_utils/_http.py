# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP request with an overall deadline, server-sent events read as they come. Standard library only.

Proxies of the environment are never used: engines and gateways are on the site's own network.
Private to this collection.
"""
from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, Mapping
from urllib.parse import urlsplit

BODY_LIMIT = 1 << 20  # bytes kept of an answer that is no event stream


class HttpFailure(Exception):
    """No HTTP status came back. ``kind``: url, ca, connect, tls, timeout, cut."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(f"{kind}: {detail}")


@dataclass(frozen=True)
class Call:
    """What to send and how long to wait: ``timeout`` in seconds for everything, connecting included."""

    url: str
    payload: Mapping[str, Any] | None = None  # None: GET, else POST as JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_path: str = ""  # PEM file; "" = the system's
    server_name: str = ""  # name in the certificate and in the Host header; "" = the URL's host
    timeout: float = 30.0


@dataclass(frozen=True)
class Reply:
    """What came back. ``events``: (seconds since the request began, data) of each server-sent event."""

    status: int
    body: str = ""
    events: tuple[tuple[float, str], ...] = ()
    total_s: float = 0.0
    tls_version: str = ""
    broken: str = ""  # why reading ended early: timeout or cut; "" = it did not


class _HTTPSConnection(http.client.HTTPSConnection):
    """TLS to one address under another name (a gateway asked on 127.0.0.1)."""

    def __init__(self, host: str, port: int, timeout: float, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._tls_context = context
        self._server_name = server_name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls_context.wrap_socket(self.sock, server_hostname=self._server_name)


def send(call: Call) -> Reply:
    """Carry out one call; raises HttpFailure when no status line came back."""
    deadline = time.monotonic() + call.timeout
    connection, path = _connection(call)
    body = None if call.payload is None else json.dumps(call.payload).encode("utf-8")
    headers = {"Accept": "application/json, text/event-stream", "Connection": "close", **call.headers}
    if call.server_name:
        headers["Host"] = call.server_name
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.connect()
        sock = connection.sock
        began = time.monotonic()
        connection.request("GET" if body is None else "POST", path, body=body, headers=headers)
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        response = connection.getresponse()
        tls_version = (sock.version() or "") if isinstance(sock, ssl.SSLSocket) else ""
        return _read(response, sock, began, deadline, tls_version)
    except ssl.SSLError as error:
        raise HttpFailure("tls", getattr(error, "verify_message", "") or error.reason or str(error)) from error
    except socket.timeout as error:
        raise HttpFailure("timeout", f"nothing within {call.timeout:g} s") from error
    except (http.client.HTTPException, ConnectionResetError, BrokenPipeError) as error:
        raise HttpFailure("cut", type(error).__name__) from error
    except OSError as error:
        raise HttpFailure("connect", error.strerror or str(error)) from error
    except ValueError as error:  # a header with a line break: its value is a secret, so it isn't repeated
        raise HttpFailure("url", "a header or the path holds a character that HTTP forbids") from error
    finally:
        connection.close()


def _connection(call: Call) -> tuple[http.client.HTTPConnection, str]:
    """An unopened connection and the path to ask for."""
    try:
        parts = urlsplit(call.url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise HttpFailure("url", str(error)) from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise HttpFailure("url", "wanted http://HOST[:PORT] or https://HOST[:PORT]")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port or 80, timeout=call.timeout), path
    try:
        context = ssl.create_default_context(cafile=call.ca_path or None)
    except (OSError, ssl.SSLError) as error:
        raise HttpFailure("ca", f"{call.ca_path}: {getattr(error, 'strerror', None) or error}") from error
    return _HTTPSConnection(host, port or 443, call.timeout, context, call.server_name or host), path


def _read(
    response: http.client.HTTPResponse, sock: socket.socket, began: float, deadline: float, tls_version: str
) -> Reply:
    """Read to the end, to the deadline or to the break, noting when each event came."""
    streamed = response.getheader("Content-Type", "").startswith("text/event-stream")
    events: list[tuple[float, str]] = []
    kept, rest, broken = b"", b"", ""
    try:
        while not response.isclosed():  # Python 3.13 closes it with the last byte, and the socket with it
            left = deadline - time.monotonic()
            if left <= 0:
                broken = "timeout"
                break
            sock.settimeout(left)
            chunk = response.read1(65536)
            if not chunk:
                break
            if not streamed:
                kept = (kept + chunk)[:BODY_LIMIT]
                continue
            at = time.monotonic() - began
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                if line.startswith(b"data:"):
                    events.append((at, line[5:].strip().decode("utf-8", "replace")))
    except socket.timeout:
        broken = "timeout"
    except (http.client.HTTPException, OSError):
        broken = "cut"
    total = time.monotonic() - began
    return Reply(response.status, kept.decode("utf-8", "replace"), tuple(events), total, tls_version, broken)
