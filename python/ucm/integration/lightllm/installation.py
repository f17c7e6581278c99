# SPDX-License-Identifier: Apache-2.0
"""Puts ucm into LightLLM as its modules are imported, in this process and in those it starts."""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ucm.config.lightllm import PARTS, VARIABLE, parse_parts
from ucm.errors import ConfigError

__all__ = ["PARTS", "VARIABLE", "environment", "install", "installed_parts", "parse_parts"]
_STARTUP = str(Path(__file__).with_name("startup"))


def environment(parts: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with which a started Python installs the parts.

    Args:
        parts: What `parse_parts` takes.
        environ: The variables so far.

    Returns:
        All variables.
    """
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if _STARTUP not in paths:
        paths.insert(0, _STARTUP)
    return {
        **environ,
        VARIABLE: ",".join(parse_parts(parts)),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def install(parts: str = "index") -> None:
    """Puts parts of ucm into LightLLM, here and in every process started from here.

    Call it before LightLLM is imported. Modules of LightLLM are adapted as they are imported; no
    file of it is touched.

    Args:
        parts: A comma-separated list of `index`, `memory` and `transfer`, or `all`.

    Raises:
        ConfigError: A part does not exist, or LightLLM's modules are imported already.
    """
    chosen = parse_parts(parts)
    running = installed_parts()
    if running == chosen:
        return
    late = sorted(name for name in sys.modules if name.startswith("lightllm."))
    if late or running:
        what = f"{late[0]} is imported" if late else f"{','.join(running)} is installed"
        raise ConfigError(f"install ucm once, before LightLLM is imported: {what} already")
    os.environ.update(environment(parts, os.environ))
    sys.meta_path.insert(0, _Adapter(chosen))


def installed_parts() -> tuple[str, ...]:
    """The parts that are in effect in this process."""
    return next((each.parts for each in sys.meta_path if isinstance(each, _Adapter)), ())


class _Adapter:
    """Finds LightLLM's modules as everybody does and adapts them once they have run."""

    def __init__(self, parts: tuple[str, ...]) -> None:
        self.parts = parts

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith("lightllm."):
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _AdaptedLoader(spec.loader, self.parts)
                return spec
        return None


class _AdaptedLoader:
    """Another loader, with a step behind it."""

    def __init__(self, loader: Any, parts: tuple[str, ...]) -> None:
        self._loader = loader
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        from ucm.integration.lightllm.adapt import adapt

        adapt(module, self._parts)
