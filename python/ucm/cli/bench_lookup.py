# SPDX-License-Identifier: Apache-2.0
"""`ucm bench lookup`: nanoseconds per key."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from ucm.cli.bench_blocks import aligned
from ucm.cli.output import Meter
from ucm.config import load_config
from ucm.keys import KEY_BYTES
from ucm.store.store import Store

_BLOCK = 4096
_FILL = 1024
_TIMEOUT_S = 300.0
_KEYS_PER_PASS = 100_000
_CALLS_PER_PASS = 5_000


def fill(store: Store, keys: list[bytes], bar: Meter) -> None:
    """Puts one small block per key; all from the same memory."""
    memory = aligned(1, _BLOCK)
    addresses = np.full((_FILL, 1), memory.ctypes.data, dtype=np.uint64)
    for start in range(0, len(keys), _FILL):
        batch = keys[start : start + _FILL]
        store.dump_data(batch, 0, addresses[: len(batch)]).wait(_TIMEOUT_S)
        bar.add(len(batch))


def open_for(pipeline: str, count: int, folder: Path) -> Store:
    """A store with room for `count` blocks."""
    config: dict[str, Any] = {"store_pipeline": pipeline, "timeout_s": _TIMEOUT_S}
    if "Cache" in pipeline or "Fake" in pipeline:
        config["buffer_number"] = count + count // 8 + _FILL
    if "Disk" in pipeline or "Posix" in pipeline:
        config.update(
            storage_backends=str(folder / pipeline.replace("|", "-")),
            io_direct=False,
            capacity_bytes=2 * count * 2 * _BLOCK + (64 << 20),
            segment_bytes=64 << 20,
        )
    return Store(load_config(config, environ={}).store, layout=([_BLOCK], 1))


def random_keys(count: int) -> list[bytes]:
    """Keys no store has seen."""
    data = os.urandom(count * KEY_BYTES)
    return [data[i : i + KEY_BYTES] for i in range(0, len(data), KEY_BYTES)]


def run_pipeline(
    pipeline: str, count: int, batches: Sequence[int], rounds: int, folder: Path, bar: Meter
) -> list[dict[str, Any]]:
    """Fills a store and asks it.

    Returns:
        The figures of each batch size.

    Raises:
        click.ClickException: An answer was wrong, or not all blocks found room.
    """
    bar.label(f"{pipeline}: fill")
    present = random_keys(count)
    with open_for(pipeline, count, folder) as store:
        fill(store, present, bar)
        kept = sum(store.lookup(present))
        if kept != count:
            raise click.ClickException(
                f"{pipeline} keeps {kept} of {count} blocks; choose a smaller --count"
            )
        bar.label(f"{pipeline}: ask")
        known = set(present)
        return [_ask(pipeline, store, present, known, batch, rounds) for batch in batches]


def _ask(
    pipeline: str, store: Store, present: list[bytes], known: set[bytes], batch: int, rounds: int
) -> dict[str, Any]:
    asked = min(_KEYS_PER_PASS, max(batch, _CALLS_PER_PASS * batch))
    order = np.random.default_rng()
    times: dict[str, list[float]] = {"hit": [], "miss": [], "python": [], "set": []}
    for _ in range(rounds + 1):
        picked = order.integers(0, len(present), asked)
        hits = _cut([present[i] for i in picked], batch)
        misses = _cut(random_keys(asked), batch)
        native = store.native.lookup
        times["hit"].append(_time(native, [b"".join(keys) for keys in hits], b"\x01"))
        times["miss"].append(_time(native, [b"".join(keys) for keys in misses], b"\x00"))
        times["python"].append(_time(lambda keys: bytes(store.lookup(keys)), hits, b"\x01"))
        times["set"].append(_time(lambda keys: bytes(key in known for key in keys), hits, b"\x01"))
    medians = {name: statistics.median(each[1:]) / asked * 1e9 for name, each in times.items()}
    ratios = [a / b for a, b in zip(times["set"][1:], times["hit"][1:], strict=True)]
    return {
        "pipeline": pipeline,
        "count": len(present),
        "batch": batch,
        "hit_ns": medians["hit"],
        "miss_ns": medians["miss"],
        "python_hit_ns": medians["python"],
        "baseline": {"name": "key in set", "hit_ns": medians["set"]},
        "ratio": statistics.median(ratios),
    }


def _cut(keys: list[bytes], batch: int) -> list[list[bytes]]:
    return [keys[start : start + batch] for start in range(0, len(keys), batch)]


def _time(call: Callable[[Any], bytes], batches: Sequence[Any], expected: bytes) -> float:
    """Seconds of all calls; every answer is checked afterwards."""
    begin = time.perf_counter()
    answers = [call(batch) for batch in batches]
    seconds = time.perf_counter() - begin
    if set(b"".join(answers)) != set(expected):
        raise click.ClickException("a lookup answered wrong: a hit for a miss, or a miss for a hit")
    return seconds
