# SPDX-License-Identifier: Apache-2.0
"""The three levels of a server under one collection of metrics."""

from __future__ import annotations

import gc
import uuid
from types import ModuleType
from typing import Any

from prometheus_client import CollectorRegistry

from ucm.integration.lightllm import figures
from ucm.integration.lightllm.adapt import adapt
from ucm.integration.lightllm.client import PageClient, create_pages
from ucm.metrics import monitor
from ucm.metrics.prometheus import register


class CountedService:
    """A disk level as far as its figures go; the keys are those `light_mem` answers."""

    def __init__(self, found: int) -> None:
        self.found = found

    def stats(self) -> dict[str, Any]:
        return {
            "pages_queried": 10,
            "pages_found": self.found,
            "pages_stored": 5,
            "capacity_bytes": 1 << 20,
            "failed_loads": {"corruption": 1},
            "failed_dumps": {"corruption": 2, "no_space": 3},
            "engine": "io_uring",
        }


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_all_levels_are_in_one_registry() -> None:
    before = {id(each) for each in figures._held}
    module = ModuleType("lightllm.server.multi_level_kv_cache.disk_cache_worker")
    module.PyLocalCacheService = CountedService  # type: ignore[attr-defined]
    adapt(module, ("index",))
    service = module.PyLocalCacheService(found=4)
    assert isinstance(service, CountedService)
    client = PageClient()
    client.use(create_pages(f"test-{uuid.uuid4().hex}", 4), 64)
    made = figures.LevelFigures(client, page_bytes=1000)
    monitor.register(made)
    pages, _ = client.allocate_pages([1, 2], True)
    client.update_pages_status_to_ready(pages, True, True, 4096)
    client.allocate_pages([1, 3, 4, 5], True)
    client.pages.count_transfer(True, 7)
    registry = CollectorRegistry()
    register(registry)
    moved = {"stage": "gpu", "direction": "load"}
    assert value(registry, "ucm_transfer_blocks_total", **moved) == 7
    assert value(registry, "ucm_transfer_bytes_total", **moved) == 7000
    assert value(registry, "ucm_lookup_blocks_total", stage="cpu") == 6
    assert value(registry, "ucm_lookup_hit_blocks_total", stage="cpu") == 1
    assert value(registry, "ucm_blocks", stage="cpu") == 2
    assert value(registry, "ucm_used_bytes", stage="cpu") == 4000
    assert value(registry, "ucm_capacity_bytes", stage="cpu") == 4000
    assert value(registry, "ucm_queue_depth", stage="cpu") == 3
    assert value(registry, "ucm_failures_total", stage="cpu", cause="no_space") == 1
    assert value(registry, "ucm_lookup_hit_blocks_total", stage="disk") == 4
    assert value(registry, "ucm_capacity_bytes", stage="disk") == 1 << 20
    assert value(registry, "ucm_failures_total", stage="disk", cause="corruption") == 3
    assert value(registry, "ucm_failures_total", stage="disk", cause="no_space") == 3
    figures._held[:] = [each for each in figures._held if id(each) in before]
    del made
    gc.collect()


def test_a_service_without_figures_is_left_alone() -> None:
    before = len(figures._held)
    figures.offer_disk(object())
    assert len(figures._held) == before
