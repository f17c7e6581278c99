# SPDX-License-Identifier: Apache-2.0
"""The disk cache that LightLLM's `--enable_disk_cache` asks for, backed by ucm."""

from ucm.integration.light_mem import PyLocalCacheService, PyState, PyTask

__all__ = ["PyLocalCacheService", "PyState", "PyTask"]
