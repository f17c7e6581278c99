# SPDX-License-Identifier: Apache-2.0
"""Adds up the metrics of all stores of this process, the closed ones included."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import Any, Protocol

from ucm.metrics.names import STORE

Sample = tuple[str, str, dict[str, str], Any]
"""(name, kind, labels, value); of a histogram value = (bounds, counts per bucket, sum)."""

_SHADOW_ASKED = "ucm_shadow_lookup_blocks_total"
_Key = tuple[str, tuple[tuple[str, str], ...]]


class LookupCount:
    """What callers of one store asked and were told. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked = 0
        self.found = 0

    def add(self, asked: int, found: int) -> None:
        """Counts one lookup of `asked` blocks of which `found` were there."""
        with self._lock:
            self.asked += asked
            self.found += found

    def sample(self) -> list[Sample]:
        """The two counters as samples."""
        with self._lock:
            asked, found = self.asked, self.found
        return [
            ("ucm_lookup_blocks_total", "counter", {"stage": STORE}, float(asked)),
            ("ucm_lookup_hit_blocks_total", "counter", {"stage": STORE}, float(found)),
        ]


class Measured(Protocol):
    """A store as far as its figures go."""

    lookups: LookupCount

    def metrics(self) -> list[Sample]:
        """The samples of its native pipeline."""


_lock = threading.Lock()
_stores: weakref.WeakSet[Measured] = weakref.WeakSet()
_past: dict[_Key, Sample] = {}


def register(store: Measured) -> None:
    """Lets a store take part until it is closed."""
    with _lock:
        _stores.add(store)


def open_stores() -> list[Measured]:
    """The stores that take part."""
    return list(_stores)


def retire(store: Measured) -> None:
    """Keeps the counters of a store that is about to close."""
    samples = lasting([*store.metrics(), *store.lookups.sample()])
    with _lock:
        for sample in samples:
            _add(_past, sample)
        _stores.discard(store)


def lasting(samples: Iterable[Sample]) -> list[Sample]:
    """What still counts when a pipeline is closed: all but the gauges."""
    return [sample for sample in samples if sample[1] != "gauge"]


def merged(*groups: Iterable[Sample]) -> list[Sample]:
    """The samples of all groups; equal ones are added up."""
    totals: dict[_Key, Sample] = {}
    for group in groups:
        for sample in group:
            _add(totals, sample)
    return list(totals.values())


def collect() -> list[Sample]:
    """The sums over all stores: counters and histograms of all times, gauges of open stores."""
    with _lock:
        totals = dict(_past)
        stores = list(_stores)
    for store in stores:
        for sample in [*store.lookups.sample(), *store.metrics()]:
            _add(totals, sample)
    return [totals[key] for key in sorted(totals)]


def _add(totals: dict[_Key, Sample], sample: Sample) -> None:
    name, kind, labels, value = sample
    key = (name, tuple(sorted(labels.items())))
    old = totals.get(key)
    if old is None:
        totals[key] = sample
    elif kind == "histogram":
        bounds, counts, total = value
        counts = [a + b for a, b in zip(old[3][1], counts, strict=True)]
        totals[key] = (name, kind, labels, (bounds, counts, old[3][2] + total))
    else:
        totals[key] = (name, kind, labels, old[3] + value)


def figures(*groups: Iterable[Sample]) -> dict[str, float]:
    """Plain figures by name.

    Args:
        groups: Samples; equal ones are added up.

    Returns:
        `hit_rate` (0..1), `load_speed` and `save_speed` (bytes/s), the sums they are made from
        (`lookup_count`, `lookup_hits`, `load_blocks`, `load_bytes`, `load_time`, `load_count`,
        and the same for `save_`), and every sample as `name{label="value"}`; of a histogram
        `_count` and `_sum`. `hit_rate_at_twice_capacity{stage="..."}` (0..1) is what a stage would
        hit if it were twice as large.
    """
    samples = merged(*groups)
    result = _headlines(samples)
    for name, kind, labels, value in samples:
        text = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
        where = f"{{{text}}}" if text else ""
        if kind == "histogram":
            result[f"{name}_count{where}"] = float(sum(value[1]))
            result[f"{name}_sum{where}"] = float(value[2])
        else:
            result[f"{name}{where}"] = float(value)
    return result


def _headlines(samples: list[Sample]) -> dict[str, float]:
    asked = _value(samples, "ucm_lookup_blocks_total", stage=STORE)
    found = _value(samples, "ucm_lookup_hit_blocks_total", stage=STORE)
    result = {
        "hit_rate": found / asked if asked else 0.0,
        "lookup_count": asked,
        "lookup_hits": found,
    }
    stages = [labels["stage"] for _, kind, labels, _ in samples if kind == "histogram"]
    top = next((stage for stage in stages if stage.lower() == "cache"), (stages or [""])[0])
    for stage in {labels["stage"] for name, _, labels, _ in samples if name == _SHADOW_ASKED}:
        asked = _value(samples, _SHADOW_ASKED, stage=stage)
        found = _value(samples, "ucm_shadow_lookup_hit_blocks_total", stage=stage)
        text = f'hit_rate_at_twice_capacity{{stage="{stage}"}}'
        result[text] = found / asked if asked else 0.0
    for word, direction in (("load", "load"), ("save", "dump")):
        where = {"stage": top, "direction": direction}
        moved = _value(samples, "ucm_transfer_bytes_total", **where)
        count, seconds = _histogram(samples, "ucm_transfer_seconds", **where)
        result[f"{word}_bytes"] = moved
        result[f"{word}_blocks"] = _value(samples, "ucm_transfer_blocks_total", **where)
        result[f"{word}_count"] = count
        result[f"{word}_time"] = seconds
        result[f"{word}_speed"] = moved / seconds if seconds else 0.0
    return result


def _value(samples: list[Sample], wanted: str, **where: str) -> float:
    return float(
        sum(value for name, _, labels, value in samples if (name, labels) == (wanted, where))
    )


def _histogram(samples: list[Sample], wanted: str, **where: str) -> tuple[float, float]:
    found = [value for name, _, labels, value in samples if (name, labels) == (wanted, where)]
    return float(sum(sum(value[1]) for value in found)), float(sum(value[2] for value in found))


class StatsMonitor:
    """Figures of this process, as documented. One instance; thread-safe."""

    _instance: StatsMonitor | None = None

    def __init__(self) -> None:
        self._lookups = LookupCount()
        self._lock = threading.Lock()
        self._recorded: dict[str, tuple[int, int, float]] = {}

    @classmethod
    def get_instance(cls) -> StatsMonitor:
        """The instance of this process."""
        with _lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def get_stats(self) -> dict[str, float]:
        """Figures by name: `hit_rate` (0..1), `load_speed`, `save_speed` (bytes/s), and others."""
        result = figures(collect(), self._lookups.sample())
        with self._lock:
            recorded = dict(self._recorded)
        for word, (blocks, nbytes, seconds) in recorded.items():
            result[f"{word}_blocks"] += blocks
            result[f"{word}_bytes"] += nbytes
            result[f"{word}_time"] += seconds
            if result[f"{word}_time"]:
                result[f"{word}_speed"] = result[f"{word}_bytes"] / result[f"{word}_time"]
        return result

    def record_lookup(self, total: int, hits: int) -> None:
        """Counts a lookup made outside the stores of this package."""
        self._lookups.add(total, hits)

    def record_load(self, blocks: int, nbytes: int, duration: float) -> None:
        """Counts a load made outside the stores of this package; duration in seconds."""
        self._record("load", blocks, nbytes, duration)

    def record_save(self, blocks: int, nbytes: int, duration: float) -> None:
        """Counts a save made outside the stores of this package; duration in seconds."""
        self._record("save", blocks, nbytes, duration)

    def _record(self, word: str, blocks: int, nbytes: int, seconds: float) -> None:
        with self._lock:
            old = self._recorded.get(word, (0, 0, 0.0))
            self._recorded[word] = (old[0] + blocks, old[1] + nbytes, old[2] + seconds)
