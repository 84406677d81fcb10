# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One chat request and its verdict: a real token came back, in time. Private to this collection."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._expect import Expect
from ansible_collections.idc.llm.plugins.module_utils._http import Call, HttpFailure, Reply, send

TRANSIENT = ("IDC-PROBE-001", "IDC-PROBE-005", "IDC-PROBE-007", "IDC-PROBE-008", "IDC-PROBE-009")
_FAILURES = {"connect": "IDC-PROBE-001", "tls": "IDC-PROBE-002", "ca": "IDC-PROBE-002", "timeout": "IDC-PROBE-008",
             "cut": "IDC-PROBE-009", "url": "IDC-PROBE-011"}


@dataclass(frozen=True)
class Probe:
    """What to ask, and what is fast enough. Times in seconds, None = no limit."""

    url: str  # base: https://HOST:PORT, with or without /v1
    model: str
    api_key: str = ""
    prompt: str = "Say hello."
    max_tokens: int = 8
    ca_path: str = ""
    server_name: str = ""
    timeout: float = 60.0
    ttft_max_s: float | None = None
    total_max_s: float | None = None
    expect: Expect = Expect()
    extra: Mapping[str, Any] = field(default_factory=dict)  # further fields of the request

    def call(self) -> Call:
        """The HTTP request: streamed, greedy, with the usage at the end."""
        base = self.url.rstrip("/")
        base = base[: -len("/v1")] if base.endswith("/v1") else base
        payload = {
            "model": self.model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return Call(base + "/v1/chat/completions", payload, headers, self.ca_path, self.server_name, self.timeout)


@dataclass(frozen=True)
class Answer:
    """What a stream said. Times in seconds since the request began; ``finished``: the stream said [DONE].

    ``times``: when each event with text came. ``token_ids``: () where the server was not asked for them, or cannot.
    """

    text: str
    completion_tokens: int
    ttft_s: float
    tokens_per_s: float
    error: str
    finished: bool
    times: tuple[float, ...] = ()
    prompt_tokens: int = 0  # 0: the server does not say
    token_ids: tuple[int, ...] = ()


def read_answer(reply: Reply) -> Answer:
    """Put the events of a chat stream together; thinking counts as answer (a reasoning model thinks first)."""
    spoken: list[str] = []
    thought: list[str] = []
    times: list[float] = []
    ids: list[int] = []
    tokens, prompt_tokens, error, finished = 0, 0, "", False
    for at, data in reply.events:
        if data == "[DONE]":
            finished = True
            continue
        try:
            event = json.loads(data)
        except ValueError:
            error = error or "an event that is not JSON"
            continue
        if not isinstance(event, dict):
            continue
        if event.get("error"):
            error = error or _message(event["error"])
        usage = event.get("usage") or {}
        tokens = usage.get("completion_tokens") or tokens
        prompt_tokens = usage.get("prompt_tokens") or prompt_tokens
        for choice in event.get("choices") or []:
            delta = choice.get("delta") or {}
            content = delta.get("content") or ""
            reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
            spoken.append(content)
            thought.append(reasoning)
            ids.extend(choice.get("token_ids") or ())
            if content or reasoning:
                times.append(at)
    tokens = tokens or len(times)
    span = times[-1] - times[0] if times else 0.0
    rate = (tokens - 1) / span if tokens > 1 and span > 0 else (tokens / reply.total_s if reply.total_s > 0 else 0.0)
    text = "".join(spoken) or "".join(thought)
    ttft = times[0] if times else 0.0
    return Answer(text, tokens, ttft, rate, error, finished, tuple(times), prompt_tokens, tuple(ids))


def check(probe: Probe, reply: Reply) -> Answer:
    """The whole answer, as it was expected, or the error that says what is wrong with this reply."""
    seen: dict[str, Any] = {"url": probe.url, "model": probe.model, "status": reply.status}
    body = _redact(reply.body, probe.api_key)  # before it is cut short: half a key is a secret, too
    if probe.expect.status != 200:
        wrong = probe.expect.problem(reply.status, body)
        if wrong:
            raise IdcError("IDC-PROBE-013", detail=wrong, **seen)
        return Answer("", 0, 0.0, 0.0, "", True)
    if reply.status != 200:
        code = {401: "IDC-PROBE-003", 403: "IDC-PROBE-003", 404: "IDC-PROBE-004"}.get(reply.status)
        code = code or ("IDC-PROBE-005" if reply.status >= 500 else "IDC-PROBE-010")
        raise IdcError(code, detail=_body_message(body), **seen)
    answer = read_answer(reply)
    if answer.error:
        raise IdcError("IDC-PROBE-009", detail=_redact(answer.error, probe.api_key), **seen)
    if reply.broken == "timeout":
        detail = f"{answer.completion_tokens} token(s) within {probe.timeout:g} s"
        raise IdcError("IDC-PROBE-008", detail=detail, **seen)
    if reply.broken or (reply.events and not answer.finished):
        raise IdcError("IDC-PROBE-009", detail=f"{answer.completion_tokens} token(s), then no end", **seen)
    if not answer.text:
        raise IdcError("IDC-PROBE-006", **seen)
    wrong = probe.expect.problem(reply.status, _redact(answer.text, probe.api_key))
    if wrong:
        raise IdcError("IDC-PROBE-013", detail=wrong, **seen)
    return answer


def judge(probe: Probe, reply: Reply) -> dict[str, Any]:
    """The module's return values, or the error that says what is wrong with this reply."""
    answer = check(probe, reply)
    for name, value, limit in (
        ("time to first token", answer.ttft_s, probe.ttft_max_s),
        ("total time", reply.total_s, probe.total_max_s),
    ):
        if limit is not None and value > limit:
            detail = f"{name} {value:.3f} s, wanted at most {limit:g} s"
            raise IdcError("IDC-PROBE-007", url=probe.url, model=probe.model, status=reply.status, detail=detail)
    return {
        "status": reply.status,
        "text": answer.text,
        "ttft_s": round(answer.ttft_s, 4),
        "total_s": round(reply.total_s, 4),
        "completion_tokens": answer.completion_tokens,
        "tokens_per_s": round(answer.tokens_per_s, 2),
        "tls_version": reply.tls_version,
    }


def reach(probe: Probe, transport: Callable[[Call], Reply] = send) -> Reply:
    """Send the probe once; whatever came back."""
    try:
        return transport(probe.call())
    except HttpFailure as failure:
        detail = _redact(failure.detail, probe.api_key)
        raise IdcError(_FAILURES[failure.kind], url=probe.url, model=probe.model, detail=detail) from failure


def ask(probe: Probe, transport: Callable[[Call], Reply] = send) -> dict[str, Any]:
    """Send the probe once and judge it."""
    return judge(probe, reach(probe, transport))


def ask_until(
    probe: Probe, retries: int, delay: float, sleep: Callable[[float], None], transport: Callable[[Call], Reply] = send
) -> tuple[dict[str, Any], int]:
    """Ask again after a failure that may pass, at most ``retries`` times; the verdict and the number of attempts."""
    for attempt in range(1, retries + 2):
        try:
            return ask(probe, transport), attempt
        except IdcError as error:
            if error.code not in TRANSIENT or attempt > retries:
                raise
            sleep(delay)
    raise AssertionError("unreachable")


def _redact(text: str, secret: str) -> str:
    return text.replace(secret, "***") if secret else text


def _message(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


def _body_message(body: str) -> str:
    """The server's own words, at most 300 characters: OpenAI's error.message where there is one."""
    try:
        document = json.loads(body)
    except ValueError:
        return " ".join(body.split())[:300] or "no text"
    if isinstance(document, dict):
        found = document.get("error") or document.get("detail") or document.get("message") or document
        return _message(found)[:300]
    return str(document)[:300]
