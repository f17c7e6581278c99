# SPDX-License-Identifier: Apache-2.0
"""A file of figures that grows row by row: what was taken stays when a run ends early."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

Row = dict[str, Any]


def machine() -> dict[str, Any]:
    """What a reader needs to know about where the figures come from."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def commit() -> str:
    """The tree the figures are of, with -dirty behind it when it has changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


class Kept:
    """The results so far, in memory and in a file.

    Args:
        out: The file; what it holds already is kept. None for none.
        program: What is said to have made it.
        minutes: No row is begun after this time; 0 for no limit.
        again: Rows that the file has are taken once more.
    """

    def __init__(self, out: Path | None, program: str, minutes: float, again: bool) -> None:
        self._out = out
        self._again = again
        self._end = time.monotonic() + minutes * 60 if minutes else float("inf")
        self.left: list[str] = []
        self.report: dict[str, Any] = {
            "date": datetime.date.today().isoformat(),
            "command": f"python tests/bench/{program} --folder DIR --out FILE",
            "machine": machine(),
            "results": [],
        }
        if out and out.exists():
            self.report = json.loads(out.read_text())

    @property
    def results(self) -> list[Row]:
        found: list[Row] = self.report["results"]
        return found

    def take(self, name: str, measure: Callable[[], list[Row]]) -> list[Row]:
        """Takes what is called `name`, unless it is there or the time is over, and writes it."""
        if not self._again and any(row.get("row") == name for row in self.results):
            return []
        if time.monotonic() > self._end:
            self.left.append(name)
            return []
        started, load = time.time(), os.getloadavg()[0]
        rows = measure()
        seconds = time.time() - started
        stamp = datetime.datetime.fromtimestamp(started, datetime.UTC)
        for row in rows:
            row.update(
                row=name, commit=commit(), taken=stamp.isoformat(timespec="seconds"),
                seconds=round(seconds, 1), load=[round(load, 1), round(os.getloadavg()[0], 1)],
            )  # fmt: skip
        self.report["results"] = [row for row in self.results if row.get("row") != name] + rows
        self._write()
        print(f"{name}: {seconds:.0f} s, load {load:.1f}", file=sys.stderr)
        return rows

    def _write(self) -> None:
        if self._out:
            aside = self._out.with_suffix(".part")
            aside.write_text(json.dumps(self.report, indent=1) + "\n")
            aside.replace(self._out)
