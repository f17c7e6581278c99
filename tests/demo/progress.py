# SPDX-License-Identifier: Apache-2.0
"""Says what is going on: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from server import Server

T = TypeVar("T")


class Progress:
    """Reports steps on a console, with their times."""

    def __init__(self, console: Console, every_s: float = 10.0) -> None:
        self._console = console
        self._every_s = every_s

    def step(self, title: str, work: Callable[[], T]) -> T:
        """Run ``work`` under a title and say how long it took."""
        begin = time.monotonic()
        self._plain(f"{title} ...")
        with self._console.status(escape(title)):
            result = work()
        self._console.print(f"{title}: {time.monotonic() - begin:.1f} s", markup=False)
        return result

    def start(self, server: Server, title: str) -> None:
        """Start a server, showing the last line of its log meanwhile."""
        shown = 0.0
        self._plain(f"{title} ...")
        with self._console.status(escape(title)) as status:

            def tick(spent: float, line: str) -> None:
                nonlocal shown
                text = f"{title} {spent:.0f} s  {line[-90:]}"
                status.update(escape(text))
                if spent - shown >= self._every_s:
                    shown = spent
                    self._plain(text)

            spent = server.start(tick)
        self._console.print(f"{title}: healthy after {spent:.1f} s", markup=False)

    def _plain(self, text: str) -> None:
        if not self._console.is_terminal:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
