# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a planner must know of a model: config.json, bytes of weights, tensors in rows. Pure; private to this collection.

The form, which `check` tells from all others::

    {"schema": 1, "config": {...}, "source": "where it is from",
     "weights": {"bytes": int | None, "files": int | None, "tensors": None | [row]}}
    row: {"name": "model.layers.*.mlp.experts.*.up_proj.weight", "dtype": "F8_E4M3", "shape": [2048, 7168],
          "layers": [[3, 60]] | None, "count": 256}

A row stands for ``count`` equal tensors in each of its layers (in all, without layers). A safetensors file begins with
8 bytes, little-endian, the length of a JSON header {name: {dtype, shape, data_offsets}}, at most 100 MB; the data
follow without a gap (https://huggingface.co/docs/safetensors/index#format).
"""
from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Mapping, Tuple

from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

SCHEMA = 1
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
LENGTH_BYTES = 8
HEADER_LIMIT = 100_000_000
# of a training run, not of the model; vLLM leaves out the same (filter_files_not_needed_for_inference)
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")
_NO_LAYER = -1
_NUMBER = re.compile(r"\.[0-9]{1,9}(?![^.])")  # a whole dotted component, of a name with a dot before it
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.([0-9]{1,9})(?![^.])")

Key = Tuple[str, str, Tuple[int, ...], int]  # name with *, dtype, shape, layer (-1: none)
Tally = Dict[Key, int]


class MetadataError(Exception):
    """A file that describes a model is not what it should be; the message says why."""


@dataclass(frozen=True)
class Index:
    """What model.safetensors.index.json says: the files that it names, and bytes of all tensors (None: not said)."""

    files: frozenset[str]
    total_size: int | None


@dataclass(frozen=True)
class Weights:
    """The files that hold the weights: whose headers to read, bytes, number, ``basis`` in words, names not there."""

    shards: tuple[str, ...]
    bytes: int | None
    files: int | None
    basis: str
    missing: tuple[str, ...] = ()


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of these bytes; raises MetadataError."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise MetadataError(f"it is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise MetadataError("it is not a JSON object")
    return data


def parse_index(raw: bytes) -> Index:
    """The index of these bytes; raises MetadataError."""
    data = parse_object(raw)
    names, about = data.get("weight_map"), data.get("metadata")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise MetadataError("it has no weight_map of tensors and files")
    total = about.get("total_size") if isinstance(about, dict) else None
    if isinstance(total, float) and total.is_integer():  # some tools write it so
        total = int(total)
    return Index(frozenset(names.values()), total if _natural(total) else None)


def choose_weights(sizes: Mapping[str, int], index: Index | None) -> Weights:
    """The weights among a model's files, {path: bytes}; only the top folder counts.

    As vLLM's loader: the safetensors files that the index names, without an index all of them; without any, .bin, else
    .pt. ``consolidated*`` beside others is the same weights a second time.
    """
    top = {path: size for path, size in sizes.items() if "/" not in path and path not in _NO_WEIGHTS}
    shards = sorted(path for path in top if path.endswith(".safetensors"))
    if shards:
        if index:
            missing = tuple(sorted(index.files.difference(shards)))
            shards = [path for path in shards if path in index.files]
        else:
            missing = ()
            shards = [path for path in shards if not path.startswith("consolidated")] or shards
        basis = f"the headers of {len(shards)} safetensors file(s)"
        return Weights(tuple(shards), sum(top[path] for path in shards), len(shards), basis, missing)
    for suffix in (".bin", ".pt"):
        found = [size for path, size in top.items() if path.endswith(suffix)]
        if found:
            return Weights((), sum(found), len(found), f"the size of {len(found)} {suffix} file(s)")
    if index:
        return Weights((), index.total_size, len(index.files), INDEX)
    return Weights((), None, None, "nothing about weights")


def header_length(prefix: bytes, size: int) -> int:
    """Bytes of the JSON header of a safetensors file of ``size`` bytes, from its first 8; raises MetadataError."""
    if len(prefix) < LENGTH_BYTES:
        raise MetadataError(f"it ends after {len(prefix)} bytes, before the length of its header")
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if length > HEADER_LIMIT:
        raise MetadataError(f"its header would have {length} bytes, wanted at most {HEADER_LIMIT}")
    if LENGTH_BYTES + length > size:
        raise MetadataError(f"its header would have {length} bytes, but the file has only {size}")
    return length


def parse_header(raw: bytes, size: int) -> dict[str, Any]:
    """The JSON header of a safetensors file of ``size`` bytes; raises MetadataError, also where the data do not fit it."""
    try:
        header = parse_object(raw)
    except MetadataError as exc:
        raise MetadataError(f"its header is damaged: {exc}") from exc
    end = 0
    for name, entry in _tensors(header):
        offsets: Any = entry.get("data_offsets")
        if not _naturals(offsets) or len(offsets) != 2:
            raise MetadataError(f"its header is damaged: {name!r} has no data_offsets")
        end = max(end, offsets[1])
    if LENGTH_BYTES + len(raw) + end != size:
        raise MetadataError(f"its header speaks of {LENGTH_BYTES + len(raw) + end} bytes, but the file has {size}")
    return header


def tally(header: Mapping[str, Any]) -> Tally:
    """A header's tensors, counted by name with *, dtype, shape and layer; raises MetadataError."""
    counts: Tally = {}
    for name, entry in _tensors(header):
        dtype: Any = entry.get("dtype")
        shape: Any = entry.get("shape")
        if not isinstance(dtype, str) or not dtype or not _naturals(shape):
            raise MetadataError(f"its header is damaged: {name!r} has no dtype and shape")
        general, layer = generalise(name)
        key = (general, dtype, tuple(shape), layer)
        counts[key] = counts.get(key, 0) + 1
    return counts


def generalise(name: str) -> tuple[str, int]:
    """A tensor's name with * for each number, and its layer: the first number right after layers, h or blocks, else -1."""
    dotted = "." + name
    layer = _LAYER.search(dotted)
    return _NUMBER.sub(".*", dotted)[1:], int(layer.group(1)) if layer else _NO_LAYER


def rows(tallies: Iterable[Tally]) -> list[dict[str, Any]]:
    """The tensor rows of a whole model, sorted by name (then dtype, shape, layers)."""
    total: Tally = {}
    for counts in tallies:
        for key, count in counts.items():
            total[key] = total.get(key, 0) + count
    groups: dict[tuple[str, str, tuple[int, ...], bool, int], list[int]] = {}
    for (name, dtype, shape, layer), count in total.items():
        groups.setdefault((name, dtype, shape, layer != _NO_LAYER, count), []).append(layer)
    found = [(name, dtype, shape, ranges(layers) if layered else None, count)
             for (name, dtype, shape, layered, count), layers in groups.items()]
    found.sort(key=lambda row: (row[0], row[1], row[2], row[3] or []))
    return [{"name": name, "dtype": dtype, "shape": list(shape), "layers": layers, "count": count}
            for name, dtype, shape, layers, count in found]


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Inclusive ranges of whole numbers: 5 0 1 2 -> [[0, 2], [5, 5]]."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number <= found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def build(
    config: Mapping[str, Any], tallies: Iterable[Tally] | None, weight_bytes: int | None, files: int | None, source: str
) -> dict[str, Any]:
    """The metadata; ``tallies`` of each safetensors header, or None where no header is known."""
    tensors = None if tallies is None else rows(tallies)
    weights = {"bytes": weight_bytes, "files": files, "tensors": tensors}
    return {"schema": SCHEMA, "config": dict(config), "weights": weights, "source": source}


def metadata_from_folder_files(
    config: Mapping[str, Any],
    headers: Iterable[Mapping[str, Any]] | None,
    weight_bytes: int | None,
    files: int | None,
    source: str,
) -> dict[str, Any]:
    """The metadata of a parsed config.json and parsed safetensors headers (None: not known); raises MetadataError."""
    return build(config, None if headers is None else map(tally, headers), weight_bytes, files, source)


def check(metadata: Any, place: str) -> dict[str, Any]:
    """The same metadata, if it has the form; else IDC-FETCH-013 that names the key. ``place`` says whose it is."""
    found: dict[str, Any] = _expect(metadata, dict, "it", "a mapping", place)
    if found.get("schema") != SCHEMA or isinstance(found.get("schema"), bool):
        _refuse(found, "schema", "schema", str(SCHEMA), place)
    _expect(found.get("config"), dict, "config", "config.json as a mapping", place, found)
    _expect(found.get("source"), str, "source", "a text", place, found)
    weights = _expect(found.get("weights"), dict, "weights", "a mapping of bytes, files and tensors", place, found)
    for key in ("bytes", "files"):
        if key not in weights or not (weights[key] is None or _natural(weights[key])):
            _refuse(weights, key, "weights." + key, "a whole number or null", place)
    tensors = weights.get("tensors")
    if "tensors" not in weights or not (tensors is None or isinstance(tensors, list)):
        _refuse(weights, "tensors", "weights.tensors", "a list of rows or null", place)
    for number, row in enumerate(tensors or []):
        where = f"weights.tensors[{number}]"
        _check_row(_expect(row, dict, where, "a mapping", place), where, place)
    return found


def _check_row(row: dict[str, Any], where: str, place: str) -> None:
    for key in ("name", "dtype"):
        if not isinstance(row.get(key), str) or not row[key]:
            _refuse(row, key, f"{where}.{key}", "a text", place)
    if not _naturals(row.get("shape")):
        _refuse(row, "shape", where + ".shape", "a list of whole numbers", place)
    if not _natural(row.get("count")) or row["count"] < 1:
        _refuse(row, "count", where + ".count", "a whole number above 0", place)
    if "layers" not in row or not (row["layers"] is None or _are_ranges(row["layers"])):
        _refuse(row, "layers", where + ".layers", "ascending pairs [first, last] or null", place)


def _are_ranges(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(_naturals(pair) and len(pair) == 2 for pair in value):
        return False
    flat = [number for pair in value for number in pair]
    return all(low <= high for low, high in value) and all(a < b for a, b in zip(flat[1::2], flat[2::2]))


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _naturals(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_natural, value))


def _tensors(header: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, Mapping):
            raise MetadataError(f"its header is damaged: {name!r} is not an object")
        yield name, entry


def _expect(value: Any, kind: type, key: str, wanted: str, place: str, owner: Mapping[str, Any] | None = None) -> Any:
    if not isinstance(value, kind):
        _refuse({key: value} if owner is None else owner, key, key, wanted, place)
    return value


def _refuse(owner: Mapping[str, Any], key: str, path: str, wanted: str, place: str) -> None:
    seen = repr(owner[key]) if key in owner else "missing"
    seen = seen if len(seen) <= 60 else seen[:57] + "..."
    raise IdcError("IDC-FETCH-013", place=place, key=path, seen=seen, wanted=wanted)
