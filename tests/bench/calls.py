# SPDX-License-Identifier: Apache-2.0
"""What a call from Python costs: a fixed part and a part per row, on a stage that does nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

FEW, MANY = 1, 1024
CALLS = 200
ROUNDS = 15


def seconds_a_call(call: Callable[[], Any]) -> float:
    """Of this thread; the median over rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.thread_time()
        for _ in range(CALLS):
            call()
        rounds.append((time.thread_time() - start) / CALLS)
    return statistics.median(rounds)


def call_rows() -> list[dict[str, Any]]:
    """Calls of one row and of many: their difference is the cost of a row."""
    from ucm.store.factory import open_store

    memory = np.zeros(4096, np.uint8)
    rows = []
    with open_store({"store_pipeline": "Null"}, layout=([4096], 1)) as store:
        calls: dict[str, Callable[[list[bytes], np.ndarray], Any]] = {
            "lookup": lambda ids, _: store.lookup(ids),
            "lookup_prefix": lambda ids, _: store.lookup_prefix(ids),
            "dump_data": lambda ids, table: store.dump_data(ids, 0, table),
            "dump_data and wait": lambda ids, table: store.wait(store.dump_data(ids, 0, table)),
        }
        for name, call in calls.items():
            times = {}
            for count in (FEW, MANY):
                ids = [number.to_bytes(16, "little") for number in range(count)]
                table = np.full((count, 1), memory.ctypes.data, np.uint64)
                times[count] = seconds_a_call(lambda c=call, i=ids, t=table: c(i, t))
            row_s = (times[MANY] - times[FEW]) / (MANY - FEW)
            rows.append(
                {
                    "what": "call", "call": name, "pipeline": "Null",
                    "call_us": round((times[FEW] - row_s) * 1e6, 2),
                    "row_ns": round(row_s * 1e9, 1),
                }
            )  # fmt: skip
    return rows
