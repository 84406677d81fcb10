# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the inventory sound? And are the hosts fit? Pure questions over plain data. Private to this collection."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from ansible_collections.idc.llm.plugins.module_utils._deployment import (
    Deployment,
    canary_errors,
    mapping_errors,
    nearest,
    parse_deployment,
)
from ansible_collections.idc.llm.plugins.module_utils._errors import LANGUAGES, IdcError
from ansible_collections.idc.llm.plugins.module_utils._gateway import parse_access, parse_limits
from ansible_collections.idc.llm.plugins.module_utils._model_store import MANIFEST, revision_path
from ansible_collections.idc.llm.plugins.module_utils._ports import PORTS

GROUPS = ("gpu_nodes", "gateways", "monitors")
RETIRED = "retired"
TANG = "tang_servers"  # keys of encrypted volumes: apart from the hosts that have such volumes
MIN_KEY_LENGTH = 32
KEY_TEXT = re.compile(r"[A-Za-z0-9._~+/=-]+")

SSH = 22

# Every variable that carries the collection's prefix; a misspelt one would be silently without effect.
VARIABLES = (
    "idc_llm_address", "idc_llm_allow_unaccepted", "idc_llm_confirm", "idc_llm_contractor", "idc_llm_costs", "idc_llm_customer",
    "idc_llm_deployments", "idc_llm_domain", "idc_llm_exclusive_groups",
    "idc_llm_gpu", "idc_llm_lang", "idc_llm_log_host", "idc_llm_plan", "idc_llm_plan_profile", "idc_llm_ports", "idc_llm_rack",
    "idc_llm_secrets", "idc_llm_secrets_file",
    "idc_llm_sources", "idc_llm_state_dir", "idc_llm_store_root",
)
SECRETS = ("tenants", "engine_key", "hub_token", "modelscope_token", "login_password", "acme_eab_key", "luks", "alerts",
           "exporters_password", "grafana_password")
LUKS = ("recovery", "recovery_previous")
TENANT = ("keys", "require", "certificates", "groups", "acr", "amr", "deployments", "limits")
SOURCES = ("wheels", "wheels_controller", "pip", "pip_list", "pip_ca", "archive", "archive_controller", "archive_sha256", "hf",
           "modelscope", "nvidia", "nvidia_key", "nvidia_containers", "exporters", "exporters_wheels", "gateway_ca", "grafana")

# The oldest Python on a managed host, by ansible-core's minor version, and the package that brings one.
# https://docs.ansible.com/ansible/latest/reference_appendices/release_and_maintenance.html
TARGET_PYTHON = {"2.19": (3, 8), "2.20": (3, 9), "2.21": (3, 9)}
OS_FAMILIES = ("Debian",)


@dataclass(frozen=True)
class Site:
    """What the inventory says: groups (name → hosts), shared variables, and the names of all variables seen."""

    groups: Mapping[str, Sequence[str]]
    variables: Mapping[str, Any]
    names: Sequence[str]


def inventory_errors(site: Site, need_secrets: bool = True) -> list[IdcError]:
    """All that is wrong with the inventory, in the order in which a person would mend it.

    need_secrets: False where nothing is served, so that one can plan before there are keys.
    """
    errors: list[IdcError] = []
    for name in sorted(set(site.names)):
        if name.startswith("idc_llm_") and name not in VARIABLES:
            errors.append(IdcError("IDC-INV-006", name=name, nearest=nearest(name, VARIABLES)))
    lang = site.variables.get("idc_llm_lang", "en")
    if lang not in LANGUAGES:
        errors.append(IdcError("IDC-INV-007", name="idc_llm_lang", observed=lang, wanted=" | ".join(LANGUAGES)))
    errors += mapping_errors(site.variables.get("idc_llm_sources"), "idc_llm_sources", SOURCES)
    errors += _port_errors(site.variables.get("idc_llm_ports"))
    errors += _group_errors(site)
    if need_secrets and site.variables.get("idc_llm_plan_profile") is not None:
        errors.append(IdcError("IDC-INV-020", observed=site.variables["idc_llm_plan_profile"]))
    deployments, wrong = _deployments(site)
    errors += wrong
    secrets = site.variables.get("idc_llm_secrets")
    if secrets is not None or need_secrets:
        errors += _secret_errors(secrets, deployments)
    return errors


def _port_errors(ports: Any) -> list[IdcError]:
    """A port of what watches is closed to all but monitors: 22 would lock everybody out."""
    errors = mapping_errors(ports, "idc_llm_ports", tuple(PORTS))
    if errors:
        return errors
    owners: dict[int, str] = {}
    ports = dict(ports or {})
    for name, value in [*((name, port) for name, port in PORTS.items() if name not in ports), *ports.items()]:
        wrong = isinstance(value, bool) or not re.fullmatch("[0-9]{1,5}", str(value)) or not 0 < int(value) < 65536
        if wrong or int(value) == SSH or int(value) in owners:
            taken = "" if wrong else "which sshd has" if int(value) == SSH else f"which {owners[int(value)]} has"
            errors.append(IdcError("IDC-INV-007", name=f"idc_llm_ports.{name}", observed=f"{value!r}{', ' * bool(taken)}{taken}",
                                   wanted="a number from 1 to 65535 that nothing else has"))
        else:
            owners[int(value)] = name
    return errors


def _group_errors(site: Site) -> list[IdcError]:
    errors = [IdcError("IDC-INV-008", group=group) for group in GROUPS[:2] if not site.groups.get(group)]
    exclusive = [(group, RETIRED) for group in (*GROUPS, TANG)] + [(GROUPS[0], TANG)]
    exclusive += [tuple(pair) for pair in site.variables.get("idc_llm_exclusive_groups") or []]
    for one, other in exclusive:
        for host in site.groups.get(one, ()):
            if host in site.groups.get(other, ()):
                errors.append(IdcError("IDC-INV-009", host=host, one=one, other=other))
    return errors


def _deployments(site: Site) -> tuple[list[Deployment], list[IdcError]]:
    raw = site.variables.get("idc_llm_deployments")
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        return [], [IdcError("IDC-INV-001", where="idc_llm_deployments", observed=repr(raw))]
    good: list[Deployment] = []
    errors: list[IdcError] = []
    for position, entry in enumerate(raw, 1):
        try:
            good.append(parse_deployment(entry, position))
        except IdcError as error:
            errors.append(error)
    nodes = list(site.groups.get("gpu_nodes", ()))
    for index, deployment in enumerate(good):
        for host in deployment.hosts:
            if host not in nodes:
                errors.append(IdcError("IDC-INV-010", deployment=deployment.name, host=host, nearest=nearest(host, nodes)))
        for other in good[:index]:
            if other.name == deployment.name:
                errors.append(IdcError("IDC-INV-011", deployment=deployment.name))
            shared = set(other.hosts or nodes) & set(deployment.hosts or nodes)
            if deployment.port and deployment.port == other.port and shared:
                errors.append(IdcError("IDC-INV-012", one=other.name, other=deployment.name, port=deployment.port,
                                       hosts=", ".join(sorted(shared))))
    return good, errors + ([] if errors else canary_errors(good))


def _secret_errors(secrets: Any, served: Sequence[Deployment]) -> list[IdcError]:
    """Keys are reported by tenant and length, never by value."""
    deployments = [one.name for one in served]
    if not isinstance(secrets, Mapping):
        return [IdcError("IDC-INV-013")]
    errors = mapping_errors(secrets, "idc_llm_secrets", SECRETS) + mapping_errors(secrets.get("luks"), "idc_llm_secrets.luks", LUKS)
    tenants = secrets.get("tenants")
    if not isinstance(tenants, Mapping) or not tenants:
        return [*errors, IdcError("IDC-INV-014")]
    for one in served:
        for name in one.canary.tenants if one.canary else ():
            errors += _tried_by(one, name, tenants)
    owners: dict[str, str] = {}
    for tenant, entry in sorted(tenants.items()):
        if not isinstance(entry, Mapping):
            errors.append(IdcError("IDC-INV-007", name=f"idc_llm_secrets.tenants.{tenant}",
                                   observed=type(entry).__name__, wanted="a mapping with keys: [...]"))
            continue
        errors += mapping_errors(entry, f"idc_llm_secrets.tenants.{tenant}", TENANT)
        try:
            required = parse_access(str(tenant), entry)
            parse_limits(str(tenant), entry.get("limits"), deployments)
        except IdcError as error:
            errors.append(error)
            continue
        keys = entry.get("keys") if "key" in required else []
        if not isinstance(keys, Sequence) or isinstance(keys, str) or "key" in required and not keys:
            errors.append(IdcError("IDC-INV-007", name=f"idc_llm_secrets.tenants.{tenant}.keys",
                                   observed=type(keys).__name__, wanted="a list with at least one key"))
            continue
        for key in map(str, keys):
            errors += _key_errors(key, f"tenant {tenant}")
            if owners.setdefault(key, tenant) != tenant:
                errors.append(IdcError("IDC-INV-016", one=owners[key], other=tenant))
        for wanted in entry.get("deployments") or []:
            if wanted not in deployments:
                errors.append(IdcError("IDC-INV-017", tenant=tenant, deployment=wanted, nearest=nearest(wanted, deployments)))
    return errors + _key_errors(str(secrets.get("engine_key") or ""), "engine_key")


def _tried_by(deployment: Deployment, name: str, tenants: Mapping[str, Any]) -> list[IdcError]:
    """A tenant that a canary names must be one, and one that may use what it is a canary of."""
    of = deployment.canary.of if deployment.canary else ""
    if name not in tenants:
        wanted = f"a tenant of idc_llm_secrets.tenants, perhaps {nearest(name, map(str, tenants))}"
    elif isinstance(tenants[name], Mapping) and of not in (tenants[name].get("deployments") or [of]):
        wanted = f"a tenant that may use {of}"
    else:
        return []
    return [IdcError("IDC-INV-004", deployment=deployment.name, key="canary.tenants", observed=name, wanted=wanted)]


def _key_errors(key: str, owner: str) -> list[IdcError]:
    if len(key) < MIN_KEY_LENGTH:
        return [IdcError("IDC-INV-015", owner=owner, length=len(key), wanted=MIN_KEY_LENGTH)]
    if not KEY_TEXT.fullmatch(key):
        return [IdcError("IDC-INV-018", owner=owner, wanted=KEY_TEXT.pattern)]
    return []


def python_error(host: str, seen: str, core: str) -> Optional[IdcError]:
    """A host whose Python is absent or too old for this ansible-core. seen: "3.9" or "none"; core: "2.19.14"."""
    wanted = TARGET_PYTHON.get(".".join(core.split(".")[:2]), max(TARGET_PYTHON.values()))
    match = re.search(r"(\d+)\.(\d+)", seen)
    if match and (int(match.group(1)), int(match.group(2))) >= wanted:
        return None
    return IdcError("IDC-HOST-001", host=host, observed=match.group(0) if match else "none",
                    wanted=".".join(map(str, wanted)), core=core)


def form_errors(host: str, result: Mapping[str, Any]) -> list[IdcError]:
    """Variables of a role that are not of their type, or made of what is not there. result: of validate_argument_spec, by role."""
    told = result.get("argument_errors") or ([result.get("msg", "")] if result.get("failed") else [])
    return [IdcError("IDC-INV-022", host=host, role=result["item"], observed=text.replace("Task failed: ", "", 1)) for text in told]


@dataclass(frozen=True)
class HostState:
    """What preflight looked at on one host. paths: a path looked for → is it there."""

    name: str
    os_family: str
    distribution: str
    service_manager: str
    addresses: Sequence[str]
    address: str
    paths: Mapping[str, bool]


def host_errors(host: HostState, deployments: Sequence[Deployment], store_root: str, engine: Sequence[str],
                serves: bool, unpushed: str = "") -> list[IdcError]:
    """All that makes this host unfit, before anything on it is changed.

    engine: paths of which one must be there (the folder of wheels, or the release it was installed from);
    serves: the host is one of gpu_nodes; unpushed: what the controller would push to it and does not have.
    """
    errors: list[IdcError] = []
    if host.os_family not in OS_FAMILIES:
        errors.append(IdcError("IDC-HOST-002", host=host.name, observed=host.distribution, wanted=", ".join(OS_FAMILIES)))
    if host.service_manager != "systemd":
        errors.append(IdcError("IDC-HOST-003", host=host.name, observed=host.service_manager))
    if host.address not in host.addresses:
        errors.append(IdcError("IDC-HOST-004", host=host.name, observed=host.address or "none",
                               wanted=", ".join(host.addresses)))
    if not serves:
        return errors
    if engine and not any(host.paths.get(path, True) for path in engine):
        errors.append(IdcError("IDC-HOST-005", host=host.name, path=engine[0]))
    if unpushed:
        errors.append(IdcError("IDC-HOST-005", host="localhost", path=unpushed))
    for deployment in deployments:
        if deployment.hosts and host.name not in deployment.hosts:
            continue
        wanted = media_paths([deployment], store_root)
        remote = [s for s in deployment.sources if not s.startswith("file://")]
        if not remote and not any(host.paths.get(path, True) for path in wanted):
            errors.append(IdcError("IDC-HOST-006", host=host.name, deployment=deployment.name,
                                   paths=", ".join(wanted)))
    return errors


def media_paths(deployments: Sequence[Deployment], store_root: str) -> list[str]:
    """Files of which one on the host proves that a model can be had without a network; a folder needs no manifest."""
    paths: list[str] = []
    for deployment in deployments:
        paths.append(f"{revision_path(store_root, deployment.model, deployment.revision)}/{MANIFEST}")
        folders = [s[len("file://"):].rstrip("/") for s in deployment.sources if s.startswith("file://")]
        paths += [f"{folder}/{name}" for folder in folders for name in (MANIFEST, "config.json")]
    return list(dict.fromkeys(paths))
