# SPDX-License-Identifier: Apache-2.0
"""Which platform and device a store works for."""

from __future__ import annotations

import dataclasses

from ucm.config import StoreConfig
from ucm.errors import ConfigError, Unavailable

TORCH_NAME = {"cpu": "cpu", "cuda": "cuda", "maca": "cuda", "musa": "musa", "ascend": "npu"}
"""What torch calls the devices of each platform. MACA's torch says cuda."""


def torch_name(platform: str) -> str:
    """What torch calls the devices of a platform; another name is torch's already."""
    return TORCH_NAME.get(platform, platform)


def platforms_of(device: str) -> list[str]:
    """The platforms whose devices torch calls so."""
    return [platform for platform, name in TORCH_NAME.items() if name == device]


def for_memory(config: StoreConfig, device: str, index: int) -> StoreConfig:
    """The configuration of a store whose addresses lie on one of torch's devices.

    Args:
        config: The store. A platform that it names must be one that this memory can belong to; its
            devices are those of the memory.
        device: Torch's name of the kind of device, e.g. "cuda" or "npu".
        index: Torch's number of the device.

    Returns:
        The configuration with the platform and the device.

    Raises:
        ConfigError: The configuration names another platform.
        Unavailable: No platform moves such memory.
    """
    from ucm import _core

    fitting = platforms_of(device)
    if not fitting:
        raise Unavailable(f"no platform of ucm moves memory of torch's device {device!r}")
    platform = config.platform
    if platform in (None, "auto"):
        loaded = {each["name"] for each in _core.platforms() if each["loaded"] and each["devices"]}
        platform = next((each for each in fitting if each in loaded), fitting[0])
    elif platform not in fitting:
        raise ConfigError(
            f"platform {platform}: the memory to move lies on torch's device {device!r}, which "
            f"needs platform {' or '.join(fitting)}, or none named",
            key="platform",
        )
    return dataclasses.replace(config, platform=platform, device_id=index)


def choose_platform(config: StoreConfig) -> tuple[str, int]:
    """The platform and device of a store.

    Args:
        config: The store; `device_id` or the first of `device_ids` is the device, else 0.

    Returns:
        Name and device number; ("cpu", 0) without an accelerator.

    Raises:
        Unavailable: The configuration names a platform that is not loaded; the text says why.
        ConfigError: The platform has no such device.
    """
    from ucm import _core

    reports = {report["name"]: report for report in _core.platforms()}
    name = config.platform or "auto"
    if name == "auto":
        usable = (
            each
            for each, report in reports.items()
            if each != "cpu" and report["loaded"] and report["devices"] > 0
        )
        name = next(usable, "cpu")
    if name == "cpu":
        return "cpu", 0
    report = reports.get(name)
    if report is None or not report["loaded"] or report["devices"] < 1:
        reason = report["reason"] if report else "this package was built without it"
        raise Unavailable(
            f"platform {name} is not usable: {reason or 'it has no device'}. Without `platform` "
            "(or with platform: cpu) the store works with host memory"
        )
    device = config.device_id
    if device is None or device < 0:
        device = config.device_ids[0] if config.device_ids else 0
    if device >= report["devices"]:
        raise ConfigError(
            f"device {device} of platform {name}: there are {report['devices']}, counted from 0",
            key="device_id",
        )
    return name, device
