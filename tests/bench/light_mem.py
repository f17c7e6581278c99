# SPDX-License-Identifier: Apache-2.0
"""Figures of light_mem beside fio in the same run: JSON, a table and a plot.

    python tests/bench/light_mem.py --folder /some/disk --out tests/bench/results/NAME.json

The file is written after each row, and a row that it has is not taken again (unless --again).
Each round writes fresh pages over a full store and reads them back with O_DIRECT, between two runs
of fio with the same page size and depth on the same file system; a ratio is the median over rounds.
With the original LightMem installed under another name (--original MODULE) it runs the same rounds.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from figures import fio_gbps
from kept import Kept

# This file must not stand for the package of its name.
sys.path.remove(str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python" / "light_mem"))

from light_llm_loop import DiskLoop
from page_contents import until

MIB = 1 << 20
PAGE_SIZES = (64 << 10, 256 << 10, MIB, 4 * MIB)
BLOCK_MB = (1, 4, 16, 64)
STAGING = 32 * MIB
GOAL = 0.85  # of fio's rate
VARIABLE = "LIGHTMEM_MAX_BLOCK_SIZE_MB"


def random_keys(count: int) -> list[int]:
    """Hashes nobody has stored before."""
    return [random.getrandbits(128) for _ in range(count)]


def cpu_s() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_bytes(kind: str) -> int:
    """Resident bytes of this process of one kind: RssAnon, RssFile, RssShmem."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def temporary(base: Path) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    made = Path(tempfile.mkdtemp(prefix="light-mem-figures-", dir=base))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def timed(work: Callable[[], None], total: int) -> tuple[float, float]:
    """GB/s and CPU seconds per GB of moving `total` bytes."""
    start, used = time.perf_counter(), cpu_s()
    work()
    seconds = time.perf_counter() - start
    return total / seconds / 1e9, (cpu_s() - used) / (total / 1e9)


def drop_page_cache() -> bool:
    """Whether what the kernel has in memory of files could be dropped (as root)."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        return False
    return True


class Transfer:
    """Writes and reads all pages of a tensor in groups, as tasks."""

    def __init__(self, service: Any, tensor: np.ndarray, group: int) -> None:
        self.service = service
        self.tensor = tensor
        self.group = group

    def run(self, keys: list[int], mode: str, first: int = 0) -> None:
        tasks = []
        pages = len(self.tensor) // 2
        for at in range(0, len(keys), self.group):
            part = keys[at : at + self.group]
            rows = np.arange(at, at + len(part), dtype=np.int32) % pages + first
            # Two tasks under way keep the store busy while the next one is made.
            if len(tasks) >= 2:
                self.finish(tasks.pop(0))
            tasks.append(self.service.create(hash_128s=part, kv_page_indexer=rows, mode=mode))
        for task in tasks:
            self.finish(task)

    def finish(self, task: Any) -> None:
        until(task.ready)
        states = {state.name for state in task.state()}
        assert states == {"Finished"}, states


def transfer_case(
    module: Any, base: Path, page_bytes: int, block_mb: int | None, args: argparse.Namespace
) -> dict[str, Any]:
    """Rounds of writing and reading with one page and block size."""
    total = args.mib * MIB
    pages = total // page_bytes
    depth = max(4, min(64, STAGING // page_bytes))
    tensor = np.zeros((2 * pages, page_bytes), dtype=np.uint8)
    tensor[:pages] = np.random.default_rng(1).integers(0, 256, (pages, page_bytes), np.uint8)
    os.environ.pop(VARIABLE, None)
    if block_mb is not None:
        os.environ[VARIABLE] = str(block_mb)
    ours: dict[str, list[float]] = {
        name: [] for name in ("write", "read", "write_cpu", "read_cpu", "warm", "warm_cpu")
    }
    dropped = True
    fio: dict[str, list[float]] = {"write": [], "read": []}
    with temporary(base) as folder:
        service = module.PyLocalCacheService(tensor, f"{folder}/cache_file", total, 8, 24)
        group = max(service._n, 64 * MIB // page_bytes)
        transfer = Transfer(service, tensor, group)
        # Both sides work on extents that were written once already.
        transfer.run(random_keys(pages), "w")
        fio_gbps(folder, "write", page_bytes, total, depth)
        for _ in range(args.rounds):
            keys = random_keys(pages)
            for side, mode, first in (("write", "w", 0), ("read", "r", pages)):
                before = fio_gbps(folder, side, page_bytes, total, depth)
                dropped = drop_page_cache() and dropped
                rate, cpu = timed(lambda k=keys, m=mode, f=first: transfer.run(k, m, f), total)
                after = fio_gbps(folder, side, page_bytes, total, depth)
                ours[side].append(rate)
                ours[f"{side}_cpu"].append(cpu)
                fio[side].append((before + after) / 2)
            rate, cpu = timed(lambda k=keys: transfer.run(k, "r", pages), total)
            ours["warm"].append(rate)
            ours["warm_cpu"].append(cpu)
            assert (tensor[pages:] == tensor[:pages]).all(), "wrong bytes"
            tensor[pages:] = 0
        n = service._n
        transfer.service = service = None
        gc.collect()
    row: dict[str, Any] = {
        "what": "transfer", "page_bytes": page_bytes, "block_pages": n,
        "block_bytes": n * page_bytes, "mib": args.mib, "depth": depth, "rounds": args.rounds,
    }  # fmt: skip
    for side in ("write", "read"):
        ratios = [o / f for o, f in zip(ours[side], fio[side], strict=True)]
        row[f"{side}_GBps"] = round(statistics.median(ours[side]), 3)
        row[f"fio_{side}_GBps"] = round(statistics.median(fio[side]), 3)
        row[f"{side}_over_fio"] = round(statistics.median(ratios), 3)
        row[f"{side}_over_fio_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
        row[f"{side}_cpu_s_per_GB"] = round(statistics.median(ours[f"{side}_cpu"]), 3)
    # Again at once: a package that reads through the page cache finds everything there.
    row["warm_read_GBps"] = round(statistics.median(ours["warm"]), 3)
    row["warm_read_cpu_s_per_GB"] = round(statistics.median(ours["warm_cpu"]), 3)
    row["page_cache_dropped_before_reading"] = dropped
    return row


def store_keys(service: Any, keys: list[int]) -> None:
    """Stores a page for each key."""
    rows = np.arange(4096, dtype=np.int32)
    for at in range(0, len(keys), 4096):
        part = keys[at : at + 4096]
        task = service.create(hash_128s=part, kv_page_indexer=rows[: len(part)], mode="w")
        until(task.ready)


def ask(service: Any, lists: list[list[int]]) -> tuple[float, float]:
    """Nanoseconds of this thread a key; the median and the best of seven rounds over all lists."""
    rounds = []
    for _ in range(7):
        start = time.thread_time()
        for each in lists:
            service.query(each)
        rounds.append((time.thread_time() - start) / sum(map(len, lists)) * 1e9)
    return round(statistics.median(rounds), 1), round(min(rounds), 1)


def query_case(module: Any, base: Path, entries: int) -> dict[str, Any]:
    """Nanoseconds a key of asking for 2,048 pages, and memory per stored page."""
    page_bytes = 4096
    os.environ.pop(VARIABLE, None)
    tensor = np.zeros((4096, page_bytes), dtype=np.uint8)
    keys = random_keys(entries)
    row: dict[str, Any] = {"what": "query", "entries": entries}
    with temporary(base) as folder:
        arguments = (tensor, f"{folder}/cache_file", entries * page_bytes, 8, 24)
        service = module.PyLocalCacheService(*arguments)
        store_keys(service, keys)
        if hasattr(service, "close"):
            # Opened again, nothing but the index is in memory.
            service.close()
            service = None
            gc.collect()
            before = {kind: resident_bytes(kind) for kind in ("RssAnon", "RssFile", "RssShmem")}
            service = module.PyLocalCacheService(*arguments)
            for at in range(0, entries, 2048):
                assert all(service.query(keys[at : at + 2048]))
            grown = {kind: resident_bytes(kind) - size for kind, size in before.items()}
            mapped = grown["RssFile"] + grown["RssShmem"]
            row["anonymous_bytes_per_entry"] = round(grown["RssAnon"] / entries, 1)
            row["mapped_bytes_per_entry"] = round(mapped / entries, 1)
        hits = [random.sample(keys, 2048) for _ in range(64)]
        ordered = [[key + 0 for key in each] for each in hits]
        misses = [random_keys(2048) for _ in range(64)]
        # In LightLLM the numbers of a request were just made, so they lie side by side.
        for name, lists in (("hit", ordered), ("hit_scattered", hits), ("miss", misses)):
            row[f"{name}_ns_per_key"], row[f"{name}_ns_per_key_best"] = ask(service, lists)
        row["one_key_ns"], _ = ask(service, [[key] for key in keys[:2000]])
        service = None
        gc.collect()
    return row


def loop_case(base: Path, rounds: int) -> dict[str, Any]:
    """LightLLM's loop: offload, restore of 100 pages of 256 KiB, idle cores, memory."""
    page_bytes, prompt = 256 << 10, 100
    os.environ.pop(VARIABLE, None)
    tensor = np.zeros((2048, page_bytes), dtype=np.uint8)
    tensor[:] = np.random.default_rng(2).integers(0, 256, page_bytes, np.uint8)
    restores, offloads = [], []
    with temporary(base) as folder:
        before = sum(resident_bytes(kind) for kind in ("RssAnon", "RssFile"))
        loop = DiskLoop(tensor, f"{folder}/cache_file", 4 << 30)
        start, used = time.perf_counter(), cpu_s()
        time.sleep(3)
        idle = (cpu_s() - used) / (time.perf_counter() - start)
        prompts: list[list[int]] = []
        for _ in range(rounds):
            fresh = [random_keys(prompt) for _ in range(4)]
            prompts += fresh
            start = time.perf_counter()
            for keys in fresh:
                loop.prefill(keys, lambda pages, new: None)
            until(loop.drained)
            offloads.append(4 * prompt * page_bytes / MIB / (time.perf_counter() - start))
        single = []
        for keys in prompts:
            # Pages of the second level are taken by something else first.
            with loop.pages.lock:
                pages, _ = loop.pages.allocate(random_keys(len(tensor)))
                loop.pages.recycle([page for page in pages if page >= 0])
            start = time.perf_counter()
            pages, from_disk = loop.match(keys)
            restores.append((time.perf_counter() - start) * 1e3)
            assert from_disk == prompt
            with loop.pages.lock:
                loop.pages.release(pages)
                pages, _ = loop.pages.allocate(random_keys(len(tensor)))
                loop.pages.recycle([page for page in pages if page >= 0])
            start = time.perf_counter()
            pages, _ = loop.match(keys[:1])
            single.append((time.perf_counter() - start) * 1e3)
            with loop.pages.lock:
                loop.pages.release(pages)
        after = sum(resident_bytes(kind) for kind in ("RssAnon", "RssFile"))
        loop.close()
    return {
        "what": "LightLLM's loop", "page_bytes": page_bytes, "prompt_pages": prompt,
        "offload_MiBps": round(statistics.median(offloads), 1),
        "restore_ms": round(statistics.median(restores), 2),
        "restore_ms_spread": [round(min(restores), 2), round(max(restores), 2)],
        "one_page_ms": round(statistics.median(single), 2),
        "idle_cores_of_the_process": round(idle, 4),
        "resident_MiB_beyond_tensor": round((after - before) / MIB, 1),
    }  # fmt: skip


def table(results: list[dict[str, Any]]) -> str:
    """The results as text."""
    lines = []
    for row in results:
        if row["what"] == "transfer":
            lines.append(
                f"{row['package']:10} page {row['page_bytes'] >> 10:5} KiB block "
                f"{row['block_bytes'] / MIB:6.2f} MiB | write {row['write_GBps']:6.3f} GB/s "
                f"{row['write_over_fio']:5.2f} of fio {row['write_cpu_s_per_GB']:5.2f} CPU-s/GB | "
                f"read {row['read_GBps']:6.3f} GB/s {row['read_over_fio']:5.2f} of fio "
                f"{row['read_cpu_s_per_GB']:5.2f} CPU-s/GB, again {row['warm_read_GBps']:6.3f} GB/s"
            )
        else:
            lines.append(f"{row.get('package', '')} {row}")
    return "\n".join(lines)


def size_text(nbytes: float) -> str:
    """64 KiB, 16 MiB."""
    return f"{nbytes / MIB:g} MiB" if nbytes >= MIB else f"{nbytes / 1024:g} KiB"


def plot(report: dict[str, Any], file: Path) -> None:
    """Rates over fio, by page and block size, with the spread over the rounds."""
    from matplotlib.figure import Figure

    rows = [row for row in report["results"] if row["what"] == "transfer"]
    blocks = sorted({row["block_bytes"] for row in rows})
    lines = list(dict.fromkeys((row["package"], row["page_bytes"]) for row in rows))
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, side in zip(figure.subplots(1, 2, sharey=True), ("write", "read"), strict=True):
        for number, (package, page) in enumerate(lines):
            own = [row for row in rows if (row["package"], row["page_bytes"]) == (package, page)]
            own.sort(key=lambda row: row["block_bytes"])
            # Side by side, so that no line hides another one's spread.
            shift = (number - (len(lines) - 1) / 2) * 0.1
            places = [blocks.index(row["block_bytes"]) + shift for row in own]
            middle = [row[f"{side}_over_fio"] for row in own]
            low, high = zip(*(row[f"{side}_over_fio_spread"] for row in own), strict=True)
            spread = [
                [max(0, m - x) for m, x in zip(middle, low, strict=True)],
                [max(0, x - m) for m, x in zip(middle, high, strict=True)],
            ]
            name = f"{package}, pages of {size_text(page)}"
            axes.errorbar(places, middle, spread, fmt="o-", capsize=3, label=name)
        axes.axhline(1, color="black", linewidth=0.9)
        axes.axhline(GOAL, color="black", linewidth=0.9, linestyle="--")
        axes.set_title("write" if side == "write" else "read, cold")
        axes.set_xlabel("block asked for at once")
        axes.set_xticks(range(len(blocks)), [size_text(each) for each in blocks])
        axes.grid(axis="y", alpha=0.3)
        axes.label_outer()
    first = figure.axes[0]
    first.set_ylabel(f"rate over fio's (solid: fio, dashed: goal {GOAL:g})")
    highest = max(row[f"{side}_over_fio"] for row in rows for side in ("write", "read"))
    first.set_ylim(0, max(1.5, 1.25 * highest))
    first.legend(fontsize=8, loc="upper left")
    machine = report["machine"]
    figure.suptitle(
        f"Pages to and from disk beside fio of the same size and depth, O_DIRECT, "
        f"{machine['cpu']}, {machine['cores']} cores, {report['date']}\n"
        f"points: medians; bars: lowest and highest of {rows[0]['rounds']} rounds",
        fontsize=10,
    )
    figure.savefig(file, dpi=130)


def cases(page_sizes: tuple[int, ...]) -> Iterator[tuple[int, int | None]]:
    """Every page size alone and in every block size that holds more than one."""
    for page_bytes in page_sizes:
        yield page_bytes, None
        seen = {page_bytes}
        for block_mb in BLOCK_MB:
            size = min(64, (block_mb << 20) // page_bytes) * page_bytes
            if size > page_bytes and size not in seen:
                seen.add(size)
                yield page_bytes, block_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="on the disk to be measured")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--original", help="module of the original LightMem, when installed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=256, help="data of one round")
    parser.add_argument("--entries", type=int, default=1 << 18)
    parser.add_argument("--only", choices=("transfer", "query", "loop"))
    parser.add_argument("--pages-only", action="store_true", help="leave larger blocks out")
    parser.add_argument("--page-kib", type=int, action="append")
    parser.add_argument("--minutes", type=float, default=0, help="begin no row after this time")
    parser.add_argument("--again", action="store_true", help="also rows that the file has")
    args = parser.parse_args()
    kept = Kept(args.out, "light_mem.py", args.minutes, args.again)
    for name, package, measure in wanted_rows(args):
        rows = kept.take(name, lambda p=package, m=measure: [{"package": p} | m()])
        if rows:
            print(table(rows), file=sys.stderr)
    print(table(kept.results))
    if kept.left:
        print(f"not taken for want of time: {', '.join(kept.left)}")
    if args.plot:
        plot(kept.report, args.plot)


def wanted_rows(
    args: argparse.Namespace,
) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """Name, package and how to take each row, in order."""
    sizes = tuple(each << 10 for each in args.page_kib) if args.page_kib else PAGE_SIZES
    for package in ["light_mem", *([args.original] if args.original else [])]:
        module = importlib.import_module(package)
        for page_bytes, block_mb in cases(sizes):
            if args.only in (None, "transfer") and not (block_mb and args.pages_only):
                name = f"{package}: pages of {page_bytes >> 10} KiB"
                name += f" in blocks of {block_mb} MiB" if block_mb else ""
                yield (
                    name,
                    package,
                    partial(transfer_case, module, args.folder, page_bytes, block_mb, args),
                )
        if args.only in (None, "query"):
            measure = partial(query_case, module, args.folder, args.entries)
            yield f"{package}: queries", package, measure
    if args.only in (None, "loop"):
        yield "light_mem: LightLLM's loop", "light_mem", partial(loop_case, args.folder, 4)


if __name__ == "__main__":
    main()
