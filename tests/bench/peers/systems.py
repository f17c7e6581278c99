# SPDX-License-Identifier: Apache-2.0
"""The systems that are compared, behind one face: blocks of one size by number."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

_TIMEOUT_S = 120.0
# On their way between memory and files: four batches.
_STAGING_BYTES = 64 << 20
# A get that takes longer than its lease fails.
_LEASE_MS = 1000


class System:
    """Blocks of one size, moved between the caller's memory and a store.

    `put` returns when the blocks are stored and may be asked for, `get` when their bytes are in
    the caller's memory.
    """

    name = ""
    label = ""
    kind = "memory"  # or "disk": has a cold get

    def open(self, folder: Path, block_bytes: int, count: int) -> None:
        """Makes a store for twice `count` blocks of `block_bytes`."""
        raise NotImplementedError

    def put(self, first: int, blocks: np.ndarray) -> None:
        """Stores the rows of `blocks` (rows, block_bytes) as the blocks from number `first` on."""
        raise NotImplementedError

    def get(self, first: int, blocks: np.ndarray) -> None:
        """Fills the rows of `blocks` with the blocks from number `first` on."""
        raise NotImplementedError

    def lookup(self, numbers: range) -> int:
        """How many of the blocks are stored."""
        raise NotImplementedError

    def remove(self, numbers: range) -> None:
        """Forgets blocks."""
        raise NotImplementedError

    def helpers(self) -> list[int]:
        """Process ids that work for this store besides the caller's."""
        return []

    def close(self) -> None:
        """Lets go of everything."""


class Ucm(System):
    """A pipeline of this project through its Python face."""

    def __init__(self, name: str, pipeline: str, **options: Any) -> None:
        words = [f"{key} {value}" for key, value in options.items()]
        self.name, self.label = name, ", ".join([f"ucm {pipeline}", *words])
        self.pipeline, self.options = pipeline, options
        self.kind = "memory" if pipeline == "Cache" else "disk"

    def open(self, folder: Path, block_bytes: int, count: int) -> None:
        from ucm.store.factory import open_store

        config: dict[str, Any] = {"store_pipeline": self.pipeline, "timeout_s": _TIMEOUT_S}
        if self.kind == "memory":
            config.update(buffer_number=2 * count, prefault=True)
        else:
            slots = max(4, min(64, _STAGING_BYTES // block_bytes))
            config.update(storage_backends=str(folder), buffer_number=slots, prefault=True)
        if self.pipeline == "Disk":
            config["capacity_bytes"] = 2 * count * block_bytes
        config.update(self.options)
        self.store = open_store(config, layout=([block_bytes], 1))
        self.block_bytes = block_bytes

    @staticmethod
    def _ids(numbers: range) -> list[bytes]:
        return [number.to_bytes(16, "little") for number in numbers]

    def _rows(self, blocks: np.ndarray) -> np.ndarray:
        steps = np.arange(len(blocks), dtype=np.uint64) * np.uint64(self.block_bytes)
        return (np.uint64(blocks.ctypes.data) + steps).reshape(-1, 1)

    def put(self, first: int, blocks: np.ndarray) -> None:
        ids = self._ids(range(first, first + len(blocks)))
        self.store.wait(self.store.dump_data(ids, 0, self._rows(blocks)))

    def get(self, first: int, blocks: np.ndarray) -> None:
        ids = self._ids(range(first, first + len(blocks)))
        self.store.wait(self.store.load_data(ids, 0, self._rows(blocks)))

    def lookup(self, numbers: range) -> int:
        return sum(self.store.lookup(self._ids(numbers)))

    def remove(self, numbers: range) -> None:
        self.store.remove(self._ids(numbers))

    def close(self) -> None:
        self.store.close()


class LmcacheCpu(System):
    """LMCache's local CPU backend: allocate, copy in, submit; get, copy out."""

    name, label = "lmcache-cpu", "LMCache local CPU"

    def open(self, folder: Path, block_bytes: int, count: int) -> None:
        import torch
        from lmcache.v1.config import LMCacheEngineConfig
        from lmcache.v1.metadata import LMCacheMetadata
        from lmcache.v1.storage_backend.local_cpu_backend import LocalCPUBackend

        tokens = 256
        hidden = block_bytes // (2 * 2 * tokens)  # K and V, one layer, two bytes an element
        self.shape = torch.Size([2, 1, tokens, hidden])
        self.dtype = torch.bfloat16
        self.torch = torch
        config = LMCacheEngineConfig.from_defaults(
            chunk_size=tokens,
            local_cpu=True,
            max_local_cpu_size=self._pool_bytes(block_bytes, count) / 2**30,
            **self._disk_config(folder, block_bytes, count),
        )
        metadata = LMCacheMetadata(
            model_name="m", world_size=1, local_world_size=1, worker_id=0, local_worker_id=0,
            kv_dtype=self.dtype, kv_shape=(1, 2, tokens, 1, hidden),
        )  # fmt: skip
        self.config = config
        self.cpu = LocalCPUBackend(config, metadata, dst_device="cpu")

    def _pool_bytes(self, block_bytes: int, count: int) -> int:
        return 2 * count * block_bytes + (64 << 20)

    def _disk_config(self, folder: Path, block_bytes: int, count: int) -> dict[str, Any]:
        return {}

    def _key(self, number: int) -> Any:
        from lmcache.utils import CacheEngineKey

        return CacheEngineKey("m", 1, 0, number, self.dtype)

    def _staged(self, block: np.ndarray) -> Any:
        staged = self.cpu.allocate(self.shape, self.dtype)
        assert staged is not None, "LMCache has no room for a block"
        np.copyto(self._bytes(staged), block)
        return staged

    def _bytes(self, staged: Any) -> np.ndarray:
        memory: np.ndarray = staged.tensor.view(self.torch.uint8).view(-1).numpy()
        return memory

    def _copy_out(self, staged: Any, block: np.ndarray) -> None:
        np.copyto(block, self._bytes(staged))
        staged.ref_count_down()

    def put(self, first: int, blocks: np.ndarray) -> None:
        keys = [self._key(first + row) for row in range(len(blocks))]
        staged = [self._staged(block) for block in blocks]
        self.cpu.batched_submit_put_task(keys, staged)
        for each in staged:
            each.ref_count_down()

    def get(self, first: int, blocks: np.ndarray) -> None:
        for row, block in enumerate(blocks):
            self._copy_out(self.cpu.get_blocking(self._key(first + row)), block)

    def lookup(self, numbers: range) -> int:
        return sum(self.cpu.contains(self._key(number)) for number in numbers)

    def remove(self, numbers: range) -> None:
        for number in numbers:
            self.cpu.remove(self._key(number))

    def close(self) -> None:
        self.cpu.close()


class LmcacheDisk(LmcacheCpu):
    """LMCache's local disk backend with its defaults (buffered), or with O_DIRECT."""

    kind = "disk"

    def __init__(self, direct: bool) -> None:
        self.direct = direct
        self.name = "lmcache-disk-direct" if direct else "lmcache-disk"
        self.label = "LMCache local disk" + (", O_DIRECT" if direct else "")

    def _pool_bytes(self, block_bytes: int, count: int) -> int:
        return max(256 << 20, 40 * block_bytes)

    def _disk_config(self, folder: Path, block_bytes: int, count: int) -> dict[str, Any]:
        return {
            "local_disk": str(folder),
            # Far too much: what `remove` gives back is not counted, and a put that finds no room
            # is dropped with a warning and never calls back.
            "max_local_disk_size": 100 * count * block_bytes / 2**30,
            "extra_config": {"use_odirect": self.direct},
        }

    def open(self, folder: Path, block_bytes: int, count: int) -> None:
        from lmcache.v1.storage_backend.local_disk_backend import LocalDiskBackend

        super().open(folder, block_bytes, count)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.disk = LocalDiskBackend(self.config, self.loop, self.cpu, dst_device="cpu")

    def put(self, first: int, blocks: np.ndarray) -> None:
        stored = threading.Semaphore(0)
        keys = [self._key(first + row) for row in range(len(blocks))]
        staged = [self._staged(block) for block in blocks]
        self.disk.batched_submit_put_task(
            keys, staged, on_complete_callback=lambda _: stored.release()
        )
        for each in staged:
            each.ref_count_down()
        for _ in keys:
            if not stored.acquire(timeout=_TIMEOUT_S):
                raise TimeoutError("LMCache did not store a block")

    def get(self, first: int, blocks: np.ndarray) -> None:
        found = self.disk.batched_get_blocking([self._key(first + r) for r in range(len(blocks))])
        for staged, block in zip(found, blocks, strict=True):
            self._copy_out(staged, block)

    def lookup(self, numbers: range) -> int:
        return sum(self.disk.contains(self._key(number)) for number in numbers)

    def remove(self, numbers: range) -> None:
        for number in numbers:
            self.disk.remove(self._key(number))

    def close(self) -> None:
        self.disk.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        super().close()


class Mooncake(System):
    """Mooncake Store with registered buffers: its memory here, or in a second process over TCP."""

    def __init__(self, remote: bool) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self.remote = remote
        self.name = "mooncake-tcp" if remote else "mooncake"
        self.label = "Mooncake Store, " + ("over TCP" if remote else "one process")

    def open(self, folder: Path, block_bytes: int, count: int) -> None:
        from mooncake.store import MooncakeDistributedStore

        self.port = free_port()
        log = open(folder / "mooncake.log", "ab")  # noqa: SIM115 - lives as long as the processes
        self.started = [
            subprocess.Popen(
                [
                    script("mooncake_master"), f"--rpc_port={self.port}",
                    f"--metrics_port={free_port()}", f"--default_kv_lease_ttl={_LEASE_MS}",
                ],
                stdout=log, stderr=log,
            )
        ]  # fmt: skip
        time.sleep(1.5)
        segment = 3 * count * block_bytes + (64 << 20)
        if self.remote:
            self.started.append(
                subprocess.Popen(
                    [
                        os.sys.executable, str(Path(__file__).with_name("mooncake_segment.py")),
                        str(self.port), str(segment),
                    ],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                )
            )  # fmt: skip
            assert self.started[1].stdout is not None
            if self.started[1].stdout.readline().strip() != b"ready":
                raise RuntimeError("the process with Mooncake's memory did not start")
        self.store = MooncakeDistributedStore()
        code = self.store.setup(
            "127.0.0.1", "P2PHANDSHAKE", 0 if self.remote else segment, 64 << 20, "tcp", "",
            f"127.0.0.1:{self.port}",
        )  # fmt: skip
        if code:
            raise RuntimeError(f"Mooncake's setup answered {code}")
        self.registered: set[int] = set()

    def _register(self, blocks: np.ndarray) -> None:
        whole = blocks if blocks.base is None else blocks.base
        if whole.ctypes.data not in self.registered:
            self.store.register_buffer(whole.ctypes.data, whole.nbytes)
            self.registered.add(whole.ctypes.data)

    def _call(self, call: Any, first: int, blocks: np.ndarray) -> list[int]:
        self._register(blocks)
        keys = [f"block-{first + row}" for row in range(len(blocks))]
        size = blocks.shape[1]
        places = [blocks.ctypes.data + row * size for row in range(len(blocks))]
        answers: list[int] = call(keys, places, [size] * len(blocks))
        return answers

    def put(self, first: int, blocks: np.ndarray) -> None:
        answers = self._call(self.store.batch_put_from, first, blocks)
        if any(answers):
            raise RuntimeError(f"Mooncake's batch_put_from answered {min(answers)}")

    def get(self, first: int, blocks: np.ndarray) -> None:
        answers = self._call(self.store.batch_get_into, first, blocks)
        if any(answer != blocks.shape[1] for answer in answers):
            raise RuntimeError(f"Mooncake's batch_get_into answered {min(answers)}")

    def lookup(self, numbers: range) -> int:
        answers = self.store.batch_is_exist([f"block-{number}" for number in numbers])
        return sum(answer == 1 for answer in answers)

    def remove(self, numbers: range) -> None:
        time.sleep(1.2 * _LEASE_MS / 1000)  # what was asked for stays as long as that
        self.store.remove_all()

    def helpers(self) -> list[int]:
        return [each.pid for each in self.started]

    def close(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        for each in reversed(self.started):
            each.terminate()
            each.wait(30)


class Memcpy(System):
    """The limit of memory: each block copied once by one thread; lookups in a dict."""

    name, label = "memcpy", "bare memcpy"

    def open(self, folder: Path, block_bytes: int, count: int) -> None:
        self.memory = np.zeros((count, block_bytes), np.uint8)
        self.count = count
        self.numbers: dict[bytes, int] = {}

    def put(self, first: int, blocks: np.ndarray) -> None:
        for row, block in enumerate(blocks, first):
            place = row % self.count
            self.memory[place] = block
            self.numbers[row.to_bytes(16, "little")] = place

    def get(self, first: int, blocks: np.ndarray) -> None:
        for row, block in enumerate(blocks, first):
            block[:] = self.memory[self.numbers[row.to_bytes(16, "little")]]

    def lookup(self, numbers: range) -> int:
        return sum(number.to_bytes(16, "little") in self.numbers for number in numbers)

    def remove(self, numbers: range) -> None:
        for number in numbers:
            self.numbers.pop(number.to_bytes(16, "little"), None)


class Syscalls(System):
    """The limit of files: create, write, rename; open, read, close; one thread, no checksum."""

    name, label, kind = "syscalls", "bare system calls", "disk"

    def open(self, folder: Path, block_bytes: int, count: int) -> None:
        self.folder = folder

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number:032x}"

    def put(self, first: int, blocks: np.ndarray) -> None:
        for row, block in enumerate(blocks, first):
            aside = f"{self.folder}/.{row}"
            file = os.open(aside, os.O_CREAT | os.O_WRONLY, 0o600)
            os.write(file, block)
            os.close(file)
            os.rename(aside, self._path(row))

    def get(self, first: int, blocks: np.ndarray) -> None:
        for row, block in enumerate(blocks, first):
            file = os.open(self._path(row), os.O_RDONLY)
            os.readv(file, [block])
            os.close(file)

    def lookup(self, numbers: range) -> int:
        return sum(os.path.exists(self._path(number)) for number in numbers)

    def remove(self, numbers: range) -> None:
        for number in numbers:
            os.unlink(self._path(number))


def free_port() -> int:
    """A port nobody listens on now."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def script(name: str) -> str:
    """Path of a program that a package has installed beside this Python."""
    beside = Path(os.sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is not installed")
    return found


SYSTEMS: dict[str, Any] = {
    "ucm-cache": lambda: Ucm("ucm-cache", "Cache"),
    "ucm-disk": lambda: Ucm("ucm-disk", "Disk"),
    "ucm-posix": lambda: Ucm("ucm-posix", "Posix"),
    "ucm-posix-ttl": lambda: Ucm("ucm-posix-ttl", "Posix", lookup_ttl_s=1),
    "lmcache-cpu": LmcacheCpu,
    "lmcache-disk": lambda: LmcacheDisk(False),
    "lmcache-disk-direct": lambda: LmcacheDisk(True),
    "mooncake": lambda: Mooncake(False),
    "mooncake-tcp": lambda: Mooncake(True),
    "memcpy": Memcpy,
    "syscalls": Syscalls,
}
