# SPDX-License-Identifier: Apache-2.0
"""Child processes of a test, which die with it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def dying_with_parent() -> Callable[[], None]:
    """What a child calls first, so that it does not outlive a test that is killed."""
    parent = os.getpid()

    def tie() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was killed in between
            os._exit(98)

    return tie


def started(words: Sequence[str], **more: Any) -> subprocess.Popen:
    """A process that runs beside the test and dies with the thread that started it."""
    return subprocess.Popen(words, preexec_fn=dying_with_parent(), **more)


def forked() -> int:
    """os.fork(); the child dies with the thread that made it."""
    tie = dying_with_parent()
    child = os.fork()
    if child == 0:
        tie()
    return child
