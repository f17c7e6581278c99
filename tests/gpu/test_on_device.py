# SPDX-License-Identifier: Apache-2.0
"""The package on a real CUDA device. Run by run.sh; the default suites have no device."""

from __future__ import annotations

import torch

from ucm.layout import KVLayout
from ucm.store.store import Store
from ucm.transport import CUDATransport

BLOCKS = 24


def store_for(tmp_path, pipeline):
    from ucm.config import StoreConfig

    config = StoreConfig(
        store_pipeline=pipeline, storage_backends=(str(tmp_path),), platform="cuda", device_id=0
    )
    return Store(config)


def test_device_tensors_come_back_through_every_pipeline(tmp_path):
    ids = [index.to_bytes(16, "little") for index in range(1, BLOCKS + 1)]
    for pipeline in ("Cache", "Cache|Posix", "Cache|Disk"):
        folder = tmp_path / pipeline.replace("|", "-")
        folder.mkdir()
        store = store_for(folder, pipeline)
        source = torch.randint(0, 255, (BLOCKS, 2, 5000), dtype=torch.uint8, device="cuda")
        rows = [[block[0], block[1]] for block in source]
        # The kernel that writes the blocks is queued, not done, when they are dumped.
        kept = source.clone()
        source.add_(7)
        kept.add_(7)
        store.dump(ids, 0, rows).wait()
        target = torch.zeros_like(source)
        store.load(ids, 0, [[block[0], block[1]] for block in target]).wait()
        assert torch.equal(target, kept), pipeline
        store.close()


def test_host_tensors_go_in_and_device_tensors_come_out(tmp_path):
    store = store_for(tmp_path, "Cache")
    ids = [b"\x01" * 16]
    host = torch.arange(10000, dtype=torch.int32)
    store.dump(ids, 0, [[host]]).wait()
    far = torch.zeros(10000, dtype=torch.int32, device="cuda")
    store.load(ids, 0, [[far]]).wait()
    assert torch.equal(far.cpu(), host)
    store.close()


def test_every_kv_layout_of_vllm_is_seen_on_the_device():
    for shape in ((2, 16, 16, 4, 64), (16, 2, 16, 4, 64), (16, 16, 576)):
        tensors = {
            f"layer.{i}": torch.zeros(shape, dtype=torch.bfloat16, device="cuda") for i in range(3)
        }
        layout = KVLayout.from_tensors(tensors, 16, 16)
        each = next(iter(tensors.values()))
        assert layout.block_bytes == 3 * each.numel() * each.element_size() // 16


def test_the_documented_transport_moves_bytes():
    transport = CUDATransport(device_id=0)
    pinned, back = transport.get_pinned_buffer(1 << 20), transport.get_pinned_buffer(1 << 20)
    pinned.random_(0, 255)
    far = torch.zeros(1 << 20, dtype=torch.uint8, device="cuda")
    transport.synchronize(transport.h2d(pinned, far))
    transport.synchronize(transport.d2h(far, back))
    assert torch.equal(pinned, back)
