"""
Native core of ucm. Use ucm.store and its neighbours; this face may change.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy
from numpy.typing import NDArray


class Task:
    """A transfer under way; see ucm.store.Task."""

    def wait(self, timeout_s: float) -> None:
        """Block until done; raises the first cause or Timeout."""

    def wait_released(self, timeout_s: float) -> None:
        """Block until the caller's memory is free or filled."""

    def cancel(self) -> None:
        """End rows that have not started as cancelled."""

    @property
    def done(self) -> bool: ...

    @property
    def released(self) -> bool: ...

    @property
    def rows(self) -> int: ...

    @property
    def failed_rows(self) -> list[int]:
        """Rows that failed, complete once done."""

    @property
    def error(self) -> object:
        """The first cause as an exception object, or None."""

class Pipeline:
    """Stages of a spec such as 'Cache|Disk' as one store."""

    def __init__(self, spec: str, options: Mapping[str, bool | int | float | str | Sequence[str]], pieces: Sequence[int] = [], shards: int = 1, layout_id: int = 0, *, read_only: bool = False) -> None: ...

    def lookup(self, keys: bytes) -> bytes:
        """One byte of 0 or 1 per 16-byte key."""

    def lookup_prefix(self, keys: bytes) -> int:
        """Count of leading keys that are present."""

    def prefetch(self, keys: bytes) -> None: ...

    def remove(self, keys: bytes) -> None: ...

    def load(self, keys: bytes, shards: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)], addresses: Annotated[NDArray[numpy.uint64], dict(shape=(None, None), order='C', device='cpu', writable=False)], event: int = 0, on_host: bool = False) -> Task:
        """Start copying blocks to (rows, pieces) addresses."""

    def dump(self, keys: bytes, shards: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)], addresses: Annotated[NDArray[numpy.uint64], dict(shape=(None, None), order='C', device='cpu', writable=False)], event: int = 0, on_host: bool = False) -> Task:
        """Start copying blocks from (rows, pieces) addresses."""

    def metrics(self) -> list[tuple[str, str, dict[str, str], float | tuple[list[float], list[int], float]]]:
        """
        (name, kind, labels, value) per metric; a histogram's value is (bounds, counts, sum).
        """

    def close(self) -> None: ...

    @property
    def stages(self) -> list[str]: ...

    @property
    def address(self) -> int:
        """Address of the native ucm::Store, valid while this object lives."""

def inspect(path: str, verify: bool, on_block: Callable[[dict[str, Any]], None]) -> None:
    """
    Calls on_block(dict) for every stored block below path; verify reads all payloads.
    """

def io_capabilities(path: str) -> dict[str, Any]:
    """
    What the storage below a folder can do: O_DIRECT, io_uring, free bytes, and why not.
    """

def version() -> str: ...

def stage_names() -> list[str]: ...

def option_names() -> list[str]: ...

def platforms() -> list[dict[str, Any]]:
    """
    One dict(name, loaded, devices, reason) per platform module of this build.
    """

def pool_stats() -> dict[str, Any]:
    """Bytes of all pools of this process."""

def set_log_sink(callable: Callable[[int, str], None] | None, level: str = 'info') -> None:
    """
    callable(level: int 0..3, message: str) gets every line; None restores stderr.
    """
