# SPDX-License-Identifier: Apache-2.0
"""Layer-wise loads for which a stream of the engine waits: the host learns late how they went.

Host memory has no streams. What an accelerator does is done here at the place where it makes the
difference: a layer is used as soon as its load was ordered, and a failure is told afterwards.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import damage
import pytest
from harness import VOCABULARY, Engine, Shape, right_answer

from ucm.errors import UcmError
from ucm.integration.vllm.rank_store import RankStore, Transfer

pytestmark = pytest.mark.engine

_RANDOM = random.Random(9)
PROMPT = [_RANDOM.randrange(VOCABULARY) for _ in range(12 * 16 + 5)]
LAYERS = 3


@pytest.fixture(params=["Cache|Disk", "Cache|Posix"])
def shape(request: pytest.FixtureRequest, tmp_path: Path) -> Shape:
    return Shape(tmp_path, spec=request.param, layerwise=True)


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> list[Transfer]:
    """The loads that were ordered. A failure is not told before the end of the step."""
    seen: list[Transfer] = []

    def order(store: RankStore, transfer: Transfer) -> bool:
        seen.append(transfer)
        with contextlib.suppress(UcmError):
            transfer.task.wait_on_stream(0, 20.0)
        return True

    monkeypatch.setattr(RankStore, "order", order)
    return seen


def test_every_layer_is_ordered_once_and_the_kv_is_right(
    shape: Shape, ordered: list[Transfer]
) -> None:
    with Engine(shape) as engine:
        assert engine.serve("cold", PROMPT) == right_answer(PROMPT, 4, LAYERS)
        assert ordered == []
    with Engine(shape) as engine:
        assert engine.serve("warm", PROMPT) == right_answer(PROMPT, 4, LAYERS)
        assert engine.count("loaded_blocks") == 12
        engine.assert_no_leak()
    assert len(ordered) == LAYERS
    assert all(transfer.task.done for transfer in ordered)


def test_a_failure_that_is_told_late_is_computed_again_and_not_saved_wrong(
    shape: Shape, ordered: list[Transfer]
) -> None:
    longer = PROMPT + PROMPT[:40]
    with Engine(shape) as engine:
        engine.serve("cold", PROMPT)
    with Engine(shape) as engine:
        engine.add("warm", longer)
        # What is computed in this step, and would be saved, follows the block that is not there.
        engine.step_that_loads(lambda: engine.forget_block(PROMPT, 11))
        engine.run_checked()
        assert engine.answers["warm"] == right_answer(longer, 4, LAYERS)
        assert engine.count("recomputed_blocks") == 1
        engine.assert_no_leak()
    assert ordered
    with Engine(shape) as engine:
        assert engine.serve("again", longer) == right_answer(longer, 4, LAYERS)
        assert engine.count("loaded_blocks") >= 14


@pytest.mark.parametrize("kind", damage.KINDS)
def test_harm_that_is_told_late_is_a_miss(shape: Shape, ordered: list[Transfer], kind: str) -> None:
    with Engine(shape) as engine:
        engine.serve("cold", PROMPT)
    damage.KINDS[kind](shape.root / "blocks")
    for name in ("harmed", "again"):
        with Engine(shape) as engine:
            assert engine.serve(name, PROMPT) == right_answer(PROMPT, 4, LAYERS)


def test_on_the_host_nothing_is_ordered(shape: Shape) -> None:
    with Engine(shape) as engine:
        engine.serve("cold", PROMPT)
        store = engine.workers[0].connector._worker.store
        transfer = Transfer(None, [], b"", 0.0, 0.0)
        assert store.order(transfer) is False
        assert store.mark() == (None, 0)
