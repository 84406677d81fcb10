# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real ACME server pebble, and two gateways, each an address of the loopback, that the role's own task files set up."""
from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from cryptography import x509

from tests.support.real_gateway import ROOT, certificate, free_port
from tests.support.waiting import wait_for

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
DOMAIN = "llm.bank.example"
ADDRESSES = {"gw1": "127.0.0.2", "gw2": "127.0.0.3"}
BALANCER = "import json, sys\nprint(json.dumps({'changed': []}))\n"
NGINX = """\
[Service]
PIDFile={root}/pid
ExecStart=/usr/bin/env /usr/sbin/nginx -c {root}/nginx.conf
ExecReload=/bin/kill -HUP $MAINPID
"""


class Pebble:
    """pebble, with a resolver that leads every name to one gateway. key: of external accounts, which are demanded then."""

    def __init__(self, folder: Path, http_port: int, key: str = "") -> None:
        self.folder, self.http_port, self.key = folder, http_port, key
        folder.mkdir()
        certificate(folder)  # of its own HTTPS
        self.ports = {name: free_port() for name in ("acme", "management", "dns", "names")}
        self.directory, self.ca = f"https://localhost:{self.ports['acme']}/dir", folder / "server.pem"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """A fresh one, which knows nobody and signs with a new CA."""
        at = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        settings = {"listenAddress": at["acme"], "managementListenAddress": at["management"], "httpPort": self.http_port,
                    "tlsPort": free_port(), "certificate": str(self.ca), "privateKey": str(self.folder / "server.key"),
                    "externalAccountBindingRequired": bool(self.key),
                    "externalAccountMACKeys": {"kid-1": self.key} if self.key else {}}
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
        commands = (["pebble-challtestsrv", "-dns01", at["dns"], "-management", at["names"], "-http01", "", "-https01", "",
                     "-tlsalpn01", "", "-defaultIPv6", ""],
                    ["pebble", "-config", self.folder / "pebble.json", "-dnsserver", at["dns"]])
        with open(self.folder / "log", "wb") as log:
            self.running = [subprocess.Popen(command, stdout=log, stderr=log, env={
                **os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}) for command in commands]
        assert wait_for(lambda: all(map(self._open, ("acme", "names"))), 20, 0.05), self.log()
        self.leads_to("gw1")

    def _open(self, name: str) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.ports[name])) == 0

    def leads_to(self, gateway: str) -> None:
        """Every name is this gateway's; nobody: where nothing listens."""
        urllib.request.urlopen(f"http://127.0.0.1:{self.ports['names']}/set-default-ipv4",
                               json.dumps({"ip": ADDRESSES.get(gateway, "127.0.0.9")}).encode(), timeout=10).close()

    def stop(self) -> None:
        """End it."""
        for process in self.running:
            process.terminate()
            process.wait(20)
        self.running = []

    def log(self) -> str:
        """What it says."""
        return (self.folder / "log").read_text()

    def asked(self) -> int:
        """How many requests it had."""
        return len(re.findall(r"-> calling handler", self.log()))


class Run:
    """What ansible-playbook said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.rc, self.output = done.returncode, done.stdout + done.stderr
        self.text = re.sub(r"\s+", " ", self.output)
        self.recap = {name: {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", rest)}
                      for name, rest in re.findall(r"^(\w+) +: (ok=.*)$", self.output, re.MULTILINE)}

    def count(self, word: str) -> int:
        """Over both gateways."""
        return sum(row[word] for row in self.recap.values())


class House:
    """Two gateways in one folder that nginx's workers can read."""

    def __init__(self, folder: Path, key: str = "") -> None:
        self.folder, self.port, self.http_port = folder, free_port(), free_port()
        self.pebble = Pebble(folder / "pebble", self.http_port, key)
        self.acme = {"directory": self.pebble.directory, "ca": str(self.pebble.ca), "email": "ops@bank.example",
                     **({"eab": {"kid": "kid-1"}} if key else {})}
        for name in ADDRESSES:
            own = folder / name
            for inner in ("nginx/idc_llm/engines", "nginx/staged/idc_llm/engines", "etc", "log", "meter", "units"):
                (own / inner).mkdir(parents=True)
            shutil.chown(own / "meter", "www-data")
            (own / "balancer.py").write_text(BALANCER)
            (own / "units/nginx.service").write_text(NGINX.format(root=own / "nginx"))
            (own / "units/idc-llm-prober.service").write_text("[Service]\n")
            (own / "python").write_text(f'#!/bin/sh\nUNITS={own}/units exec {sys.executable} "$@"\n')
            (own / "python").chmod(0o755)
        secret = {"tenants": {"one": {"keys": [secrets.token_hex(24)]}}, "engine_key": secrets.token_hex(24), "acme_eab_key": key}
        hosts = {name: {"ansible_connection": "local", "ansible_python_interpreter": str(folder / name / "python"),
                        "at": address, "own_port": free_port()} for name, address in ADDRESSES.items()}
        (folder / "inventory").mkdir()
        (folder / "inventory/hosts.json").write_text(json.dumps({"gateways": {"hosts": hosts}, "gpu_nodes": {"hosts": {"gone": {
            "ansible_host": "192.0.2.1"}}}}))
        place = f"{folder}/{{{{ inventory_hostname }}}}"
        self.plan = {"ports": {"gateway": f"{{{{ at }}}}:{self.port}", "nginx": "{{ own_port }}"}, "engines": [],
                     "hosts": {name: {"address": address} for name, address in ADDRESSES.items()}, "gateway": {"upstreams": []}}
        self.variables = {
            "idc_llm_plan": self.plan, "idc_llm_domain": DOMAIN, "gateway_domain": DOMAIN,
            "gateway_ca_dir": str(folder / "ca"), "gateway_acme_eab_key": key, "idc_llm_secrets": secret,
            "idc_llm_deployments": [{"name": "tiny", "model": "demo/tiny", "revision": "r1"}],
            "__gateway_root": f"{place}/nginx", "__gateway_etc": f"{place}/etc", "__gateway_logs": f"{place}/log",
            "__gateway_meter": f"{place}/meter", "__gateway_lib": str(ROOT / "roles/gateway/files"),
            "__gateway_pid": f"{place}/nginx/pid",
            "__gateway_balancer": f"{place}/balancer.py", "__gateway_challenges": f"{place}/challenges",
            "__gateway_acme_port": f"{{{{ at }}}}:{self.http_port}"}

    def renew(self, *options: str, **variables: object) -> Run:
        """What the timer runs."""
        return self.run(*options, playbook=ROOT / "playbooks/certificates.yml", **variables)

    def run(self, *options: str, playbook: str | Path = ROOT / "tests/integration/acme.yml", **variables: object) -> Run:
        """The play on both gateways."""
        given = {**self.variables, "gateway_acme": self.acme, **variables}
        (self.folder / "values.json").write_text(json.dumps(given))
        (self.folder / "values.json").chmod(0o600)
        return Run(subprocess.run(
            [PLAYBOOK, "-i", self.folder / "inventory", playbook, "-e", f"@{self.folder}/values.json", *options], cwd=ROOT,
            capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_NOCOLOR": "1",
                 "ANSIBLE_PIPELINING": "1", "PATH": f"{ROOT}/tests/support:{os.environ['PATH']}"}))

    def shown(self, gateway: str) -> x509.Certificate:
        """The certificate that callers see."""
        return x509.load_pem_x509_certificate(ssl.get_server_certificate((ADDRESSES[gateway], self.port), timeout=10).encode())

    def plain(self, path: str, gateway: str = "gw1", method: str = "GET") -> tuple[int, str]:
        """Status and body of what is served without TLS."""
        try:
            request = urllib.request.Request(f"http://{ADDRESSES[gateway]}:{self.http_port}{path}", method=method)
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def kept(self) -> Path:
        """What the controller keeps of this ACME server."""
        (found,) = (self.folder / "ca/acme").iterdir()
        return found

    def close(self) -> None:
        """End what runs."""
        self.pebble.stop()
        for file in self.folder.glob("gw*/nginx/pid"):
            os.kill(int(file.read_text()), signal.SIGTERM)


def issuer(one: x509.Certificate) -> str:
    """Who signed it."""
    return one.issuer.rfc4514_string()
