# SPDX-License-Identifier: Apache-2.0
"""Settings of `light_mem`. LightLLM passes none of them, so each has an environment variable."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ucm.config.env import section_values
from ucm.config.fields import key
from ucm.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class LightMemConfig:
    """`light_mem`: what LightLLM's disk cache does beyond the arguments it is made with."""

    read_only: bool = key(
        "bool",
        "Read what another process writes in the same folder; every write is answered as aborted.",
        default=False,
        env=("UCM_LIGHT_MEM_READ_ONLY",),
    )
    shared: str = key(
        "str",
        "The folder is shared by several nodes: each writes a part of its own and reads all. auto: "
        "on network file systems, and on FUSE where the server has several nodes.",
        default="auto",
        choices=("auto", "on", "off"),
        env=("UCM_LIGHT_MEM_SHARED",),
    )
    node: str | None = key(
        "str",
        "Name of this node in a shared folder; two nodes must not have the same.",
        default_text="the host name and the rank of the node",
        env=("UCM_LIGHT_MEM_NODE",),
    )
    staging_mb: int = key(
        "int",
        "Memory for pages between tensor and disk; four pages are there in any case.",
        unit="MiB",
        default=32,
        minimum=1,
        maximum=1 << 20,
        env=("UCM_LIGHT_MEM_STAGING_MB",),
    )


def light_mem_config(environ: Mapping[str, str], given: Mapping[str, Any]) -> LightMemConfig:
    """The settings: what the program gives wins over the environment.

    Args:
        environ: The variables, usually os.environ.
        given: Values by key; None counts as not given.

    Raises:
        ConfigError: A value is out of range or of the wrong kind.
    """
    values = section_values(LightMemConfig, environ)
    values.update({name: value for name, value in given.items() if value is not None})
    config = LightMemConfig(**values)
    if config.shared not in ("auto", "on", "off"):
        raise ConfigError(f"light_mem: shared={config.shared!r}: auto, on or off is expected")
    if not 1 <= config.staging_mb <= 1 << 20:
        raise ConfigError(f"light_mem: staging_mb={config.staging_mb}: 1 to 1048576 is expected")
    return config
