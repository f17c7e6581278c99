# SPDX-License-Identifier: Apache-2.0
"""Begins what a configuration says about logs and metrics, once per process."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ucm import log
from ucm.config import LoggingConfig, UcmConfig, load_config
from ucm.errors import UcmError
from ucm.metrics import monitor, prometheus


def begin_log(config: UcmConfig) -> None:
    """Sets up the log, where the configuration asks for it.

    Args:
        config: The configuration.

    Raises:
        ConfigError: The log file can not be used.
    """
    if config.log != LoggingConfig():
        log.configure(config.log)


def begin(config: UcmConfig, labels: Mapping[str, str] | None = None, port_offset: int = 0) -> None:
    """Sets up the log and opens the metrics endpoint, where the configuration asks for them.

    Safe to call for every store: an endpoint of this process on the same port is kept.

    Args:
        config: The configuration.
        labels: Added to every metric of the endpoint, e.g. model_name and worker_id.
        port_offset: Added to the port: the workers of one node need one each.

    Raises:
        ConfigError: The log file or the metrics file can not be used.
    """
    begin_log(config)
    prometheus.start(config, labels, port_offset)


def offer(figures: monitor.Measured, logger: logging.Logger) -> None:
    """Adds figures to this process's metrics and opens the endpoint that the environment asks for.

    A configuration that can not be read, or a port that is taken, is logged: a cache without
    figures is better than none.

    Args:
        figures: Has `metrics()` and `lookups`, as a store has; takes part as long as it lives.
        logger: Of the part that the figures belong to.
    """
    monitor.register(figures)
    try:
        prometheus.start(load_config(None))
    except UcmError as error:
        logger.warning("no metrics endpoint: %s", error)
