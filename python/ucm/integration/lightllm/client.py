# SPDX-License-Identifier: Apache-2.0
"""The methods of LightLLM's CPU cache client over pages that its processes share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ucm.config.lightllm import lightllm_config
from ucm.errors import NotFound

_KEY_BYTES = 16
_BETWEEN_TRIES_S = 0.05


def packed(keys: Sequence[int]) -> bytes:
    """LightLLM's page hashes (0 .. 2^128 - 1) as the native index takes them."""
    return b"".join([key.to_bytes(_KEY_BYTES, "little") for key in keys])


class CallLock:
    """Stands where LightLLM's lock around its client stands.

    Each call of `PageClient` is atomic between all processes by itself, under a native lock that a
    dying process can not keep. Nothing is left to hold between calls.
    """

    def acquire_sleep1ms(self) -> None:
        """Returns at once."""

    def release(self) -> None:
        """Returns at once."""

    def __enter__(self) -> CallLock:
        return self

    def __exit__(self, *_exc: object) -> None:
        return None


class PageItem:
    """One page as LightLLM looks at it: a snapshot."""

    EMPTY, LOADING, READY = 0, 1, 2

    def __init__(self, index: int, key: bytes, status: int, references: int) -> None:
        self.self_index = index
        self.hash_key = int.from_bytes(key, "little")
        self.status = status
        self.ref_count = references

    def is_empty(self) -> bool:
        """Whether it holds nothing."""
        return self.status == self.EMPTY

    def is_data_ready(self) -> bool:
        """Whether it may be read."""
        return self.status == self.READY


class PageItems(Sequence[PageItem]):
    """All pages; `linked_items[i]` is what LightLLM's disk worker reads."""

    def __init__(self, pages: Any) -> None:
        self._pages = pages

    @property
    def linked_items(self) -> PageItems:
        """The pages by index."""
        return self

    def get_item_by_index(self, index: int) -> PageItem:
        """One page."""
        return self[index]

    def __len__(self) -> int:
        return int(self._pages.pages)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return PageItem(index, *self._pages.view(index))

    def __iter__(self) -> Iterator[PageItem]:
        return (self[i] for i in range(len(self)))


class PageKeys:
    """Where a key is; `get` as in LightLLM's table."""

    def __init__(self, pages: Any) -> None:
        self._pages = pages

    def get(self, key: int) -> int | None:
        """The page that holds a key, filled or not."""
        page = int(self._pages.find(packed([key])))
        return None if page < 0 else page


def create_pages(name: str, page_num: int, page_bytes: int = 0, **options: Any) -> Any:
    """Makes the pages of a server.

    Args:
        name: The server's unique name.
        page_num: Pages.
        page_bytes: Bytes of one page; 0 makes the index alone.
        options: huge_pages, numa_interleave, platform, device_id of `HostPages.create`.

    Raises:
        Unavailable: Another server of this name is running.
    """
    from ucm import _core

    return _core.HostPages.create(name, page_num, page_bytes, **options)


def attach_pages(
    name: str,
    *,
    with_memory: bool,
    patience_s: float = 120.0,
    platform: str = "",
    device_id: int = 0,
) -> Any:
    """Joins the pages of a server, waiting for the process that makes them.

    Raises:
        NotFound: Nobody made them in `patience_s` seconds.
    """
    from ucm import _core

    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _core.HostPages.attach(name, with_memory, platform, device_id)
        except NotFound:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_BETWEEN_TRIES_S)


class PageClient:
    """LightLLM's client: pages by hash, reference counts, states, groups for the disk.

    Every call is atomic between the processes of a server and raises nothing for what happens at
    run time. Pages are indexes; -1 stands for none and is skipped.
    """

    def use(self, pages: Any, page_tokens: int) -> None:
        """Works on `pages` (a native HostPages) of `page_tokens` tokens from now on.

        Raises:
            ConfigError: A variable of LightLLM has a value that makes no sense.
        """
        self.disk_limit_tokens = lightllm_config(os.environ).disk_limit_tokens
        self.pages = pages
        self.page_num = int(pages.pages)
        self.page_tokens = page_tokens
        self.page_items = PageItems(pages)
        self.page_hash_dict = PageKeys(pages)
        self.lock = CallLock()
        self.disk_loads = 0
        self.matched = 0

    def allocate_pages(
        self, hash_keys: Sequence[int], disk_offload_enable: bool
    ) -> tuple[list[int], list[bool]]:
        """One page and one reference per key.

        Args:
            hash_keys: Page hashes in the order of the prompt.
            disk_offload_enable: Of no effect: pages on their way to the disk hold a reference.

        Returns:
            Pages, -1 from the first key on that finds all pages in use, and whether each holds
            its data already; one that does not is filled by the caller.
        """
        pages, ready = self.pages.allocate(packed(hash_keys))
        return pages, ready

    def allocate_one_page(
        self, page_items: Any, hash_key: int, disk_offload_enable: bool
    ) -> tuple[int | None, bool]:
        """`allocate_pages` for one key; None when all pages are in use."""
        pages, ready = self.pages.allocate(packed([hash_key]))
        return (None, False) if pages[0] < 0 else (pages[0], ready[0])

    def get_one_empty_page(self, hash_key: int, disk_offload_enable: bool) -> int | None:
        """A page for a key that has none."""
        return self.allocate_one_page(None, hash_key, disk_offload_enable)[0]

    def query_one_page(self, hash_key: int) -> tuple[int | None, bool]:
        """The page of a key with a reference, or (None, False) when it can not be read now."""
        found = self.pages.query(packed([hash_key]))
        self.matched += len(found)
        return (found[0], True) if found else (None, False)

    def query_pages(self, hash_keys: Sequence[int]) -> list[int]:
        """The pages of the leading keys that can be read now, with a reference each."""
        found: list[int] = self.pages.query(packed(hash_keys))
        self.matched += len(found)
        return found

    def update_pages_status_to_ready(
        self,
        page_list: Sequence[int],
        deref: bool = True,
        disk_offload_enable: bool = False,
        token_num_in_page_list: int | None = None,
    ) -> None:
        """Says that pages are filled.

        Args:
            page_list: Pages in the order of the prompt.
            deref: Give the references back as well.
            disk_offload_enable: Queue the pages before the first -1 for the disk, as one group.
            token_num_in_page_list: Tokens of the prompt, which decide whether it is long enough
                for the disk; counted from the pages when None.
        """
        tokens = token_num_in_page_list
        if tokens is None:
            tokens = len(page_list) * self.page_tokens
        offload = disk_offload_enable and tokens >= self.disk_limit_tokens
        self.pages.mark_ready(list(page_list), deref, offload)
        if not deref:
            self.disk_loads += len(page_list)

    def check_allpages_ready(self, page_list: Sequence[int]) -> bool:
        """Whether all pages can be read."""
        return bool(self.pages.all_ready(list(page_list)))

    def deref_pages(self, page_list: Sequence[int]) -> None:
        """Gives one reference per page back. A page without one is counted and left alone."""
        self.pages.release(list(page_list))

    def deref_one_page(self, page_index: int) -> None:
        """Gives one reference back."""
        self.pages.release([page_index])

    def recycle_pages(self, page_list: Sequence[int]) -> None:
        """Gives pages back whose load failed: unfilled and unused, they are empty again."""
        self.pages.release(list(page_list))

    def get_pages_to_offloading(self) -> list[list[int]]:
        """Takes the groups queued for the disk; each page has a reference for it."""
        groups: list[list[int]] = self.pages.take_offloads()
        return groups
