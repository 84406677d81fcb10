# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site wants of its encrypted volumes, checked. Pure, private."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.idc.llm.plugins.module_utils._deployment import mapping_errors
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

PREFIX = "idc_"  # of mapper, LUKS label and volume group, so that they are known as ours
BY_ID = re.compile(r"/dev/disk/by-id/[A-Za-z0-9][A-Za-z0-9._:+@=-]*")
CIPHERS = {"aes-xts-plain64": 512, "sm4-xts-plain64": 256}  # bits of the key: XTS takes two, and SM4 is a 128-bit cipher
UNLOCK = ("tang", "tpm2", "keyfile", "passphrase")
MIN_PASSPHRASE = 20
EARLY = ("/tmp", "/var/tmp", "/var/log/journal")  # in use before a volume is open
VOLUME = ("name", "devices", "mount", "filesystem", "discard")


@dataclass(frozen=True)
class Volume:
    """One entry of ``luks_storage_volumes``."""

    name: str
    devices: tuple[str, ...]
    mount: str
    filesystem: str = "xfs"
    discard: bool = False

    @property
    def label(self) -> str:
        """Of the LUKS header; also the mapper's name and that of the volume group."""
        return PREFIX + self.name

    @property
    def container(self) -> str:
        """The device that carries the LUKS header: the disk, or the stripe over all disks."""
        return self.devices[0] if len(self.devices) == 1 else f"/dev/mapper/{self.label}-data"

    @property
    def unit(self) -> str:
        """systemd's name for its mount, as systemd-escape makes it."""
        inner = self.mount.strip("/")
        inner = ("\\x2e" + inner[1:] if inner.startswith(".") else inner).replace("-", "\\x2d")
        return inner.replace("/", "-") + ".mount"


@dataclass(frozen=True)
class Tang:
    """Servers by address (url) with the thumbprint of a key that signs their advertisement, "" where it is not known now."""

    servers: tuple[tuple[str, str], ...] = ()
    threshold: int = 1


@dataclass(frozen=True)
class Wanted:
    """All that the inventory says."""

    volumes: tuple[Volume, ...]
    cipher: str
    allow_format: tuple[str, ...]
    unlock: tuple[str, ...]
    tang: Tang
    pcr_ids: str
    pcr_bank: str
    keyfile: str
    allow_plain_keyfile: bool
    allow_plain_memory: bool
    dry: bool = False  # check mode: a Tang server that the role is yet to set up has no thumbprint


def parse_wanted(given: Mapping[str, Any]) -> tuple[Wanted, list[IdcError]]:
    """The inventory's words and all that is wrong with them.

    given: the role's variables without their prefix; ``recovery`` is the length of the passphrase, never the passphrase;
    ``tang_group``: the servers of the inventory's group, for where ``tang`` names none.
    """
    errors: list[IdcError] = []

    def wrong(name: str, observed: Any, wanted: str) -> None:
        errors.append(IdcError("IDC-INV-007", name=f"luks_storage_{name}", observed=observed, wanted=wanted))

    volumes = _volumes(given["volumes"], wrong)
    if given["cipher"] not in CIPHERS:
        wrong("cipher", given["cipher"], " | ".join(CIPHERS))
    for device in given["allow_format"]:
        if not BY_ID.fullmatch(str(device)):
            wrong("allow_format", device, "names as /dev/disk/by-id/…, which belong to one disk")
    unlock = list(given["unlock"])
    if not unlock or set(unlock) - set(UNLOCK) or len(set(unlock)) < len(unlock):
        wrong("unlock", unlock, f"some of {', '.join(UNLOCK)}, each once, the preferred one first")
    tang = _tang(given["tang"], given.get("tang_group", ()), "tang" in unlock and bool(volumes), wrong)
    tpm2 = given["tpm2"]
    errors += mapping_errors(tpm2, "luks_storage_tpm2", ("pcr_ids", "pcr_bank"))
    pcr_ids = str((tpm2 or {}).get("pcr_ids", "7"))
    if not re.fullmatch(r"\d{1,2}(,\d{1,2})*", pcr_ids):
        wrong("tpm2.pcr_ids", pcr_ids, "numbers as \"7\" or \"1,7\"")
    keyfile = str(given["keyfile"])
    if "keyfile" in unlock and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", keyfile):
        wrong("keyfile", keyfile, "the path of a folder on the host, as /etc/idc_llm/luks/keys")
    hidden = [*(volume.mount for volume in volumes), "/run", "/tmp", "/dev"]
    if "keyfile" in unlock and any(f"{keyfile}/".startswith(f"{one}/") for one in hidden):
        wrong("keyfile", keyfile, "a folder that is there before any volume is open, and after each boot")
    if volumes:
        if given["recovery"] < MIN_PASSPHRASE:
            wrong("recovery_passphrase", f"{given['recovery']} characters long",
                  f"at least {MIN_PASSPHRASE} in one line, from idc_llm_secrets.luks.recovery")
        if not re.fullmatch(r"age1[a-z0-9]{20,}", str(given["recipient"])):
            wrong("backup_recipient", repr(given["recipient"]), "a public key as age1…, made by age-keygen away from the fleet")
    return Wanted(volumes, str(given["cipher"]), tuple(given["allow_format"]), tuple(unlock), tang, pcr_ids,
                  str((tpm2 or {}).get("pcr_bank", "sha256")), keyfile, bool(given["allow_plain_keyfile"]),
                  bool(given["allow_plain_memory"]), bool(given["dry"])), errors


def _volumes(raw: Any, wrong: Any) -> tuple[Volume, ...]:
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        wrong("volumes", type(raw).__name__, "a list of mappings")
        return ()
    made: list[Volume] = []
    for number, entry in enumerate(raw):
        place = f"volumes[{number}]"
        if not isinstance(entry, Mapping) or set(entry) - set(VOLUME):
            observed = sorted(entry) if isinstance(entry, Mapping) else type(entry).__name__
            wrong(place, observed, f"a mapping with {', '.join(VOLUME)}")
            continue
        volume = Volume(str(entry.get("name", "")), tuple(map(str, entry.get("devices") or ())), str(entry.get("mount", "")),
                        str(entry.get("filesystem", "xfs")), bool(entry.get("discard", False)))
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,15}", volume.name):
            wrong(f"{place}.name", repr(volume.name), "a-z, 0-9 and _, at most 16 characters")
        if not volume.devices or not all(map(BY_ID.fullmatch, volume.devices)):
            wrong(f"{place}.devices", list(volume.devices), "names as /dev/disk/by-id/…, which belong to one disk")
        if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", volume.mount) or {".", ".."} & set(volume.mount.split("/")):
            wrong(f"{place}.mount", repr(volume.mount), "an absolute path, not /")
        if any(f"{volume.mount}/".startswith(f"{early}/") or early.startswith(f"{volume.mount}/") for early in EARLY):
            wrong(f"{place}.mount", repr(volume.mount),
                  f"a folder that the system can do without until it is open: not {', '.join(EARLY)}, below them or around them")
        if not isinstance(entry.get("discard", False), bool):  # "false" would be true
            wrong(f"{place}.discard", repr(entry["discard"]), "true | false, without quotes")
        if volume.filesystem not in ("xfs", "ext4"):
            wrong(f"{place}.filesystem", volume.filesystem, "xfs | ext4")
        made.append(volume)
    for what, taken in (("name", [v.name for v in made]), ("mount", [v.mount for v in made]),
                        ("devices", [device for v in made for device in v.devices])):
        for twice in sorted({one for one in taken if taken.count(one) > 1}):
            wrong(f"volumes[].{what}", f"{twice}, twice", "each once")
    for one in made:
        for other in made:
            if one.mount.startswith(f"{other.mount}/"):
                wrong("volumes[].mount", f"{one.mount} below {other.mount}", "none below another: each opens when it can")
    return tuple(made)


def _tang(raw: Any, group: Sequence[Mapping[str, str]], needed: bool, wrong: Any) -> Tang:
    entry = raw if isinstance(raw, Mapping) else {}
    rows = [row for row in entry.get("servers") or (group if needed else ()) if isinstance(row, Mapping)]
    servers = tuple((str(row.get("url", "")).rstrip("/"), str(row.get("thumbprint", "") or "")) for row in rows)
    threshold = entry.get("threshold", 1)
    if not needed:
        return Tang(servers, 1)
    if not servers or len({url for url, _thumb in servers}) < len(servers):
        wrong("tang.servers", [url for url, _thumb in servers],
              "at least one {url, thumbprint}, each once, or hosts in the group tang_servers")
    for url, _thumb in servers:
        if not re.fullmatch(r"https?://[^\s/\"'\\]+(/[^\s\"'\\]*)?", url):
            wrong("tang.servers[].url", repr(url), "an address as http://10.0.0.5:7500")
    if isinstance(threshold, bool) or not isinstance(threshold, int) or not 1 <= threshold <= max(len(servers), 1):
        wrong("tang.threshold", repr(threshold), f"a number from 1 to {max(len(servers), 1)}, the count of servers")
        return Tang(servers, 1)
    return Tang(servers, threshold)
