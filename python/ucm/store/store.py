# SPDX-License-Identifier: Apache-2.0
"""`Store`: blocks by identifier, moved between the caller's memory and a pipeline."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ucm.config import StoreConfig
from ucm.config.pipelines import parse_pipeline
from ucm.errors import InvalidArgument, IoError, NotFound, Unsupported
from ucm.keys import KEY_BYTES, pack, unpack
from ucm.metrics import monitor
from ucm.store.forked import LeftBehind
from ucm.store.held import HeldBlocks, batch_of, copy_row
from ucm.store.platform import choose_platform
from ucm.store.rows import (
    Rows,
    Sizes,
    address_rows,
    highest_shard,
    infer_sizes,
    memory_table,
    shards_of,
    tensor_rows,
    tensor_table,
)
from ucm.store.sizes import configured_sizes, given_sizes
from ucm.store.streams import mark_current_stream
from ucm.store.task import Task
from ucm.store.unsized import remove_blocks

_LOG = logging.getLogger("ucm.store")
_TIMEOUT_S = 30.0


class Store:
    """A pipeline of stages, for callers in Python. All calls are thread-safe.

    Block identifiers are bytes of any length: 16 bytes are used as they are, others are folded to
    16. Sizes come from `layout`, else from the configuration, else from the first tensors that
    are dumped or loaded; before that only lookups and removals reach the pipeline.

    Args:
        config: The store's configuration.
        layout: `([bytes of each piece of a shard], shards per block)`.
        layout_id: 64 bits that differ when the bytes of a block mean something else; 0 takes any.
        read_only: Take no write locks; dumps are refused.
        rank: Rank of the engine; a Disk stage then keeps its blocks in `<backend>/rank-<rank>`.

    Raises:
        ConfigError: The configuration can not be used.
        UcmError: A stage could not be opened; the text says what to do.
    """

    def __init__(
        self,
        config: StoreConfig,
        *,
        layout: Any = None,
        layout_id: int = 0,
        read_only: bool = False,
        rank: int | None = None,
    ) -> None:
        self.config = config
        self._spec = parse_pipeline(config.store_pipeline).spec
        self._layout_id = layout_id
        self._read_only = read_only
        self._rank = rank
        self._lookup_only = config.device_id == -1
        self._timeout_s = config.timeout_s or _TIMEOUT_S
        self._lock = threading.Lock()
        self._pending: deque[Task] = deque()
        self._earlier: list[monitor.Sample] = []
        self._held = HeldBlocks()
        self._platform = "cpu"
        self._device = 0
        self._closed = False
        self.lookups = monitor.LookupCount()
        sizes = given_sizes(layout) if layout is not None else configured_sizes(config)
        self._sizes: Sizes | None = None
        self._native = self._open(None if self._lookup_only else sizes)
        self._sizes = None if self._lookup_only else sizes
        monitor.register(self)

    # --- asking ---

    def lookup(self, ids: Sequence[bytes]) -> list[bool]:
        """Which blocks can be loaded.

        Args:
            ids: n block identifiers.

        Returns:
            n answers, in order.
        """
        answer: bytes = self._ask("lookup", _pack(ids))
        self.lookups.add(len(answer), answer.count(1))
        present: list[bool] = np.frombuffer(answer, dtype=bool).tolist()
        return present

    def lookup_prefix(self, ids: Sequence[bytes]) -> int:
        """How many of the first blocks can all be loaded: 0 to n."""
        keys = _pack(ids)
        count = int(self._ask("lookup_prefix", keys))
        self.lookups.add(len(keys) // KEY_BYTES, count)
        if count and self.config.prefetch_enabled and self._sizes is not None:
            self._native.prefetch(keys[: KEY_BYTES * min(count, self.config.prefetch_depth)])
        return count

    def lookup_on_prefix(self, ids: Sequence[bytes]) -> int:
        """Index of the last block of the longest prefix that can be loaded; -1 for none."""
        return self.lookup_prefix(ids) - 1

    def prefetch(self, ids: Sequence[bytes]) -> None:
        """Asks to bring blocks from a slow stage into the Cache; returns at once."""
        keys = _pack(ids)
        if self._sizes is not None:
            self._native.prefetch(keys)

    # --- moving ---

    def load(self, ids: Sequence[bytes], shard_index: Any, tensors: Any, *, event: int = 0) -> Task:
        """Fills tensors with stored blocks.

        Args:
            ids: n block identifiers.
            shard_index: Shard of each row: one number for all, or n numbers.
            tensors: `tensors[i][j]`, piece j of row i; or one tensor per row; or for one block
                just its tensor.
            event: Handle of an engine's event the copies wait for; 0 for none. Without one, copies
                of device memory wait for what torch's current stream has queued until now.

        Returns:
            The task. A block that is not stored fails its row with NotFound.

        Raises:
            InvalidArgument: Number, size, strides or device of a tensor does not fit.
        """
        return self._move_tensors("load", ids, shard_index, tensors, event)

    def dump(self, ids: Sequence[bytes], shard_index: Any, tensors: Any, *, event: int = 0) -> Task:
        """Stores blocks from tensors. Arguments, result and errors as `load`.

        The tensors may be reused once the task is released; the blocks answer lookups once it is
        done. Blocks that are stored already are left as they are.
        """
        return self._move_tensors("dump", ids, shard_index, tensors, event)

    def load_data(
        self, ids: Sequence[bytes], shard_index: Any, addresses: Any, event: int = 0
    ) -> Task:
        """Fills memory given by addresses with stored blocks.

        Args:
            ids: n block identifiers.
            shard_index: One number, or n numbers.
            addresses: (n, pieces) as nested lists or a uint64 array; the memory stays valid until
                the task is done.
            event: Handle of an engine's event the copies wait for; 0 for none. Without one, copies
                of device memory wait for what torch's current stream has queued until now.

        Raises:
            InvalidArgument: The shape does not fit, or the sizes of a block are not known yet.
        """
        return self._move_addresses("load", ids, shard_index, addresses, event)

    def dump_data(
        self, ids: Sequence[bytes], shard_index: Any, addresses: Any, event: int = 0
    ) -> Task:
        """Stores blocks from memory given by addresses. Arguments and errors as `load_data`."""
        return self._move_addresses("dump", ids, shard_index, addresses, event)

    def wait(self, task: Task, timeout_s: float | None = None) -> int:
        """Waits until a task is done.

        Args:
            task: What load or dump returned.
            timeout_s: Seconds; the store's `timeout_s` when absent.

        Returns:
            0, as documented.

        Raises:
            Timeout: The time passed.
            UcmError: The first cause of a failure, with `failed_rows`.
        """
        _check_task(task)
        task.wait(self._timeout_s if timeout_s is None else timeout_s)
        return 0

    def check(self, task: Task) -> bool:
        """Whether a task is done; `wait` says whether it succeeded."""
        _check_task(task)
        return task.done

    # --- keeping ---

    def create(self, ids: Sequence[bytes]) -> None:
        """Begins blocks by hand: what is dumped for them is kept aside until `commit`.

        Blocks that are stored already stay as they are.
        """
        keys = _pack(ids)
        stored = self._ask("lookup", keys)
        self._held.create(key for key, here in zip(unpack(keys), stored, strict=True) if not here)

    def commit(self, ids: Sequence[bytes], ok: bool | Sequence[bool] = True) -> None:
        """Ends what `create` began, or removes blocks.

        Args:
            ids: n block identifiers.
            ok: For each block: True stores what was dumped since `create` and returns when it is
                visible (nothing is left to do without `create`); False forgets what was dumped
                since `create`, and without `create` removes the block.

        Raises:
            InvalidArgument: Not one answer per block, or a shard was never dumped.
            UcmError: The blocks could not be stored; they are gone.
        """
        keys = unpack(_pack(ids))
        answers = [ok] * len(keys) if isinstance(ok, bool | np.bool_) else _answers(ok)
        if len(answers) != len(keys):
            raise InvalidArgument(
                f"{len(keys)} blocks need {len(keys)} answers, not {len(answers)}"
            )
        kept = [key for key, answer in zip(keys, answers, strict=True) if answer]
        if self._held.blocks:
            sizes = self._sizes
            blocks = self._held.take(kept, sizes.shards if sizes else 1)
            if blocks and sizes:
                packed, rows = batch_of(blocks, sizes)
                self._submit("dump", packed, rows, 0).wait()
        dropped = [key for key, answer in zip(keys, answers, strict=True) if not answer]
        # Nothing of a begun block has reached a stage: what is there was stored by others.
        stored = [key for key in dropped if not self._held.drop([key])]
        if stored:
            self._remove(b"".join(stored))

    def renew(self, ids: Sequence[bytes]) -> None:
        """Says which blocks are one chain, after it was dumped and loaded in several batches.

        From then on its tail is evicted before its head, without which the tail can not be reached.
        It is a hint and no further use. Posix leaves the order of its blocks alone.

        Args:
            ids: n block identifiers, the head of the chain first; absent ones are no error.
        """
        self._ask("renew", _pack(ids))

    def pin(self, ids: Sequence[bytes]) -> list[bool]:
        """Keeps blocks from being evicted until `unpin` or `remove`.

        A pin is a mark and does not count. Each stage pins at most `pin_limit` of its capacity.
        Pins in Cache and Disk end when the store is closed; those in Posix stay with the files.

        Args:
            ids: n block identifiers.

        Returns:
            n answers, in order: whether the block is stored and will stay.

        Raises:
            Unsupported: The store is read-only, or its sizes are not known yet.
        """
        answer: bytes = self._ask("pin", _pack(ids))
        pinned: list[bool] = np.frombuffer(answer, dtype=bool).tolist()
        return pinned

    def unpin(self, ids: Sequence[bytes]) -> None:
        """Lets blocks be evicted again; those that are absent or not pinned are no error."""
        self._ask("unpin", _pack(ids))

    def remove(self, ids: Sequence[bytes]) -> None:
        """Forgets blocks in every stage; those that are absent are no error."""
        keys = _pack(ids)
        self._held.drop(unpack(keys))
        self._remove(keys)

    # --- the rest ---

    @property
    def sizes(self) -> Sizes | None:
        """How a block is cut; None until it is known."""
        return self._sizes

    @property
    def platform(self) -> str:
        """Whose memory this store moves: cpu, or the platform of an accelerator."""
        return self._platform

    @property
    def native(self) -> Any:
        """The native pipeline."""
        return self._native

    def cc_store(self) -> int:
        """Address of the native store, for C++ in this process; valid until `close`.

        Before the sizes of a block are known it answers lookups only.
        """
        return int(self._native.address)

    def metrics(self) -> list[monitor.Sample]:
        """Samples of the native pipeline: (name, kind, labels, value)."""
        return monitor.merged(self._earlier, self._native.metrics())

    def stats(self) -> dict[str, float]:
        """Figures by name: `hit_rate`, `load_speed`, `save_speed` (bytes/s), and all metrics."""
        return monitor.figures(self.lookups.sample(), self.metrics())

    get_stats = stats

    def close(self) -> None:
        """Ends what is under way and lets go of threads, files and memory. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            monitor.retire(self)
            self._native.close()
            self._pending.clear()

    def __del__(self) -> None:
        # Tensors that this object keeps alive may still be moved: first that ends.
        native = getattr(self, "_native", None)
        if native is not None:
            native.close()

    def __reduce__(self) -> Any:
        raise TypeError("a store can not be copied or pickled: open another one")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = f" {self.config.unique_id}" if self.config.unique_id else ""
        return f"<ucm.Store{name} {self._spec} {self._sizes or 'sizes not known yet'}>"

    # --- inside ---

    def _leave_behind(self) -> None:
        self._native = LeftBehind(self._native)
        self._closed = True
        self._lock = threading.Lock()  # another thread of the parent may have held it

    def _open(self, sizes: Sizes | None) -> Any:
        from ucm import _core

        options = self.config.core_options(rank=self._rank)
        if sizes is not None:
            self._platform, self._device = choose_platform(self.config)
            options.update(platform=self._platform, device_id=self._device)
        pieces, shards = (list(sizes.pieces), sizes.shards) if sizes else ([], 1)
        try:
            return _core.Pipeline(
                self._spec, options, pieces, shards, self._layout_id, read_only=self._read_only
            )
        except NotFound as error:  # a folder, not a block
            raise IoError(error.message) from None

    def _ask(self, name: str, *args: Any) -> Any:
        if self._sizes is None:
            with self._lock:  # the pipeline is replaced under this lock when sizes become known
                return getattr(self._native, name)(*args)
        return getattr(self._native, name)(*args)

    def _remove(self, keys: bytes) -> None:
        try:
            self._ask("remove", keys)
            return
        except Unsupported:
            if self._read_only or self._lookup_only:
                raise
        with self._lock:  # the first transfer opens the same store for writing
            if self._sizes is None:
                remove_blocks(self._spec, self.config.core_options(rank=self._rank), keys)
            else:
                self._native.remove(keys)

    def _settle(self, sizes: Sizes) -> Sizes:
        """Opens the pipeline for transfers, once."""
        with self._lock:
            if self._sizes is None and not self._closed:
                earlier = monitor.lasting(self._native.metrics())
                self._native.close()
                try:
                    self._native = self._open(sizes)
                except Exception:
                    self._native = self._open(None)
                    raise
                self._earlier = earlier
                self._sizes = sizes
                _LOG.debug("block sizes are known: %s", sizes)
            return self._sizes or sizes

    def _refuse_transfers(self, kind: str, event: Any) -> None:
        """Refuses calls that can not be right, before the first of them decides the sizes."""
        if (type(event) is not int and not isinstance(event, np.integer)) or event < 0:
            raise InvalidArgument(f"event is the handle of an event, or 0, not {event!r}")
        if self._read_only and kind == "dump":
            raise Unsupported("this store was opened read-only; open it for writing to dump")
        if self._lookup_only:
            raise InvalidArgument(
                "device_id is -1: this store answers lookups only; open one with device_id 0 or "
                "more (or without device_id) to load and dump"
            )

    def _move_tensors(
        self, kind: str, ids: Any, shard_index: Any, tensors: Any, event: int
    ) -> Task:
        self._refuse_transfers(kind, event)
        keys = _pack(ids)
        count = len(keys) // KEY_BYTES
        shards = shards_of(count, shard_index)
        table = tensor_table(count, tensors)
        memories = memory_table(table, filled=kind == "load")
        if not count:
            return Task(None, kind, 0, self._timeout_s)
        sizes = self._sizes or self._infer(memories, shards)
        rows = tensor_rows(shards, memories, sizes, self._platform)
        return self._transfer(kind, keys, rows, event, table)

    def _infer(self, memories: Any, shards: int | np.ndarray) -> Sizes:
        """The sizes of the first call's tensors, once nothing about them is to be refused."""
        sizes = infer_sizes(memories, self.config.block_bytes)
        if highest_shard(shards) >= sizes.shards:
            raise InvalidArgument(
                f"shard {highest_shard(shards)} of a block whose size is not known: give the bytes "
                "of a whole block as block_bytes"
            )
        tensor_rows(shards, memories, sizes, choose_platform(self.config)[0])
        return self._settle(sizes)

    def _move_addresses(
        self, kind: str, ids: Any, shard_index: Any, addrs: Any, event: int
    ) -> Task:
        self._refuse_transfers(kind, event)
        keys = _pack(ids)
        count = len(keys) // KEY_BYTES
        sizes = self._sizes
        if sizes is None and self.config.block_bytes is not None:
            sizes = Sizes((self.config.block_bytes,), 1)
        if sizes is None:
            raise InvalidArgument(
                "addresses say nothing about sizes: give layout=([bytes of each piece], shards), "
                "or tensor_size, shard_size and block_bytes in the configuration"
            )
        rows = address_rows(count, shard_index, addrs, sizes)
        if not count:
            return Task(None, kind, 0, self._timeout_s)
        if self._sizes is None and self._settle(sizes) != sizes:  # another thread was first
            rows = address_rows(count, shard_index, addrs, self._sizes or sizes)
        return self._transfer(kind, keys, rows, event, None)

    def _transfer(self, kind: str, keys: bytes, rows: Rows, event: int, table: Any) -> Task:
        if kind == "dump" and self._held.blocks:
            mask = self._held.mask(unpack(keys))
            if mask.any():
                return self._hold(keys, rows, event, table, mask)
        return self._submit(kind, keys, rows, event)

    def _submit(self, kind: str, keys: bytes, rows: Rows, event: int) -> Task:
        mark = None
        if not event and not rows.on_host and self._platform != "cpu":
            mark, event = mark_current_stream(self._platform, self._device)
        move = self._native.dump if kind == "dump" else self._native.load
        native = move(keys, rows.shards, rows.addresses, event, rows.on_host)
        task = Task(native, kind, len(rows.addresses), self._timeout_s, (rows, mark))
        # Keeps the caller's tensors alive when the task is dropped. Each step is atomic: a task
        # that another thread takes out meanwhile is done, or put back by it.
        pending = self._pending
        pending.append(task)
        try:
            while pending:
                oldest = pending.popleft()
                if not oldest.done:
                    pending.appendleft(oldest)
                    break
        except IndexError:  # another thread took the last one
            pass
        return task

    def _hold(self, keys: bytes, rows: Rows, event: int, table: Any, mask: np.ndarray) -> Task:
        """Keeps the created rows aside, and sends the others on their way."""
        if table is None and self._platform != "cpu":
            raise InvalidArgument("after create(), dump takes tensors, not device addresses")
        assert self._sizes is not None
        names = unpack(keys)
        for row in np.flatnonzero(mask):
            data = copy_row(rows, int(row), self._sizes, table[row] if table else None)
            self._held.put(names[row], rows.shard(int(row)), data)
        rest = np.flatnonzero(~mask)
        if not len(rest):
            return Task(None, "dump", len(names), self._timeout_s)
        return self._submit("dump", b"".join(names[row] for row in rest), rows.take(rest), event)


def _leave_all_behind() -> None:
    for store in monitor.open_stores():
        if isinstance(store, Store):
            store._leave_behind()


os.register_at_fork(after_in_child=_leave_all_behind)


def _pack(ids: Any) -> bytes:
    if type(ids) is not list:
        _refuse_look_alikes(ids)
    try:
        return pack(ids)
    except TypeError:
        some = ids if isinstance(ids, Iterable) else ()
        wrong = next((each for each in some if not isinstance(each, bytes)), ids)
        raise InvalidArgument(
            f"a block id is bytes, not {type(wrong).__name__}; encode text with .encode()"
        ) from None


def _refuse_look_alikes(ids: Any) -> None:
    if isinstance(ids, bytes | bytearray | str):
        raise InvalidArgument("block ids are a list of bytes, not one identifier")
    if isinstance(ids, np.ndarray) and ids.dtype.kind == "S":
        raise InvalidArgument(
            f"block ids of dtype {ids.dtype}: numpy drops zeros at the end of bytes; pass a list"
        )


def _answers(ok: Any) -> list[Any]:
    if not isinstance(ok, list | tuple | np.ndarray):
        raise InvalidArgument(f"ok is True, False, or a list of them, not {ok!r}")
    return list(ok)


def _check_task(task: Any) -> None:
    if not isinstance(task, Task):
        raise InvalidArgument(f"a task of load or dump is expected, not {type(task).__name__}")
