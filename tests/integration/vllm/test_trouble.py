# SPDX-License-Identifier: Apache-2.0
"""A store that is slow, fails, or comes back: the engine goes on, and the text stays right."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import VOCABULARY, Engine, Shape, right_answer

from ucm.errors import Corruption, IoError, NoSpace, Timeout, Unsupported
from ucm.faults import FaultRule, Operation, disturbed
from ucm.integration.common.fallback import Breaker, Fallback
from ucm.integration.vllm import compat
from ucm.integration.vllm.lookup import PrefixLookup
from ucm.integration.vllm.rank_store import Transfer
from ucm.integration.vllm.room import SaveRoom
from ucm.integration.vllm.ucm_connector import UCMConnector

pytestmark = pytest.mark.engine

_RANDOM = random.Random(7)
PROMPT = [_RANDOM.randrange(VOCABULARY) for _ in range(12 * 16 + 5)]
KEYS = bytes(range(64))


def test_a_row_of_any_layer_fails_its_block() -> None:
    def failed(error: Exception | None, *rows: int) -> set[int]:
        task = SimpleNamespace(error=error, failed_rows=list(rows))
        return Transfer(task, [], bytes(3 * 16), 0.0, 0.0).failed_blocks()

    # Three blocks in four shards: row 7 is block 1 in the third.
    assert failed(Timeout("late"), 7) == {1}
    assert failed(Timeout("late"), 0, 11) == {0, 2}
    assert failed(Timeout("late")) == {0, 1, 2}
    assert failed(None) == set()


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(error: Exception) -> Callable[[], int]:
    """A call that fails."""

    def call() -> int:
        raise error

    return call


def test_the_breaker_opens_probes_and_closes_by_itself() -> None:
    clock = Clock()
    breaker = Breaker(failures=3, delay_s=5.0, longest_s=12.0, clock=clock)
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
    assert breaker.is_open and not breaker.allows()
    clock.now += 5.0
    assert breaker.allows() and not breaker.allows()  # one probe, not two
    breaker.failed()
    clock.now += 9.9
    assert not breaker.allows()  # twice as long
    clock.now += 0.2
    assert breaker.allows()
    breaker.failed()
    clock.now += 12.1
    assert breaker.allows()  # never longer than the limit
    assert breaker.succeeded() and not breaker.is_open
    assert breaker.allows() and breaker.allows()


def test_asking_whether_a_call_would_be_made_takes_no_probe() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, delay_s=5.0, clock=clock)
    assert breaker.would_allow()
    breaker.failed()
    assert not breaker.would_allow()
    clock.now += 5.0
    assert breaker.would_allow() and breaker.would_allow()
    assert breaker.allows() and not breaker.would_allow()  # now a probe is under way


def test_a_success_in_between_keeps_the_breaker_closed() -> None:
    breaker = Breaker(failures=2)
    for _ in range(10):
        assert not breaker.failed()
        breaker.succeeded()
    assert not breaker.is_open


def test_a_probe_whose_outcome_is_lost_does_not_block_the_next_one() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, delay_s=1.0, clock=clock)
    breaker.failed()
    clock.now += 1.0
    assert breaker.allows() and not breaker.allows()
    clock.now += 1.0
    assert breaker.allows()


def test_an_error_becomes_the_default_and_is_counted_by_its_cause() -> None:
    counts: list[tuple[str, str]] = []
    fallback = Fallback("lookup", Breaker(failures=2), lambda *cause: counts.append(cause))
    assert fallback.run(lambda: 5, -1) == 5
    assert fallback.run(fail(IoError("broken")), -1) == -1
    assert fallback.run(fail(TimeoutError()), -1) == -1
    assert fallback.run(lambda: 5, -1) == -1
    assert counts == [("lookup", "io_error"), ("lookup", "timeout"), ("lookup", "breaker_open")]


def test_errors_about_blocks_do_not_open_the_breaker() -> None:
    fallback = Fallback("load", Breaker(failures=1))
    for error in (Corruption("damaged"), NoSpace("full"), Unsupported("another layout")):
        fallback.run(fail(error), None)
    assert not fallback.breaker.is_open
    fallback.run(fail(Timeout("late")), None)
    assert fallback.breaker.is_open


def lookup(count: Callable[[bytes], int], **limits: float) -> PrefixLookup:
    """A lookup of slow storage."""
    values = {"wait_s": 0.01, "timeout_s": 5.0, **limits}
    fallback = Fallback("lookup", Breaker(failures=2, delay_s=60.0))
    return PrefixLookup(count, fallback, background=True, **values)


def until_known(questions: PrefixLookup, name: str) -> int:
    """Ask as the scheduler does, step by step."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        answer = questions.ask(name, KEYS)
        if answer is not None:
            return answer
    raise AssertionError("no answer")


def test_a_slow_lookup_is_answered_later_and_then_stays() -> None:
    gate = threading.Event()
    asked: list[bytes] = []

    def count(keys: bytes) -> int:
        asked.append(keys)
        gate.wait(10)
        return 3

    questions = lookup(count)
    assert [questions.ask("a", KEYS) for _ in range(3)] == [None] * 3
    gate.set()
    assert until_known(questions, "a") == 3
    assert questions.ask("a", KEYS) == 3
    assert asked == [KEYS]  # one question to the store, however often the scheduler asked
    questions.close()


def test_a_lookup_that_hangs_ends_at_its_deadline_and_opens_the_breaker() -> None:
    gate = threading.Event()

    def count(keys: bytes) -> int:
        gate.wait(30)
        return 3

    questions = lookup(count, timeout_s=0.05)
    assert until_known(questions, "a") == -1
    assert until_known(questions, "b") == -1
    started = time.monotonic()
    assert questions.ask("c", KEYS) == -1  # at once: the breaker is open
    assert time.monotonic() - started < 0.01
    gate.set()
    questions.close()


def test_another_prompt_under_the_same_name_is_another_question() -> None:
    questions = lookup(lambda keys: len(keys) // 16)
    assert until_known(questions, "a") == 4
    while (answer := questions.ask("a", KEYS[:32])) is None:
        pass
    assert answer == 2
    questions.close()


class Saving:
    """A save that ends after some waits."""

    def __init__(self, clock: Clock, waits: int) -> None:
        self.clock, self.waits = clock, waits

    def wait(self, limit_s: float) -> None:
        self.clock.now += limit_s
        self.waits -= 1


def test_saves_wait_for_slots_only_within_their_allowance() -> None:
    clock = Clock()
    room = SaveRoom(10, clock)
    assert room.wait_for(50, list)  # nothing is under way: it flows through in pieces
    save = Saving(clock, waits=3)
    assert room.wait_for(8, lambda: [(save, 8)] if save.waits > 0 else [])
    endless = Saving(clock, waits=1 << 30)
    assert room.wait_for(2, lambda: [(endless, 8)])
    started = clock.now
    assert not room.wait_for(3, lambda: [(endless, 8)])
    assert clock.now - started <= 1.1
    assert not room.wait_for(3, lambda: [(endless, 8)])
    clock.now += 30
    free = Saving(clock, waits=2)
    assert room.wait_for(3, lambda: [(free, 8)] if free.waits > 0 else [])


@pytest.mark.parametrize("spec", ["Cache|Disk", "Cache|Posix"])
@pytest.mark.parametrize("layerwise", [False, True])
def test_the_engine_goes_on_when_the_store_is_gone(
    tmp_path: Path, spec: str, layerwise: bool
) -> None:
    extra = {"breaker_failures": 2, "breaker_delay_s": 600.0}
    shape = Shape(tmp_path, spec=spec, layerwise=layerwise, extra=extra)
    with Engine(shape) as engine:
        assert engine.serve("cold", PROMPT) == right_answer(PROMPT, 4, 3)
    with Engine(shape) as engine:
        for worker in engine.workers:
            worker.connector._worker.store.close()  # whatever is asked of it fails from here on
        for number in range(6):
            prompt = PROMPT[: 60 + 20 * number] + [number] * 40
            assert engine.serve(f"r{number}", prompt) == right_answer(prompt, 4, 3)
        engine.assert_no_leak()
        assert engine.count("recomputed_blocks") > 0
        assert engine.count("load|unavailable", "failures") == 2  # and then no hit is promised
        assert engine.count("load|breaker_open", "failures") == 4
        assert engine.count("dump|unavailable", "failures") == 2
        assert engine.count("dump|breaker_open", "failures") > 0


@pytest.mark.parametrize("spec", ["Cache|Disk", "Cache|Posix"])
@pytest.mark.parametrize("layerwise", [False, True])
@pytest.mark.parametrize("async_load", [False, True])
def test_blocks_that_are_gone_do_not_make_the_scheduler_leave_the_store_alone(
    tmp_path: Path, spec: str, layerwise: bool, async_load: bool
) -> None:
    extra = {"breaker_failures": 1, "breaker_delay_s": 600.0}
    shape = Shape(tmp_path, spec=spec, layerwise=layerwise, async_load=async_load, extra=extra)
    prompts = [[number, *PROMPT[1:]] for number in range(3)]
    with Engine(shape) as engine:
        for number, prompt in enumerate(prompts):
            engine.serve(f"cold {number}", prompt)
    with Engine(shape) as engine:
        for number in range(2):
            engine.add(f"torn {number}", prompts[number])
            engine.step_that_loads(lambda at=number: engine.forget_block(prompts[at], 3))
            engine.run_checked()
            assert engine.answers[f"torn {number}"] == right_answer(prompts[number], 4, 3)
        assert engine.count("recomputed_blocks") >= 2
        before = engine.count("hit_tokens")
        engine.serve("whole", prompts[2])
        assert engine.count("hit_tokens") - before == 192


@pytest.mark.parametrize("async_load", [False, True])
def test_loads_that_come_too_late_are_failures_of_the_store(
    tmp_path: Path, async_load: bool
) -> None:
    with Engine(Shape(tmp_path)) as engine:
        engine.serve("cold", PROMPT)
    extra = {"breaker_failures": 1, "breaker_delay_s": 600.0, "timeout_s": 0.02}
    with Engine(Shape(tmp_path, async_load=async_load, extra=extra)) as engine:
        with disturbed(FaultRule(Operation.read, delay_ms=40)):
            engine.add("late", PROMPT)
            engine.step_that_loads(lambda: None)
            engine.run_checked(steps=1_000_000)
        assert engine.answers["late"] == right_answer(PROMPT, 4, 3)
        assert engine.count("load|timeout", "failures") == 1
        assert engine.serve("after", [1, *PROMPT[1:]]) == right_answer([1, *PROMPT[1:]], 4, 3)
        assert engine.ask(engine.request("probe", PROMPT), 0) == 0  # the store is left alone


@pytest.mark.parametrize("reports", [True, False])
def test_a_request_that_was_only_asked_about_leaves_the_probe_to_the_one_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: bool
) -> None:
    if not reports:  # as in a vLLM before 0.18
        monkeypatch.setattr(UCMConnector, "build_connector_worker_meta", lambda self: None)
        monkeypatch.setattr(compat, "CAN_SEND_WORKER_METADATA", False)
    clock = Clock()
    breaker = Breaker(failures=1, delay_s=5.0, clock=clock)
    with Engine(Shape(tmp_path)) as engine:
        engine.serve("cold", PROMPT)
    with Engine(Shape(tmp_path)) as engine:
        engine.connector._scheduler._loads.breaker = breaker
        breaker.failed()
        assert engine.ask(engine.request("early", PROMPT), 0) == 0
        clock.now += 5.0
        assert engine.ask(engine.request("asked", PROMPT), 0) == 192
        engine.serve("warm", PROMPT)
        assert engine.count("loaded_blocks") == 12
        assert not breaker.is_open
        for name in ("early", "asked"):
            engine.connector._scheduler.finished(name)
        engine.assert_no_leak()


def test_a_prompt_that_no_worker_can_load_is_not_tried_for_ever(tmp_path: Path) -> None:
    shape = Shape(tmp_path, async_load=True, extra={"breaker_failures": 1000})
    with Engine(shape) as engine:
        engine.serve("cold", PROMPT)
    with Engine(shape) as engine:
        engine.workers[0].connector._worker.store.close()
        engine.add("warm", PROMPT)
        engine.run_checked(steps=20)
        assert engine.answers["warm"] == right_answer(PROMPT, 4, 3)


@pytest.mark.parametrize("spec", ["Cache|Disk", "Cache|Posix"])
def test_clients_that_go_away_while_their_blocks_load_are_no_failures(
    tmp_path: Path, spec: str
) -> None:
    extra = {"breaker_failures": 2, "breaker_delay_s": 600.0}
    shape = Shape(tmp_path, spec=spec, async_load=True, extra=extra)
    prompts = [[number, *PROMPT[1:]] for number in range(4)]
    with Engine(shape) as engine:
        for number, prompt in enumerate(prompts):
            engine.serve(f"cold {number}", prompt)
    with Engine(shape) as engine:
        for number in range(3):
            with disturbed(FaultRule(Operation.read, delay_ms=50)):
                engine.add(f"gone {number}", prompts[number])
                engine.step_that_loads(lambda: None)
                engine.abort(f"gone {number}")
                while engine.workers[0].connector._worker._loads:
                    engine.step()
            engine.step()
        engine.assert_no_leak()
        assert "failures" not in engine.stats
        assert engine.count("recomputed_blocks") == engine.count("loaded_blocks") == 0
        assert engine.serve("stays", prompts[3]) == right_answer(prompts[3], 4, 3)
        assert engine.count("loaded_blocks") == 12


def test_blocks_of_another_layout_make_room_for_those_of_the_engine_that_saves(
    tmp_path: Path,
) -> None:
    with Engine(Shape(tmp_path, spec="Cache|Posix")) as engine:
        engine.serve("packed", PROMPT)
    with Engine(Shape(tmp_path, spec="Cache|Posix", kind="pair")) as engine:
        assert engine.serve("pair", PROMPT) == right_answer(PROMPT, 4, 3)
        engine.settle()
        engine.step()
        assert engine.count("saved_blocks") == 12
        assert "dump|unsupported" not in engine.stats.get("failures", {})
    with Engine(Shape(tmp_path, spec="Cache|Posix", kind="pair")) as engine:
        assert engine.serve("again", PROMPT) == right_answer(PROMPT, 4, 3)
        assert engine.count("loaded_blocks") == 12
