# SPDX-License-Identifier: Apache-2.0
"""One rank's open store: block ids and keys in, native tasks out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ucm.errors import Cancelled, Timeout, UcmError
from ucm.integration.common import parts
from ucm.integration.vllm.metadata import LoadJob, SaveJob
from ucm.integration.vllm.settings import Settings
from ucm.keys import KEY_BYTES, rank_keys, spread
from ucm.layout import AddressTable, KVLayout
from ucm.store.streams import current_stream, mark_current_stream

_log = logging.getLogger("ucm.integration.vllm")
_SLOT_ALIGN = 4096


Mark = tuple[Any, int]
"""An event of the engine, which is kept until the copies have waited for it, and its handle."""


@dataclasses.dataclass(slots=True)
class Transfer:
    """A native task under way, and what it moves: some shards of ``count`` blocks."""

    task: Any
    jobs: Sequence[Any]
    """The `LoadJob`s or `SaveJob`s that its blocks belong to, in order."""
    keys: bytes
    started: float
    deadline: float
    event: Any = None
    """Kept until the copies have waited for it."""
    cancelled: bool = False
    abandoned: bool = False
    """Whether its request has gone: it does not matter how it ends."""

    @property
    def count(self) -> int:
        """How many blocks."""
        return len(self.keys) // KEY_BYTES

    @property
    def error(self) -> Exception | None:
        """The first cause of its failure; one that was given up because it was late timed out."""
        error: Exception | None = self.task.error
        if isinstance(error, Cancelled) and self.cancelled and not self.abandoned:
            return Timeout(f"a transfer took longer than {self.deadline - self.started:.3g} s")
        return error

    def failed_blocks(self) -> set[int]:
        """Numbers of the blocks that failed, once it is done; all of them if rows are not told."""
        if self.task.error is None:
            return set()
        return {row % self.count for row in self.task.failed_rows} or set(range(self.count))

    def give_up_when_late(self) -> None:
        """Cancel it once its time is up. Its memory stays borrowed until it is done."""
        if not self.cancelled and time.monotonic() > self.deadline:
            self.cancel()

    def cancel(self) -> None:
        """Ask for a quick end."""
        self.cancelled = True
        self.task.cancel()

    def abandon(self) -> None:
        """Ask for a quick end of what nobody needs any more."""
        self.abandoned = True
        self.cancel()

    def wait(self, limit_s: float) -> None:
        """Wait until it is done; cancel it after ``limit_s`` and wait once more. Never raises."""
        with contextlib.suppress(UcmError):
            self.task.wait(limit_s)
        if not self.task.done:
            self.cancel()
            with contextlib.suppress(UcmError):
                self.task.wait(limit_s)


class RankStore:
    """The store of one rank, opened for the KV tensors that the engine registered.

    Args:
        settings: of the engine.
        rank: within the engine.
        tensors: layer name -> KV tensor.
        num_blocks: blocks the engine allocated.

    Raises:
        UcmError: the tensors can not be described, or the store can not be opened.
    """

    def __init__(
        self, settings: Settings, rank: int, tensors: Mapping[str, Any], num_blocks: int
    ) -> None:
        self._settings = settings
        self._rank = rank
        self._ranks = settings.ranks
        self._part = self._ranks.part_of(rank)
        self.layout = KVLayout.from_tensors(
            tensors, num_blocks, settings.block_tokens, settings.group_of
        )
        self.block_bytes = self.layout.block_bytes
        self.tables, self.shard_of, self.sole_layers = _cut(self.layout, settings.layerwise)
        device = next(iter(tensors.values())).device
        self._device = device.type
        self._device_index = device.index or 0
        config = settings.config.store
        self._one_directory = parts.shares_directory(config)
        # Those that only load open a shared directory for writing as well: they note what is in
        # use, and drop what is damaged.
        opens_writer = self._one_directory or (settings.saves and self._ranks.is_home_of(rank))
        self.writes = settings.saves and opens_writer
        self._store = parts.open_part(
            config,
            rank=self._ranks.home_of(self._part),
            sizes=(self.tables[0].sizes, len(self.tables)),
            layout_id=self.layout.layout_id,
            read_only=not opens_writer,
            device=(device.type, device.index or 0),
        )
        self.slots = self._staging_slots()
        _log.info(
            "rank %d: %s keeps blocks of %d tokens, %d bytes, in %d shards of %d pieces",
            rank,
            config.spec,
            settings.block_tokens,
            self.block_bytes,
            len(self.tables),
            len(self.tables[0].sizes),
        )

    def _staging_slots(self) -> int:
        """How many blocks the Cache holds, as it reports it."""
        slot_bytes = -(-self.block_bytes // _SLOT_ALIGN) * _SLOT_ALIGN
        for name, _, labels, value in self._store.metrics():
            of_cache = labels.get("stage", "").lower() == "cache"
            if name == "ucm_capacity_bytes" and of_cache and value:
                return max(1, int(value) // slot_bytes)
        return 1 << 30

    def rows(self, jobs: Sequence[LoadJob] | Sequence[SaveJob]) -> tuple[bytes, np.ndarray]:
        """Keys and block ids of some jobs for this rank; of saves only those it writes.

        Returns:
            The keys of this rank's parts (n * 16 bytes), and int64 (n, groups).
        """
        if not jobs:
            return b"", np.empty((0, self._settings.groups), dtype=np.int64)
        keys = b"".join([job.keys for job in jobs])
        blocks = np.concatenate([job.blocks for job in jobs])
        if isinstance(jobs[0], SaveJob):
            keys, blocks = self._mine(keys, blocks)
        return rank_keys(keys, self._part, self._ranks.parts), blocks

    def plain_keys(self, keys: bytes) -> bytes:
        """The keys without a rank of keys that `rows` answered."""
        return rank_keys(keys, self._part, self._ranks.parts)  # XOR undoes itself

    def _mine(self, keys: bytes, blocks: np.ndarray) -> tuple[bytes, np.ndarray]:
        if not self.writes:
            return b"", blocks[:0]
        if not self._ranks.shared or not self._one_directory:
            return keys, blocks
        # The ranks of a stage hold the same KV: each writes the keys that fall to it.
        mine = spread(keys, self._ranks.stage_ranks) == self._rank % self._ranks.stage_ranks
        return np.frombuffer(keys, dtype=f"V{KEY_BYTES}")[mine].tobytes(), blocks[mine]

    def start(
        self,
        way: str,
        jobs: Sequence[LoadJob] | Sequence[SaveJob],
        keys: bytes,
        blocks: np.ndarray,
        shards: Sequence[int],
        after: Mark | None = None,
    ) -> Transfer:
        """Start moving some shards of some blocks.

        Args:
            way: ``load`` or ``dump``.
            jobs: whose blocks they are, in order.
            keys: of this rank's parts.
            blocks: vLLM's block ids (n, groups).
            shards: numbers of the shards.
            after: where the engine's work must have come; to what it has queued now when absent.

        Raises:
            UcmError: it could not be started.
        """
        numbers = np.repeat(np.array(shards, dtype=np.uint32), len(blocks))
        addresses = np.concatenate([self.tables[shard].addresses(blocks) for shard in shards])
        event, handle = after or self.mark()
        now = time.monotonic()
        task = getattr(self._store.native, way)(keys * len(shards), numbers, addresses, handle)
        return Transfer(task, jobs, keys, now, now + self._settings.timeout_s, event)

    def mark(self) -> Mark:
        """Where the engine's work ends that is queued now."""
        if self._device == "cpu":
            return None, 0
        return mark_current_stream(self._device, self._device_index)

    def order(self, transfer: Transfer) -> bool:
        """Let the engine's current stream wait for a load, in the host's place.

        The host waits only for data that is not in host memory yet.

        Returns:
            False: the host itself has to wait until the load is done, because it has failed, or the
            memory is the host's.
        """
        if self._device == "cpu":
            return False
        stream = current_stream(self._device, self._device_index)
        if stream is None:
            return False
        try:
            transfer.task.wait_on_stream(stream, self._settings.timeout_s)
        except UcmError:
            return False
        return True

    def renew(self, chain: bytes) -> None:
        """Say which blocks, without a rank, are one chain: its tail is evicted before its head."""
        self._store.native.renew(rank_keys(chain, self._part, self._ranks.parts))

    def abandon(self, keys: bytes) -> None:
        """Make sure that nothing of a save is used whose content is not to be trusted."""
        self._store.native.abandon(keys)

    def metrics(self) -> list[tuple[str, str, dict[str, str], Any]]:
        """Samples of the stages."""
        return self._store.metrics()

    def close(self) -> None:
        """Close the store. Idempotent."""
        self._store.close()


def _cut(
    layout: KVLayout, layerwise: bool
) -> tuple[list[AddressTable], dict[str, int], frozenset[str]]:
    """The shards' tables, the shard of each layer, and the layers that are a whole shard."""
    shards = layout.shards() if layerwise else None
    if shards is None:
        if layerwise:
            _log.warning("use_layerwise: the layers differ in size; they are moved together")
        return [layout.bulk()], {}, frozenset()
    names = {name: number for number, (members, _) in enumerate(shards) for name in members}
    sole = frozenset(members[0] for members, _ in shards if len(members) == 1)
    return [table for _, table in shards], names, sole
