# SPDX-License-Identifier: Apache-2.0
"""How many leading blocks the store holds, without holding up the scheduler."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable

from ucm.errors import Timeout
from ucm.integration.common import parts
from ucm.integration.common.fallback import Fallback
from ucm.integration.vllm.settings import Settings
from ucm.keys import KEY_BYTES, rank_keys
from ucm.store.store import Store

_REMEMBER_S = 2.0
_MOST_QUEUED = 4096


class PartsLookup:
    """Prefix lookups over all parts of a block: a block counts when every rank's part is there.

    The stores are opened for lookups only, when they are first needed, and again after a failure.
    Thread-safe as far as the native store is; opening is done by the calling thread.
    """

    def __init__(self, settings: Settings) -> None:
        self._config = settings.config.store
        self._ranks = settings.ranks
        self._one_directory = parts.shares_directory(self._config)
        self._stores: dict[int, Store] = {}

    def count(self, keys: bytes) -> int:
        """How many of the first keys (n * 16 bytes, without a rank) are there for all ranks."""
        found = len(keys) // KEY_BYTES
        for part in range(self._ranks.parts):
            if found == 0:
                return 0
            wanted = rank_keys(keys[: found * KEY_BYTES], part, self._ranks.parts)
            found = min(found, int(self._store(part).native.lookup_prefix(wanted)))
        return found

    def _store(self, part: int) -> Store:
        home = 0 if self._one_directory else self._ranks.home_of(part)
        if home not in self._stores:
            self._stores[home] = parts.open_part(self._config, rank=home, read_only=True)
        return self._stores[home]

    def close(self) -> None:
        """Close the stores. They open again when asked."""
        stores, self._stores = self._stores, {}
        for store in stores.values():
            store.close()


@dataclasses.dataclass
class _Question:
    keys: bytes
    deadline: float
    answered: threading.Event = dataclasses.field(default_factory=threading.Event)
    answer: int | None = None
    good_until: float = 0.0


class PrefixLookup:
    """Answers the scheduler's questions, at once or from a thread of its own.

    Lookups that touch memory only are made on the spot. Others run on one background thread: the
    scheduler waits for ``wait_s`` at most and asks again later. Called from one thread.

    Args:
        count: how many of the first keys are there; may take long, may raise.
        fallback: counts failures and decides whether the store is asked at all.
        background: whether ``count`` may take long.
        wait_s: how long `ask` may take.
        timeout_s: after which a question is answered -1 and counts as a failure.
    """

    def __init__(
        self,
        count: Callable[[bytes], int],
        fallback: Fallback,
        *,
        background: bool,
        wait_s: float,
        timeout_s: float,
    ) -> None:
        self._count = count
        self._fallback = fallback
        self._background = background
        self._wait_s = wait_s
        self._timeout_s = timeout_s
        self._questions: dict[str, _Question] = {}
        self._queue: queue.Queue[_Question | None] = queue.Queue(_MOST_QUEUED)
        self._thread: threading.Thread | None = None

    def ask(self, request_id: str, keys: bytes) -> int | None:
        """How many of the first keys are stored.

        Args:
            request_id: whose question; a request has one question at a time.
            keys: n * 16 bytes.

        Returns:
            A count; None when it is not known yet: ask again in the next step; -1 when it
            can not be found out.
        """
        if not keys:
            return 0
        if not self._background:
            return self._fallback.run(lambda: self._count(keys), -1)
        question = self._questions.get(request_id)
        now = time.monotonic()
        if question is not None and (
            question.keys != keys or (question.answer is not None and now > question.good_until)
        ):
            question = None
        if question is None:
            if not self._fallback.allows():
                return -1
            question = self._put(request_id, keys, now)
        question.answered.wait(max(0.0, min(self._wait_s, question.deadline - now)))
        if question.answer is None and time.monotonic() >= question.deadline:
            self._fallback.note(Timeout(f"a lookup took longer than {self._timeout_s} s"))
            question.answer = -1
            question.good_until = time.monotonic() + _REMEMBER_S
        return question.answer

    def forget(self, request_id: str) -> None:
        """Drop the question of a request."""
        self._questions.pop(request_id, None)

    def close(self) -> None:
        """End the thread once its current lookup returns; it is not waited for long."""
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            self._thread.join(self._wait_s)
            self._thread = None

    def _put(self, request_id: str, keys: bytes, now: float) -> _Question:
        question = _Question(keys, now + self._timeout_s)
        self._questions[request_id] = question
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ucm-lookup", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(question)
        except queue.Full:
            question.deadline = now
        return question

    def _work(self) -> None:
        while (question := self._queue.get()) is not None:
            if time.monotonic() >= question.deadline:
                continue  # nobody waits for it any more
            try:
                answer = self._count(question.keys)
            except Exception as error:  # counted; the engine computes instead
                self._fallback.note(error)
                answer = -1
            else:
                self._fallback.succeeded()
            if question.answer is None:
                question.good_until = time.monotonic() + _REMEMBER_S
                question.answer = answer
            question.answered.set()
