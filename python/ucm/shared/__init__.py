# SPDX-License-Identifier: Apache-2.0
"""Documented import paths. The code is elsewhere in ucm."""
