# SPDX-License-Identifier: Apache-2.0
"""Runs the figure program against its limits, interleaved, and keeps one JSON of the results.

    cmake --preset release && cmake --build --preset release
    python tests/bench/figures.py --folder /some/disk --out tests/bench/results/NAME.json

The limit of the disk is fio with the same block size, depth and O_DIRECT on the same file system,
taken right before and after each of our rounds; a ratio is the median over rounds.
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


def disk_rounds(program: Path, base: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Interleaved rounds of fio and ours: write a fresh store, then read it cold."""
    total = args.block_bytes * args.blocks
    rows: dict[str, list[float]] = {"write": [], "read": [], "fio_write": [], "fio_read": []}
    cpu: dict[str, list[float]] = {"write": [], "read": []}
    for round_number in range(args.rounds):
        folder = Path(tempfile.mkdtemp(prefix="ucm-figures-", dir=base))
        try:
            # Both sides start from their second use of the same extents: the first one pays for
            # the conversion of preallocated extents, which a cache pays once in its life.
            words = [
                f"folder={folder}/store", f"block_bytes={args.block_bytes}",
                f"blocks={args.blocks}", f"depth={args.depth}",
            ]  # fmt: skip
            run_figures(program, "disk-write", *words)
            fio_gbps(folder, "write", args.block_bytes, total, args.depth)
            for side, mode in (("write", "write"), ("read", "read")):
                before = fio_gbps(folder, mode, args.block_bytes, total, args.depth)
                ours = run_figures(program, f"disk-{side}", *words)[0]
                after = fio_gbps(folder, mode, args.block_bytes, total, args.depth)
                rows[side].append(ours["GBps"])
                rows[f"fio_{side}"].append((before + after) / 2)
                cpu[side].append(ours["cpu_s_per_GB"])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"disk round {round_number + 1}/{args.rounds}", file=sys.stderr)
    report: dict[str, Any] = {
        "what": "disk", "block_bytes": args.block_bytes, "blocks": args.blocks,
        "depth": args.depth, "rounds": args.rounds,
    }  # fmt: skip
    for side in ("write", "read"):
        ratios = [o / f for o, f in zip(rows[side], rows[f"fio_{side}"], strict=True)]
        report[f"{side}_GBps"] = round(statistics.median(rows[side]), 3)
        report[f"fio_{side}_GBps"] = round(statistics.median(rows[f"fio_{side}"]), 3)
        report[f"{side}_over_fio"] = round(statistics.median(ratios), 3)
        report[f"{side}_over_fio_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
        report[f"{side}_cpu_s_per_GB"] = round(statistics.median(cpu[side]), 3)
    return report


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
    parser.add_argument("--block-bytes", type=int, default=2 << 20)
    parser.add_argument("--blocks", type=int, default=256)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--keys", type=int, default=1 << 20)
    parser.add_argument("--only", choices=["cache", "disk", "lookup"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    results: list[dict[str, Any]] = []
    if args.only in (None, "cache"):
        results += run_figures(args.program, "cache", f"block_bytes={args.block_bytes}")
    if args.only in (None, "lookup"):
        with tempfile.TemporaryDirectory(prefix="ucm-figures-", dir=args.folder) as folder:
            results += run_figures(args.program, "lookup", f"folder={folder}", f"keys={args.keys}")
    if args.only in (None, "disk"):
        results.append(disk_rounds(args.program, args.folder, args))
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
