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
