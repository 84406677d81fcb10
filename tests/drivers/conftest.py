"""The fleet under test: molecule's scenario `drivers`."""
from __future__ import annotations

from tests.house.conftest import fleet, on

__all__ = ["fleet", "on"]
