"""The endpoint as users and intruders meet it."""
from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error

import pytest

from tests.support.fleet import FLEET


def test_chat_answers_over_tls_1_3(fleet):
    answer = fleet.chat()
    assert answer.status == 200
    reply = json.loads(answer.body)
    assert reply["model"] == "tiny" and reply["usage"]["completion_tokens"] > 0
    assert reply["choices"][0]["message"]["content"]


def test_tls_1_2_is_refused(fleet):
    with pytest.raises((ssl.SSLError, urllib.error.URLError)) as caught:
        fleet.call("/health", maximum_version=ssl.TLSVersion.TLSv1_2)
    assert "version" in str(caught.value).lower()


@pytest.mark.parametrize("key", [None, "0" * 48], ids=["none", "wrong"])
def test_without_a_key_there_is_401_in_openai_shape(fleet, key):
    for answer in (fleet.chat(key), fleet.call("/v1/models", key)):
        assert answer.status == 401
        assert {"message", "type", "code"} <= set(json.loads(answer.body)["error"])


@pytest.mark.parametrize("path", ["/metrics", "/tokenize", "/version", "/invocations", "/v1", "/docs", "/"])
def test_only_listed_paths_exist(fleet, path):
    for key in ("", None):
        assert fleet.call(path, key).status == 404


def test_models_names_the_deployment(fleet):
    assert [model["id"] for model in json.loads(fleet.call("/v1/models").body)["data"]] == ["tiny"]


def test_a_stream_is_not_buffered(fleet):
    answer = fleet.chat(tokens=200, stream=True, ignore_eos=True)
    assert answer.status == 200 and answer.body.rstrip().endswith("data: [DONE]")
    first, last = answer.arrivals[0], answer.arrivals[-1]
    assert len(answer.arrivals) > 100 and first < last / 2, f"first line after {first:.2f} s, last after {last:.2f} s"


def test_the_gateway_says_nothing_of_itself(fleet):
    assert fleet.call("/health", None).headers.get("Server", "") in ("", "nginx")


@pytest.mark.skipif(FLEET == "single", reason="Debian 12's nginx speaks no HTTP/3")
def test_http_3_is_spoken_by_a_gateway_that_is_asked_to(fleet):
    asked = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4})
    words = [("url", f"https://127.0.0.1:{fleet.plan['ports']['gateway']}/v1/chat/completions"), ("data", asked),
             ("header", f"Authorization: Bearer {fleet.key}"), ("header", "Content-Type: application/json"),
             ("write-out", " %{http_version}")]
    told = "http3-only\nsilent\nshow-error\ninsecure\n" + "".join(f"{name} = {json.dumps(word)}\n" for name, word in words)
    done = subprocess.run(["ssh", "-F", fleet.state / "ssh/config", fleet.groups["gateways"][0], "curl --config -"], input=told,
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stdout.endswith(" 3"), done.stdout + done.stderr
    assert json.loads(done.stdout.rpartition(" ")[0])["usage"]["completion_tokens"] == 4
    assert "h3=" in fleet.call("/health", None).headers["Alt-Svc"]
