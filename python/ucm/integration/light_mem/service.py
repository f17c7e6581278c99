# SPDX-License-Identifier: Apache-2.0
"""LightMem's service: pages of one tensor to and from a folder."""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ucm import _core
from ucm.config.light_mem import LightMemConfig, light_mem_config
from ucm.errors import InvalidArgument, IoError, NotFound, Unavailable
from ucm.integration.light_mem import figures
from ucm.integration.light_mem.scope import Scope, scope_of
from ucm.integration.light_mem.task import PyTask
from ucm.metrics import monitor

BLOCK_SIZE_VARIABLE = "LIGHTMEM_MAX_BLOCK_SIZE_MB"
_DEFAULT_BLOCK_MB = 64
_MOST_PAGES = 64
_CLOSE_S = 10.0
_MOST_BYTES = 1 << 62  # more than any disk has
_MODES = {"r": False, "w": True}
_NETWORKS = ("nfs", "lustre", "ceph", "cifs", "gpfs", "beegfs")


class PyLocalCacheService:
    """Stores pages of a tensor on disk and reads them back.

    After construction it raises for programming errors only: what goes wrong with the storage is
    False in `query` and Aborted in a task's state, counted and logged. Thread-safe. A forked child
    finds nothing, its tasks are aborted, and its parent's service goes on.

    Args:
        kvcache_tensor: uint8 of shape (pages, bytes of a page), contiguous, in host memory; kept
            alive by the service.
        file: Folder for the pages, made when missing.
        storage_size: Bytes the pages may take on the disk.
        num_shard: Accepted; the pages lie in one store, so its number changes nothing.
        num_worker: Threads that copy pages, at most as many as there are processors, and eight.
        index_endpoint: Must be empty; a shared folder needs no index server.
        index_prefix: Without meaning here.
        bandwidth_log: Without meaning here; figures are in `stats`.
        coord_endpoints: Must be empty; a shared folder needs no coordinator.
        coord_node_id: Name of this node in a shared folder.
        coord_ttl: Without meaning here.
        coord_reconcile_sec: Without meaning here.
        read_only: Read what another process writes in the same folder.
        shared: "on", "off" or "auto": several nodes use the folder.
        staging_mb: MiB of memory for pages under way.

    Raises:
        ValueError: The tensor, or a number, can not be right.
        RuntimeError: The folder can not be used: it can not be written, there is too little space,
            or another process owns it.
    """

    def __init__(
        self,
        kvcache_tensor: Any,
        file: str,
        storage_size: int = 32 * 1024**3,
        num_shard: int = 32,
        num_worker: int = 16,
        *,
        index_endpoint: str = "",
        index_prefix: str = "lightmem",
        bandwidth_log: bool = True,
        coord_endpoints: str = "",
        coord_node_id: str | None = None,
        coord_ttl: int = 10,
        coord_reconcile_sec: float = 10.0,
        read_only: bool | None = None,
        shared: str | None = None,
        staging_mb: int | None = None,
    ) -> None:
        if index_endpoint or coord_endpoints:
            raise ValueError(
                "light_mem: index_endpoint and coord_endpoints are not served; nodes share a "
                "folder without a server (shared='on')"
            )
        if num_shard < 1 or num_worker < 1:
            raise ValueError(f"light_mem: num_shard={num_shard}, num_worker={num_worker}: from 1")
        given = {
            "read_only": read_only,
            "shared": shared,
            "node": coord_node_id,
            "staging_mb": staging_mb,
        }
        config = light_mem_config(os.environ, given)
        self._page_size = _page_bytes(kvcache_tensor)
        self._num_of_page_total = int(kvcache_tensor.shape[0])
        self._n = _pages_of_a_block(self._page_size, os.environ, default_mb=None)
        self._token_n = _pages_of_a_block(self._page_size, os.environ, _DEFAULT_BLOCK_MB)
        self._block_size = self._n * self._page_size
        if storage_size < self._block_size:
            raise ValueError(
                f"light_mem: storage_size={storage_size} holds no block of {self._block_size} bytes"
            )
        scope = scope_of(self._page_size, os.environ)
        try:
            self._native = _core.PageService(
                kvcache_tensor,
                os.fspath(file),
                min(storage_size, _MOST_BYTES),
                scope.text,
                keep=scope.keep,
                read_only=config.read_only,
                node=_node(config, scope, os.fspath(file)),
                workers=min(num_worker, os.cpu_count() or 1),
                staging_bytes=config.staging_mb << 20,
            )
        except (IoError, NotFound, Unavailable) as error:
            raise RuntimeError(f"light_mem: {error}") from error
        self._figures = figures.offer(self._native, self._page_size)
        # A program that ends without a word still lets its writes end.
        self._closing = weakref.finalize(self, _close, self._native, self._figures, os.getpid())

    def create(
        self,
        hash_128s: Sequence[int] | None = None,
        kv_page_indexer: Any = None,
        mode: str = "r",
        start_pos: int = 0,
        *,
        tokens: Any = None,
    ) -> PyTask:
        """Starts writing pages to the disk, or reading them back.

        Args:
            hash_128s: One number below 2^128 per page: the hash of everything up to its end.
            kv_page_indexer: int32 of shape (pages,), in host memory: rows of the tensor.
            mode: "w" or "r".
            start_pos: Page to begin with, rounded down to a block.
            tokens: Token ids, one per page, instead of hashes; a block is named by its own tokens.

        Returns:
            The task; its storage failures are states, not exceptions.

        Raises:
            ValueError: The mode is unknown, or a page is not in the tensor.
            RuntimeError: Hashes and pages make different numbers of blocks.
        """
        if mode not in _MODES:
            raise ValueError(f"light_mem: mode {mode!r}: 'r' or 'w' is expected")
        if (hash_128s is None) == (tokens is None):
            raise ValueError("light_mem: either hash_128s or tokens is expected")
        pages = _page_numbers(kv_page_indexer)
        n = self._n if tokens is None else self._token_n
        named = hash_128s if tokens is None else _token_ids(tokens)
        assert named is not None
        if -(-len(named) // n) != -(-len(pages) // n):
            raise RuntimeError(
                f"light_mem: {len(named)} hashes and {len(pages)} pages make different numbers of "
                f"blocks of {n}"
            )
        if start_pos < 0:
            raise ValueError(f"light_mem: start_pos={start_pos}: from 0")
        start = self._native.create if tokens is None else self._native.create_tokens
        return PyTask(start(named, pages, n, _MODES[mode], start_pos))

    def query(self, hash_128s: Sequence[int] | None = None, *, tokens: Any = None) -> list[bool]:
        """Whether each block could be read now. What is there counts as used.

        Args:
            hash_128s: One number below 2^128 per page.
            tokens: Token ids, one per page, instead of hashes.

        Returns:
            One bool per block.
        """
        if tokens is not None:
            return self._native.query_tokens(_token_ids(tokens), self._token_n)
        return self._native.query(() if hash_128s is None else hash_128s, self._n)

    def abort(self, t: PyTask) -> None:
        """Ends a task: when it returns, `ready` and `data_safe` hold and no byte moves."""
        self._native.abort(t._native)

    def active_threads(self, mode: str) -> int:
        """Tasks of a mode ("r" or "w") that were made and are not ready."""
        if mode not in _MODES:
            raise ValueError(f"light_mem: mode {mode!r}: 'r' or 'w' is expected")
        return self._native.active(_MODES[mode])

    def hash(self, tokens: Any) -> list[str]:
        """XXH3-128 of each block of token ids alone, as 32 hex digits."""
        return self._native_hash(tokens)

    def _hash(self, hash_128s: Sequence[int]) -> list[str]:
        n = self._n
        last = [hash_128s[min(b + n, len(hash_128s)) - 1] for b in range(0, len(hash_128s), n)]
        return [f"{each:032x}" for each in last]

    def _native_hash(self, tokens: Any) -> list[str]:
        return _core.hash_token_blocks(_token_ids(tokens), self._token_n)

    def eviction_count(self) -> int:
        """Pages that made room for others since the start."""
        return int(self._native.stats()["pages_evicted"])

    def eviction_observed(self) -> bool:
        """Whether any page made room for another since the start."""
        return self.eviction_count() > 0

    def stats(self) -> dict[str, Any]:
        """Figures since the start: pages written, read, queried and found, failures by cause."""
        return self._native.stats()

    def close(self) -> None:
        """Aborts reads, lets writes end for ten seconds, gives the folder free. Idempotent."""
        self._closing()


def _close(native: Any, counted: figures.DiskFigures, owner: int) -> None:
    if os.getpid() == owner:  # a forked child leaves its parent's service alone
        native.close(_CLOSE_S)
        monitor.retire(counted)


def _node(config: LightMemConfig, scope: Scope, file: str) -> str:
    """Name of this node in a shared folder; empty when the folder is ours alone."""
    if config.shared == "off":
        return ""
    if not scope.keep:
        if config.shared == "on":
            raise ValueError(
                "light_mem: pages of a multimodal model can not be shared: the ids of its images "
                "begin anew with each server"
            )
        return ""
    if config.shared == "auto" and not _on_network(file, scope.nodes):
        return ""
    return config.node or f"{socket.gethostname()}-{scope.rank}"


def _on_network(file: str, nodes: int) -> bool:
    try:
        kind = str(_core.io_capabilities(file)["file_system"])
        # FUSE may be local or not; the folder of a group of nodes is shared.
        return kind in _NETWORKS or (kind == "fuse" and nodes > 1)
    except InvalidArgument:
        # A file stands in the way: the core says so.
        return False


def _page_bytes(tensor: Any) -> int:
    shape = tuple(getattr(tensor, "shape", ()))
    if len(shape) != 2:
        raise ValueError("light_mem: kvcache_tensor: two dimensions are expected")
    if getattr(tensor, "is_cuda", False):
        raise ValueError("light_mem: kvcache_tensor: memory of the host is expected")
    if str(tensor.dtype).rpartition(".")[2] != "uint8":
        raise RuntimeError(f"light_mem: kvcache_tensor is {tensor.dtype}, uint8 is expected")
    if 0 in shape:
        raise ValueError(f"light_mem: kvcache_tensor has no bytes: {shape}")
    flags = getattr(tensor, "flags", None)
    if flags is not None and not flags.writeable:
        raise ValueError("light_mem: kvcache_tensor can not be written")
    return int(shape[1])


def _pages_of_a_block(page_bytes: int, environ: Mapping[str, str], default_mb: int | None) -> int:
    # Without a wish one page is a block: hits are found page by page, and a read touches no page
    # it was not asked for.
    try:
        limit = int(environ.get(BLOCK_SIZE_VARIABLE, ""))
    except ValueError:
        limit = 0
    mb = limit if limit > 0 else default_mb
    return 1 if mb is None else max(1, min(_MOST_PAGES, (mb << 20) // page_bytes))


def _page_numbers(indexer: Any) -> Any:
    pages = np.asarray(indexer)
    if pages.ndim != 1 or (pages.size and pages.dtype != np.int32):
        raise ValueError(
            f"light_mem: kv_page_indexer: {pages.ndim} dimensions of {pages.dtype}; one of int32 "
            "is expected"
        )
    return pages.astype(np.int32, copy=False)


def _token_ids(tokens: Any) -> Any:
    return np.ascontiguousarray(np.asarray(tokens, dtype=np.uint64).reshape(-1))


__all__ = ["PyLocalCacheService"]
