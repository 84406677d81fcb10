# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a site says of its own login."""
from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.filter.gateway import gateway_login
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._gateway_login import parse_login

LDAP = {"uris": ["ldaps://dc1.bank.example", "ldaps://10.0.0.3:1636"], "base": "ou=people,dc=bank"}
OIDC = {"issuer": "https://login.bank.example/realms/main", "audience": "llm"}
TENANTS = {"keys": {"keys": ["0"]}, "staff": {"require": ["ldap"], "groups": ["cn=llm"]},
           "apps": {"require": ["key", "oidc"], "keys": ["1"], "groups": ["*"], "amr": ["otp"]}}


def test_what_is_left_out_is_there_and_the_cas_stand_on_the_gateway():
    found = parse_login({"ldap": {**LDAP, "ca": "files/ca.pem"}, "oidc": OIDC}, TENANTS, "/etc/x")
    assert found["ldap"]["filter"] == "(uid={user})" and found["ldap"]["uris"] == LDAP["uris"]
    assert (found["ldap"]["ca"], found["oidc"]["ca"]) == ("/etc/x/login_ldap_ca.pem", "")
    assert parse_login({"ldap": {**LDAP, "filter": None}, "oidc": OIDC}, TENANTS, "/etc/x")["ldap"]["filter"] == "(uid={user})"
    adfs = {"issuer": "http://adfs.bank.example/adfs/services/trust", "audience": "llm", "jwks_uri": "https://adfs.bank.example/keys"}
    assert parse_login({"ldap": LDAP, "oidc": adfs}, TENANTS, "/etc/x")["oidc"]["issuer"] == adfs["issuer"]
    assert found["oidc"]["groups_claim"] == "groups" and found["believed_s"] == 60
    assert found["tenants"] == [
        {"name": "staff", "by": "ldap", "groups": ["cn=llm"], "acr": [], "amr": [], "keyed": False},
        {"name": "apps", "by": "oidc", "groups": ["*"], "acr": [], "amr": ["otp"], "keyed": True}]


def test_a_site_without_a_login_of_its_own():
    assert parse_login({}, {"keys": TENANTS["keys"]}, "/etc/x") == {}


@pytest.mark.parametrize(("login", "said"), [
    ([], "gateway_login"), ({"ldap": LDAP, "oidc": OIDC, "saml": {}}, "gateway_login.saml"),
    ({"ldap": [], "oidc": OIDC}, "gateway_login.ldap"),
])
def test_what_is_no_login_is_named(login, said):
    with pytest.raises(IdcError) as caught:
        parse_login(login, TENANTS, "/etc/x")
    assert said in caught.value.render("en") and caught.value.render("zh")


@pytest.mark.parametrize(("way", "name", "value", "said"), [
    ("ldap", "uri", "x", "uris"), ("ldap", "uris", None, "ldap.uris"), ("ldap", "uris", ["ldap://dc1"], "in the clear"),
    ("ldap", "uris", "ldaps://dc1", "ldap.uris"), ("ldap", "base", " ", "ldap.base"), ("ldap", "filter", "(uid=*)", "with {user}"),
    ("ldap", "filter", "uid={user}", "with {user}"), ("ldap", "group_filter", "((member={dn})", "group_filter"),
    ("ldap", "timeout_s", 0, "timeout_s"), ("ldap", "timeout_s", True, "timeout_s"),
    ("oidc", "issuer", "http://x", "jwks_uri beside it"),
    ("oidc", "audience", None, "oidc.audience is nothing"), ("oidc", "jwks_uri", "file:///etc", "jwks_uri"),
])
def test_a_wrong_value_is_named(way, name, value, said):
    whole = {"ldap": dict(LDAP), "oidc": dict(OIDC)}
    whole[way][name] = value
    if value is None:
        del whole[way][name]
    with pytest.raises(IdcError) as caught:
        parse_login(whole, TENANTS, "/etc/x")
    assert said in caught.value.render("en") and caught.value.render("zh")


def test_a_tenant_whose_login_nobody_described_is_named_by_the_filter():
    with pytest.raises(AnsibleFilterError, match=r"IDC-GW-009.*\(oidc\): \['apps'\]"):
        gateway_login({"ldap": LDAP}, TENANTS, "/etc/x")
    with pytest.raises(AnsibleFilterError, match="未在 gateway_login 中说明"):
        gateway_login({"ldap": LDAP}, TENANTS, "/etc/x", "zh")
