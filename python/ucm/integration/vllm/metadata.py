# SPDX-License-Identifier: Apache-2.0
"""What the scheduler's side tells the workers' side in every step, and hears back."""

from __future__ import annotations

import dataclasses

import numpy as np

from ucm.integration.vllm import compat
from ucm.keys import KEY_BYTES


@dataclasses.dataclass(slots=True)
class LoadJob:
    """Blocks of one request that are read from the store.

    ``keys`` are n * 16 bytes without a rank; ``blocks`` are vLLM's block ids (n, groups).
    """

    request_id: str
    keys: bytes
    blocks: np.ndarray
    first_block: int
    """Number of the first of them in the request."""
    asynchronous: bool

    def __len__(self) -> int:
        return len(self.keys) // KEY_BYTES


@dataclasses.dataclass(slots=True)
class SaveJob:
    """Blocks of one request that are complete when this step has been computed."""

    request_id: str
    keys: bytes
    blocks: np.ndarray
    leans_on: tuple[str, ...] = ()
    """Requests whose blocks this one uses while they are being loaded in a step."""

    def __len__(self) -> int:
        return len(self.keys) // KEY_BYTES


@dataclasses.dataclass(slots=True)
class StepMetadata(compat.KVConnectorMetadata):
    """One step. ``rewound`` names running requests that compute again what failed to load.

    ``ended`` has the keys, without a rank, of each request that has ended: a chain that was stored
    in several batches.
    """

    loads: list[LoadJob] = dataclasses.field(default_factory=list)
    saves: list[SaveJob] = dataclasses.field(default_factory=list)
    rewound: list[str] = dataclasses.field(default_factory=list)
    ended: list[bytes] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class WorkerReport(compat.KVConnectorWorkerMetadata):
    """How loads went, which blocks became visible in the store, and which turned out to be gone.

    Keys are without a rank; the counts of `stored` say on how many ranks it happened.
    """

    stored: dict[bytes, int] = dataclasses.field(default_factory=dict)
    lost: set[bytes] = dataclasses.field(default_factory=set)
    good_loads: int = 0
    bad_loads: int = 0
    """Loads that the store failed at; not those that only lacked single blocks."""

    def __bool__(self) -> bool:
        return bool(self.stored or self.lost or self.good_loads or self.bad_loads)

    def aggregate(self, other: WorkerReport) -> WorkerReport:
        """Add the report of another worker to this one."""
        for key, count in other.stored.items():
            self.stored[key] = self.stored.get(key, 0) + count
        self.lost |= other.lost
        self.good_loads += other.good_loads
        self.bad_loads += other.bad_loads
        return self
