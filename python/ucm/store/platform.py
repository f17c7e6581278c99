# SPDX-License-Identifier: Apache-2.0
"""Which platform and device a store works for."""

from __future__ import annotations

from ucm.config import StoreConfig
from ucm.errors import ConfigError, Unavailable


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
