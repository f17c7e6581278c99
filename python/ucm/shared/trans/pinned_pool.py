# SPDX-License-Identifier: Apache-2.0
"""Documented import path of the pool; the code is in ucm.memory."""

from ucm.memory import PinnedMemoryPool

__all__ = ["PinnedMemoryPool"]
