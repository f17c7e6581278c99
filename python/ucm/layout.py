# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a block lie in an engine's KV tensors, as data.

A tensor has one axis that counts blocks; what remains of it for one block is cut into pieces, each
contiguous in memory. The store sees pieces only: no code here or below asks which attention backend
made a tensor. Works on anything with torch's tensor methods, without importing torch.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from ucm.errors import InvalidArgument, Unsupported

LAYOUT_VERSION = 1
_MAX_PIECES = 4096


@dataclasses.dataclass(frozen=True)
class LayerSpan:
    """One layer's tensor: address of block 0, bytes between blocks, and the pieces of a block."""

    name: str
    group: int
    base: int
    block_stride: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    content: str
    """What the bytes of a piece mean: dtype and axis order, free of strides and addresses."""


def block_axis(shape: Sequence[int], num_blocks: int) -> int:
    """The axis of a KV tensor that counts blocks.

    Args:
        shape: of the tensor; K and V may come first as an axis of 2.
        num_blocks: blocks the engine allocated. An axis may hold a multiple of them, when the
            attention kernel cuts each block into smaller ones.

    Raises:
        Unsupported: no axis fits.
    """
    pair_first = len(shape) > 1 and shape[0] == 2 and shape[1] % num_blocks == 0
    if pair_first and (shape[0] != num_blocks or len(shape) >= 5):
        return 1
    if shape and shape[0] and shape[0] % num_blocks == 0:
        return 0
    if len(shape) > 1 and shape[1] and shape[1] % num_blocks == 0:
        return 1
    raise Unsupported(f"a KV tensor of shape {tuple(shape)} has no axis of {num_blocks} blocks")


def describe_layer(name: str, tensor: Any, num_blocks: int, group: int = 0) -> LayerSpan:
    """Cut one KV tensor into pieces.

    Args:
        name: of the layer.
        tensor: with ``shape``, ``stride()``, ``element_size()``, ``data_ptr()`` and ``dtype``.
        num_blocks: blocks the engine allocated.
        group: KV cache group whose block ids address this tensor.

    Raises:
        Unsupported: the tensor is no plain tensor, or has no axis of blocks.
    """
    if not hasattr(tensor, "data_ptr"):
        raise Unsupported(f"layer {name} keeps a {type(tensor).__name__}, not one KV tensor")
    item = int(tensor.element_size())
    sizes = [int(size) for size in tensor.shape]
    strides = [int(stride) * item for stride in tensor.stride()]
    axis = block_axis(sizes, num_blocks)
    parts = sizes[axis] // num_blocks
    block_stride = strides[axis] * parts
    rest = [
        (strides[at], sizes[at], at) for at in range(len(sizes)) if at != axis and sizes[at] > 1
    ]
    if parts > 1:
        rest.append((strides[axis], parts, axis))
    rest.sort(reverse=True)
    run = item
    while rest and rest[-1][0] == run:
        run *= rest.pop()[1]
    outer = [[index * stride for index in range(size)] for stride, size, _ in rest]
    offsets = tuple(sum(at) for at in itertools.product(*outer))
    if len(offsets) > _MAX_PIECES:
        raise Unsupported(f"a block of layer {name} lies in {len(offsets)} pieces of memory")
    order = sorted(
        ((strides[at], f"{at}:{sizes[at]}") for at in range(len(sizes)) if at != axis), reverse=True
    )
    dims = ",".join(text for _, text in order) + (f"/{parts}" if parts > 1 else "")
    return LayerSpan(
        name=name,
        group=group,
        base=int(tensor.data_ptr()),
        block_stride=block_stride,
        offsets=offsets,
        sizes=(run,) * len(offsets),
        content=f"{tensor.dtype}[{dims}]",
    )


def natural_order(name: str) -> tuple[Any, ...]:
    """Sort key that puts layer 2 before layer 10."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


@dataclasses.dataclass(frozen=True)
class _Column:
    """One column of an address matrix: where the piece of block 0 lies, and the way to the next."""

    base: int
    stride: int
    size: int
    group: int


def _columns(layers: Iterable[LayerSpan]) -> list[_Column]:
    return [
        _Column(layer.base + offset, layer.block_stride, size, layer.group)
        for layer in layers
        for offset, size in zip(layer.offsets, layer.sizes, strict=True)
    ]


def _coalesce(columns: list[_Column]) -> list[_Column]:
    """Join neighbours that are adjacent in memory in every block."""
    joined: list[_Column] = []
    for column in columns:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.base + last.size == column.base
            and (last.stride, last.group) == (column.stride, column.group)
        ):
            joined[-1] = dataclasses.replace(last, size=last.size + column.size)
        else:
            joined.append(column)
    return joined


class AddressTable:
    """Addresses of the pieces of one shard for any blocks. Immutable."""

    def __init__(self, columns: list[_Column]) -> None:
        self.sizes = [column.size for column in columns]
        self._bases = np.array([column.base for column in columns], dtype=np.uint64)
        self._strides = np.array([column.stride for column in columns], dtype=np.uint64)
        groups = np.array([column.group for column in columns], dtype=np.intp)
        self._groups = groups if groups.any() else None

    def addresses(self, blocks: np.ndarray) -> np.ndarray:
        """The address matrix of some blocks.

        Args:
            blocks: block ids, integer (n,), or (n, groups) when there are several KV cache groups.

        Returns:
            uint64 (n, pieces), C-contiguous.
        """
        blocks = np.asarray(blocks, dtype=np.uint64)
        if blocks.ndim == 1:
            blocks = blocks[:, None]
        elif self._groups is not None:
            blocks = blocks[:, self._groups]
        return blocks * self._strides + self._bases


class KVLayout:
    """The KV tensors of one rank.

    The bytes of a block are those of its layers, in natural order of their names; `bulk` and
    `shards` are two ways to move the same bytes, so what one stores the other can load.

    Args:
        layers: described layers, any order.
        block_tokens: tokens per block.
    """

    def __init__(self, layers: Iterable[LayerSpan], block_tokens: int) -> None:
        self.layers = sorted(layers, key=lambda layer: natural_order(layer.name))
        if not self.layers:
            raise InvalidArgument("there is no KV tensor to store")
        self.block_tokens = block_tokens
        self.groups = 1 + max(layer.group for layer in self.layers)
        self.block_bytes = sum(sum(layer.sizes) for layer in self.layers)
        self._aliases: dict[str, str] = {}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Any],
        num_blocks: int,
        block_tokens: int,
        group_of: Mapping[str, int] | None = None,
    ) -> KVLayout:
        """Describe the tensors an engine registers.

        Args:
            tensors: layer name -> KV tensor. Layers that share one tensor are stored once.
            num_blocks: blocks the engine allocated.
            block_tokens: tokens per block.
            group_of: layer name -> KV cache group; absent layers belong to group 0.

        Raises:
            Unsupported: a layer keeps something else than one KV tensor with an axis of blocks.
        """
        layers: list[LayerSpan] = []
        seen: dict[tuple[Any, ...], str] = {}
        aliases: dict[str, str] = {}
        for name in sorted(tensors, key=natural_order):
            layer = describe_layer(name, tensors[name], num_blocks, (group_of or {}).get(name, 0))
            place = (layer.base, layer.block_stride, layer.offsets, layer.sizes, layer.group)
            if place in seen:
                aliases[name] = seen[place]
            else:
                seen[place] = name
                layers.append(layer)
        layout = cls(layers, block_tokens)
        layout._aliases = aliases
        return layout

    @property
    def layout_id(self) -> int:
        """64 bits that differ when the bytes of a block mean something else. Never 0."""
        text = [f"{LAYOUT_VERSION}", f"{self.block_tokens}"]
        text += [
            f"{layer.name}|{layer.group}|{layer.content}|{','.join(map(str, layer.sizes))}"
            for layer in self.layers
        ]
        digest = blake2b("\n".join(text).encode(), digest_size=8, person=b"ucm-layout").digest()
        return int.from_bytes(digest, "little") or 1

    def bulk(self) -> AddressTable:
        """All layers as one shard."""
        return AddressTable(_coalesce(_columns(self.layers)))

    def shards(self) -> list[tuple[list[str], AddressTable]] | None:
        """One shard per layer: the names that belong to it, and its addresses.

        Layers whose names bear the same number form one shard (attention and its indexer, say).

        Returns:
            The shards in the order of the forward pass; None when their sizes differ, so that the
            layers can only be moved together.
        """
        groups: dict[Any, list[LayerSpan]] = {}
        for layer in self.layers:
            number = re.search(r"\d+", layer.name)
            groups.setdefault(int(number.group()) if number else layer.name, []).append(layer)
        names = {layer.name: key for key, members in groups.items() for layer in members}
        tables = {key: AddressTable(_columns(members)) for key, members in groups.items()}
        first = next(iter(tables.values()))
        if len(tables) < 2 or any(table.sizes != first.sizes for table in tables.values()):
            return None
        members = {key: [layer.name for layer in group] for key, group in groups.items()}
        for alias, name in self._aliases.items():
            members[names[name]].append(alias)
        return [(members[key], table) for key, table in tables.items()]
