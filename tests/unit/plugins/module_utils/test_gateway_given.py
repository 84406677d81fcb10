# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the gateway's own variables."""
from __future__ import annotations

import secrets

import pytest
from ansible_collections.idc.llm.plugins.filter.gateway import gateway_errors

KEYS = [secrets.token_hex(24) for _number in range(3)]
SOUND = {
    "tls_certificate": "", "tls_key": "", "tls_extra_names": [], "ca_dir": "/srv/ca", "domain": "llm.bank.example",
    "acme": {}, "acme_ca": "", "acme_eab_key": "", "login": {}, "login_password": "",
    "tenants": {"bank": {"keys": KEYS[:2]}}, "engine_key": KEYS[2], "client_ca": "", "affinity": {}, "deployments": None,
    "audit_keep_days": 190, "audit_allow_short_retention": False,
    "trusted_proxies": [], "proxy_protocol": False, "http3": False, "connections_per_address_s": 200, "virtual_address": "",
}
ACME = {"directory": "https://acme.bank.example/directory"}
LDAP = {"uris": ["ldaps://dc1.bank.example"], "base": "dc=bank"}
READER = {"ldap": {**LDAP, "bind_dn": "cn=reader"}}
AFFINITY = {"chat": {"by": "prefix", "at_once": 8}}


def wrong(**values) -> list[str]:
    """The sentences for sound values but these."""
    return gateway_errors({**SOUND, **values}, "gw1")


@pytest.mark.parametrize("values", [
    {}, {"acme": None, "login": None, "affinity": None},
    {"tls_certificate": "a.pem", "tls_key": "a.key", "ca_dir": ""},
    {"acme": {**ACME, "ca": "ca.pem"}, "acme_ca": "-----BEGIN CERTIFICATE-----"},
    {"audit_keep_days": "184"}, {"audit_keep_days": 7, "audit_allow_short_retention": True},
    {"tenants": {"a.b-c_1": {"certificates": ["CN=a"], "require": ["mtls"]}}, "client_ca": "ca.pem"},
    {"login": READER, "login_password": "x"},
    {"trusted_proxies": ["10.0.0.7", "10.0.0.0/24", "fd00::/8"], "proxy_protocol": True},
    {"connections_per_address_s": 0},
    {"virtual_address": "10.0.0.10/24"}, {"virtual_address": "fd00::10/64"},
    {"affinity": AFFINITY}, {"affinity": AFFINITY, "deployments": ["chat"]},
    {"engine_key": ""},
])
def test_sound_values(values):
    assert wrong(**values) == []


@pytest.mark.parametrize(("values", "code", "said"), [
    *((values, "IDC-GW-001", "gw1") for values in ({"tls_certificate": "a.pem"}, {"tls_key": "a.key"}, {"ca_dir": ""})),
    ({"acme": ACME, "tls_certificate": "a.pem", "tls_key": "a.key"}, "IDC-GW-011", "gw1"),
    ({"acme": {**ACME, "ca": "ca.pem"}}, "IDC-INV-007", "gateway_acme.ca is ca.pem"),
    ({"acme": {"directory": "http://plain"}}, "IDC-INV-007", "gateway_acme.directory"),
    ({"login": {"ldap": {"uri": "ldap://dc1"}}}, "IDC-INV-006", "gateway_login.ldap.uri"),
    ({"login": READER}, "IDC-GW-010", "cn=reader"),
    ({"affinity": {"chat": {"by": "prefix", "at_once": 0}}}, "IDC-INV-007", "gateway_affinity.chat.at_once"),
    ({"affinity": AFFINITY, "deployments": ["code"]}, "IDC-INV-006", "gateway_affinity.chat"),
    ({"audit_keep_days": 183}, "IDC-GW-005", "is 183"), ({"audit_keep_days": "half a year"}, "IDC-GW-005", "half a year"),
    ({"tenants": {"ba nk": {"keys": KEYS[:1]}}}, "IDC-GW-002", "ba nk"),
    ({"tenants": {"b" * 64: {"keys": KEYS[:1]}}}, "IDC-GW-002", "bbb"),
    ({"tenants": {"bank": {"certificates": ["CN=a"], "require": ["mtls"]}}}, "IDC-GW-006", "bank"),
    ({"trusted_proxies": ["10.0.0.7", "proxy", "10.0.0.1/24", 7.5]}, "IDC-GW-007", "['proxy', '10.0.0.1/24', 7.5]"),
    ({"proxy_protocol": True}, "IDC-INV-007", "gateway_proxy_protocol is gateway_trusted_proxies: []"),
    ({"proxy_protocol": True, "trusted_proxies": ["10.0.0.1"], "http3": True}, "IDC-INV-007", "gateway_http3: True"),
    *(({"connections_per_address_s": value}, "IDC-INV-007", f"gateway_connections_per_address_s is {value}")
      for value in (-1, "many", True, 1.5)),
    *(({"virtual_address": value}, "IDC-GW-008", value) for value in ("10.0.0.10", "10.0.0.10/99", "gw.bank.example/24")),
])
def test_each_wrong_value_is_one_sentence(values, code, said):
    [sentence] = wrong(**values)
    assert sentence.startswith(f"{code}:") and said in sentence


@pytest.mark.parametrize(("keys", "count"), [
    ([KEYS[0], KEYS[0].upper()], 1), ([KEYS[0], "white space"], 1), (["k" * 201], 1), ([KEYS[2]], 1), ([*KEYS, "new\n"], 2)])
def test_of_keys_only_their_number_is_told(keys, count):
    [sentence] = wrong(tenants={"bank": {"keys": keys}})
    assert sentence.startswith("IDC-GW-003:") and f"{count} API keys" in sentence
    assert not any(key in sentence for key in keys)


def test_a_renewal_asks_for_nothing_that_is_secret():
    """playbooks/certificates.yml reads no secrets: no password of the directory, no tenants, no engine key."""
    values = {**SOUND, "tenants": {}, "engine_key": "", "login": READER, "audit_keep_days": 1}
    assert gateway_errors(values, "gw1", only=["certificate"]) == []
    [sentence] = gateway_errors({**values, "tls_key": "a.key"}, "gw1", only=["certificate"])
    assert sentence.startswith("IDC-GW-001")


def test_all_are_told_at_once_and_in_the_sites_language():
    values = {"tls_key": "a.key", "audit_keep_days": 1, "virtual_address": "here", "login": {"radius": {}}}
    said = gateway_errors({**SOUND, **values}, "gw1", "zh")
    assert [sentence.partition(":")[0] for sentence in said] == ["IDC-GW-001", "IDC-INV-006", "IDC-GW-005", "IDC-GW-008"]
    assert "没有完整的证书来源" in said[0]
