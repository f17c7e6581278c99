# SPDX-License-Identifier: Apache-2.0
"""The levels of a server under one collection of metrics."""

from __future__ import annotations

import gc
import uuid
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from light_mem import PyLocalCacheService
from ucm.integration.lightllm import figures
from ucm.integration.lightllm.client import PageClient, create_pages
from ucm.metrics import monitor
from ucm.metrics.names import BY_NAME
from ucm.metrics.prometheus import register


def value(name: str, **labels: str) -> float:
    registry = CollectorRegistry()
    register(registry)
    return registry.get_sample_value(name, labels) or 0


def test_gpu_and_cpu_levels_are_counted_in_the_index() -> None:
    client = PageClient()
    client.use(create_pages(f"test-{uuid.uuid4().hex}", 4), 64)
    made = figures.LevelFigures(client, page_bytes=1000)
    monitor.register(made)
    pages, _ = client.allocate_pages([1, 2], True)
    client.update_pages_status_to_ready(pages, True, True, 4096)
    client.allocate_pages([1, 3, 4, 5], True)
    client.pages.count_transfer(True, 7)
    moved = {"stage": "gpu", "direction": "load"}
    assert value("ucm_transfer_blocks_total", **moved) == 7
    assert value("ucm_transfer_bytes_total", **moved) == 7000
    assert value("ucm_lookup_blocks_total", stage="cpu") == 6
    assert value("ucm_lookup_hit_blocks_total", stage="cpu") == 1
    assert value("ucm_blocks", stage="cpu") == 2
    assert value("ucm_used_bytes", stage="cpu") == 4000
    assert value("ucm_capacity_bytes", stage="cpu") == 4000
    assert value("ucm_queue_depth", stage="cpu") == 3
    assert value("ucm_failures_total", stage="cpu", cause="no_space") == 1
    del made
    gc.collect()


def test_the_disk_level_is_there_without_the_launcher_and_its_counts_outlive_it(
    tmp_path: Path,
) -> None:
    stage = {"stage": "disk"}
    names = ("ucm_lookup_blocks_total", "ucm_lookup_hit_blocks_total")
    before = [value(name, **stage) for name in names]
    tensor = np.zeros((4, 4096), dtype=np.uint8)
    service = PyLocalCacheService(tensor, str(tmp_path / "cache_file"), 64 * 4096)
    task = service.create([1, 2, 3], np.arange(3, dtype=np.int32), "w")
    while not task.ready():
        pass
    assert service.query([1, 2, 9]) == [True, True, False]
    counted = [value(name, **stage) - old for name, old in zip(names, before, strict=True)]
    assert counted == [3, 2]
    assert value("ucm_blocks", **stage) == 3
    assert value("ucm_used_bytes", **stage) == 3 * 4096
    assert value("ucm_capacity_bytes", **stage) == 64 * 4096
    assert {name for name, *_ in service._figures.metrics()} <= BY_NAME.keys()
    service.close()
    assert value("ucm_blocks", **stage) == 0
    after = [value(name, **stage) - old for name, old in zip(names, before, strict=True)]
    assert after == [3, 2]
