"""Arrays that the native module hands out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def taken(handed: Any) -> Any:
    """Array of a ``(dtype, buffer)`` pair; anything else as it is."""
    if isinstance(handed, tuple) and len(handed) == 2 and isinstance(handed[1], bytearray):
        dtype, buffer = handed
        return np.frombuffer(buffer, dtype=dtype)
    return handed


def all_taken(handed: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of all pairs of a dictionary."""
    return {name: taken(value) for name, value in handed.items()}
