# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real nginx on loopback with the role's own configuration, in front of engines that a test brings."""
from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from ansible_collections.idc.llm.plugins.module_utils._agent_balancer import Balancer, Places

from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
NGINX = "/usr/sbin/nginx"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def certificate(folder: Path):
    """server.pem and server.key for localhost; the first is its own CA."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-keyout", folder / "server.key", "-out", folder / "server.pem", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)


class Answer:
    """status, headers, body (text) of a reply, and what JSON says of an error."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def error(self):
        return json.loads(self.body)["error"]


class Gateway:
    """engines: {deployment: [port]}; tenants: as idc_llm_secrets has them; variables: the role's, changed.

    canaries: {deployment: of, percent, tenants}, as the plan has them.
    inside: words before those of nginx, as ip netns exec NAME; there it listens on all addresses, at ``port``; at: of engines.
    """

    def __init__(self, folder: Path, engines, tenants, engine_key="", client_ca=None, *, canaries=None, inside=(), port=0,
                 at="127.0.0.1", **variables):
        self.folder, self.root, self.tenants, self.inside = folder, folder / "nginx", tenants, inside
        for name in ("nginx/idc_llm/engines", "lib", "log", "states", "nginx/t", "meter"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.ports = {"gateway": port or free_port(), "nginx": free_port()}
        self.plan = {
            "ports": self.ports, "hosts": {"localhost": {"address": "127.0.0.1"}},
            "engines": [{"deployment": name, "config": {"max-model-len": 4096}} for name in engines],
            "gateway": {"upstreams": [{"deployment": name, **({"canary": canaries[name]} if name in (canaries or {}) else {}),
                                       "servers": [{"engine": f"{name}-{port}", "address": at, "port": port, "weight": 1}
                                                   for port in ports]} for name, ports in engines.items()]}}
        self.variables = {"gateway_engine_key": engine_key, "gateway_client_ca": str(client_ca or ""), **variables}
        if client_ca:
            shutil.copy(client_ca, self.root / "idc_llm/client_ca.pem")
        for file in ROOT.glob("roles/gateway/files/*.lua"):
            shutil.copy(file, folder / "lib")
        certificate(self.root / "idc_llm")
        self.context = ssl.create_default_context(cafile=str(self.root / "idc_llm/server.pem"))
        places = Places(str(self.root / "idc_llm/engines.json"), str(folder / "states"), str(self.root / "idc_llm/engines"),
                        str(folder / "mark"), str(folder / "lock"))
        self.balancer = Balancer(places, lambda: None)
        self.write()
        self.nginx()

    def write(self):
        """The role's templates, with the places of a machine changed to this folder."""
        values = {"gateway_tenants": self.tenants, "idc_llm_plan": self.plan, "__gateway_folder": str(self.root),
                  "__gateway_lib": str(self.folder / "lib"), "__gateway_key_file": "idc_llm/server.key",
                  "__gateway_meter": str(self.folder / "meter"), "__gateway_logs": str(self.folder / "log"),
                  "ansible_python_interpreter": sys.executable, **self.variables}
        (self.folder / "values.json").write_text(json.dumps(values))
        (self.folder / "values.json").chmod(0o600)
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", ROOT / "tests/integration/gateway.yml", "-e",
             f"@{self.folder}/values.json"], cwd=ROOT, text=True, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"})
        assert done.returncode == 0, done.stdout
        for name in ("keys.map", "engine_key.conf"):
            (self.root / name).rename(self.root / "idc_llm" / name)
        conf = self.root / "nginx.conf"
        text = conf.read_text()
        # with the PROXY protocol the role itself listens at 127.0.0.1, for who asks on the host
        here = "0.0.0.0" if self.inside else "127.0.0.2" if self.variables.get("gateway_proxy_protocol") else "127.0.0.1"
        listen = f"{here}:{self.ports['gateway']}"
        for here, there in (("/run/nginx.pid", f"{self.root}/pid"), ("/var/log/nginx", f"{self.folder}/log"),
                            ("load_module modules/", "load_module /usr/lib/nginx/modules/"), ("user www-data;", "user root;"),
                            (f"listen {self.ports['gateway']}", f"listen {listen}")):
            assert here in text, here
            text = text.replace(here, there)
        places = " ".join(f"{kind}_temp_path {self.root}/t;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf.write_text(text.replace("http {", "http { " + places, 1))
        self.balancer.apply()

    def nginx(self, *words):
        done = subprocess.run([*self.inside, NGINX, "-p", self.root, "-c", "nginx.conf", *words], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout

    def check_configuration(self):
        """By gixy. missing_resolver is skipped: each name that proxy_pass makes is an upstream block of addresses, nothing is
        resolved."""
        done = subprocess.run([Path(sys.executable).with_name("gixy"), "--skips", "missing_resolver", self.root / "nginx.conf"],
                              text=True, check=False, capture_output=True)
        assert done.returncode == 0 and "No issues found" in done.stdout, done.stdout + done.stderr

    def ask(self, path="/v1/chat/completions", key="", body=None, method=None, timeout=20, certificate=None, **headers):
        """An Answer; body: a mapping, or text as it is; certificate: (file, key) that the caller shows."""
        context = self.context
        if certificate:
            context = ssl.create_default_context(cafile=str(self.root / "idc_llm/server.pem"))
            context.load_cert_chain(*certificate)
        data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        request = urllib.request.Request(f"https://localhost:{self.ports['gateway']}{path}", data, method=method, headers={
            **({"Authorization": f"Bearer {key}"} if key else {}), "Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=context) as reply:
                return Answer(reply.status, reply.headers, reply.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read().decode())

    def tokens(self):
        """{(tenant, deployment, kind): count} as Prometheus would read it."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['nginx']}/tokens", timeout=10) as reply:
            rows = re.findall(r'idc_llm_tokens_total{tenant="(.*)",deployment="(.*)",kind="(.*)"} (\d+)', reply.read().decode())
        return {(tenant, deployment, kind): int(count) for tenant, deployment, kind, count in rows}

    def audit(self):
        return [json.loads(line) for line in (self.folder / "log/audit.log").read_text().split("\n")[:-1]]

    def line(self, answer):
        """The audit line of an answer, which is written a moment after its caller has it; tokens are counted by then."""
        wanted = answer.headers["X-Request-Id"]
        found = wait_for(lambda: [line for line in self.audit() if line["request_id"] == wanted], 15, 0.01)
        assert found, f"no line for {wanted}"
        return found[0]

    def errors(self):
        return (self.folder / "log/error.log").read_text(errors="replace")

    def close(self):
        self.nginx("-s", "stop")
        assert "writing a global Lua variable" not in self.errors(), "requests share what should be a function's own"
