# SPDX-License-Identifier: Apache-2.0
"""ucm: KV blocks of LLM inference outside the engine's memory, and back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ucm.config import UcmConfig, load_config
    from ucm.store.factory import open_store
    from ucm.store.store import Store
    from ucm.store.task import Task

__all__ = ["Store", "Task", "UcmConfig", "__version__", "load_config", "open_store"]

_WHERE = {
    "Store": "ucm.store.store",
    "Task": "ucm.store.task",
    "UcmConfig": "ucm.config",
    "load_config": "ucm.config",
    "open_store": "ucm.store.factory",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("ucm._core").version()
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'ucm' has no attribute {name!r}")
