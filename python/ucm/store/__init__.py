# SPDX-License-Identifier: Apache-2.0
"""Stores for Python: `Store`, its tasks, and the factories."""
