# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each tenant may use and how much of it."""
from __future__ import annotations

import json

import pytest
from ansible_collections.idc.llm.plugins.filter import gateway as filters
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._gateway import Zone, parse_access, parse_limits, proofs, rights, zones

BOTH = {"r1": 4096, "v3": None}


def test_a_zone_for_each_pair_and_each_number_once():
    tenants = {
        "a": {"limits": {"requests_per_minute": 60, "burst": 10, "concurrent_requests": 8}},
        "b": {"limits": {"requests_per_minute": 60, "burst": 10, "deployments": {"r1": {"concurrent_requests": 2}}}},
        "c": {"limits": {"requests_per_minute": 600}}, "d": {}, "e": {"limits": None},
    }
    assert zones(tenants) == [Zone(most=2), Zone(most=8), Zone(60, 10), Zone(600, 100)]
    assert [row["name"] for row in filters.gateway_zones(tenants)] == [
        "idc_concurrent_2", "idc_concurrent_8", "idc_rate_60_10", "idc_rate_600_100"]


def test_a_tenants_limit_counts_all_its_deployments_and_a_deployments_its_own():
    limits = {"requests_per_minute": 60, "burst": 0, "deployments": {"v3": {"requests_per_minute": 6, "concurrent_requests": 1}}}
    row = rights({"a": {"limits": limits}}, BOTH)["tenants"]["a"]
    assert row["deployments"] == ["r1", "v3"]
    assert row["limits"] == {"r1": [("idc_rate_60_0", "a")],
                             "v3": [("idc_rate_60_0", "a"), ("idc_rate_6_1", "a v3"), ("idc_concurrent_1", "a v3")]}
    assert row["retry"] == "10", "seconds until the slowest rate lets one more through"


def test_rights_are_the_tenants_list_as_far_as_the_plan_has_it():
    tenants = {"all": {}, "one": {"deployments": ["v3"]}, "gone": {"deployments": ["old"]},
               "most": {"limits": {"body_max_kib": 2, "tokens_per_minute": 5, "tokens_per_day": 9}}}
    found = rights(tenants, BOTH)
    assert {name: row["deployments"] for name, row in found["tenants"].items()} == {
        "all": ["r1", "v3"], "one": ["v3"], "gone": [], "most": ["r1", "v3"]}
    assert found["tenants"]["most"]["body_max"] == 2048 and found["tenants"]["most"]["tokens"] == {"minute": 5, "day": 9}
    assert "tokens" not in found["tenants"]["all"] and found["deployments"]["r1"] == {"context": 4096}


def test_the_filter_takes_contexts_from_the_plan_and_shows_no_key():
    plan = {"engines": [{"deployment": "r1", "config": {"max-model-len": 512}}],
            "gateway": {"upstreams": [{"deployment": "r1", "servers": []}]}}
    text = filters.gateway_rights({"a": {"keys": ["0123"]}}, plan, {})
    assert json.loads(text)["deployments"] == {"r1": {"context": 512}} and "0123" not in text


def canary(percent=0, tenants=(), of="r1"):
    return {"of": of, "percent": percent, "tenants": list(tenants)}


def test_who_lists_a_canary_may_name_it_and_all_get_their_share_of_it():
    tenants = {"all": {}, "one": {"deployments": ["v3"]}, "both": {"deployments": ["r1", "next"]}, "first": {}}
    deployments = {**BOTH, "next": 4096, "other": 4096}
    found = rights(tenants, deployments, canaries={"next": canary(5), "other": canary(10, ["first"])})["tenants"]
    assert {name: row["deployments"] for name, row in found.items()} == {
        "all": ["r1", "v3"], "one": ["v3"], "both": ["r1", "next"], "first": ["r1", "v3"]}
    share = {"r1": [("next", 5), ("other", 15)]}
    assert [found[name].get("canaries") for name in tenants] == [share, None, share, {"r1": [("other", 100)]}]


@pytest.mark.parametrize("canaries", [{}, {"next": canary()}, {"gone": canary(5)}])
def test_no_canary_gets_anything_that_has_no_share_or_no_engine(canaries):
    found = rights({"all": {}}, {**BOTH, **dict.fromkeys(canaries)}, canaries=canaries, serving=["r1", "v3", "next"])
    assert found["tenants"]["all"]["deployments"] == ["r1", "v3"] and "canaries" not in found["tenants"]["all"]


def test_the_filters_know_canaries_by_the_plan():
    plan = {"engines": [], "gateway": {"upstreams": [
        {"deployment": "r1", "servers": [{"engine": "a"}]},
        {"deployment": "next", "servers": [{"engine": "b"}], "canary": canary(7)}]}}
    assert filters.gateway_upstreams(plan, {}) == [
        {"deployment": "r1", "servers": [{"engine": "a"}], "affinity": "", "tried": False},
        {"deployment": "next", "servers": [{"engine": "b", "behind": "r1"}], "affinity": "", "tried": True}]
    assert json.loads(filters.gateway_rights({"a": {}}, plan, {}))["tenants"]["a"]["canaries"] == {"r1": [["next", 7]]}
    assert filters.gateway_proofs({"a": {}}, plan) == [{"deployment": "r1", "tenant": "a"}]
    assert {"deployment": "next", "tenant": "a"} in filters.gateway_proofs({"a": {"deployments": ["next"]}}, plan)


@pytest.mark.parametrize(("limits", "said"), [
    ([], "list"), ({"requests_per_minut": 6}, "requests_per_minute"), ({"requests_per_minute": 0}, "from 1"),
    ({"requests_per_minute": "6"}, "'6'"), ({"requests_per_minute": True}, "True"), ({"burst": 3}, "no requests_per_minute"),
    ({"requests_per_minute": 6, "burst": -1}, "from 0"), ({"deployments": {"r2": {}}}, "r1"), ({"deployments": []}, "list"),
    ({"deployments": {"r1": {"body_max_kib": 3}}}, "body_max_kib"), ({"deployments": {"r1": {"concurrent_requests": 1.5}}}, "1.5"),
])
def test_wrong_limits_are_named(limits, said):
    with pytest.raises(IdcError) as caught:
        parse_limits("acme", limits, ["r1"])
    assert "acme" in str(caught.value) and said in str(caught.value)


def test_right_limits_pass():
    limits = {"requests_per_minute": 6, "burst": 0, "concurrent_requests": 2, "body_max_kib": 64, "tokens_per_minute": 10,
              "tokens_per_day": 100, "deployments": {"r1": {"requests_per_minute": 3}}}
    assert parse_limits("acme", limits, ["r1"]) == limits and parse_limits("acme", None, []) == {}


def test_each_deployment_is_proven_by_a_tenant_without_limits_where_there_is_one():
    tenants = {"a": {"limits": {"tokens_per_day": 1}}, "b": {"deployments": ["r1"]}, "c": {"deployments": ["v3"], "limits": {}}}
    assert proofs(tenants, ["r1", "v3"]) == [{"deployment": "r1", "tenant": "b"}, {"deployment": "v3", "tenant": "c"}]
    assert proofs({"a": {"deployments": ["r1"]}}, ["r1", "v3"]) == [{"deployment": "r1", "tenant": "a"}]
    plan = {"gateway": {"upstreams": [{"deployment": "v3"}]}}
    assert filters.gateway_proofs(tenants, plan) == [{"deployment": "v3", "tenant": "c"}]


def test_a_request_prefers_an_engine_as_its_deployment_has_it():
    plan = {"engines": [], "gateway": {"upstreams": [{"deployment": name, "servers": [{"engine": f"{name}-0"}]} for name in BOTH]}}
    raw = {"r1": {"by": "header", "at_once": 8}}
    assert filters.gateway_upstreams(plan, raw) == [
        {"deployment": "r1", "servers": [{"engine": "r1-0", "max_conns": 8}], "affinity": "header", "tried": False},
        {"deployment": "v3", "servers": [{"engine": "v3-0"}], "affinity": "", "tried": False}]
    found = json.loads(filters.gateway_rights({}, plan, raw))["deployments"]
    assert found["r1"]["affinity"] == {"by": "header", "at_once": 8, "variable": "http_x_session_id"}
    assert "affinity" not in found["v3"]


@pytest.mark.parametrize(("raw", "said"), [
    ([], "a mapping"), ({"r2": {}}, "r1"), ({"r1": "prefix"}, "a mapping"), ({"r1": {"at_once": 8}}, "header or prefix"),
    ({"r1": {"by": "prefix"}}, "from 1"), ({"r1": {"by": "prefix", "at_once": True}}, "True"),
    ({"r1": {"by": "prefix", "at_once": 8, "heade": "X"}}, "header"),
    ({"r1": {"by": "prefix", "at_once": 8, "header": "X"}}, "by: header"),
    ({"r1": {"by": "header", "at_once": 8, "header": "X Y;"}}, "X Y;"),
])
def test_a_preference_that_cannot_be_is_named(raw, said):
    plan = {"engines": [], "gateway": {"upstreams": [{"deployment": "r1", "servers": []}]}}
    with pytest.raises(Exception, match="gateway_affinity") as caught:
        filters.gateway_upstreams(plan, raw)
    assert said in str(caught.value)


SUBJECT = "CN=app,O=Bank"


@pytest.mark.parametrize(("entry", "wanted"), [
    ({"keys": ["0"]}, ("key",)), ({"keys": ["0"], "require": ["key", "mtls"], "certificates": [SUBJECT]}, ("key", "mtls")),
    ({"require": ["mtls"], "certificates": [SUBJECT, "CN=two"]}, ("mtls",)),
    ({"require": ["ldap"], "groups": ["cn=llm"]}, ("ldap",)),
    ({"require": ["mtls", "ldap"], "groups": ["cn=llm"], "certificates": [SUBJECT]}, ("mtls", "ldap")),
    ({"keys": ["0"], "require": ["key", "oidc"], "groups": ["*"], "acr": ["gold"], "amr": ["otp"]}, ("key", "oidc")),
])
def test_what_a_tenant_must_show(entry, wanted):
    assert parse_access("acme", entry) == wanted


@pytest.mark.parametrize(("entry", "said"), [
    ({"require": "mtls"}, "'mtls'"), ({"require": []}, "[]"), ({"require": ["saml"]}, "key, mtls, ldap, oidc"),
    ({"require": [["key"]]}, "key, mtls"),
    ({"require": ["mtls"]}, "certificates"), ({"certificates": [SUBJECT]}, "where require has mtls"),
    ({"require": ["mtls"], "certificates": SUBJECT}, "certificates"), ({"require": ["mtls"], "certificates": ["app"]}, "CN=app"),
    ({"require": ["mtls"], "certificates": ['CN=a" evil']}, "certificates"),
    ({"require": ["mtls"], "certificates": ["CN=$x"]}, "$x"),
    ({"require": ["mtls"], "certificates": [SUBJECT], "keys": ["0"]}, "key in require"),
    ({"require": ["key", "ldap"], "keys": ["0"], "groups": ["x"]}, "ldap alone"),
    ({"require": ["oidc", "ldap"], "groups": ["x"]}, "ldap alone"), ({"keys": ["0"], "groups": ["x"]}, "groups"),
    ({"require": ["ldap"]}, "groups"), ({"require": ["ldap"], "groups": "x"}, "groups"),
    ({"require": ["ldap"], "groups": ["x"], "amr": ["otp"]}, "amr"), ({"require": ["oidc"], "groups": ["x"], "acr": "gold"}, "acr"),
])
def test_what_it_cannot_have_to_show_is_named(entry, said):
    with pytest.raises(IdcError) as caught:
        parse_access("acme", entry)
    assert "acme" in str(caught.value) and said in str(caught.value)


def test_who_shows_a_certificate():
    tenants = {"key": {"keys": ["0"]}, "both": {"keys": ["1"], "require": ["key", "mtls"], "certificates": [SUBJECT]},
               "badge": {"require": ["mtls"], "certificates": ["CN=b", "CN=c"]},
               "staff": {"require": ["mtls", "ldap"], "certificates": ["CN=d"], "groups": ["x"]},
               "robot": {"keys": ["2"], "require": ["key", "oidc"], "groups": ["x"]}}
    assert filters.gateway_by_certificate(tenants) == [{"subject": f"CN={one}", "tenant": "badge"} for one in "bc"]
    rows = rights(tenants, BOTH)["tenants"]
    assert rows["both"]["certificates"] == {SUBJECT: True} and "certificates" not in rows["key"]
    assert proofs(tenants, ["r1"]) == [{"deployment": "r1", "tenant": "key"}], "a play has no certificate to show"
    assert proofs({"both": tenants["both"]}, ["r1"]) == []


def test_usage_of_all_gateways_together():
    def row(tenant, requests, day="2026-11-22"):
        return {"day": day, "tenant": tenant, "deployment": "r1", "requests": requests, "refused": 0}
    gateways = [[row("b", 2), row("a", 1)], [row("a", 10), row("a", 5, "2026-11-21")]]
    rows = filters.gateway_usage(gateways, "json")
    assert [(one["day"], one["tenant"], one["requests"]) for one in rows] == [
        ("2026-11-21", "a", 5), ("2026-11-22", "a", 11), ("2026-11-22", "b", 2)]
    assert filters.gateway_usage(gateways, "csv")[:2] == ["day,tenant,deployment,requests,refused", "2026-11-21,a,r1,5,0"]
    assert filters.gateway_usage(gateways)[2].split() == ["2026-11-22", "a", "r1", "11", "0"]
    assert filters.gateway_usage([], "csv") == [] and filters.gateway_usage([[]]) == []
    with pytest.raises(Exception, match="table, csv, json"):
        filters.gateway_usage(gateways, "xml")
