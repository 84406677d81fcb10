# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of the machines of molecule `luks`: a server as one gets it, with SSH for a user who may sudo.

Packages that take minutes under QEMU's translation are in it already; those of FETCHED lie in apt's cache, so that the roles
install them as anywhere, and the machines need no internet. All machines have one SSH key and one host key, made with the image.
"""
from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import ansible.module_utils
import ansible.release

from tests.vm.image import CACHE, SEARCH, Image

HERE = Path(__file__).parent
PROGRAMS = {"lab-python": HERE / "warm.py", "lab-watch": HERE / "watch.py"}
FETCHED = ("tang", "age", "clevis", "clevis-luks", "clevis-tpm2")
LAN = {"node1": "10.77.7.11", "tang1": "10.77.7.21"}
MODULES = "virtio_pci virtio_blk virtio_net virtio_rng ext4 crc32c"
NETWORK = "[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\n"
ESSENTIAL = (
    'mkdir -p "$1/etc/initramfs-tools/conf.d"',
    'printf "MODULES=list\\nCOMPRESS=gzip\\n" > "$1/etc/initramfs-tools/conf.d/lab"',
    f'printf "%s\\n" {MODULES} > "$1/etc/initramfs-tools/modules"',
)
HOOKS = (
    'chroot "$1" useradd --create-home --shell /bin/bash ops',
    'printf "%s\\n" "ops ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/ops"; chmod 0440 "$1/etc/sudoers.d/ops"',
    'printf "%s\\n" "PermitRootLogin no" "PasswordAuthentication no" "UseDNS no" > "$1/etc/ssh/sshd_config.d/lab.conf"',
    f'printf "{NETWORK}" > "$1/etc/systemd/network/eth0.network"',
    *(f'printf "[Match]\\nName=eth1\\nHost={name}\\n[Network]\\nAddress={address}/24\\nLinkLocalAddressing=no\\n" '
      f'> "$1/etc/systemd/network/eth1-{name}.network"; echo "{address} {name}" >> "$1/etc/hosts"'
      for name, address in LAN.items()),
    'rm -f "$1/etc/resolv.conf"; echo nameserver 10.0.2.3 > "$1/etc/resolv.conf"',
    'mkdir -p "$1/var/log/journal"',
    'chroot "$1" systemctl enable systemd-networkd ssh',
    'chroot "$1" systemctl disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer '
    'dpkg-db-backup.timer nginx',
    # what only takes time at boot here
    'chroot "$1" systemctl mask e2scrub_reap.service systemd-logind.service getty.target systemd-pstore.service '
    'modprobe@fuse.service modprobe@efi_pstore.service modprobe@loop.service sys-kernel-debug.mount sys-kernel-tracing.mount '
    'dev-hugepages.mount dev-mqueue.mount systemd-update-utmp.service serial-getty@ttyS0.service',
    # the image's kernel and initramfs are outside of it: nothing here builds one anew
    'echo update_initramfs=no > "$1/etc/initramfs-tools/update-initramfs.conf"',
    'printf "Dir::Cache::pkgcache \\"\\";\\nAPT::Keep-Downloaded-Packages \\"true\\";\\n" > "$1/etc/apt/apt.conf.d/lab"',
    f'chroot "$1" apt-get clean; chroot "$1" apt-get install -y --download-only --no-install-recommends {" ".join(FETCHED)}',
    'rm -rf "$1"/usr/share/doc "$1"/usr/share/locale "$1"/usr/share/man',
    *(f'printf "[Service]\\nExecStart={command}\\n" > "$1/etc/systemd/system/{name}.service"; '
      f'ln -s ../{name}.service "$1/etc/systemd/system/multi-user.target.wants/"'
      for name, command in (("lab-python", "/usr/local/bin/lab-python --serve"), ("lab-watch", "/usr/local/bin/lab-watch"))),
    ': > "$1/etc/machine-id"; rm -f "$1/etc/hostname"',
)
IMAGE = Image(
    packages=("linux-image-cloud-amd64", "initramfs-tools", "systemd", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "procps",
              "openssh-server", "sudo", "python3", "python3-apt", "ca-certificates", "curl", "psmisc",
              "cryptsetup-bin", "lvm2", "xfsprogs", "e2fsprogs", "jose", "jq", "luksmeta", "tpm2-tools", "nginx-light"),
    hooks=HOOKS, options=("--skip=cleanup/apt", *(f"--essential-hook={hook}" for hook in ESSENTIAL)))


def made() -> Path:
    """The folder with kernel, initrd, disk, the SSH key and the host key; built once."""
    own = hashlib.sha256(b"".join(map(Path.read_bytes, PROGRAMS.values())) + ansible.release.__version__.encode()).hexdigest()[:8]
    folder = CACHE / f"{IMAGE.name}-{own}.luks"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "luks.lock", "w") as lock:     # two clones may start at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            new = folder.with_suffix(".new")
            subprocess.run(["rm", "-rf", new], check=True)
            new.mkdir()
            for name in ("id", "host"):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", new / name], check=True)

            def change(root: Path) -> None:
                for name, source in PROGRAMS.items():
                    shutil.copy(source, root / "usr/local/bin" / name)
                    (root / "usr/local/bin" / name).chmod(0o755)
                library = root / "usr/local/lib/lab/ansible"
                shutil.copytree(Path(ansible.module_utils.__file__).parent, library / "module_utils",
                                ignore=shutil.ignore_patterns("__pycache__"))
                (library / "__init__.py").touch()
                subprocess.run(["chroot", root, "python3", "-m", "compileall", "-q", "/usr/local/lib/lab"], check=True,
                               env={**os.environ, "PATH": SEARCH})
                for old in (root / "etc/ssh").glob("ssh_host_*"):
                    old.unlink()
                for source, target, mode in (("host", "etc/ssh/ssh_host_ed25519_key", 0o600),
                                             ("host.pub", "etc/ssh/ssh_host_ed25519_key.pub", 0o644),
                                             ("id.pub", "home/ops/.ssh/authorized_keys", 0o644)):
                    path = root / target
                    path.parent.mkdir(exist_ok=True)
                    path.write_text((new / source).read_text())
                    path.chmod(mode)

            IMAGE.disk(new, "3G", change)
            new.rename(folder)
    return folder
