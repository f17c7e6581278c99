# SPDX-License-Identifier: Apache-2.0
"""Events of the engine's stream, with a torch that has an accelerator."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from ucm.errors import InvalidArgument
from ucm.store.rows import tensor_rows
from ucm.store.sizes import Sizes
from ucm.store.streams import current_stream, mark_current_stream
from ucm.store.tensors import Memory


class Event:
    def __init__(self, handle_name: str) -> None:
        setattr(self, handle_name, 4711)
        self.recorded_on: object = None

    def record(self, stream: object) -> None:
        self.recorded_on = stream


def accelerator(handle_name: str, available: bool = True) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        Event=lambda: Event(handle_name),
        is_available=lambda: available,
        current_stream=lambda device: ("stream of", device),
    )


class Stream:
    def __init__(self, handle_name: str, handle: int) -> None:
        setattr(self, handle_name, handle)


@pytest.mark.parametrize(
    ("platform", "name", "handle"),
    [
        ("cuda", "cuda", "cuda_event"),
        ("ascend", "npu", "npu_event"),
        ("musa", "musa", "musa_event"),
        ("maca", "cuda", "cuda_event"),
        ("npu", "npu", "npu_event"),
    ],
)
def test_the_current_stream_of_the_device_is_marked(monkeypatch, platform, name, handle):
    torch = types.SimpleNamespace(**{name: accelerator(handle)})
    monkeypatch.setitem(sys.modules, "torch", torch)
    event, number = mark_current_stream(platform, 3)
    assert number == 4711
    assert event.recorded_on == ("stream of", 3)


@pytest.mark.parametrize(
    "torch",
    [
        types.SimpleNamespace(),
        types.SimpleNamespace(cuda=accelerator("cuda_event", available=False)),
    ],
)
def test_without_such_a_device_there_is_nothing_to_wait_for(monkeypatch, torch):
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert mark_current_stream("cuda", 0) == (None, 0)


@pytest.mark.parametrize(
    ("platform", "name", "handle_name", "handle"),
    [
        ("cuda", "cuda", "cuda_stream", 4712),
        ("cuda", "cuda", "cuda_stream", 0),
        ("ascend", "npu", "npu_stream", 4713),
        ("npu", "npu", "npu_stream", 0),
        ("musa", "musa", "musa_stream", 4714),
        ("maca", "cuda", "cuda_stream", 4715),
    ],
)
def test_the_current_stream_of_the_device_is_known(
    monkeypatch, platform, name, handle_name, handle
):
    streams = types.SimpleNamespace(
        is_available=lambda: True,
        current_stream=lambda device: Stream(handle_name, handle + device),
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(**{name: streams}))
    assert current_stream(platform, 2) == handle + 2


def test_without_such_a_device_no_stream_can_wait(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace())
    assert current_stream("cuda", 0) is None


def test_without_torch_there_is_nothing_to_wait_for(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert mark_current_stream("cuda", 0) == (None, 0)


def test_a_call_moves_host_or_device_memory_but_not_both():
    host = Memory(4096, 8, "cpu", 0, True)
    far = Memory(8192, 8, "cuda", 0, True)
    shards = np.zeros(1, dtype=np.uint32)
    sizes = Sizes((8, 8), 1)
    assert tensor_rows(shards, [[host, host]], sizes, "cuda").on_host
    assert not tensor_rows(shards, [[far, far]], sizes, "cuda").on_host
    with pytest.raises(InvalidArgument, match="in separate calls"):
        tensor_rows(shards, [[host, far]], sizes, "cuda")
