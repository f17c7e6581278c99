# SPDX-License-Identifier: Apache-2.0
"""Block keys: the one place where they are made.

A key is 16 bytes that name a content. Everything the content depends on goes into it: the tokens,
what came before them, and the namespace (model, dtype, parallel layout, tenant, ...). Keys are the
same in every process and on every machine: they use BLAKE2b over explicit bytes only.
"""

from __future__ import annotations

import dataclasses
import sys
from array import array
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

KEY_BYTES = 16
KEY_VERSION = 1
"""Part of every derived key. A change of any rule in this file raises it."""

_ONE_LENGTH = frozenset((KEY_BYTES,))
_TOKEN = "I"  # uint32: every vocabulary fits, and packing a list of int is fastest this way
_TOKEN_BYTES = 4
_EXTRA_MARK = b"\xff\xff\xff\xff"  # no token id: the bytes of extras follow it


def _hash(data: bytes, person: bytes) -> bytes:
    return blake2b(data, digest_size=KEY_BYTES, person=person).digest()


def _frame(parts: Iterable[str | bytes | int | None]) -> bytes:
    """Bytes that determine ``parts``: each is written with its kind and its length."""
    out = bytearray()
    for part in parts:
        if part is None:
            kind, data = b"n", b""
        elif isinstance(part, bytes):
            kind, data = b"b", part
        elif isinstance(part, int):
            kind, data = b"i", str(int(part)).encode()
        else:
            kind, data = b"s", str(part).encode()
        out += kind + len(data).to_bytes(8, "little") + data
    return bytes(out)


@dataclasses.dataclass(frozen=True)
class Namespace:
    """What the content of a block depends on besides its tokens.

    Two engines share blocks when, and only when, their namespaces are equal. Every field takes
    part in `digest`; an absent one differs from an empty one.
    """

    model: str
    revision: str | None = None
    dtype: str = ""
    kv_dtype: str = ""
    block_size: int = 0
    layout: str | None = None
    tp_size: int = 1
    pp_size: int = 1
    cp_size: int = 1
    extras: tuple[str, ...] = ()

    def digest(self) -> bytes:
        """The 16 bytes that stand for this namespace."""
        fields = [getattr(self, field.name) for field in dataclasses.fields(self)[:-1]]
        return _hash(_frame([KEY_VERSION, *fields, *self.extras]), b"ucm-namespace")


def fold(block_id: bytes, namespace: Namespace | bytes = b"") -> bytes:
    """Turn an identifier of any length into a key.

    Args:
        block_id: 16 bytes without a namespace are used as they are; everything else is hashed
            together with the namespace.
        namespace: a `Namespace` or its digest; empty for none.

    Returns:
        16 bytes.

    Raises:
        TypeError: ``block_id`` is not bytes.
    """
    if not isinstance(block_id, (bytes, bytearray, memoryview)):
        raise TypeError(f"a block id is bytes, not {type(block_id).__name__}")
    scope = namespace.digest() if isinstance(namespace, Namespace) else bytes(namespace)
    if len(block_id) == KEY_BYTES and not scope:
        return bytes(block_id)
    return _hash(_frame([KEY_VERSION, scope, bytes(block_id)]), b"ucm-fold")


def pack(ids: Sequence[bytes]) -> bytes:
    """Join identifiers into the n * 16 bytes that the native store takes.

    Args:
        ids: identifiers; those of 16 bytes are used as they are, others are folded.

    Returns:
        ``len(ids) * 16`` bytes.
    """
    joined = b"".join(ids)
    if len(joined) == KEY_BYTES * len(ids) and _ONE_LENGTH.issuperset(map(len, ids)):
        return joined
    return b"".join([fold(block_id) for block_id in ids])


def unpack(keys: bytes) -> list[bytes]:
    """Cut ``n * 16`` bytes into a list of keys."""
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]


def token_bytes(tokens: Sequence[int]) -> bytes:
    """The little-endian uint32 bytes of token ids.

    Raises:
        OverflowError: a token id is negative or needs more than 32 bits.
    """
    if isinstance(tokens, np.ndarray):
        if tokens.size and (tokens.min() < 0 or tokens.max() > 0xFFFFFFFF):
            raise OverflowError("a token id needs to fit in 32 bits")
        return tokens.astype("<u4").tobytes()
    packed = array(_TOKEN, tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


class KeyChain:
    """The keys of one sequence of tokens, block by block.

    Key i is the BLAKE2b-128 of key i-1, of extras that belong to block i, and of the block's
    tokens; key -1 is the root. Only full blocks have keys. Tokens are only ever appended, so the
    work done is proportional to what is new. Not thread-safe.

    Args:
        root: 16 bytes; make them with `root_key`.
        block_size: tokens per block.
    """

    __slots__ = ("_tail", "block_size", "keys", "root")

    def __init__(self, root: bytes, block_size: int) -> None:
        if block_size < 1:
            raise ValueError(f"a block holds at least 1 token, not {block_size}")
        self.root = root
        self.block_size = block_size
        self.keys: list[bytes] = []
        self._tail = b""

    @property
    def tokens(self) -> int:
        """How many tokens were appended so far."""
        return len(self.keys) * self.block_size + len(self._tail) // _TOKEN_BYTES

    def extend(
        self, tokens: Sequence[int], extras: dict[int, bytes] | None = None
    ) -> Sequence[bytes]:
        """Append tokens and return the keys that became complete.

        Args:
            tokens: token ids that follow those appended before.
            extras: block number -> bytes that this block's content depends on too (for example
                which image stands where in it).

        Returns:
            The new keys, oldest first; they are in `keys` as well.
        """
        data = self._tail + token_bytes(tokens)
        step = self.block_size * _TOKEN_BYTES
        first = len(self.keys)
        parent = self.keys[-1] if self.keys else self.root
        add, whole = self.keys.append, len(data) - len(data) % step
        if extras:
            for at in range(0, whole, step):
                extra = extras.get(len(self.keys))
                block = data[at : at + step]
                if extra is not None:
                    block = _EXTRA_MARK + len(extra).to_bytes(8, "little") + extra + block
                parent = blake2b(parent + block, digest_size=KEY_BYTES).digest()
                add(parent)
        else:
            for at in range(0, whole, step):
                parent = blake2b(parent + data[at : at + step], digest_size=KEY_BYTES).digest()
                add(parent)
        self._tail = data[whole:]
        return self.keys[first:] if first else self.keys[:]


def root_key(namespace: Namespace | bytes, *parts: str | bytes | int | None) -> bytes:
    """The key before the first block of a sequence.

    Args:
        namespace: a `Namespace` or its digest.
        parts: what all blocks of the sequence depend on: LoRA adapter, cache salt, ...
    """
    scope = namespace.digest() if isinstance(namespace, Namespace) else bytes(namespace)
    return _hash(_frame([KEY_VERSION, scope, *parts]), b"ucm-root")


def rank_key(key: bytes, rank: int, ranks: int = 0) -> bytes:
    """The key of one rank's part of a block. See `rank_keys`."""
    return rank_keys(key, rank, ranks)


def rank_keys(keys: bytes, rank: int, ranks: int = 0) -> bytes:
    """The keys of one rank's parts of blocks.

    The keys are hashes already, so a rank is folded in by XOR with bytes of its own: distinct
    ranks get distinct keys, at the cost of a copy.

    Args:
        keys: n * 16 bytes.
        rank: number of the rank within those that hold parts of one block.
        ranks: how many there are; with 1 the keys stay as they are.

    Returns:
        n * 16 bytes.
    """
    if ranks == 1 or not keys:
        return keys
    mask = np.frombuffer(_hash(_frame([KEY_VERSION, rank, ranks]), b"ucm-rank"), dtype="<u8")
    parts: np.ndarray = np.frombuffer(keys, dtype="<u8").reshape(-1, 2) ^ mask
    return parts.tobytes()


def spread(keys: bytes, parts: int) -> np.ndarray:
    """Which of ``parts`` owners each key belongs to: uint64 (n,), the same on every machine."""
    return np.frombuffer(keys, dtype="<u8").reshape(-1, 2)[:, 0] % np.uint64(parts)
