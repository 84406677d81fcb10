#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's disks hold, as far as encrypted volumes are concerned."""
from __future__ import annotations

DOCUMENTATION = r"""
module: luks_info
short_description: What a host's disks hold, as far as encrypted volumes are concerned
version_added: "0.1.0"
author:
  - The idc.llm founders (@idc-llm)
description:
  - Looks at disks, signatures, LUKS headers, mounts, swap and the records of the role C(luks_storage), all at once.
    Changes nothing.
  - What is not there yet (a program, a record) is left empty; P(idc.llm.luks_plan#filter) decides what it means.
extends_documentation_fragment:
  - idc.llm._common
options:
  volumes:
    description: The volumes, as P(idc.llm.luks_volumes#filter) gives them.
    type: list
    elements: dict
    required: true
  records:
    description: Folder of the records.
    type: path
    default: /etc/idc_llm/luks
  recovery:
    description: The recovery passphrase. With it the module tells which of the slots 0 and 1 it opens.
    type: str
  previous:
    description: The one before.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Look at the disks
  idc.llm.luks_info:
    volumes: "{{ __luks_storage_given | idc.llm.luks_volumes }}"
  register: found
"""

RETURN = r"""
seen:
  description: What was seen, for the filters of the role C(luks_storage). Holds no key.
  returned: success
  type: dict
  contains:
    opens:
      description: By volume, the slots that O(recovery) and O(previous) open.
      type: dict
    keyfiles:
      description: By volume, the slots that its key file opens.
      type: dict
"""

import errno
import json
import os
from typing import Any, Callable, Mapping, Optional, Sequence

from ansible.module_utils.basic import AnsibleModule

BLANK = 4 << 20  # bytes at the beginning of a disk that have to be zero where nothing else tells that it is empty
LSBLK = ("lsblk", "--json", "--bytes", "--output", "NAME,PATH,TYPE,FSTYPE,MOUNTPOINTS,SIZE,SERIAL,MODEL")
Run = Callable[..., "tuple[int, str]"]


def text_of(path: str) -> str:
    """A file's text, "" where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


def zeros(path: str) -> bool:
    """Whether a device begins with zeros."""
    try:
        with open(path, "rb") as stream:
            return not stream.read(BLANK).strip(b"\0")
    except OSError:
        return False


def entries(folder: str) -> list[str]:
    """Of a folder, none where there is no folder."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def reads(text: str) -> Any:
    """A record; {} where it is torn by a crash: as if there were none, and then nothing is formatted."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def real(path: str) -> str:
    """Without links: lsblk and LVM call /dev/dm-3 by a name that a by-id name does not lead to."""
    return os.path.realpath(path) if path and os.path.exists(path) else ""


def resolved(rows: Sequence[Any]) -> None:
    """Rows of lsblk, each with its ``real`` path."""
    for row in rows:
        row["real"] = real(row.get("path") or "")
        resolved(row.get("children") or ())


def busy(path: str) -> bool:
    """Whether the kernel holds a device for somebody: a mount, swap, a holder, also one that lsblk does not show."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def keyfile_slots(metadata: str) -> list[int]:
    """The key slots that a header says to be a key file's."""
    tokens = json.loads(metadata)["tokens"].values()
    return [int(slot) for token in tokens if token["type"] == "idc-llm-keyfile" for slot in token["keyslots"]]


def look(volumes: Sequence[Mapping[str, Any]], records: str, secrets: Mapping[str, Optional[str]], run: Run) -> dict[str, Any]:
    """Everything. run: argv and data for its standard input → (rc, what it printed)."""
    disks = [device for volume in volumes for device in volume["devices"]]
    paths = {device: real(device) for device in disks}
    there = [device for device in disks if paths[device]]
    headers, opens, keyfiles = {}, {}, {}
    names = {name[:-5] for name in entries(records) if name.endswith(".json")} | {volume["name"] for volume in volumes}
    kept = {name: reads(text_of(f"{records}/{name}.json")) for name in sorted(names)}
    for volume in volumes:
        container, name = volume["container"], volume["name"]
        dump = [run(["cryptsetup", "luksDump", *words, container]) for words in ([], ["--dump-json-metadata"])]
        if all(rc == 0 for rc, _out in dump):
            headers[name] = {"text": dump[0][1], "metadata": dump[1][1]}
            opens[name] = {who: [slot for slot in (0, 1) if _opens(run, container, slot, secret)]
                           for who, secret in secrets.items() if secret}
            keyfiles[name] = [slot for slot in keyfile_slots(dump[1][1]) if _opened_by(run, container, slot, volume.get("keyfile"))]
    blocks = json.loads(run(LSBLK)[1] or '{"blockdevices": []}')
    resolved(blocks["blockdevices"])
    groups = json.loads(run(["pvs", "--reportformat", "json", "--options", "pv_name,vg_name"])[1] or '{"report": []}')
    for row in (row for report in groups["report"] for row in report["pv"]):
        row["pv_name"] = real(row["pv_name"]) or row["pv_name"]
    return {
        "paths": paths,
        "signatures": {device: run(["wipefs", "--json", "--no-act", device])[1] for device in there},
        "zero": [device for device in there if zeros(device)],
        "busy": [device for device in there if busy(device)],
        "lsblk": json.dumps(blocks),
        "pvs": json.dumps(groups),
        "headers": headers,
        "records": kept,
        "recorded": {name: [real(device) for device in record.get("devices", ())] for name, record in kept.items()},
        "opens": opens,
        "keyfiles": keyfiles,
        "full": [volume["mount"] for volume in volumes if entries(volume["mount"])],
        "swaps": text_of("/proc/swaps"),
        "crash": text_of("/sys/kernel/kexec_crash_loaded").strip() == "1",
        "tpm": os.path.exists("/dev/tpmrm0"),
    }


def _opened_by(run: Run, container: str, slot: int, keyfile: Optional[str]) -> bool:
    words = ["cryptsetup", "open", "--test-passphrase", "--key-slot", str(slot), "--key-file", str(keyfile), container]
    return bool(keyfile) and os.path.exists(str(keyfile)) and run(words)[0] == 0


def _opens(run: Run, container: str, slot: int, secret: str) -> bool:
    words = ["cryptsetup", "open", "--test-passphrase", "--key-slot", str(slot), "--key-file", "-", container]
    return run(words, secret)[0] == 0


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "volumes": {"type": "list", "elements": "dict", "required": True},
            "records": {"type": "path", "default": "/etc/idc_llm/luks"},
            "recovery": {"type": "str", "no_log": True},
            "previous": {"type": "str", "no_log": True},
            "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
        },
        supports_check_mode=True,
    )

    def run(argv: Sequence[str], data: Optional[str] = None) -> tuple[int, str]:
        program = module.get_bin_path(argv[0])
        if not program:
            return 127, ""
        rc, out, _err = module.run_command([program, *argv[1:]], data=data, binary_data=True,
                                           environ_update={"LC_ALL": "C", "LANGUAGE": "C"})
        return rc, out if rc == 0 else ""

    given = module.params
    secrets = {"recovery": given["recovery"], "previous": given["previous"]}
    module.exit_json(changed=False, seen=look(given["volumes"], given["records"], secrets, run))


if __name__ == "__main__":
    main()
