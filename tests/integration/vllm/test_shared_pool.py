# SPDX-License-Identifier: Apache-2.0
"""`Cache` alone with `share: true`: scheduler and workers meet in one pool of host memory."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from harness import VOCABULARY, Engine, Shape, right_answer

pytestmark = pytest.mark.engine

_RANDOM = random.Random(12)
PROMPT = [_RANDOM.randrange(VOCABULARY) for _ in range(100)]


def shape(root: Path, **more: object) -> Shape:
    """An engine whose blocks are nowhere but in the pool."""
    name = f"engine-{os.getpid()}-{root}"
    return Shape(root, spec="Cache", extra={"share": True, "unique_id": name}, **more)


@pytest.mark.parametrize(
    "more", [{}, {"layerwise": True}, {"tp": 2}, {"tp": 2, "kind": "mla"}, {"pp": 2, "layers": 4}]
)
def test_an_engine_finds_what_another_one_holds(tmp_path: Path, more: dict[str, object]) -> None:
    with Engine(shape(tmp_path, **more)) as first:
        first.serve("cold", PROMPT)
        first.settle()
        with Engine(shape(tmp_path, **more)) as second:
            assert second.ask(second.request("probe", PROMPT), 0) == 96
            second.serve("warm", PROMPT)
            answer = second.answers["warm"]
            assert answer == right_answer(PROMPT, len(answer), second.shape.layers)


def test_the_pool_is_gone_with_the_last_engine(tmp_path: Path) -> None:
    with Engine(shape(tmp_path)) as engine:
        engine.serve("cold", PROMPT)
        engine.settle()
    with Engine(shape(tmp_path)) as engine:
        assert engine.ask(engine.request("probe", PROMPT), 0) == 0
