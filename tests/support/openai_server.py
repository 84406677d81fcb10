# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small server that answers like vLLM's chat route, and can fail in the ways an engine or a gateway does."""
from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Iterator

KEY = "tenant-key-0123456789abcdef0123456789"
MODEL = "tiny"
TOKENS = ("Hel", "lo", " there", "!")
TEMPLATE = 3  # prompt tokens that a chat template adds; each word is one more


def _chunk(**delta: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "model": MODEL, "choices": [{"index": 0, "delta": delta}]}


class Handler(BaseHTTPRequestHandler):
    """One request; what goes wrong is ``server.fault``, a list that is used up, its last entry staying."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """/health says 200 whatever happens, as vLLM's does."""
        self._send(200 if self.path == "/health" else 404, b"", "text/plain")

    def do_POST(self) -> None:
        """The chat route."""
        try:
            payload = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            sound = isinstance(payload["model"], str) and isinstance(payload["messages"][0]["content"], str)
        except (ValueError, KeyError, TypeError, IndexError):
            payload, sound = None, False
        with self.server.lock:
            self.server.seen.append({"path": self.path, "headers": dict(self.headers), "payload": payload})
            faults = self.server.faults
            fault = faults.pop(0) if len(faults) > 1 else faults[0]
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        self.inside = True
        try:
            self._answer(payload, fault, sound)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Counted out, once: before the last event is sent, for its reader may be back with another request at once."""
        with self.server.lock:
            self.server.now -= self.inside
        self.inside = False

    def _answer(self, payload: Any, fault: str, sound: bool) -> None:
        if self.path != "/v1/chat/completions":
            self._error(404, "Not Found")
        elif self.headers.get("Authorization") != f"Bearer {KEY}":
            self._error(401, f"Unauthorized: {self.headers.get('Authorization')}")  # an ill-bred server repeats the key
        elif not sound:
            self._error(400, "this is no chat request")
        elif payload["model"] not in self.server.names:
            self._error(404, f"The model `{payload['model']}` does not exist.")
        elif fault == "500":
            self._error(500, "cannot schedule new futures after shutdown")
        elif fault == "400":
            self._error(400, "max_tokens must be at least 1")
        elif fault == "429":
            self._error(429, "rate limit exceeded")
        elif fault == "not json":
            self._send(502, b"<html>Bad Gateway</html>", "text/html")
        elif fault == "hang":
            time.sleep(3)
        elif fault == "drop":
            self.close_connection = True
        else:
            self._stream(fault, payload)

    def _stream(self, fault: str, payload: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._event(_chunk(role="assistant", content=""))
        if fault == "slow":
            time.sleep(0.4)
        tokens = () if fault == "empty" else self.server.tokens
        if fault.startswith("other "):  # another token at one position, from 0
            at = int(fault[len("other "):])
            tokens = (*tokens[:at], "?", *tokens[at + 1:])
        for number, token in enumerate(tokens):
            if fault == "cut" and number == 2:
                self.close_connection = True
                return
            if fault == "stall" and number == 2:
                time.sleep(3)
            if fault == "error event" and number == 2:
                self._event({"error": {"message": "EngineCore encountered an issue", "code": 500}})
                break
            time.sleep(self.server.pace)
            event = _chunk(reasoning_content=token) if fault == "thinking" else _chunk(content=token)
            if payload.get("return_token_ids") and self.server.gives_ids:
                event["choices"][0]["token_ids"] = [sum(token.encode())]
            self._event(event)
        if fault.startswith("ends "):  # with these words instead of a usage object
            self._raw(fault[len("ends "):].encode())
        elif fault != "no usage":
            asked = TEMPLATE + len(payload["messages"][0]["content"].split())
            self._event({"choices": [], "usage": {"prompt_tokens": asked, "completion_tokens": len(tokens)}})
        self._leave()
        if fault != "no end":
            self._raw(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, document: dict[str, Any]) -> None:
        self._raw(b"data: " + json.dumps(document).encode() + b"\n\n")

    def _raw(self, data: bytes) -> None:
        for at in range(0, len(data), self.server.piece or len(data)):
            part = data[at:at + (self.server.piece or len(data))]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()

    def _error(self, status: int, message: str) -> None:
        body = json.dumps({"error": {"message": message, "code": status}}).encode()
        self._send(status, body, "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """``faults``: what goes wrong, request by request; ``seen``: the requests that came; ``names``: the models that it answers to.

    ``tokens``, ``pace``: of a sound answer, seconds before each; ``gives_ids``: whether it knows vLLM's
    ``return_token_ids``; ``most``: how many requests were under way at once; ``piece``: bytes
    of a part of an answer, 0 for an event.
    """

    daemon_threads = True

    allow_reuse_address = True

    def __init__(self, faults: list[str], port: int = 0, later: bool = False) -> None:
        super().__init__(("127.0.0.1", port), Handler, bind_and_activate=not later)
        self.faults = faults
        self.seen: list[dict[str, Any]] = []
        self.url = ""
        self.tokens: tuple[str, ...] = TOKENS
        self.names: tuple[str, ...] = (MODEL,)
        self.pace = 0.02
        self.gives_ids = True
        self.lock = threading.Lock()
        self.now = self.most = self.piece = 0

    def begin(self) -> None:
        """Take the port now, where ``later`` was asked for."""
        self.server_bind()
        self.server_activate()
        self.run()

    def run(self) -> None:
        """Answer in a thread."""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *_args: Any) -> None:
        """A client that hung up is no news."""


@contextlib.contextmanager
def serve(
    *faults: str, context: ssl.SSLContext | None = None, port: int = 0, later: bool = False
) -> Iterator[Server]:
    """A running server (``later``: one that waits for ``begin()``); its address is ``server.url``."""
    server = Server(list(faults) or [""], port, later)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    if not later:
        server.run()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
