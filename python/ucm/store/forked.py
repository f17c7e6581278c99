# SPDX-License-Identifier: Apache-2.0
"""What a store is in a forked child: the threads that serve it stayed in the parent."""

from __future__ import annotations

import ctypes
from typing import Any

from ucm.errors import Unavailable
from ucm.metrics.monitor import Sample


class LeftBehind:
    """Stands where a native pipeline was: nothing of it can be used, and nothing needs an end.

    Args:
        native: The pipeline. It is never destroyed, which would wait for threads that are not here.
    """

    def __init__(self, native: Any) -> None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))

    def close(self) -> None:
        """Nothing to do: the parent closes the store."""

    def metrics(self) -> list[Sample]:
        """Nothing: the parent counts."""
        return []

    def __getattr__(self, name: str) -> Any:
        raise Unavailable(
            "this store was opened before the process forked, and its threads are in the parent: "
            "open one in this process"
        )
