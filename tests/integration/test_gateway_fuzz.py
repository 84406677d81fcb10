# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""2,000 malformed requests on the role's own configuration: no 5xx of nginx's, nothing but the listed paths reaches an engine."""
from __future__ import annotations

import random
import secrets
import socket
from collections import Counter

import pytest

from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Gateway

COUNT, SEED = 2000, 20261122
KEY = secrets.token_hex(24)
LISTED = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"}
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/embeddings", "/v1/responses", "/health", "/"]
HIDDEN = ["/tokenize", "/metrics", "/invocations", "/v1/load_lora_adapter", "/sleep", "/collective_rpc", "/version", "/docs",
          "/ping", "/v1/chat/completions/render", "/pause", "/stub_status", "/idc-error", "/tokens"]


def bent(rng, path):
    """A path, written as somebody writes it who wants another one."""
    return rng.choice([
        path, f"/v1/..{path}", f"//{path}", f"/v1/chat/completions/..%2f..{path}", f"/v1/models%2f..%2f..{path}", f"{path}%00",
        f"{path}?", "".join(f"%{ord(letter):02x}" for letter in path), f"/%2e%2e{path}", f"{path};x=1", f"{path}#", f"{path}/",
        f"/v1/chat/completions/../../..{path}", path.upper(),
        f"/v1/chat/completions%20HTTP/1.1%0d%0aHost:x%0d%0a%0d%0aGET%20{path}", f"http://127.0.0.1{path}", f"\\{path}",
        path + "é", path + "\x7f", f"{path}\t", f"/v1/chat/completions?x={path}",
        "/" + "a" * rng.choice([10, 3000, 9000]), f"/./{path}", f"/v1/./chat/completions/{path}"])


def body(rng):
    """Bytes that are nearly JSON."""
    whole = '{"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}'
    return rng.choice([
        whole[:rng.randrange(len(whole))].encode(), bytes(rng.randrange(256) for _one in range(rng.randrange(200))),
        whole.replace("tiny", "x" * rng.randrange(3000)).encode(), b"[" * rng.choice([10, 5000]), b"null",
        whole.replace('"tiny"', rng.choice(["1", "null", "[]", "{}", '"\\ud800"', "1e999", '"tiny\\u0000"'])).encode(),
        b"\xef\xbb\xbf" + whole.encode(), whole.encode("utf-16"), b"", whole.encode(),
        (whole + whole).encode(), whole.replace("hi", "\x00\x01").encode(), b'{"model":' * 2000])


def headers(rng, length):
    """Header lines, of which some contradict each other."""
    odd = [
        f"Content-Length: {length}", f"Content-Length: {length + 7}", f"Content-Length: -{length}", "Content-Length: x",
        "Content-Length: +5", f"Content-Length: {length}\r\nContent-Length: {length + 1}", "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity", f"Transfer-Encoding: chunked\r\nContent-Length: {length}", "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked", "Transfer-Encoding: chunked, identity",
        f"Content-Length: {length}\r\nTransfer-Encoding:\tchunked", "Content-Length: 99999999999",
        f"Content-Length: {length}, {length}", "Expect: 100-continue", "Expect: 7", "Upgrade: h2c",
        "Connection: close, Authorization", "X: " + "y" * rng.choice([100, 9000, 40000]), "\r\nX", " folded: x", "X\x00: y",
        ": empty", "Host: a\r\nHost: b", "Host: a b", "Content-Encoding: gzip", "X-Forwarded-For: 127.0.0.1",
        "X-Original-URL: /metrics", "Range: bytes=0-1", "TE: trailers", "Accept-Encoding: gzip",
        "Content-Type: multipart/form-data; boundary=x", "X-Request-Id: a\r\n b",
    ]
    who = rng.choice([f"Authorization: Bearer {KEY}"] * 14 + [
        "Authorization: Bearer", f"Authorization: bearer {KEY}", f"Authorization: Bearer  {KEY}", f"Authorization: Basic {KEY}",
        f"Authorization: Bearer {KEY.upper()}", f"Authorization: Bearer {KEY}\r\nAuthorization: Bearer {KEY}",
        f"Authorization: Bearer {KEY} x",
        "Authorization: Bearer ~^.*$", 'Authorization: Bearer "', "X: y"])
    lines = ["Host: localhost"] * rng.choice([1] * 9 + [0]) + [who] + rng.sample(odd, rng.choice([0, 0, 0, 1, 1, 2]))
    if rng.random() < 0.9:
        lines.append(f"Content-Length: {length}")
    return lines


def request(rng):
    """One request, as bytes."""
    data = body(rng)
    method = rng.choice(["POST"] * 20 + ["GET", "PUT", "HEAD", "OPTIONS", "TRACE", "CONNECT", "post", "PO ST", "", "X" * 300])
    path = rng.choice([rng.choice(PATHS), bent(rng, rng.choice(HIDDEN)), bent(rng, rng.choice(PATHS))])
    version = rng.choice(["HTTP/1.1"] * 24 + ["HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/9", "", "http/1.1"])
    if rng.random() < 0.1:
        data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    if rng.random() < 0.05:  # another one behind it
        data += b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = "\r\n".join([f"{method} {path} {version}", *headers(rng, len(data))])
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + data


def send(gateway, data):
    """The status line's number; 0 where nginx closed without one or waits for more."""
    with socket.create_connection(("127.0.0.1", gateway.ports["gateway"]), timeout=10) as plain, \
            gateway.context.wrap_socket(plain, server_hostname="localhost") as tls:
        try:
            tls.sendall(data)
            tls.settimeout(0.25)
            line = tls.recv(4096).split(b"\r\n", 1)[0].split(b" ")
        except OSError:
            return 0
    return int(line[1]) if line[0].startswith(b"HTTP/") and len(line) > 1 else 0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with serve() as tiny, serve() as other:
        made = Gateway(tmp_path_factory.mktemp("gateway"), {"tiny": [tiny.server_port], "other": [other.server_port]},
                       {"fuzz": {"keys": [KEY]}}, ENGINE_KEY)
        made.engines = [tiny, other]
        yield made
        made.close()


def test_no_5xx_and_nothing_but_the_listed_paths(gateway):
    rng = random.Random(SEED)
    statuses, bad = Counter(), []
    for _number in range(COUNT):
        data = request(rng)
        status = send(gateway, data)
        statuses[status] += 1
        if status >= 500:
            bad.append((status, data[:300]))
    print(dict(sorted(statuses.items())))
    assert bad == []
    reached = [seen for engine in gateway.engines for seen in engine.seen]
    assert {seen["path"].partition("?")[0] for seen in reached} <= LISTED
    assert all(seen["headers"].get("Authorization") == f"Bearer {ENGINE_KEY}" for seen in reached)
    assert len(reached) > 20 and statuses[400] > 100 and statuses[401] > 50 and statuses[404] > 100, statuses
    assert gateway.ask(key=KEY, body={"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}).status == 200
    logs = "".join(file.read_text(errors="replace") for file in (gateway.folder / "log").iterdir())
    assert KEY not in logs and ENGINE_KEY not in logs
    assert "lua entry thread aborted" not in logs, [line for line in logs.splitlines() if "lua" in line][:3]
