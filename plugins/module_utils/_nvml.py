# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVML through nvidia-ml-py: the binding, and calls whose failure is None. Private to this collection."""
from __future__ import annotations

import importlib
import re
import sys
import warnings
from typing import Any, Callable, Optional, Sequence, Tuple, Union

BINDING_PATH = "/usr/local/lib/idc_llm"
LOST, RESET_REQUIRED = 15, 16  # NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED
# nvmlFieldValue_t.valueType -> member of its union (nvmlValueType_t in nvml.h)
_VALUES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
Field = Union[str, Tuple[str, int]]


def load_binding(path: str = BINDING_PATH) -> Optional[Any]:
    """The module pynvml from sys.path or else from the folder; None where it is in neither."""
    if path not in sys.path:
        sys.path.append(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the inactive package of the same name warns
            return importlib.import_module("pynvml")
    except ImportError:
        return None


class Nvml:
    """Calls by their names in nvidia-ml-py. ``fatal``: the last answer that the GPU is lost or wants a reset."""

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self.fatal: Optional[int] = None

    def constant(self, name: str, default: Any = None) -> Any:
        """A name of the binding; the default where this binding does not have it."""
        return getattr(self.binding, name, default)

    def ask(self, name: str, *args: Any) -> Any:
        """The call's answer, or None where it fails or this binding does not have it."""
        call: Optional[Callable[..., Any]] = self.constant(name)
        if call is None:
            return None
        try:
            return call(*args)
        except self.binding.NVMLError as exc:
            self._note(getattr(exc, "value", None))
            return None

    def fields(self, handle: Any, names: Sequence[Field]) -> dict[Field, Any]:
        """Field → number or None, in one call. A field is a name without NVML_FI_DEV_, or (name, NVLink number).

        https://docs.nvidia.com/deploy/nvml-api/group__nvmlFieldValueQueries.html
        """
        found: dict[Field, Any] = dict.fromkeys(names)
        known: dict[Field, Any] = {}
        for field in names:
            name, scope = (field, None) if isinstance(field, str) else field
            number = self.constant("NVML_FI_DEV_" + name)
            if number is not None:
                known[field] = number if scope is None else (number, scope)
        rows = self.ask("nvmlDeviceGetFieldValues", handle, list(known.values())) if known else None
        for field, row in zip(known, rows or ()):
            self._note(row.nvmlReturn)
            if row.nvmlReturn == 0 and row.valueType < len(_VALUES):
                found[field] = getattr(row.value, _VALUES[row.valueType])
        return found

    def _note(self, number: Optional[int]) -> None:
        if number in (LOST, RESET_REQUIRED):
            self.fatal = number


def text(value: Any) -> Optional[str]:
    """Text of bytes or anything; control characters dropped."""
    if value is None:
        return None
    words = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return re.sub(r"[\x00-\x1f]", "", words)


def of(value: Any, convert: Callable[[Any], Any]) -> Any:
    """The value converted; None stays None."""
    return None if value is None else convert(value)
