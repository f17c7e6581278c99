# SPDX-License-Identifier: Apache-2.0
"""Keeps saving from being felt when the store writes more slowly than the engine computes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from ucm.errors import UcmError

_BURST_S = 1.0
_SHARE = 0.05
_POLL_S = 0.02


class SaveRoom:
    """Decides whether a step may wait for staging slots, or leaves its blocks unsaved.

    Waiting is paid from an allowance that grows by a twentieth of the time that passes, up to one
    second. While there are free slots nothing waits, and nothing is left out.

    Args:
        slots: blocks that the store can hold on their way.
        clock: monotonic seconds.
    """

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._allowance_s = _BURST_S
        self._since = clock()

    def spent(self, seconds: float) -> None:
        """A step waited so long for its blocks."""
        now = self._clock()
        earned = (now - self._since) * _SHARE
        self._since = now
        self._allowance_s = max(-_BURST_S, min(_BURST_S, self._allowance_s + earned) - seconds)

    def wait_for(self, blocks: int, under_way: Callable[[], list[tuple[Any, int]]]) -> bool:
        """Wait until some blocks fit beside those under way.

        Args:
            blocks: how many.
            under_way: answers the (task, blocks) that are on their way now.

        Returns:
            False when the allowance does not suffice: leave them out.
        """
        self.spent(0.0)
        while True:
            waiting = under_way()
            if not waiting or blocks + sum(count for _, count in waiting) <= self._slots:
                return True
            if self._allowance_s <= 0:
                return False
            started = self._clock()
            with contextlib.suppress(UcmError):
                waiting[0][0].wait(min(_POLL_S, self._allowance_s))
            self.spent(self._clock() - started)
