# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told of alarms, and how: Alertmanager's configuration, what the robots' bridge needs. Pure; private to this collection."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.idc.llm.plugins.module_utils._deployment import nearest
from ansible_collections.idc.llm.plugins.module_utils._errors import LANGUAGES, IdcError, Said

SEVERITIES = ("page", "warning", "info")
ROBOTS = ("dingtalk", "wecom", "feishu")  # group robots: told by our own bridge, which knows their JSON and signatures
KINDS = ("mail", "webhook", "wechat", *ROBOTS)
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
ALWAYS = "Watchdog"  # fires for as long as Prometheus and Alertmanager work
NOBODY = "nobody"
# one fault, one word: while the first fires, the second is not told about the same thing
SILENCES = (
    ("HostDown", "TargetDown|EngineDown|Engine.+|Gateway.+|Gpu.+|Luks.+|Store.+", "host"),
    ("EngineDown", "EngineNoTokens|EngineQueueGrows|GatewayEngineOut", "engine"),
    ("EngineKvCacheFull", "EngineKvCacheHigh", "engine"),
    ("CertificateExpiresSoon", "CertificateExpires", "instance"),
    ("ErrorBudgetBurnsFast", "ErrorBudgetBurns|ErrorBudgetBurnsSlowly", "deployment"),
)
USELESS = "a key without effect"
URL = re.compile(r"https?://[^\s/]\S*")
HOST_PORT = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([1-9]\d{0,4})")
SWITCHES = ("watchdog", "require_tls")
TEXT = Said("text", "文本")
SORTS = ((bool, "boolean"), ((int, float), "number"), (str, "string"), ((list, tuple), "list"), (Mapping, "mapping"))
# what each kind must say, may say, and must and may have as secrets
SAYS: Mapping[str, Tuple[Tuple[str, ...], Tuple[str, ...], Tuple[str, ...], Tuple[str, ...]]] = {
    "mail": (("to", "from", "smarthost"), ("user", "require_tls"), (), ("password",)),
    "webhook": ((), ("url", "ca_file"), (), ("url", "user", "password", "token")),
    "wechat": (("corp_id", "agent_id"), ("to_user", "to_party", "to_tag", "api_url"), ("api_secret",), ()),
    "dingtalk": ((), (), ("url",), ("secret",)), "wecom": ((), (), ("url",), ()), "feishu": ((), (), ("url",), ("secret",)),
}
COMMON = ("name", "kind", "severities", "lang", "watchdog")


@dataclass(frozen=True)
class Receiver:
    """One who is told. severities: of which alarms; watchdog: gets the alarm that always fires, each minute, and nothing else."""

    name: str
    kind: str
    severities: Tuple[str, ...] = ("page", "warning")
    lang: str = "en"
    watchdog: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)
    secret: Mapping[str, str] = field(default_factory=dict)


def receivers(rows: Sequence[Mapping[str, Any]], secrets: Mapping[str, Any], lang: str = "en") -> List[Receiver]:
    """Raises the first of receiver_errors."""
    for error in receiver_errors(rows, secrets):
        raise error
    return [Receiver(row["name"], row["kind"], tuple(row.get("severities") or Receiver.severities), row.get("lang") or lang,
                     bool(row.get("watchdog")), {key: value for key, value in row.items() if key not in COMMON},
                     {key: str(value) for key, value in (secrets.get(row["name"]) or {}).items() if value is not None})
            for row in rows]


def receiver_errors(rows: Any, secrets: Any) -> List[IdcError]:
    """What is wrong with them, of whatever type they are. A secret's value is never said."""
    for whole, value, kind, wanted in (("monitoring_alert_receivers", rows, (list, tuple), "a list"),
                                       ("idc_llm_secrets.alerts", secrets, Mapping, "a mapping")):
        if not isinstance(value, kind):
            return [IdcError("IDC-INV-007", name=whole, observed=_sort(value), wanted=wanted)]
    errors: List[IdcError] = []
    seen: List[str] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            errors.append(IdcError("IDC-INV-007", name=f"monitoring_alert_receivers[{number}]", observed=_sort(row),
                                   wanted="a mapping: {name: …, kind: …}"))
            continue
        name = str(row.get("name") or f"#{number}")
        named = isinstance(row.get("name"), str) and bool(NAME.fullmatch(name)) and name not in [*seen, NOBODY]
        for key, wanted, good in (("name", f"{NAME.pattern}, once", named),
                                  ("kind", " | ".join(KINDS), row.get("kind") in KINDS),
                                  ("lang", " | ".join(LANGUAGES), row.get("lang", "en") in LANGUAGES),
                                  ("severities", "some of " + ", ".join(SEVERITIES), _severities(row.get("severities", ["page"]))),
                                  *((key, "true | false", isinstance(row.get(key, True), bool)) for key in SWITCHES)):
            if not good:
                errors.append(IdcError("IDC-MON-001", receiver=name, key=key, observed=repr(row.get(key)), wanted=wanted))
        seen.append(name)
        if row.get("kind") in KINDS:
            errors += _kind_errors(name, row, secrets.get(name) or {})
    for name in secrets:
        if name not in seen:
            errors.append(IdcError("IDC-MON-002", receiver=name, nearest=nearest(str(name), seen) or "-"))
    return errors


def receiver_warnings(rows: Sequence[Mapping[str, Any]]) -> List[IdcError]:
    """What may be meant, and should be known: of rows without errors."""
    paged = any("page" in (row.get("severities") or Receiver.severities) and not row.get("watchdog") for row in rows)
    return [] if paged else [IdcError("IDC-MON-010")]


def _severities(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(one in SEVERITIES for one in value)


def _sort(value: Any) -> str:
    """What YAML calls it: Ansible's own types have names that nobody knows, and the value may be a secret."""
    if value is None:
        return "null"
    return next((name for kind, name in SORTS if isinstance(value, kind)), type(value).__name__)


def _text(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _host_port(value: Any) -> bool:
    found = HOST_PORT.fullmatch(str(value))
    return found is not None and int(found.group(1)) < 65536


def _kind_errors(name: str, row: Mapping[str, Any], secret: Any) -> List[IdcError]:
    must, may, must_secret, may_secret = SAYS[row["kind"]]
    if not isinstance(secret, Mapping):
        return [IdcError("IDC-MON-001", receiver=name, key="secrets", observed=_sort(secret), wanted="a mapping")]
    errors = [IdcError("IDC-MON-001", receiver=name, key=key, observed="nothing", wanted=f"a value, as its kind is {row['kind']}")
              for key in must if not row.get(key)]
    errors += [IdcError("IDC-MON-001", receiver=name, key=key, observed=USELESS, wanted=nearest(str(key), (*must, *may, *COMMON)))
               for key in row if key not in (*must, *may, *COMMON)]
    errors += [IdcError("IDC-MON-003", receiver=name, key=key, kind=row["kind"]) for key in must_secret if not secret.get(key)]
    if row["kind"] == "webhook" and not row.get("url") and not secret.get("url"):
        errors.append(IdcError("IDC-MON-003", receiver=name, key="url", kind="webhook"))
    secrets = (*must_secret, *may_secret)
    errors += [IdcError("IDC-MON-001", receiver=name, key=f"secrets.{key}", observed=USELESS, wanted=nearest(str(key), secrets))
               for key in secret if key not in secrets]
    said = {**{key: row.get(key) for key in (*must, *may) if key not in SWITCHES},
            **{f"secrets.{key}": secret.get(key) for key in secrets}}
    for key, value in said.items():
        if value and not _text(value):
            errors.append(IdcError("IDC-MON-001", receiver=name, key=key, observed=_sort(value), wanted=TEXT))
        elif value and key.split(".")[-1] in ("url", "api_url") and not URL.fullmatch(str(value)):
            errors.append(IdcError("IDC-MON-001", receiver=name, key=key, observed="something else", wanted="http(s)://…"))
        elif value and key == "smarthost" and not _host_port(value):
            errors.append(IdcError("IDC-MON-001", receiver=name, key=key, observed=repr(value), wanted="HOST:PORT | [IPv6]:PORT"))
    return errors


def alertmanager_config(told: Sequence[Receiver], robot_port: int, wait_s: int, interval_s: int, repeat_h: int) -> Dict[str, Any]:
    """alertmanager.yml, with secrets: https://prometheus.io/docs/alerting/latest/configuration/

    wait_s: how long alarms that belong together are gathered before the first word.
    """
    always = f'alertname="{ALWAYS}"'
    # Each flush of a group asks whether the last word is older than repeat_interval. With both a minute it never quite is, and
    # every other flush is skipped (alertmanager #676, #3370). Newer versions log a warning about this pair at each start.
    routes: List[Dict[str, Any]] = [
        {"matchers": [always], "receiver": one.name, "continue": True, "group_wait": "0s", "group_interval": "1m",
         "repeat_interval": "50s"} for one in told if one.watchdog]
    routes.append({"matchers": [always], "receiver": NOBODY})
    for one in told:
        if not one.watchdog:
            routes.append({"matchers": [f'severity=~"{"|".join(one.severities)}"'], "receiver": one.name, "continue": True})
        if not one.watchdog and "page" in one.severities:  # of a site's own rule, whatever it calls it
            routes.append({"matchers": [f'severity!~"{"|".join(SEVERITIES)}"'], "receiver": one.name, "continue": True})
    return {
        "route": {"receiver": NOBODY, "group_by": ["alertname", "host", "deployment"], "group_wait": f"{wait_s}s",
                  "group_interval": f"{interval_s}s", "repeat_interval": f"{repeat_h}h", "routes": routes},
        "inhibit_rules": [{"source_matchers": [f'alertname="{loud}"'], "target_matchers": [f'alertname=~"{quiet}"'],
                           "equal": [equal]} for loud, quiet, equal in SILENCES],
        "receivers": [{"name": NOBODY}, *({"name": one.name, **_receiver(one, robot_port)} for one in told)],
    }


def _receiver(one: Receiver, robot_port: int) -> Dict[str, Any]:
    said, secret = one.said, one.secret
    if one.kind in ROBOTS:
        return {"webhook_configs": [{"url": f"http://127.0.0.1:{robot_port}/{one.name}", "send_resolved": True, "max_alerts": 30}]}
    if one.kind == "webhook":
        http: Dict[str, Any] = {}
        if secret.get("token"):
            http["authorization"] = {"credentials": secret["token"]}
        elif secret.get("password"):
            http["basic_auth"] = {"username": secret.get("user", ""), "password": secret["password"]}
        if said.get("ca_file"):
            http["tls_config"] = {"ca_file": said["ca_file"]}
        config = {"url": secret.get("url") or said["url"], "send_resolved": not one.watchdog}
        return {"webhook_configs": [{**config, "http_config": http} if http else config]}
    if one.kind == "wechat":
        keys = {key: str(said[key]) for key in ("corp_id", "agent_id", "to_user", "to_party", "to_tag", "api_url") if said.get(key)}
        return {"wechat_configs": [{**keys, "api_secret": secret["api_secret"], "send_resolved": True}]}
    mail: Dict[str, Any] = {"to": said["to"], "from": said["from"], "smarthost": said["smarthost"], "send_resolved": True,
                            "require_tls": bool(said.get("require_tls", True))}
    if secret.get("password"):
        mail.update(auth_username=said.get("user") or said["from"], auth_password=secret["password"])
    return {"email_configs": [mail]}


def robot_settings(told: Sequence[Receiver], port: int) -> Dict[str, Any]:
    """What the bridge reads (``_agent_alert_robot``); {} where there is no robot."""
    robots = {one.name: {"kind": one.kind, "url": one.secret["url"], "secret": one.secret.get("secret", ""), "lang": one.lang}
              for one in told if one.kind in ROBOTS}
    return {"port": port, "robots": robots} if robots else {}
