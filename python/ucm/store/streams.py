# SPDX-License-Identifier: Apache-2.0
"""Where the engine's work stands, as an event that copies can wait for."""

from __future__ import annotations

import sys
from typing import Any

_TORCH_NAME = {"ascend": "npu", "maca": "cuda"}


def mark_current_stream(platform: str, device: int) -> tuple[Any, int]:
    """An event after everything that torch's current stream has queued on a device.

    Args:
        platform: Platform of the store, or torch's name of the device.
        device: Number of the device.

    Returns:
        The event, to be kept until the copies are done, and its handle; (None, 0) where torch is
        not loaded or does not know the device: then nothing of torch's can be under way.
    """
    torch = sys.modules.get("torch")
    name = _TORCH_NAME.get(platform, platform)
    accelerator = getattr(torch, name, None)
    if accelerator is None or not accelerator.is_available():
        return None, 0
    event = accelerator.Event()
    event.record(accelerator.current_stream(device))
    handle = getattr(event, f"{name}_event", None) or event.cuda_event
    return event, int(handle)
