# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists what an installed release of vLLM understands, for idc.llm.vllm_service to check engines against.

Run once by the release's own Python: ``bin/python list_arguments.py <release>/arguments.json``. It imports vLLM (tens of seconds),
needs no GPU and no driver, starts nothing. The file, schema 1::

    {"schema": 1, "vllm": "0.32.0", "options": {NAME: OPTION}, "variables": {NAME: VARIABLE}}

NAME of an option: its first long name without the dashes. OPTION: ``names`` (all of them, with dashes), ``kind`` (bool, int,
float, str, json or list) and, where it applies: ``negatable`` (bool: a ``--no-`` form exists), ``bare`` (may stand without a
value), ``choices``, ``folds`` (choices are matched in lower case, dashes as underscores), ``suffixes`` (an int may be 64M),
``words`` (an int may also be one of them), ``items`` (a list's kind), ``length`` (a list's), ``array`` (JSON of a list), ``text``
(may be plain text instead of JSON), ``fields`` (a mapping's keys, each with its own fields; none: anything goes), ``deprecated``
(what vLLM says). VARIABLE: ``kind`` (bool, int, float, str, json or list) and ``choices``, ``folds`` (upper and lower case are
one), ``values`` (of a bool: the spellings that mean what they say).

What converts text is tried instead of read, so that this outlives a release of vLLM.
"""
from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import inspect
import json
import os
import re
import sys
import tempfile
import typing

SCHEMA = 1
WORDS = ("auto",)
SPELLINGS = ("0", "1", "false", "true", "False", "True")
READS = re.compile(r"""(?:getenv\(|environ(?:\.get\(|\.pop\(|\.setdefault\(|\[))\s*["'](VLLM_[A-Z0-9_]+)["']""")
REFUSED = object()


def tried(convert, text):
    """What ``convert`` makes of a text, or REFUSED."""
    try:
        return convert(text)
    except (Exception, SystemExit):  # an unknown program's converters raise what they like
        return REFUSED


# --- options


def fields_of(kind, above=()):
    """Keys that a dataclass takes, each with its own; none where it takes any or is met again further down."""
    config = getattr(kind, "__pydantic_config__", None) or {}
    if kind in above or not dataclasses.is_dataclass(kind) or config.get("extra", "forbid") != "forbid":
        return {}
    try:
        hints = typing.get_type_hints(kind)
    except Exception:  # a name that only a type checker sees
        hints = {}
    found = {}
    for field in dataclasses.fields(kind):
        if field.init:
            hint = hints.get(field.name)
            inner = [one for one in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(one)]
            found[field.name] = fields_of(inner[0], (*above, kind)) if inner else {}
            alias = getattr(getattr(kind, "__pydantic_fields__", {}).get(field.name), "validation_alias", None)
            found.update({name: {} for name in getattr(alias, "choices", [alias]) if isinstance(name, str)})
    return found


def made_by(convert):
    """The dataclass that a converter fills from JSON: a default of it, or of a function that it wraps; else None."""
    for one in getattr(convert, "__defaults__", None) or ():
        if isinstance(one, type) and dataclasses.is_dataclass(one):
            return one
    inner = [cell.cell_contents for cell in getattr(convert, "__closure__", None) or ()]
    return next(filter(None, map(made_by, filter(inspect.isfunction, inner))), None)


def value_of(action, later):
    """Kind and limits of one value. ``later``: {dest: dataclass} that vLLM makes of a JSON text only afterwards."""
    convert = action.type or str
    if not callable(convert):
        return {"kind": "str"}
    made, empty, word = made_by(convert), tried(convert, "{}"), tried(convert, "word-x")
    known = fields_of(made or later.get(action.dest))
    if made or isinstance(empty, dict):
        found = {"kind": "json"}
        if isinstance(action.default, list):
            found["array"] = True
        if isinstance(word, str):
            found["text"] = True
        return {**found, "fields": known} if known else found
    if word is REFUSED and isinstance(tried(convert, "1"), int):
        found = {"kind": "int"}
        if tried(convert, "1k") == 1000:
            found["suffixes"] = True
        words = [one for one in WORDS if tried(convert, one) is not REFUSED]
        return {**found, "words": words} if words else found
    if word is REFUSED and isinstance(tried(convert, "0.5"), float):
        return {"kind": "float"}
    return {"kind": "str"} if word is not REFUSED else {"kind": "json", "text": True}  # the latter: nothing is known of it


def option_of(action, later):
    """One option of the parser."""
    if isinstance(action, argparse.BooleanOptionalAction):
        found = {"kind": "bool", "negatable": True}
    elif action.nargs == 0:
        found = {"kind": "bool"}
    else:
        found = value_of(action, later)
        if action.choices:
            found["choices"] = sorted(map(str, action.choices), key=lambda text: text.zfill(9) if text.isdigit() else text)
            if tried(action.type or str, "A-b") == "a_b":
                found["folds"] = True
        if action.nargs in ("+", "*") or isinstance(action.nargs, int):
            found["items"], found["kind"] = found["kind"], "list"
            if isinstance(action.nargs, int):
                found["length"] = action.nargs
        elif action.nargs == "?":
            found["bare"] = True
    text = " ".join((action.help or "").split()).replace("%%", "%")
    if getattr(action, "deprecated", False) or re.search(r"\bdeprecated\b", text):
        found["deprecated"] = text or "deprecated"
    return {"names": list(action.option_strings), **found}


def options_of(parser, later):
    """{name: option} of everything that may stand in a --config file."""
    found = {}
    for action in parser._actions:
        names = [name for name in action.option_strings if name.startswith("--")]
        if names:
            found[names[0][2:]] = option_of(action, later)
    return found


# --- variables


def variable_of(name, read):
    """Kind and limits of one variable. ``read``: vLLM's function without arguments that looks it up."""
    held = os.environ.get(name)

    def at(text):
        os.environ[name] = text
        return tried(lambda _text: read(), text)

    try:
        around = inspect.getclosurevars(read).nonlocals if inspect.isfunction(read) else {}
        if "choices" in around:
            choices = around["choices"]() if callable(around["choices"]) else around["choices"]
            first = at(str(list(choices)[0]))
            found = {"kind": "list" if isinstance(first, (list, set, tuple)) else "str", "choices": [str(one) for one in choices]}
            return found if around.get("case_sensitive", True) else {**found, "folds": True}
        word, one = at("word-x"), at("1")
        if isinstance(one, bool):
            meant = {text: text.lower() in ("1", "true") for text in SPELLINGS}
            return {"kind": "bool", "values": [text for text in SPELLINGS if at(text) is meant[text]]}
        if word is not REFUSED:
            return {"kind": "str"}
        if isinstance(at("{}"), dict):
            return {"kind": "json"}
        if isinstance(at("0.5"), float):
            return {"kind": "float"}
        return {"kind": "int" if isinstance(one, int) else "str"}
    finally:
        os.environ.pop(name, None)
        if held is not None:
            os.environ[name] = held


def sources():
    """Python files of vLLM and of what plugs into it, for the variables that they read without declaring them."""
    found = set()
    for dist in importlib.metadata.distributions():
        files = dist.files or ()
        plugs = any(point.group.startswith("vllm.") for point in dist.entry_points)
        if plugs or any(str(path) == "vllm/envs.py" for path in files):
            found.update(str(dist.locate_file(path)) for path in files if str(path).endswith(".py"))
    return sorted(found)


def variables_of(declared):
    """{name: variable}: those that vLLM declares, and those that it or a plugin reads in passing."""
    found = {name: variable_of(name, read) for name, read in declared.items() if name.startswith("VLLM_")}
    for path in sources():
        try:
            with open(path, encoding="utf-8") as stream:
                names = READS.findall(stream.read())
        except (OSError, UnicodeDecodeError):
            continue
        for name in names:
            found.setdefault(name, {"kind": "str"})
    return found


# --- vLLM


def listing():
    """The whole file, of the vLLM that this Python has."""
    for name in [name for name in os.environ if name.startswith("VLLM_")]:
        del os.environ[name]  # what stands in a shell is no property of the release
    os.environ.update(VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1")
    from vllm import platforms

    if platforms.current_platform.is_unspecified():  # no driver (yet); as vLLM's own command does
        from vllm.platforms.cpu import CpuPlatform

        platforms.current_platform = CpuPlatform()
    from vllm import envs
    from vllm.entrypoints.cli.serve import FlexibleArgumentParser, ServeSubcommand

    parser = ServeSubcommand().subparser_init(FlexibleArgumentParser(prog="vllm").add_subparsers())
    return {"schema": SCHEMA, "vllm": importlib.metadata.version("vllm"), "options": options_of(parser, made_later()),
            "variables": variables_of(envs.environment_variables)}


def made_later():
    """{name: dataclass} of the configurations that the engine makes of plain JSON itself."""
    try:
        from vllm.config import VllmConfig

        hints = typing.get_type_hints(VllmConfig)
    except Exception:  # another release, other names: then those options' keys are not checked
        return {}
    return {name: one for name, hint in hints.items() for one in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(one)}


def write(path, found):
    """In place whole, readable by all; an option or variable a line."""
    parts = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows = [f"  {json.dumps(name)}: {json.dumps(value[name])}" for name in sorted(value)]
            value = "{\n" + ",\n".join(rows) + "\n }"
        else:
            value = json.dumps(value)
        parts.append(f" {json.dumps(key)}: {value}")
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=".arguments-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write("{\n" + ",\n".join(parts) + "\n}\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    write(sys.argv[1], listing())
