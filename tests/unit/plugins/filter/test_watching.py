"""The exporters' password, as the exporter toolkit wants it."""
from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.idc.llm.plugins.filter import watching


def test_the_hash_is_bcrypts_and_the_same_again():
    one = watching.exporter_hash("a password of some length", "n1")
    assert one == watching.exporter_hash("a password of some length", "n1") and one.startswith("$2b$10$") and len(one) == 60
    assert one != watching.exporter_hash("a password of some length", "n2")
    assert one[7:29] == watching.exporter_hash("another password of it", "n1")[7:29], "nothing of the password is in the salt"


@pytest.fixture()
def controller(monkeypatch):
    """A controller with these libraries alone, by name: what its crypt() gives."""
    def has(**libraries):
        def load(name):
            if name not in libraries:
                raise OSError(f"{name}: cannot open shared object file")
            return SimpleNamespace(crypt=libraries[name])
        monkeypatch.setattr(ctypes, "CDLL", load)
    return has


def test_red_hats_library_will_do(controller):
    controller(**{"libcrypt.so.2": lambda password, setting: setting + b"x" * 31})
    assert watching.exporter_hash("a password of some length", "n1").endswith("x" * 31)
    assert watching.exporter_errors({}, ["node"], "x" * 16, True) == []


def test_a_controller_without_bcrypt_is_told_before_anything_is_changed_and_without_the_password(controller):
    controller(**{"libcrypt.so.1": lambda password, setting: None})
    (said,) = watching.exporter_errors({}, ["node"], "x" * 16, True)
    assert "IDC-MON-011" in said and "libcrypt.so.1 knows no bcrypt; libcrypt.so.2: cannot open" in said
    assert watching.exporter_errors({}, ["node"], "", False) == []
    with pytest.raises(AnsibleFilterError, match="IDC-MON-011") as caught:
        watching.exporter_hash("a password of some length", "n1")
    assert "a password" not in str(caught.value)


def test_a_ca_of_the_log_host_is_looked_for_on_the_controller(tmp_path):
    host = {"address": "log", "ca": str(tmp_path / "ca.pem")}
    assert "IDC-MON-008" in watching.log_errors(host)[0]
    (tmp_path / "ca.pem").write_text("x")
    assert watching.log_errors(host) == []


def test_sentences_are_in_the_sites_language_and_hold_no_password():
    (said,) = watching.exporter_errors({}, ["node"], "short", True, "zh")
    assert "IDC-MON-006" in said and "exporters_password" in said and "short" not in said.replace("5 characters", "")
    assert watching.exporter_errors({}, ["node"], "x" * 16, True) == [] == watching.exporter_errors({}, ["node"], "", False)


def test_whatever_is_given_for_receivers_ends_in_sentences():
    for receivers, secrets, costs in (("night", None, None), (["night"], [], "much"), (None, "word", 7), ([{}], {"x": 1}, {1: 2})):
        assert watching.monitoring_errors(receivers, secrets, costs, "zh", ["20GB"], 7)
    assert watching.monitoring_errors([], {}, {}, "en", "20GB") == [] == watching.monitoring_errors([], None, None)


def test_a_warning_is_in_the_sites_language():
    assert "没有" in watching.monitoring_warnings([], "zh")[0]
