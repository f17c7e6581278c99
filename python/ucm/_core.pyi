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

    def wait_on_stream(self, stream: int, timeout_s: float) -> None:
        """
        Block until every copy is on the device's streams, and let an engine's stream wait for them; raises what has failed by then.
        """

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

    def abandon(self, keys: bytes) -> None:
        """
        Uses nothing of a dump that was broken off; a complete block below stays.
        """

    def renew(self, keys: bytes) -> None:
        """
        After a chain came in several batches, its head first: tails leave before heads again.
        """

    def pin(self, keys: bytes) -> bytes:
        """
        One byte per key: 1 when the block is stored and kept from eviction now.
        """

    def unpin(self, keys: bytes) -> None: ...

    def load(self, keys: bytes, shards: int | Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)], addresses: Annotated[NDArray[numpy.uint64], dict(shape=(None, None), order='C', device='cpu', writable=False)], event: int = 0, on_host: bool = False) -> Task:
        """Start copying blocks to (rows, pieces) addresses."""

    def dump(self, keys: bytes, shards: int | Annotated[NDArray[numpy.uint32], dict(shape=(None,), order='C', device='cpu', writable=False)], addresses: Annotated[NDArray[numpy.uint64], dict(shape=(None, None), order='C', device='cpu', writable=False)], event: int = 0, on_host: bool = False) -> Task:
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

class PageTask:
    """Blocks under way; see light_mem.PyTask."""

    def ready(self) -> bool: ...

    def data_safe(self) -> bool: ...

    def states(self) -> bytes:
        """One byte per block: 0 initial, 1 working, 2 finished, 3 aborted."""

    @property
    def already_stored(self) -> list[int]: ...

class PageService:
    """Pages of a tensor to and from disk; see light_mem."""

    def __init__(self, tensor: Any, path: str, capacity_bytes: int, scope: str, keep: bool = True, read_only: bool = False, node: str = '', workers: int = 2, staging_bytes: int = 33554432) -> None: ...

    def query(self, hashes: Sequence[int], block_pages: int) -> list[bool]: ...

    def query_tokens(self, tokens: Any, block_pages: int) -> list[bool]: ...

    def create(self, hashes: Sequence[int], pages: Any, block_pages: int, write: bool, start_pos: int) -> PageTask: ...

    def create_tokens(self, tokens: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], pages: Annotated[NDArray[numpy.int32], dict(shape=(None,), device='cpu', writable=False)], block_pages: int, write: bool, start_pos: int) -> PageTask: ...

    def abort(self, task: PageTask) -> None: ...

    def active(self, write: bool) -> int: ...

    def stats(self) -> dict[str, Any]: ...

    def close(self, timeout_s: float) -> None: ...

def hash_token_blocks(tokens: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], block_tokens: int) -> list[str]: ...

def version() -> str: ...

def stage_names() -> list[str]: ...

def option_names() -> list[str]: ...

def platforms() -> list[dict[str, Any]]:
    """
    One dict(name, loaded, devices, reason) per platform module of this build.
    """

def copy_figures(platform: str, device_id: int, bytes: int, piece_bytes: Sequence[int], rounds: int, on_row: Callable[[str, int], None]) -> dict[str, Any]:
    """
    How fast scattered pieces are copied, each method by piece size and direction, beside one large copy; on_row(method, piece_bytes) is called before each row.
    """

def pool_stats() -> dict[str, Any]:
    """Bytes of all pools of this process."""

def set_log_sink(callable: Callable[[int, str], None] | None, level: str = 'info') -> None:
    """
    callable(level: int 0..3, message: str) gets every line; None restores stderr.
    """

def set_faults(rules: list[dict[str, Any]]) -> None:
    """
    For tests: replaces the rules that disturb file system calls; see ucm.faults.
    """

def faults_taken() -> int:
    """For tests: how often a rule has taken effect since set_faults."""

class WriteRecording:
    """For tests: every change below a folder; see ucm.faults."""

    def __init__(self, folder: str) -> None: ...

    def changes(self) -> int:
        """The number of changes so far."""

    def rebuild(self, to: str, point: int, seed: int, process_only: bool) -> None:
        """Makes the folder `to` what the disk holds after a loss."""

class HostPages:
    """CPU pages that several processes share by name."""

    @staticmethod
    def create(name: str, pages: int, page_bytes: int = 0, huge_pages: bool = True, numa_interleave: bool = False, platform: str = '', device_id: int = 0) -> HostPages:
        """Makes them; page_bytes 0 makes the index alone."""

    @staticmethod
    def attach(name: str, with_memory: bool = True, platform: str = '', device_id: int = 0) -> HostPages:
        """Joins those of another process; raises NotFound."""

    def allocate(self, keys: bytes) -> tuple[list[int], list[bool]]:
        """
        (page, filled already) per 16-byte key; -1 from the first that finds no page.
        """

    def query(self, keys: bytes) -> list[int]:
        """Pages of the leading keys that are filled, with a reference each."""

    def find(self, key: bytes) -> int:
        """Page of a key or -1; takes no reference."""

    def mark_ready(self, pages: Sequence[int], release: bool, offload: bool) -> None: ...

    def release(self, pages: Sequence[int]) -> None: ...

    def all_ready(self, pages: Sequence[int]) -> bool: ...

    def take_offloads(self) -> list[list[int]]: ...

    def view(self, page: int) -> tuple[bytes, int, int]:
        """(key, state, references); state 0 empty, 1 loading, 2 ready, 3 lost."""

    def count_transfer(self, load: bool, count: int) -> None: ...

    def stats(self) -> dict[str, int]: ...

    @property
    def pages(self) -> int: ...

    @property
    def page_bytes(self) -> int: ...

    @property
    def memory_page_bytes(self) -> int: ...

    @property
    def pinned(self) -> bool: ...

    @property
    def address(self) -> int:
        """Address of page 0 in this process, 0 without memory."""

class PageCopier:
    """Whole pages between an engine's KV buffer and CPU pages, by layers."""

    @staticmethod
    def make(platform: str, device_id: int, engine: tuple[int, int, int, int], pages: tuple[int, int, int, int], page_count: int, page_tokens: int, layers: int, parts: Sequence[tuple[int, int, int]], threads: int) -> PageCopier:
        """
        engine: (address, layer stride, slot stride, slots); pages: (address, page stride, layer stride, token stride); parts: (offset in a slot, offset in a page's token, bytes) of a token. All in bytes.
        """

    def copy(self, load: bool, slots: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], pages: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], first_layer: int, layers: int, event: int = 0) -> Task:
        """Starts copying; row r of the task is layer first_layer + r."""
