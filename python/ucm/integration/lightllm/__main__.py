# SPDX-License-Identifier: Apache-2.0
"""Starts LightLLM's server with ucm in it: python -m ucm.integration.lightllm [--parts P] ARGS."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from ucm.config.lightllm import lightllm_config
from ucm.errors import ConfigError, UcmError, Unavailable
from ucm.integration.lightllm.installation import environment

_SERVER = "lightllm.server.api_server"


def command(arguments: list[str], parts: str = "index") -> tuple[str, list[str]]:
    """The parts and the server's command line.

    Args:
        arguments: What follows the module's name: `--parts P` or `--parts=P` first, if at all.
        parts: Those that hold when `--parts` is absent.

    Raises:
        ConfigError: `--parts` lacks its value.
    """
    rest = list(arguments)
    if rest and rest[0] == "--parts":
        if len(rest) < 2:
            raise ConfigError("--parts: a list of parts is expected")
        parts, rest = rest[1], rest[2:]
    elif rest and rest[0].startswith("--parts="):
        parts, rest = rest[0].removeprefix("--parts="), rest[1:]
    return parts, [sys.executable, "-m", _SERVER, *rest]


def main() -> None:
    """Becomes the server; this process is replaced."""
    try:
        chosen = lightllm_config(os.environ).parts or "index"
        parts, server = command(sys.argv[1:], chosen)
        variables = environment(parts, os.environ)
        if find_spec("lightllm") is None:
            raise Unavailable("LightLLM is not installed in this Python")
    except UcmError as error:
        print(f"ucm: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    os.execve(server[0], server, variables)


if __name__ == "__main__":
    main()
