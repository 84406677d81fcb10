# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an answer has to be: its status, a pattern, a JSON schema. Pure; private to this collection."""
from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Mapping

# The part of https://json-schema.org/draft/2020-12/json-schema-validation that is carried out; the rest is refused,
# since a keyword that is quietly left out would make any answer right.
KEYWORDS = ("type", "properties", "required", "enum", "items", "minimum", "maximum")
NOTES = ("$schema", "title", "description")  # they constrain nothing
TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
SHOWN = 80  # characters of an answer in a message


@dataclass(frozen=True)
class Expect:
    """What is wanted of an answer. ``regex`` and ``json_schema`` look at its text; for a status other than 200 its body."""

    status: int = 200
    regex: str = ""
    json_schema: Mapping[str, Any] | None = None

    def refusal(self) -> tuple[str, str]:
        """The option that cannot be carried out and why; ("", "") where all can."""
        try:
            re.compile(self.regex)
        except re.error as error:
            return "expect.regex", str(error)
        wrong = "" if self.json_schema is None else schema_refusal(self.json_schema)
        return ("expect.json_schema", wrong) if wrong else ("", "")

    def problem(self, status: int, text: str) -> str:
        """In which way an answer is not as wanted, "" where it is."""
        if status != self.status:
            return f"status {status}, wanted {self.status}"
        if self.regex and not re.search(self.regex, text):
            return f"{_short(text)} does not match {self.regex!r}"
        if self.json_schema is None:
            return ""
        try:
            value = json.loads(text)
        except ValueError:
            return f"{_short(text)} is not JSON"
        return mismatch(self.json_schema, value)


def schema_refusal(schema: Any, at: str = "$") -> str:
    """What in a schema is not understood, "" where all is."""
    if not isinstance(schema, Mapping):
        return f"{at} is not a mapping"
    for key in schema:
        if key not in KEYWORDS + NOTES:
            return f"{at} uses {key}, and only {', '.join(KEYWORDS)} are understood"
    types, names, cases = _types(schema), schema.get("required", []), schema.get("enum", [])
    properties = schema.get("properties", {})
    if any(kind not in TYPES for kind in types):
        return f"{at}.type is {schema['type']!r}, wanted of {', '.join(TYPES)}"
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return f"{at}.required is not a list of names"
    if not isinstance(cases, list) or any(isinstance(case, (list, dict)) for case in cases):
        return f"{at}.enum is not a list of plain values"
    for key in ("minimum", "maximum"):
        if key in schema and not _is(schema[key], "number"):
            return f"{at}.{key} is not a number"
    if not isinstance(properties, Mapping):
        return f"{at}.properties is not a mapping"
    inner = [(part, f"{at}.properties.{name}") for name, part in properties.items()]
    inner += [(schema["items"], f"{at}.items")] if "items" in schema else []
    return next((wrong for wrong in (schema_refusal(*one) for one in inner) if wrong), "")


def mismatch(schema: Mapping[str, Any], value: Any, at: str = "$") -> str:
    """The first place where a JSON value is not what the schema says, "" where there is none."""
    types = _types(schema)
    if types and not any(_is(value, kind) for kind in types):
        return f"{at} is {_short(value)}, wanted {' or '.join(types)}"
    if "enum" in schema and not any(_same(value, case) for case in schema["enum"]):
        return f"{at} is {_short(value)}, wanted one of {json.dumps(schema['enum'], ensure_ascii=False)}"
    if _is(value, "number"):
        if "minimum" in schema and value < schema["minimum"]:
            return f"{at} is {value}, wanted at least {schema['minimum']}"
        if "maximum" in schema and value > schema["maximum"]:
            return f"{at} is {value}, wanted at most {schema['maximum']}"
    if isinstance(value, list) and "items" in schema:
        found = (mismatch(schema["items"], item, f"{at}[{number}]") for number, item in enumerate(value))
        return next((wrong for wrong in found if wrong), "")
    if isinstance(value, dict):
        for name in schema.get("required", []):
            if name not in value:
                return f"{at} has no {name}"
        parts = schema.get("properties", {})
        found = (mismatch(part, value[name], f"{at}.{name}") for name, part in parts.items() if name in value)
        return next((wrong for wrong in found if wrong), "")
    return ""


def _types(schema: Mapping[str, Any]) -> list[Any]:
    given = schema.get("type", [])
    return given if isinstance(given, list) else [given]


def _is(value: Any, kind: str) -> bool:
    """Whether a value is of a JSON type; true is no number, and 1.0 is an integer."""
    if kind in ("number", "integer"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (kind == "number" or float(value).is_integer())
    wanted = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}[kind]
    return isinstance(value, wanted)


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
