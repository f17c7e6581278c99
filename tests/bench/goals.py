# SPDX-License-Identifier: Apache-2.0
"""What the figures should reach. Only said, never enforced: a busy machine misses all of it."""

from __future__ import annotations

import dataclasses
from typing import Any

KIB = 1 << 10
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on a figure of the rows that `what` and a range of block sizes select."""

    what: str
    figure: str
    least: float | None = None
    most: float | None = None
    from_bytes: int = 0
    to_bytes: int = 1 << 40

    def applies(self, row: dict[str, Any]) -> bool:
        size = row.get("block_bytes", 0)
        fits = self.from_bytes <= size <= self.to_bytes
        return row["what"] == self.what and fits and self.figure in row


GOALS = (
    Goal("cache", "put_over_memcpy", least=0.90, from_bytes=64 * KIB),
    Goal("cache", "get_over_memcpy", least=0.90, from_bytes=64 * KIB),
    Goal("cache digested", "put_over_memcpy", least=0.80, from_bytes=64 * KIB),
    Goal("lookup", "hit_ns", most=60),
    Goal("lookup", "reopen_s", most=0.25),
    Goal("disk", "write_over_fio", least=0.80, to_bytes=64 * KIB),
    Goal("disk", "read_over_fio", least=0.80, to_bytes=64 * KIB),
    Goal("disk", "write_over_fio", least=0.90, from_bytes=64 * KIB + 1),
    Goal("disk", "read_over_fio", least=0.95, from_bytes=64 * KIB + 1),
    Goal("disk", "write_cpu_s_per_GB", most=0.1, from_bytes=2 * MIB, to_bytes=2 * MIB),
    Goal("disk", "read_cpu_s_per_GB", most=0.1, from_bytes=2 * MIB, to_bytes=2 * MIB),
    Goal("posix", "write_time_over_bare", most=1.2, from_bytes=MIB, to_bytes=MIB),
    Goal("idle", "cpu_ms_per_s", most=0.1),
    Goal("call", "call_us", most=2.0),
    Goal("call", "row_ns", most=50),
)


def judge(row: dict[str, Any]) -> list[str]:
    """One line for each goal that this row has something to say about."""
    lines = []
    for goal in GOALS:
        if not goal.applies(row):
            continue
        value = row[goal.figure]
        good = value >= goal.least if goal.least is not None else value <= (goal.most or 0)
        bound = f">= {goal.least}" if goal.least is not None else f"<= {goal.most}"
        name = " ".join(filter(None, [row.get("row"), row.get("pipeline"), row.get("call")]))
        lines.append(f"{'met' if good else 'missed'}: {name}: {goal.figure} {value} (goal {bound})")
    return lines
