#!/usr/bin/env bash
# The definition of the fleet's base image: a small Debian with systemd, SSH and sudo, as a freshly installed server has them.
#     image.sh SUITE TAR     writes the root file system of SUITE (bookworm, trixie) to TAR
# The image's tag carries the hash of this file (script/bootstrap, molecule/shared/create.yml): to edit it is to rebuild.
set -euo pipefail
suite=$1 tar=$2

packages=(
  systemd systemd-sysv dbus            # PID 1, as on a server
  openssh-server sudo                  # how Ansible comes in
  python3 python3-apt python3-venv     # what Ansible needs, and what an engine's venv is made with
  ca-certificates curl iproute2 procps rsync
)

# shellcheck disable=SC2016  # mmdebstrap's hooks expand "$1" (the new root) themselves
hooks=(
  'chroot "$1" useradd --create-home --shell /bin/bash ops'
  'printf "%s\n" "ops ALL=(ALL) NOPASSWD: ALL" > "$1/etc/sudoers.d/ops"; chmod 0440 "$1/etc/sudoers.d/ops"'
  'printf "%s\n" "PermitRootLogin no" "PasswordAuthentication no" "UseDNS no" > "$1/etc/ssh/sshd_config.d/fleet.conf"'
  'rm -f "$1"/etc/ssh/ssh_host_*'      # made at run time, a set for each container
  ': > "$1/etc/machine-id"; rm -f "$1/etc/hostname" "$1/etc/resolv.conf"'
  'touch -d @0 "$1/var/lib/apt/lists"'  # empty, so it has to look old
  'chroot "$1" systemctl mask systemd-udevd.service systemd-udev-trigger.service console-getty.service getty.target'
)

options=(--variant=minbase "--include=$(IFS=,; echo "${packages[*]}")")
for hook in "${hooks[@]}"; do options+=("--customize-hook=$hook"); done
exec mmdebstrap "${options[@]}" "$suite" "$tar"
