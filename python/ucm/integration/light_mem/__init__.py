# SPDX-License-Identifier: Apache-2.0
"""LightMem's interface over the page service; programs import it as `light_mem`."""

from ucm.integration.light_mem.service import PyLocalCacheService
from ucm.integration.light_mem.task import PyState, PyTask

__all__ = ["PyLocalCacheService", "PyState", "PyTask"]
