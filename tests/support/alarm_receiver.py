# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receives alarms as a webhook would, and as DingTalk's, WeCom's and Feishu's robots do: a program of its own, or in a thread.

    python3 alarm_receiver.py ADDRESS PORT FILE     appends what came to FILE, a line of JSON each; GET / gives them all back

A robot's address ends in its kind; signatures are checked as its maker's page says, with the secret "s3cret".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SECRET = "s3cret"


def sign(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), text.encode(), hashlib.sha256)).decode()


def robot_says(kind: str, query: dict[str, list[str]], body: dict) -> dict:
    """The robot's answer: code 0 only for what it understands and what is signed."""
    if kind == "dingtalk":
        stamp = query.get("timestamp", ["0"])[0]
        good = query.get("sign", [""])[0] == sign(SECRET, f"{stamp}\n{SECRET}") and abs(int(stamp) / 1000 - time.time()) < 3600
        good = good and body.get("msgtype") == "markdown" and bool(body["markdown"]["title"]) and bool(body["markdown"]["text"])
        return {"errcode": 0, "errmsg": "ok"} if good else {"errcode": 310000, "errmsg": "sign not match"}
    if kind == "wecom":
        good = (
            body.get("msgtype") == "markdown" and 0 < len(body["markdown"]["content"].encode()) <= 4096 and bool(query.get("key"))
        )
        return {"errcode": 0, "errmsg": "ok"} if good else {"errcode": 93000, "errmsg": "invalid webhook url"}
    good = (
        body.get("sign") == sign(f"{body.get('timestamp')}\n{SECRET}", "")
        and body.get("msg_type") == "text"
        and bool(body["content"]["text"])
    )
    return {"code": 0, "msg": "success"} if good else {"code": 19021, "msg": "sign match fail"}


class Receiver(BaseHTTPRequestHandler):
    """Keeps all that came in ``server.came``: path, time, body."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        where = urllib.parse.urlsplit(self.path)
        kind = where.path.rpartition("/")[2]
        answer = robot_says(kind, urllib.parse.parse_qs(where.query), body) if kind in ("dingtalk", "wecom", "feishu") else {}
        row = {"path": where.path, "at": time.time(), "body": body, "answer": answer}
        with self.server.lock:
            self.server.came.append(row)
            if self.server.file:
                with open(self.server.file, "a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")
        self._send(json.dumps(answer).encode())

    def do_GET(self) -> None:
        with self.server.lock:
            self._send(json.dumps(self.server.came).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments) -> None:
        pass


def make(address: str, port: int, file: str | Path = "") -> ThreadingHTTPServer:
    """A server that does not serve yet."""
    server = ThreadingHTTPServer((address, port), Receiver)
    server.came, server.lock, server.file = [], threading.Lock(), str(file)
    return server


def alerts(came: list[dict], name: str, status: str, **labels: str) -> list[dict]:
    """Alarms of that name and status among what came, with these labels."""
    return [
        {**alert, "came": row["at"]}
        for row in came
        for alert in row["body"].get("alerts", ())
        if alert["labels"].get("alertname") == name
        and alert["status"] == status
        and all(alert["labels"].get(key) == value for key, value in labels.items())
    ]


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]), sys.argv[3]).serve_forever()
