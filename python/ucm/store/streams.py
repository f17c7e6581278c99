# SPDX-License-Identifier: Apache-2.0
"""Where the engine's work stands, as an event that copies can wait for."""

from __future__ import annotations

import sys
from typing import Any

from ucm.store.platform import torch_name


def mark_current_stream(platform: str, device: int) -> tuple[Any, int]:
    """An event after everything that torch's current stream has queued on a device.

    Args:
        platform: Platform of the store, or torch's name of the device.
        device: Number of the device.

    Returns:
        The event, to be kept until the copies are done, and its handle; (None, 0) where torch is
        not loaded or does not know the device: then nothing of torch's can be under way.
    """
    name, accelerator = _accelerator(platform)
    if accelerator is None:
        return None, 0
    event = accelerator.Event()
    event.record(accelerator.current_stream(device))
    handle = getattr(event, f"{name}_event", None) or event.cuda_event
    return event, int(handle)


def current_stream(platform: str, device: int) -> int | None:
    """The handle of torch's current stream on a device.

    Args:
        platform: Platform of the store, or torch's name of the device.
        device: Number of the device.

    Returns:
        The handle; None where torch is not loaded or does not know the device.
    """
    name, accelerator = _accelerator(platform)
    if accelerator is None:
        return None
    stream = accelerator.current_stream(device)
    handle = getattr(stream, f"{name}_stream", None)
    return int(stream.cuda_stream if handle is None else handle)


def _accelerator(platform: str) -> tuple[str, Any]:
    """Torch's name of a platform, and its module for it when there is a device."""
    name = torch_name(platform)
    accelerator = getattr(sys.modules.get("torch"), name, None)
    if accelerator is None or not accelerator.is_available():
        return name, None
    return name, accelerator
