"""What Prometheus asks, by which rules, and what the plan promises."""

from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _watching as watching
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._fleet import Host
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan


def plan(monitors=1, **values):
    """Two model nodes, a gateway, and one or two monitors."""
    hosts = [
        Host("n1", ("gpu_nodes",), "10.0.0.1", rack="r1", cards=8, gpu_watched=True),
        Host("n2", ("gpu_nodes",), "10.0.0.2"),
        Host("g1", ("gateways",), "10.0.0.9"),
        *(Host(f"m{n}", ("monitors",), f"10.0.1.{n}") for n in range(1, monitors + 1)),
    ]
    one = parse_deployment({"name": "r1", "model": "org/r1", "revision": "a", "device": "cpu", "replicas": 2, **values}, 1)
    return make_plan([one], hosts, Wishes("1", "/store", allow_unaccepted=True))


def test_everything_in_the_plan_is_asked_once_with_its_labels():
    made = plan(2)
    kinds = watching.targets(made, "m1")
    rows = [row for kind in ("engines", "exporters", "monitors") for row in kinds[kind]]
    assert sorted(row["targets"][0] for row in rows) == sorted(f"{row['address']}:{row['port']}" for row in made["scrape"])
    (engine, _other) = kinds["engines"]
    assert engine["labels"] == {
        "job": "vllm",
        "host": "n1",
        "deployment": "r1",
        "engine": "r1-blue-0",
        "replica": "0",
        "revision": "a",
        "slot": "blue",
        "rack": "r1",
    }
    assert {row["labels"]["job"] for row in kinds["exporters"]} == {"node", "nginx", "gpu", "blackbox"}
    assert [row["targets"] for row in kinds["monitors"] if row["labels"]["job"] == "alertmanager"] == [
        ["10.0.1.1:9093"],
        ["10.0.1.2:9093"],
    ]


def test_each_monitor_asks_the_gateways_by_its_own_blackbox():
    for monitor, address in (("m1", "10.0.1.1"), ("m2", "10.0.1.2")):
        (probe,) = watching.targets(plan(2), monitor)["probes"]
        assert probe["targets"] == [f"{address}:9115"]
        assert probe["labels"] == {
            "job": "blackbox",
            "host": "g1",
            "instance": "https://10.0.0.9:443/health",
            "__param_target": "https://10.0.0.9:443/health",
            "__param_module": "idc_llm_gateway",
        }


def test_the_configuration_sends_alarms_to_all_monitors_the_same():
    config = watching.prometheus_config(plan(2), "m1", ["/r/a.yml"], 15, "/root")
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["10.0.1.1:9093", "10.0.1.2:9093"]}]}]
    assert config["alerting"]["alert_relabel_configs"] == [{"regex": "monitor", "action": "labeldrop"}]
    assert config["rule_files"] == ["/r/a.yml", "/root/site/*.yml"]
    assert config["global"]["scrape_timeout"] == "10s" and config["global"]["external_labels"] == {"monitor": "m1"}
    assert not any("scheme" in job for job in config["scrape_configs"])


def test_tls_and_password_are_for_exporters_and_the_probes_through_one():
    config = watching.prometheus_config(plan(), "m1", [], 2, "/root", ca="/ca.pem", password_file="/password")
    secured = {job["job_name"] for job in config["scrape_configs"] if job.get("scheme") == "https"}
    assert secured == {"idc_llm_exporters", "idc_llm_probes"}
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "idc_llm_exporters")
    assert job["tls_config"] == {"ca_file": "/ca.pem"} and job["basic_auth"] == {
        "username": "prometheus",
        "password_file": "/password",
    }
    assert config["global"]["scrape_timeout"] == "2s"


def test_promises_and_costs_are_series():
    costs = {"currency": "CNY", "power_kw": 10, "power_per_kwh": "0.8", "depreciation_per_month": 730, "staff_per_month": 7300}
    rules = watching.plan_rules(plan(slo={"ttft_p99_ms": 200, "error_rate": 0.0005}), costs)["groups"][0]["rules"]
    assert {(rule["record"], rule["expr"]) for rule in rules} == {
        ("idc_llm_slo_ttft_seconds", "vector(0.2)"),
        ("idc_llm_slo_e2e_seconds", "vector(30)"),
        ("idc_llm_slo_success_ratio", "vector(0.9995)"),
        ("idc_llm_cost_per_hour", "vector(19)"),
    }
    assert all(rule["labels"] == {"deployment": "r1"} for rule in rules[:3]) and rules[3]["labels"] == {"currency": "CNY"}
    assert all(rule["record"] != "idc_llm_cost_per_hour" for rule in watching.plan_rules(plan(), {})["groups"][0]["rules"])


@pytest.mark.parametrize(
    ("costs", "codes"),
    [
        (None, []),
        ({}, []),
        ({"currency": "CNY"}, []),
        ({"currency": "yuan"}, ["IDC-INV-007"]),
        ({"currency": "CNY", "power_kw": -1}, ["IDC-INV-007"]),
        ({"currency": "CNY", "power": 1}, ["IDC-INV-006"]),
        ({"currency": "CNY", "staff_per_month": True}, ["IDC-INV-007"]),
        ("much", ["IDC-INV-007"]),
    ],
)
def test_costs_that_cannot_be_meant(costs, codes):
    assert [error.code for error in watching.cost_errors(costs)] == codes


@pytest.mark.parametrize(
    ("size", "password", "codes"),
    [
        ("20GB", None, []),
        (None, None, []),
        ("512MB", "p" * 12, []),
        ("20 GB", None, ["IDC-INV-007"]),
        ("20", None, ["IDC-INV-007"]),
        (20, None, ["IDC-INV-007"]),
        ("20GB --web.enable-admin-api", None, ["IDC-INV-007"]),
        ("20GB\n", None, ["IDC-INV-007"]),
        ("20GB", "", ["IDC-MON-009"]),
        ("20GB", "hush-hush-1", ["IDC-MON-009"]),
        ("20GB", ["p"] * 12, ["IDC-MON-009"]),
    ],
)
def test_settings_that_cannot_be_meant(size, password, codes):
    errors = watching.setting_errors(size, password)
    assert [error.code for error in errors] == codes
    assert not any("hush" in error.render(lang) for error in errors for lang in ("en", "zh"))


RULES = {
    "groups": [
        {
            "name": "g",
            "interval": "1m",
            "rules": [
                {
                    "alert": "A",
                    "expr": "rate(a[5m]) > 0 and b offset 5m > 3",
                    "for": "1m30s",
                    "keep_firing_for": "5m",
                    "labels": {"x": "y"},
                },
                {"record": "r", "expr": "max_over_time(rate(a[1h])[3d:1m])"},
                {"alert": "B", "expr": "up == 0"},
            ],
        }
    ]
}


def test_times_are_shortened_together_and_nothing_else():
    rules = watching.scaled(RULES, 0.1, 8)["groups"][0]
    assert rules["rules"][0] == {
        "alert": "A",
        "expr": "rate(a[30s]) > 0 and b offset 5m > 3",
        "for": "9s",
        "keep_firing_for": "30s",
        "labels": {"x": "y"},
    }
    assert (
        rules["rules"][1]["expr"] == "max_over_time(rate(a[360s])[25920s:1m])"
        and rules["rules"][2] == RULES["groups"][0]["rules"][2]
    )
    assert "interval" not in rules
    assert watching.scaled(RULES, 1, 60) == RULES


def test_a_range_never_gets_too_short_for_a_rate_nor_longer_than_it_was():
    short = watching.scaled({"groups": [{"name": "g", "rules": [{"record": "r", "expr": "rate(a[5m]) + rate(b[5s])"}]}]}, 0.001, 8)
    assert short["groups"][0]["rules"][0]["expr"] == "rate(a[8s]) + rate(b[5s])"
