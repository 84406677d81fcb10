# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small fetcher around the real Chooser, for the lab of distribute.py: threads, http.client, sha256.

``share.py CONFIG``: a JSON file {files: [{path, size, sha256}], hosts, me, origin, folder, jobs, timeout, lie, result}. To put
the real module in its place, start model_fetch with ``peers`` and ``sources`` instead and write the same result.
"""
from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from urllib.parse import urlsplit

from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import Assignment, Chooser, PeerFiles, View
from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry

PART = ".part"
LOOKS = 50  # looks at listings in a second, over all peers; half of it while every stream is busy
CHUNK = 1 << 20


class Busy(Exception):
    """The peer serves as many streams as it may."""


class Fetcher:
    """Everything of one node; ``lock`` guards all that is shared."""

    def __init__(self, config: dict) -> None:
        self.config = config
        self.files = [FileEntry(**row) for row in config["files"]]
        self.hosts, self.me, self.origin = config["hosts"], config["me"], config["origin"]
        self.chooser = Chooser(self.files, self.hosts, self.me, config["jobs"], origin_streams=config["origin_streams"])
        self.lock = threading.Condition()
        self.todo, self.have, self.busy = list(self.files), set(), {}
        self.peers: dict[str, PeerFiles] = {}
        self.bad: set[tuple[str, str]] = set()
        self.count: Counter[str] = Counter()
        self.over = threading.Event()
        self.times: list[float] = []

    def run(self) -> dict:
        begin = time.time()
        for host in self.hosts:
            if host != self.me:
                threading.Thread(target=self.watch, args=(host,), daemon=True).start()
        workers = [threading.Thread(target=self.work) for _number in range(self.config["jobs"])]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.over.set()
        return {"begin": begin, "end": time.time(), "count": dict(self.count), "times": self.times, "cpu": time.process_time()}

    def watch(self, host: str) -> None:
        connection = None
        while not self.over.is_set():
            try:
                connection = connection or connect(host, 2.0)
                connection.request("GET", "/")
                answer = connection.getresponse()
                rows = {row["name"]: row.get("size", 0) for row in json.loads(answer.read())}
                finished = frozenset(e.path for e in self.files if rows.get(e.path) == e.size)
                seen = PeerFiles(finished, frozenset(e.path for e in self.files if e.path + PART in rows))
                with self.lock:
                    news = self.peers.get(host) != seen
                    self.peers[host] = seen
                    if news:
                        self.lock.notify_all()
            except (OSError, ValueError, http.client.HTTPException):
                connection = None
                with self.lock:
                    self.peers.pop(host, None)
            pause = len(self.hosts) / LOOKS * (1 if len(self.busy) < self.config["jobs"] - 1 else 2)
            self.over.wait(pause * random.uniform(0.8, 1.2))

    def next(self) -> Assignment | None:
        with self.lock:
            while self.todo or self.busy:
                view = View(tuple(self.todo), frozenset(self.have), tuple(self.busy.items()), dict(self.peers), (self.origin,),
                            frozenset(self.bad), time.monotonic())
                choice = self.chooser.next(view) if self.todo else None
                if choice:
                    self.todo.remove(choice.entry)
                    self.busy[choice.entry.path] = choice.source
                    return choice
                self.lock.wait(0.06)
            self.lock.notify_all()
            return None

    def work(self) -> None:
        lines: dict[str, http.client.HTTPConnection] = {}
        while True:
            choice = self.next()
            if choice is None:
                return
            entry, source = choice.entry, choice.source
            problem = None
            try:
                if not self.bring(entry, source, lines):
                    problem = "wrong"
            except Busy:
                problem = "busy"
            except (OSError, http.client.HTTPException):
                problem = "cut"
                lines.pop(source, None)
            with self.lock:
                del self.busy[entry.path]
                if problem is None:
                    self.have.add(entry.path)
                    self.times.append(time.time())
                    self.count["origin" if source == self.origin else "peer"] += 1
                else:
                    self.todo.append(entry)
                    self.count[problem] += 1
                    if problem == "busy":
                        self.chooser.refused(source, time.monotonic())
                    elif source != self.origin:
                        self.bad.add((entry.path, source))
                        if problem == "cut":
                            self.peers.pop(source, None)
                self.lock.notify_all()

    def bring(self, entry: FileEntry, source: str, lines: dict) -> bool:
        line = lines.get(source) or connect(source, self.config["timeout"])
        lines[source] = line
        line.request("GET", "/" + entry.path)
        answer = line.getresponse()
        if answer.status != 200:
            answer.read()
            raise Busy() if answer.status == 503 else OSError(answer.status)
        target = os.path.join(self.config["folder"], entry.path)
        digest, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
        with open(target + PART, "wb", buffering=0) as out:
            while count := answer.readinto(buffer):
                digest.update(buffer[:count])
                out.write(buffer[:count])
            right = digest.hexdigest() == entry.sha256
            if right and self.config.get("lie"):
                out.seek(entry.size // 2)
                out.write(b"wrong bytes")
        if right:
            os.rename(target + PART, target)
        else:
            with suppress(OSError):
                os.unlink(target + PART)
        return right


def connect(url: str, timeout: float) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).hostname, urlsplit(url).port, timeout=timeout)


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as stream:
        config = json.load(stream)
    time.sleep(config.get("delay", 0.0))
    result = Fetcher(config).run()
    with open(config["result"], "w", encoding="utf-8") as out:
        json.dump(result, out)


if __name__ == "__main__":
    main()
