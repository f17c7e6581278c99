# SPDX-License-Identifier: Apache-2.0
"""The workers' side: moves the blocks that the scheduler's side planned."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any

from ucm.errors import Cancelled, Corruption, NotFound, Timeout, UcmError
from ucm.integration.common.fallback import Breaker, Fallback, refused
from ucm.integration.vllm import compat
from ucm.integration.vllm.metadata import LoadJob, SaveJob, StepMetadata, WorkerReport
from ucm.integration.vllm.metrics import StageCounts, Tally
from ucm.integration.vllm.rank_store import Mark, RankStore, Transfer
from ucm.integration.vllm.room import SaveRoom
from ucm.integration.vllm.settings import Settings
from ucm.keys import unpack

_STAGES_EVERY_S = 5.0


class WorkerSide:
    """Loads and saves whole blocks of one rank. Called from the worker's one thread.

    Args:
        settings: of the engine.
        rank: of this worker within the engine: tensor x pipeline x context parallel.
    """

    def __init__(self, settings: Settings, rank: int) -> None:
        self.settings = settings
        self.rank = rank
        self.tally = Tally()
        self.store: RankStore | None = None
        breakers = [Breaker(settings.breaker_failures, settings.breaker_delay_s) for _ in range(2)]
        self._load = Fallback("load", breakers[0], self.tally.failure)
        self._dump = Fallback("dump", breakers[1], self.tally.failure)
        self._loads: dict[str, Transfer] = {}
        self._refused_loads: set[str] = set()
        self._saves: list[list[Transfer]] = []
        """Saves under way; the transfers of one entry move shards of the same blocks."""
        self._failed: set[str] = set()
        """Requests that compute on blocks that failed to load inside a step."""
        self._invalid_blocks: set[int] = set()
        self._failed_loads: set[str] = set()
        self._report = WorkerReport()
        self._stages = StageCounts()
        self._stages_at = 0.0

    def register(self, tensors: Mapping[str, Any], num_blocks: int) -> None:
        """Describe the engine's KV tensors and open the store.

        Raises:
            UcmError: the tensors can not be described, or the store can not be opened.
        """
        self.store = RankStore(self.settings, self.rank, tensors, num_blocks)
        self._room = SaveRoom(self.store.slots)
        self._all_shards = range(len(self.store.tables))

    # --- a step ---

    def begin(self, meta: StepMetadata) -> None:
        """A step starts: rewound requests compute again what failed, and others have ended."""
        self._failed.difference_update(meta.rewound)
        for chain in meta.ended if self.store is not None else ():
            with contextlib.suppress(UcmError):
                self.store.renew(chain)

    def start_loads(self, meta: StepMetadata) -> None:
        """Start what is loaded between steps; load what this step needs."""
        for job in meta.loads:
            if job.asynchronous:
                transfer = self._start_load([job], self._all_shards)
                if transfer is not None:
                    self._loads[job.request_id] = transfer
                else:
                    self._refused_loads.add(job.request_id)
        inside = [job for job in meta.loads if not job.asynchronous]
        if inside:
            self._load_inside(inside)

    def _load_inside(self, jobs: list[LoadJob]) -> None:
        transfer = self._start_load(jobs, self._all_shards)
        if transfer is not None:
            transfer.wait(self.settings.timeout_s)
            self._end_load(transfer)

    def wait_for_layer(self, name: str) -> None:
        """Wait until a layer can be used. Whole blocks are there already."""

    def save_layer(self, name: str, meta: StepMetadata) -> None:
        """A layer has been computed. Whole blocks wait for the last one."""

    def save(self, meta: StepMetadata) -> None:
        """Hand the step's full blocks to the store; returns when they may be overwritten."""
        jobs = self._sound(meta.saves)
        if not jobs or self.store is None:
            return
        keys, blocks = self.store.rows(jobs)
        transfer = self._start_save(jobs, keys, blocks, self._all_shards) if keys else None
        if transfer is not None:
            self._saves.append([transfer])
            self._wait_released([transfer])

    # --- what is told to the engine ---

    def finished_loads(self, finished_requests: set[str]) -> set[str]:
        """Requests whose loads between steps have ended, well or not."""
        self._failed -= finished_requests
        for request_id in self._loads.keys() & finished_requests:
            self._loads[request_id].abandon()
        ended, self._refused_loads = self._refused_loads, set()
        for request_id, transfer in list(self._loads.items()):
            transfer.give_up_when_late()
            if transfer.task.done:
                del self._loads[request_id]
                if not transfer.abandoned:
                    self._end_load(transfer)
                elif not isinstance(transfer.error, Cancelled | NoneType):
                    self._note_load(transfer.error)
                ended.add(request_id)
        self._end_saves()
        return ended

    def take_invalid_blocks(self) -> set[int]:
        """vLLM's ids of blocks that failed to load since the last call."""
        blocks, self._invalid_blocks = self._invalid_blocks, set()
        return blocks

    def take_failed_loads(self) -> set[str]:
        """Requests whose load failed, where block ids would be ambiguous."""
        failed, self._failed_loads = self._failed_loads, set()
        return failed

    def take_report(self) -> WorkerReport | None:
        """What happened since the last call; None when there is nothing to tell."""
        if not self._report:
            return None
        report, self._report = self._report, WorkerReport()
        return report

    def take_counts(self) -> dict[str, Any]:
        """Counts since the last call; those of the stages every few seconds."""
        data = self.tally.take()
        now = time.monotonic()
        if self.store is not None and now >= self._stages_at:
            self._stages_at = now + _STAGES_EVERY_S
            gained = self._stages.gained(self.store.metrics())
            if gained:
                data["stages"] = gained
        return data

    def close(self) -> None:
        """End what is under way and close the store. Idempotent."""
        store, self.store = self.store, None
        if store is None:
            return
        for transfer in self._loads.values():
            transfer.cancel()
        for transfer in (each for group in self._saves for each in group):
            transfer.wait(max(0.0, transfer.deadline - time.monotonic()))
        store.close()

    # --- loading ---

    def _start_load(
        self, jobs: Sequence[LoadJob], shards: Sequence[int], after: Mark | None = None
    ) -> Transfer | None:
        """Start a load; when that can not be done, all its blocks count as failed."""
        error: Exception = refused("a load")
        if self.store is not None and self._load.allows():
            try:
                return self.store.start("load", jobs, *self.store.rows(jobs), shards, after)
            except Exception as cause:  # counted; the engine computes instead
                self._note_load(cause)
                error = cause
        else:
            self._report.bad_loads += 1
        for job in jobs:
            self._load_failed(job, range(len(job)), error)
        return None

    def _end_load(self, transfer: Transfer) -> None:
        """Take note of how a load went: it is done, or did not even end when cancelled."""
        error, failed = self._outcome(transfer)
        self._fail_rows(transfer.jobs, failed, error)
        self._count_loaded(transfer.count - len(failed), transfer.started)

    def _outcome(self, transfer: Transfer) -> tuple[Exception | None, set[int]]:
        """The first cause and the numbers of the failed blocks; the breaker hears of it."""
        error, failed = transfer.error, transfer.failed_blocks()
        if not transfer.task.done:
            error = Timeout(f"a load did not end within {2 * self.settings.timeout_s} s")
            failed = set(range(transfer.count))
        self._note_load(error)
        return error, failed

    def _note_load(self, error: BaseException | None) -> None:
        """The breaker here, and the scheduler with its own, hear how a load went."""
        if error is None:
            self._load.succeeded()
            self._report.good_loads += 1
        elif self._load.note(error):
            self._report.bad_loads += 1

    def _fail_rows(
        self, jobs: Sequence[LoadJob], failed: set[int], error: Exception | None
    ) -> None:
        """Spread failed rows of a batch over the jobs that it was made of."""
        first = 0
        for job in jobs:
            mine = sorted(row - first for row in failed if first <= row < first + len(job))
            if mine:
                self._load_failed(job, mine, error)
            first += len(job)

    def _count_loaded(self, blocks: int, started: float) -> None:
        self.tally.add("loaded_blocks", blocks)
        self.tally.add("loaded_bytes", blocks * self._block_bytes)
        self.tally.observe("load_seconds", time.monotonic() - started)

    def _load_failed(self, job: LoadJob, rows: Iterable[int], error: Exception | None) -> None:
        """These blocks of a job are not in the engine's memory: they must be computed."""
        rows = list(rows)
        if rows and not compat.CAN_REPORT_LOAD_ERRORS:
            # This vLLM can not take a load back: an error is the only way not to answer wrongly.
            raise error or Corruption(f"blocks of request {job.request_id} could not be loaded")
        self.tally.add("recomputed_blocks", len(rows))
        if self.settings.groups > 1:
            self._failed_loads.add(job.request_id)
        else:
            self._invalid_blocks.update(int(job.blocks[row, 0]) for row in rows)
        if not job.asynchronous:
            self._failed.add(job.request_id)
        if isinstance(error, (NotFound, Corruption)):
            keys = unpack(job.keys)
            self._report.lost.update(keys[row] for row in rows)

    # --- saving ---

    def _sound(self, jobs: Sequence[SaveJob]) -> list[SaveJob]:
        """Jobs whose blocks were not computed from KV that failed to load."""
        sound = []
        for job in jobs:
            if job.request_id in self._failed or not self._failed.isdisjoint(job.leans_on):
                self._failed.add(job.request_id)
                self.tally.add("unsaved_blocks", len(job))
            else:
                sound.append(job)
        return sound

    def _start_save(
        self, jobs: Sequence[SaveJob], keys: bytes, blocks: Any, shards: Sequence[int]
    ) -> Transfer | None:
        """Start a save; None when the blocks are left out, which is counted."""
        count = len(blocks)
        if self.store is not None and self._dump.allows():
            if not self._room.wait_for(count, self._under_way):
                self.tally.failure("dump", "busy")
            else:
                try:
                    return self.store.start("dump", jobs, keys, blocks, shards)
                except Exception as error:  # counted; the blocks stay unsaved
                    self._dump.note(error)
        self.tally.add("unsaved_blocks", count)
        return None

    def _under_way(self) -> list[tuple[Any, int]]:
        self._end_saves()
        return [(group[-1].task, group[-1].count) for group in self._saves]

    def _wait_released(self, transfers: Sequence[Transfer]) -> None:
        """Wait until the engine's blocks have been copied."""
        started = time.monotonic()
        for transfer in transfers:
            try:
                transfer.task.wait_released(max(0.0, transfer.deadline - time.monotonic()))
            except Timeout:
                # The engine reuses its blocks now: what is copied from here on would be wrong.
                transfer.cancel()
                transfer.wait(self.settings.timeout_s)
                self._discard(transfer.keys)
            except UcmError:
                pass  # taken note of when it is done
        elapsed = time.monotonic() - started
        self._room.spent(elapsed)
        self.tally.observe("save_stall_seconds", elapsed)

    def _discard(self, keys: bytes) -> None:
        if self.store is not None and keys:
            with contextlib.suppress(UcmError):
                self.store.abandon(keys)

    def _end_saves(self) -> None:
        """Take note of the saves that are done."""
        under_way = []
        for group in self._saves:
            for transfer in group:
                transfer.give_up_when_late()
            if all(transfer.task.done for transfer in group):
                self._end_save(group)
            else:
                under_way.append(group)
        self._saves = under_way

    def _end_save(self, group: list[Transfer]) -> None:
        error = next((each.error for each in group if each.error is not None), None)
        if error is None:
            self._dump.succeeded()
        else:
            self._dump.note(error)
        failed: set[bytes] = set()
        for transfer in group:
            if bad := transfer.failed_blocks():
                keys = unpack(transfer.keys)
                failed.update(keys[row] for row in bad)
        self._count_saved(unpack(group[-1].keys), failed)

    def _count_saved(self, keys: list[bytes], failed: set[bytes]) -> None:
        saved = [key for key in keys if key not in failed]
        self.tally.add("saved_blocks", len(saved))
        self.tally.add("saved_bytes", len(saved) * self._block_bytes)
        self.tally.add("unsaved_blocks", len(keys) - len(saved))
        if self.settings.events and self.store is not None:
            for key in unpack(self.store.plain_keys(b"".join(saved))):
                self._report.stored[key] = 1

    @property
    def _block_bytes(self) -> int:
        return self.store.block_bytes if self.store is not None else 0
