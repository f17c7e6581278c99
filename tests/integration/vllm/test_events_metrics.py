# SPDX-License-Identifier: Apache-2.0
"""What routers and dashboards learn: KV events, and metrics in vLLM's own registry."""

from __future__ import annotations

import random
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prometheus_client
import pytest
from harness import VOCABULARY, Engine, Shape
from prometheus_client import Counter, Gauge, Histogram
from vllm.v1.core.kv_cache_utils import maybe_convert_block_hash

from ucm.integration.vllm.ucm_connector import UCMConnector
from ucm.metrics import prometheus

pytestmark = pytest.mark.engine

_RANDOM = random.Random(9)
PROMPT = [_RANDOM.randrange(VOCABULARY) for _ in range(100)]
BLOCKS = 6


def named(events: list[Any], kind: str) -> list[Any]:
    """Events of one class."""
    return [event for event in events if type(event).__name__ == kind]


def announced(engine: Engine) -> list[Any]:
    """Blocks that were announced as stored outside of the engine."""
    return [event for event in named(engine.events, "BlockStored") if event.medium == "STORAGE"]


@pytest.mark.parametrize("ranks", [{}, {"tp": 2}, {"tp": 2, "kind": "mla"}, {"pp": 3}])
@pytest.mark.parametrize("spec", ["Cache|Disk", "Cache|Posix"])
def test_a_block_is_announced_when_all_ranks_have_stored_it(
    tmp_path: Path, spec: str, ranks: dict[str, Any]
) -> None:
    with Engine(Shape(tmp_path, spec=spec, events=True, **ranks)) as engine:
        request = engine.add("cold", PROMPT)
        engine.run_checked()
        engine.settle()
        engine.step()
        ours = announced(engine)
        hashes = [maybe_convert_block_hash(block) for block in request.block_hashes[:BLOCKS]]
        told = {event.block_hashes[0]: event for event in ours}
        assert len(ours) == BLOCKS and set(told) == set(hashes)
        for block, each in enumerate(hashes):
            assert told[each].parent_block_hash == (hashes[block - 1] if block else None)
            assert told[each].token_ids == PROMPT[block * 16 : (block + 1) * 16]
        assert {event.block_size for event in ours} == {16}
        assert not engine.connector._scheduler.events._saving


def test_nothing_is_announced_while_a_rank_has_not_stored_its_part(tmp_path: Path) -> None:
    with Engine(Shape(tmp_path, events=True, tp=2)) as engine:
        engine.workers[1].connector._worker.store.close()
        engine.serve("cold", PROMPT)
        engine.settle()
        engine.step()
        assert not announced(engine)


def test_a_block_that_failed_to_load_is_announced_as_removed(tmp_path: Path) -> None:
    # The engine's own cache is too small to keep the prompt while others are served.
    with Engine(Shape(tmp_path, events=True, blocks=16)) as engine:
        request = engine.add("cold", PROMPT)
        engine.run_checked()
        engine.settle()
        engine.step()
        engine.serve("other", PROMPT[::-1] * 2)
        engine.add("warm", PROMPT)
        engine.step_that_loads(lambda: engine.forget_block(PROMPT, 2))
        engine.run_checked()
        removed = named(engine.events, "BlockRemoved")
        wanted = maybe_convert_block_hash(request.block_hashes[2])
        assert [event.block_hashes for event in removed if event.medium == "STORAGE"] == [[wanted]]


def test_without_listeners_nothing_is_collected(tmp_path: Path) -> None:
    with Engine(Shape(tmp_path)) as engine:
        engine.serve("cold", PROMPT)
        assert list(engine.connector.take_events()) == []
        assert engine.connector._scheduler.events is None


def scrape(engine: Engine, name: str, **labels: str) -> float:
    """A value of vLLM's endpoint after one interval of this engine."""
    registry = prometheus_client.CollectorRegistry()
    types = {
        kind: (lambda made: lambda *args, **more: made(*args, registry=registry, **more))(kind)
        for kind in (Counter, Gauge, Histogram)
    }
    config = SimpleNamespace(kv_transfer_config=None)
    metrics = UCMConnector.build_prom_metrics(
        config, types, ["model_name", "engine"], {0: ["tiny", "0"]}
    )
    metrics.observe(engine.stats, 0)
    where = {"model_name": "tiny", "engine": "0", **labels}
    value = registry.get_sample_value(name, where)
    assert value is not None, f"{name} {where} is not offered"
    return value


def test_the_figures_appear_in_vllms_registry(tmp_path: Path) -> None:
    with Engine(Shape(tmp_path)) as engine:
        engine.serve("cold", PROMPT)
        engine.settle()
        engine.step()
        assert scrape(engine, "vllm:ucm_query_tokens_total") == 100
        assert scrape(engine, "vllm:ucm_hit_tokens_total") == 0
        assert scrape(engine, "vllm:ucm_saved_blocks_total") == BLOCKS
        assert scrape(engine, "vllm:ucm_save_stall_seconds_count") == 1
    with Engine(Shape(tmp_path)) as engine:
        engine.add("warm", PROMPT)
        engine.step_that_loads(lambda: engine.forget_block(PROMPT, 4))
        engine.run_checked()
        assert scrape(engine, "vllm:ucm_hit_tokens_total") == 96
        assert scrape(engine, "vllm:ucm_loaded_blocks_total") == 5
        assert scrape(engine, "vllm:ucm_recomputed_blocks_total") == 1
        assert scrape(engine, "vllm:ucm_load_seconds_count") == 1
        cause = {"operation": "load", "cause": "not_found"}
        assert scrape(engine, "vllm:ucm_connector_failures_total", **cause) == 1


def test_what_the_stages_count_rides_along(tmp_path: Path) -> None:
    series = "ucm_transfer_blocks_total|direction=dump|stage=Posix"
    with Engine(Shape(tmp_path, spec="Cache|Posix")) as engine:
        engine.serve("cold", PROMPT)
        engine.settle()
        deadline = time.monotonic() + 10
        while engine.count(series, "stages") < BLOCKS and time.monotonic() < deadline:
            engine.workers[0].connector._worker._stages_at = 0.0  # do not wait for the interval
            engine.step()
        where = {"stage": "Posix", "direction": "dump"}
        assert scrape(engine, "vllm:ucm_transfer_blocks_total", **where) == BLOCKS


def test_figures_of_several_workers_and_intervals_add_up() -> None:
    one = UCMConnector.build_kv_connector_stats(
        {"counters": {"loaded_blocks": 3}, "times": {"load_seconds": [0.5]}}
    )
    two = UCMConnector.build_kv_connector_stats(
        {
            "counters": {"loaded_blocks": 4, "loaded_bytes": 1 << 20},
            "failures": {"load|timeout": 2},
            "times": {"load_seconds": [1.5]},
        }
    )
    both = one.aggregate(two)
    assert both.data["counters"] == {"loaded_blocks": 7, "loaded_bytes": 1 << 20}
    assert both.data["times"] == {"load_seconds": [0.5, 1.5]}
    assert both.reduce() == {
        "loaded_blocks": 7,
        "loaded_bytes": 1 << 20,
        "failures": 2,
        "load_MiB_per_s": 0.5,
    }
    both.reset()
    assert both.is_empty()


def test_each_worker_serves_its_own_metrics_where_a_port_is_named(tmp_path: Path) -> None:
    free = prometheus.serve(0, "127.0.0.1")
    free.close()
    section = {"prometheus": {"port": free.port, "address": "127.0.0.1"}}
    with Engine(Shape(tmp_path, tp=2, extra={"monitoring": section})) as engine:
        engine.serve("cold", PROMPT)
        for rank in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{free.port + rank}/metrics") as answer:
                assert f'worker_id="{rank}"' in answer.read().decode()
