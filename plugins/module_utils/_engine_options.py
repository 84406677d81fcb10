# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine's configuration and environment against what its release understands. Pure; private to this collection.

What a release understands stands in its arguments.json, written at install by roles/vllm/files/list_arguments.py (its head
describes the file); vLLM is never imported here.

How vLLM 0.32.0 reads a ``--config`` file (vllm/utils/argparse_utils.py; tried) decides what is refused and what is rewritten:
every key becomes ``--key``, followed by the value's text, or its JSON for a mapping, or one word for each item of a list.

- ``false`` is dropped without a word, because ``--no-key`` is looked up in the parser of ``vllm``, not in that of ``vllm serve``:
  ``enable-prefix-caching: false`` leaves it on. ``as_vllm_reads`` turns it round: ``no-enable-prefix-caching: true``.
- An option that takes one value, given a list or (a switch) the text "true", leaves words over, and the last of them becomes the
  model. A list for an option that wants JSON has the same fate; ``as_vllm_reads`` writes its JSON.
- A dotted key with true or false eats its neighbour or vanishes; a value that begins with a dash is taken for an option.
- Unambiguous beginnings of names are accepted. Here they are not: the next release may know two that begin so.
"""
from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.idc.llm.plugins.module_utils import _engine_names as names
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError, Said

FILE = "arguments.json"
SCHEMA = 1
SHOWN = 60  # characters of a wrong value
LISTED = 12  # choices that are named
_INT = re.compile(r"[+-]?\d+")
_SUFFIXED = re.compile(r"\d+[kKmMgGtT]|\d+\.\d+[kmgt]")  # 1k = 1000, 1K = 1024, decimals only with the former
_NUMBERS = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
_FLOAT = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?")
_SECRET = re.compile(r"(KEY|TOKEN)$|SECRET|PASSWORD")


@dataclass(frozen=True)
class Arguments:
    """What a release understands: ``options`` by dashed name and ``variables``, as arguments.json has them."""

    version: str
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def named(self, name: str) -> Optional[str]:
        """The option's first name for any of its long ones, dashed; None where it has no such option."""
        if name in self.options:
            return name
        return next((first for first, option in self.options.items() if f"--{name}" in option.get("names", ())), None)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (``config.x`` or ``environment.X``), and what about it."""

    where: str
    en: str
    zh: str


def parse_arguments(text: str, path: str) -> Arguments:
    """The text of an arguments.json, "" where there is none. Raises IdcError (IDC-ENG-016) for what this version cannot read."""
    if not text:
        raise IdcError("IDC-ENG-016", path=path, observed="it is not there")
    try:
        found = json.loads(text)
        if found["schema"] != SCHEMA:
            raise IdcError("IDC-ENG-016", path=path, observed=f"schema {found['schema']}")
        arguments = Arguments(str(found["vllm"]), dict(found["options"]), dict(found["variables"]))
    except (ValueError, KeyError, TypeError) as error:
        raise IdcError("IDC-ENG-016", path=path, observed=f"{type(error).__name__}: {error}") from error
    if "model" not in arguments.options or not arguments.variables:
        raise IdcError("IDC-ENG-016", path=path, observed="no option named model, or no variable")
    return arguments


def validate(config: Mapping[str, Any], environment: Mapping[str, Any], arguments: Arguments,
             gpus: bool = False) -> Tuple[Problem, ...]:
    """All that is wrong, in the order of writing; options that are null are not given to vLLM and not looked at.

    gpus: whether the module says which cards.
    """
    problems: List[Problem] = []
    seen: Dict[str, str] = {}
    for key, value in config.items():
        if value is None:
            continue
        where, name = f"config.{key}", str(key).replace("_", "-")
        first = arguments.named(name[3:] if _negation(name, arguments) else name) or name
        if first in seen:
            problems.append(Problem(where, f"means the same as {seen[first]}", f"与 {seen[first]} 含义相同"))
        seen[first] = str(key)
        found = _option_trouble(name, value, arguments)
        if found:
            problems.append(Problem(where, *found))
    for key, value in environment.items():
        found = names.GPUS if gpus and key == "CUDA_VISIBLE_DEVICES" else _variable_trouble(str(key), value, arguments)
        if found:
            problems.append(Problem(f"environment.{key}", *found))
    return tuple(problems)


def refusal(problems: Iterable[Problem], arguments: Arguments, engine: str, path: str) -> Optional[IdcError]:
    """One error (IDC-ENG-015) for all problems, or None where there is none."""
    rows = tuple(problems)
    if not rows:
        return None
    english = "; ".join(f"({n}) {row.where}: {row.en}" for n, row in enumerate(rows, 1))
    chinese = "；".join(f"（{n}）{row.where}：{row.zh}" for n, row in enumerate(rows, 1))
    return IdcError("IDC-ENG-015", engine=engine, count=len(rows), version=arguments.version, path=path,
                    problems=Said(english, chinese))


def as_vllm_reads(config: Mapping[str, Any], arguments: Arguments) -> Dict[str, Any]:
    """A valid configuration in the words that reach vLLM's parser: see the head of this file."""
    found: Dict[str, Any] = {}
    for key, value in config.items():
        name = str(key).replace("_", "-")
        option = arguments.options.get(arguments.named(name) or "", {})
        if value is False and option.get("negatable"):
            name, value = f"no-{name}", True
        elif isinstance(value, (list, tuple)) and option.get("kind") == "json":
            value = json.dumps(value, sort_keys=True)
        elif isinstance(value, (list, tuple)):
            value = [json.dumps(item, sort_keys=True) if isinstance(item, Mapping) else item for item in value]
        found[name] = value
    return found


def nearest(name: str, known: Iterable[str]) -> Tuple[str, ...]:
    """The known names that look most like this one, best first; none where none does."""
    return tuple(difflib.get_close_matches(name, sorted(known), n=2, cutoff=0.7))


# --- options


def _negation(name: str, arguments: Arguments) -> bool:
    """no-x, x being a switch that can be turned off."""
    option = arguments.options.get(arguments.named(name[3:]) or "", {}) if name.startswith("no-") else {}
    return bool(option.get("negatable")) and not arguments.options.get(name)


def _option_trouble(name: str, value: Any, arguments: Arguments) -> Optional[names.Reason]:
    plain = name.lstrip("-")
    if plain != name:
        return _option_trouble(plain, value, arguments) or (f"goes without the dashes: {plain}", f"不要写前面的短横线：{plain}")
    if name in names.OWNED_OPTIONS:
        en, zh = names.OWNED_OPTIONS[name]
        return f"not to be said here: {en}", f"不能写在这里：{zh}"
    if _negation(name, arguments):
        if value is True:
            return None
        return f"is {_shown(value)}; write {name[3:]}: true or false", f"值为 {_shown(value)}；请写 {name[3:]}: true 或 false"
    first = arguments.named(name)
    if first is None:
        return _unknown(name, arguments)
    option = arguments.options[first]
    dead = str(option.get("deprecated", ""))
    if re.search(r"no effect|is ignored", dead):
        return f"without effect in vLLM {arguments.version}: leave it out", f"在 vLLM {arguments.version} 中不起作用：请删除"
    if option.get("kind") == "json" and "fields" in option:
        inner = list(_inner_trouble(_json(value) if isinstance(value, str) else value, option["fields"]))
        if inner:
            return ", ".join(en for en, _zh in inner), "，".join(zh for _en, zh in inner)
    wanted = _wanted_of(option)
    if _fits(option, value):
        return None
    return f"is {_shown(value)}, wanted {wanted[0]}", f"值为 {_shown(value)}，应为{wanted[1]}"


def _unknown(name: str, arguments: Arguments) -> names.Reason:
    """Why a name is refused, and what to write instead."""
    if "." in name:
        outer, inner = name.split(".", 1)
        return f"write a mapping, {outer}: {{{inner}: …}}", f"请写成映射，{outer}: {{{inner}: …}}"
    head = f"no option of vLLM {arguments.version}", f"不是 vLLM {arguments.version} 的选项"
    short = next((first for first, option in arguments.options.items() if f"-{name}" in option.get("names", ())), "")
    real, (en, zh) = names.OPTIONS.get(name, (short, ("", "")))
    if real and real not in arguments.options:  # another release, where even that is gone
        real, en, zh = "", "", ""
    if real:
        place = names.PLACES.get(real)
        here = (f" (in a deployment: {place})", f"（在部署中：{place}）") if place else ("", "")
        note = (f", {en}", f"，{zh}") if en else ("", "")
        return f"{head[0]}, which calls it {real}{here[0]}{note[0]}", f"{head[1]}，对应名称是 {real}{here[1]}{note[1]}"
    if en:
        return f"{head[0]}: {en}", f"{head[1]}：{zh}"
    close = nearest(name, arguments.options)
    if not close:
        return head
    return f"{head[0]}; did you mean {' or '.join(close)}?", f"{head[1]}；是否想写 {' 或 '.join(close)}？"


def _inner_trouble(value: Any, fields: Mapping[str, Any], above: str = "") -> Iterator[names.Reason]:
    """The unknown keys of a mapping, however deep; a mapping that takes any has no fields."""
    if not isinstance(value, Mapping) or not fields:
        return
    for key, inner in value.items():
        if key in fields:
            yield from _inner_trouble(inner, fields[key], f"{above}{key}.")
            continue
        close = nearest(str(key), fields)
        en, zh = (f" (did you mean {' or '.join(close)}?)", f"（是否想写 {' 或 '.join(close)}？）") if close else ("", "")
        yield f"has no key {above}{key}{en}", f"没有键 {above}{key}{zh}"


def _json(text: str) -> Any:
    """The value of a JSON text, in which vLLM allows numbers like 80m; the text itself where it is none."""
    try:
        return json.loads(_NUMBERS.sub("0", text))
    except ValueError:
        return text


def _fits(option: Mapping[str, Any], value: Any) -> bool:
    kind = option.get("kind")
    if kind == "bool":
        return isinstance(value, bool)
    if option.get("bare") and isinstance(value, bool):
        return True
    if kind == "json":
        if isinstance(value, str):
            held = _json(value)
            if option.get("text"):
                return not value.startswith("-")
            return isinstance(held, list if option.get("array") else Mapping)
        return isinstance(value, (list, tuple) if option.get("array") else Mapping)
    if kind != "list":
        return _word_fits({**option, "kind": kind}, value)
    rows = value if isinstance(value, (list, tuple)) else [value]
    if option.get("length") and len(rows) != option["length"]:
        return False
    return all(_word_fits({**option, "kind": option.get("items")}, item) for item in rows)


def _word_fits(option: Mapping[str, Any], value: Any) -> bool:
    """One word of vLLM's command line; a mapping in a list is written as JSON."""
    if isinstance(value, Mapping):
        return option["kind"] == "json" or (option["kind"] == "str" and "items" in option and "choices" not in option)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    text = str(value)
    if text.startswith("-") and not _INT.fullmatch(text):
        return False
    if option["kind"] == "int":
        fits = bool(_INT.fullmatch(text)) or text in option.get("words", ())
        fits = fits or bool(option.get("suffixes") and _SUFFIXED.fullmatch(text))
    elif option["kind"] == "float":
        fits = bool(_INT.fullmatch(text) or _FLOAT.fullmatch(text))
    else:
        fits = True
    fold: Callable[[str], str] = (lambda word: word.lower().replace("-", "_")) if option.get("folds") else str
    return fits and ("choices" not in option or fold(text) in [fold(str(one)) for one in option["choices"]])


def _wanted_of(option: Mapping[str, Any]) -> names.Reason:
    """What an option takes, for a person."""
    kind = option.get("items") if option.get("kind") == "list" else option.get("kind")
    if "choices" in option:
        choices = [str(one) for one in option["choices"] if str(one) != "None"]
        more = "" if len(choices) <= LISTED else ", …"
        en = zh = ("one of " if len(choices) > 1 else "") + ", ".join(choices[:LISTED]) + more
        zh = zh.replace("one of ", "以下之一：", 1)
    else:
        en, zh = {
            "bool": ("true or false, without quotes", " true 或 false，不加引号"), "int": ("a whole number", "整数"),
            "float": ("a number that is not negative", "非负数"), "json": ("a mapping", "映射"),
        }.get(str(kind), ("text that does not begin with a dash", "不以短横线开头的文本"))
    if option.get("array"):
        return "a list", "列表"
    if option.get("suffixes"):
        en, zh = f"{en}, also as 64M", f"{zh}，也可写作 64M"
    if option.get("words"):
        en, zh = f"{en} or {', '.join(option['words'])}", f"{zh}或 {', '.join(option['words'])}"
    if option.get("kind") == "list":
        count = option.get("length", "any number of")
        return f"a list of {count} items, each {en}", f"列表（{option.get('length', '任意')} 项），每项为{zh}"
    return en, zh


# --- variables


def _variable_trouble(name: str, value: Any, arguments: Arguments) -> Optional[names.Reason]:
    if name in names.OWNED_VARIABLES:
        en, zh = names.OWNED_VARIABLES[name]
        return f"not to be said here: {en}", f"不能写在这里：{zh}"
    if name in names.OFF_ONLY and str(value) not in ("", "0"):
        en, zh = names.OFF_ONLY[name]
        return f"is {_shown(value)}: {en}; leave it out", f"值为 {_shown(value)}：{zh}；请删除"
    known = arguments.variables.get(name)
    if known is not None:
        return _value_trouble(name, value, known)
    if name in names.VARIABLES:
        en, zh = names.VARIABLES[name]
        if not name.startswith("VLLM_"):
            return f"without effect: {en}", f"不起作用：{zh}"
        return f"no variable of vLLM {arguments.version}: {en}", f"不是 vLLM {arguments.version} 的变量：{zh}"
    return _unknown_variable(name, arguments) if name.startswith("VLLM_") else None


def _unknown_variable(name: str, arguments: Arguments) -> names.Reason:
    head = f"no variable of vLLM {arguments.version}", f"不是 vLLM {arguments.version} 的变量"
    option = arguments.named(name[5:].lower().replace("_", "-"))
    if option:
        return f"{head[0]}; it is an option, written in config: {option}", f"{head[1]}；它是选项，写在 config 中：{option}"
    close = nearest(name, arguments.variables)
    if not close:
        return head
    return f"{head[0]}; did you mean {' or '.join(close)}?", f"{head[1]}；是否想写 {' 或 '.join(close)}？"


def _value_trouble(name: str, value: Any, known: Mapping[str, Any]) -> Optional[names.Reason]:
    """An environment holds text: what the module makes of a value is what vLLM gets."""
    kind, text = known.get("kind"), str(value)
    choices = [str(one) for one in known.get("choices", ())]
    if isinstance(value, (Mapping, list, tuple)) or value is None:
        en, zh = "text", "文本"
    elif choices:
        said = [word.strip() for word in text.split(",") if word.strip()] if kind == "list" else [text]
        fold: Callable[[str], str] = str.lower if known.get("folds") else str
        if all(fold(word) in [fold(one) for one in choices] for word in said):
            return None
        en, zh = f"one of {', '.join(choices[:LISTED])}", f"以下之一：{', '.join(choices[:LISTED])}"
    elif kind == "bool" and text not in known.get("values", ("0", "1")):
        en, zh = '"0" or "1", in quotes', '"0" 或 "1"，加引号'
    elif kind == "int" and not _INT.fullmatch(text.strip()):
        en, zh = "a whole number", "整数"
    elif kind == "float" and not (_INT.fullmatch(text.strip()) or _FLOAT.fullmatch(text.strip().lstrip("-"))):
        en, zh = "a number", "数字"
    else:
        return None
    shown = "***" if _SECRET.search(name) else _shown(value)
    return f"is {shown}, wanted {en}", f"值为 {shown}，应为{zh}"


def _shown(value: Any) -> str:
    """A value as YAML would have it, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
