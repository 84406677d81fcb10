# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""llm_probe over real sockets: a sound answer, and each way in which one can be unsound."""
from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys

import pytest
from ansible_collections.idc.llm.plugins.module_utils._errors import CATALOGUE, IdcError
from ansible_collections.idc.llm.plugins.module_utils._probe import Probe, ask, ask_until

from tests.support.openai_server import KEY, MODEL, serve


def probe(server, **changes) -> Probe:
    return Probe(**{"url": server.url, "model": MODEL, "api_key": KEY, "timeout": 5.0, **changes})


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A certificate for llm.example.internal and the server's TLS 1.3 context."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:llm.example.internal",
               "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, key)
    return str(cert), context


def test_a_sound_answer():
    with serve() as server:
        result = ask(probe(server))
        request = server.seen[0]
    assert (result["status"], result["text"], result["completion_tokens"]) == (200, "Hello there!", 4)
    assert result["tls_version"] == ""
    assert 0.015 < result["ttft_s"] < result["total_s"] < 5
    assert 5 < result["tokens_per_s"] < 60  # a token each 20 ms
    assert request["payload"] == {
        "model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }


def test_time_to_first_token_is_not_the_time_to_the_first_byte():
    with serve("slow") as server:
        assert ask(probe(server))["ttft_s"] > 0.4


def test_a_v1_in_the_address_is_not_doubled():
    with serve() as server:
        assert ask(probe(server, url=server.url + "/v1/"))["status"] == 200
        assert server.seen[0]["path"] == "/v1/chat/completions"


def test_thinking_is_an_answer_and_tokens_are_counted_without_usage():
    with serve("thinking", "no usage") as server:
        assert ask(probe(server))["text"] == "Hello there!"
        assert ask(probe(server))["completion_tokens"] == 4


def test_no_key_no_header():
    with serve() as server:
        with pytest.raises(IdcError, match="IDC-PROBE-003"):
            ask(probe(server, api_key=""))
        assert "Authorization" not in server.seen[0]["headers"]


@pytest.mark.parametrize(
    ("fault", "changes", "code", "says"),
    [
        ("", {"api_key": "wrong-key-that-is-secret"}, "IDC-PROBE-003", "401"),
        ("", {"model": "other"}, "IDC-PROBE-004", "The model `other` does not exist."),
        ("500", {}, "IDC-PROBE-005", "cannot schedule new futures"),
        ("not json", {}, "IDC-PROBE-005", "Bad Gateway"),
        ("400", {}, "IDC-PROBE-010", "max_tokens must be"),
        ("empty", {}, "IDC-PROBE-006", "without any text"),
        ("slow", {"ttft_max_s": 0.2}, "IDC-PROBE-007", "wanted at most 0.2 s"),
        ("slow", {"total_max_s": 0.2}, "IDC-PROBE-007", "total time"),
        ("hang", {"timeout": 0.4}, "IDC-PROBE-008", "nothing within 0.4 s"),
        ("stall", {"timeout": 0.6}, "IDC-PROBE-008", "2 token(s) within 0.6 s"),
        ("cut", {}, "IDC-PROBE-009", "2 token(s), then no end"),
        ("no end", {}, "IDC-PROBE-009", "then no end"),
        ("error event", {}, "IDC-PROBE-009", "EngineCore encountered an issue"),
        ("drop", {}, "IDC-PROBE-009", "broke off"),
        ("", {"url": "ftp://127.0.0.1"}, "IDC-PROBE-011", "wanted http"),
        ("", {"url": "http://127.0.0.1:99999"}, "IDC-PROBE-011", "Port out of range"),
        ("", {"api_key": "two\nlines-secret"}, "IDC-PROBE-011", "forbids"),
    ],
)
def test_failures_have_a_code_and_hide_the_key(fault, changes, code, says):
    with serve(fault) as server:
        asked = probe(server, **changes)
        with pytest.raises(IdcError) as caught:
            ask(asked)
    assert caught.value.code == code
    assert says in caught.value.render()
    for lang in ("en", "zh"):
        assert asked.api_key not in json.dumps(caught.value.as_result(lang), ensure_ascii=False)


def test_nobody_listens():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refused
        with pytest.raises(IdcError, match="IDC-PROBE-001.*refused"):
            ask(Probe(f"http://127.0.0.1:{closed.getsockname()[1]}", MODEL, timeout=2))


def test_tls_is_verified_by_name_and_authority(tls):
    cert, context = tls
    with serve(context=context) as server:
        asked = probe(server, ca_path=cert, server_name="llm.example.internal")
        assert ask(asked)["tls_version"] == "TLSv1.3"
        assert server.seen[0]["headers"]["Host"] == "llm.example.internal"
        for changes in ({"server_name": ""}, {"ca_path": ""}, {"ca_path": "/does/not/exist.pem"}):
            with pytest.raises(IdcError, match="IDC-PROBE-002"):
                ask(probe(server, **{"ca_path": cert, "server_name": "llm.example.internal", **changes}))


def test_tls_asked_of_a_plain_server():
    with serve() as server, pytest.raises(IdcError, match="IDC-PROBE-002"):
        ask(probe(server, url=server.url.replace("http:", "https:")))


def test_retries_only_what_may_pass():
    naps = []
    with serve("500", "cut", "") as server:
        result, attempts = ask_until(probe(server), retries=5, delay=7, sleep=naps.append)
    assert (result["status"], attempts, naps) == (200, 3, [7, 7])
    with serve("500") as server:
        with pytest.raises(IdcError, match="IDC-PROBE-005"):
            ask_until(probe(server), retries=2, delay=0, sleep=naps.append)
        assert len(server.seen) == 3
        with pytest.raises(IdcError, match="IDC-PROBE-003"):
            ask_until(probe(server, api_key="no"), retries=2, delay=0, sleep=naps.append)
        assert len(server.seen) == 4


def run_module(check=False, **arguments):
    """The module as Ansible runs it: arguments on stdin, one JSON document on stdout."""
    stdin = json.dumps({"ANSIBLE_MODULE_ARGS": {"_ansible_check_mode": check, **arguments}})
    code = (
        "from ansible.module_utils.testing import patch_module_args\n"
        "import json, sys\n"
        "from ansible_collections.idc.llm.plugins.modules import llm_probe\n"
        "with patch_module_args(json.load(sys.stdin)['ANSIBLE_MODULE_ARGS']): llm_probe.main()\n"
    )
    env = {**os.environ, "PYTHONPATH": ".collections"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=env, check=False)
    return json.loads(done.stdout.splitlines()[-1]), done


@pytest.mark.parametrize("check", [False, True])
def test_the_module_reads_only_and_says_the_same_in_check_mode(check):
    with serve("500", "") as server:
        result, _done = run_module(check, url=server.url, model=MODEL, api_key=KEY, retries=1, delay=0)
    assert result["changed"] is False
    assert (result["text"], result["attempts"]) == ("Hello there!", 2)


def test_the_module_fails_in_the_language_asked_for():
    with serve() as server:
        result, done = run_module(url=server.url, model=MODEL, api_key="my-secret-key", lang="zh")
    assert result["failed"] is True
    assert result["error"]["code"] == "IDC-PROBE-003"
    assert result["error"]["remedy"] == CATALOGUE["IDC-PROBE-003"].zh.remedy
    assert "my-secret-key" not in done.stdout + done.stderr
