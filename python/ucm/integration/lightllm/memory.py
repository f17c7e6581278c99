# SPDX-License-Identifier: Apache-2.0
"""The memory of LightLLM's CPU pages: shared, on huge pages, registered with the device."""

from __future__ import annotations

import ctypes
import inspect
import logging
import os
from typing import Any

import numpy as np

from ucm.config import StoreConfig
from ucm.config.lightllm import lightllm_config
from ucm.errors import Unavailable
from ucm.integration.lightllm.client import attach_pages, create_pages
from ucm.store.platform import choose_platform, for_memory
from ucm.store.streams import mark_current_stream

_LOG = logging.getLogger("ucm.lightllm")
_held: list[Any] = []
"""Memory lives as long as the process: tensors over it do not own it."""


class _Registered:
    """What LightLLM waits for when it registers in the background: here it is done already."""

    def wait(self) -> None:
        """Returns at once."""


def take_over(creator: type) -> None:
    """Lets LightLLM's creator of page tensors answer with memory of ucm.

    Args:
        creator: LightLLM's class; its `tensor_spec` says key, shape, dtype and bytes.
    """
    original = creator.create_or_attach
    annotation = inspect.signature(original).return_annotation
    plain = getattr(annotation, "__name__", annotation) == "Tensor"

    def create_or_attach(self: Any, init_shm_data: bool, pin: bool, *_: Any, **__: Any) -> Any:
        tensor = page_tensor(self.tensor_spec, make=init_shm_data, pin=pin)
        return tensor if plain else (tensor, _Registered() if pin else None)

    creator.create_or_attach = create_or_attach
    _LOG.info("LightLLM's CPU pages lie in memory of ucm")


def page_tensor(spec: Any, *, make: bool, pin: bool) -> Any:
    """A tensor over memory that the processes of a server share.

    Args:
        spec: shm_key (int), shape, dtype and size_bytes of LightLLM.
        make: Make the memory; else wait for the process that does.
        pin: Register it with this process's device.

    Returns:
        torch tensor of the spec's shape and dtype.

    Raises:
        Unavailable: It is to be registered and ucm has no platform for the device.
        ConfigError: A variable of LightLLM has a value that makes no sense.
    """
    import torch

    from ucm.integration.lightllm.adapt import server_name

    name = server_name(f"memory-{spec.shm_key}")
    platform, device_id = _pinning_platform(torch) if pin else ("", 0)
    if make:
        config = lightllm_config(os.environ)
        pages = create_pages(
            name,
            1,
            spec.size_bytes,
            numa_interleave=config.numa_interleave,
            platform=platform,
            device_id=device_id,
        )
        small = pages.memory_page_bytes <= os.sysconf("SC_PAGE_SIZE")
        _LOG.log(
            logging.WARNING if config.huge_pages and small else logging.INFO,
            "CPU pages: %.2f GiB on pages of %d KiB",
            spec.size_bytes / 2**30,
            pages.memory_page_bytes >> 10,
        )
    else:
        pages = attach_pages(name, with_memory=True, platform=platform, device_id=device_id)
    _held.append(pages)
    whole = np.ctypeslib.as_array((ctypes.c_uint8 * spec.size_bytes).from_address(pages.address))
    needed = int(np.prod(spec.shape)) * torch.empty(0, dtype=spec.dtype).element_size()
    return torch.from_numpy(whole[:needed]).view(spec.dtype).view(tuple(spec.shape))


def _pinning_platform(torch: Any) -> tuple[str, int]:
    name, _ = choose_platform(StoreConfig())
    if name != "cpu":
        current = torch.cuda.current_device() if torch.cuda.is_available() else 0
        return name, current
    if torch.cuda.is_available():
        raise Unavailable(
            "part memory: this build of ucm has no platform for the GPU that LightLLM uses; see "
            "`ucm doctor`, or leave the part out"
        )
    return "", 0


def platform_of(tensor: Any) -> tuple[str, int]:
    """The platform and device of a tensor.

    Raises:
        Unavailable: ucm has no platform for it.
    """
    if tensor.device.type == "cpu":
        return "cpu", 0
    index = tensor.device.index or 0
    return choose_platform(for_memory(StoreConfig(), tensor.device.type, index))


def event_of(tensor: Any) -> tuple[Any, int]:
    """An event behind the work of the tensor's current stream: the object and its handle."""
    if tensor.device.type == "cpu":
        return None, 0
    return mark_current_stream(tensor.device.type, tensor.device.index or 0)
