"""The exporters' password, as the exporter toolkit wants it."""
from __future__ import annotations

from ansible_collections.idc.llm.plugins.filter import watching


def test_the_hash_is_bcrypts_and_the_same_again():
    one = watching.exporter_hash("a password of some length", "n1")
    assert one == watching.exporter_hash("a password of some length", "n1") and one.startswith("$2b$10$") and len(one) == 60
    assert one != watching.exporter_hash("a password of some length", "n2")


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
