# SPDX-License-Identifier: Apache-2.0
"""Figures about what the stores of this process do."""
