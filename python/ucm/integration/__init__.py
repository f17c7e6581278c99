# SPDX-License-Identifier: Apache-2.0
"""Adapters that plug ucm into inference engines, one package per engine."""
