# SPDX-License-Identifier: Apache-2.0
"""Measuring: timed passes over blocks, and what several rounds of them say."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ucm.cli.out_files import written

GB = 1e9


@dataclasses.dataclass(frozen=True)
class Pass:
    """One timed pass.

    Args:
        nbytes: Bytes moved.
        blocks: Blocks moved.
        seconds: Wall time.
        cpu_s: Processor time of all threads of this process.
        latencies: Wall time of each batch.
    """

    nbytes: int
    blocks: int
    seconds: float
    cpu_s: float
    latencies: list[float]

    @property
    def speed(self) -> float:
        """GB per second."""
        return self.nbytes / self.seconds / GB


def timed(call: Callable[[range], None], batches: Iterable[range], block_bytes: int) -> Pass:
    """Times a call per batch of blocks."""
    latencies: list[float] = []
    blocks = 0
    cpu = time.process_time()
    for batch in batches:
        begin = time.perf_counter()
        call(batch)
        latencies.append(time.perf_counter() - begin)
        blocks += len(batch)
    cpu = time.process_time() - cpu
    return Pass(blocks * block_bytes, blocks, sum(latencies), cpu, latencies)


def figures(passes: Sequence[Pass], baseline: Sequence[Pass], name: str) -> dict[str, Any]:
    """Medians over the rounds, and the ratio to a baseline of the same rounds.

    Args:
        passes: One per round.
        baseline: One per round; round i of both ran next to each other.
        name: What the baseline does.
    """
    result = _medians(passes)
    ratios = [a.speed / b.speed for a, b in zip(passes, baseline, strict=True)]
    result["baseline"] = {"name": name, **_medians(baseline)}
    result["ratio"] = statistics.median(ratios)
    result["ratios"] = ratios
    return result


def _medians(passes: Sequence[Pass]) -> dict[str, Any]:
    latencies = [each for one in passes for each in one.latencies]
    return {
        "gb_per_s": statistics.median(one.speed for one in passes),
        "blocks_per_s": statistics.median(one.blocks / one.seconds for one in passes),
        "batch_ms": {
            "p50": percentile(latencies, 50) * 1e3,
            "p99": percentile(latencies, 99) * 1e3,
        },
        "cpu_s_per_gb": statistics.median(one.cpu_s / one.nbytes * GB for one in passes),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    import ucm

    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "ucm": ucm.__version__,
        "processor": model,
        "processors": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def save(report: dict[str, Any], out: Path | None) -> None:
    """Writes a report to a file, whole or not at all."""
    if out is None:
        return
    with written(out) as file:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
