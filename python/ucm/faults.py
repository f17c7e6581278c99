# SPDX-License-Identifier: Apache-2.0
"""For tests: a sick storage and a lost power, in this process and without a special kernel.

Every file system call of the native stages asks a list of rules first; see docs/faults.md.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from ucm import _core

__all__ = ["FaultRule", "Operation", "WriteRecording", "disturbed", "faults_taken", "set_faults"]


class Operation(enum.IntEnum):
    """What a rule may disturb; ``any`` stands for all of them."""

    any = 0
    open = 1
    read = 2
    write = 3
    sync = 4
    allocate = 5
    rename = 6
    link = 7
    unlink = 8
    mkdir = 9
    list = 10
    stat = 11
    map = 12
    lock = 13
    attribute = 14


@dataclass(frozen=True)
class FaultRule:
    """A disturbance of file system calls; of several rules that fit a call the first one counts.

    Args:
        operation: Which calls.
        path: Part of the path of the file, or a pattern when it has a ``*`` or a ``?``.
        skip: Calls that are spared first.
        count: Calls that are disturbed after these; None for all.
        error: The errno to report, 0 for none.
        cut: Make reads and writes short.
        delay_ms: Milliseconds to sleep before the call.
        hang: Wait until the rules are replaced.
        probability: Of each call that fits, from 0 to 1.
        seed: Of the probability: the same seed disturbs the same calls.
    """

    operation: Operation = Operation.any
    path: str = ""
    skip: int = 0
    count: int | None = None
    error: int = 0
    cut: bool = False
    delay_ms: int = 0
    hang: bool = False
    probability: float = 1.0
    seed: int = 0


def set_faults(*rules: FaultRule) -> None:
    """Replace all rules and end all hangs; without rules the layer is off."""
    _core.set_faults([asdict(rule) | {"operation": int(rule.operation)} for rule in rules])


def faults_taken() -> int:
    """Return how often a rule has taken effect since they were set."""
    return _core.faults_taken()


@contextmanager
def disturbed(*rules: FaultRule) -> Iterator[None]:
    """Disturb the calls inside a ``with`` block."""
    set_faults(*rules)
    try:
        yield
    finally:
        set_faults()


class WriteRecording:
    """Every change that this process makes below a folder, until it is stopped.

    Args:
        folder: An existing folder; what it holds counts as safe on the disk. Open stores after
            this and close them before the end.

    Raises:
        Unavailable: Another recording is under way.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._native: _core.WriteRecording | None = _core.WriteRecording(os.fspath(folder))

    def _recording(self) -> _core.WriteRecording:
        if self._native is None:
            raise RuntimeError("the recording is stopped")
        return self._native

    def changes(self) -> int:
        """Return the number of changes so far, those of mapped files among them."""
        return self._recording().changes()

    def rebuild(
        self,
        to: str | os.PathLike[str],
        point: int | None = None,
        *,
        seed: int = 0,
        process_only: bool = False,
    ) -> None:
        """Make a folder that holds what the disk holds after the power was lost.

        Args:
            to: The folder to make, absent or empty.
            point: After how many changes the power is lost; None for now.
            seed: Draws what of the changes that were not synced has reached the disk.
            process_only: Only the process is killed: every change counts.

        Raises:
            IoError: The folder can not be written.
        """
        recording = self._recording()
        where = recording.changes() if point is None else point
        recording.rebuild(os.fspath(to), where, seed, process_only)

    def stop(self) -> None:
        """End the recording and forget it."""
        self._native = None

    def __enter__(self) -> WriteRecording:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
