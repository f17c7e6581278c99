# SPDX-License-Identifier: Apache-2.0
"""The store that released UCM configures by bytes."""
