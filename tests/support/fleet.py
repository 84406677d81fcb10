"""A fleet that stands, seen from the controller: playbooks as an operator runs them, the endpoint as a user calls it."""
from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLEET = os.environ.setdefault("IDC_LLM_FLEET", "demo")
OWN = ROOT / "molecule" / FLEET / "inventory"  # of a scenario whose hosts are not the demo's
INVENTORY = OWN if OWN.exists() else ROOT / "inventories/demo"
RECAP = re.compile(r"^(\S+)\s+: (ok=.*)$", re.MULTILINE)
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Run:
    """One ansible-playbook run: exit code, everything printed, the recap by host."""

    rc: int
    output: str
    recap: dict[str, dict[str, int]]

    def total(self, word: str) -> int:
        """Sum of one recap column over all hosts."""
        return sum(row[word] for row in self.recap.values())


def playbook(*arguments: str, **environment: str) -> Run:
    """Run a playbook of the checkout on the fleet."""
    done = subprocess.run([BIN / "ansible-playbook", "-i", INVENTORY, *arguments], cwd=ROOT, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", **environment}, timeout=900)
    rows = {host: {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", line)}
            for host, line in RECAP.findall(done.stdout)}
    return Run(done.returncode, done.stdout, rows)


@dataclass(frozen=True)
class Answer:
    """What came back over HTTPS. arrivals: seconds after the request at which each line arrived."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)
    arrivals: tuple[float, ...] = ()


@dataclass(frozen=True)
class Fleet:
    """The inventory's own words, and calls to its endpoint."""

    variables: dict[str, dict]
    groups: dict[str, list[str]]

    @property
    def state(self) -> Path:
        """Where the controller keeps keys, CA and plan of this fleet."""
        return Path(next(iter(self.variables.values()))["idc_llm_state_dir"]).resolve()

    @property
    def port(self) -> int:
        """The gateway's port on this machine's loopback."""
        return int(next(iter(self.variables.values()))["fleet_port"])

    @property
    def key(self) -> str:
        """The demo tenant's API key, made at run time."""
        return (self.state / "key-demo").read_text().strip()

    @property
    def plan(self) -> dict:
        """The plan as kept."""
        return json.loads((self.state / "plan.json").read_text())

    def call(self, path: str, key: str | None = "", body: dict | None = None, timeout: float = 60, **tls) -> Answer:
        """One HTTPS request. key "" means the tenant's own, None means none. tls: attributes of the SSL context."""
        context = ssl.create_default_context(cafile=str(self.state / "ca/ca.pem"))
        for name, value in tls.items():
            setattr(context, name, value)
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key or self.key}"
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", headers=headers,
                                         data=json.dumps(body).encode() if body is not None else None)
        start = time.monotonic()
        try:
            with urllib.request.urlopen(request, context=context, timeout=timeout) as reply:
                lines, arrivals = [], []
                for line in reply:
                    lines.append(line)
                    arrivals.append(time.monotonic() - start)
                return Answer(reply.status, b"".join(lines).decode(), dict(reply.headers), tuple(arrivals))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode(), dict(error.headers))

    def chat(self, key: str | None = "", tokens: int = 8, **more) -> Answer:
        """A chat request as any OpenAI client sends it."""
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": tokens,
                "temperature": 0, **more}
        return self.call("/v1/chat/completions", key, body)
