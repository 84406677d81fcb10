"""What group robots are told, and whether they took it; against doubles that check signatures by the makers' pages."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _agent_alert_robot as agent

from tests.support import alarm_receiver

ALERT = {
    "status": "firing",
    "startsAt": "2026-11-30T01:02:03.4Z",
    "labels": {"alertname": "HostDown", "host": "gpu01", "severity": "page"},
    "annotations": {
        "summary": "gpu01 is down.",
        "summary_zh": "gpu01 宕机。",
        "description": "See its console.",
        "runbook": "docs/x.md",
    },
}
TOLD = {"status": "firing", "alerts": [ALERT]}


@pytest.fixture
def robots():
    """The doubles."""
    server = alarm_receiver.make("127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["dingtalk", "wecom", "feishu"])
def test_each_robot_takes_what_it_is_sent(robots, kind):
    url = f"http://127.0.0.1:{robots.server_port}/{kind}?key=k"
    assert agent.send(agent.Robot(kind, url, "s3cret", "zh"), TOLD) == ""
    assert "gpu01 宕机。" in json.dumps(robots.came[0]["body"], ensure_ascii=False)


@pytest.mark.parametrize("kind", ["dingtalk", "feishu"])
def test_a_wrong_secret_is_a_problem_that_is_told_without_the_address(robots, kind):
    problem = agent.send(agent.Robot(kind, f"http://127.0.0.1:{robots.server_port}/{kind}?access_token=hush", "wrong"), TOLD)
    assert problem.startswith("code ") and "hush" not in problem


def test_a_robot_that_is_away_is_a_problem():
    problem = agent.send(agent.Robot("wecom", "http://127.0.0.1:9/wecom?key=hush"), TOLD)
    assert problem and "hush" not in problem


@pytest.mark.parametrize("kind", ["wecom", "dingtalk"])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/robot?key=hush ",
        "http://127.0.0.1:9/robot?key=hush\n",
        "http://127.0.0.1:hush/robot",
        "robot?key=hush",
        "http://[hush/robot",
        "http://127.0.0.1:9/机器?key=hush",
    ],
)
def test_an_address_that_is_none_is_a_problem_that_quotes_nothing_of_it(kind, url):
    problem = agent.send(agent.Robot(kind, url, "s"), TOLD)
    assert problem and "hush" not in problem and "robot" not in problem


def test_signatures_as_the_makers_say():
    # openssl dgst -sha256 -hmac, by hand
    assert alarm_receiver.sign("SEC", "1700000000000\nSEC") == agent.signature("SEC", "1700000000000\nSEC")
    url, _body = agent.request(agent.Robot("dingtalk", "https://x/r?access_token=t", "SEC"), "t", "x", 1700000000.0)
    assert url.startswith("https://x/r?access_token=t&timestamp=1700000000000&sign=") and "+" not in url.partition("sign=")[2]
    _url, body = agent.request(agent.Robot("feishu", "https://x", "SEC"), "t", "x", 1700000000.0)
    assert body["sign"] == agent.signature("1700000000\nSEC", "") and body["timestamp"] == "1700000000"
    assert "sign" not in agent.request(agent.Robot("feishu", "https://x"), "t", "x", 0)[1]


def test_a_language_without_words_of_its_own_falls_back():
    title, text = agent.message(TOLD, "zh")
    assert title == "[告警:1] HostDown" and "gpu01 宕机。" in text and "See its console." in text and "docs/x.md" in text
    assert "page gpu01" in text and "2026-11-30T01:02:03" in text


def test_a_long_text_is_cut_between_characters_and_says_so():
    alert = {**ALERT, "annotations": {"summary_zh": "很长" * 900}}
    text = agent.message({"status": "firing", "alerts": [alert] * 3}, "zh")[1]
    assert len(text.encode()) <= 4096 and text.endswith("……更多内容请见 Alertmanager")


def test_the_bridge_answers_so_that_alertmanager_comes_again(robots, tmp_path):
    base = f"http://127.0.0.1:{robots.server_port}"
    config = tmp_path / "robots.json"
    config.write_text(
        json.dumps(
            {
                "port": 0,
                "robots": {
                    "good": {"kind": "wecom", "url": f"{base}/wecom?key=k"},
                    "bad": {"kind": "dingtalk", "url": f"{base}/dingtalk", "secret": "no"},
                },
            }
        )
    )
    port, known = agent.settings(str(config))
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (agent.Handler,), {"robots": known}))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def post(path, data):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{path}", data=data, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    body = json.dumps(TOLD).encode()
    assert [post("good", body), post("bad", body), post("other", body), post("good", b"{"), post("good", b"[]")] == [
        200,
        502,
        404,
        400,
        400,
    ]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("text", ["{", "{}", '{"port": 1, "robots": {"x": {"kind": "wecom"}}}', '{"port": "x", "robots": {}}'])
def test_a_file_that_is_none_ends_it(tmp_path, text):
    file = tmp_path / "robots.json"
    file.write_text(text)
    assert agent.main(["--config", str(file)]) == 2
