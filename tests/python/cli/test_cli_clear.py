# SPDX-License-Identifier: Apache-2.0
"""`ucm clear` removes what ucm wrote, and nothing else."""

from __future__ import annotations

import os

import pytest
from cli_runs import SIZE, STAGES, content, fill, key, opened, snapshot, stored, ucm, ucm_json


@pytest.mark.parametrize("stage", STAGES)
def test_a_store_is_removed_without_a_trace_and_its_directory_stays(tmp_path, stage):
    fill(stage, tmp_path, 5)
    code, report = ucm_json("clear", tmp_path, "--yes")
    assert code == 0
    assert report["files"] > 0
    assert report["left"] == 0
    assert list(tmp_path.iterdir()) == []
    fill(stage, tmp_path, 2)
    assert stored(stage, tmp_path, 2) == [0, 1]


def test_namespaces_pins_and_shared_files_go_with_the_store(tmp_path):
    fill("Posix", tmp_path, 3)
    with opened("Posix", tmp_path, more={"namespace": "model-a", "pack_bytes": 65536}) as store:
        ids = [key(each) for each in range(4)]
        store.dump(ids, 0, [content(each) for each in range(4)]).wait(60)
        assert store.pin(ids[:1]) == [True]
    assert ucm_json("clear", tmp_path, "--yes")[1]["left"] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", STAGES)
def test_files_of_others_stay_wherever_they_lie(tmp_path, stage):
    fill(stage, tmp_path, 5)
    inside = next(each for each in sorted(tmp_path.iterdir()) if each.is_dir())
    mine = [tmp_path / "notes.txt", inside / "notes.txt", inside / ("0" * 31 + "x")]
    mine.append(inside / ("e" * 32))  # a block's name, in the folder of other blocks
    for each in mine:
        each.write_text("mine")
    assert ucm("clear", tmp_path, "--yes").exit_code == 0
    assert {str(each.relative_to(tmp_path)) for each in mine} <= set(snapshot(tmp_path))
    assert all(text == b"mine" for text in snapshot(tmp_path).values())


@pytest.mark.parametrize("stage", STAGES)
def test_links_are_not_followed(tmp_path, stage):
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / ("f" * 32)).write_text("mine")
    (outside / "FORMAT.json").write_text("mine")
    fill(stage, root, 3)
    (root / "ff").symlink_to(outside)
    (root / "123").symlink_to(outside)
    assert ucm("clear", root, "--yes").exit_code == 0
    assert sorted(snapshot(outside)) == ["FORMAT.json", "f" * 32]
    assert stored(stage, root, 3) == []


@pytest.mark.parametrize(
    "files",
    [{}, {"a.txt": "x"}, {"FORMAT.json": "{}"}, {"FORMAT.json": '{"format": "theirs"}'}],
    ids=["empty", "text", "no format", "other format"],
)
def test_a_directory_without_our_format_is_refused_and_untouched(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "00").mkdir()
    (tmp_path / "00" / ("0" * 32)).write_text("looks like a block")
    before = snapshot(tmp_path)
    result = ucm("clear", tmp_path, "--yes")
    assert result.exit_code == 1
    assert "holds no store of ucm" in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("stage", STAGES)
def test_it_asks_first_and_no_means_no(tmp_path, stage):
    fill(stage, tmp_path, 2)
    before = snapshot(tmp_path)
    result = ucm("clear", tmp_path, input="n\n")
    assert result.exit_code == 1
    assert "Remove" in result.stderr
    assert snapshot(tmp_path) == before
    silent = ucm("clear", tmp_path, input="")
    assert (silent.exit_code, "--yes" in silent.stderr) == (2, True)
    assert snapshot(tmp_path) == before
    assert ucm("clear", tmp_path, input="y\n").exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_being_written_is_refused(tmp_path):
    fill("Disk", tmp_path, 2)
    with opened("Disk", tmp_path):
        result = ucm("clear", tmp_path, "--yes")
    assert result.exit_code == 1
    assert f"process {os.getpid()}" in result.stderr
    assert stored("Disk", tmp_path, 2) == [0, 1]


def test_the_stores_of_all_ranks_and_sizes_go_together(tmp_path):
    fill("Disk", tmp_path, 2, rank=0)
    fill("Disk", tmp_path, 2, size=2 * SIZE, rank=1)
    (tmp_path / "rank-7").mkdir()
    assert ucm("clear", tmp_path, "--yes").exit_code == 0
    assert [each.name for each in tmp_path.iterdir()] == ["rank-7"]
