# SPDX-License-Identifier: Apache-2.0
"""Copies between host and device memory, as documented for `CUDATransport`."""

from __future__ import annotations

import ctypes
import itertools
import sys
from typing import Any

from ucm.errors import InvalidArgument, Unavailable
from ucm.memory import PinnedMemoryPool
from ucm.store.tensors import memory_of

_numbers = itertools.count(1)


class TransferTask:
    """A copy under way. `status` is pending, completed or failed."""

    def __init__(self, src_ptr: int, dst_ptr: int, size: int, stream: Any, event: Any) -> None:
        self.task_id = next(_numbers)
        self.src_ptr = src_ptr
        self.dst_ptr = dst_ptr
        self.size = size
        self.stream = stream
        self.event = event
        self.status = "pending" if event is not None else "completed"

    def wait(self) -> None:
        """Returns when the copy is complete."""
        if self.event is not None:
            self.event.synchronize()
        self.status = "completed"

    def is_completed(self) -> bool:
        """Whether the copy is complete."""
        if self.event is None or self.event.query():
            self.status = "completed"
        return self.status == "completed"


class CPUTransport:
    """Copies between two host buffers; the same methods as `CUDATransport`, without a device.

    Args:
        device_id: Of no effect.
    """

    def __init__(self, device_id: int = 0) -> None:
        self.device_id = device_id
        self._pool = PinnedMemoryPool.get_instance()

    def get_pinned_buffer(self, size: int) -> Any:
        """A host buffer of `size` bytes: a uint8 tensor when torch is loaded, else an array."""
        buffer = self._pool.allocate(size)
        torch = sys.modules.get("torch")
        return torch.from_numpy(buffer) if torch is not None else buffer

    def release_pinned_buffer(self, buffer: Any) -> None:
        """Gives a buffer back.

        Raises:
            InvalidArgument: It was not handed out, or was given back already.
        """
        self._pool.free(buffer)

    def h2d(self, src: Any, dst: Any, stream: Any = None) -> TransferTask:
        """Copies a host buffer to a device tensor.

        Args:
            src: Source, any shape, contiguous.
            dst: Destination with as many bytes.
            stream: Of no effect.

        Returns:
            The task; on the host it is complete at once.

        Raises:
            InvalidArgument: The sizes differ, or a buffer can not be used.
        """
        source, target = memory_of(src, "src"), memory_of(dst, "dst")
        if source.nbytes != target.nbytes:
            raise InvalidArgument(f"src has {source.nbytes} bytes and dst {target.nbytes}: equal")
        if not target.writable:
            raise InvalidArgument("dst is read-only")
        for name, memory in (("src", source), ("dst", target)):
            if memory.device != "cpu":
                raise InvalidArgument(
                    f"{name} lies on {memory.device}: CPUTransport needs host memory"
                )
        ctypes.memmove(target.address, source.address, source.nbytes)
        return TransferTask(source.address, target.address, source.nbytes, stream, None)

    def d2h(self, src: Any, dst: Any, stream: Any = None) -> TransferTask:
        """Copies a device tensor to a host buffer. Arguments and errors as `h2d`."""
        return self.h2d(src, dst, stream)

    def d2d(self, src: Any, dst: Any, stream: Any = None) -> TransferTask:
        """Copies between two device tensors. Arguments and errors as `h2d`."""
        return self.h2d(src, dst, stream)

    def synchronize(self, task: TransferTask | None = None) -> None:
        """Returns when a copy, or all copies, are complete."""
        if task is not None:
            task.wait()


class CUDATransport:
    """Copies between pinned host buffers and a CUDA device, on a stream of its own, through torch.

    Args:
        device_id: The device.

    Raises:
        Unavailable: There is no usable CUDA device; the text says why.
    """

    def __init__(self, device_id: int = 0) -> None:
        self._torch = _cuda_torch(device_id)
        self.device_id = device_id
        self._stream = self._torch.cuda.Stream(device=device_id)
        self._buffers: dict[int, Any] = {}

    def get_pinned_buffer(self, size: int) -> Any:
        """A pinned host buffer: uint8 tensor (size,)."""
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidArgument(f"a buffer has 1 byte or more, not {size!r}")
        buffer = self._torch.empty(size, dtype=self._torch.uint8, pin_memory=True)
        self._buffers[buffer.data_ptr()] = buffer
        return buffer

    def release_pinned_buffer(self, buffer: Any) -> None:
        """Gives a buffer back.

        Raises:
            InvalidArgument: It was not handed out, or was given back already.
        """
        if self._buffers.pop(buffer.data_ptr(), None) is None:
            raise InvalidArgument("this buffer is not in use by this transport")

    def h2d(self, src: Any, dst: Any, stream: Any = None) -> TransferTask:
        """Copies a host buffer to a device tensor.

        Args:
            src: Source, contiguous.
            dst: Destination with as many bytes.
            stream: torch.cuda.Stream to use; one of the transport by default.

        Raises:
            InvalidArgument: The sizes differ.
        """
        source, target = memory_of(src, "src"), memory_of(dst, "dst")
        if source.nbytes != target.nbytes:
            raise InvalidArgument(f"src has {source.nbytes} bytes and dst {target.nbytes}: equal")
        cuda, chosen = self._torch.cuda, stream or self._stream
        chosen.wait_stream(cuda.current_stream(self.device_id))
        with cuda.stream(chosen):
            flat = dst.view(-1).view(self._torch.uint8)
            flat.copy_(src.view(-1).view(self._torch.uint8), non_blocking=True)
            event = cuda.Event()
            event.record(chosen)
        for each in (src, dst):
            if each.is_cuda:  # dropped by the caller, its memory waits for the copy
                each.record_stream(chosen)
        return TransferTask(source.address, target.address, source.nbytes, chosen, event)

    def d2h(self, src: Any, dst: Any, stream: Any = None) -> TransferTask:
        """Copies a device tensor to a host buffer. Arguments and errors as `h2d`."""
        return self.h2d(src, dst, stream)

    def d2d(self, src: Any, dst: Any, stream: Any = None) -> TransferTask:
        """Copies between two device tensors. Arguments and errors as `h2d`."""
        return self.h2d(src, dst, stream)

    def synchronize(self, task: TransferTask | None = None) -> None:
        """Returns when a copy, or all copies, are complete."""
        if task is not None:
            task.wait()
        else:
            self._stream.synchronize()


def _cuda_torch(device_id: int) -> Any:
    try:
        import torch
    except ImportError:
        raise Unavailable(
            "CUDATransport needs torch with CUDA, and torch is not installed; CPUTransport has "
            "the same methods for host memory"
        ) from None
    if not torch.cuda.is_available():
        built = torch.version.cuda
        reason = (
            f"torch is built for CUDA {built} and finds no device"
            if built
            else (f"torch {torch.__version__} is built without CUDA")
        )
        raise Unavailable(
            f"CUDATransport needs a CUDA device: {reason}; CPUTransport has the same methods for "
            "host memory"
        )
    if not 0 <= device_id < torch.cuda.device_count():
        raise Unavailable(
            f"CUDA device {device_id}: there are {torch.cuda.device_count()}, counted from 0"
        )
    return torch
