# SPDX-License-Identifier: Apache-2.0
"""Tensors of any library -> address, size, device. torch is used when it made the tensor only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ucm.errors import InvalidArgument

_DLPACK_DEVICES = {1: "cpu", 2: "cuda", 3: "cpu", 11: "cpu", 13: "cuda"}


Where = str | tuple[int, int]


class Memory(NamedTuple):
    """A contiguous piece of memory: address, bytes, whose it is, and whether it may be written.

    It is there as long as `owner` is: a view that also keeps a bytearray from being resized.
    """

    address: int
    nbytes: int
    device: str
    device_index: int
    writable: bool
    owner: Any = None


def memory_of(tensor: Any, where: Where) -> Memory:
    """Describes the memory of a tensor.

    Args:
        tensor: torch tensor, numpy array, buffer, or anything with `__dlpack__` or
            `__cuda_array_interface__`.
        where: What it is in the call, for messages: a name, or (piece, row).

    Raises:
        InvalidArgument: It is no tensor, is empty, or does not lie in one piece.
    """
    if isinstance(tensor, np.ndarray):
        return _numpy(tensor, where)
    if hasattr(tensor, "data_ptr") and hasattr(tensor, "element_size"):
        return _torch(tensor, where)
    if hasattr(tensor, "__cuda_array_interface__"):
        return _cuda_array(tensor, where)
    if hasattr(tensor, "__dlpack__"):
        return _dlpack(tensor, where)
    try:
        return _numpy(np.frombuffer(tensor, dtype=np.uint8), where)
    except TypeError:
        raise InvalidArgument(
            f"{_name(where)} is {type(tensor).__name__}: a torch tensor, a numpy array or another "
            "object with __dlpack__ is expected"
        ) from None
    except (ValueError, BufferError) as error:
        raise InvalidArgument(f"{_name(where)} can not be used as it is: {error}") from None


def _numpy(array: np.ndarray, where: Where) -> Memory:
    flags = array.flags
    if array.dtype.hasobject:
        raise InvalidArgument(
            f"{_name(where)} has dtype {array.dtype}: an array of numbers is expected"
        )
    if not flags.c_contiguous:
        raise _scattered(where, array.shape, array.strides, "numpy.ascontiguousarray(x)")
    address = array.__array_interface__["data"][0]
    return _checked(Memory(address, array.nbytes, "cpu", 0, flags.writeable, array), where)


def _torch(tensor: Any, where: Where) -> Memory:
    if not tensor.is_contiguous():
        raise _scattered(where, tuple(tensor.shape), tuple(tensor.stride()), "x.contiguous()")
    device = getattr(tensor, "device", None)
    kind = getattr(device, "type", "cpu")
    nbytes = tensor.numel() * tensor.element_size()
    index = getattr(device, "index", None) or 0
    return _checked(Memory(int(tensor.data_ptr()), nbytes, kind, index, True, tensor), where)


def _cuda_array(tensor: Any, where: Where) -> Memory:
    described = tensor.__cuda_array_interface__
    address, read_only = described["data"]
    shape, strides = tuple(described["shape"]), described.get("strides")
    item = np.dtype(described["typestr"]).itemsize
    nbytes = int(np.prod(shape, dtype=np.int64)) * item
    expected = item
    for size, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if size > 1 and stride != expected:
            raise _scattered(where, shape, tuple(strides), "a contiguous copy")
        expected *= size
    return _checked(Memory(int(address), nbytes, "cuda", 0, not read_only, tensor), where)


def _dlpack(tensor: Any, where: Where) -> Memory:
    kind, index = tensor.__dlpack_device__()
    if _DLPACK_DEVICES.get(int(kind)) != "cpu":
        raise InvalidArgument(
            f"{_name(where)} lies on the DLPack device ({int(kind)}, {index}): pass its address "
            "with load_data or dump_data"
        )
    return _numpy(np.from_dlpack(tensor), where)


def _name(where: Where) -> str:
    return where if isinstance(where, str) else f"piece {where[0]} of row {where[1]}"


def _checked(memory: Memory, where: Where) -> Memory:
    if memory.nbytes == 0 or memory.address == 0:
        raise InvalidArgument(
            f"{_name(where)} is empty: a tensor with at least one byte is expected"
        )
    return memory


def _scattered(
    where: Where, shape: tuple[int, ...], strides: tuple[int, ...], remedy: str
) -> InvalidArgument:
    return InvalidArgument(
        f"{_name(where)} has shape {shape} and strides {strides}, it does not lie in one piece of "
        f"memory: pass {remedy}, or its contiguous parts as several pieces"
    )
