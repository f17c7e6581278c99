# SPDX-License-Identifier: Apache-2.0
"""This project and its peers side by side: the same blocks, the same directory, one run.

    ./test.sh peers                 # makes .venv-peers first
    .venv-peers/bin/python tests/bench/peers/peers.py --folder /some/disk --out docs/benchmarks

Each system has a process of its own. In every round each of them does one step before any does
the next one, so that the noise of the machine meets all alike; the order changes from round to
round. A figure is the median over the rounds, with the least and the most. A system that can not
run is in the results with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
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

from report import write_plots, write_table
from systems import SYSTEMS

HERE = Path(__file__).parent
STEPS = ("put", "get", "cold", "lookup")
PACKAGES = ("lmcache", "mooncake-transfer-engine-non-cuda", "torch", "numpy")


class Process:
    """A worker and what it said."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.error = ""
        system = SYSTEMS[name]()
        self.label, self.kind = system.label, system.kind
        self.log = open(log / f"{name}.log", "wb")  # noqa: SIM115 - closed with the worker
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "LMCACHE_LOG_LEVEL": "WARNING", "LMCACHE_TRACK_USAGE": "false"},
        )  # fmt: skip

    def ask(self, **command: Any) -> dict[str, Any] | None:
        """The answer; None once the worker has failed for this block size."""
        if self.error and command["do"] != "close":
            return None
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._death()}
        if "error" in answer:
            self.error = self.error or answer["error"]
            print(f"{self.name}: {command['do']}: {self.error}", file=sys.stderr)
            return None
        return answer

    def _death(self) -> str:
        return f"the process ended with {self.process.wait()}"

    def end(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def fio(folder: Path, mode: str, block_bytes: int, total: int) -> dict[str, Any]:
    """fio on one file with O_DIRECT through io_uring at depth 8."""
    command = [
        "fio", "--name=limit", f"--filename={folder}/limit.fio", f"--rw={mode}",
        f"--bs={block_bytes}", f"--size={total}", "--iodepth=8", "--ioengine=io_uring",
        "--direct=1", "--fallocate=posix", "--output-format=json",
    ]  # fmt: skip
    job = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["jobs"][0]
    side = job[mode]
    seconds = side["runtime"] / 1000
    share = (job["usr_cpu"] + job["sys_cpu"]) / 100
    return {
        "GBps": side["bw_bytes"] / 1e9,
        "cpu_s_per_GB": share * seconds / (total / 1e9),
        "percentile_s": {
            "p50": side["clat_ns"]["percentile"]["50.000000"] / 1e9,
            "p99": side["clat_ns"]["percentile"]["99.000000"] / 1e9,
        },
    }


def run_fio(folder: Path, step: str, block_bytes: int, total: int) -> dict[str, Any] | None:
    if step not in ("put", "cold"):
        return None
    return fio(folder, "write" if step == "put" else "read", block_bytes, total)


def summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, least and most of each figure over the rounds."""
    result: dict[str, Any] = {}
    for key in samples[0]:
        if key == "latency_s":
            times = sorted(time for sample in samples for time in sample[key])
            result["p50_us"] = round(statistics.median(times) * 1e6, 1)
            result["p99_us"] = round(times[min(len(times) - 1, int(len(times) * 0.99))] * 1e6, 1)
        elif key == "percentile_s":
            for name in ("p50", "p99"):
                middle = statistics.median(sample[key][name] for sample in samples)
                result[f"{name}_us"] = round(middle * 1e6, 1)
        else:
            values = [sample[key] for sample in samples]
            result[key] = float(f"{statistics.median(values):.4g}")
            result[f"{key}_spread"] = [float(f"{edge(values):.4g}") for edge in (min, max)]
    return result


def measure(
    processes: list[Process], folder: Path, block_bytes: int, total: int, rounds: int
) -> list[dict[str, Any]]:
    """All systems at one block size."""
    count = total // block_bytes
    samples: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in processes:
        each.error = "" if each.process.poll() is None else each.error
        place = folder / f"{each.name}-{block_bytes}"
        each.ask(do="open", folder=str(place), block_bytes=block_bytes, count=count)
    fio_error = "" if shutil.which("fio") else "fio is not installed"
    for number in range(rounds + 1):
        turn = number % len(processes)
        order = processes[turn:] + processes[:turn]
        for step in STEPS:
            if not fio_error:
                sample = run_fio(folder, step, block_bytes, total)
                if sample and number:
                    samples.setdefault(("fio", step), []).append(sample)
            for each in order:
                if step == "cold" and each.kind == "memory":
                    continue
                sample = each.ask(do=step)
                if sample and number:  # the first round warms up
                    samples.setdefault((each.name, step), []).append(sample)
        for each in order:
            each.ask(do="forget")
    rows = []
    for each in processes:
        each.ask(do="close")
        row: dict[str, Any] = {"system": each.name, "label": each.label, "kind": each.kind}
        steps = {
            step: summary(samples[each.name, step])
            for step in STEPS
            if (each.name, step) in samples
        }
        row.update({"error": each.error} if each.error else {"steps": steps})
        rows.append(row)
    limit: dict[str, Any] = {"system": "fio", "label": "fio (O_DIRECT, depth 8)", "kind": "disk"}
    if fio_error:
        limit["error"] = fio_error
    else:
        limit["steps"] = {step: summary(samples["fio", step]) for step in ("put", "cold")}
    return [dict(row, block_bytes=block_bytes) for row in [*rows, limit]]


def machine(folder: Path) -> dict[str, Any]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(folder)], capture_output=True, text=True, check=False
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "file_system": kind.stdout.strip(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path, default=HERE.parents[2] / "docs" / "benchmarks")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 512, 2048, 8192], help="KiB")
    parser.add_argument("--total", type=int, default=128, help="MiB of blocks in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    args = parser.parse_args()

    base = Path(tempfile.mkdtemp(prefix="ucm-peers-", dir=args.folder))
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(base),
        "versions": versions(),
        "total_bytes": args.total << 20,
        "rounds": args.rounds,
        "rows": [],
    }
    processes = [Process(name, base) for name in args.systems]
    try:
        for size in args.sizes:
            report["rows"] += measure(processes, base, size << 10, args.total << 20, args.rounds)
            report["machine"]["load_after"] = round(os.getloadavg()[0], 2)
            print(f"{size} KiB is done", file=sys.stderr)
            publish(report, args.out)
    finally:
        for each in processes:
            each.end()
        for log in base.glob("*.log"):
            if any(row.get("error") and row["system"] == log.stem for row in report["rows"]):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
        shutil.rmtree(base, ignore_errors=True)
    return 0


def publish(report: dict[str, Any], folder: Path) -> None:
    """What there is so far, as JSON, table and plots."""
    folder.mkdir(parents=True, exist_ok=True)
    report["rows"].sort(key=lambda row: int(row["block_bytes"]))
    (folder / "peers.json").write_text(json.dumps(report, indent=1) + "\n")
    write_table(report, folder / "peers.md")
    write_plots(report, folder)


if __name__ == "__main__":
    sys.exit(main())
