# SPDX-License-Identifier: Apache-2.0
"""A write or a read under way."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ucm._core import PageTask


class PyState(enum.Enum):
    """Where a block stands."""

    Initial = 0
    Working = 1
    Finished = 2
    Aborted = 3


_STATES = tuple(PyState)


class PyTask:
    """Blocks under way; made by `PyLocalCacheService.create`. Thread-safe."""

    def __init__(self, native: PageTask) -> None:
        self._native = native
        self._already = tuple(native.already_stored)

    def ready(self) -> bool:
        """Whether every block is Finished or Aborted: nothing touches the tensor any more."""
        return self._native.ready()

    def data_safe(self) -> bool:
        """Whether the pages of a write may be overwritten; of a read, the same as `ready`."""
        return self._native.data_safe()

    def state(self) -> list[PyState]:
        """One state per block, from the block of `start_pos` on."""
        return [_STATES[each] for each in self._native.states()]

    @property
    def page_already_list(self) -> list[int]:
        """Pages of a write whose blocks were stored before; they are never looked at.

        It is fixed when the task is made; each access gives a list of its own.
        """
        return list(self._already)
