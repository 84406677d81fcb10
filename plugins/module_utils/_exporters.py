# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which exporters a host runs, from where, with which words; what the textfile agent is to tell. Pure; private to this collection.

The catalogue is data (roles/exporters/vars/main.yml); this puts it together with the plan's rows.
"""
from __future__ import annotations

import hashlib
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._deployment import mapping_errors
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._memory import UTILISATION

GPU = ("auto", "dcgm", "nvitop", "none")
ARCHIVE = ("file", "sha256", "program")
ROOT = "/opt/idc_llm/exporters"
MONITORING = ("prometheus.service", "prometheus-alertmanager.service", "idc-llm-alert-robot.service")


def gpu_exporter(wish: str, offered: bool) -> str:
    """dcgm, nvitop or none. offered: the host's package lists have NVIDIA's exporter, or an archive is pinned."""
    return ("dcgm" if offered else "nvitop") if wish == "auto" else wish


def exporters(plan: Mapping[str, Any], host: str, catalogue: Mapping[str, Mapping[str, Any]], gpu: str = "none",
              archives: Optional[Mapping[str, Mapping[str, str]]] = None, certificate: Sequence[str] = (),
              web_file: str = "") -> List[Dict[str, Any]]:
    """The exporters of a host, in the order of the plan's rows.

    gpu: what gpu_exporter says; certificate: paths of certificate and key where they are to speak TLS; web_file: the file of the
    exporter toolkit, which says the same and the password. Each has ``job``, ``entry`` (its name in the catalogue), ``source``
    (package, archive or venv), ``unit``, ``replaces`` (the package's unit, where an archive takes its place), ``program``,
    ``arguments`` (a list), ``address``, ``port``, ``path`` and ``scheme``.
    """
    found = []
    for row in plan["scrape"]:
        if row["host"] != host or (row["job"] not in catalogue and row["job"] != "gpu"):
            continue
        name = gpu if row["job"] == "gpu" else row["job"]
        if name == "none":
            continue
        entry = catalogue[name]
        archive = (archives or {}).get(name)
        source = "archive" if archive else "venv" if entry.get("venv") else "package"
        own = source != "package"
        words = [*entry["listen"], *entry.get("arguments", [])]
        arguments = [str(word).format(address=row["address"], port=row["port"]) for word in words]
        if certificate:
            arguments += [str(word).format(web=web_file, certificate=certificate[0], key=certificate[1]) for word in entry["tls"]]
        found.append({
            "job": row["job"], "entry": name, "source": source, "package": "" if own else entry["package"],
            "unit": f"idc-llm-exporter-{name}.service" if own else f"{entry.get('unit', entry['package'])}.service",
            "replaces": f"{entry.get('unit', entry['package'])}.service" if archive else "",
            "dropin": bool(entry.get("dropin")) and not own,
            "program": archive_program(name, archive) if archive else entry["program"], "arguments": arguments,
            "root": bool(entry.get("root")), "address": row["address"], "port": row["port"],
            "scheme": "https" if certificate else "http"})
    return found


def left(plan: Mapping[str, Any], host: str, rows: Sequence[Mapping[str, Any]], catalogue: Mapping[str, Mapping[str, Any]],
         parts: Sequence[str]) -> List[str]:
    """Units that an earlier run started on a host and that the plan no longer wants there.

    rows: what ``exporters`` gave; parts: packaged units that bear a file of ours, so that a site's own exporter is left alone.
    """
    monitor = any(row["host"] == host and row["job"] == "prometheus" for row in plan["scrape"])
    wanted = {row["unit"] for row in rows} | (set(MONITORING) if monitor else set())
    packaged = {f"{entry.get('unit', entry['package'])}.service" for entry in catalogue.values() if "package" in entry}
    found = {f"idc-llm-exporter-{name}.service" for name in catalogue} | (packaged & set(parts))
    found |= {row["replaces"] for row in rows if row["replaces"]} | (set(MONITORING) if MONITORING[0] in parts else set())
    return sorted(found - wanted)


def archive_program(name: str, archive: Mapping[str, str]) -> str:
    """Where a program from an archive lies: another archive, another folder, so that what runs is never overwritten."""
    return f"{ROOT}/{name}-{archive['sha256'][:12]}/{archive['program']}"


def archive_errors(archives: Any, names: Sequence[str]) -> List[IdcError]:
    """What is wrong with exporters_archives."""
    errors = mapping_errors(archives, "exporters_archives", [name for name in names if name != "nvitop"])
    for name, one in (archives or {}).items() if not errors else ():
        errors += mapping_errors(one, f"exporters_archives.{name}", ARCHIVE)
        for key in ARCHIVE:
            if not isinstance(one, Mapping) or not one.get(key):
                errors.append(IdcError("IDC-INV-007", name=f"exporters_archives.{name}.{key}", observed="nothing",
                                       wanted="a value"))
        if isinstance(one, Mapping) and one.get("sha256") and not re.fullmatch("[0-9a-f]{64}", str(one["sha256"])):
            errors.append(IdcError("IDC-INV-007", name=f"exporters_archives.{name}.sha256", observed=one["sha256"],
                                   wanted="64 hexadecimal digits"))
    return errors


def choice_errors(gpu: str, missing: Sequence[str]) -> List[IdcError]:
    """What is wrong with exporters_gpu, and what the role's variables name that is not on the controller."""
    wrong = [] if gpu in GPU else [IdcError("IDC-INV-007", name="exporters_gpu", observed=gpu, wanted=" | ".join(GPU))]
    return wrong + [IdcError("IDC-INV-007", name=path, observed="not on the controller", wanted="a file or folder that is there")
                    for path in missing]


def salt(host: str) -> str:
    """bcrypt's salt: always the same for a host, so that a second run writes the same file, and another for others.

    It stands in clear beside the hash: with anything of the password in it, guesses could be tried on the salt alone, and fast.
    """
    return hashlib.sha256(host.encode()).hexdigest()[:21] + "u"  # of the last character only two bits count


def textfile(plan: Mapping[str, Any], host: str, gpus: Sequence[Mapping[str, Any]], acceptance_file: str, metrics_dir: str,
             store_root: str, units: Sequence[str]) -> Dict[str, Any]:
    """The settings of the textfile agent (``_agent_textfile.Settings``). gpus: of this run's facts, for their indices."""
    me = plan["hosts"][host]
    indices = {str(gpu.get("uuid")): str(gpu.get("index")) for gpu in gpus}
    reserved = [
        {"engine": engine["name"], "deployment": engine["deployment"], "gpu": uuid, "index": indices.get(uuid, ""),
         "share": float(engine["config"].get("gpu-memory-utilization", UTILISATION))}
        for engine in plan["engines"] if engine["host"] == host for uuid in engine["gpus"]]
    rows = plan["stores"].get(host, ())
    models = [row["model"] for row in rows]
    stores = {row["model"] if models.count(row["model"]) == 1 else f"{row['model']}@{row['revision']}": row["path"] for row in rows}
    settings: Dict[str, Any] = {
        "metrics_dir": metrics_dir, "gpu_expected": int(me.get("gpus", 0)), "reserved": reserved, "units": list(units),
        "store_root": store_root, "stores": stores}
    if "gpu_nodes" in me["groups"]:
        settings["acceptance_file"] = acceptance_file
    if "gateways" in me["groups"]:
        settings.update(
            audit_file="/var/log/idc_llm/audit.log", audit_kept="/var/lib/idc_llm/watching/audit.json",
            upstreams_file="/etc/nginx/idc_llm/engines.json", upstreams_dir="/var/lib/idc_llm/gateway/engines",
            tokens_url=f"http://127.0.0.1:{plan['ports']['nginx']}/tokens")
    return settings
