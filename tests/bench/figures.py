# SPDX-License-Identifier: Apache-2.0
"""Runs the figure program against its limits, row by row, and keeps one JSON of the results.

    cmake --preset release && cmake --build --preset release
    python tests/bench/figures.py --folder /some/disk --out tests/bench/results/NAME.json
    python tests/bench/figures.py --folder /some/disk --out FILE --only disk --kib 64 --minutes 2

The file is written after each row. A row it has already is not taken again (unless --again), so a
run that was stopped, or that `--minutes` has ended, goes on where it was. The limit of the disk is
fio with the same block size, depth and O_DIRECT on the same file system, taken right before and
after each of our rounds; a ratio is the median over rounds. The limit of Posix is its bare system
calls on as many threads, taken right before each of our rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from calls import call_rows
from goals import judge
from kept import ROOT, Kept, Row

SMALL = 64 << 10
SIZES_KIB = [16, 64, 512, 1024, 2048, 4096, 8192, 16384]
TURNS = 5  # of our program and the one beside it, where they take many rounds each
KINDS = ["lookup", "call", "idle", "cache", "disk", "posix"]


def run_figures(program: Path, *words: str) -> list[Row]:
    """One call of the figure program; every line it prints is a JSON object."""
    done = subprocess.run([program, *words], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def fio(folder: Path, mode: str, block_bytes: int, total: int, depth: int) -> tuple[float, float]:
    """GB/s and CPU seconds per GB of fio on one file, with O_DIRECT through io_uring."""
    command = [
        "fio", "--name=limit", f"--filename={folder}/limit.fio", f"--rw={mode}",
        f"--bs={block_bytes}", f"--size={total}", f"--iodepth={depth}", "--ioengine=io_uring",
        "--direct=1", "--fallocate=posix", "--output-format=json",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    job = json.loads(done.stdout)["jobs"][0]
    side = job["read" if "read" in mode else "write"]
    cpu_s = (job["usr_cpu"] + job["sys_cpu"]) / 100 * side["runtime"] / 1000
    return float(side["bw_bytes"]) / 1e9, cpu_s / (total / 1e9)


def fio_gbps(folder: Path, mode: str, block_bytes: int, total: int, depth: int) -> float:
    """GB/s of fio, as above."""
    return fio(folder, mode, block_bytes, total, depth)[0]


def middle(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def edges(values: list[float]) -> list[float]:
    return [round(min(values), 3), round(max(values), 3)]


def disk_row(block_bytes: int, args: argparse.Namespace) -> list[Row]:
    """Interleaved rounds of fio and ours: write a fresh store, then read it cold."""
    blocks = max(1, args.total // block_bytes)
    total = block_bytes * blocks
    depth = args.depth if block_bytes > SMALL else args.small_depth
    sides = ("write", "read")
    seen: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        folder = Path(tempfile.mkdtemp(prefix="ucm-figures-", dir=args.folder))
        try:
            # Both sides start from their second use of the same extents: the first one pays for
            # the conversion of preallocated extents, which a cache pays once in its life.
            words = [
                f"folder={folder}/store", f"block_bytes={block_bytes}",
                f"blocks={blocks}", f"depth={depth}",
            ]  # fmt: skip
            run_figures(args.program, "disk-write", *words)
            fio(folder, "write", block_bytes, total, depth)
            for side in sides:
                before, cpu_before = fio(folder, side, block_bytes, total, depth)
                ours = run_figures(args.program, f"disk-{side}", *words)[0]
                after, cpu_after = fio(folder, side, block_bytes, total, depth)
                limit = (before + after) / 2
                values = {
                    "GBps": ours["GBps"],
                    "fio_GBps": limit,
                    "over_fio": ours["GBps"] / limit,
                    "cpu_s_per_GB": ours["cpu_s_per_GB"],
                    "fio_cpu_s_per_GB": (cpu_before + cpu_after) / 2,
                }
                if args.beside:
                    other = run_figures(args.beside, f"disk-{side}", *words)[0]
                    values["over_beside"] = ours["GBps"] / other["GBps"]
                    values["beside_cpu_s_per_GB"] = other["cpu_s_per_GB"]
                for name, value in values.items():
                    seen.setdefault(f"{side}_{name}", []).append(value)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    report: Row = {
        "what": "disk", "block_bytes": block_bytes, "blocks": blocks,
        "depth": depth, "rounds": args.rounds,
    }  # fmt: skip
    for name, values in seen.items():
        report[name] = middle(values)
        if not name.endswith("_GBps"):
            report[f"{name}_spread"] = edges(values)
    return [report]


def posix_row(
    threads: int, depth: int, direct: bool, pack_bytes: int, block_bytes: int,
    args: argparse.Namespace,
) -> list[Row]:  # fmt: skip
    """Posix beside its bare system calls and fio; blocks up to `pack_bytes` share files."""
    blocks = max(8, min(args.posix_blocks, args.total // block_bytes))
    total = block_bytes * blocks
    with tempfile.TemporaryDirectory(prefix="ucm-figures-", dir=args.folder) as folder:
        words = [
            f"folder={folder}", f"block_bytes={block_bytes}", f"blocks={blocks}",
            f"pack_bytes={pack_bytes}", f"threads={threads}", f"depth={depth}",
            f"rounds={args.rounds}", f"direct={int(direct)}",
        ]  # fmt: skip
        before = fio_sides(Path(folder), block_bytes, total, depth)
        report = run_figures(args.program, "posix", *words)[0]
        after = fio_sides(Path(folder), block_bytes, total, depth)
    for side in ("write", "read"):
        rate = (before[side] + after[side]) / 2
        report[f"fio_{side}_GBps"] = round(rate, 3)
        report[f"{side}_over_fio"] = round(report[f"{side}_GBps"] / rate, 3)
    return [report]


def fio_sides(folder: Path, block_bytes: int, total: int, depth: int) -> dict[str, float]:
    return {side: fio_gbps(folder, side, block_bytes, total, depth) for side in ("write", "read")}


def cache_row(block_bytes: int, args: argparse.Namespace) -> list[Row]:
    """The private and the shared pool, and puts with their checksums, beside memcpy."""
    # 64 blocks of a size or 16 MiB, but no more than the memory of a small machine allows.
    blocks = max(8, min(max(64, (16 << 20) // block_bytes), args.total // block_bytes))
    words = [f"block_bytes={block_bytes}", f"blocks={blocks}", f"rounds={args.cache_rounds}"]
    if not args.beside:
        return run_figures(args.program, "cache", *words)
    turns = [
        (run_figures(args.program, "cache", *words), run_figures(args.beside, "cache", *words))
        for _ in range(TURNS)
    ]
    rows = turns[-1][0]
    for number, row in enumerate(rows):
        for side in ("put", "get"):
            figure = f"{side}_over_memcpy"
            if figure in row:
                ratios = [ours[number][figure] / other[number][figure] for ours, other in turns]
                row[figure] = middle([ours[number][figure] for ours, _ in turns])
                row[f"{side}_over_beside"] = middle(ratios)
                row[f"{side}_over_beside_spread"] = edges(ratios)
    return rows


def folder_row(kind: str, args: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="ucm-figures-", dir=args.folder) as folder:
        return run_figures(args.program, kind, f"folder={folder}/store", f"keys={args.keys}")


def wanted_rows(args: argparse.Namespace) -> dict[str, Callable[[], list[Row]]]:
    """What can be taken, by name, in the order in which it is taken."""
    rows: dict[str, Callable[[], list[Row]]] = {
        "lookup": partial(folder_row, "lookup", args),
        "call": call_rows,
        "idle": partial(folder_row, "idle", args),
    }
    for kib in args.kib:
        size = kib << 10
        rows[f"cache {kib} KiB"] = partial(cache_row, size, args)
        rows[f"disk {kib} KiB"] = partial(disk_row, size, args)
        # A batch on four threads, and block after block on one.
        rows[f"posix {kib} KiB, 4 threads"] = partial(posix_row, 4, 8, False, 0, size, args)
        rows[f"posix {kib} KiB, 1 thread"] = partial(posix_row, 1, 1, False, 0, size, args)
        if size <= SMALL:
            packed = partial(posix_row, 4, 8)
            rows[f"posix {kib} KiB, packed"] = partial(packed, False, SMALL, size, args)
            rows[f"posix {kib} KiB, packed, direct"] = partial(packed, True, SMALL, size, args)
            rows[f"posix {kib} KiB, direct"] = partial(packed, True, 0, size, args)
    return {name: take for name, take in rows.items() if name.split()[0] in args.only}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    program = ROOT / "build/release/tests/bench/ucm_figures"
    parser.add_argument("--program", type=Path, default=program)
    beside = "an older build of the program, measured in the same rounds (cache and disk)"
    parser.add_argument("--beside", type=Path, help=beside)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument("--kib", type=int, nargs="+", default=SIZES_KIB, help="sizes of blocks")
    parser.add_argument("--total", type=int, default=256 << 20, help="bytes in a round")
    parser.add_argument("--posix-blocks", type=int, default=256, help="files in a round, at most")
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--small-depth", type=int, default=32, help="for blocks up to 64 KiB")
    parser.add_argument("--rounds", type=int, default=7, help="of disk and posix")
    parser.add_argument("--cache-rounds", type=int, default=31)
    parser.add_argument("--keys", type=int, default=1 << 20)
    parser.add_argument("--minutes", type=float, default=0, help="begin no row after this time")
    parser.add_argument("--again", action="store_true", help="also rows that the file has")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    kept = Kept(args.out, "figures.py", args.minutes, args.again)
    for name, measure in wanted_rows(args).items():
        for row in kept.take(name, measure):
            print("\n".join(f"  {line}" for line in judge(row)), file=sys.stderr)
    missed = [line for row in kept.results for line in judge(row) if line.startswith("missed")]
    print("\n".join(["goals that are missed:", *(missed or ["none"])]))
    if kept.left:
        print(f"not taken for want of time: {', '.join(kept.left)}")
    if not args.out:
        print(json.dumps(kept.report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
