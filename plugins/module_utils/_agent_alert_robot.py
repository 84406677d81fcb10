# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the group robots of DingTalk, WeCom and Feishu of alarms: Alertmanager posts its webhook here, each gets its own JSON.

Runs on the monitors, on the loopback: standard library only, nothing of ansible, Python 3.9+. What a robot did not take is answered
with 502, and Alertmanager comes again with it.

Formats: https://open.dingtalk.com/document/robots/custom-robot-access, https://developer.work.weixin.qq.com/document/path/91770,
https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
"""
from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Mapping, Optional, Sequence

if __package__:  # a part of the collection
    from ansible_collections.idc.llm.plugins.module_utils import _agent_base as base
else:  # a program on a host, with what it needs beside it: python3 -I leaves the folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import _agent_base as base  # type: ignore[import-not-found,no-redef]

MOST_BYTES = 3900  # of a text: WeCom takes 4096
TIMEOUT_S = 10
WORDS = {"en": {"firing": "FIRING", "resolved": "RESOLVED", "more": "… and more: see Alertmanager", "since": "since"},
         "zh": {"firing": "告警", "resolved": "已恢复", "more": "……更多内容请见 Alertmanager", "since": "开始于"}}


@dataclass(frozen=True)
class Robot:
    """One robot: kind (dingtalk, wecom, feishu), url with its key, secret for signatures ("": none), lang of the annotations."""

    kind: str
    url: str
    secret: str = ""
    lang: str = "en"


def cut(text: str, most: int = MOST_BYTES, end: str = "") -> str:
    """No more than so many bytes, whole characters, with a last line that says so."""
    if len(text.encode()) <= most:
        return text
    room = most - len(end.encode()) - 1
    return text.encode()[:room].decode("utf-8", "ignore") + "\n" + end


def annotation(alert: Mapping[str, Any], name: str, lang: str) -> str:
    """An annotation in a language, in English where there is no other."""
    said = alert.get("annotations") or {}
    return str(said.get(f"{name}_{lang}") or said.get(name) or "")


def message(told: Mapping[str, Any], lang: str) -> tuple[str, str]:
    """(title, text) of what Alertmanager posted: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config"""
    words = WORDS.get(lang, WORDS["en"])
    alerts = list(told.get("alerts") or ())
    status = words["firing" if told.get("status") == "firing" else "resolved"]
    names = sorted({str((alert.get("labels") or {}).get("alertname", "?")) for alert in alerts})
    title = f"[{status}:{len(alerts)}] {', '.join(names)}"
    lines = [title]
    for alert in alerts:
        labels = alert.get("labels") or {}
        where = " ".join(str(labels[key]) for key in ("severity", "host", "deployment", "engine") if labels.get(key))
        state = words["firing" if alert.get("status") == "firing" else "resolved"]
        lines.append(f"- {state} {labels.get('alertname', '?')} ({where}), {words['since']} {str(alert.get('startsAt', ''))[:19]}")
        for name in ("summary", "description", "runbook"):
            text = annotation(alert, name, lang)
            if text:
                lines.append(f"  {' '.join(text.split())}")
    return title, cut("\n".join(lines), end=words["more"])


def signature(key: str, text: str) -> str:
    """HMAC-SHA256 in base64."""
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


def request(robot: Robot, title: str, text: str, now: float) -> tuple[str, dict[str, Any]]:
    """(url, JSON) that this kind of robot wants."""
    if robot.kind == "dingtalk":
        url = robot.url
        if robot.secret:
            stamp = str(int(now * 1000))
            sign = urllib.parse.quote_plus(signature(robot.secret, f"{stamp}\n{robot.secret}"))
            url += f"{'&' if '?' in url else '?'}timestamp={stamp}&sign={sign}"
        return url, {"msgtype": "markdown", "markdown": {"title": title, "text": text.replace("\n", "\n\n")}}
    if robot.kind == "wecom":
        return robot.url, {"msgtype": "markdown", "markdown": {"content": text}}
    body: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
    if robot.secret:  # Feishu signs the empty text with stamp and secret as the key
        stamp = str(int(now))
        body = {"timestamp": stamp, "sign": signature(f"{stamp}\n{robot.secret}", ""), **body}
    return robot.url, body


def problem_of(answer: bytes) -> str:
    """Why a robot did not take it, "" where it did: they all answer 200, with a code inside."""
    try:
        said = json.loads(answer)
        code = next((said[key] for key in ("errcode", "code", "StatusCode") if key in said), None)
        return "" if code == 0 else f"code {code}: {str(said.get('errmsg') or said.get('msg') or '')[:200]}"
    except (ValueError, TypeError, AttributeError):
        return "its answer is not JSON"


def send(robot: Robot, told: Mapping[str, Any]) -> str:
    """Tell a robot; why it did not work, without the address, which holds the key."""
    url, body = request(robot, *message(told, robot.lang), time.time())
    try:
        asked = urllib.request.Request(url, data=json.dumps(body, ensure_ascii=False).encode(),
                                       headers={"Content-Type": "application/json; charset=utf-8"})
        with urllib.request.build_opener().open(asked, timeout=TIMEOUT_S) as answer:
            return problem_of(answer.read(1 << 16))
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except OSError as error:
        return str(getattr(error, "reason", error)).replace(robot.url, "its address")
    except (ValueError, http.client.HTTPException) as error:  # their texts quote the address, or a part of it
        return type(error).__name__


def settings(path: str) -> tuple[int, dict[str, Robot]]:
    """(port, robots by name) of the JSON file that the role writes. Raises OSError, ValueError."""
    with open(path, encoding="utf-8") as stream:
        raw = json.load(stream)
    try:
        return int(raw["port"]), {str(name): Robot(**row) for name, row in raw["robots"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error!r}") from error


class Handler(BaseHTTPRequestHandler):
    """POST /NAME with Alertmanager's JSON."""

    robots: Mapping[str, Robot] = {}

    def do_POST(self) -> None:
        """Pass it on; the status says whether it arrived."""
        robot = self.robots.get(self.path.strip("/"))
        if robot is None:
            self._answer(404)
            return
        try:
            told = json.loads(self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 1 << 22)))
            if not isinstance(told, dict):
                raise ValueError("no object")
        except ValueError:
            self._answer(400)
            return
        problem = send(robot, told)
        if problem:
            base.complain(f"{self.path.strip('/')} did not take it: {problem}")
        self._answer(502 if problem else 200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Each request in the journal is too many."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Entry point: until it is stopped."""
    parser = argparse.ArgumentParser(description="Tell group robots of alarms.")
    parser.add_argument("--config", required=True, help="JSON file with port and robots")
    options = parser.parse_args(argv)
    try:
        port, robots = settings(options.config)
        server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"robots": robots}))
    except (OSError, ValueError) as error:
        base.complain(f"the robots' bridge cannot start: {error}")
        return 2
    base.say(f"listens on 127.0.0.1:{port} for {', '.join(sorted(robots))}")
    base.notify("READY=1")
    server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
