# SPDX-License-Identifier: Apache-2.0
"""Configurations of small stores, and where the guides of the users lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

GUIDES = Path(__file__).parent / "seeds"
SMALL = {"buffer_number": 64, "prefault": False, "huge_pages": "off", "io_direct": False}
PIPELINES = ("Cache|Posix", "Cache|Disk", "Posix", "Disk", "Cache")
DURABLE = PIPELINES[:4]


def settings(pipeline: str, root: Path, **more: Any) -> dict[str, Any]:
    """A small store of a pipeline below a directory."""
    config: dict[str, Any] = {"store_pipeline": pipeline, **SMALL}
    if pipeline in ("Cache", "Fake", "Empty"):
        del config["io_direct"]
    else:
        config["storage_backends"] = str(root / "blocks")
    if "Disk" in pipeline:
        config.update(capacity_bytes=64 << 20, segment_bytes=4 << 20)
    return {**config, **more}
