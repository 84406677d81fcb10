# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of molecule `luks` as the tests see them: commands on them, plays, and the bytes of their disks from outside."""
from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.luks.machine import Machine, machines
from tests.support.fleet import BIN, INVENTORY, RECAP, ROOT, Run

STATE = ROOT / "inventories/.state/luks"
STORE, CACHE = "/var/lib/idc_llm/store", "/var/lib/idc_llm/cache"
PLAY_S, BOOT_S, HEAL_S = 2400, 600, 400     # what a machine that has other work as well needs
KEYS = "/etc/idc_llm/luks/keys"
CONVERGE = "molecule/luks/converge.yml"
# commands come as JSON: no quoting, one connection for many
ASK = """import json, subprocess, sys
def run(command):
    done = subprocess.run(command, shell=True, text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return done.returncode, done.stdout
print(json.dumps([run(command) for command in json.load(sys.stdin)]))"""


def say(words: str) -> None:
    """To the screen at once, past pytest."""
    print(f"    {time.strftime('%T')} {words}", file=sys.__stderr__, flush=True)


@dataclass
class Watch:
    """What the controller's processes say of themselves, looked at ten times a second."""

    seen: set[bytes] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """One look at all processes."""
        for process in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    self.seen.add((process / name).read_bytes().replace(b"\0", b" "))
                except OSError:
                    continue

    def run(self) -> None:
        """Until told to stop."""
        while not self.done.wait(0.1):
            self.look()


class Lab:
    """node1, tang1, and the controller's side of them."""

    def __init__(self) -> None:
        self.dir = STATE / "lab"
        both = machines(self.dir)
        self.node, self.tang = both["node1"], both["tang1"]
        self.logs = STATE / "log"
        self.logs.mkdir(exist_ok=True)
        self.watch = Watch()
        self.count = len(list(self.logs.glob("*.log")))
        self.words: set[bytes] = set()      # keys and passphrases that nobody may find anywhere
        self.keyfiles: set[bytes] = set()   # of these, those which lie on the root file system

    def passphrase(self, text: str = "") -> str:
        """The recovery passphrase of the site's vault, or another one from now on; remembered as a word to look for."""
        if text:
            (self.dir / "recovery").write_text(text)
        text = (self.dir / "recovery").read_text()
        self.words.add(text.encode())
        return text

    def learn_keys(self, name: str) -> None:
        """Every key that opens a volume now, and the volume's own: words to look for at the end."""
        device = CONTAINERS[name]
        for token in json.loads(self.said(f"cryptsetup luksDump --dump-json-metadata {device}")[0])["tokens"].values():
            slot, file = token["keyslots"][0], f"/run/lab-key-{token['keyslots'][0]}"
            given = f"clevis luks pass -d {device} -s {slot}" if token["type"] == "clevis" else f"cat {KEYS}/{name}*"
            _made, key, dump, _gone = self.said(
                f"umask 077; {given} > {file}", f"base64 -w0 {file}",
                f"cryptsetup luksDump -q --dump-volume-key --key-slot {slot} --key-file {file} {device}", f"rm {file}")
            self.words.add(base64.b64decode(key))
            if token["type"] != "clevis":
                self.keyfiles.add(base64.b64decode(key))
            octets = bytes.fromhex("".join(re.findall(r"\b[0-9a-f]{2}\b", dump.partition("MK dump:")[2])))
            assert len(octets) == 64, dump
            self.words |= {octets, octets.hex().encode(), base64.b64encode(octets)}

    def ask(self, *commands: str, on: str = "node1", timeout: float = 400) -> list[tuple[int, str]]:
        """(exit status, what it printed) of each command, as root."""
        done = subprocess.run(["ssh", "-F", self.dir / "ssh_config", on, f"sudo python3 -I -c '{ASK}'"], text=True, check=False,
                              capture_output=True, input=json.dumps(commands), timeout=timeout)
        if done.returncode:
            raise AssertionError(f"{on}: {commands}: {done.stdout}{done.stderr}")
        return [(code, said.strip()) for code, said in json.loads(done.stdout)]

    def said(self, *commands: str, on: str = "node1", timeout: float = 400) -> list[str]:
        """What each command printed; each must succeed."""
        answers = self.ask(*commands, on=on, timeout=timeout)
        for command, (code, text) in zip(commands, answers, strict=True):
            assert code == 0, f"{on}: {command}: {text}"
        return [text for _code, text in answers]

    def put(self, path: str, text: str) -> None:
        """Write a file of mode 0600; what it holds is in no argument."""
        subprocess.run(["ssh", "-F", self.dir / "ssh_config", "node1", f"sudo install -m 0600 /dev/stdin {path}"], check=True,
                       text=True, input=text, timeout=60)

    def run(self, *arguments: str, until: str = "", times: int = 1, then: Callable[[], object] | None = None,
            **variables: object) -> Run:
        """A play as an operator runs it, its output kept; variables go by a file. until: killed with all its processes while the
        task of that name is at work, at that time of several; then: what is done before."""
        self.count += 1
        log, extra = self.logs / f"{self.count:02}.log", self.dir / "extra.json"
        extra.touch(0o600)
        extra.write_text(json.dumps(variables))
        began = time.monotonic()
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PYTHONUNBUFFERED": "1",
                       "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true",     # else a task is named with its first result
                       "ANSIBLE_TIMEOUT": "60",                     # sudo asks late under QEMU's translation
                       "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
                       "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(STATE / "facts")}
        words = [BIN / "ansible-playbook", "-i", INVENTORY, "--diff", "-v", *arguments, "-e", f"@{extra}"]
        with open(log, "w") as out:
            play = subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.STDOUT)
        try:
            while play.poll() is None:
                if until and len(re.findall(rf"^TASK \[(?:.* : )?{until}\]", log.read_text(), re.M)) == times:
                    time.sleep(1)
                    if then:
                        then()
                    os.killpg(play.pid, signal.SIGKILL)
                assert time.monotonic() - began < PLAY_S, f"{arguments}: see {log}"
                time.sleep(0.2)
        finally:
            if play.poll() is None:
                os.killpg(play.pid, signal.SIGKILL)
                play.wait()
        text = log.read_text()
        rows = {host: {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", line)} for host, line in RECAP.findall(text)}
        took = time.monotonic() - began
        say(f"play {self.count}: {took:.0f} s, rc {play.returncode}: {' '.join(arguments)} {' '.join(variables)}")
        return Run(play.returncode, text, rows)

    def boot_id(self) -> str:
        """Another one after each boot; "" while nobody answers."""
        try:
            return self.said("cat /proc/sys/kernel/random/boot_id", timeout=30)[0]
        except (AssertionError, subprocess.TimeoutExpired):
            return ""

    def rebooted(self) -> None:
        """Restart node1, and wait until SSH answers."""
        before = self.boot_id()
        self.ask("systemctl reboot --no-block")
        self.up(before)

    def up(self, before: str = "") -> None:
        """Wait until SSH answers, in another boot than that one."""
        began = time.monotonic()
        subprocess.run(["ssh", "-F", self.dir / "ssh_config", "-O", "exit", "node1"], check=False, capture_output=True)
        while self.boot_id() in ("", before):
            assert time.monotonic() - began < BOOT_S, (self.node.folder / "console.log").read_text()[-3000:]
            time.sleep(1)
        say(f"node1 is back after {time.monotonic() - began:.0f} s")

    def show(self, when: str) -> None:
        """What the closing note shows."""
        text = self.said("lsblk -f", *(f"cryptsetup luksDump {device}" for device in CONTAINERS.values()),
                         "systemctl --failed --no-pager", timeout=180)
        (self.logs / f"seen-{when.replace(' ', '-')}.txt").write_text("\n\n".join(text) + "\n")
        print(f"--- {when}", *text, sep="\n")


CONTAINERS = {"models": "/dev/disk/by-id/virtio-models", "cache": "/dev/idc_cache/data"}


def mounted(lab: Lab, *mounts: str) -> bool:
    """Whether there is a volume at each of them."""
    return all(code == 0 for code, _text in lab.ask(*(f"findmnt --mountpoint {mount}" for mount in mounts)))


def digest(machine: Machine, serial: str) -> str:
    """SHA-256 of a whole disk, from outside of the machine."""
    with open(machine.disk(serial), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def holding(words: Iterable[bytes], *files: Path) -> list[str]:
    """Files, or files below folders, in whose bytes one of the words is."""
    every = [file for path in files for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    words, found = list(words), []
    for file in every:
        tail = b""
        with open(file, "rb") as stream:
            while block := stream.read(1 << 24):
                if any(word in tail + block for word in words):
                    found.append(str(file))
                    break
                tail = block[-200:]
    return found
