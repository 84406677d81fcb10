# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of molecule `luks`, started, stopped, and done to what happens to servers: power cut, disk swapped, cable pulled.

    python -m tests.luks.machine FOLDER up|down     node1 and tang1; their disks, consoles and numbers are in the folder
"""
from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.luks import image
from tests.vm.image import APPEND, SEARCH, accelerator, missing

PORT = int(os.environ.get("IDC_LLM_LUKS_PORT", "22310"))     # SSH of node1; the others and the cable between them follow
MEGA = 1 << 20
FOREIGN = ("cache-b", "foreign", "spare")     # disks with a file system of somebody else's


@dataclass(frozen=True)
class Machine:
    """One machine. The numbers of QEMU's process and the TPM's are in files: nothing else is ever ended."""

    name: str
    state: Path
    number: int
    memory: int
    disks: tuple[tuple[str, int], ...] = ()      # serial and size in MiB
    tpm: bool = False

    @property
    def folder(self) -> Path:
        return self.state / self.name

    @property
    def port(self) -> int:
        return PORT + self.number

    def disk(self, serial: str) -> Path:
        """The raw bytes of a disk, as they lie outside of the machine."""
        return self.folder / f"{serial}.disk"

    def make(self) -> None:
        """Its disks: the root as a layer upon the image, empty ones for data."""
        self.folder.mkdir(parents=True, exist_ok=True)
        root, base = self.folder / "root.qcow2", self.folder / "image"
        if not root.exists():
            base.unlink(missing_ok=True)
            base.symlink_to(image.made())
            below = ["-b", base.resolve() / "disk", "-F", "raw"]
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *below, root], check=True)
        for serial, size in self.disks:
            if not self.disk(serial).exists():
                with open(self.disk(serial), "wb") as file:
                    file.truncate(size * MEGA)
                if serial in FOREIGN:
                    subprocess.run(["mkfs.ext4", "-q", "-L", "theirs", self.disk(serial)], check=True,
                                   env={**os.environ, "PATH": SEARCH})

    def start(self) -> bool:
        """Power on. True if it was off."""
        if self.pid("qemu"):
            return False
        cable = (PORT + 8, PORT + 9) if self.number == 0 else (PORT + 9, PORT + 8)
        command = [
            "qemu-system-x86_64", *accelerator(), "-machine", "pc", "-smp", "1", "-m", str(self.memory), "-display", "none",
            "-daemonize", "-pidfile", "qemu.pid", "-serial", "file:console.log", "-qmp", "unix:qmp,server=on,wait=off",
            "-kernel", "image/kernel", "-initrd", "image/initrd", "-append", f"{APPEND} systemd.hostname={self.name}",
            "-device", "virtio-rng-pci",
            "-blockdev", "driver=qcow2,node-name=root,file.driver=file,file.filename=root.qcow2,discard=unmap",
            "-device", "virtio-blk-pci,drive=root,serial=root",
            "-netdev", f"user,id=out,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=out,romfile=",
            "-netdev", "dgram,id=lan,local.type=inet,local.host=127.0.0.1,local.port={},remote.type=inet,remote.host=127.0.0.1,"
                       "remote.port={}".format(*cable),
            "-device", f"virtio-net-pci,netdev=lan,romfile=,mac=52:54:00:77:07:{self.number:02x}"]
        for serial, _size in self.disks:
            command += ["-blockdev", f"driver=raw,node-name={serial},file.driver=file,file.filename={serial}.disk,discard=unmap",
                        "-device", f"virtio-blk-pci,id=dev-{serial},drive={serial},serial={serial}"]
        if self.tpm:
            (self.folder / "tpm").mkdir(exist_ok=True)
            where = ["--tpmstate", f"dir={self.folder / 'tpm'}", "--pid", f"file={self.folder / 'swtpm.pid'}"]
            subprocess.run(["swtpm", "socket", "--tpm2", *where, "--ctrl", "type=unixio,path=tpm.sock", "--terminate", "--daemon"],
                           cwd=self.folder, check=True)
            command += ["-chardev", "socket,id=tpm,path=tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
                        "-device", "tpm-tis,tpmdev=tpm0"]
        subprocess.run(command, cwd=self.folder, check=True, env={**os.environ, "PATH": SEARCH})
        return True

    def pid(self, what: str) -> int:
        """The number of its process, 0 if it doesn't run; a number that another program has by now is not it."""
        try:
            pid = int((self.folder / f"{what}.pid").read_text())
            return pid if what in Path(f"/proc/{pid}/cmdline").read_text() else 0
        except (OSError, ValueError):
            return 0

    def stop(self) -> bool:
        """Power off, as if the cable were pulled; nothing of it runs afterwards. True if something ran."""
        ran = self.pid("qemu") or self.pid("swtpm")
        for what in ("qemu", "swtpm"):
            for number in (signal.SIGTERM, signal.SIGKILL):
                deadline = time.monotonic() + 5
                while (pid := self.pid(what)) and time.monotonic() < deadline:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                    time.sleep(0.2)
        return bool(ran)

    def ask(self, command: str, **arguments: object) -> object:
        """One command to QEMU itself."""
        with socket.socket(socket.AF_UNIX) as talk:
            here = os.open(".", os.O_RDONLY)
            os.chdir(self.folder)       # a socket's name may have 107 characters only
            try:
                talk.connect("qmp")
            finally:
                os.chdir(here)
                os.close(here)
            lines = talk.makefile("rw")
            lines.readline()
            for words in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                lines.write(json.dumps(words) + "\n")
                lines.flush()
                while "event" in (answer := json.loads(lines.readline())):
                    pass
                if "error" in answer:
                    raise AssertionError(f"{self.name}: {words}: {answer['error']}")
            return answer["return"]

    def swap(self, serial: str, file: str) -> None:
        """Pull a disk, and put one with the same serial and other contents in its place."""
        self.ask("device_del", id=f"dev-{serial}")
        deadline = time.monotonic() + 30
        while True:     # until the guest has let go of it
            try:
                self.ask("blockdev-del", **{"node-name": serial})
                break
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        place = {"driver": "file", "filename": str(self.folder / file)}     # QEMU, as a daemon, is elsewhere
        self.ask("blockdev-add", driver="raw", **{"node-name": serial}, file=place, discard="unmap")
        self.ask("device_add", driver="virtio-blk-pci", id=f"dev-{serial}", drive=serial, serial=serial)


def machines(state: Path) -> dict[str, Machine]:
    """node1 with its disks and TPM, and tang1."""
    disks = (("models", 768), ("cache-a", 384), ("cache-b", 384), ("foreign", 384), ("spare", 384))
    return {"node1": Machine("node1", state, 0, 1536, disks, tpm=True), "tang1": Machine("tang1", state, 1, 512)}


def write_ssh(state: Path) -> None:
    """How to reach the machines, for people, Ansible and testinfra: ssh -F FOLDER/ssh_config node1"""
    base = (state / "node1/image").resolve()
    lines = [f"Host *\n  User ops\n  IdentityFile {base / 'id'}\n  IdentitiesOnly yes\n  HostName 127.0.0.1\n  HostKeyAlias lab\n"
             f"  UserKnownHostsFile {state / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"
             "  ConnectTimeout 10\n  ServerAliveInterval 5\n  ServerAliveCountMax 3\n"
             "  ControlMaster auto\n  ControlPath ~/.ansible/cp/lab-%C\n  ControlPersist 60\n"]
    lines += [f"Host {machine.name}\n  Port {machine.port}\n" for machine in machines(state).values()]
    Path("~/.ansible/cp").expanduser().mkdir(parents=True, exist_ok=True)
    (state / "ssh_config").write_text("".join(lines))
    (state / "known_hosts").write_text("lab " + (base / "host.pub").read_text())


def write_given(state: Path) -> None:
    """What a site has before the first run: a passphrase in its vault, an age key whose private part no play sees, weights."""
    if not (state / "recovery").exists():
        (state / "recovery").touch(0o600)
        (state / "recovery").write_text(secrets.token_hex(20))
        subprocess.run(["age-keygen", "-o", state / "age.key"], check=True, capture_output=True)
        with open(state / "age.pub", "w") as file:
            subprocess.run(["age-keygen", "-y", state / "age.key"], check=True, stdout=file)
        curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        subprocess.run(["openssl", "genpkey", *curve, "-out", state / "record.pem"], check=True)
    subprocess.run([sys.executable, "tests/support/make_tiny_model.py", state / "tiny"], check=True)


def main() -> None:
    state, word = Path(sys.argv[1]).resolve(), sys.argv[2]
    lab = machines(state)
    if word == "up":
        if lacking := missing("qemu-img", "swtpm", "ssh-keygen", "age", "openssl"):
            sys.exit(f"not here: {', '.join(lacking)}; script/bootstrap luks installs them")
        for machine in lab.values():
            machine.make()
        write_ssh(state)
        write_given(state)
        for machine in lab.values():
            if machine.start():
                print(f"started {machine.name}")
    elif word == "down":
        for machine in lab.values():
            if machine.stop():
                print(f"stopped {machine.name}")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
