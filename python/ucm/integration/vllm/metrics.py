# SPDX-License-Identifier: Apache-2.0
"""Counts of both roles, and their way into vLLM's own /metrics.

The figures travel inside vLLM as plain dicts: name -> number for counters, name -> [seconds, ...]
for times. What the stages of the store count rides along as `stages`.
"""

from __future__ import annotations

import threading
from typing import Any

from ucm.integration.vllm import compat
from ucm.metrics.names import BY_NAME

_PREFIX = "vllm:"
_MOST_SAMPLES = 4096
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of all times."""

COUNTERS = {
    "query_tokens": "Tokens that requests asked the store for.",
    "hit_tokens": "Tokens that were found in the store and planned to be loaded.",
    "refused_requests": "Requests that are never cached (embeddings, media without identifiers).",
    "loaded_blocks": "Blocks that were loaded.",
    "loaded_bytes": "Bytes that were loaded.",
    "saved_blocks": "Blocks that were handed to the store and became visible.",
    "saved_bytes": "Bytes of these blocks.",
    "recomputed_blocks": "Blocks that could not be loaded and are computed instead.",
    "unsaved_blocks": "Blocks that were not saved: the store could not keep up, or failed.",
}
TIMES = {
    "load_seconds": "Time of a load, from its start until its blocks can be used.",
    "save_stall_seconds": "Time that a step waited until its blocks were copied.",
}


class Tally:
    """Counts of one role since they were last taken. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: dict[str, dict[str, Any]] = {}

    def add(self, name: str, value: float) -> None:
        """Count something of `COUNTERS`."""
        self._add("counters", name, value)

    def failure(self, operation: str, cause: str) -> None:
        """Count a failure, or a call that was not made."""
        self._add("failures", f"{operation}|{cause}", 1)

    def observe(self, name: str, seconds: float) -> None:
        """Count a time of `TIMES`."""
        with self._lock:
            samples = self._data.setdefault("times", {}).setdefault(name, [])
            if len(samples) < _MOST_SAMPLES:
                samples.append(seconds)

    def _add(self, section: str, name: str, value: float) -> None:
        if value:
            with self._lock:
                values = self._data.setdefault(section, {})
                values[name] = values.get(name, 0) + value

    def take(self) -> dict[str, Any]:
        """The counts since the last call; empty when there are none."""
        if not self._data:
            return {}
        with self._lock:
            data, self._data = self._data, {}
        return data


class StageCounts:
    """What the counters of a store's stages gained since they were last asked."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def gained(self, samples: list[tuple[str, str, dict[str, str], Any]]) -> dict[str, float]:
        """Gains by ``name|label=value|...``."""
        gains = {}
        for name, kind, labels, value in samples:
            if kind != "counter":
                continue
            series = "|".join([name, *(f"{label}={labels[label]}" for label in sorted(labels))])
            gain = value - self._seen.get(series, 0.0)
            if gain:
                self._seen[series] = value
                gains[series] = gain
        return gains


class ConnectorCounts(compat.KVConnectorStats):
    """The counts of one interval, as vLLM carries them from the workers to its loggers."""

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        self.data: dict[str, Any] = data or {}

    def reset(self) -> None:
        """Forget everything."""
        self.data = {}

    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.data

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain data."""
        return self.data

    def aggregate(self, other: ConnectorCounts) -> ConnectorCounts:
        """Add the counts of another worker, or of another interval."""
        for section, values in other.data.items():
            mine = self.data.setdefault(section, {})
            for name, value in values.items():
                if isinstance(value, list):
                    mine[name] = [*mine.get(name, ()), *value]
                else:
                    mine[name] = mine.get(name, 0) + value
        return self

    def reduce(self) -> dict[str, int | float]:
        """A few figures for vLLM's log line."""
        counters = self.data.get("counters", {})
        figures: dict[str, int | float] = {name: value for name, value in sorted(counters.items())}
        failures = self.data.get("failures")
        if failures:
            figures["failures"] = sum(failures.values())
        seconds = sum(self.data.get("times", {}).get("load_seconds", ()))
        if seconds:
            figures["load_MiB_per_s"] = round(counters.get("loaded_bytes", 0) / seconds / 2**20, 1)
        return figures


class ConnectorMetrics(compat.KVConnectorPromMetrics):
    """The counts as metrics of vLLM's endpoint, one set of children per engine."""

    def __init__(
        self,
        vllm_config: Any,
        metric_types: dict,
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._labels = list(labelnames)
        self._engines = per_engine_labelvalues
        self._counters = {
            name: self._counter_cls(f"{_PREFIX}ucm_{name}", help_text, self._labels)
            for name, help_text in COUNTERS.items()
        }
        self._failures = self._counter_cls(
            f"{_PREFIX}ucm_connector_failures",
            "Calls to the store that failed or were not made, by operation and cause.",
            [*self._labels, "operation", "cause"],
        )
        self._times = {
            name: self._histogram_cls(
                f"{_PREFIX}ucm_{name}", help_text, labelnames=self._labels, buckets=BOUNDS_S
            )
            for name, help_text in TIMES.items()
        }
        self._stages = {
            metric.name: self._counter_cls(
                _PREFIX + metric.name.removesuffix("_total"),
                metric.help,
                [*self._labels, *metric.labels],
            )
            for metric in BY_NAME.values()
            if metric.kind == "counter"
        }
        for engine in self._engines.values():  # series exist from the start, at 0
            for metric in (*self._counters.values(), *self._times.values()):
                metric.labels(*engine)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Add the counts of one interval."""
        engine = self._engines[engine_idx]
        data = transfer_stats_data
        for name, value in data.get("counters", {}).items():
            if name in self._counters:
                self._counters[name].labels(*engine).inc(value)
        for series, value in data.get("failures", {}).items():
            self._failures.labels(*engine, *series.split("|", 1)).inc(value)
        for series, value in data.get("stages", {}).items():
            name, *labels = series.split("|")
            metric, known = self._stages.get(name), BY_NAME.get(name)
            if metric is not None and known is not None:
                given = dict(label.split("=", 1) for label in labels)
                metric.labels(*engine, *(given.get(each, "") for each in known.labels)).inc(value)
        for name, samples in data.get("times", {}).items():
            if name in self._times:
                histogram = self._times[name].labels(*engine)
                for seconds in samples:
                    histogram.observe(seconds)
