# SPDX-License-Identifier: Apache-2.0
"""Figures of the disk level, in this process's metrics and at their endpoint."""

from __future__ import annotations

import logging
from typing import Any

from ucm import monitoring
from ucm.metrics import monitor
from ucm.metrics.monitor import LookupCount, Sample

_LOG = logging.getLogger("ucm.light_mem")
_COUNTERS = {
    "pages_queried": ("ucm_lookup_blocks_total", {}),
    "pages_found": ("ucm_lookup_hit_blocks_total", {}),
    "pages_evicted": ("ucm_evicted_blocks_total", {}),
    "pages_read": ("ucm_transfer_blocks_total", {"direction": "load"}),
    "pages_written": ("ucm_transfer_blocks_total", {"direction": "dump"}),
}
_GAUGES = {
    "pages_stored": "ucm_blocks",
    "capacity_bytes": "ucm_capacity_bytes",
    "used_bytes": "ucm_used_bytes",
    "transfers_under_way": "ucm_queue_depth",
}
_CAUSES = {
    "dropped": "ucm_dropped_blocks_total",
    "failed_loads": "ucm_failures_total",
    "failed_dumps": "ucm_failures_total",
}
_STAGE = {"stage": "disk"}


class DiskFigures:
    """What a service did, as the metrics of ucm with stage `disk`.

    Args:
        native: The native service; its `stats()` says it.
        page_bytes: Bytes of one page.
    """

    def __init__(self, native: Any, page_bytes: int) -> None:
        self._native = native
        self._page_bytes = page_bytes
        self.lookups = LookupCount()

    def metrics(self) -> list[Sample]:
        """The samples."""
        stats = self._native.stats()
        samples: list[Sample] = []
        for key, (name, labels) in _COUNTERS.items():
            samples.append((name, "counter", {**_STAGE, **labels}, float(stats[key])))
            if labels:
                moved = float(stats[key] * self._page_bytes)
                samples.append(("ucm_transfer_bytes_total", "counter", {**_STAGE, **labels}, moved))
        samples += [(name, "gauge", _STAGE, float(stats[key])) for key, name in _GAUGES.items()]
        samples += [
            (name, "counter", {**_STAGE, "cause": cause}, float(count))
            for key, name in _CAUSES.items()
            for cause, count in stats[key].items()
        ]
        return monitor.merged(samples)


def offer(native: Any, page_bytes: int) -> DiskFigures:
    """Adds a service's figures to this process's metrics and opens the endpoint that is wanted.

    They take part as long as the answer lives. A configuration that can not be read, or a port
    that is taken, is logged: a disk level without figures is better than none.
    """
    made = DiskFigures(native, page_bytes)
    monitoring.offer(made, _LOG)
    return made
