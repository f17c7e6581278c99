# SPDX-License-Identifier: Apache-2.0
"""Sequences of calls against a dict that says what a store must answer."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from small_stores import settings

from ucm.errors import NotFound
from ucm.store.factory import open_store

NAMES = [b"a", b"b" * 16, b"c" * 32, b"", b"e" * 100]
SIZE = 5000
names = st.sampled_from(NAMES)
batches = st.lists(names, min_size=1, max_size=5, unique=True)


def content(name: bytes, version: int) -> np.ndarray:
    seed = [*name[:4], len(name), version]
    return np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)


class StoreModel(RuleBasedStateMachine):
    """`stored` is what lookups see; `begun` is between create and commit."""

    pipeline = "Cache|Posix"

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.config = settings(self.pipeline, Path(self.folder.name))
        self.store = open_store(self.config)
        self.stored: dict[bytes, int] = {}
        self.begun: dict[bytes, int | None] = {}

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    @rule(batch=batches, version=st.integers(0, 3))
    def dump(self, batch, version):
        # A key names one content: what is stored is dumped again with the bytes it has.
        versions = [self.stored.get(name, version) for name in batch]
        data = [content(name, each) for name, each in zip(batch, versions, strict=True)]
        self.store.wait(self.store.dump(batch, 0, data))
        for name in batch:
            if name in self.begun:
                self.begun[name] = version
            else:
                self.stored.setdefault(name, version)

    @rule(batch=batches)
    def create(self, batch):
        self.store.create(batch)
        self.begun.update({name: None for name in batch if name not in self.stored})

    @rule(batch=batches, ok=st.booleans())
    def commit(self, batch, ok):
        if ok and any(self.begun.get(name, 0) is None for name in batch):
            return
        self.store.commit(batch, [ok] * len(batch))
        for name in batch:
            version = self.begun.pop(name, None)
            if not ok:
                self.stored.pop(name, None)
            elif version is not None:
                self.stored.setdefault(name, version)

    @rule(batch=batches)
    def remove(self, batch):
        self.store.remove(batch)
        for name in batch:
            self.stored.pop(name, None)
            self.begun.pop(name, None)

    @rule(batch=batches)
    def load(self, batch):
        back = [np.zeros(SIZE, np.uint8) for _ in batch]
        missing = [row for row, name in enumerate(batch) if name not in self.stored]
        task = self.store.load(batch, 0, back)
        if missing:
            with pytest.raises(NotFound) as caught:
                self.store.wait(task)
            assert caught.value.failed_rows == missing
        else:
            self.store.wait(task)
        for row, name in enumerate(batch):
            if row not in missing:
                assert (back[row] == content(name, self.stored[name])).all()

    @rule(batch=batches)
    def prefix(self, batch):
        count = 0
        while count < len(batch) and batch[count] in self.stored:
            count += 1
        assert self.store.lookup_prefix(batch) == count
        assert self.store.lookup_on_prefix(batch) == count - 1

    @rule(batch=batches)
    def prefetch(self, batch):
        self.store.prefetch(batch)

    @rule()
    def reopen(self):
        self.store.close()
        self.store = open_store(self.config)
        self.begun.clear()
        if self.pipeline == "Cache":
            self.stored.clear()

    @invariant()
    def lookup(self):
        if hasattr(self, "store"):
            assert self.store.lookup(NAMES) == [name in self.stored for name in NAMES]


def machine(pipeline: str):
    name = f"Model of {pipeline}"
    case = type(name, (StoreModel,), {"pipeline": pipeline}).TestCase
    case.settings = hypothesis_settings(max_examples=15, stateful_step_count=25, deadline=None)
    return case


TestCachePosix = machine("Cache|Posix")
TestCacheDisk = machine("Cache|Disk")
TestPosix = machine("Posix")
TestDisk = machine("Disk")
TestCache = machine("Cache")
