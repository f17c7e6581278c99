# SPDX-License-Identifier: Apache-2.0
"""`ucm replay`: the hit rate that a trace of requests would have seen."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ucm.cli.out_files import PICTURE, label_sizes, written
from ucm.cli.output import Meter, console, meter, table, write_json
from ucm.cli.params import COUNT, SIZE, bytes_text, count_text, json_option
from ucm.errors import Corruption, NotFound
from ucm.keys import KEY_BYTES

POLICIES = ("lru", "arc", "lru2", "s3fifo", "auto")
PIPELINES = ("Fake", "Cache", "Disk", "Cache|Disk")
_SHARES = ("1%", "2%", "5%", "10%", "20%", "40%")
_ALL = "all"
_PAGE = 4096
_STAGING_BYTES = 64 << 20
_TIMEOUT_S = 300.0
_REPORT_EVERY = 64
_STEP_BLOCKS = 16
"""Blocks that a step of an engine completes: 8,192 tokens in blocks of 512."""


@dataclass(frozen=True)
class Trace:
    """Requests in order of time: the numbers of their blocks, and the key of each number."""

    requests: list[np.ndarray]
    keys: np.ndarray

    @property
    def unique(self) -> int:
        return len(self.keys)

    @property
    def blocks(self) -> int:
        return sum(map(len, self.requests))


@dataclass(frozen=True)
class Case:
    """One store to replay through."""

    pipeline: str
    policy: str
    capacity: int
    block_bytes: int
    folder: Path | None


class CapacityType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Blocks: 5000, 10k; or a share of the unique blocks: 5%, 0.05; or `all` of them."""

    name = "capacity"

    def convert(self, value: Any, param: Any, ctx: Any) -> Callable[[int], int]:
        if callable(value):
            ready: Callable[[int], int] = value
            return ready
        text = str(value).strip()
        if text == _ALL:
            return lambda unique: unique
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = 0.0
        if 0 < share <= 1 and (text.endswith("%") or "." in text):
            return lambda unique: max(1, int(unique * share))
        blocks = COUNT.convert(text, param, ctx)
        return lambda unique: blocks


def read_trace(path: Path, limit: int | None) -> Trace:
    """Reads JSON lines with `timestamp` and `hash_ids`.

    Args:
        path: The file.
        limit: How many of the first requests to keep, None for all.

    Raises:
        click.ClickException: A line is no request, or there is none.
    """
    found: list[tuple[float, list[int]]] = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                found.append(_request(json.loads(line)))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                raise click.ClickException(
                    f"{path}, line {number}: no request with `timestamp` and `hash_ids` "
                    f"({type(error).__name__}: {error})"
                ) from error
    found.sort(key=lambda each: each[0])
    chosen = [ids for _, ids in found[:limit] if ids]
    if not chosen:
        raise click.ClickException(f"{path}: no request with blocks")
    numbers: dict[int, int] = {}
    requests = [
        np.fromiter((numbers.setdefault(each, len(numbers)) for each in ids), np.int64, len(ids))
        for ids in chosen
    ]
    digests = b"".join(
        hashlib.blake2b(str(each).encode(), digest_size=KEY_BYTES).digest() for each in numbers
    )
    return Trace(requests, np.frombuffer(digests, dtype=np.uint8).reshape(-1, KEY_BYTES))


def _request(request: Any) -> tuple[float, list[int]]:
    time, ids = float(request["timestamp"]), request["hash_ids"]
    if not math.isfinite(time):
        raise ValueError(f"timestamp {time}")
    if not isinstance(ids, list) or any(type(each) is not int for each in ids):
        raise ValueError("hash_ids: a list of whole numbers is expected")
    return time, ids


class Memory:
    """The engine's memory: a few blocks, whose first bytes are the key when they are written."""

    def __init__(self, case: Case, most: int) -> None:
        from ucm.cli.bench_blocks import aligned

        self.real = case.pipeline != "Fake"
        self.rows = most
        if self.real:
            self.rows = max(1, min(most, _STAGING_BYTES // case.block_bytes))
        self.blocks = aligned(self.rows if self.real else 1, case.block_bytes)
        steps = np.arange(self.rows, dtype=np.uint64) * np.uint64(case.block_bytes)
        start = np.uint64(self.blocks.ctypes.data)
        self.addresses = (start + steps * np.uint64(self.real)).reshape(-1, 1)
        self.shards = np.zeros(self.rows, dtype=np.uint32)

    def spans(self, count: int, most: int | None = None) -> Iterator[slice]:
        """Rows 0..count in batches that fit, of ``most`` rows at most."""
        rows = min(self.rows, most or self.rows)
        for start in range(0, count, rows):
            yield slice(start, min(start + rows, count))


@contextmanager
def opened(case: Case, memory: Memory) -> Iterator[Any]:
    """The store of a case; its folder is gone afterwards."""
    from ucm.config import load_config
    from ucm.store.store import Store

    config: dict[str, Any] = {
        "store_pipeline": case.pipeline,
        "eviction_policy": case.policy,
        "timeout_s": _TIMEOUT_S,
    }
    with tempfile.TemporaryDirectory(prefix="ucm-replay-", dir=case.folder) as folder:
        if "Disk" in case.pipeline:
            config.update(
                storage_backends=folder,
                capacity_bytes=case.capacity * case.block_bytes,
                eviction_high=1.0,
                eviction_low=0.99,
                buffer_number=2 * memory.rows,
            )
        else:
            config["buffer_number"] = case.capacity
        layout = ([case.block_bytes], 1)
        with Store(load_config(config, environ={}).store, layout=layout) as store:
            yield store


def replay(trace: Trace, case: Case, bar: Meter) -> dict[str, Any]:
    """Runs all requests through a store of its own.

    Each looks up its longest stored prefix, loads it, dumps what comes after it in as many batches
    as an engine's steps, and renews the whole at its end, as the vLLM connector does.

    Returns:
        The case with `hits`, `hit_rate` (0..1) and `seconds`.

    Raises:
        click.ClickException: A load brought the bytes of another block.
    """
    memory = Memory(case, max(map(len, trace.requests)))
    begin = time.perf_counter()
    hits = 0
    with opened(case, memory) as store:
        for number, blocks in enumerate(trace.requests, 1):
            keys = trace.keys[blocks]
            found = store.native.lookup_prefix(keys.tobytes())
            present = _load(store.native, memory, keys[:found])
            _dump(store.native, memory, keys[present:])
            store.native.renew(keys.tobytes())
            hits += present
            if number % _REPORT_EVERY == 0:
                bar.add(_REPORT_EVERY)
    bar.add(len(trace.requests) % _REPORT_EVERY)
    return {
        "policy": case.policy,
        "capacity": case.capacity,
        "share": case.capacity / trace.unique,
        "hits": hits,
        "hit_rate": hits / trace.blocks,
        "seconds": time.perf_counter() - begin,
    }


def _load(native: Any, memory: Memory, keys: np.ndarray) -> int:
    """How many of the first keys could be loaded: one may have left since it was looked up."""
    count = len(keys)
    for span in memory.spans(len(keys)):
        rows = span.stop - span.start
        task = native.load(keys[span].tobytes(), memory.shards[:rows], memory.addresses[:rows])
        try:
            task.wait(_TIMEOUT_S)
        except (NotFound, Corruption):
            count = span.start + min(task.failed_rows)
            rows = min(task.failed_rows)
        if memory.real and not np.array_equal(
            memory.blocks[:rows, :KEY_BYTES], keys[span.start : span.start + rows]
        ):
            raise click.ClickException("a load brought the bytes of another block")
        if count < span.stop:
            break
    return count


def _dump(native: Any, memory: Memory, keys: np.ndarray) -> None:
    for span in memory.spans(len(keys), _STEP_BLOCKS):
        rows = span.stop - span.start
        if memory.real:
            memory.blocks[:rows, :KEY_BYTES] = keys[span]
        native.dump(keys[span].tobytes(), memory.shards[:rows], memory.addresses[:rows]).wait(
            _TIMEOUT_S
        )


def show(report: dict[str, Any]) -> None:
    """One row per capacity, one column per policy."""
    policies = list(dict.fromkeys(each["policy"] for each in report["results"]))
    out = console()
    out.print(
        f"{report['trace']}: {count_text(report['requests'])} requests, "
        f"{count_text(report['blocks'])} blocks, {count_text(report['unique_blocks'])} unique"
    )
    out.print(f"Hit rate of {report['pipeline']}; without a limit {report['unlimited']:.4f}")
    shown = table(
        None, [("blocks", "right"), ("share", "right"), *((each, "right") for each in policies)]
    )
    for capacity in dict.fromkeys(each["capacity"] for each in report["results"]):
        row = [each for each in report["results"] if each["capacity"] == capacity]
        rates = [f"{each['hit_rate']:.4f}" for each in row]
        shown.add_row(count_text(capacity), f"{100 * row[0]['share']:.1f} %", *rates)
    out.print(shown)


def import_pyplot() -> Any:
    """matplotlib, drawing into files."""
    try:
        import matplotlib
    except ImportError as error:
        raise click.ClickException(
            "--plot needs matplotlib, which is not installed: pip install matplotlib"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot(pyplot: Any, report: dict[str, Any], path: Path) -> None:
    """Draws the hit rate by capacity, one line per policy."""
    figure, axes = pyplot.subplots(figsize=(8, 5))
    marks = itertools.cycle("osv^x")  # equal lines lie on each other
    for policy in dict.fromkeys(each["policy"] for each in report["results"]):
        points = sorted(
            (each["capacity"], 100 * each["hit_rate"])
            for each in report["results"]
            if each["policy"] == policy
        )
        mark = next(marks)
        axes.plot(
            *zip(*points, strict=True),
            marker=mark,
            fillstyle="none",
            linestyle="--" if policy == "auto" else "-",
            label=policy,
        )
    axes.axhline(100 * report["unlimited"], color="grey", linestyle=":", label="no limit")
    label_sizes(axes, [each["capacity"] for each in report["results"]], count_text)
    axes.set(xlabel="capacity (blocks)", ylabel="hit rate (%)", ylim=(0, None))
    axes.set_title(f"{report['trace']} through {report['pipeline']}")
    axes.grid(alpha=0.3)
    axes.legend()
    with written(path) as file:
        kind = path.suffix.lstrip(".").lower()
        figure.savefig(file, format=kind, dpi=150, bbox_inches="tight")
    pyplot.close(figure)


@click.command(
    name="replay",
    epilog="Example: ucm replay trace.jsonl --capacity 5% --capacity 10k --policy lru",
)
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--capacity",
    "capacities",
    type=CapacityType(),
    multiple=True,
    show_default=", ".join(_SHARES),
    help="Blocks (5000, 10k), a share of the unique blocks (5%, 0.05), or all. May be given "
    "several times.",
)
@click.option(
    "--policy",
    "policies",
    type=click.Choice(POLICIES),
    multiple=True,
    show_default="each of them",
    help="Which block leaves first. May be given several times.",
)
@click.option(
    "--pipeline",
    type=click.Choice(PIPELINES),
    metavar="PIPELINE",
    default="Fake",
    show_default=True,
    help="Fake, which keeps no bytes; or Cache, Disk or 'Cache|Disk', which store real blocks. The "
    "last stage has the capacity.",
)
@click.option(
    "--block-bytes", type=SIZE, default="64KiB", show_default=True, help="Bytes of a real block."
)
@click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Where Disk keeps the blocks of a run: on the disk to use.  [default: the system's "
    "directory for temporary files]",
)
@click.option("--requests", type=COUNT, help="Only so many of the first requests.")
@click.option(
    "--plot",
    "image",
    type=PICTURE,
    help="Draw the hit rates into this file (.png, .svg, .pdf).",
)
@json_option()
def replay_command(
    trace: Path,
    capacities: tuple[Callable[[int], int], ...],
    policies: tuple[str, ...],
    pipeline: str,
    block_bytes: int,
    path: Path | None,
    requests: int | None,
    image: Path | None,
    as_json: bool,
) -> None:
    """The hit rate of a trace by capacity and policy.

    TRACE has one JSON object a line: `timestamp` (ms) and `hash_ids`, the numbers of the request's
    blocks from the first; equal numbers mean an equal prefix up to there. A request hits its
    longest stored prefix; what comes after it is stored.
    """
    if block_bytes % _PAGE and pipeline != "Fake":
        raise click.UsageError(f"--block-bytes {block_bytes}: a multiple of {_PAGE} is expected")
    pyplot = import_pyplot() if image else None
    read = read_trace(trace, requests)
    convert = CapacityType().convert
    wanted = capacities or tuple(convert(each, None, None) for each in _SHARES)
    sizes = sorted({each(read.unique) for each in wanted})
    cases = [
        Case(pipeline, policy, size, block_bytes, path)
        for size in sizes
        for policy in dict.fromkeys(policies or POLICIES)
    ]
    steps = (len(cases) + 1) * len(read.requests)
    with meter("replay", steps, quiet=as_json) as bar:
        bar.label("no limit")
        unlimited = replay(read, Case("Fake", "lru", read.unique, _PAGE, None), bar)
        results = []
        for case in cases:
            bar.label(f"{case.policy}, {count_text(case.capacity)} blocks")
            results.append(replay(read, case, bar))
    name = (
        pipeline if pipeline == "Fake" else f"{pipeline} with blocks of {bytes_text(block_bytes)}"
    )
    report = {
        "trace": trace.name,
        "pipeline": name,
        "requests": len(read.requests),
        "blocks": read.blocks,
        "unique_blocks": read.unique,
        "unlimited": unlimited["hit_rate"],
        "results": results,
    }
    if image:
        plot(pyplot, report, image)
    write_json(report) if as_json else show(report)
