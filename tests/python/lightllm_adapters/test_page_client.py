# SPDX-License-Identifier: Apache-2.0
"""LightLLM's client methods over shared pages: any sequence against a model, several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import started

from ucm.errors import InvalidArgument, NotFound, Unavailable
from ucm.integration.lightllm.client import PageClient, attach_pages, create_pages, packed

EMPTY, LOADING, READY = 0, 1, 2


def fresh(pages: int, page_tokens: int = 64) -> PageClient:
    client = PageClient()
    client.use(create_pages(f"test-{uuid.uuid4().hex}", pages), page_tokens)
    return client


class Model:
    """The documented semantics in plain Python: lists, no links."""

    def __init__(self, pages: int) -> None:
        self.key: list[int | None] = [None] * pages
        self.state = [EMPTY] * pages
        self.refs = [0] * pages
        self.idle = list(range(pages))
        self.queue: list[list[int]] = []

    def take(self, page: int) -> None:
        if self.refs[page] == 0:
            self.idle.remove(page)
        self.refs[page] += 1

    def allocate(self, keys: list[int]) -> tuple[list[int], list[bool]]:
        pages, ready = [-1] * len(keys), [False] * len(keys)
        for i, key in enumerate(keys):
            if key in self.key:
                page = self.key.index(key)
            elif self.idle:
                page = self.idle[0]
                self.key[page], self.state[page] = key, LOADING
            else:
                break
            self.take(page)
            pages[i], ready[i] = page, self.state[page] == READY
        return pages, ready

    def query(self, key: int) -> int | None:
        page = self.key.index(key) if key in self.key else None
        if page is None or self.state[page] != READY:
            return None
        self.take(page)
        return page

    def release(self, pages: list[int]) -> None:
        for page in (page for page in pages if page >= 0):
            self.refs[page] -= 1
            if self.refs[page] == 0 and self.state[page] == READY:
                self.idle.append(page)
            elif self.refs[page] == 0:
                self.key[page], self.state[page] = None, EMPTY
                self.idle.insert(0, page)

    def ready(self, pages: list[int], deref: bool, offload: bool) -> None:
        for page in (page for page in pages if page >= 0):
            self.state[page] = READY
        if offload:
            group = pages[: pages.index(-1)] if -1 in pages else pages
            for page in group:
                self.take(page)
            if group:
                self.queue.append(group)
        if deref:
            self.release(pages)


@given(data=st.data(), count=st.integers(1, 10))
def test_any_sequence_of_calls_answers_as_the_documented_semantics(
    data: st.DataObject, count: int
) -> None:
    client, model = fresh(count), Model(count)
    held: list[list[int]] = []
    keys = st.integers(1, 14).map(lambda n: n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)
    for _ in range(data.draw(st.integers(1, 60))):
        action = data.draw(st.sampled_from(["allocate", "query", "ready", "release", "drain"]))
        if action == "allocate":
            asked = data.draw(st.lists(keys, max_size=5))
            got = client.allocate_pages(asked, disk_offload_enable=False)
            assert got == model.allocate(asked)
            held.append(got[0])
        elif action == "query":
            asked_key = data.draw(keys)
            page, ready = client.query_one_page(asked_key)
            assert (page, ready) == ((found := model.query(asked_key)), found is not None)
            held.extend([[page]] if page is not None else [])
        elif action == "ready" and held:
            pages = held.pop(data.draw(st.integers(0, len(held) - 1)))
            offload = data.draw(st.booleans()) and len(model.queue) < 3
            client.update_pages_status_to_ready(pages, True, offload, 4096)
            model.ready(pages, True, offload)
            assert client.check_allpages_ready(pages)
        elif action == "release" and held:
            pages = held.pop(data.draw(st.integers(0, len(held) - 1)))
            data.draw(st.sampled_from([client.deref_pages, client.recycle_pages]))(pages)
            model.release(pages)
        elif action == "drain":
            assert client.get_pages_to_offloading() == model.queue
            held.extend(model.queue)
            model.queue = []
        for page in range(count):
            item = client.page_items.linked_items[page]
            assert (item.status, item.ref_count) == (model.state[page], model.refs[page])
            if item.status != EMPTY:
                assert item.hash_key == model.key[page]
                assert client.page_hash_dict.get(item.hash_key) == page
    assert client.pages.stats()["misused"] == 0


def test_short_prompts_stay_out_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    client = fresh(8, page_tokens=64)
    pages, _ = client.allocate_pages([1, 2, 3], True)
    client.update_pages_status_to_ready(pages, False, True, 2047)
    assert client.get_pages_to_offloading() == []
    client.update_pages_status_to_ready(pages, False, True)  # 192 tokens, counted from the pages
    assert client.get_pages_to_offloading() == []
    monkeypatch.setenv("LIGHTLLM_DISK_CACHE_PROMPT_LIMIT_LENGTH", "192")
    client = fresh(8, page_tokens=64)
    pages, _ = client.allocate_pages([1, 2, 3], True)
    client.update_pages_status_to_ready(pages, True, True)
    assert client.get_pages_to_offloading() == [pages]


def test_a_full_cache_answers_minus_one_and_nothing_is_lost() -> None:
    client = fresh(2)
    assert client.allocate_pages([1, 2, 3], False) == ([0, 1, -1], [False] * 3)
    assert client.allocate_one_page(None, 9, False) == (None, False)
    client.recycle_pages([0, 1, -1])
    assert client.pages.stats()["empty"] == 2
    assert client.get_one_empty_page(9, False) is not None


def test_pages_outside_are_a_programming_error_and_change_nothing() -> None:
    client = fresh(2)
    client.allocate_pages([1], False)
    for call in (client.deref_pages, client.check_allpages_ready, client.recycle_pages):
        with pytest.raises(InvalidArgument):
            call([0, 2])
    assert client.page_items[0].ref_count == 1


def test_the_lock_has_lightllms_four_methods_and_holds_nobody_up() -> None:
    client = fresh(1)
    client.lock.acquire_sleep1ms()
    with client.lock:
        assert client.allocate_pages([1], False) == ([0], [False])
    client.lock.release()


def test_names_are_exclusive_while_somebody_is_there_and_free_afterwards() -> None:
    name = f"test-{uuid.uuid4().hex}"
    first = create_pages(name, 4)
    with pytest.raises(Unavailable, match="open in another process"):
        create_pages(name, 4)
    second = attach_pages(name, with_memory=False)
    del first
    assert second.pages == 4
    del second
    with pytest.raises(NotFound):
        attach_pages(name, with_memory=False, patience_s=0.1)
    assert create_pages(name, 8).pages == 8


CHILD = """
import sys
from ucm.integration.lightllm.client import PageClient, attach_pages
client = PageClient()
client.use(attach_pages(sys.argv[1], with_memory=False), 64)
number = int(sys.argv[2])
taken, _ = client.allocate_pages([1, number], True)      # one shared with everybody, one own
client.allocate_pages([number + 1], True)                # begun and never filled
client.update_pages_status_to_ready(taken, True, False)
print("begun", flush=True)
while True:
    pages, _ = client.allocate_pages(list(range(number, number + 40)), True)
    client.deref_pages(pages)
"""


def test_processes_may_be_killed_at_any_point_and_the_others_go_on() -> None:
    name = f"test-{uuid.uuid4().hex}"
    client = PageClient()
    client.use(create_pages(name, 400), 64)
    for round_ in range(3):
        number = 1000 * (round_ + 1)
        child = started(
            [sys.executable, "-c", CHILD, name, str(number)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
        for _ in range(300):
            pages, _ready = client.allocate_pages([1, 2, 3], False)
            client.update_pages_status_to_ready(pages, True, False)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        page, ready = client.query_one_page(number)
        assert ready, "what the killed process had finished is there"
        client.deref_pages([page])
        assert client.query_one_page(number + 1) == (None, False)
        again, _ready = client.allocate_pages([number + 1], False)
        assert again != [-1], "what it had begun can be begun again"
        client.update_pages_status_to_ready(again, True, False)
    stats: dict[str, Any] = client.pages.stats()
    assert stats["misused"] == 0
    assert stats["lost"] >= 3


def test_keys_are_packed_little_endian() -> None:
    assert packed([1, 2**127]) == b"\x01" + bytes(15) + bytes(15) + b"\x80"
