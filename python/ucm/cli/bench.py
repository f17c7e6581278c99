# SPDX-License-Identifier: Apache-2.0
"""`ucm bench`: how fast this machine is with ucm, beside named baselines of the same run."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ucm.cli import bench_tables
from ucm.cli.bench_guards import (
    available,
    check_pipeline,
    check_room,
    check_size,
    temporary,
)
from ucm.cli.out_files import OUT_FILE, PICTURE
from ucm.cli.output import meter, note, write_json
from ucm.cli.params import COUNT, SIZE, bytes_text, json_option

_DEFAULT_BYTES = 256 << 20
_MOST_BLOCKS = 1024


@click.group()
@click.pass_context
def bench(ctx: click.Context) -> None:
    """Measure stores, lookups and copies.

    Rounds of ucm and of the baseline alternate; figures are medians, ratios are taken round by
    round. Temporary data is removed, also on Ctrl-C.
    """

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    ctx.call_on_close(lambda: signal.signal(signal.SIGTERM, before))


def _common(rounds: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of every benchmark."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            json_option(),
            click.option(
                "--out",
                type=OUT_FILE,
                help="Write the JSON to this file as well.",
            ),
            click.option(
                "--rounds",
                type=click.IntRange(1),
                default=rounds,
                show_default=True,
                help="Rounds that count; one more warms up.",
            ),
        ):
            command = option(command)
        return command

    return decorate


def _many(
    option: str, name: str, text: str, default: str, kind: Any = str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that may be given several times."""
    text = f"{text} May be given several times."
    return click.option(option, name, type=kind, multiple=True, show_default=default, help=text)


def _path_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--path",
        type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
        default=tempfile.gettempdir,
        show_default="the system's directory for temporary files",
        help="Where temporary data goes: on the disk to measure.",
    )


@bench.command(
    epilog="Example: ucm bench store --pipeline 'Cache|Disk' --size 2MiB --batch 16 --path /data"
)
@_many("--pipeline", "pipelines", "Stages to measure.", "Cache, Cache|Disk, Cache|Posix")
@_many("--size", "sizes", "Bytes per block.", "256KiB, 2MiB", SIZE)
@_many("--batch", "batches", "Blocks per call.", "16", COUNT)
@click.option(
    "--count", type=COUNT, show_default="256 MiB of them, 1024 at most", help="Blocks per round."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=lambda: min(4, len(os.sched_getaffinity(0))),
    show_default="one per processor, 4 at most",
    help="Threads of ucm and of the baseline.",
)
@click.option(
    "--direct/--buffered",
    default=True,
    show_default=True,
    help="O_DIRECT, or through the page cache.",
)
@_path_option()
@_common(rounds=5)
def store(
    pipelines: tuple[str, ...],
    sizes: tuple[int, ...],
    batches: tuple[int, ...],
    count: int | None,
    threads: int,
    direct: bool,
    path: Path,
    rounds: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Put, warm get and cold get of whole pipelines; all bytes are compared."""
    from ucm.cli import check_storage
    from ucm.cli.bench_figures import machine, save
    from ucm.cli.bench_store import Case, run_case

    refused = check_storage.direct_problem(path) if direct else ""
    if refused:
        note(f"note: O_DIRECT in {path}: {refused}; both sides are buffered")
    cases: list[Case] = []
    for pipeline in pipelines or available(("Cache", "Cache|Disk", "Cache|Posix")):
        check_pipeline(pipeline, "Fake")
        for size in sizes or (256 << 10, 2 << 20):
            check_size(size)
            number = count or max(1, min(_MOST_BLOCKS, _DEFAULT_BYTES // size))
            check_room(path, number, size)
            cases += [
                Case(
                    pipeline=pipeline,
                    size=size,
                    batch=min(batch, number),
                    count=number,
                    rounds=rounds,
                    threads=threads,
                    direct=direct and not refused,
                    folder=path,
                )
                for batch in batches or (16,)
            ]
    results: list[dict[str, Any]] = []
    with meter("bench store", sum(each.steps for each in cases), quiet=as_json) as bar:
        for each in cases:
            with temporary(path) as folder:
                results += run_case(replace(each, folder=folder), bar)
    report = {
        "benchmark": "store",
        "machine": machine(),
        "threads": threads,
        "rounds": rounds,
        "file_system": " on ".join(reversed(check_storage.mount_of(path)[:2])),
        "verified": "every load, byte for byte",
        "results": results,
    }
    save(report, out)
    write_json(report) if as_json else bench_tables.show_store(report)


@bench.command(epilog="Example: ucm bench lookup --pipeline Cache --count 1M --batch 1024")
@_many("--pipeline", "pipelines", "Stages to measure.", "Cache, Disk, Fake")
@_many("--batch", "batches", "Keys per call.", "1, 64, 1024", COUNT)
@click.option(
    "--count",
    type=COUNT,
    default="100k",
    show_default=True,
    help="Keys present; each has a block of 4 KiB.",
)
@_path_option()
@_common(rounds=5)
def lookup(
    pipelines: tuple[str, ...],
    batches: tuple[int, ...],
    count: int,
    path: Path,
    rounds: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Nanoseconds per key, for hits and misses; every answer is checked."""
    from ucm.cli.bench_figures import machine, save
    from ucm.cli.bench_lookup import run_pipeline

    names = pipelines or available(("Cache", "Disk", "Fake"))
    for name in names:
        check_pipeline(name)
    check_room(path, count, 4096)
    results: list[dict[str, Any]] = []
    with meter("bench lookup", count * len(names), quiet=as_json) as bar:
        for name in names:
            with temporary(path) as folder:
                results += run_pipeline(name, count, batches or (1, 64, 1024), rounds, folder, bar)
    report = {"benchmark": "lookup", "machine": machine(), "rounds": rounds, "results": results}
    save(report, out)
    write_json(report) if as_json else bench_tables.show_lookup(report)


@bench.command(
    epilog="Examples: ucm bench transport --size 16MiB --size 256MiB; "
    "ucm bench transport --fragmented --piece 64KiB --piece 2MiB --plot copies.png"
)
@_many("--size", "sizes", "Bytes per copy.", "1, 4, 16, 64, 256 MiB", SIZE)
@click.option(
    "--fragmented",
    is_flag=True,
    help="Many scattered pieces instead: each method, both directions, both at once, beside one "
    "large copy.",
)
@_many("--piece", "pieces", "Bytes per piece, with --fragmented.", "4 KiB to 8 MiB, doubled", SIZE)
@click.option(
    "--bytes",
    "nbytes",
    type=SIZE,
    default="256MiB",
    show_default=True,
    help="Memory on each side, with --fragmented; half of it goes each way.",
)
@click.option(
    "--plot",
    "image",
    type=PICTURE,
    help="Draw the shares into this file (.png, .svg, .pdf), with --fragmented. Needs matplotlib.",
)
@click.option(
    "--platform",
    type=click.Choice(["auto", "cpu", "cuda", "musa", "maca", "ascend"]),
    default="auto",
    show_default=True,
    help="Whose memory the other side is; without --fragmented cpu or cuda.",
)
@_common(rounds=20)
def transport(
    sizes: tuple[int, ...],
    fragmented: bool,
    pieces: tuple[int, ...],
    nbytes: int,
    image: Path | None,
    platform: str,
    rounds: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Copies from host to device and back; the content is compared."""
    if fragmented:
        if sizes:
            raise click.UsageError("--size is for whole copies; with --fragmented give --piece")
        _fragmented(platform, nbytes, pieces, image, rounds, out, as_json)
        return
    if pieces or image or platform not in ("auto", "cpu", "cuda"):
        raise click.UsageError("--piece, --plot and other platforms go with --fragmented")
    _whole(platform, sizes, rounds, out, as_json)


def _fragmented(
    platform: str,
    nbytes: int,
    pieces: tuple[int, ...],
    image: Path | None,
    rounds: int,
    out: Path | None,
    as_json: bool,
) -> None:
    from ucm.cli import bench_pieces
    from ucm.cli.bench_figures import machine, save
    from ucm.cli.replay import import_pyplot

    pyplot = import_pyplot() if image else None
    chosen, device = bench_pieces.choose(platform)
    wanted = pieces or tuple(each for each in bench_pieces.PIECES if 8 * each <= nbytes)
    with meter("bench transport", None, quiet=as_json) as bar:
        measured = bench_pieces.run(chosen, device, nbytes, wanted, rounds, bar)
    report = {
        "benchmark": "transport, fragmented",
        "machine": machine(),
        "rounds": rounds,
        **measured,
    }
    save(report, out)
    if image:
        bench_pieces.plot(pyplot, report, image)
    write_json(report) if as_json else bench_tables.show_pieces(report)


def _whole(
    platform: str, sizes: tuple[int, ...], rounds: int, out: Path | None, as_json: bool
) -> None:
    from ucm.cli import bench_transport
    from ucm.cli.bench_figures import machine, save

    wanted = sizes or tuple(each << 20 for each in (1, 4, 16, 64, 256))
    chosen = bench_transport.choose(platform)
    results: list[dict[str, Any]] = []
    with meter(
        "bench transport", bench_transport.steps(rounds) * len(wanted), quiet=as_json
    ) as bar:
        for size in wanted:
            bar.label(f"{chosen.name} {bytes_text(size)}")
            results += bench_transport.run_size(chosen, size, rounds, bar)
    report = {
        "benchmark": "transport",
        "machine": machine(),
        "platform": chosen.name,
        "remark": chosen.remark,
        "rounds": rounds,
        "results": results,
    }
    save(report, out)
    write_json(report) if as_json else bench_tables.show_transport(report)
