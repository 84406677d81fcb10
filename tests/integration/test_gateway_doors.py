# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who comes in, and how: certificates of callers, HTTP/2, slow ones, proxies that are believed; by the role's own configuration."""
from __future__ import annotations

import json
import secrets
import socket
import ssl
import subprocess
import time

import pytest

from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Gateway

KEYS = {name: secrets.token_hex(24) for name in ("plain", "both", "other")}
TENANTS = {
    "plain": {"keys": [KEYS["plain"]]},
    "both": {"keys": [KEYS["both"]], "require": ["key", "mtls"], "certificates": ["CN=app,O=Bank"]},
    "other": {"keys": [KEYS["other"]], "require": ["key", "mtls"], "certificates": ["CN=teller,O=Bank"]},
    "badge": {"require": ["mtls"], "certificates": ["CN=batch,O=Bank"]},
}
PROXY = "127.0.0.1"
HEADER_S = 2


class Ca:
    """Signs certificates of callers with openssl."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.pem = folder / "ca.pem"
        self._openssl("req", "-x509", *self._key("ca"), "-days", "2", "-subj", "/CN=callers", "-out", self.pem)

    def _key(self, name):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.folder / f"{name}.key")

    @staticmethod
    def _openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    def sign(self, name):
        """(certificate, key) for CN=name,O=Bank."""
        request, pem = self.folder / f"{name}.csr", self.folder / f"{name}.pem"
        self._openssl("req", "-new", *self._key(name), "-subj", f"/O=Bank/CN={name}", "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.pem, "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-days",
                      "2", "-out", pem)
        return str(pem), str(self.folder / f"{name}.key")


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Ca(tmp_path_factory.mktemp("callers") / "ca")


@pytest.fixture(scope="module")
def house(tmp_path_factory, ca):
    with serve() as tiny:
        made = Gateway(tmp_path_factory.mktemp("doors"), {"tiny": [tiny.server_port], "more": []}, TENANTS, ENGINE_KEY, ca.pem,
                       gateway_header_timeout_s=HEADER_S, gateway_body_timeout_s=HEADER_S, gateway_requests_per_address=4,
                       gateway_trusted_proxies=[PROXY])
        made.engine = tiny
        yield made
        made.close()


def chat(**more):
    return {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], **more}


@pytest.mark.parametrize(("key", "certificate", "status", "tenant"), [
    ("plain", None, 200, "plain"), ("plain", "app", 200, "plain"),
    ("both", "app", 200, "both"), ("both", None, 401, "both"), ("both", "teller", 401, "both"), ("other", "app", 401, "other"),
    (None, "batch", 200, "badge"), (None, "app", 401, ""), (None, None, 401, ""),
])
def test_a_tenant_shows_all_that_it_must(house, ca, key, certificate, status, tenant):
    shown = ca.sign(certificate) if certificate else None
    answer = house.ask(key=KEYS.get(key, ""), body=chat(), certificate=shown)
    assert answer.status == status, answer.body
    assert house.ask("/v1/models", KEYS.get(key, ""), certificate=shown).status == status
    line = house.line(answer)
    assert (line["tenant"], line["certificate"]) == (tenant, f"CN={certificate},O=Bank" if certificate else "")
    if status == 401 and tenant:
        assert answer.error["code"] == "client_certificate_required"


def test_a_certificate_of_another_ca_is_no_certificate(house, tmp_path):
    forged = Ca(tmp_path / "forged").sign("app")
    answer = house.ask(key=KEYS["both"], body=chat(), certificate=forged)
    assert answer.status == 400 and answer.error["type"] == "invalid_request_error"
    assert house.ask(key="", body=chat(), certificate=Ca(tmp_path / "second").sign("batch")).status == 400


def curl(house, *words, body=None):
    """(status, HTTP version, body) by curl."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", house.root / "idc_llm/server.pem",
         "--write-out", "\n%{http_code} %{http_version}", "--config", "-", *words, f"https://localhost:{house.ports['gateway']}/v1/chat/completions"],
        input=f'header = "Authorization: Bearer {KEYS["plain"]}"\n', text=True, check=False, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    text, _line, last = done.stdout.rpartition("\n")
    return (*last.split(), text)


def test_http_2_is_spoken_and_its_bodies_are_read(house, tmp_path):
    body = tmp_path / "body"
    for size in (10, 300_000):
        body.write_text(json.dumps(chat(user="x" * size)))
        for version in ("--http2", "--http1.1"):
            for length in ((), ("--header", "Content-Length:", "--header", "Transfer-Encoding: chunked")):
                status, spoken, text = curl(house, version, "--data-binary", f"@{body}", *length)
                assert (status, spoken) == ("200", version.removeprefix("--http")), (size, length, text)
                assert text.startswith("data: {")


def connect(house):
    raw = socket.create_connection(("127.0.0.1", house.ports["gateway"]), timeout=10)
    return house.context.wrap_socket(raw, server_hostname="localhost")


def test_who_sends_slowly_is_sent_away_and_holds_nobody_up(house):
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['plain']}\r\n"
    began = time.monotonic()
    slow = [connect(house) for _number in range(60)]
    for number, one in enumerate(slow):
        one.sendall((head + ("Content-Length: 100\r\n\r\n{" if number % 2 else "X-Slow: ")).encode())
    for _turn in range(5):
        assert house.ask("/health").status == 200
    left = set(slow)
    while left and time.monotonic() < began + 6 * HEADER_S:
        for one in list(left):  # a byte now and then does not help: the headers as a whole have their time
            try:
                if slow.index(one) % 2 == 0:
                    one.sendall(b"x")
                one.settimeout(0.01)
                if not one.recv(4096):
                    left.discard(one)
            except TimeoutError:
                pass
            except (OSError, ssl.SSLError):
                left.discard(one)
        time.sleep(0.2)
    assert not left, f"{len(left)} of {len(slow)} are still connected"
    assert time.monotonic() - began >= HEADER_S


def test_one_address_gets_so_much_at_once_whatever_its_keys(house):
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['plain']}\r\n"
            "X-Forwarded-For: %s\r\nContent-Length: %d\r\n\r\n%s")
    house.engine.pace = 0.5
    waiting = []
    for _number in range(4):
        waiting.append(connect(house))
        body = json.dumps(chat())
        waiting[-1].sendall((head % ("192.0.2.7", len(body), body)).encode())
    time.sleep(0.5)
    full = house.ask(key=KEYS["plain"], body=chat(), **{"X-Forwarded-For": "192.0.2.7"})
    other = house.ask(key=KEYS["plain"], body=chat(), **{"X-Forwarded-For": "192.0.2.8"})
    house.engine.pace = 0.0
    assert (full.status, full.error["code"], other.status) == (429, "rate_limit_exceeded", 200)
    assert (house.line(full)["client"], house.line(other)["client"]) == ("192.0.2.7", "192.0.2.8"), "as the proxy says"
    for one in waiting:
        one.close()


def test_what_nobody_trusted_says_of_its_address_counts_nothing(house):
    """The proxy is believed about those before it, and only up to the first that is no proxy of ours."""
    answer = house.ask(key=KEYS["plain"], body=chat(), **{"X-Forwarded-For": "203.0.113.9, 192.0.2.66, 127.0.0.1"})
    assert house.line(answer)["client"] == "192.0.2.66"


def test_no_origin_is_invited(house):
    answer = house.ask("/v1/models", KEYS["plain"], Origin="https://evil.example")
    assert not any(name.lower().startswith("access-control") for name in answer.headers)
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and "max-age" in answer.headers["Strict-Transport-Security"]


def test_health_says_what_is_known_and_names_nobody(house):
    answer = house.ask("/health")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "degraded", "deployments": {"all": 2, "serving": 1}})
