# SPDX-License-Identifier: Apache-2.0
"""Host buffers for transfers, as documented for `PinnedMemoryPool`."""

from __future__ import annotations

import mmap
import threading
from typing import Any

import numpy as np

from ucm.errors import InvalidArgument, OutOfMemory

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_CLASSES = (64 * _KIB, 256 * _KIB, _MIB, 4 * _MIB, 16 * _MIB, 64 * _MIB)


class PinnedMemoryPool:
    """Buffers of host memory that are kept for the next use. Thread-safe.

    Without an accelerator the memory is plain, and `get_stats()["kind"]` says so.

    Args:
        device_id: Device the buffers are for; of no effect on plain memory.
        initial_size: Bytes taken at once; one buffer of the smallest class by default.
        max_size: Most bytes the pool takes.
    """

    _instance: PinnedMemoryPool | None = None
    _instance_lock = threading.Lock()

    def __init__(
        self, device_id: int = 0, initial_size: int = 64 * _KIB, max_size: int = 4 * _GIB
    ) -> None:
        if not 0 <= initial_size <= max_size:
            raise InvalidArgument(f"initial_size {initial_size} is 0 to max_size ({max_size})")
        self.device_id = device_id
        self.max_size = max_size
        self._lock = threading.Lock()
        self._free: dict[int, list[np.ndarray]] = {}
        self._used: dict[int, np.ndarray] = {}
        self._total = 0
        self._in_use = 0
        self._peak = 0
        if initial_size:
            size = min(size_class(initial_size), max_size)
            self._free[size] = [self._take(size)]

    @classmethod
    def get_instance(cls) -> PinnedMemoryPool:
        """The pool of this process."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def allocate(self, size: int) -> np.ndarray:
        """A buffer of at least one page.

        Args:
            size: Bytes.

        Returns:
            uint8 (size,), page aligned; give it back with `free`.

        Raises:
            OutOfMemory: The pool would exceed max_size. It is a MemoryError as well.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidArgument(f"a buffer has 1 byte or more, not {size!r}")
        # Of a pool that is smaller than the class, the whole pool.
        wanted = max(size, min(size_class(size), self.max_size))
        with self._lock:
            idle = self._free.get(wanted)
            whole = idle.pop() if idle else self._grow(wanted)
            buffer = whole[:size]
            self._used[buffer.ctypes.data] = whole
            self._in_use += whole.nbytes
            self._peak = max(self._peak, self._in_use)
            return buffer

    def free(self, buffer: Any) -> None:
        """Gives a buffer back.

        Args:
            buffer: What `allocate` returned, or a tensor over the same memory.

        Raises:
            InvalidArgument: It does not belong to this pool, or was given back already.
        """
        address = (
            buffer.data_ptr() if hasattr(buffer, "data_ptr") else np.asarray(buffer).ctypes.data
        )
        with self._lock:
            whole = self._used.pop(address, None)
            if whole is None:
                raise InvalidArgument("this buffer is not in use by this pool")
            self._in_use -= whole.nbytes
            self._free.setdefault(whole.nbytes, []).append(whole)

    def get_stats(self) -> dict[str, Any]:
        """Bytes of this pool and of the Cache stages of this process.

        Returns:
            `total_allocated`, `currently_used`, `total_free`, `peak_allocated`, `page_size` in
            bytes, and `kind`: plain or pinned.
        """
        from ucm import _core

        native = _core.pool_stats()
        with self._lock:
            total = self._total + int(native["total_allocated"])
            used = self._in_use + int(native["currently_used"])
            return {
                "total_allocated": total,
                "currently_used": used,
                "total_free": total - used,
                "peak_allocated": self._peak + int(native["peak_allocated"]),
                "page_size": int(native["page_size"]) or mmap.PAGESIZE,
                "kind": native["kind"] or "plain",
            }

    def _grow(self, size: int) -> np.ndarray:
        if self._total + size > self.max_size:
            self._free = {}
            self._total = sum(whole.nbytes for whole in self._used.values())
        if self._total + size > self.max_size:
            raise OutOfMemory(
                f"the pool has {self._in_use} bytes in use and {size} more exceed its "
                f"max_size of {self.max_size}"
            )
        return self._take(size)

    def _take(self, size: int) -> np.ndarray:
        try:
            memory = mmap.mmap(-1, size)
        except OSError as error:
            raise OutOfMemory(f"{size} bytes of host memory: {error.strerror}") from error
        self._total += size
        return np.frombuffer(memory, dtype=np.uint8)


def size_class(size: int) -> int:
    """Bytes a buffer of `size` bytes takes: 64 KiB to 64 MiB in steps of 4, then multiples."""
    for each in _CLASSES:
        if size <= each:
            return each
    return -(-size // _CLASSES[-1]) * _CLASSES[-1]
