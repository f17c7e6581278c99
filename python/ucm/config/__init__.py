# SPDX-License-Identifier: Apache-2.0
"""The configuration: one typed model, read from YAML, a dict and the environment."""

from ucm.config.load import load_config
from ucm.config.model import (
    AscendConfig,
    LoggingConfig,
    MetricsConfig,
    MonitoringConfig,
    MultiGpuConfig,
    NfsConfig,
    PrometheusConfig,
    StoreConfig,
    TransportConfig,
    UcmConfig,
)

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
    "load_config",
]
