# SPDX-License-Identifier: Apache-2.0
"""vLLM's `kv_role`: producers only save, consumers only load, each beside the other."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
from harness import VOCABULARY, Engine, Shape, right_answer

from ucm.errors import ConfigError, Unsupported
from ucm.integration.vllm.settings import read_settings

pytestmark = pytest.mark.engine

_RANDOM = random.Random(21)
PROMPT = [_RANDOM.randrange(VOCABULARY) for _ in range(100)]
OTHER = [_RANDOM.randrange(VOCABULARY) for _ in range(100)]


@pytest.fixture(params=["Cache|Disk", "Cache|Posix"])
def spec(request: pytest.FixtureRequest) -> str:
    return request.param


def in_role(shape: Shape, role: str) -> Shape:
    """The same engine in another role."""
    changed = copy.copy(shape)
    changed.role = role
    return changed


@pytest.mark.parametrize(
    "more", [{}, {"layerwise": True, "tp": 2}, {"tp": 2, "kind": "mla"}], ids=str
)
def test_a_consumer_loads_what_a_producer_beside_it_saves_and_adds_nothing(
    tmp_path: Path, spec: str, more: dict[str, Any]
) -> None:
    shape = Shape(tmp_path, spec=spec, **more)
    with (
        Engine(in_role(shape, "kv_consumer")) as consumer,
        Engine(in_role(shape, "kv_producer")) as producer,
    ):
        assert producer.serve("cold", PROMPT) == right_answer(PROMPT, 4, 3)
        producer.settle()
        assert consumer.serve("warm", PROMPT) == right_answer(PROMPT, 4, 3)
        assert consumer.count("hit_tokens") == 96
        assert consumer.serve("other", OTHER) == right_answer(OTHER, 4, 3)
        consumer.settle()
        consumer.step()
        assert consumer.count("loaded_blocks") > 0
        assert consumer.count("saved_blocks") == consumer.count("unsaved_blocks") == 0
        consumer.assert_no_leak()
    with Engine(in_role(shape, "kv_both")) as later:
        assert later.ask(later.request("probe", PROMPT), 0) == 96
        assert later.ask(later.request("probe of the other", OTHER), 0) == 0


def test_a_producer_computes_what_is_stored_and_does_not_even_ask(
    tmp_path: Path, spec: str
) -> None:
    shape = Shape(tmp_path, spec=spec, role="kv_producer")
    with Engine(shape) as engine:
        engine.serve("cold", PROMPT)
    with Engine(shape) as engine:
        assert engine.ask(engine.request("probe", PROMPT), 0) == 0
        engine.connector._scheduler.finished("probe")
        assert engine.serve("again", PROMPT) == right_answer(PROMPT, 4, 3)
        assert engine.computed("again") == len(PROMPT) + 3
        engine.settle()
        engine.step()
        assert engine.count("loaded_blocks") == engine.count("query_tokens") == 0
        assert engine.count("saved_blocks") == 6
        engine.assert_no_leak()


def test_a_consumer_computes_again_what_it_can_not_load(tmp_path: Path, spec: str) -> None:
    shape = Shape(tmp_path, spec=spec)
    with Engine(in_role(shape, "kv_producer")) as producer:
        producer.serve("cold", PROMPT)
        producer.settle()
        with Engine(in_role(shape, "kv_consumer")) as consumer:
            consumer.add("warm", PROMPT)
            consumer.step_that_loads(lambda: producer.forget_block(PROMPT, 2))
            consumer.run_checked()
            assert consumer.answers["warm"] == right_answer(PROMPT, 4, 3)
            consumer.assert_no_leak()


@pytest.mark.parametrize("role", [None, "kv_sink", "producer"])
def test_an_unknown_role_is_refused_with_those_there_are(tmp_path: Path, role: str | None) -> None:
    with Engine(Shape(tmp_path)) as engine:
        config = copy.deepcopy(engine.config)
        config.kv_transfer_config.kv_role = role
        with pytest.raises(ConfigError, match="kv_both, kv_producer, kv_consumer") as raised:
            read_settings(config, engine.cache_config)
        assert repr(role) in str(raised.value)


def test_a_consumer_that_can_not_start_from_a_prefix_is_refused(tmp_path: Path) -> None:
    with Engine(Shape(tmp_path, kind="mla")) as engine:
        config = copy.deepcopy(engine.config)
        config.kv_transfer_config.kv_role = "kv_consumer"
        config.cache_config.enable_prefix_caching = False
        config.scheduler_config.enable_chunked_prefill = False
        with pytest.raises(Unsupported, match=r"kv_consumer.*latent attention"):
            read_settings(config, engine.cache_config)
