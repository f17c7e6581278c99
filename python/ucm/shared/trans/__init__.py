# SPDX-License-Identifier: Apache-2.0
"""Documented import path of the transports; the code is in ucm.transport."""

from ucm.transport import CPUTransport, CUDATransport, TransferTask

__all__ = ["CPUTransport", "CUDATransport", "TransferTask"]
