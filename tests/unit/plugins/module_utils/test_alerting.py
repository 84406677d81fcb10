"""Who is told of alarms."""

from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _alerting as alerting

MAIL = {"name": "night", "kind": "mail", "to": "ops@example.internal", "from": "llm@example.internal", "smarthost": "mail:587"}
ROWS = [
    MAIL,
    {"name": "hook", "kind": "webhook", "severities": ["page"]},
    {"name": "ding", "kind": "dingtalk", "lang": "zh"},
    {"name": "app", "kind": "wechat", "corp_id": "c", "agent_id": 7, "to_party": 2},
    {"name": "beat", "kind": "webhook", "url": "https://beat.example.internal/x", "watchdog": True},
]
SECRETS = {
    "night": {"password": "p1"},
    "hook": {"url": "https://hook/x", "token": "t1"},
    "ding": {"url": "https://ding/robot?access_token=k", "secret": "s"},
    "app": {"api_secret": "a"},
}


def config(rows=None, secrets=None):
    told = alerting.receivers(ROWS if rows is None else rows, SECRETS if secrets is None else secrets)
    return alerting.alertmanager_config(told, 9095, 10, 60, 4)


def test_each_kind_is_told_in_its_way():
    told = {row["name"]: row for row in config()["receivers"]}
    assert told["night"]["email_configs"] == [
        {
            "to": "ops@example.internal",
            "from": "llm@example.internal",
            "smarthost": "mail:587",
            "send_resolved": True,
            "require_tls": True,
            "auth_username": "llm@example.internal",
            "auth_password": "p1",
        }
    ]
    assert told["hook"]["webhook_configs"] == [
        {"url": "https://hook/x", "send_resolved": True, "http_config": {"authorization": {"credentials": "t1"}}}
    ]
    assert told["ding"]["webhook_configs"] == [{"url": "http://127.0.0.1:9095/ding", "send_resolved": True, "max_alerts": 30}]
    assert told["app"]["wechat_configs"] == [
        {"corp_id": "c", "agent_id": "7", "to_party": "2", "api_secret": "a", "send_resolved": True}
    ]
    assert told["nobody"] == {"name": "nobody"}


def test_the_one_that_always_fires_goes_to_its_watchers_each_minute_and_to_nobody_else():
    routes = config()["route"]["routes"]
    always = [route for route in routes if route["matchers"] == ['alertname="Watchdog"']]
    assert [(route["receiver"], route.get("continue", False)) for route in always] == [("beat", True), ("nobody", False)]
    assert (always[0]["group_interval"], always[0]["repeat_interval"]) == ("1m", "50s"), "equal ones skip every other minute"
    assert routes.index(always[1]) == 1, "whoever comes later never sees it"
    assert all(route["continue"] for route in routes[2:]), "one receiver must not hide alarms from the next"
    told = [(route["receiver"], route["matchers"]) for route in routes[2:]]
    assert told[:4] == [
        ("night", ['severity=~"page|warning"']),
        ("night", ['severity!~"page|warning|info"']),
        ("hook", ['severity=~"page"']),
        ("hook", ['severity!~"page|warning|info"']),
    ]


def test_a_severity_that_nobody_knows_is_told_to_whom_pages_are():
    rows = [{**ROWS[1], "severities": ["warning"]}]
    routes = config(rows, {"hook": SECRETS["hook"]})["route"]["routes"]
    assert [route["matchers"] for route in routes[1:]] == [['severity=~"warning"']]


def test_a_page_is_told_soon():
    route = config()["route"]
    assert route["group_wait"] == "10s" and route["receiver"] == "nobody"


def test_what_a_loud_alarm_silences_is_about_the_same_thing():
    for rule in config()["inhibit_rules"]:
        assert rule["equal"] and rule["source_matchers"] and rule["target_matchers"]


def test_the_bridge_gets_robots_alone():
    told = alerting.receivers(ROWS, SECRETS, "en")
    assert alerting.robot_settings(told, 9095) == {
        "port": 9095,
        "robots": {"ding": {"kind": "dingtalk", "url": "https://ding/robot?access_token=k", "secret": "s", "lang": "zh"}},
    }
    assert alerting.robot_settings(alerting.receivers(ROWS[:2], {"hook": SECRETS["hook"]}), 9095) == {}


@pytest.mark.parametrize(
    ("row", "secret", "code", "word"),
    [
        ({"kind": "mail"}, {}, "IDC-MON-001", "name"),
        ({"name": "X y", "kind": "wecom"}, {"url": "https://w/x"}, "IDC-MON-001", "X y"),
        ({"name": "x", "kind": "pager"}, {}, "IDC-MON-001", "dingtalk"),
        ({"name": "x", "kind": "dingtalk"}, {}, "IDC-MON-003", "url"),
        ({"name": "x", "kind": "webhook"}, {}, "IDC-MON-003", "url"),
        ({**MAIL, "too": 1}, {}, "IDC-MON-001", "too"),
        ({"name": "x", "kind": "wecom"}, {"url": "https://w/x", "secret": "s"}, "IDC-MON-001", "secrets.secret"),
        ({"name": "x", "kind": "wecom"}, {"url": "w/x"}, "IDC-MON-001", "url"),
        ({"name": "x", "kind": "wecom"}, "word", "IDC-MON-001", "secrets"),
        ({"name": "x", "kind": "webhook", "url": "http://h", "severities": ["loud"]}, {}, "IDC-MON-001", "severities"),
        ({"name": "x", "kind": "webhook", "url": "http://h", "severities": []}, {}, "IDC-MON-001", "severities"),
        ({"name": "x", "kind": "webhook", "url": "http://h", "lang": "fr"}, {}, "IDC-MON-001", "lang"),
        ({"name": "nobody", "kind": "webhook", "url": "http://h"}, {}, "IDC-MON-001", "name"),
        ({"name": 7, "kind": "webhook", "url": "http://h"}, {}, "IDC-MON-001", "name"),
        ({"name": "x", "kind": ["mail"]}, {}, "IDC-MON-001", "kind"),
        ({"name": "x", "kind": "webhook", "url": "http://h", "severities": [{}]}, {}, "IDC-MON-001", "severities"),
        ({"name": "x", "kind": "webhook", "url": "http://h", 5: 6}, {}, "IDC-MON-001", "5"),
        ({"name": "x", "kind": "webhook", "url": "http://h"}, {5: 6}, "IDC-MON-001", "secrets.5"),
        ({"name": "x", "kind": "webhook", "url": "http://h", "watchdog": "false"}, {}, "IDC-MON-001", "watchdog is 'false'"),
        ({**MAIL, "require_tls": "no"}, {}, "IDC-MON-001", "require_tls is 'no'"),
        ({**MAIL, "smarthost": "mail.example.internal"}, {}, "IDC-MON-001", "HOST:PORT"),
        ({**MAIL, "smarthost": "fd00::1:587"}, {}, "IDC-MON-001", "[IPv6]:PORT"),
        ({**MAIL, "smarthost": "mail:70000"}, {}, "IDC-MON-001", "HOST:PORT"),
        ({**MAIL, "to": ["a@example.internal"]}, {}, "IDC-MON-001", "to is list"),
        ({**MAIL, "from": True}, {}, "IDC-MON-001", "from is boolean"),
        (MAIL, {"password": ["p"]}, "IDC-MON-001", "secrets.password is list"),
        ({"name": "x", "kind": "wecom"}, {"url": "https://w/x?key=k "}, "IDC-MON-001", "secrets.url"),
        ({"name": "x", "kind": "wecom"}, {"url": "https://w/x?key=k\n"}, "IDC-MON-001", "secrets.url"),
        ({"name": "x", "kind": "webhook", "url": "http://h/a b"}, {}, "IDC-MON-001", "url"),
    ],
)
def test_a_receiver_that_cannot_be_told(row, secret, code, word):
    errors = alerting.receiver_errors([row], {row["name"]: secret} if "name" in row else {})
    assert any(error.code == code and word in error.render("en") for error in errors), [error.render() for error in errors]


@pytest.mark.parametrize("smarthost", ["mail:587", "mail.example.internal:25", "10.0.0.5:587", "[fd00::1]:465"])
def test_a_smarthost_with_a_port_will_do(smarthost):
    assert alerting.receiver_errors([{**MAIL, "smarthost": smarthost}], {}) == []


@pytest.mark.parametrize(
    ("rows", "secrets", "word"),
    [
        (["night"], {}, "monitoring_alert_receivers[1] is string"),
        ([None], {}, "monitoring_alert_receivers[1] is null"),
        ("night", {}, "monitoring_alert_receivers is string"),
        ({"night": MAIL}, {}, "monitoring_alert_receivers is mapping"),
        (None, {}, "monitoring_alert_receivers is null"),
        ([MAIL], ["p"], "idc_llm_secrets.alerts is list"),
        ([MAIL], {7: {}}, "idc_llm_secrets.alerts has 7"),
    ],
)
def test_what_is_of_another_type_is_told_in_a_sentence(rows, secrets, word):
    (error,) = alerting.receiver_errors(rows, secrets)
    assert word in error.render("en")


def test_a_secret_without_a_value_is_none():
    rows, secrets = [{**ROWS[1], "kind": "webhook"}], {"hook": {"url": "https://hook/x", "token": None}}
    assert config(rows, secrets)["receivers"][1]["webhook_configs"] == [{"url": "https://hook/x", "send_resolved": True}]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (ROWS, True),
        ([MAIL], True),
        ([], False),
        ([{**MAIL, "severities": ["warning"]}], False),
        ([{**MAIL, "watchdog": True}], False),
    ],
)
def test_that_nobody_gets_pages_is_said(rows, told):
    assert [error.code for error in alerting.receiver_warnings(rows)] == ([] if told else ["IDC-MON-010"])


def test_twice_the_same_name_and_a_secret_for_nobody():
    assert [error.code for error in alerting.receiver_errors([MAIL, MAIL], {"knight": {"password": "p"}})] == [
        "IDC-MON-001",
        "IDC-MON-002",
    ]
    assert "night" in alerting.receiver_errors([MAIL], {"knight": {}})[0].render()


def test_no_secret_is_ever_told():
    secret = "https-is-missing/robot?access_token=hush"
    said = [
        error.render(lang)
        for lang in ("en", "zh")
        for error in alerting.receiver_errors(
            [{"name": "x", "kind": "feishu"}], {"x": {"url": secret, "secret": "hush", "more": "hush"}}
        )
    ]
    assert said and not any("hush" in one for one in said)
