# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A company's own login on loopback: the real slapd behind TLS, and an issuer of OpenID Connect tokens.

The issuer is a double (its key set and its discovery document, as RFC 7517 and OpenID Connect Discovery have them); what reads its
tokens is the real PyJWT.
"""
from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.real_gateway import certificate, free_port
from tests.support.waiting import wait_for

BASE = "dc=bank,dc=example"
SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
moduleload back_mdb
moduleload memberof
pidfile {folder}/pid
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
loglevel stats
disallow bind_anon
database mdb
suffix "{base}"
directory {folder}/db
rootdn "cn=root,{base}"
rootpw {root}
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=search,{base}" read by * none
"""


class Directory:
    """slapd. people: {user: (password, [group])}; the account that may search is cn=search."""

    def __init__(self, folder: Path, people: dict[str, tuple[str, list[str]]]) -> None:
        self.folder, self.port, self.password, root = folder, free_port(), secrets.token_hex(16), secrets.token_hex(16)
        (folder / "db").mkdir(parents=True)
        certificate(folder)
        (folder / "slapd.conf").write_text(SLAPD.format(folder=folder, base=BASE, root=root))
        rows = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Bank\ndc: bank",
                *(f"dn: ou={name},{BASE}\nobjectClass: organizationalUnit\nou: {name}" for name in ("people", "groups")),
                f"dn: cn=search,{BASE}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: search\n"
                f"userPassword: {self.password}"]
        groups: dict[str, list[str]] = {}
        for user, (password, names) in people.items():
            rows.append(f"dn: uid={user},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: {user}\ncn: {user}\nsn: {user}\n"
                        f"userPassword: {password}")
            for name in names:
                groups.setdefault(name, []).append(user)
        self._words("slapadd", "-f", folder / "slapd.conf", text="\n\n".join(rows) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        rows = [f"dn: cn={name},ou=groups,{BASE}\nobjectClass: groupOfNames\ncn: {name}\n"
                + "\n".join(f"member: uid={user},ou=people,{BASE}" for user in users) for name, users in groups.items()]
        (folder / "root").write_text(root)  # while it runs, so that it notes memberOf at the users
        self._words("ldapadd", "-H", self.uri, "-x", "-D", f"cn=root,{BASE}", "-y", folder / "root", text="\n\n".join(rows) + "\n",
                    LDAPTLS_CACERT=str(folder / "server.pem"))

    @staticmethod
    def _words(*words: str | Path, text: str, **environment: str) -> None:
        done = subprocess.run(words, input=text, text=True, check=False, capture_output=True, env={**os.environ, **environment})
        assert done.returncode == 0, done.stderr

    @property
    def uri(self) -> str:
        return f"ldaps://127.0.0.1:{self.port}"  # libldap takes localhost for the name of the machine

    def start(self) -> None:
        """Run it."""
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(["slapd", "-f", self.folder / "slapd.conf", "-h", self.uri, "-d", "stats"],
                                             stdout=log, stderr=log)
        assert wait_for(self._listens, 20, 0.05), (self.folder / "log").read_text()

    def _listens(self) -> bool:
        return "slapd starting" in (self.folder / "log").read_text() and self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait(20)
            (self.folder / "log").write_text("")

    def binds(self, user: str) -> int:
        """How often this user's password was tried."""
        return (self.folder / "log").read_text().count(f'BIND dn="uid={user},ou=people,{BASE}" method=')


def b64(data: bytes) -> str:
    """As RFC 7515 has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    """A whole number of a key."""
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Issuer:
    """Signs tokens; ``keys`` {name: private key} are published, whatever a token is signed with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        certificate(folder)
        self.keys: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {
            "rsa": rsa.generate_private_key(65537, 2048), "ec": ec.generate_private_key(ec.SECP256R1())}
        self.asked: list[str] = []
        self.more: list[object] = []  # that stand in the key set, too
        self.says = self.moved = ""  # who it says it is; where its keys have moved
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_args: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                about = {"issuer": issuer.says or issuer.url, "jwks_uri": f"{issuer.url}/keys"}
                body = json.dumps({"/.well-known/openid-configuration": about,
                                   "/keys": {"keys": [*issuer.more, *issuer.published()]}}.get(self.path, {})).encode()
                self.send_response(302 if issuer.moved else 200)
                if issuer.moved:
                    self.send_header("Location", issuer.moved + self.path)
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def published(self) -> list[dict[str, str]]:
        """The keys as RFC 7517 has them."""
        rows = []
        for name, key in self.keys.items():
            public = key.public_key().public_numbers()
            if isinstance(public, rsa.RSAPublicNumbers):
                rows.append({"kid": name, "kty": "RSA", "use": "sig", "n": number(public.n), "e": number(public.e)})
            else:
                rows.append({"kid": name, "kty": "EC", "use": "sig", "crv": "P-256", "x": b64(public.x.to_bytes(32, "big")),
                             "y": b64(public.y.to_bytes(32, "big"))})
        return rows

    def token(self, user: str | None, groups: list[str], kid: str = "rsa", algorithm: str = "", key: object = None,
              **claims: object) -> str:
        """A token for the audience llm, good for a minute; claims given here replace its own, None leaves one out."""
        key = key or self.keys[kid]
        algorithm = algorithm or ("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
        said = {"iss": self.url, "aud": "llm", "exp": int(time.time()) + 60, "sub": user, "groups": groups, **claims}
        head = {"alg": algorithm, "kid": kid, "typ": "JWT"}
        body = {name: value for name, value in said.items() if value is not None}
        text = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(body).encode())}"
        return f"{text}.{b64(self._sign(algorithm, key, text.encode()))}"

    def _sign(self, algorithm: str, key: object, text: bytes) -> bytes:
        if algorithm == "none":
            return b""
        if algorithm == "HS256":  # with what everybody can read: the classic confusion of keys
            assert isinstance(key, rsa.RSAPrivateKey)
            public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            made = hmac.HMAC(public, hashes.SHA256())
            made.update(text)
            return made.finalize()
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return b"".join(part.to_bytes(32, "big") for part in decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256()))))

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
