# SPDX-License-Identifier: Apache-2.0
"""What a KV connector has to show, on vLLM's real Scheduler with both roles, without a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import damage
import pytest
from harness import VOCABULARY, Engine, Shape, right_answer

pytestmark = pytest.mark.engine

_RANDOM = random.Random(5)
PROMPT = [_RANDOM.randrange(VOCABULARY) for _ in range(12 * 16 + 5)]
OTHER = [_RANDOM.randrange(VOCABULARY) for _ in range(300)]
LAYERS = 3

MODES = {
    "bulk-inside": {"layerwise": False, "async_load": False},
    "bulk-between": {"layerwise": False, "async_load": True},
    "layers-inside": {"layerwise": True, "async_load": False},
    "layers-between": {"layerwise": True, "async_load": True},
}

Open = Callable[..., Engine]


@pytest.fixture(params=["Cache|Disk", "Cache|Posix"])
def spec(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=MODES)
def shape(request: pytest.FixtureRequest, tmp_path: Path, spec: str) -> Shape:
    return Shape(tmp_path, spec=spec, **MODES[request.param])


@pytest.fixture
def open_engine(shape: Shape) -> Iterator[Open]:
    """Opens engines on one store, one after the other: opening one closes the one before."""
    opened: list[Engine] = []

    def open_one(**changes: object) -> Engine:
        while opened:
            opened.pop().close()
        opened.append(Engine(replace(shape, **changes)))
        return opened[-1]

    yield open_one
    while opened:
        opened.pop().close()


def expect(engine: Engine, name: str, prompt: list[int], count: int = 4) -> None:
    """The request's KV is right after every step, and so are its tokens; nothing leaks."""
    engine.add(name, prompt, count)
    engine.run_checked()
    assert engine.answers[name] == right_answer(prompt, count, LAYERS)
    engine.assert_no_leak()


def matched(engine: Engine, prompt: list[int], computed: int = 0) -> int:
    """Tokens that the connector finds for a prompt, asked twice."""
    request = engine.request("probe", prompt)
    answers = {engine.ask(request, computed) for _ in range(2)}
    engine.connector._scheduler.finished("probe")
    assert len(answers) == 1
    return answers.pop()


def test_a_cold_prompt_is_computed_right_and_leaves_nothing_behind(open_engine: Open) -> None:
    engine = open_engine()
    expect(engine, "cold", PROMPT)
    assert engine.count("hit_tokens") == 0
    engine.settle()
    engine.step()
    assert engine.count("saved_blocks") == 12


def test_a_lookup_changes_nothing_and_leaves_out_what_the_engine_holds(open_engine: Open) -> None:
    expect(open_engine(), "cold", PROMPT)
    engine = open_engine()
    assert matched(engine, PROMPT, computed=0) == 192
    assert matched(engine, PROMPT, computed=64) == 128
    assert matched(engine, PROMPT, computed=192) == 0
    engine.step()
    engine.assert_no_leak()


def test_a_fresh_engine_loads_what_another_one_saved(open_engine: Open) -> None:
    expect(open_engine(), "cold", PROMPT)
    engine = open_engine()
    expect(engine, "warm", PROMPT)
    assert engine.count("hit_tokens") == 192
    assert engine.count("loaded_blocks") == 12
    assert engine.computed("warm") == 5 + 3  # what was left of the prompt, and what was sampled
    assert engine.count("saved_blocks") == 0


def test_a_prompt_of_whole_blocks_leaves_a_token_to_compute(open_engine: Open) -> None:
    expect(open_engine(), "cold", PROMPT[:192])
    engine = open_engine()
    assert matched(engine, PROMPT[:192]) == 176
    expect(engine, "warm", PROMPT[:192])
    assert engine.count("hit_tokens") == 176


def test_only_the_longest_common_prefix_is_loaded(open_engine: Open) -> None:
    expect(open_engine(), "cold", PROMPT)
    engine = open_engine()
    mixed = PROMPT[:100] + OTHER[:97]
    assert matched(engine, mixed) == 96
    expect(engine, "mixed", mixed)
    assert engine.count("hit_tokens") == 96


def test_the_tail_is_loaded_behind_blocks_that_the_engine_holds(open_engine: Open) -> None:
    longer = PROMPT + OTHER[:40]
    expect(open_engine(), "cold", longer)
    engine = open_engine()
    expect(engine, "head", PROMPT[:70])
    expect(engine, "whole", longer)
    # 64 tokens of the head came from the store, the others behind them with the second request.
    assert engine.count("hit_tokens") == 64 + (len(longer) - 1) // 16 * 16 - 64
    expect(engine, "again", longer + OTHER[40:60])


def test_preempted_requests_finish_right(open_engine: Open) -> None:
    engine = open_engine(blocks=20, max_seqs=3)
    prompts = {f"r{at}": OTHER[at * 60 : at * 60 + 120] for at in range(3)}
    for name, prompt in prompts.items():
        engine.add(name, prompt, 60)
    engine.run_checked()
    assert engine.preemptions > 0
    for name, prompt in prompts.items():
        assert engine.answers[name] == right_answer(prompt, 60, LAYERS)
    engine.assert_no_leak()


def test_a_request_that_is_aborted_after_a_step_leaves_nothing_behind(open_engine: Open) -> None:
    expect(open_engine(), "cold", PROMPT)
    for steps in (0, 1, 2):
        engine = open_engine()
        engine.add("gone", PROMPT, 50)
        for _ in range(steps):
            engine.step()
        engine.abort("gone")
        for _ in range(3):
            engine.step()
        engine.settle_loads()
        engine.step()
        engine.assert_no_leak()
        expect(engine, "next", PROMPT)


def test_a_block_that_vanishes_before_its_load_is_computed_again(open_engine: Open) -> None:
    expect(open_engine(), "cold", PROMPT)
    engine = open_engine()
    engine.add("warm", PROMPT)
    engine.step_that_loads(lambda: engine.forget_block(PROMPT, 3))
    engine.run_checked()
    assert engine.answers["warm"] == right_answer(PROMPT, 4, LAYERS)
    assert engine.count("recomputed_blocks") == 1
    # A load inside a step fails after its 5 tokens were scheduled; all behind block 3 follow.
    wasted = 0 if engine.shape.async_load else 5
    assert engine.computed("warm") == wasted + len(PROMPT) - 48 + 3
    engine.assert_no_leak()
    engine = open_engine()
    assert matched(engine, PROMPT) == 192  # what was computed again was saved again


@pytest.mark.parametrize("kind", damage.KINDS)
def test_harm_to_stored_blocks_is_a_miss(open_engine: Open, shape: Shape, kind: str) -> None:
    engine = open_engine()
    expect(engine, "cold", PROMPT)
    engine.close()
    damage.KINDS[kind](shape.root / "blocks")
    engine = open_engine()
    expect(engine, "harmed", PROMPT)
    assert engine.count("loaded_blocks") < 12
    engine = open_engine()
    expect(engine, "again", PROMPT)


def test_a_prompt_in_chunks_is_saved_and_loaded(open_engine: Open) -> None:
    engine = open_engine(max_tokens=40)
    expect(engine, "cold", PROMPT + OTHER)
    engine = open_engine(max_tokens=40)
    expect(engine, "warm", PROMPT + OTHER)
    assert engine.count("hit_tokens") == (len(PROMPT + OTHER) - 1) // 16 * 16


def test_the_store_hears_of_a_chain_that_it_got_in_chunks(open_engine: Open) -> None:
    engine = open_engine(max_tokens=40)

    def blocks_of_ended(name: str, prompt: list[int]) -> list[int]:
        ended: list[bytes] = []
        engine.add(name, prompt)
        while engine.scheduler.has_unfinished_requests():
            engine.step(lambda meta: ended.extend(meta.ended))
        engine.step(lambda meta: ended.extend(meta.ended))
        return [len(keys) // 16 for keys in ended]

    assert blocks_of_ended("in chunks", PROMPT + OTHER) == [len(PROMPT + OTHER) // 16]
    # What came in one batch is in order already.
    assert blocks_of_ended("at once", OTHER[:33]) == []


def test_blocks_of_the_answer_are_saved_too(open_engine: Open) -> None:
    expect(open_engine(), "cold", PROMPT, 60)
    engine = open_engine()
    turn = PROMPT + right_answer(PROMPT, 60, LAYERS)
    # The last token that was sampled has never been computed.
    assert matched(engine, turn + OTHER[:16]) == (len(turn) - 1) // 16 * 16
    expect(engine, "second turn", turn + OTHER[:16])


def test_many_requests_at_once_come_out_right(open_engine: Open) -> None:
    prompts = {
        f"r{at}": PROMPT[: 16 * (at + 2) + at] + OTHER[at * 9 : at * 9 + 21] for at in range(8)
    }
    for _ in range(2):
        engine = open_engine(blocks=48, max_tokens=100)
        for name, prompt in prompts.items():
            engine.add(name, prompt, 12)
        engine.run_checked()
        for name, prompt in prompts.items():
            assert engine.answers[name] == right_answer(prompt, 12, LAYERS)
        engine.assert_no_leak()


def test_a_request_that_leans_on_a_failed_load_of_another_comes_out_right(
    open_engine: Open,
) -> None:
    expect(open_engine(), "cold", PROMPT)
    engine = open_engine()
    engine.add("first", PROMPT)
    engine.add("second", PROMPT + OTHER[:70])
    # What the second computes begins behind this block.
    engine.step_that_loads(lambda: engine.forget_block(PROMPT, 11))
    engine.run_checked()
    assert engine.answers["first"] == right_answer(PROMPT, 4, LAYERS)
    assert engine.answers["second"] == right_answer(PROMPT + OTHER[:70], 4, LAYERS)
    engine.assert_no_leak()
    engine = open_engine()
    expect(engine, "third", PROMPT + OTHER[:70])
