# SPDX-License-Identifier: Apache-2.0
"""What `ucm doctor` finds: one line each."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ucm.cli.output import console
from ucm.config import UcmConfig

OK, WARN, FAIL, INFO = "ok", "warn", "fail", "info"
_STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red", INFO: "cyan"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        state: ok, warn, fail or info.
        name: What was looked at.
        found: What it is like.
        advice: What to do; empty when nothing is.
    """

    state: str
    name: str
    found: str
    advice: str = ""


@dataclasses.dataclass
class Subject:
    """What is examined.

    Args:
        config: The configuration; None without one, or when it can not be used.
        file: Where it came from.
        paths: Directories for blocks.
        port: Port of the engine's API.
    """

    config: UcmConfig | None
    file: Path | None
    paths: list[Path]
    port: int


def as_dicts(sections: dict[str, list[Finding]]) -> dict[str, Any]:
    """The report for JSON."""
    counts = count(sections)
    return {
        "healthy": not counts[FAIL],
        "counts": {state: counts[state] for state in (OK, WARN, FAIL, INFO)},
        "findings": [
            {"section": section, **dataclasses.asdict(finding)}
            for section, findings in sections.items()
            for finding in findings
        ],
    }


def count(sections: dict[str, list[Finding]]) -> Counter[str]:
    """How many findings there are of each state."""
    return Counter(each.state for findings in sections.values() for each in findings)


def show(sections: dict[str, list[Finding]]) -> None:
    """The report for people."""
    out = console()
    width = max(len(each.name) for findings in sections.values() for each in findings)
    for section, findings in sections.items():
        if findings:
            out.print(f"[bold]{section}[/bold]")
            out.print(_grid(findings, width))
    counts = count(sections)
    parts = [f"{counts[OK]} ok"]
    if counts[WARN]:
        parts.append(f"{counts[WARN]} to look at")
    parts.append(f"{counts[FAIL]} failed" if counts[FAIL] else "nothing failed")
    out.print(Text(", ".join(parts), style=_STYLES[FAIL if counts[FAIL] else OK]))


def _grid(findings: Iterable[Finding], width: int) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=4)
    grid.add_column(width=width, overflow="fold")
    grid.add_column(overflow="fold")
    for each in findings:
        text = Text(each.found)
        if each.advice:
            text.append(f" -> {each.advice}", style=_STYLES[each.state])
        grid.add_row(Text(each.state, style=_STYLES[each.state]), each.name, text)
    return grid
