# SPDX-License-Identifier: Apache-2.0
"""A transfer under way, as Python sees it."""

from __future__ import annotations

import itertools
from typing import Any

_numbers = itertools.count(1)


class Task:
    """A load or a dump. Made by `Store`; may be waited for by any thread, any number of times.

    It passes two milestones: `released` (after a dump the tensors may be reused, after a load they
    are filled) and `done` (the blocks are stored and visible). The tensors of the call are kept
    alive until it is done, also when the task itself is dropped.
    """

    __slots__ = ("_keep", "_native", "_timeout_s", "block_count", "kind", "task_id")

    def __init__(
        self, native: Any, kind: str, block_count: int, timeout_s: float, keep: Any = None
    ) -> None:
        self._native = native
        self._keep = keep
        self._timeout_s = timeout_s
        self.kind = kind
        self.block_count = block_count
        self.task_id = next(_numbers)

    @property
    def task_type(self) -> str:
        """LOAD or DUMP."""
        return self.kind.upper()

    @property
    def done(self) -> bool:
        """Whether nothing of it is under way any more; it may have failed."""
        if self._native is not None and not self._native.done:
            return False
        self._keep = None
        return True

    @property
    def released(self) -> bool:
        """Whether the tensors are free again (dump), or filled (load)."""
        return self._native is None or bool(self._native.released)

    @property
    def failed_rows(self) -> list[int]:
        """Numbers of the rows that failed, ascending; complete once done."""
        return [] if self._native is None else list(self._native.failed_rows)

    @property
    def error(self) -> Exception | None:
        """The first cause when it is done and failed, else None."""
        if self._native is None or not self._native.done:
            return None
        cause: Exception | None = self._native.error
        return cause

    def wait(self, timeout_s: float | None = None) -> None:
        """Waits until it is done.

        Args:
            timeout_s: Seconds; the store's `timeout_s` when absent.

        Raises:
            Timeout: The time passed; the transfer may go on.
            UcmError: The first cause of a failure, with `failed_rows`.
        """
        if self._native is not None:
            try:
                self._native.wait(self._timeout_s if timeout_s is None else timeout_s)
            except Exception:  # it may have been the call that was wrong
                if self._native.done:
                    self._keep = None
                raise
        self._keep = None

    def wait_released(self, timeout_s: float | None = None) -> None:
        """Waits until the tensors are free again (dump), or filled (load).

        Args:
            timeout_s: Seconds; the store's `timeout_s` when absent.

        Raises:
            Timeout: The time passed.
            UcmError: The first cause of a failure so far.
        """
        if self._native is not None:
            self._native.wait_released(self._timeout_s if timeout_s is None else timeout_s)

    def wait_on_stream(self, stream: int, timeout_s: float | None = None) -> None:
        """Lets a stream of the engine wait for a load, in the host's place.

        The host waits only until the copies are on the device's own streams: for blocks that are in
        host memory not at all. What the engine queues on its stream from then on finds the tensors
        filled. With host memory it returns when the load is done.

        Args:
            stream: Handle of the stream, e.g. `torch.cuda.current_stream().cuda_stream`.
            timeout_s: Seconds; the store's `timeout_s` when absent.

        Raises:
            Timeout: The time passed.
            UcmError: The first cause of a failure so far; `wait` tells of copies that fail later.
        """
        if self._native is not None:
            limit = self._timeout_s if timeout_s is None else timeout_s
            self._native.wait_on_stream(stream, limit)

    def cancel(self) -> None:
        """Asks rows that have not started to end as cancelled; rows under way finish."""
        if self._native is not None:
            self._native.cancel()

    def is_completed(self) -> bool:
        """The same as `done`."""
        return self.done

    def __repr__(self) -> str:
        state = "done" if self.done else "released" if self.released else "under way"
        return f"<{self.kind} task {self.task_id}: {self.block_count} blocks, {state}>"
