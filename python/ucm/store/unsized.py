# SPDX-License-Identifier: Apache-2.0
"""Removing blocks whose size the caller never said: a Disk stage keeps one folder per slot size."""

from __future__ import annotations

import os
from typing import Any

_SMALL: dict[str, Any] = {"buffer_number": 1, "prefault": False, "huge_pages": "off"}


def remove_blocks(spec: str, options: dict[str, Any], keys: bytes) -> None:
    """Removes blocks from the folders of every slot size that exists.

    Args:
        spec: The pipeline in the stage names of the core.
        options: Its options.
        keys: n * 16 bytes.

    Raises:
        Unavailable: Another process writes to one of the folders.
    """
    from ucm import _core

    below = "|".join(stage for stage in spec.split("|") if stage != "Cache")
    for size in slot_sizes(options.get("storage_backends", [])):
        pipeline = _core.Pipeline(below, {**options, **_SMALL}, [size], 1, 0)
        try:
            pipeline.remove(keys)
        finally:
            pipeline.close()


def slot_sizes(backends: list[str]) -> list[int]:
    """The slot sizes of a Disk stage that stand in its directories, ascending."""
    sizes = set()
    for backend in backends:
        try:
            names = os.listdir(backend)
        except OSError:
            continue
        sizes |= {
            int(name)
            for name in names
            if name.isdigit() and os.path.exists(os.path.join(backend, name, "FORMAT.json"))
        }
    return sorted(sizes)
