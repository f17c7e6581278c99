# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009
"""The metrics file (`metrics_config_path`), in the form of released UCM or of the guides."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from typing import Any

from ucm.config.fields import key
from ucm.config.model import PrometheusConfig
from ucm.config.read import Reader
from ucm.config.source import Origin, read_yaml
from ucm.errors import ConfigError
from ucm.metrics.names import BY_NAME, RELEASED

_LOG = logging.getLogger("ucm.metrics")
_ANSWERS = {
    "log_interval": "sets a period for logging; metrics are read when a scraper asks",
    "collection_interval": "sets a period of collection; metrics are read when a scraper asks",
    "multiproc_dir": "is where processes exchange metrics; each process has its own endpoint",
    "histogram_max_length": "limits the values a histogram keeps; histograms keep buckets only",
    "histogram_buckets": "sets buckets; the buckets of latencies are fixed, from 10 us to 100 s",
}
_LABEL = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
_PREFIX = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")
_TAKEN = {"le", *(label for metric in BY_NAME.values() for label in metric.labels)}
_LISTS = ("counter", "gauge", "histogram", "counters", "gauges", "histograms")


@dataclasses.dataclass(frozen=True)
class MetricsFile:
    """What a metrics file says."""

    enabled: bool = key("bool", "Offer metrics at all.", default=True)
    prometheus: PrometheusConfig | None = key(
        "section", "The metrics endpoint.", section=PrometheusConfig
    )
    labels: dict[str, Any] | None = key("mapping", "Labels added to every metric: `name: value`.")
    metric_prefix: str = key(
        "str", "What the names begin with; `ucm:` gives `ucm:blocks`.", default="ucm_"
    )


def read_metrics_file(path: str) -> MetricsFile:
    """Reads a metrics file; one that does not exist counts as empty, with a warning.

    Raises:
        ConfigError: It can not be used; the text names the line and the key.
    """
    if not os.path.exists(path):
        _LOG.warning("metrics_config_path %r does not exist; all metrics are offered", path)
        return MetricsFile()
    try:
        with open(path, encoding="utf-8") as stream:
            document = read_yaml(stream.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"the metrics file can not be read: {reason}", file=path) from error
    notes: list[str] = []
    values = _flattened(document.values, document.origin)
    for name in _LISTS:
        if name in values:
            _check_list(name, values.pop(name), document.origin, notes)
    reader = Reader(document.origin, notes)
    typed = reader.section(MetricsFile, values, (), _ANSWERS.get)
    _check_names(typed, document.origin)
    for note in [*document.notes, *notes]:
        _LOG.warning("%s", note)
    return MetricsFile(**typed)


def _check_names(typed: dict[str, Any], origin: Origin) -> None:
    """Refuses what a scraper would not take, or take for something else."""
    for name in typed.get("labels") or {}:
        if not _LABEL.fullmatch(name) or name.startswith("__"):
            raise origin.named_error(
                f"label {name!r}: letters, digits and `_` are expected, not a digit or `__` first",
                name,
            )
        if name in _TAKEN:
            raise origin.named_error(
                f"label {name!r}: the metrics have one of that name already; choose another", name
            )
    prefix = typed.get("metric_prefix", "ucm_")
    if not _PREFIX.fullmatch(prefix):
        raise origin.error(
            f"`metric_prefix`: letters, digits, `_` and `:` are expected, not {prefix!r}",
            ("metric_prefix",),
        )


def _flattened(values: dict[str, Any], origin: Origin) -> dict[str, Any]:
    """`metrics: {...}` around the keys, or around some of them, is the same."""
    inner = values.get("metrics")
    if inner is None:
        return dict(values)
    if not isinstance(inner, dict):
        raise origin.error("`metrics`: a mapping is expected", ("metrics",))
    return {**inner, **{name: value for name, value in values.items() if name != "metrics"}}


def _check_list(name: str, entries: Any, origin: Origin, notes: list[str]) -> None:
    if not isinstance(entries, list):
        raise origin.error(f"`{name}`: a list of metrics is expected", (name,))
    for index, entry in enumerate(entries):
        word = entry.get("name") if isinstance(entry, dict) else entry
        if not isinstance(word, str):
            raise origin.error(f"`{name}`: an entry lacks its `name`", (name, index))
        place = origin.place((name, index))
        plain = word.removeprefix("ucm:").removeprefix("ucm_")
        if plain in RELEASED:
            notes.append(f"{place}metric {word!r} is {RELEASED[plain]} here")
        elif f"ucm_{plain}" not in BY_NAME:
            notes.append(f"{place}there is no metric {word!r}; see docs/configuration.md")
