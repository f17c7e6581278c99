# SPDX-License-Identifier: Apache-2.0
"""The one place where an error of the store becomes a miss, and is counted.

A cache may make an engine faster, never stop it. Every call of an adapter that can fail goes
through a `Fallback`; a store that keeps failing is left alone for a while by its `Breaker`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ucm.errors import (
    Cancelled,
    Corruption,
    NoSpace,
    NotFound,
    Timeout,
    UcmError,
    Unavailable,
    Unsupported,
)

T = TypeVar("T")
_log = logging.getLogger("ucm.integration")

_BLOCK_LEVEL = (NotFound, Corruption, Cancelled, NoSpace, Unsupported)
"""Errors that say something about blocks, not about the health of the store."""
_LOG_EVERY_S = 60.0


def code_of(error: BaseException) -> str:
    """The short cause under which an error is counted."""
    if isinstance(error, UcmError):
        return error.code
    if isinstance(error, TimeoutError):
        return Timeout.code
    if isinstance(error, MemoryError):
        return "out_of_memory"
    return "io_error" if isinstance(error, OSError) else "internal"


class Breaker:
    """Stops asking a store that keeps failing, and finds out by itself when it is back.

    Closed: calls pass. After ``failures`` failures in a row it is open: calls are refused. When
    ``delay_s`` has passed, one call passes as a probe: its success closes the breaker, its failure
    opens it again for twice as long, up to ``longest_s``. Thread-safe.

    Args:
        failures: failures in a row that open it.
        delay_s: seconds until the first probe.
        longest_s: upper limit of the delay.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        failures: int = 5,
        delay_s: float = 5.0,
        longest_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = failures
        self._first_delay_s = delay_s
        self._longest_s = longest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._delay_s = delay_s
        self._open_until: float | None = None
        self._probing_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused now, probes aside."""
        return self._open_until is not None

    def allows(self) -> bool:
        """Ask before a call. True for a probe as well, so report how the call went."""
        if self._open_until is None:
            return True
        with self._lock:
            now = self._clock()
            if self._open_until is None:
                return True
            # A probe whose outcome never comes back must not block the next one for ever.
            if now < self._open_until or now < self._probing_until:
                return False
            self._probing_until = now + self._delay_s
            return True

    def would_allow(self) -> bool:
        """What `allows` would answer now. Takes no probe: a call need not follow."""
        with self._lock:
            now = self._clock()
            return self._open_until is None or max(self._open_until, self._probing_until) <= now

    def succeeded(self) -> bool:
        """Report a call that went well. True when this closed the breaker."""
        if self._failed == 0 and self._open_until is None:
            return False
        with self._lock:
            closed = self._open_until is not None
            self._failed = 0
            self._open_until = None
            self._probing_until = 0.0
            self._delay_s = self._first_delay_s
            return closed

    def failed(self) -> bool:
        """Report a call that failed. True when this opened the breaker."""
        with self._lock:
            now = self._clock()
            self._failed += 1
            if self._open_until is not None:
                if now >= self._open_until:  # the probe failed
                    self._delay_s = min(self._delay_s * 2, self._longest_s)
                    self._open_until = now + self._delay_s
                    self._probing_until = 0.0
                return False
            if self._failed < self._limit:
                return False
            self._open_until = now + self._delay_s
            return True


class Fallback:
    """Runs calls of one kind against a store; a failure is counted and answered by a default.

    Args:
        operation: name of the kind of call (``lookup``, ``load``, ``dump``), for logs and counts.
        breaker: whose state decides whether a call is made at all.
        count: called with ``(operation, cause)`` for every failure and every refused call.
    """

    def __init__(
        self,
        operation: str,
        breaker: Breaker | None = None,
        count: Callable[[str, str], None] | None = None,
    ) -> None:
        self.operation = operation
        self.breaker = breaker or Breaker()
        self._count = count or (lambda operation, cause: None)
        self._logged: dict[str, float] = {}

    def run(self, call: Callable[[], T], otherwise: T) -> T:
        """Answer ``call()``, or ``otherwise`` when it fails or is not made."""
        if not self.allows():
            return otherwise
        try:
            answer = call()
        except Exception as error:  # whatever it is, the engine goes on without the cache
            self.note(error)
            return otherwise
        self.succeeded()
        return answer

    def allows(self) -> bool:
        """Whether a call may be made now; a refusal is counted as ``breaker_open``."""
        if self.breaker.allows():
            return True
        self._count(self.operation, "breaker_open")
        return False

    def would_allow(self) -> bool:
        """What `allows` would answer; a refusal is counted, but no probe is taken."""
        if self.breaker.would_allow():
            return True
        self._count(self.operation, "breaker_open")
        return False

    def succeeded(self) -> None:
        """Report that a call which was under way went well."""
        if self.breaker.succeeded():
            _log.info("%s works again; the store is in use", self.operation)

    def note(self, error: BaseException) -> bool:
        """Report that a call which was under way failed: it is counted, and logged now and then.

        Returns:
            Whether it is the store that failed; False when the error is about single blocks.
        """
        cause = code_of(error)
        self._count(self.operation, cause)
        now = time.monotonic()
        if now - self._logged.get(cause, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged[cause] = now
            unexpected = cause in ("internal", "invalid_argument")
            _log.warning(
                "%s failed (%s): %s; the engine computes instead",
                self.operation,
                cause,
                error,
                exc_info=error if unexpected else None,
            )
        if isinstance(error, _BLOCK_LEVEL):
            return False
        self.store_failed()
        return True

    def store_failed(self) -> None:
        """Report a failure of the store that somebody else has noted."""
        if self.breaker.failed():
            _log.error("%s keeps failing; the store is left alone for a while", self.operation)


def refused(what: str) -> Unavailable:
    """The error of a transfer that was not started because its breaker is open."""
    return Unavailable(f"{what} was not started: the store is left alone for a while")
