# SPDX-License-Identifier: Apache-2.0
"""Every metric: its name, kind, unit, labels and meaning. The one place where they are listed."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        name: Full name, with `_total` for a counter.
        kind: counter, gauge or histogram.
        unit: blocks, bytes, seconds, ...
        help: One sentence.
        labels: Names of its labels.
    """

    name: str
    kind: str
    unit: str
    help: str
    labels: tuple[str, ...]


STORE = "store"
"""Value of the label `stage` for what callers of a store see, whatever stage answered."""

METRICS = (
    Metric(
        "ucm_lookup_blocks_total",
        "counter",
        "blocks",
        "Blocks a lookup asked for. Stage `store` counts what callers asked.",
        ("stage",),
    ),
    Metric(
        "ucm_lookup_hit_blocks_total",
        "counter",
        "blocks",
        "Blocks a lookup found. Stage `store` counts what callers were told.",
        ("stage",),
    ),
    Metric(
        "ucm_transfer_bytes_total",
        "counter",
        "bytes",
        "Bytes that went through a stage.",
        ("stage", "direction"),
    ),
    Metric(
        "ucm_transfer_blocks_total",
        "counter",
        "blocks",
        "Blocks that went through a stage.",
        ("stage", "direction"),
    ),
    Metric(
        "ucm_transfer_seconds",
        "histogram",
        "seconds",
        "Time of one batch in a stage, from its call until it is done.",
        ("stage", "direction"),
    ),
    Metric(
        "ucm_failures_total",
        "counter",
        "blocks",
        "Blocks whose transfer failed, by cause.",
        ("stage", "cause"),
    ),
    Metric(
        "ucm_dropped_blocks_total",
        "counter",
        "blocks",
        "Stored blocks that did not pass verification and were dropped, by cause.",
        ("stage", "cause"),
    ),
    Metric("ucm_capacity_bytes", "gauge", "bytes", "Bytes a stage may use.", ("stage",)),
    Metric("ucm_used_bytes", "gauge", "bytes", "Bytes a stage uses.", ("stage",)),
    Metric("ucm_blocks", "gauge", "blocks", "Blocks a stage holds.", ("stage",)),
    Metric(
        "ucm_evicted_blocks_total",
        "counter",
        "blocks",
        "Blocks that left a full stage.",
        ("stage",),
    ),
    Metric(
        "ucm_pinned_blocks", "gauge", "blocks", "Blocks that `pin` keeps in a stage.", ("stage",)
    ),
    Metric(
        "ucm_refused_blocks_total",
        "counter",
        "blocks",
        "Blocks that were not kept: on their first use (`admission: second_use`), or because their "
        "namespace had no room left.",
        ("stage",),
    ),
    Metric(
        "ucm_shadow_lookup_blocks_total",
        "counter",
        "blocks",
        "Blocks of a sample that a lookup asked for.",
        ("stage",),
    ),
    Metric(
        "ucm_shadow_lookup_hit_blocks_total",
        "counter",
        "blocks",
        "Blocks of that sample a lookup would have found with twice the capacity.",
        ("stage",),
    ),
    Metric(
        "ucm_namespace_quota_bytes",
        "gauge",
        "bytes",
        "Bytes a namespace may take; 0: no limit. Namespace `(rest)` is all without a quota.",
        ("stage", "namespace"),
    ),
    Metric(
        "ucm_namespace_used_bytes",
        "gauge",
        "bytes",
        "Bytes a namespace takes, as of the last collection.",
        ("stage", "namespace"),
    ),
    Metric(
        "ucm_namespace_blocks",
        "gauge",
        "blocks",
        "Blocks a namespace holds, as of the last collection.",
        ("stage", "namespace"),
    ),
    Metric(
        "ucm_namespace_evicted_blocks_total",
        "counter",
        "blocks",
        "Blocks of a namespace that left for its quota, counted by the store that removed them.",
        ("stage", "namespace"),
    ),
    Metric(
        "ucm_partial_lookups_total",
        "counter",
        "lookups",
        "Lookups answered with what was found here or above, as the stage below could not be "
        "asked.",
        ("stage",),
    ),
    Metric(
        "ucm_breaker_open",
        "gauge",
        "state",
        "1: a stage below another one kept failing, or hangs, and is left alone for a while.",
        ("stage", "operation"),
    ),
    Metric(
        "ucm_breaker_refused_calls_total",
        "counter",
        "calls",
        "Calls that were not passed on to a stage that is left alone.",
        ("stage", "operation"),
    ),
    Metric("ucm_queue_depth", "gauge", "tasks", "Work that waits in a stage.", ("stage",)),
)
BY_NAME = {metric.name: metric for metric in METRICS}

RELEASED = {
    "load_requests_num": "ucm_transfer_seconds_count{direction='load'}",
    "load_blocks_num": "ucm_transfer_blocks_total{direction='load'}",
    "load_duration": "ucm_transfer_seconds{direction='load'}",
    "load_speed": "ucm_transfer_bytes_total / ucm_transfer_seconds_sum, direction='load'",
    "save_requests_num": "ucm_transfer_seconds_count{direction='dump'}",
    "save_blocks_num": "ucm_transfer_blocks_total{direction='dump'}",
    "save_duration": "ucm_transfer_seconds{direction='dump'}",
    "save_speed": "ucm_transfer_bytes_total / ucm_transfer_seconds_sum, direction='dump'",
    "interval_lookup_hit_rates": "ucm_lookup_hit_blocks_total / ucm_lookup_blocks_total",
}
"""Metrics of released UCM (without their prefix) -> what says the same here."""


def series_names() -> set[str]:
    """Every name a scraper sees, with the suffixes of histograms."""
    names = set()
    for metric in METRICS:
        if metric.kind == "histogram":
            names |= {f"{metric.name}_{suffix}" for suffix in ("bucket", "count", "sum")}
        else:
            names.add(metric.name)
    return names
