# SPDX-License-Identifier: Apache-2.0
"""What a command shows: tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table


def console() -> Console:
    """Standard output; as wide as the terminal, 80 columns (or $COLUMNS) into a file."""
    return Console(highlight=False, soft_wrap=False)


def write_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """One line on stderr that is no error."""
    click.echo(text, err=True)


def table(title: str | None, columns: Sequence[tuple[str, str]], caption: str = "") -> Table:
    """An empty table.

    Args:
        title: Above it, or None.
        columns: (heading, "left" or "right") of each.
        caption: Below it.
    """
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption or None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading, justify in columns:
        made.add_column(heading, justify="right" if justify == "right" else "left")
    return made


class Meter:
    """One bar: `label` says what is under way, `add` moves it. Silent when nobody watches."""

    def __init__(self, progress: Progress | None, task: TaskID, spoken: bool) -> None:
        self._progress = progress
        self._task = task
        self._spoken = spoken

    def label(self, text: str) -> None:
        """What is under way now."""
        if self._progress is not None:
            self._progress.update(self._task, description=text)
        elif self._spoken:
            note(text)

    def add(self, amount: float = 1) -> None:
        """Some of the total is done."""
        if self._progress is not None:
            self._progress.advance(self._task, amount)


@contextmanager
def meter(
    text: str, total: float | None, *, unit: str = "steps", quiet: bool = False
) -> Iterator[Meter]:
    """A progress bar on stderr; plain lines where stderr is no terminal.

    Args:
        text: What is under way.
        total: How much there is to do, None when unknown.
        unit: steps or bytes.
        quiet: Show nothing.
    """
    where = Console(stderr=True)
    if quiet or not where.is_terminal:
        yield Meter(None, TaskID(0), not quiet)
        return
    counts: list[ProgressColumn] = (
        [DownloadColumn(binary_units=True), TransferSpeedColumn()]
        if unit == "bytes"
        else [MofNCompleteColumn()]
    )
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), *counts]
    with Progress(*columns, TimeRemainingColumn(), console=where, transient=True) as progress:
        yield Meter(progress, progress.add_task(text, total=total), False)
