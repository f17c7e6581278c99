# SPDX-License-Identifier: Apache-2.0
"""The documented transports and the pool, without a device."""

from __future__ import annotations

import numpy as np
import pytest

from ucm.errors import InvalidArgument, OutOfMemory, Unavailable
from ucm.memory import PinnedMemoryPool, size_class
from ucm.shared.trans import CPUTransport, CUDATransport
from ucm.shared.trans.pinned_pool import PinnedMemoryPool as Documented

torch = pytest.importorskip("torch")


@pytest.fixture
def pool():
    return PinnedMemoryPool(initial_size=0, max_size=8 << 20)


def test_the_documented_path_is_the_same_class():
    assert Documented is PinnedMemoryPool
    assert PinnedMemoryPool.get_instance() is PinnedMemoryPool.get_instance()


def test_figures_follow_the_buffers(pool):
    rest = pool.get_stats()["total_allocated"]
    first, second = pool.allocate(100_000), pool.allocate(10)
    stats = pool.get_stats()
    assert stats["total_allocated"] - rest == (256 << 10) + (64 << 10)
    assert stats["total_free"] == stats["total_allocated"] - stats["currently_used"]
    used = stats["currently_used"]
    pool.free(first)
    pool.free(second)
    stats = pool.get_stats()
    assert used - stats["currently_used"] == (256 << 10) + (64 << 10)
    assert stats["peak_allocated"] >= (256 << 10) + (64 << 10)
    assert stats["page_size"] >= 4096 and stats["kind"] == "plain"


def test_a_buffer_is_used_again(pool):
    buffer = pool.allocate(1000)
    address = buffer.ctypes.data
    assert address % 4096 == 0 and buffer.shape == (1000,) and buffer.dtype == np.uint8
    pool.free(buffer)
    assert pool.allocate(60_000).ctypes.data == address


def test_the_pool_keeps_its_limit_and_reuses_idle_classes_for_others(pool):
    buffers = [pool.allocate(4 << 20) for _ in range(2)]
    with pytest.raises(MemoryError, match="max_size of 8388608") as caught:
        pool.allocate(1)
    assert isinstance(caught.value, OutOfMemory)
    for buffer in buffers:
        pool.free(buffer)
    assert pool.allocate(1 << 20).nbytes == 1 << 20


def test_a_pool_smaller_than_a_class_hands_out_whole_buffers_or_none():
    pool = PinnedMemoryPool(initial_size=1000, max_size=2000)
    buffer = pool.allocate(1500)
    assert buffer.nbytes == 1500
    pool.free(buffer)
    with pytest.raises(OutOfMemory):
        pool.allocate(2001)
    assert pool.allocate(2000).nbytes == 2000


def test_a_buffer_is_given_back_once(pool):
    buffer = pool.allocate(10)
    pool.free(torch.from_numpy(buffer))
    for wrong in (buffer, np.zeros(3, np.uint8)):
        with pytest.raises(InvalidArgument, match="not in use"):
            pool.free(wrong)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "1"])
def test_a_buffer_has_a_size(pool, size):
    with pytest.raises(InvalidArgument, match="1 byte or more"):
        pool.allocate(size)


@pytest.mark.parametrize(
    ("size", "taken"),
    [
        (1, 64 << 10),
        (65537, 256 << 10),
        (5 << 20, 16 << 20),
        (64 << 20, 64 << 20),
        (65 << 20, 128 << 20),
    ],
)
def test_sizes_come_in_classes(size, taken):
    assert size_class(size) == taken


def test_the_host_transport_copies_both_ways():
    transport = CPUTransport()
    pinned = transport.get_pinned_buffer(4000)
    pinned[:] = torch.arange(4000, dtype=torch.int32).to(torch.uint8)
    target = torch.zeros(1000, dtype=torch.float32)
    task = transport.h2d(pinned, target)
    transport.synchronize(task)
    assert task.is_completed() and task.status == "completed" and task.size == 4000
    assert torch.equal(target.view(torch.uint8), pinned)
    pinned.zero_()
    transport.d2h(target, pinned).wait()
    assert torch.equal(target.view(torch.uint8), pinned)
    transport.release_pinned_buffer(pinned)
    with pytest.raises(InvalidArgument):
        transport.release_pinned_buffer(pinned)


def test_the_host_transport_refuses_what_does_not_fit():
    transport, buffer = CPUTransport(), np.zeros(10, np.uint8)
    with pytest.raises(InvalidArgument, match="src has 10 bytes and dst 11"):
        transport.h2d(buffer, np.zeros(11, np.uint8))
    with pytest.raises(InvalidArgument, match="dst is read-only"):
        transport.h2d(buffer, b"x" * 10)


def test_a_cuda_transport_works_or_says_why_not():
    if not torch.cuda.is_available():
        with pytest.raises(Unavailable, match=r"needs a CUDA device: .*CPUTransport"):
            CUDATransport(device_id=0)
        return
    transport = CUDATransport(device_id=0)
    pinned, back = transport.get_pinned_buffer(1 << 20), transport.get_pinned_buffer(1 << 20)
    pinned.random_(0, 256)
    device = torch.zeros(1 << 18, dtype=torch.float32, device="cuda:0")
    transport.synchronize(transport.h2d(pinned, device))
    transport.synchronize(transport.d2h(device, back))
    assert torch.equal(pinned, back)
    with pytest.raises(Unavailable, match="there are"):
        CUDATransport(device_id=99)
