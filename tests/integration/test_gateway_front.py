# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands before a request: TLS, a load balancer's PROXY protocol, an OCSP responder, the rate of new connections; by the
role's own files on the real nginx, OpenSSL, sslyze and nftables."""
from __future__ import annotations

import base64
import http.client
import http.server
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import venv
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.openai_server import KEY as ENGINE_KEY
from tests.support.openai_server import serve
from tests.support.real_gateway import Answer, Gateway
from tests.support.waiting import wait_for

KEY = secrets.token_hex(24)
TENANTS = {"bank": {"keys": [KEY]}}
BALANCER, STRANGER, CALLER = "127.0.0.1", "127.0.0.3", "192.0.2.9"


def openssl(*words, **more):
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, text=True, **more)


# --- the PROXY protocol: https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    with serve() as tiny:
        made = Gateway(tmp_path_factory.mktemp("proxied"), {"tiny": [tiny.server_port]}, TENANTS, ENGINE_KEY,
                       gateway_proxy_protocol=True, gateway_trusted_proxies=[BALANCER])
        yield made
        made.close()


def through(gateway, header, at="127.0.0.2", source=BALANCER):
    """The answer to a chat by a connection that begins with ``header``."""
    raw = socket.create_connection((at, gateway.ports["gateway"]), timeout=10, source_address=(source, 0))
    raw.sendall(header)
    with gateway.context.wrap_socket(raw, server_hostname="localhost") as door:
        call = http.client.HTTPConnection("localhost")
        call.sock = door
        call.request("POST", "/v1/chat/completions", json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "x"}]}),
                     {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
        reply = call.getresponse()
        return Answer(reply.status, reply.headers, reply.read().decode())


@pytest.mark.parametrize(("source", "client"), [(BALANCER, CALLER), (STRANGER, STRANGER)])
def test_the_balancer_says_who_calls_and_nobody_else_does(proxied, source, client):
    answer = through(proxied, f"PROXY TCP4 {CALLER} 192.0.2.1 40000 443\r\n".encode(), source=source)
    assert answer.status == 200 and proxied.line(answer)["client"] == client


def test_version_two_of_it_is_understood(proxied):
    addresses = socket.inet_aton(CALLER) + socket.inet_aton("192.0.2.1") + (40000).to_bytes(2, "big") + (443).to_bytes(2, "big")
    answer = through(proxied, b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(addresses).to_bytes(2, "big") + addresses)
    assert answer.status == 200 and proxied.line(answer)["client"] == CALLER


def test_who_speaks_no_proxy_protocol_is_sent_away_but_on_the_host_itself(proxied):
    with pytest.raises((OSError, ssl.SSLError)):
        through(proxied, b"")
    assert through(proxied, b"", at="127.0.0.1").status == 200
    assert proxied.ask("/health").status == 200
    proxied.check_configuration()


# --- OCSP: RFC 6960, RFC 6066 section 8


class Responder(http.server.BaseHTTPRequestHandler):
    """Answers as OpenSSL says of the server's ``folder``."""

    def do_GET(self):
        """One question, in the path: RFC 6960, A.1."""
        folder = self.server.folder
        (folder / "question").write_bytes(base64.b64decode(urllib.parse.unquote(self.path.lstrip("/"))))
        openssl("ocsp", "-index", folder / "index.txt", "-CA", folder / "ca.pem", "-rsigner", folder / "ca.pem", "-rkey",
                folder / "ca.key", "-ndays", "1", "-reqin", folder / "question", "-respout", folder / "answer")
        answer = (folder / "answer").read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words):
        """Not to the terminal."""


@pytest.fixture
def signed(tmp_path):
    """A folder with ca.pem, server.pem (with the CA's behind it) and server.key, and a responder that vouches for it."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Responder)
    server.folder = tmp_path
    threading.Thread(target=server.serve_forever, daemon=True).start()
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *new, "-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca.pem", "-days", 2, "-subj", "/CN=bank CA",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
    openssl("req", *new, "-keyout", tmp_path / "server.key", "-out", tmp_path / "csr", "-subj", "/CN=localhost")
    (tmp_path / "extensions").write_text(
        f"subjectAltName=DNS:localhost\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:{server.server_port}\n"
        "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n")
    openssl("x509", "-req", "-in", tmp_path / "csr", "-CA", tmp_path / "ca.pem", "-CAkey", tmp_path / "ca.key", "-set_serial", 77,
            "-days", 2, "-extfile", tmp_path / "extensions", "-out", tmp_path / "leaf")
    (tmp_path / "server.pem").write_text((tmp_path / "leaf").read_text() + (tmp_path / "ca.pem").read_text())
    (tmp_path / "index.txt").write_text("V\t491231235959Z\t\t4D\tunknown\t/CN=localhost\n")
    yield tmp_path
    server.shutdown()


@contextmanager
def shows(signed, **variables):
    """A gateway with that certificate."""
    gateway = Gateway(signed / "gateway", {"tiny": []}, TENANTS, gateway_tls_certificate=str(signed / "server.pem"),
                      gateway_tls_key=str(signed / "server.key"), **variables)
    try:
        for name in ("server.pem", "server.key"):
            shutil.copy(signed / name, gateway.root / "idc_llm" / name)
        gateway.nginx("-s", "reload")
        yield gateway
    finally:
        gateway.close()


def test_what_the_responder_says_is_stapled(signed):
    with shows(signed, gateway_ocsp_stapling=True) as gateway:
        for _turn in range(60):  # nginx asks when it is first asked
            said = openssl("s_client", "-connect", f"127.0.0.1:{gateway.ports['gateway']}", "-status", "-servername", "localhost",
                           "-CAfile", signed / "ca.pem", input="").stdout
            if "OCSP Response Status" in said:
                break
            time.sleep(0.5)
        assert "OCSP Response Status: successful (0x0)" in said and "Cert Status: good" in said, said + gateway.errors()
        assert "Serial Number: 4D" in said


# --- TLS as sslyze sees it, in a virtual environment of its own: it needs another cryptography than ansible-lint

SSLYZE = "sslyze==6.3.1"
CACHE = Path(os.environ.get("IDC_LLM_CACHE", Path.home() / ".cache/idc_llm"))


@pytest.fixture(scope="module")
def sslyze():
    folder = CACHE / "venvs" / SSLYZE.replace("==", "-")
    if not (folder / "whole").exists():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", SSLYZE], check=True, timeout=300)
        (folder / "whole").touch()
    return folder / "bin/sslyze"


@pytest.mark.parametrize(("version", "profile", "passes"), [
    ("1.3", "modern", True), ("1.2", "modern", False), ("1.2", "intermediate", True)])
def test_sslyze_finds_mozillas_profile(sslyze, signed, version, profile, passes):
    with shows(signed, gateway_tls_min_version=version) as gateway:
        where = f"localhost:{gateway.ports['gateway']}"
        assert wait_for(lambda: "bank CA" in openssl("s_client", "-connect", where, "-showcerts", input="").stdout, 30)
        done = subprocess.run([sslyze, f"--mozilla_config={profile}", f"--certinfo_ca_file={signed}/ca.pem", where], text=True,
                              check=False, capture_output=True, timeout=120)
    said = done.stdout.partition("COMPLIANCE")[2]
    assert (done.returncode == 0) is passes and ("OK - Compliant" in said) is passes, said
    assert passes or "tls_versions" in said


# --- new connections

NAMES, INNER, PORT = ("idc-front", "idc-callers"), "198.51.100.1", 8443
RATE = 5
LISTEN = f"""import socket
door = socket.create_server(("", {PORT}), backlog=256)
while True:
    door.accept()[0].close()
"""
CALL = f"""import socket, sys, time
address, many, timeout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
served, began = 0, time.monotonic()
calls = []
for number in range(many):
    call = socket.socket()
    call.setblocking(False)
    call.bind((address, 0))
    call.connect_ex(("{INNER}", {PORT}))
    calls.append(call)
left = set(calls)
while left and time.monotonic() < began + timeout:
    for call in list(left):
        try:
            call.getpeername()
        except OSError:
            continue
        left.discard(call)
        served += 1
    time.sleep(0.01)
print(served)
"""


@pytest.fixture
def network(tmp_path):
    """The gateway's rules in a network namespace, and callers in another."""
    def ip(*words, check=True):
        subprocess.run(["ip", *words], check=check, capture_output=True)

    made = Gateway(tmp_path / "rules", {"tiny": []}, TENANTS, gateway_connections_per_address_s=RATE,
                   gateway_trusted_proxies=["198.51.100.30", "2001:db8::/64"])
    made.close()
    running = []
    try:
        for name in NAMES:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", NAMES[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", NAMES[1])
        for name, addresses in zip(NAMES, ([INNER], ["198.51.100.20", "198.51.100.21", "198.51.100.30"]), strict=True):
            for address in addresses:
                ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        rules = (made.root / "gateway.nft").read_text().replace(f"dport != {made.ports['gateway']}", f"dport != {PORT}")
        (tmp_path / "rules.nft").write_text(rules)
        for _twice in range(2):  # read as often as one likes
            subprocess.run(["ip", "netns", "exec", NAMES[0], "nft", "-f", tmp_path / "rules.nft"], check=True, capture_output=True)
        running.append(subprocess.Popen(["ip", "netns", "exec", NAMES[0], sys.executable, "-c", LISTEN]))
        time.sleep(1)
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()
        for name in NAMES:
            ip("netns", "del", name, check=False)


def call(address, many, timeout):
    done = subprocess.run(["ip", "netns", "exec", NAMES[1], sys.executable, "-c", CALL, address, str(many), str(timeout)],
                          check=True, capture_output=True, text=True)
    return int(done.stdout)


FLOOD = f"""import socket, sys
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1] == "send":
    for number in range(2000):
        here.sendto(b"x", ("{INNER}", 5353))
else:
    here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
    here.bind(("{INNER}", 5353))
    here.settimeout(3)
    count = 0
    print("ready", flush=True)
    try:
        while here.recv(10):
            count += 1
    except TimeoutError:
        print(count)
"""


@pytest.mark.skipif(not shutil.which("nft", path="/usr/sbin:/usr/bin"), reason="no nft here")
def test_what_is_no_tcp_is_none_of_its_business(network):
    command = ["ip", "netns", "exec", NAMES[0], sys.executable, "-c", FLOOD, "receive"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hears:
        assert hears.stdout.readline() == "ready\n"
        subprocess.run(["ip", "netns", "exec", NAMES[1], sys.executable, "-c", FLOOD, "send"], check=True)
        heard = int(hears.stdout.readline())
    assert heard > 1000, "far more than a second and its burst would let through"
    assert call("198.51.100.20", 5 * RATE, 0.8) == 5 * RATE, "nor does it count"


@pytest.mark.skipif(not shutil.which("nft", path="/usr/sbin:/usr/bin"), reason="no nft here")
def test_one_address_opens_so_many_connections_and_no_other_suffers(network):
    burst = 5 * RATE
    with ThreadPoolExecutor(2) as side_by_side:
        many, few = side_by_side.map(lambda words: call(*words), [("198.51.100.20", 80, 0.8), ("198.51.100.21", burst, 0.8)])
    assert burst <= many <= burst + 3 * RATE, "the burst, and what the rate has added by then"
    assert few == burst
    assert call("198.51.100.30", 80, 5) == 80, "a trusted proxy may"
    time.sleep(3)
    assert call("198.51.100.20", burst, 20) == burst, "who tries again, as network code does, gets in"


# --- words that are wrong


@pytest.mark.parametrize(("words", "said"), [
    ({"gateway_proxy_protocol": True}, "gateway_proxy_protocol is gateway_trusted_proxies: []"),
    ({"gateway_proxy_protocol": True, "gateway_trusted_proxies": ["10.0.0.1"], "gateway_http3": True}, "gateway_http3: True"),
    ({"gateway_ocsp_stapling": True}, "IDC-GW-017"),
    ({"gateway_connections_per_address_s": "many"}, "gateway_connections_per_address_s"),
])
def test_a_wrong_word_is_told_before_anything_is_changed(tmp_path, words, said):
    play = tmp_path / "play.yml"
    play.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [
        {"ansible.builtin.import_role": {"name": "idc.llm.gateway", "tasks_from": "preflight"}}]}]))
    given = {"gateway_ca_dir": str(tmp_path), "idc_llm_plan": {"gateway": {"upstreams": []}}, **words}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", play, "-e", json.dumps(given)],
                          cwd=root, text=True, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and said in done.stdout, done.stdout + done.stderr
    assert "changed=0" in done.stdout
