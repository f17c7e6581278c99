# SPDX-License-Identifier: Apache-2.0
"""The workers' side, layer by layer: loads run ahead of the forward pass, saves follow it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ucm.integration.vllm.metadata import LoadJob, SaveJob, StepMetadata
from ucm.integration.vllm.rank_store import Mark, Transfer
from ucm.integration.vllm.worker import WorkerSide
from ucm.keys import KEY_BYTES

_AHEAD = 4
"""Shards whose loads are under way while a layer computes."""


class LayerwiseSide(WorkerSide):
    """Moves the shards of a step's blocks as the forward pass comes to them.

    On an accelerator the engine's stream waits for the loads; the host only waits for blocks that
    are not in its memory yet, and learns at the end of the step how they went.

    A block is visible in the store when its last shard has arrived. All loads of a step have ended
    before its last shard is sent, so a block that was computed from KV that failed to load is
    never complete; what was sent of it is removed.
    """

    def begin(self, meta: StepMetadata) -> None:
        """A step starts."""
        super().begin(meta)
        self._inside: Sequence[LoadJob] = ()
        self._loading: dict[int, Transfer] = {}
        self._ordered: list[Transfer] = []
        """Loads that the engine's stream waits for."""
        self._before: Mark | None = None
        self._next_load = 0
        self._load_began = 0.0
        self._bad_rows: set[int] = set()
        self._sent: list[Transfer] = []
        self._next_save = 0
        self._left_out = False

    # --- loading ---

    def _load_inside(self, jobs: list[LoadJob]) -> None:
        if len(self._all_shards) == 1:
            super()._load_inside(jobs)
            return
        self._inside = jobs
        self._load_began = time.monotonic()
        if self.store is not None:
            # The blocks are nobody's now: no load has to wait for what this step computes.
            self._before = self.store.mark()
        self._load_until(_AHEAD)

    def _load_until(self, end: int) -> None:
        """Start the loads of all shards before ``end``."""
        while self._inside and self._next_load < min(end, len(self._all_shards)):
            transfer = self._start_load(self._inside, [self._next_load], self._before)
            if transfer is None:
                self._inside = ()  # every block of it counts as failed now
                return
            self._loading[self._next_load] = transfer
            self._next_load += 1

    def wait_for_layer(self, name: str) -> None:
        """What the engine does next finds a layer; the loads of layers further on go on."""
        shard = self._shard_of(name)
        if shard is not None and (self._inside or self._loading):
            self._wait_until(shard + 1)

    def _wait_until(self, end: int) -> None:
        """The engine, or else the host, waits for the loads of all shards before ``end``."""
        self._load_until(end + _AHEAD)
        for shard in [shard for shard in self._loading if shard < end]:
            transfer = self._loading.pop(shard)
            if self.store is not None and self.store.order(transfer):
                self._ordered.append(transfer)
            else:
                self._end_shard(transfer)
        if end >= len(self._all_shards) and not self._ordered:
            self._end_inside()

    def _end_shard(self, transfer: Transfer) -> None:
        """Wait until a load is done, and take note of how it went."""
        transfer.wait(self.settings.timeout_s)
        if self._bad_rows:  # one failure is counted once, not once per layer
            error, failed = transfer.error, transfer.failed_blocks()
        else:
            error, failed = self._outcome(transfer)
        self._fail_rows(transfer.jobs, failed - self._bad_rows, error)
        self._bad_rows |= failed

    def _end_inside(self) -> None:
        """Wait for the loads that the engine's stream waits for; all of the step have begun."""
        ordered, self._ordered = self._ordered, []
        for transfer in ordered:
            self._end_shard(transfer)
        if self._inside:
            rows = sum(len(job) for job in self._inside)
            self._count_loaded(rows - len(self._bad_rows), self._load_began)
            self._inside = ()

    def _end_loads(self) -> None:
        """Return when all loads of the step have ended."""
        if self._inside or self._loading:
            self._wait_until(len(self._all_shards))
        self._end_inside()

    # --- saving ---

    def save_layer(self, name: str, meta: StepMetadata) -> None:
        """A layer has been computed: its shard can go, unless other layers belong to it too."""
        shard = self._shard_of(name)
        if shard is not None and meta.saves and self.store is not None:
            self._send_until(shard + (name in self.store.sole_layers), meta)

    def _send_until(self, end: int, meta: StepMetadata) -> None:
        """Send all shards before ``end`` of blocks that are sound."""
        if self._next_save >= end or self._left_out or self.store is None:
            return
        shards = range(self._next_save, end)
        if end == len(self._all_shards):
            self._end_loads()
        jobs = self._sound_so_far(meta.saves)
        keys, blocks = self.store.rows(jobs)
        if not keys:
            self._left_out = True
            return
        transfer = self._start_save(jobs, keys, blocks, shards)
        if transfer is None:
            self._left_out = True  # a block without this shard would never be complete
            return
        self._next_save = end
        self._sent.append(transfer)

    def _sound_so_far(self, jobs: Sequence[SaveJob]) -> list[SaveJob]:
        return [
            job
            for job in jobs
            if job.request_id not in self._failed and self._failed.isdisjoint(job.leans_on)
        ]

    def save(self, meta: StepMetadata) -> None:
        """Send what is left; returns when the engine may overwrite its blocks."""
        last = len(self._all_shards)
        self._end_loads()
        if last == 1:
            super().save(meta)
            return
        if not meta.saves:
            return
        sound = self._sound(meta.saves)
        if sound:
            self._send_until(last, meta)
        sent, self._sent = self._sent, []
        if not sent:
            return
        self._wait_released(sent)
        complete = sent[-1].keys if self._next_save == last and not self._left_out else b""
        partial = _without(sent[0].keys, complete)
        if partial:
            self._discard(partial)
        if complete:
            self._saves.append(sent)

    def _shard_of(self, name: str) -> int | None:
        return None if self.store is None else self.store.shard_of.get(name)


def _without(keys: bytes, complete: bytes) -> bytes:
    """Those of ``keys`` that are not in ``complete``."""
    if keys == complete:
        return b""
    kept: Any = np.frombuffer(keys, dtype="V16")
    done = {complete[at : at + KEY_BYTES] for at in range(0, len(complete), KEY_BYTES)}
    return b"".join(key.tobytes() for key in kept if key.tobytes() not in done)
