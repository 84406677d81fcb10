"""What is wrong with an inventory or a host is said in one sentence each, and what is right passes."""
from __future__ import annotations

import copy

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _inventory as inv
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment

KEY = "0123456789abcdef" * 2
GOOD = {
    "idc_llm_deployments": [{"name": "r1", "model": "org/model", "revision": "abc", "sources": ["file:///srv/m"]}],
    "idc_llm_secrets": {"tenants": {"bank": {"keys": [KEY]}}, "engine_key": KEY[::-1]},
}
GROUPS = {"gpu_nodes": ["n1", "n2"], "gateways": ["g1"], "monitors": ["g1"], "all": ["n1", "n2", "g1"]}


def errors(change=None, groups=None, names=()):
    """Errors of the good site after a change to its variables."""
    variables = copy.deepcopy(GOOD)
    if change:
        change(variables)
    return inv.inventory_errors(inv.Site({**GROUPS, **(groups or {})}, variables, [*variables, *names]))


def test_sound_inventory_has_no_errors():
    assert errors() == []


def deployment(**values):
    """A change that sets keys of the only deployment; None removes one."""
    def change(variables):
        entry = variables["idc_llm_deployments"][0]
        entry.update(values)
        for key in [k for k, v in values.items() if v is None]:
            del entry[key]
    return change


def canaries(*words, owner=None):
    """A change that adds deployments which are tried in the place of others; owner: what the tenant may use, if not all."""
    def change(variables):
        variables["idc_llm_deployments"].extend(
            {"name": f"next{number}", "model": "org/model", "revision": "def", "canary": word} for number, word in enumerate(words))
        if owner:
            variables["idc_llm_secrets"]["tenants"]["bank"]["deployments"] = owner
    return change


def tenant_key(*keys):
    """A change that gives the tenant these keys."""
    return lambda v: v["idc_llm_secrets"]["tenants"]["bank"].update(keys=list(keys))


@pytest.mark.parametrize(("change", "code", "words"), [
    (deployment(model=None), "IDC-INV-002", ["r1", "model"]),
    (deployment(tensor_paralel=8), "IDC-INV-003", ["tensor_paralel", "tensor_parallel"]),
    (deployment(tensor_parallel=0), "IDC-INV-004", ["tensor_parallel", "at least 1"]),
    (deployment(replicas="two"), "IDC-INV-004", ["replicas", "'two'"]),
    (deployment(device="gpu"), "IDC-INV-004", ["gpu", "cuda | cpu"]),
    (deployment(sources=["srv/m"]), "IDC-INV-004", ["srv/m", "file:///"]),
    (deployment(sources="file:///srv/m"), "IDC-INV-004", ["a list"]),
    (deployment(name="Deep Seek"), "IDC-INV-004", ["Deep Seek"]),
    (deployment(revision="../../etc"), "IDC-INV-004", ["../../etc"]),
    (deployment(engine_args={"tensor_parallel_size": 4}), "IDC-INV-005", ["tensor_parallel_size"]),
    (deployment(canary={"off": "r1"}), "IDC-INV-006", ["r1.canary.off", "of"]),
    (deployment(canary="r1"), "IDC-INV-007", ["r1.canary", "a mapping"]),
    (deployment(canary={"percent": 5}), "IDC-INV-002", ["canary.of"]),
    (deployment(canary={"of": "r2", "percent": 101}), "IDC-INV-004", ["101", "0 to 100"]),
    (deployment(canary={"of": "r2", "percent": 0.5}), "IDC-INV-004", ["0.5", "0 to 100"]),
    (deployment(canary={"of": "r2", "tenants": "bank"}), "IDC-INV-004", ["canary.tenants", "a list"]),
    (deployment(canary={"of": "r1"}), "IDC-INV-021", ["r1"]),
    (deployment(canary={"of": ["r2"]}), "IDC-INV-004", ["canary.of", "the name of a deployment"]),
    (canaries({"of": "r2"}), "IDC-INV-021", ["r2", "r1"]),
    (canaries({"of": "r1", "percent": 60}, {"of": "r1", "percent": 41}), "IDC-INV-004", ["101", "100 at most"]),
    (canaries({"of": "r1"}, {"of": "next0"}), "IDC-INV-021", ["next1", "next0"]),
    (canaries({"of": "r1", "tenants": ["bank"]}, {"of": "r1", "tenants": ["bank"]}), "IDC-INV-004", ["bank", "next0"]),
    (canaries({"of": "r1", "tenants": ["bnk"]}), "IDC-INV-004", ["bnk", "bank"]),
    (canaries({"of": "r1", "tenants": ["bank"]}, owner=["next0"]), "IDC-INV-004", ["bank", "a tenant that may use r1"]),
    (deployment(hosts=["n3"]), "IDC-INV-010", ["n3", "n1"]),
    (lambda v: v.update(idc_llm_deployments=[]), "IDC-INV-001", ["idc_llm_deployments"]),
    (lambda v: v.update(idc_llm_deployments=["r1"]), "IDC-INV-001", ["[1]"]),
    (lambda v: v.update(idc_llm_lang="fr"), "IDC-INV-007", ["fr", "en | zh"]),
    (lambda v: v.update(idc_llm_sources={"weels": "/x"}), "IDC-INV-006", ["weels", "wheels"]),
    (lambda v: v.update(idc_llm_ports={"gatway": 443}), "IDC-INV-006", ["gatway", "gateway"]),
    (lambda v: v.update(idc_llm_ports={"node": 22}), "IDC-INV-007", ["idc_llm_ports.node", "22", "sshd"]),
    (lambda v: v.update(idc_llm_ports={"node": 9090}), "IDC-INV-007", ["idc_llm_ports.node", "9090", "prometheus"]),
    (lambda v: v.update(idc_llm_ports={"gpu": 70000}), "IDC-INV-007", ["idc_llm_ports.gpu", "70000", "65535"]),
    (lambda v: v.update(idc_llm_ports={"gpu": "high"}), "IDC-INV-007", ["idc_llm_ports.gpu", "high", "65535"]),
    (lambda v: v.pop("idc_llm_secrets"), "IDC-INV-013", ["secrets.vault"]),
    (lambda v: v["idc_llm_secrets"].update(tenants={}), "IDC-INV-014", ["tenants"]),
    (lambda v: v["idc_llm_secrets"].update(engine_key="short"), "IDC-INV-015", ["engine_key", "5 characters"]),
    (tenant_key("a" * 31), "IDC-INV-015", ["bank", "31", "32"]),
    (tenant_key('a"; }' + "a" * 32), "IDC-INV-018", ["bank"]),
    (tenant_key(), "IDC-INV-007", ["at least one key"]),
    (lambda v: v["idc_llm_secrets"]["tenants"].update(shop={"keys": [KEY]}), "IDC-INV-016", ["bank", "shop"]),
    (lambda v: v["idc_llm_secrets"]["tenants"]["bank"].update(require=["mtls"]), "IDC-INV-007", ["bank.certificates"]),
    (lambda v: v["idc_llm_secrets"]["tenants"].update(shop={"require": ["key"]}), "IDC-INV-007", ["shop.keys"]),
    (lambda v: v["idc_llm_secrets"]["tenants"]["bank"].update(deployments=["r2"]), "IDC-INV-017", ["bank", "r2", "r1"]),
])
def test_one_wrong_value_is_one_sentence(change, code, words):
    found = errors(change)
    assert [error.code for error in found] == [code]
    for lang in ("en", "zh"):
        assert all(word in found[0].render(lang) or lang == "zh" for word in words), found[0].render(lang)


def test_sound_canaries_have_no_errors():
    assert errors(canaries({"of": "r1", "percent": 60, "tenants": ["bank"]}, {"of": "r1", "percent": 40})) == []


def test_one_can_plan_before_there_are_keys():
    site = inv.Site(GROUPS, {"idc_llm_deployments": GOOD["idc_llm_deployments"]}, [])
    assert inv.inventory_errors(site, need_secrets=False) == []
    assert [error.code for error in inv.inventory_errors(site)] == ["IDC-INV-013"]


def test_a_key_is_never_shown():
    found = errors(tenant_key("topsecret", "also; secret" * 4))
    assert len(found) == 2
    assert not any("secret" in error.render(lang).replace("idc_llm_secrets", "") for error in found for lang in ("en", "zh"))


def test_two_deployments_on_one_port_only_where_they_meet():
    def twice(*hosts):
        def change(variables):
            entry = variables["idc_llm_deployments"][0]
            entry["port"] = 8000
            variables["idc_llm_deployments"].append({**entry, "name": "v3"})
            for deployment_entry, host in zip(variables["idc_llm_deployments"], hosts, strict=False):
                deployment_entry["hosts"] = [host]
        return change

    met = errors(twice())
    assert [e.code for e in met] == ["IDC-INV-012"]
    assert "8000" in str(met[0]) and "n1, n2" in str(met[0])
    assert errors(twice("n1", "n2")) == []


def test_groups_that_are_empty_or_exclude_each_other():
    assert [e.code for e in errors(groups={"gateways": []})] == ["IDC-INV-008"]
    found = errors(groups={"retired": ["n2"]})
    assert [e.code for e in found] == ["IDC-INV-009"] and "n2" in str(found[0])
    assert errors(groups={"tang_servers": ["t1", "g1"]}) == []
    for other in ("gpu_nodes", "retired"):  # a key beside its lock; a server that is no more
        found = errors(groups={"retired": ["t1"], "tang_servers": ["n1" if other == "gpu_nodes" else "t1"]})
        assert [e.code for e in found] == ["IDC-INV-009"] and other in str(found[0])
    found = errors(lambda v: v.update(idc_llm_exclusive_groups=[["gateways", "monitors"]]))
    assert [e.code for e in found] == ["IDC-INV-009"] and "g1" in str(found[0])


def test_the_passphrase_of_volumes_has_its_place():
    assert errors(lambda v: v["idc_llm_secrets"].update(luks={"recovery": "x" * 20, "recovery_previous": ""})) == []
    found = errors(lambda v: v["idc_llm_secrets"].update(luks={"recovry": "x" * 20}))
    assert [e.code for e in found] == ["IDC-INV-006"] and "recovery" in str(found[0]) and "x" * 20 not in str(found[0])


def test_misspelt_variable_of_the_collection():
    found = errors(names=["idc_llm_deployment"])
    assert [e.code for e in found] == ["IDC-INV-006"] and "idc_llm_deployments" in str(found[0])


@pytest.mark.parametrize(("seen", "core", "fits"), [
    ("Python 3.8\n", "2.19.14", True), ("Python 3.7", "2.19.14", False), ("Python 3.8", "2.21.5", False),
    ("Python 3.13", "2.21.5", True), ("none", "2.19.14", False), ("", "2.19.14", False), ("Python 3.8", "2.99.0", False),
])
def test_python_of_a_host(seen, core, fits):
    error = inv.python_error("old1", seen, core)
    assert (error is None) is fits
    assert fits or ("old1" in str(error) and "package python3" in str(error))


def host(**change):
    """Errors of a fit host after a change."""
    good = {"name": "n1", "os_family": "Debian", "distribution": "Debian", "service_manager": "systemd",
            "addresses": ["10.0.0.1"], "address": "10.0.0.1",
            "paths": {"/w/requirements.txt": True, "/s/org/model/abc/manifest.json": False, "/srv/m/manifest.json": True}}
    serves, unpushed = change.pop("serves", True), change.pop("unpushed", "")
    deployments = [parse_deployment(GOOD["idc_llm_deployments"][0], 1)]
    state = inv.HostState(**{**good, **change})
    return inv.host_errors(state, deployments, "/s", ["/w/requirements.txt", "/r/vllm"], serves, unpushed)


def paths(**found):
    """Which of the paths are there."""
    return {"/w/requirements.txt": found.get("wheels", True), "/r/vllm": found.get("release", False),
            "/s/org/model/abc/manifest.json": found.get("store", False), "/srv/m/manifest.json": found.get("media", True),
            "/srv/m/config.json": found.get("folder", False)}


def test_fit_host_has_no_errors():
    assert host() == []
    assert host(paths=paths(wheels=False, release=True)) == []
    assert host(paths=paths(store=True, media=False)) == []
    assert host(paths=paths(media=False, folder=True)) == []  # a folder without a manifest will do
    assert host(paths={}, serves=False) == []


def test_wheels_that_the_controller_lacks_are_told_for_hosts_that_would_get_them():
    [error] = host(unpushed="/c/requirements.txt")
    assert (error.code, error.details["host"], error.details["path"]) == ("IDC-HOST-005", "localhost", "/c/requirements.txt")
    assert host(unpushed="/c/requirements.txt", serves=False) == []


@pytest.mark.parametrize(("change", "code", "word"), [
    ({"os_family": "RedHat", "distribution": "Rocky"}, "IDC-HOST-002", "Rocky"),
    ({"service_manager": "sysvinit"}, "IDC-HOST-003", "sysvinit"),
    ({"address": "10.9.9.9"}, "IDC-HOST-004", "10.9.9.9"),
    ({"paths": paths(wheels=False)}, "IDC-HOST-005", "/w/requirements.txt"),
    ({"paths": paths(media=False)}, "IDC-HOST-006", "/srv/m/manifest.json"),
])
def test_unfit_host(change, code, word):
    found = host(**change)
    assert [e.code for e in found] == [code] and word in str(found[0])
