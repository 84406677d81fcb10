#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of NVIDIA's driver and its companions."""
from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_stack_info
short_description: What a host has of NVIDIA's driver and its companions
version_added: "0.1.0"
author:
  - The idc.llm founders (@idc-llm)
description:
  - Looks at cards, packages, kernel modules, libraries, Fabric Manager, Secure Boot and what runs, all at once.
    Changes nothing, and needs no driver.
  - What is not there is left empty; P(idc.llm.nvidia_plan#filter) decides what it means.
extends_documentation_fragment:
  - idc.llm._common
options:
  kernel:
    description: The kernel that the module has to be there for. Empty for the running one.
    type: str
    default: ""
  candidates:
    description: Packages whose candidate and versions are wanted, of dnf headers alone. C({kernel}) is for the kernel.
    type: list
    elements: str
    default: []
  keyrings:
    description: Files with keys of repositories. Their fingerprints are returned.
    type: list
    elements: path
    default: []
  sysfs:
    description: Where the kernel shows its devices. Another folder is for tests.
    type: path
    default: /sys
  proc:
    description: Where the kernel shows its processes and settings. Another folder is for tests.
    type: path
    default: /proc
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Look at driver and cards
  idc.llm.nvidia_stack_info:
  register: found
"""

RETURN = r"""
seen:
  description: What was seen, for the filters of the role C(nvidia_stack).
  returned: success
  type: dict
  contains:
    cards:
      description: Accelerators of any vendor and NVSwitches on the PCI bus, with their driver and largest memory window.
      type: list
      elements: dict
    loaded:
      description: Version of the kernel module that runs, empty where none does.
      type: str
    built:
      description: Version of the kernel module on disk for O(kernel).
      type: str
    unbuilt:
      description: What DKMS could not build for O(kernel), C(module) and the compiler's first C(error); empty where it left no log.
      type: dict
    nvml:
      description: Version of the library that programs load.
      type: str
    fabric_manager:
      description: What Fabric Manager says of its version.
      type: str
"""

import glob
import os
import platform
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils import _nvidia_seen as _seen
from ansible_collections.idc.llm.plugins.module_utils._agent_gpu_settings import acs_redirects, bridges
from ansible_collections.idc.llm.plugins.module_utils._host import iommu_state, names, read, read_pci
from ansible_collections.idc.llm.plugins.module_utils._nvidia_table import OTHERS
from ansible_collections.idc.llm.plugins.module_utils._openpgp import fingerprints

LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
MOK_KEYS = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")  # which DKMS signs with: Debian and kin, Ubuntu
MODULES = ("nvidia", "nvidia-current-open", "nvidia-current")  # NVIDIA's own name; Debian's, which modprobe.d makes nvidia of
SECURE_BOOT = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
DKMS = "/var/lib/dkms"
RUNFILES = ("/usr/bin/nvidia-installer", "/usr/bin/nvidia-uninstall")
DEBS = ("debian", "ubuntu")
CDI = "/etc/cdi/nvidia.yaml"
VERSIONLOCK = "/etc/dnf/plugins/versionlock.list"
STREAM = "/etc/dnf/modules.d/nvidia-driver.module"
OURS = re.compile(r"nvidia|cuda|nvlsm|libnv|datacenter-gpu|dkms|linux-headers|kernel-devel")
Run = Callable[[Sequence[str]], Tuple[int, str]]


def binary(path: str, size: int = 4096) -> bytes:
    """The start of a file; nothing where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(size)
    except OSError:
        return b""


def driver_of(folder: str) -> str:
    """The driver of a device; "" without one."""
    link = os.path.join(folder, "driver")
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ""


def window(folder: str) -> int:
    """Bytes of a device's largest memory window."""
    largest = 0
    for line in read(os.path.join(folder, "resource"), 4096).splitlines():
        words = [int(word, 16) for word in line.split() if word.startswith("0x")]
        if len(words) == 3 and words[1]:
            largest = max(largest, words[1] - words[0] + 1)
    return largest


def cards(sysfs: str) -> List[Dict[str, Any]]:
    """Accelerators and NVSwitches."""
    rows = []
    root = os.path.join(sysfs, "bus/pci/devices")
    for address in names(root):
        folder = os.path.join(root, address)
        vendor, device, kind = (read(os.path.join(folder, name)).lower() for name in ("vendor", "device", "class"))
        ours = vendor == _seen.NVIDIA and kind[2:6] in (*_seen.DISPLAY, _seen.BRIDGE)
        # 0300 of another vendor is a screen, as a management card and a processor have one
        if ours or (vendor in OTHERS and kind[2:6] in (*_seen.DISPLAY[1:], _seen.ACCELERATOR)):
            rows.append({"address": address, "vendor": vendor, "device": device, "class": kind, "driver": driver_of(folder),
                         "bar_bytes": window(folder)})
    return rows


def redirecting(sysfs: str) -> List[str]:
    """PCIe bridges above a GPU that send peer traffic up to the root."""
    root = os.path.join(sysfs, "bus/pci/devices")
    return [name for name in bridges(sysfs) if acs_redirects(binary(os.path.join(root, name, "config")))]


def library(folders: Sequence[str]) -> str:
    """Version of libnvidia-ml.so.1, by the file that the link leads to."""
    for folder in folders:
        found = re.search(r"\.so\.(\d+\.[\d.]+)$", os.path.realpath(os.path.join(folder, "libnvidia-ml.so.1")))
        if found:
            return found.group(1)
    return ""


def specification(text: str) -> str:
    """The driver that the containers' device specification was made for, by the libraries that it names."""
    found = re.search(r"libcuda\.so\.(\d+\.[\d.]+\d)", text)
    return found.group(1) if found else ""


def system(text: str) -> Dict[str, str]:
    """Of os-release: id, version, codename."""
    fields = dict(re.findall(r'(?m)^([A-Z_]+)="?([^"\n]*)"?$', text))
    return {"id": fields.get("ID", ""), "version": fields.get("VERSION_ID", ""), "codename": fields.get("VERSION_CODENAME", "")}


def module_version(run: Run, kernel: str) -> str:
    """Of the module nvidia on disk for a kernel; "" without one."""
    for name in MODULES:
        rc, said = run(["modinfo", "-k", kernel, "-F", "version", name])
        if rc == 0 and said.strip():
            return said.strip()
    return ""


def unbuilt(kernel: str) -> Dict[str, str]:
    """What DKMS could not build for a kernel, by the log that it leaves: module, error (the compiler's first); else empty."""
    for log in sorted(glob.glob(f"{DKMS}/nvidia*/*/build/make.log")):
        text = binary(log, 1 << 24).decode("utf-8", "replace")
        made = re.search(r"make\.log for (\S+) for kernel (\S+)", text)
        if made and made.group(2) == kernel:
            error = re.search(r"(?m)^.*(?:\berror: |\*\*\* ).*$", text)
            return {"module": made.group(1), "error": error.group().strip() if error else ""}
    return {}


def secure_boot(sysfs: str) -> bool:
    """The last byte of the firmware's variable says it."""
    return binary(os.path.join(sysfs, SECURE_BOOT))[-1:] == b"\1"


def enrolled(run: Run) -> Optional[bool]:
    """Whether the firmware knows the key that DKMS signs with; None without a key or a mokutil to ask."""
    for key in MOK_KEYS:
        if os.path.exists(key):
            _rc, said = run(["mokutil", "--test-key", key])
            if "is already enrolled" in said:
                return True
            return False if "is not enrolled" in said else None
    return None


def packages(run: Run, debs: bool) -> List[Dict[str, Any]]:
    """Installed packages that have to do with the driver, of dpkg or of rpm."""
    if debs:
        listed = run(["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${db:Status-Abbrev}\n"])[1]
        rows = _seen.parse_dpkg(listed, run(["apt-mark", "showhold"])[1])
    else:
        listed = run(["rpm", "--query", "--all", "--queryformat", "%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\n"])[1]
        rows = _seen.parse_rpm(listed, read(VERSIONLOCK, 1 << 20))
    return [row for row in rows if OURS.search(row["name"])]


def devel(run: Run, wanted: Sequence[str], headers: bool) -> Dict[str, str]:
    """Headers that dnf's lists have, by package: it takes a second, so only where they are missing."""
    found = {}
    for name in wanted:
        if name.startswith("kernel-devel-") and not headers:
            rc, said = run(["dnf", "--quiet", "--cacheonly", "repoquery", "--queryformat", "%{evr}", name])
            found.update({name: said.split()[-1]} if rc == 0 and said.split() else {})
    return found


def engines(run: Run) -> List[str]:
    """Engines that run, or are on their way up or down: units, and containers where Docker runs them."""
    states = "--state=active,activating,reloading,deactivating"
    rc, said = run(["systemctl", "list-units", "--plain", "--no-legend", states, "idc-vllm@*"])
    found = re.findall(r"(?m)^idc-vllm@(\S+)\.service", said) if rc == 0 else []
    rc, said = run(["docker", "ps", "--filter", "label=idc.llm.engine", "--format", '{{.Label "idc.llm.engine"}}'])
    return sorted({*found, *(said.split() if rc == 0 else ())})


def virtual(run: Run) -> str:
    """The kind of virtual machine that the host is, none, or "" where nothing says."""
    rc, said = run(["systemd-detect-virt", "--vm"])
    return "" if rc == 127 else said.strip() or "none"


def look(given: Mapping[str, Any], run: Run) -> Dict[str, Any]:
    """Everything. run: argv → (rc, what it printed)."""
    sysfs, proc = given["sysfs"], given["proc"]
    running = os.uname().release
    kernel = given["kernel"] or running
    lists = [path for end in ("list", "sources") for path in sorted(glob.glob(f"/etc/apt/sources.list.d/*.{end}"))
             if not os.path.basename(path).startswith("idc-llm-")]  # ours tells nothing of what the host has without us
    wanted = [name.replace("{kernel}", kernel) for name in given["candidates"]]
    headers = os.path.isdir(f"/lib/modules/{kernel}/build")
    smi_rc, smi = run(["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"])
    release = system(read("/etc/os-release", 4096))
    debs = release["id"] in DEBS
    policy = run(["apt-cache", "policy", *wanted])[1] if debs and wanted else ""
    offers = _seen.parse_offers(policy)
    return {
        "os": release,
        "arch": platform.machine(),
        "kernel": kernel,
        "running": running,
        "cards": cards(sysfs),
        "packages": packages(run, debs),
        "kernels": {name: module_version(run, name) for name in names("/lib/modules")
                    if os.path.exists(f"/lib/modules/{name}/modules.dep")},
        "candidates": _seen.parse_policy(policy) if debs else devel(run, wanted, headers),
        "offered": {name: offers.get(name, []) for name in wanted} if debs else {},
        "stream": _seen.parse_stream(read(STREAM, 4096)),
        "loaded": read(os.path.join(sysfs, "module/nvidia/version")),
        "proc": read(os.path.join(proc, "driver/nvidia/version")),
        "built": module_version(run, kernel),
        "unbuilt": unbuilt(kernel),
        "nvml": library(LIBRARIES),
        "fabric_manager": run(["nv-fabricmanager", "--version"])[1],
        "fabric_active": run(["systemctl", "is-active", "nvidia-fabricmanager"])[1].strip() == "active",
        "smi": [smi_rc, smi],
        "nouveau": os.path.isdir(os.path.join(sysfs, "module/nouveau")),
        "headers": headers,
        "secure_boot": secure_boot(sysfs),
        "key_enrolled": enrolled(run),
        "runfile": any(map(os.path.exists, RUNFILES)),
        "engines": engines(run),
        "virtual": virtual(run),
        "iommu": iommu_state(sysfs, [card for card in read_pci(sysfs) if card.vendor == "nvidia"]) or "",
        "acs": redirecting(sysfs),
        "cdi": specification(read(CDI, 1 << 20)),
        "fingerprints": {path: fingerprints(binary(path, 1 << 20)) for path in given["keyrings"]},
        "archives": _seen.parse_archives([read(path, 1 << 16) for path in ["/etc/apt/sources.list", *lists]]),
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "kernel": {"type": "str", "default": ""},
            "candidates": {"type": "list", "elements": "str", "default": []},
            "keyrings": {"type": "list", "elements": "path", "default": [], "no_log": False},
            "sysfs": {"type": "path", "default": "/sys"},
            "proc": {"type": "path", "default": "/proc"},
            "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
        },
        supports_check_mode=True,
    )

    def run(argv: Sequence[str]) -> Tuple[int, str]:
        program = module.get_bin_path(argv[0])
        if not program:
            return 127, f"{argv[0]} is not there"
        rc, out, err = module.run_command([program, *argv[1:]], environ_update={"LC_ALL": "C", "LANGUAGE": "C"})
        return rc, out if rc == 0 else out + err

    module.exit_json(changed=False, seen=look(module.params, run))


if __name__ == "__main__":
    main()
