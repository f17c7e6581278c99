# SPDX-License-Identifier: Apache-2.0
"""`ucm bench store`: one case after another, each beside its baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

from ucm.cli.bench_baseline import (
    Baseline,
    BlockFileBaseline,
    CopyBaseline,
    SlotFileBaseline,
    drop_page_cache,
)
from ucm.cli.bench_blocks import Blocks
from ucm.cli.bench_figures import Pass, figures, timed
from ucm.cli.output import Meter
from ucm.cli.params import bytes_text
from ucm.config import load_config
from ucm.config.pipelines import parse_pipeline
from ucm.store.store import Store

_TIMEOUT_S = 300.0
_SPARE_SLOTS = 8
ACTIONS = ("put", "warm get", "cold get")


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the plan.

    Args:
        pipeline: As in the configuration.
        size: Bytes of a block.
        batch: Blocks per call.
        count: Blocks per round.
        rounds: Counted rounds; one more runs first and is not counted.
        threads: Threads that copy, and threads that read and write files.
        direct: O_DIRECT, for ucm and for the baseline.
        folder: Where files go.
    """

    pipeline: str
    size: int
    batch: int
    count: int
    rounds: int
    threads: int
    direct: bool
    folder: Path

    @property
    def stages(self) -> tuple[str, ...]:
        return parse_pipeline(self.pipeline).stages

    @property
    def on_disk(self) -> bool:
        return "Disk" in self.stages or "Posix" in self.stages

    @property
    def actions(self) -> tuple[str, ...]:
        """What this pipeline can do: warm needs a Cache, cold a disk."""
        warm, cold = self.stages[0] == "Cache", self.on_disk
        return tuple(name for name, there in zip(ACTIONS, (True, warm, cold), strict=True) if there)

    @property
    def steps(self) -> int:
        """Passes it takes, for the progress bar."""
        return 2 * len(self.actions) * (self.rounds + 1)

    def __str__(self) -> str:
        return f"{self.pipeline} {bytes_text(self.size)} x{self.batch}"


class _Subject:
    """The store of a case, opened and closed as the rounds need it."""

    def __init__(self, case: Case, blocks: Blocks) -> None:
        self._case = case
        self.blocks = blocks
        self._source = blocks.addresses(blocks.source)
        self._target = blocks.addresses(blocks.target)
        self._shards = np.zeros(blocks.count, dtype=np.uint32)
        self.store = self._open()

    def _open(self) -> Store:
        case = self._case
        # No slot is ever wanting: a full Cache is a question of hit rates, not of speed.
        config: dict[str, Any] = {
            "store_pipeline": case.pipeline,
            "buffer_number": case.count + case.batch + _SPARE_SLOTS,
            "copy_threads": case.threads,
            "prefault": True,
            "timeout_s": _TIMEOUT_S,
        }
        if case.on_disk:
            config.update(
                storage_backends=str(case.folder / "store"),
                io_direct=case.direct,
                io_threads=case.threads,
                capacity_bytes=4 * case.count * (case.size + 8192),
                segment_bytes=max(64 << 20, 4 * case.size),
            )
        return Store(load_config(config, environ={}).store, layout=([case.size], 1))

    def reopen(self) -> None:
        """The same store without anything in memory."""
        self.close()
        drop_page_cache(self._case.folder)
        self.store = self._open()

    def put(self, batch: range) -> None:
        self._move(self.store.dump_data, self._source, batch)

    def get(self, batch: range) -> None:
        self._move(self.store.load_data, self._target, batch)

    def _move(self, call: Callable[..., Any], addresses: np.ndarray, batch: range) -> None:
        rows = slice(batch.start, batch.stop)
        call(self.blocks.keys[rows], self._shards[rows], addresses[rows]).wait(_TIMEOUT_S)

    def forget(self) -> None:
        self.store.remove(self.blocks.keys)

    def close(self) -> None:
        self.store.close()


def baselines(case: Case, blocks: Blocks) -> tuple[Baseline, Baseline]:
    """What put and cold get are compared to, and what warm get is."""
    copies = CopyBaseline(blocks, case.threads)
    if not case.on_disk:
        return copies, copies
    folder = case.folder / "baseline"
    folder.mkdir()
    stage = case.stages[-1] if case.stages[-1] in ("Disk", "Posix") else case.stages[0]
    kind = SlotFileBaseline if stage == "Disk" else BlockFileBaseline
    return kind(blocks, case.threads, folder, case.direct), copies


def run_case(case: Case, bar: Meter) -> list[dict[str, Any]]:
    """Runs one case.

    Returns:
        The figures of each action.

    Raises:
        click.ClickException: A load brought other bytes than were put.
    """
    bar.label(str(case))
    blocks = Blocks(case.count, case.size)
    with ExitStack() as stack:
        files, copies = (stack.enter_context(each) for each in baselines(case, blocks))
        subject = _Subject(case, blocks)
        stack.callback(lambda: subject.close())
        ours: dict[str, list[Pass]] = {name: [] for name in case.actions}
        theirs: dict[str, list[Pass]] = {name: [] for name in case.actions}
        for number in range(case.rounds + 1):
            blocks.next_round()
            for name in case.actions:
                baseline = copies if name == "warm get" else files
                pair = _pair(case, name, subject, baseline, bar, first=number % 2 == 0)
                if number:
                    ours[name].append(pair[0])
                    theirs[name].append(pair[1])
            subject.forget()
            files.end_round()
    return [
        {
            "pipeline": case.pipeline,
            "size": case.size,
            "batch": case.batch,
            "count": case.count,
            "action": name,
            "direct": case.on_disk and case.direct,
            **figures(ours[name], theirs[name], _name(name, files, copies)),
        }
        for name in case.actions
    ]


def _name(action: str, files: Baseline, copies: Baseline) -> str:
    baseline = copies if action == "warm get" else files
    return baseline.named(baseline.put_name if action == "put" else baseline.get_name)


def _pair(
    case: Case, action: str, subject: _Subject, baseline: Baseline, bar: Meter, *, first: bool
) -> tuple[Pass, Pass]:
    """One pass of ucm and one of the baseline; who begins alternates."""
    found: dict[str, Pass] = {}
    for who in ("ucm", "baseline") if first else ("baseline", "ucm"):
        found[who] = (
            _pass(case, action, subject, subject, f"{case}: {action}")
            if who == "ucm"
            else _pass(case, action, baseline, subject, f"the baseline of {case}")
        )
        bar.add()
    return found["ucm"], found["baseline"]


def _pass(case: Case, action: str, who: Any, subject: _Subject, label: str) -> Pass:
    blocks = subject.blocks
    batches = blocks.batches(case.batch)
    if action == "put":
        return timed(who.put, batches, case.size)
    if action == "warm get" and isinstance(who, Baseline):
        for batch in batches:
            who.put(batch)
    if action == "cold get":
        if who is subject:
            subject.reopen()
        else:
            drop_page_cache(case.folder / "baseline")
    blocks.forget()
    result = timed(who.get, batches, case.size)
    wrong = blocks.wrong()
    if wrong:
        raise click.ClickException(
            f"{label} brought {wrong} of {blocks.count} blocks back with other bytes"
        )
    return result
