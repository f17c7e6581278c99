# SPDX-License-Identifier: Apache-2.0
"""What the adapters of all engines share."""
