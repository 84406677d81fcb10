# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a fetch is: a line for people, progress.json in the partial folder, a metric for node_exporter. Private.

Ansible shows nothing while a module runs; who wants to see reads the file::

    watch -n 2 jq -r .line /var/lib/idc_llm/store/ORG/NAME/.partial-REVISION/progress.json
"""
from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Deque, Tuple

from ansible_collections.idc.llm.plugins.module_utils._model_store import PROGRESS, human_bytes, some
from ansible_collections.idc.llm.plugins.module_utils._store_files import remove_file, write_text

EVERY = 2.0  # seconds between two writings
RECENT = 4.0  # seconds for which a source counts as one that gives bytes
WINDOW = 30.0  # seconds that the rate is a mean of


@dataclass(frozen=True)
class State:
    """What is known at one moment. Bytes: all of them, those that are here, of these those that were there before."""

    model: str
    revision: str
    phase: str  # proving, fetching, publishing, done, failed
    total: int
    done: int = 0
    kept: int = 0
    rate: float = 0.0  # bytes a second
    files: Tuple[int, int] = (0, 0)  # done, all
    sources: Tuple[str, ...] = ()  # that gave bytes lately
    elapsed: float = 0.0  # seconds

    @property
    def left(self) -> float | None:
        """Seconds to go, None where nobody can say."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    @property
    def line(self) -> str:
        """One line for a person."""
        share = f"{100 * self.done // self.total if self.total else 100} %"
        name = f"{self.model} {self.revision[:12]}"
        head = f"{name}: {self.phase}, {human_bytes(self.done)} of {human_bytes(self.total)} ({share})"
        if self.phase != "fetching":
            return head
        left = "time left unknown" if self.left is None else f"{human_seconds(self.left)} left"
        files = f"{self.files[0]} of {self.files[1]} files"
        origin = f", from {some(self.sources, 3)}" if self.sources else ""
        return f"{head}, {files}, {human_bytes(int(self.rate))}/s, {left}{origin}"

    def as_dict(self) -> dict[str, object]:
        """What stands in progress.json."""
        return {
            "schema": 1, "model": self.model, "revision": self.revision, "phase": self.phase, "line": self.line,
            "bytes": self.total, "bytes_done": self.done, "bytes_kept": self.kept, "files": self.files[1],
            "files_done": self.files[0], "bytes_per_second": int(self.rate), "sources": list(self.sources),
            "seconds_left": None if self.left is None else int(self.left), "seconds": int(self.elapsed),
        }  # fmt: skip

    def as_metrics(self, now: float) -> str:
        """Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/); ``now`` in seconds."""
        labels = f'{{model="{self.model}",revision="{self.revision}"}}'
        rows = (
            ("bytes", "Bytes of the revision.", self.total),
            ("bytes_done", "Bytes of it that are here.", self.done),
            ("bytes_per_second", "Rate of the last half minute.", int(self.rate) if self.phase == "fetching" else 0),
            ("complete", "1 when it is published.", int(self.phase == "done")),
            ("failed", "1 when the last run failed.", int(self.phase == "failed")),
            ("timestamp_seconds", "When this was written.", int(now)),
        )
        parts = []
        for key, words, value in rows:
            name = f"idc_llm_model_fetch_{key}"
            parts.append(f"# HELP {name} {words}\n# TYPE {name} gauge\n{name}{labels} {value}\n")
        return "".join(parts)


def human_seconds(seconds: float) -> str:
    """Seconds for a person: 13 -> '13 s', 800 -> '13 min', 9000 -> '2 h 30 min'."""
    if seconds < 90:
        return f"{int(seconds)} s"
    minutes = int(seconds + 30) // 60
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def mean_rate(samples: Deque[Tuple[float, int]]) -> float:
    """Bytes a second between the first and the last of (seconds, bytes)."""
    if len(samples) < 2 or samples[-1][0] <= samples[0][0]:
        return 0.0
    return max(0.0, (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0]))


def metric_file(folder: str, model: str, revision: str) -> str:
    """Where a revision's metric is written."""
    return os.path.join(folder, f"idc_llm_model_fetch_{model.replace('/', '_')}_{revision}.prom")


class Progress:
    """Counts what streams bring, and writes it down every EVERY seconds while the context is open."""

    def __init__(self, folder: str, model: str, revision: str, metrics_dir: str | None = None) -> None:
        self._file = os.path.join(folder, PROGRESS)
        self._metric = metric_file(metrics_dir, model, revision) if metrics_dir else None
        self._name = (model, revision)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._began = time.monotonic()
        self._phase, self._total, self._kept, self._came = "proving", 0, 0, 0
        self._files = [0, 0]
        self._recent: dict[str, float] = {}  # {source: when it gave bytes last}
        self._samples: Deque[Tuple[float, int]] = deque()

    def phase(self, phase: str, total: int | None = None, files: int | None = None) -> None:
        """Begin another part of the run."""
        with self._lock:
            self._phase = phase
            self._total = self._total if total is None else total
            self._files[1] = self._files[1] if files is None else files
        self._write()

    def count(self, source: str, count: int) -> None:
        """Bytes came from a source; fewer than none where some turned out wrong."""
        with self._lock:
            self._came += count
            self._recent[source] = time.monotonic()

    def keep(self, count: int, files: int = 0) -> None:
        """Bytes were here already."""
        with self._lock:
            self._kept += count
            self._files[0] += files

    def finished(self) -> None:
        """One more file is proven."""
        with self._lock:
            self._files[0] += 1

    def state(self) -> State:
        """Now."""
        now = time.monotonic()
        with self._lock:
            self._samples.append((now, self._came))
            while now - self._samples[0][0] > WINDOW:
                self._samples.popleft()
            recent = tuple(sorted(source for source, at in self._recent.items() if now - at < RECENT))
            return State(*self._name, self._phase, self._total, self._kept + self._came, self._kept, mean_rate(self._samples),
                         (self._files[0], self._files[1]), recent, now - self._began)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self.phase("failed" if kind else "done")
        if not kind:
            remove_file(self._file)

    def _tick(self) -> None:
        while not self._stop.wait(EVERY):
            self._write()

    def _write(self) -> None:
        state = self.state()
        # the fetch matters, not its picture: a full disk is told by who writes the files
        with suppress(OSError):
            if os.path.isdir(os.path.dirname(self._file)):
                write_text(self._file, json.dumps(state.as_dict(), ensure_ascii=False) + "\n", durable=False)
        with suppress(OSError):
            if self._metric:
                write_text(self._metric, state.as_metrics(time.time()), durable=False)
