# SPDX-License-Identifier: Apache-2.0
"""Documented import path of the monitor; the code is in ucm.metrics.monitor."""

from ucm.metrics.monitor import StatsMonitor

__all__ = ["StatsMonitor"]
