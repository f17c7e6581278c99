# SPDX-License-Identifier: Apache-2.0
"""Figures about the blocks of one store."""

from __future__ import annotations

import time
from array import array
from typing import Any

from ucm.cli.roots import Root

_LISTED_SIZES = 8


class Summary:
    """Adds up the blocks of one store as they are walked.

    Args:
        root: The store.
        keep_blocks: Remember every block as well.
    """

    def __init__(self, root: Root, *, keep_blocks: bool = False) -> None:
        self.root = root
        self.blocks = 0
        self.bytes = 0
        self.stored = 0
        self.damaged: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []
        self._keep = keep_blocks
        self._written = array("q")
        self._layouts: dict[int, dict[int, int]] = {}
        self._now_ns = time.time_ns()

    def add(self, record: dict[str, Any]) -> None:
        """One block, as the native walk describes it."""
        size = int(record["bytes"])
        self.blocks += 1
        self.bytes += size
        self.stored += self.root.stored_bytes(size)
        if record["written_ns"]:
            self._written.append(record["written_ns"])
        sizes = self._layouts.setdefault(int(record["layout_id"]), {})
        sizes[size] = sizes.get(size, 0) + 1
        if record["damaged"]:
            self.damaged.append(record)
        if self._keep:
            self.records.append(record)

    def age_of(self, record: dict[str, Any]) -> float:
        """Seconds since a block was written."""
        return max(0, self._now_ns - int(record["written_ns"])) / 1e9

    def layouts(self) -> list[dict[str, Any]]:
        """Blocks and bytes per layout id, the most common first."""
        found = []
        for layout_id, sizes in self._layouts.items():
            common = sorted(sizes, key=lambda size: (-sizes[size], size))
            found.append(
                {
                    "layout_id": layout_id,
                    "blocks": sum(sizes.values()),
                    "bytes": sum(size * count for size, count in sizes.items()),
                    "block_bytes": common[:_LISTED_SIZES],
                }
            )
        return sorted(found, key=lambda each: -each["blocks"])

    def ages(self) -> dict[str, float]:
        """Seconds since blocks were written: oldest, 90th percentile, median, newest."""
        if not self._written:
            return {}
        import numpy as np

        written = np.frombuffer(self._written, dtype=np.int64)
        ages = np.maximum(0, self._now_ns - written) / 1e9
        return {
            "oldest_s": float(ages.max()),
            "p90_s": float(np.percentile(ages, 90)),
            "median_s": float(np.median(ages)),
            "newest_s": float(ages.min()),
        }

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON. Layout ids are hexadecimal: they have 64 bits."""
        layouts = [{**each, "layout_id": f"{each['layout_id']:016x}"} for each in self.layouts()]
        result: dict[str, Any] = {
            "stage": self.root.stage,
            "path": str(self.root.path),
            "format": self.root.format,
            "blocks": self.blocks,
            "bytes": self.bytes,
            "stored_bytes": self.stored,
            "layouts": layouts,
            "ages": self.ages(),
            "damaged": [_plain(each) for each in self.damaged],
        }
        if self._keep:
            result["records"] = [_plain(each) for each in self.records]
        return result


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "layout_id": f"{record['layout_id']:016x}"}
