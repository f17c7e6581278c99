# SPDX-License-Identifier: Apache-2.0
"""Runs the figure program against its limits, interleaved, and keeps one JSON of the results.

    cmake --preset release && cmake --build --preset release
    python tests/bench/figures.py --folder /some/disk --out tests/bench/results/NAME.json

The limit of the disk is fio with the same block size, depth and O_DIRECT on the same file system,
taken right before and after each of our rounds; a ratio is the median over rounds. The limit of
Posix is its bare system calls on as many threads, taken right before each of our rounds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SMALL = 64 << 10
SIZES = [4 << 10, 16 << 10, 64 << 10, 512 << 10, 2 << 20, 8 << 20, 16 << 20]


def run_figures(program: Path, *words: str) -> list[dict[str, Any]]:
    """One call of the figure program; every line it prints is a JSON object."""
    done = subprocess.run([program, *words], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def fio_gbps(folder: Path, mode: str, block_bytes: int, total: int, depth: int) -> float:
    """GB/s of fio writing or reading one file of `total` bytes with O_DIRECT through io_uring."""
    command = [
        "fio", "--name=limit", f"--filename={folder}/limit.fio", f"--rw={mode}",
        f"--bs={block_bytes}", f"--size={total}", f"--iodepth={depth}", "--ioengine=io_uring",
        "--direct=1", "--fallocate=posix", "--output-format=json",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    side = json.loads(done.stdout)["jobs"][0]["read" if "read" in mode else "write"]
    return float(side["bw_bytes"]) / 1e9


def disk_rounds(
    program: Path, base: Path, block_bytes: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Interleaved rounds of fio and ours: write a fresh store, then read it cold."""
    blocks = max(1, args.total // block_bytes)
    total = block_bytes * blocks
    depth = args.depth if block_bytes > SMALL else args.small_depth
    rows: dict[str, list[float]] = {"write": [], "read": [], "fio_write": [], "fio_read": []}
    cpu: dict[str, list[float]] = {"write": [], "read": []}
    for round_number in range(args.rounds):
        folder = Path(tempfile.mkdtemp(prefix="ucm-figures-", dir=base))
        try:
            # Both sides start from their second use of the same extents: the first one pays for
            # the conversion of preallocated extents, which a cache pays once in its life.
            words = [
                f"folder={folder}/store", f"block_bytes={block_bytes}",
                f"blocks={blocks}", f"depth={depth}",
            ]  # fmt: skip
            run_figures(program, "disk-write", *words)
            fio_gbps(folder, "write", block_bytes, total, depth)
            for side, mode in (("write", "write"), ("read", "read")):
                before = fio_gbps(folder, mode, block_bytes, total, depth)
                ours = run_figures(program, f"disk-{side}", *words)[0]
                after = fio_gbps(folder, mode, block_bytes, total, depth)
                rows[side].append(ours["GBps"])
                rows[f"fio_{side}"].append((before + after) / 2)
                cpu[side].append(ours["cpu_s_per_GB"])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"disk {block_bytes} round {round_number + 1}/{args.rounds}", file=sys.stderr)
    report: dict[str, Any] = {
        "what": "disk", "block_bytes": block_bytes, "blocks": blocks,
        "depth": depth, "rounds": args.rounds,
    }  # fmt: skip
    for side in ("write", "read"):
        ratios = [o / f for o, f in zip(rows[side], rows[f"fio_{side}"], strict=True)]
        report[f"{side}_GBps"] = round(statistics.median(rows[side]), 3)
        report[f"fio_{side}_GBps"] = round(statistics.median(rows[f"fio_{side}"]), 3)
        report[f"{side}_over_fio"] = round(statistics.median(ratios), 3)
        report[f"{side}_over_fio_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
        report[f"{side}_cpu_s_per_GB"] = round(statistics.median(cpu[side]), 3)
        report[f"{side}_cpu_s_per_GB_spread"] = [round(min(cpu[side]), 3), round(max(cpu[side]), 3)]
    return report


def posix_rounds(
    program: Path, base: Path, block_bytes: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Posix beside its bare system calls and fio: a batch on four threads, block after block on
    one, and small blocks that share files, with the page cache and without it as fio is."""
    reports = []
    blocks = max(8, min(args.posix_blocks, args.total // block_bytes))
    cases = [(4, 8, 0, 0), (1, 1, 0, 0)]
    if block_bytes <= SMALL:
        cases += [(4, 8, SMALL, 0), (4, 8, SMALL, 1), (4, 8, 0, 1)]
    total = block_bytes * blocks
    for threads, depth, pack_bytes, direct in cases:
        with tempfile.TemporaryDirectory(prefix="ucm-figures-", dir=base) as folder:
            words = [
                f"folder={folder}", f"block_bytes={block_bytes}", f"blocks={blocks}",
                f"pack_bytes={pack_bytes}", f"threads={threads}", f"depth={depth}",
                f"rounds={args.rounds}", f"direct={direct}",
            ]  # fmt: skip
            before = _fio_sides(Path(folder), block_bytes, total, depth)
            report = run_figures(program, "posix", *words)[0]
            after = _fio_sides(Path(folder), block_bytes, total, depth)
            for side in ("write", "read"):
                fio = (before[side] + after[side]) / 2
                report[f"fio_{side}_GBps"] = round(fio, 3)
                report[f"{side}_over_fio"] = round(report[f"{side}_GBps"] / fio, 3)
        reports.append(report)
        print(f"posix {block_bytes} with {threads} threads", file=sys.stderr)
    return reports


def _fio_sides(folder: Path, block_bytes: int, total: int, depth: int) -> dict[str, float]:
    """GB/s of the second use of the same extents: the first one pays for their conversion."""
    fio_gbps(folder, "write", block_bytes, total, depth)
    return {side: fio_gbps(folder, side, block_bytes, total, depth) for side in ("write", "read")}


def machine() -> dict[str, Any]:
    """What a reader needs to know about where the figures come from."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    program = ROOT / "build/release/tests/bench/ucm_figures"
    parser.add_argument("--program", type=Path, default=program)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--block-bytes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--total", type=int, default=256 << 20, help="bytes in a round")
    parser.add_argument("--posix-blocks", type=int, default=256, help="files in a round, at most")
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--small-depth", type=int, default=32, help="for blocks up to 64 KiB")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keys", type=int, default=1 << 20)
    parser.add_argument("--only", choices=["cache", "disk", "idle", "lookup", "posix"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ucm-figures-", dir=args.folder) as folder:
        if args.only in (None, "lookup"):
            results += run_figures(args.program, "lookup", f"folder={folder}", f"keys={args.keys}")
        if args.only in (None, "idle"):
            results += run_figures(args.program, "idle", f"folder={folder}/idle")
    for block_bytes in args.block_bytes:
        if args.only in (None, "cache"):
            # 64 blocks of a size, but no more than the memory of a small machine allows.
            words = [
                f"block_bytes={block_bytes}",
                f"blocks={max(8, min(64, args.total // block_bytes))}",
            ]
            results += run_figures(args.program, "cache", *words)
        if args.only in (None, "disk"):
            results.append(disk_rounds(args.program, args.folder, block_bytes, args))
        if args.only in (None, "posix"):
            results += posix_rounds(args.program, args.folder, block_bytes, args)
    shown = ["DIR" if word.startswith("/") else word for word in sys.argv[1:]]
    report = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(["python tests/bench/figures.py", *shown]),
        "machine": machine(),
        "results": results,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
