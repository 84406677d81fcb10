# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer has to be: the part of JSON schema that is carried out, and what is refused."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._expect import Expect, mismatch, schema_refusal

SCHEMA = {
    "type": "object",
    "title": "a card",
    "required": ["name", "cards"],
    "properties": {
        "name": {"type": "string", "enum": ["H100", "H200"]},
        "cards": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 7}},
        "note": {"type": ["string", "null"]},
    },
}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"name": "H200", "cards": [0, 7], "note": None}, ""),
        ({"name": "H200", "cards": [1.0], "more": 1}, ""),
        ([], "$ is '[]', wanted object"),
        ({"name": "H200"}, "$ has no cards"),
        ({"name": "A100", "cards": []}, "$.name is 'A100', wanted one of"),
        ({"name": "H200", "cards": [0, 8]}, "$.cards[1] is 8, wanted at most 7"),
        ({"name": "H200", "cards": [-1]}, "$.cards[0] is -1, wanted at least 0"),
        ({"name": "H200", "cards": [True]}, "$.cards[0] is 'true', wanted integer"),
        ({"name": "H200", "cards": [0.5]}, "$.cards[0] is '0.5', wanted integer"),
        ({"name": "H200", "cards": [], "note": 1}, "$.note is '1', wanted string or null"),
    ],
)
def test_a_value_against_a_schema(value, says):
    found = mismatch(SCHEMA, value)
    assert found.startswith(says) if says else found == ""


def test_true_is_not_the_number_one():
    assert mismatch({"enum": [1]}, 1.0) == ""
    assert mismatch({"enum": [1]}, True) != ""


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"anyOf": []}, "$ uses anyOf"),
        ({"properties": {"a": {"items": {"pattern": "x"}}}}, "$.properties.a.items uses pattern"),
        ({"type": "text"}, "$.type is 'text'"),
        ({"required": "name"}, "$.required"),
        ({"required": [1]}, "$.required"),
        ({"enum": [[1]]}, "$.enum"),
        ({"minimum": "3"}, "$.minimum"),
        ({"maximum": True}, "$.maximum"),
        ({"properties": []}, "$.properties"),
        ({"items": [{}]}, "$.items is not a mapping"),
    ],
)
def test_what_is_not_understood_is_refused_and_never_left_out(schema, says):
    assert schema_refusal(schema).startswith(says)
    assert Expect(json_schema=schema).refusal()[0] == "expect.json_schema"


def test_what_is_understood_is_not_refused():
    assert schema_refusal(SCHEMA) == ""
    assert Expect(regex="a+", json_schema=SCHEMA).refusal() == ("", "")
    assert Expect(regex="(").refusal()[0] == "expect.regex"


def test_status_pattern_and_form_of_an_answer():
    assert Expect(regex=r"\d{2}").problem(200, "it is 42") == ""
    assert "does not match" in Expect(regex=r"^\d+$").problem(200, "it is 42")
    assert Expect(status=401).problem(200, "hello") == "status 200, wanted 401"
    assert Expect(json_schema={}).problem(200, "so: {}").endswith("is not JSON")
    assert len(Expect(regex="x").problem(200, "a" * 5000)) < 200
