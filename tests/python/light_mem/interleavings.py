# SPDX-License-Identifier: Apache-2.0
"""Random interleavings of writes, reads, aborts, evictions and kill -9, with every byte checked.

    python tests/python/light_mem/interleavings.py --lives 1000

A life is a process that opens the folder the one before has left, checks what that one was told to
be stored, and works in three threads until it is killed. Prints what was done; ends with an error
at the first wrong byte or lost page. --seed repeats a run's choices (not its timing).
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from page_contents import ABORTED, FINISHED, bytes_of, fill, finish, keys_of
from processes import forked

from light_mem import PyLocalCacheService

PAGE_BYTES = 16 << 10
CAPACITY = 1024
THREADS = 3
ROWS = 48  # of each thread
LONGEST = 40  # pages of a chain
JUNK = 0xEE
KILLED_AFTER_S = 0.12


class Life:
    """What one process does. Chains are numbered by life and write, so nothing is written twice
    with another content."""

    def __init__(self, file: str, number: int, seed: int, report: int) -> None:
        self.number = number
        self.seed = seed
        self.report = report
        self.tensor = np.full((THREADS * ROWS, PAGE_BYTES), JUNK, dtype=np.uint8)
        self.service = PyLocalCacheService(self.tensor, file, CAPACITY * PAGE_BYTES, 8, 24)

    def say(self, *words: object) -> None:
        """One line to the parent; short enough to arrive whole or not at all."""
        os.write(self.report, (" ".join(map(str, words)) + "\n").encode())

    def check_stored(self, chains: list[tuple[int, int]]) -> None:
        """Chains that must be there, all of them and right."""
        for chain, length in chains:
            keys = keys_of(chain, length)
            found = self.service.query(keys)
            assert all(found), f"chain {chain}: {found.count(False)} of {length} pages are lost"
            self.read_pages(keys, 0, must=True)
            self.say("kept", length)

    def read_pages(self, keys: list[int], first: int, must: bool = False) -> None:
        rows = np.arange(first, first + len(keys), dtype=np.int32)
        self.tensor[rows] = JUNK
        states = finish(self.service.create(hash_128s=keys, kv_page_indexer=rows, mode="r"))
        for row, key, state in zip(rows, keys, states, strict=True):
            assert state == FINISHED or (state == ABORTED and not must), f"state {state}"
            right = bytes_of(key, PAGE_BYTES) if state == FINISHED else JUNK
            assert (self.tensor[row] == right).all(), f"wrong bytes for {key:032x}: {state}"
            self.say("read" if state == FINISHED else "missed", 1)

    def work(self, thread: int) -> None:
        """Random calls until the end of the process."""
        choices = random.Random(self.seed * 1000 + thread)
        first = thread * ROWS
        known: list[tuple[int, int]] = []
        for turn in range(10_000):
            length = choices.randint(1, LONGEST)
            rows = np.arange(first, first + length, dtype=np.int32)
            call = choices.choice(("write", "write", "read", "query", "abort-w", "abort-r"))
            if call in ("write", "abort-w"):
                chain = (self.number * THREADS + thread) * 10_000 + turn
                keys = keys_of(chain, length)
                fill(self.tensor, rows, keys)
                self.say("used", length)
                task = self.service.create(hash_128s=keys, kv_page_indexer=rows, mode="w")
                known.append((chain, length))
                if call == "write":
                    while not task.data_safe():
                        time.sleep(0.0005)
                    self.tensor[rows] = JUNK
                    states = finish(task)
                    assert set(states) == {FINISHED}, states
                    self.say("ready", chain, length)
            elif known:
                chain, most = choices.choice(known)
                keys = keys_of(chain, min(length, most))
                rows = rows[: len(keys)]
                self.say("used", len(keys))
                if call == "read":
                    self.read_pages(keys, first)
                    continue
                if call == "query":
                    self.service.query(keys)
                    continue
                task = self.service.create(hash_128s=keys, kv_page_indexer=rows, mode="r")
            if call.startswith("abort") and known:
                time.sleep(choices.random() * 0.004)
                self.service.abort(task)
                assert task.ready() and task.data_safe()
                self.tensor[rows] = JUNK
                time.sleep(0.001)
                assert (self.tensor[rows] == JUNK).all(), "a byte moved after an abort"
                self.say("aborted", 1)


def child(file: str, number: int, seed: int, must: list[tuple[int, int]], report: int) -> None:
    """One life; never returns."""
    try:
        life = Life(file, number, seed, report)
        life.check_stored(must)

        def guarded(thread: int) -> None:
            try:
                life.work(thread)
            except BaseException:
                life.say("wrong", traceback.format_exc().replace("\n", " | ")[-1500:])

        threads = [threading.Thread(target=guarded, args=(t,), daemon=True) for t in range(THREADS)]
        life.say("opened", life.service.stats()["pages_stored"])
        for each in threads:
            each.start()
        time.sleep(60)
    except BaseException:
        os.write(report, ("wrong " + traceback.format_exc().replace("\n", " | ")[-1500:]).encode())
    os._exit(1)


def live(file: str, number: int, seed: int, must: list[tuple[int, int]]) -> list[list[str]]:
    """Runs a process, kills it somewhere, and answers the lines it wrote."""
    reader, writer = os.pipe()
    process = forked()
    if process == 0:
        os.close(reader)
        child(file, number, seed, must, writer)
    os.close(writer)
    deadline = time.monotonic() + 60
    text = b""
    killed = False
    while True:
        ready, _, _ = select.select([reader], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            os.kill(process, signal.SIGKILL)
            killed = True
            deadline = time.monotonic() + 60
            continue
        part = os.read(reader, 1 << 16)
        if not part:
            break
        if not killed and b"opened" in part:
            # From here on it works, and dies at any moment.
            deadline = time.monotonic() + random.Random(seed).random() * KILLED_AFTER_S
        text += part
    os.close(reader)
    os.waitpid(process, 0)
    lines = text.decode().split("\n")
    # The last line may be torn.
    return [line.split(" ") for line in lines[:-1] if line] + (
        [lines[-1].split(" ")] if lines[-1].startswith("wrong") else []
    )


def run(folder: Path, lives: int, seed: int) -> Counter[str]:
    """All lives.

    Returns:
        How often each thing was done.

    Raises:
        AssertionError: A byte was wrong, or a page that was stored is lost.
    """
    done: Counter[str] = Counter()
    must: list[tuple[int, int]] = []
    for number in range(lives):
        words = live(str(folder / "cache_file"), number, seed * 1_000_003 + number, must)
        wrong = [" ".join(each) for each in words if each[0] == "wrong"]
        assert not wrong, f"life {number} of seed {seed}: {wrong[0]}"
        used = sum(int(each[1]) for each in words if each[0] in ("used", "kept"))
        ready = [(int(each[1]), int(each[2])) for each in words if each[0] == "ready"]
        # Everything of one life stays as long as it fits: older pages leave first.
        must = ready if used <= CAPACITY else []
        done["lives"] += 1
        done["lives checked by the next"] += bool(must)
        done["lives that used more than fits"] += used > CAPACITY
        for each in words:
            if each[0] in ("kept", "read", "missed", "aborted"):
                done[f"{each[0]}"] += int(each[1])
            elif each[0] == "ready":
                done["pages written"] += int(each[2])
        assert sorted(os.listdir(folder)) == ["cache_file"]
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        done = run(Path(folder), args.lives, args.seed)
    print(f"seed {args.seed}, {time.monotonic() - start:.0f} s, no wrong byte, no lost page")
    for name, count in done.items():
        print(f"{count:8} {name}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
