# SPDX-License-Identifier: Apache-2.0
"""Who may use a folder: servers of other kinds, readers beside the owner, several nodes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from page_contents import (
    ABORTED,
    FINISHED,
    PAGE_BYTES,
    Make,
    finish,
    keys_of,
    read,
    span,
    tensor_of,
    until,
    write,
    wrong_pages,
)

from ucm import log

START = {
    "model_dir": "/models/llama",
    "data_type": "bfloat16",
    "llm_kv_type": None,
    "mtp_mode": None,
    "cpu_cache_token_page_size": 256,
    "tp": 8,
    "dp": 1,
    "nnodes": 1,
    "node_rank": 0,
    "enable_multimodal": False,
    "port": 8000,
}


def serve(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setenv("LIGHTLLM_START_ARGS", json.dumps(START | changes))


def stays_after(monkeypatch: pytest.MonkeyPatch, make: Make, **changes: Any) -> bool:
    """Whether pages of one server are found by one that was started otherwise."""
    tensor, keys = tensor_of(8), keys_of(1, 4)
    serve(monkeypatch)
    service = make(tensor)
    write(service, tensor, keys)
    service.close()
    serve(monkeypatch, **changes)
    service = make(tensor)
    found = service.query(keys)
    assert found in ([True] * 4, [False] * 4)
    service.close()
    return found[0]


@pytest.mark.parametrize("change", [{}, {"port": 8001}, {"max_req_total_len": 9}])
def test_a_restart_of_the_same_server_keeps_its_pages(
    make: Make, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    assert stays_after(monkeypatch, make, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"model_dir": "/models/other"},
        {"data_type": "float16"},
        {"llm_kv_type": "int8kv"},
        {"mtp_mode": "deepseekv3"},
        {"cpu_cache_token_page_size": 64},
        {"tp": 4},
        {"dp": 2},
        {"nnodes": 2},
        {"node_rank": 1},
        {"linear_att_hash_page_size": 1024},
    ],
)
def test_pages_of_another_server_are_dropped(
    make: Make, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    assert not stays_after(monkeypatch, make, **change)


def test_pages_of_another_size_are_dropped_with_a_line_in_the_log(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ucm").addHandler(logging.NullHandler())
    log.configure()
    tensor, keys = tensor_of(8), keys_of(2, 4)
    service = make(tensor)
    write(service, tensor, keys)
    service.close()
    with caplog.at_level(logging.WARNING, "ucm"):
        service = make(tensor_of(8, 2 * PAGE_BYTES), page_bytes=2 * PAGE_BYTES)
    assert service.query(keys) == [False] * 4
    assert "starts empty: it belongs to another server" in caplog.text
    assert sorted(os.listdir(tmp_path / "cache_file")) == ["LOCK", "SCOPE", "pages"]


def test_replaced_weights_are_another_model(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    weights = model / "model.safetensors"
    weights.write_bytes(b"one" * 1000)
    tensor, keys = tensor_of(8), keys_of(3, 4)
    serve(monkeypatch, model_dir=str(model))
    service = make(tensor)
    write(service, tensor, keys)
    service.close()
    service = make(tensor)
    assert service.query(keys) == [True] * 4
    service.close()
    weights.write_bytes(b"two" * 1000)
    assert make(tensor).query(keys) == [False] * 4


def test_a_multimodal_model_starts_empty_each_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor, keys = tensor_of(8), keys_of(4, 4)
    serve(monkeypatch, enable_multimodal=True)
    service = make(tensor)
    write(service, tensor, keys)
    assert service.query(keys) == [True] * 4
    service.close()
    assert make(tensor).query(keys) == [False] * 4


def test_a_second_process_may_read_where_that_was_asked_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor, keys = tensor_of(16), keys_of(5, 8)
    owner = make(tensor)
    write(owner, tensor, keys[:4])
    reader_tensor = tensor_of(16)
    monkeypatch.setenv("UCM_LIGHT_MEM_READ_ONLY", "1")
    reader = make(reader_tensor)
    assert reader.query(keys) == [True] * 4 + [False] * 4
    assert read(reader, keys[:4]) == [FINISHED] * 4
    assert wrong_pages(reader_tensor, span(0, 4), keys[:4]) == []
    # It sees what the owner stores later, and stores nothing itself.
    write(owner, tensor, keys)
    until(lambda: all(reader.query(keys)))
    task = reader.create(hash_128s=keys_of(6, 2), kv_page_indexer=span(0, 2), mode="w")
    assert finish(task) == [ABORTED] * 2 and task.data_safe()
    assert owner.query(keys_of(6, 2)) == [False] * 2


def test_a_reader_of_another_server_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch)
    make()
    serve(monkeypatch, tp=4)
    with pytest.raises(RuntimeError, match="another server"):
        make(read_only=True)


def test_nodes_of_a_shared_folder_write_their_own_and_read_all(make: Make, tmp_path: Path) -> None:
    tensors = [tensor_of(16), tensor_of(16)]
    nodes = [
        make(tensor, shared="on", coord_node_id=f"node{number}")
        for number, tensor in enumerate(tensors)
    ]
    chains = [keys_of(10 + number, 8) for number in range(2)]
    for node, tensor, keys in zip(nodes, tensors, chains, strict=True):
        assert write(node, tensor, keys) == [FINISHED] * 8
    for node, tensor in zip(nodes, tensors, strict=True):
        for keys in chains:
            until(lambda node=node, keys=keys: all(node.query(keys)))
            tensor[8:] = 0
            assert read(node, keys, 8) == [FINISHED] * 8
            assert wrong_pages(tensor, span(8, 8), keys) == []
    (scope,) = (tmp_path / "cache_file").glob("scope-*")
    roots = sorted(each.name for each in scope.iterdir() if each.is_dir())
    assert roots == ["node-node0", "node-node1"]
    stored = [len([*(scope / root).rglob("*/" + "?" * 32)]) for root in roots]
    assert stored == [8, 8]


def test_a_shared_folder_outlives_its_nodes_and_takes_damage(make: Make, tmp_path: Path) -> None:
    tensor, keys = tensor_of(16), keys_of(20, 8)
    first = make(tensor, shared="on", coord_node_id="a")
    write(first, tensor, keys)
    first.close()
    victim = sorted((tmp_path / "cache_file").rglob("*/" + "?" * 32))[3]
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    second = make(tensor, shared="on", coord_node_id="b")
    tensor[8:] = 0xA5
    states = read(second, keys, 8)
    assert sorted(states.count(each) for each in (FINISHED, ABORTED)) == [1, 7]
    for page, key, state in zip(span(8, 8), keys, states, strict=True):
        if state == FINISHED:
            assert wrong_pages(tensor, [page], [key]) == []
        else:
            assert (tensor[page] == 0xA5).all()


def test_a_node_of_a_shared_folder_counts_what_it_stores(make: Make) -> None:
    tensor, keys = tensor_of(16), keys_of(24, 8)
    node = make(tensor, shared="on", coord_node_id="a")
    other = make(tensor_of(4), shared="on", coord_node_id="b")
    write(node, tensor, keys)
    until(lambda: node.stats()["pages_stored"] == 8)
    assert node.stats()["used_bytes"] >= 8 * PAGE_BYTES
    assert all(other.query(keys))
    assert other.stats()["pages_stored"] == 0
    assert node.eviction_count() == 0


def test_a_reader_of_a_shared_folder_has_no_name_and_writes_nothing(make: Make) -> None:
    tensor, keys = tensor_of(16), keys_of(25, 4)
    make(tensor_of(4), shared="on", coord_node_id="idle")
    node = make(tensor, shared="on", coord_node_id="a")
    write(node, tensor, keys)
    reader = make(tensor, shared="on", coord_node_id="a", read_only=True)
    tensor[8:] = 0
    assert reader.query(keys) == [True] * 4
    assert read(reader, keys, 8) == [FINISHED] * 4
    assert wrong_pages(tensor, span(8, 4), keys) == []
    task = reader.create(hash_128s=keys_of(26, 1), kv_page_indexer=span(0, 1), mode="w")
    assert finish(task) == [ABORTED]


def test_a_node_drops_its_own_pages_of_another_server_and_nobody_elses(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tensor = tensor_of(8)
    serve(monkeypatch)
    for name, seed in (("a", 40), ("b", 41)):
        node = make(tensor, shared="on", coord_node_id=name)
        write(node, tensor, keys_of(seed, 2))
        node.close()
    serve(monkeypatch, tp=2)
    make(tensor, shared="on", coord_node_id="a").close()
    serve(monkeypatch)
    reader = make(tensor, shared="on", coord_node_id="c")
    assert reader.query(keys_of(40, 2)) == [False] * 2
    assert reader.query(keys_of(41, 2)) == [True] * 2
    assert os.listdir(tmp_path) == ["cache_file"]


@pytest.mark.parametrize(
    ("file_system", "nodes", "shared"),
    [
        ("nfs", 1, True),
        ("lustre", 1, True),
        ("fuse", 2, True),
        ("fuse", 1, False),
        ("xfs", 2, False),
    ],
)
def test_a_folder_is_shared_where_its_file_system_is(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    file_system: str,
    nodes: int,
    shared: bool,
) -> None:
    serve(monkeypatch, nnodes=nodes)
    monkeypatch.setattr("ucm._core.io_capabilities", lambda _: {"file_system": file_system})
    make()
    assert bool([*(tmp_path / "cache_file").glob("scope-*/node-*")]) == shared


def test_two_nodes_of_one_name_are_refused(make: Make) -> None:
    make(shared="on", coord_node_id="same")
    with pytest.raises(RuntimeError, match="is held by"):
        make(shared="on", coord_node_id="same")


def test_nodes_of_one_tensor_parallel_group_never_read_each_others_halves(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor, keys = tensor_of(8), keys_of(30, 4)
    serve(monkeypatch, tp=16, nnodes=2, node_rank=0)
    first = make(tensor, shared="on", coord_node_id="a")
    write(first, tensor, keys)
    serve(monkeypatch, tp=16, nnodes=2, node_rank=1)
    second = make(tensor, shared="on", coord_node_id="b")
    assert second.query(keys) == [False] * 4
    assert read(second, keys) == [ABORTED] * 4


def test_a_shared_folder_of_a_multimodal_model_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, enable_multimodal=True)
    with pytest.raises(ValueError, match="multimodal"):
        make(shared="on")


def test_index_servers_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="share a folder"):
        make(index_endpoint="redis://somewhere")


@pytest.mark.parametrize(
    "options",
    [
        {"num_shard": 0},
        {"num_worker": 0},
        {"storage_size": PAGE_BYTES - 1},
        {"shared": "perhaps"},
        {"staging_mb": 0},
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: Make, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        make(**options)


def test_tensors_that_can_not_be_used_are_refused(make: Make) -> None:
    whole = tensor_of(8)
    for wrong in (whole[0], whole[:, ::2], whole[:, :100], whole.view("int8"), whole[::2]):
        with pytest.raises((ValueError, RuntimeError)):
            make(wrong)
    with pytest.raises(ValueError, match="'r' or 'w'"):
        make(whole).create(hash_128s=[1], kv_page_indexer=span(0, 1), mode="rw")


def test_more_than_the_disk_has_is_refused(make: Make) -> None:
    with pytest.raises(RuntimeError, match="free"):
        make(storage_size=1 << 60)


def test_a_file_in_the_way_is_named(make: Make, tmp_path: Path) -> None:
    (tmp_path / "cache_file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        make()


def test_the_module_is_imported_without_torch_and_has_three_names() -> None:
    program = (
        "import sys; from light_mem import PyLocalCacheService, PyState\n"
        "import light_mem\n"
        "assert sorted(light_mem.__all__) == ['PyLocalCacheService', 'PyState', 'PyTask']\n"
        "assert [(s.name, s.value) for s in PyState] == [('Initial', 0), ('Working', 1), "
        "('Finished', 2), ('Aborted', 3)]\n"
        "assert 'torch' not in sys.modules; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr


def test_a_tensor_of_torch_is_taken_as_light_llm_makes_it(make: Make) -> None:
    import torch

    pages = torch.zeros((8, 2, 4, 2, 1024), dtype=torch.bfloat16)
    tensor = pages.flatten(1).view(torch.uint8)
    memory = tensor.numpy()
    keys = keys_of(40, 4)
    service = make(tensor, page_bytes=memory.shape[1])
    write(service, memory, keys)
    task = service.create(
        hash_128s=keys,
        kv_page_indexer=torch.tensor([4, 5, 6, 7], dtype=torch.int32, device="cpu"),
        mode="r",
        start_pos=0,
    )
    assert finish(task) == [FINISHED] * 4
    assert wrong_pages(memory, span(4, 4), keys) == []
    with pytest.raises(ValueError, match="int32"):
        service.create(hash_128s=keys, kv_page_indexer=torch.tensor([4, 5, 6, 7]), mode="r")
