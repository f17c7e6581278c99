# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009
"""The model of the whole configuration. docs/configuration.md is made from it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ucm.config.fields import key
from ucm.config.source import Origin
from ucm.config.store_model import AscendConfig, NfsConfig, StoreConfig, TransportConfig

__all__ = [
    "AscendConfig",
    "LoggingConfig",
    "MetricsConfig",
    "MonitoringConfig",
    "MultiGpuConfig",
    "NfsConfig",
    "PrometheusConfig",
    "StoreConfig",
    "TransportConfig",
    "UcmConfig",
]


@dataclasses.dataclass(frozen=True)
class PrometheusConfig:
    """`monitoring.prometheus`: the endpoint for a scraper."""

    enabled: bool = key("bool", "Serve /metrics on a port of its own.", default=True)
    port: int | None = key(
        "int",
        "TCP port of the endpoint.",
        minimum=1,
        maximum=65535,
        default_text="9090 when the section is present",
    )
    address: str = key("str", "Address the endpoint listens on.", default="0.0.0.0")


@dataclasses.dataclass(frozen=True)
class LoggingConfig:
    """`logging`, or `monitoring.logging`: what is written, and where."""

    level: str | None = key(
        "str",
        "Least severe level that is written.",
        default_text="INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        env=("UNIFIED_CACHE_LOG_LEVEL", "UC_LOGGER_LEVEL"),
    )
    file: str | None = key(
        "str",
        "File that also receives the lines; rotated.",
        default_text="none",
        env=("UCM_LOG_PATH",),
    )
    format: str | None = key("str", "A format of Python's logging module.")


@dataclasses.dataclass(frozen=True)
class MonitoringConfig:
    """`monitoring`: metrics endpoint and logs."""

    prometheus: PrometheusConfig | None = key(
        "section", "The metrics endpoint.", section=PrometheusConfig
    )
    logging: LoggingConfig | None = key("section", "The logs.", section=LoggingConfig)


@dataclasses.dataclass(frozen=True)
class MetricsConfig:
    """`metrics`: the short form of the metrics endpoint."""

    enabled: bool = key(
        "bool",
        "Offer metrics at all.",
        default=True,
        env=("UCM_METRICS_ENABLED",),
        aliases=("enable",),
    )
    prometheus_port: int | None = key(
        "int",
        "TCP port of the endpoint; absent, none is opened.",
        minimum=1,
        maximum=65535,
        env=("UCM_METRICS_PORT",),
        default_text="none",
    )


@dataclasses.dataclass(frozen=True)
class MultiGpuConfig:
    """`multi_gpu`: accepted; the engine places work on its devices."""

    enabled: bool = key("bool", "Several devices in one engine; needs no switch.", default=True)
    strategy: str | None = key(
        "str",
        "Each rank of the engine has a store of its own, so there is nothing to distribute.",
        choices=("round_robin",),
    )


@dataclasses.dataclass(frozen=True)
class UcmConfig:
    """The whole configuration: the store, and what stands beside it at the top."""

    store: StoreConfig = dataclasses.field(default_factory=StoreConfig)
    connector_name: str = "UcmPipelineStore"
    connector_module_path: str | None = None
    use_layerwise: bool = key(
        "bool", "Load layer i+1 while layer i computes; save layer by layer.", default=False
    )
    load_only_first_rank: bool = key(
        "bool",
        "With MLA: one rank reads for all. Accepted; here each rank reads a shared block itself.",
        default=False,
    )
    load_failure_policy: str | None = key(
        "str",
        "What the engine does with blocks that could not be loaded.",
        choices=("recompute", "fail"),
        default_text="recompute",
        aliases=("kv_load_failure_policy",),
    )
    persist_token_threshold: int = key(
        "int",
        "Requests with fewer tokens are neither looked up nor saved.",
        unit="tokens",
        default=0,
        minimum=0,
    )
    load_tokens_threshold: int = key(
        "int",
        "Hits of fewer tokens than this are computed instead of loaded.",
        unit="tokens",
        default=0,
        minimum=0,
    )
    async_load: bool | None = key(
        "bool",
        "Load between the engine's steps instead of inside one.",
        default_text="true, unless use_layerwise",
    )
    lookup_wait_s: float = key(
        "float",
        "How long a lookup of slow storage may hold up the engine's scheduler; it is asked again "
        "in the next step.",
        unit="s",
        default=0.01,
        minimum=0,
        maximum=10,
    )
    lookup_timeout_s: float = key(
        "float",
        "After this time a lookup counts as failed, and as a miss.",
        unit="s",
        default=1.0,
        minimum=0.001,
        maximum=600,
    )
    breaker_failures: int = key(
        "int",
        "After so many failures in a row the engine goes on without the store.",
        default=5,
        minimum=1,
    )
    breaker_delay_s: float = key(
        "float",
        "After this time the store is tried again; doubled while it keeps failing.",
        unit="s",
        default=5.0,
        minimum=0.01,
    )
    metrics_config_path: str | None = key(
        "str", "A YAML file that says which metrics are offered and where; see Metrics file."
    )
    enable_metrics: bool = key("bool", "Offer metrics at all.", default=True)
    metrics: MetricsConfig | None = key(
        "section", "The metrics endpoint, short form.", section=MetricsConfig
    )
    monitoring: MonitoringConfig | None = key(
        "section", "Metrics endpoint and logs.", section=MonitoringConfig
    )
    logging: LoggingConfig | None = key("section", "The logs.", section=LoggingConfig)
    multi_gpu: MultiGpuConfig | None = key(
        "section", "Accepted; the engine places work on its devices.", section=MultiGpuConfig
    )
    ucm_sparse_method: str | None = key(
        "str",
        "Sparse attention method. Checked, and not part of this version: one warning says so.",
        choices=(
            "ESA",
            "GSA",
            "GSAOnDevice",
            "KVStarMultiStep",
            "KVStar",
            "Blend",
            "ReRoPE",
            "RERoPE",
        ),
    )
    ucm_sparse_config: dict[str, Any] | None = key(
        "mapping",
        "`{METHOD: {...}}`, one method. Checked, and not part of this version.",
    )
    notes: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Sentences about keys that were accepted without an effect; `ucm doctor` prints them."""
    origin: Origin | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def metrics_port(self) -> int | None:
        """Port of the metrics endpoint, or None when none is asked for."""
        if not self.enable_metrics or (self.metrics is not None and not self.metrics.enabled):
            return None
        port = self.metrics.prometheus_port if self.metrics else None
        prometheus = self.monitoring.prometheus if self.monitoring else None
        if prometheus is not None:
            return (port or prometheus.port or 9090) if prometheus.enabled else None
        return port

    @property
    def log(self) -> LoggingConfig:
        """The logging section; what stands under `logging` wins over `monitoring.logging`."""
        inner = (self.monitoring.logging if self.monitoring else None) or LoggingConfig()
        outer = self.logging or LoggingConfig()
        return LoggingConfig(
            level=outer.level or inner.level,
            file=outer.file or inner.file,
            format=outer.format or inner.format,
        )
