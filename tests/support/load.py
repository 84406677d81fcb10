"""Steady load on a fleet's endpoint: streamed chat answers, and what became of each."""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from http.client import HTTPException
from types import TracebackType

from tests.support.fleet import Fleet


@dataclass(frozen=True)
class Request:
    """One request: seconds since the load began at which it was sent, how long it took, and what was wrong, "" = nothing."""

    sent: float
    took: float
    problem: str


class Load:
    """``clients`` users who each ask again as soon as they have their answer, while the ``with`` block runs.

    An answer counts when it is complete: status 200, as many tokens as asked for, and the end mark of the stream.
    """

    def __init__(self, fleet: Fleet, clients: int = 2, tokens: int = 16) -> None:
        self.requests: list[Request] = []
        self._fleet, self._tokens = fleet, tokens
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._user, daemon=True) for _number in range(clients)]

    def __enter__(self) -> Load:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(150)

    @property
    def problems(self) -> list[str]:
        """What was wrong with those that failed."""
        return [request.problem for request in self.requests if request.problem]

    def said(self, what: str) -> str:
        """A line for the closing note."""
        slowest = max((request.took for request in self.requests), default=0.0)
        return f"{what}: {len(self.requests)} requests, {len(self.problems)} failed or cut, the slowest took {slowest:.1f} s"

    def _user(self) -> None:
        while not self._over.is_set():
            sent = time.monotonic()
            problem = self._ask()
            self.requests.append(Request(sent - self._began, time.monotonic() - sent, problem))
            self._over.wait(1.0)

    def _ask(self) -> str:
        try:
            answer = self._fleet.chat(tokens=self._tokens, stream=True, ignore_eos=True, stream_options={"include_usage": True})
        except (OSError, HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        if answer.status != 200:
            return f"HTTP {answer.status}: {answer.body[:200]}"
        if "data: [DONE]" not in answer.body or f'"completion_tokens":{self._tokens}' not in answer.body:
            return f"cut after {answer.body.count('data: ')} lines: {answer.body[-200:]}"
        return ""
