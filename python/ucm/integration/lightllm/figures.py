# SPDX-License-Identifier: Apache-2.0
"""Figures of LightLLM's GPU and CPU levels; `light_mem` offers those of the disk by itself."""

from __future__ import annotations

import logging
import math
from typing import Any

from ucm import monitoring
from ucm.metrics.monitor import LookupCount, Sample

_LOG = logging.getLogger("ucm.lightllm")
_held: list[Any] = []


class LevelFigures:
    """What the processes of a server did with its pages, as the metrics of ucm.

    Args:
        client: A `PageClient` of the process that matches prompts.
        page_bytes: Bytes of one page; 0 when unknown.
    """

    def __init__(self, client: Any, page_bytes: int) -> None:
        self._client = client
        self._page_bytes = page_bytes
        self.lookups = LookupCount()

    def metrics(self) -> list[Sample]:
        """Samples: stage `gpu` is level 1, stage `cpu` level 2."""
        s = self._client.pages.stats()
        nbytes = self._page_bytes
        samples: list[Sample] = [
            _one("ucm_lookup_blocks_total", s["asked"], stage="cpu"),
            _one("ucm_lookup_hit_blocks_total", s["found"], stage="cpu"),
            _one("ucm_evicted_blocks_total", s["evicted"], stage="cpu"),
            _one("ucm_failures_total", s["refused"], stage="cpu", cause="no_space"),
            _one("ucm_failures_total", s["offload_dropped"], stage="cpu", cause="queue_full"),
            _one("ucm_failures_total", s["recycled"], stage="cpu", cause="not_filled"),
            _one("ucm_failures_total", s["lost"], stage="cpu", cause="process_died"),
            ("ucm_blocks", "gauge", {"stage": "cpu"}, float(s["ready"])),
            ("ucm_capacity_bytes", "gauge", {"stage": "cpu"}, float(s["pages"] * nbytes)),
            (
                "ucm_used_bytes",
                "gauge",
                {"stage": "cpu"},
                float((s["pages"] - s["empty"]) * nbytes),
            ),
            ("ucm_queue_depth", "gauge", {"stage": "cpu"}, float(s["offload_waiting"])),
        ]
        for direction in ("load", "dump"):
            pages = s[f"engine_{direction}s"]
            where = {"stage": "gpu", "direction": direction}
            samples.append(_one("ucm_transfer_blocks_total", pages, **where))
            samples.append(_one("ucm_transfer_bytes_total", pages * nbytes, **where))
        return samples


def _one(name: str, value: float, **labels: str) -> Sample:
    return (name, "counter", labels, float(value))


def page_bytes_of(meta: Any) -> int:
    """Bytes of a page, by LightLLM's description of the tensor; 0 when it does not say."""
    whole, pages = getattr(meta, "calcu_size", None), getattr(meta, "page_num", 0)
    return math.ceil(whole() / pages) if callable(whole) and pages else 0


def offer(client: Any) -> LevelFigures:
    """Adds the figures to this process's metrics and opens the endpoint where one is wanted.

    The disk level runs in the same process, so one endpoint shows all three. An endpoint that can
    not be opened is logged.
    """
    made = LevelFigures(client, page_bytes_of(getattr(client, "kv_cache_tensor_meta", None)))
    _held.append(made)
    monitoring.offer(made, _LOG)
    return made
