# SPDX-License-Identifier: Apache-2.0
"""Documented import path of the figures; the code is in ucm.metrics."""
