# SPDX-License-Identifier: Apache-2.0
"""Works on stores for a long time on a storage that is sick now and then, and watches what grows.

Threads dump, load, look up and remove blocks of known content on Cache|Disk and Cache|Posix stores
that evict; calls are interrupted, short, slow or fail by chance; the stores are closed and opened
again. Wrong bytes, or memory, descriptors or threads above their ceilings, end it with code 1.
"""

from __future__ import annotations

import argparse
import datetime
import errno
import json
import os
import platform
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from ucm import faults
from ucm.errors import UcmError
from ucm.faults import FaultRule, Operation
from ucm.store.factory import open_store
from ucm.store.store import Store

PIPELINES = ("Cache|Disk", "Cache|Posix")
BLOCK_BYTES = 256 << 10
UNIVERSE = 400
CAPACITY_BYTES = 48 << 20
THREADS = 2
REOPEN_EVERY_S = 20.0
SAMPLE_EVERY_S = 0.5
WARM_SHARE = 0.2  # of the time: what was reached by then is normal
RSS_ROOM_BYTES = 48 << 20
DESCRIPTOR_ROOM = 8


def content(number: int) -> np.ndarray[Any, Any]:
    """The bytes of a block: they follow from its number."""
    words = np.arange(BLOCK_BYTES // 8, dtype=np.uint64) + np.uint64(number << 32)
    return (words * np.uint64(0xD6E8FEB86659FD93)).view(np.uint8)


def key(number: int) -> bytes:
    return number.to_bytes(8, "little") * 2


class Figures:
    """What the threads count together."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.examples: dict[str, str] = {}

    def add(self, name: str, example: str = "") -> None:
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + 1
            if example:
                self.examples.setdefault(name, example)


class Worker(threading.Thread):
    """One thread of work on the store that its place holds at the moment."""

    def __init__(self, place: Place, seed: int, figures: Figures) -> None:
        super().__init__(daemon=True)
        self._place = place
        self._random = random.Random(seed)
        self._figures = figures

    def run(self) -> None:
        while not self._place.over:
            with self._place.use() as store:
                for _ in range(20):
                    self._step(store)

    def _step(self, store: Store) -> None:
        numbers = self._random.sample(range(UNIVERSE), self._random.randint(1, 4))
        names = [key(number) for number in numbers]
        kind = self._random.choices(("dump", "load", "lookup", "remove"), (4, 5, 3, 1))[0]
        try:
            if kind == "dump":
                store.wait(store.dump(names, 0, [content(number) for number in numbers]))
            elif kind == "load":
                self._load(store, numbers, names)
            elif kind == "lookup":
                store.lookup(names)
            else:
                store.remove(names)
            self._figures.add(kind)
        except UcmError as error:
            self._figures.add(f"{kind}: {error.code} ({self._place.pipeline})", str(error))

    def _load(self, store: Store, numbers: list[int], names: list[bytes]) -> None:
        back = [np.zeros(BLOCK_BYTES, np.uint8) for _ in numbers]
        task = store.load(names, 0, back)
        failed: set[int] = set()
        try:
            store.wait(task)
        except UcmError:
            if not task.done:
                raise
            failed = set(task.failed_rows)
        for row, number in enumerate(numbers):
            if row in failed:
                self._figures.add("misses")
            elif (back[row] == content(number)).all():
                self._figures.add("right blocks")
            else:
                self._figures.add("WRONG BLOCKS")


class Place:
    """A store that is closed and opened again while others work with it."""

    def __init__(self, pipeline: str, folder: Path) -> None:
        self.pipeline = pipeline
        self._config: dict[str, Any] = {
            "store_pipeline": pipeline,
            "storage_backends": str(folder),
            "buffer_number": 24,
            "capacity_bytes": CAPACITY_BYTES,
            "prefault": False,
            "timeout_s": 20.0,
        }
        if "Disk" in pipeline:
            self._config["segment_bytes"] = 16 << 20
        self._changed = threading.Condition()
        self._users = 0
        self._closing = False
        self._store = open_store(self._config)
        self.over = False

    def use(self) -> Place:
        return self

    def __enter__(self) -> Store:
        with self._changed:
            self._changed.wait_for(lambda: not self._closing)
            self._users += 1
            return self._store

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._users -= 1
            self._changed.notify_all()

    def reopen(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: self._users == 0)
            self._store.close()
            self._store = open_store(self._config)
            self._closing = False
            self._changed.notify_all()

    def close(self) -> None:
        self._store.close()


def sick_storage(folder: Path, seed: int) -> None:
    """Every kind of trouble that a storage has on a bad day, by chance."""
    path = str(folder)
    faults.set_faults(
        FaultRule(Operation.read, path, error=errno.EIO, probability=0.002, seed=seed),
        FaultRule(Operation.write, path, error=errno.ENOSPC, probability=0.002, seed=seed + 1),
        FaultRule(Operation.write, path, error=errno.EIO, probability=0.001, seed=seed + 2),
        FaultRule(Operation.stat, path, error=errno.ESTALE, probability=0.001, seed=seed + 3),
        FaultRule(path=path, delay_ms=200, probability=0.001, seed=seed + 4),
        FaultRule(path=path, error=errno.EINTR, probability=0.05, seed=seed + 5),
        FaultRule(path=path, cut=True, probability=0.2, seed=seed + 6),
    )


def processor() -> str:
    """The name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def usage() -> dict[str, int]:
    """Memory, descriptors and threads of this process."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "rss_bytes": int(fields["VmRSS"].split()[0]) << 10,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(fields["Threads"]),
    }


def soak(folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Run for so long; answer the figures, `failures` among them."""
    figures = Figures()
    load = os.getloadavg()[0]
    places = [Place(spec, folder / spec.replace("|", "-").lower()) for spec in PIPELINES]
    dice = random.Random(seed)
    workers = [
        Worker(place, dice.getrandbits(32), figures) for place in places for _ in range(THREADS)
    ]
    sick_storage(folder, seed)
    for worker in workers:
        worker.start()
    started = time.monotonic()
    end = started + minutes * 60
    warm = started + minutes * 60 * WARM_SHARE
    reopen_at = started + REOPEN_EVERY_S
    normal = usage()
    highest = dict(normal)
    reopened = 0
    while (now := time.monotonic()) < end:
        time.sleep(SAMPLE_EVERY_S)
        seen = usage()
        peak = normal if now < warm else highest
        for name, value in seen.items():
            peak[name] = max(peak[name], value)
        if now >= reopen_at:
            reopen_at = now + REOPEN_EVERY_S
            faults.set_faults()
            for place in places:
                place.reopen()
                reopened += 1
            sick_storage(folder, dice.getrandbits(32))
    for place in places:
        place.over = True
    for worker in workers:
        worker.join()
    faults.set_faults()
    for place in places:
        place.close()
    return {
        "seconds": round(time.monotonic() - started, 1),
        "seed": seed,
        "date": datetime.date.today().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} CPUs",
        "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
        "block_bytes": BLOCK_BYTES,
        "reopened": reopened,
        "counts": dict(sorted(figures.counts.items())),
        "first_of_each_error": dict(sorted(figures.examples.items())),
        "normal": normal,
        "highest": highest,
        "ceilings": ceilings(normal),
        "after_close": usage(),
        "failures": failures(figures, normal, highest),
    }


def ceilings(normal: dict[str, int]) -> dict[str, int]:
    """What the rest of the time may not exceed."""
    return {
        "rss_bytes": normal["rss_bytes"] + RSS_ROOM_BYTES,
        "descriptors": normal["descriptors"] + DESCRIPTOR_ROOM,
        # As documented: eight of each pipeline, beside ours.
        "threads": 1 + len(PIPELINES) * (THREADS + 8),
    }


def failures(figures: Figures, normal: dict[str, int], highest: dict[str, int]) -> list[str]:
    """What went wrong, one sentence each."""
    wrong = figures.counts.get("WRONG BLOCKS", 0)
    found = [f"{wrong} blocks came back with wrong bytes"] if wrong else []
    for name, ceiling in ceilings(normal).items():
        if highest[name] > ceiling:
            found.append(f"{name} reached {highest[name]}, the ceiling is {ceiling}")
    for kind in ("dump", "load", "lookup", "remove", "right blocks"):
        if not figures.counts.get(kind):
            found.append(f"no {kind} went well")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder on a disk")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    result = soak(arguments.folder, arguments.minutes, arguments.seed)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
