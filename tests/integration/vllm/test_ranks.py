# SPDX-License-Identifier: Apache-2.0
"""Several ranks' connectors together: tensor parallel, pipeline parallel, shared KV (MLA)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from harness import VOCABULARY, Engine, Shape, right_answer

from ucm.keys import unpack

pytestmark = pytest.mark.engine

_RANDOM = random.Random(6)
PROMPT = [_RANDOM.randrange(VOCABULARY) for _ in range(12 * 16 + 5)]
BLOCKS = 12

PLANS = {
    "tp2": {"tp": 2, "layers": 3},
    "pp2": {"pp": 2, "layers": 4},
    "tp2 x pp2": {"tp": 2, "pp": 2, "layers": 4},
    "mla, tp2": {"tp": 2, "layers": 3, "kind": "mla"},
    "mla, tp2 x pp2": {"tp": 2, "pp": 2, "layers": 4, "kind": "mla"},
}
MODES = {"inside": {}, "between": {"async_load": True}, "layers": {"layerwise": True}}


@pytest.fixture(params=["Cache|Disk", "Cache|Posix"])
def spec(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=PLANS)
def plan(request: pytest.FixtureRequest) -> dict:
    return PLANS[request.param]


@pytest.fixture(params=MODES)
def shape(request: pytest.FixtureRequest, tmp_path: Path, spec: str, plan: dict) -> Shape:
    return Shape(tmp_path, spec=spec, **plan, **MODES[request.param])


def serve(shape: Shape, name: str = "one") -> Engine:
    """An engine that has answered the prompt, still open."""
    engine = Engine(shape)
    engine.add(name, PROMPT)
    engine.run_checked()
    layers = shape.layers
    assert engine.answers[name] == right_answer(PROMPT, 4, layers)
    engine.assert_no_leak()
    return engine


def writers(engine: Engine) -> list[int]:
    """Ranks that write."""
    return [
        rank for rank, worker in enumerate(engine.workers) if worker.connector._worker.store.writes
    ]


def test_every_rank_loads_what_it_saved(shape: Shape) -> None:
    serve(shape).close()
    engine = serve(shape)
    assert engine.count("hit_tokens") == 192
    assert engine.count("loaded_blocks") == BLOCKS * len(engine.workers)
    engine.close()


def test_a_block_counts_only_when_every_ranks_part_is_there(shape: Shape) -> None:
    engine = serve(shape)
    engine.settle()
    engine.forget_block(PROMPT, 7, ranks=writers(engine)[-1:])
    engine.close()
    engine = Engine(shape)
    assert engine.ask(engine.request("probe", PROMPT), 0) == 7 * 16
    engine.connector._scheduler.finished("probe")
    engine.close()
    serve(shape).close()


def test_a_rank_that_fails_to_load_makes_all_ranks_compute(shape: Shape) -> None:
    serve(shape).close()
    engine = Engine(shape)
    engine.add("warm", PROMPT)
    engine.step_that_loads(lambda: engine.forget_block(PROMPT, 4, ranks=writers(engine)[-1:]))
    engine.run_checked()
    assert engine.answers["warm"] == right_answer(PROMPT, 4, shape.layers)
    assert engine.count("recomputed_blocks") >= 1
    engine.assert_no_leak()
    engine.close()


@pytest.mark.parametrize("plan", [PLANS["mla, tp2"]], ids=["mla, tp2"], indirect=False)
def test_shared_kv_is_written_once(shape: Shape) -> None:
    engine = serve(shape)
    engine.settle()
    engine.step()
    assert engine.count("saved_blocks") == BLOCKS
    if shape.spec.endswith("Posix"):
        # Both ranks take part: the keys decide who writes which block.
        assert writers(engine) == [0, 1]
    else:
        assert writers(engine) == [0]
    engine.close()


@pytest.mark.parametrize("plan", [PLANS["tp2"]], ids=["tp2"], indirect=False)
@pytest.mark.parametrize("spec", ["Cache|Posix"], indirect=False)
def test_ranks_of_one_directory_have_keys_of_their_own(shape: Shape) -> None:
    engine = serve(shape)
    request = engine.request("probe", PROMPT)
    plain = engine.connector._scheduler._track(request).keys(0, BLOCKS)
    seen = [unpack(worker.connector._worker.store.plain_keys(plain)) for worker in engine.workers]
    assert len({key for keys in seen for key in keys}) == 2 * BLOCKS
    assert np.frombuffer(plain, dtype=np.uint8).size == 16 * BLOCKS
    engine.close()
