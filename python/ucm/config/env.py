# SPDX-License-Identifier: Apache-2.0
"""Environment variables. They win over the file and lose to what the program passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ucm.config.fields import keys_of
from ucm.config.model import LoggingConfig, MetricsConfig, StoreConfig
from ucm.errors import ConfigError

CONFIG_FILE = ("UCM_CONFIG_FILE", "UNIFIEDCACHE_CONFIG_FILE")

ANSWERED = {
    "UCM_DISABLE_PATCHES": "switches monkey patches off; ucm patches nothing",
    "UCM_PATCH_VERBOSE": "reports monkey patches; ucm patches nothing",
    "UCM_POSIX_DEBUG": "prints debug lines of the file store; set UNIFIED_CACHE_LOG_LEVEL=DEBUG",
    "ENABLE_UCM_PATCH": "switches monkey patches on; ucm needs none",
    "ENABLE_SPARSE": "switches sparse attention on; it is not part of this version",
    "VLLM_HASH_ATTENTION": "switches sparse attention on; it is not part of this version",
    "BYPASS_UC": "skips the cache; leave the connector out instead",
    "MINDIE_UC_TIME_STAT": "belongs to MindIE, which has no adapter in this version",
    "UCM_ENABLE_MINDIE": "belongs to MindIE, which has no adapter in this version",
    "STORAGE_PLATFORM": "names a storage product; no stage depends on it",
}
"""Variables of other releases that have no effect here -> what they are for."""


def env_values(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """What the environment says.

    Args:
        environ: The variables, usually os.environ.

    Returns:
        Store keys, top-level keys, and notes about variables without effect.
    """
    store = section_values(StoreConfig, environ)
    top: dict[str, Any] = {}
    metrics = section_values(MetricsConfig, environ)
    if metrics:
        top["metrics"] = metrics
    logging = section_values(LoggingConfig, environ)
    if logging:
        top["logging"] = logging
    notes = [
        f"environment variable {name}: {answer}; it has no effect"
        for name, answer in ANSWERED.items()
        if environ.get(name)
    ]
    return store, top, notes


def section_values(cls: type, environ: Mapping[str, str]) -> dict[str, Any]:
    """Keys of one section of the model that the environment sets -> their values."""
    values: dict[str, Any] = {}
    for name, entry in keys_of(cls).items():
        for variable in entry.env:
            text = environ.get(variable, "")
            if text and name not in values:
                values[name] = _parse(variable, text, entry.kind)
    return values


def _parse(variable: str, text: str, kind: str) -> Any:
    if kind == "bool":
        if text.strip().lower() in ("1", "true", "yes", "on"):
            return True
        if text.strip().lower() in ("0", "false", "no", "off"):
            return False
        raise ConfigError(f"environment variable {variable}={text!r}: true or false is expected")
    if kind == "int":
        try:
            return int(text)
        except ValueError:
            raise ConfigError(
                f"environment variable {variable}={text!r}: a whole number is expected"
            ) from None
    return text
