# SPDX-License-Identifier: Apache-2.0
"""`ucm inspect` on real stores."""

from __future__ import annotations

import pytest
from cli_runs import LAYOUT_ID, SIZE, STAGES, damage, fill, key, opened, snapshot, ucm, ucm_json


@pytest.mark.parametrize("stage", STAGES)
def test_blocks_bytes_layouts_and_ages_are_counted(tmp_path, stage):
    fill(stage, tmp_path, 5)
    code, report = ucm_json("inspect", tmp_path)
    assert code == 0
    assert (report["blocks"], report["bytes"], report["damaged"]) == (5, 5 * SIZE, 0)
    (store,) = report["stores"]
    assert store["stage"] == stage
    assert store["layouts"] == [
        {
            "layout_id": f"{LAYOUT_ID:016x}",
            "blocks": 5,
            "bytes": 5 * SIZE,
            "block_bytes": [SIZE],
        }
    ]
    ages = store["ages"]
    assert 0 <= ages["newest_s"] <= ages["median_s"] <= ages["p90_s"] <= ages["oldest_s"] < 300


@pytest.mark.parametrize("stage", STAGES)
def test_verify_finds_one_flipped_byte_and_names_the_block(tmp_path, stage):
    fill(stage, tmp_path, 4)
    assert ucm_json("inspect", tmp_path, "--verify")[0] == 0
    damage(stage, tmp_path, 2)
    assert ucm("inspect", tmp_path).exit_code == 0
    code, report = ucm_json("inspect", tmp_path, "--verify")
    assert code == 1
    assert report["damaged"] == 1
    assert [each["key"] for each in report["stores"][0]["damaged"]] == [key(2).hex()]
    result = ucm("inspect", tmp_path, "--verify")
    assert result.exit_code == 1
    assert f"damaged {key(2).hex()}" in result.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_a_sound_store_is_called_sound(tmp_path, stage):
    fill(stage, tmp_path, 3)
    assert "3 blocks read, all sound." in ucm("inspect", tmp_path, "--verify").stdout


@pytest.mark.parametrize("stage", STAGES)
def test_blocks_lists_every_key_uncut(tmp_path, stage):
    fill(stage, tmp_path, 3)
    lines = ucm("inspect", tmp_path, "--blocks", env={"COLUMNS": "40"}).stdout.splitlines()
    for index in range(3):
        assert sum(line.startswith(key(index).hex()) for line in lines) == 1
    report = ucm_json("inspect", tmp_path, "--blocks")[1]
    assert len(report["stores"][0]["records"]) == 3


@pytest.mark.parametrize("stage", STAGES)
def test_inspecting_changes_nothing_and_works_beside_a_writer(tmp_path, stage):
    fill(stage, tmp_path, 3)
    before = snapshot(tmp_path)
    assert ucm_json("inspect", tmp_path, "--verify")[0] == 0
    assert snapshot(tmp_path) == before
    with opened(stage, tmp_path):
        assert ucm_json("inspect", tmp_path, "--verify")[1]["blocks"] == 3


def test_stores_of_several_ranks_and_sizes_are_shown_apart(tmp_path):
    fill("Disk", tmp_path, 2, rank=0)
    fill("Disk", tmp_path, 3, rank=1)
    fill("Disk", tmp_path, 1, size=2 * SIZE, rank=1)
    report = ucm_json("inspect", tmp_path)[1]
    assert report["blocks"] == 6
    found = {each["path"].removeprefix(f"{tmp_path}/"): each["blocks"] for each in report["stores"]}
    assert found == {"rank-0/8192": 2, "rank-1/8192": 3, "rank-1/16384": 1}
    one = ucm_json("inspect", tmp_path / "rank-1" / "8192")[1]
    assert one["blocks"] == 3


def test_the_writer_of_a_disk_store_is_named(tmp_path):
    import os

    fill("Disk", tmp_path, 1)
    with opened("Disk", tmp_path):
        assert f"process {os.getpid()}" in ucm("inspect", tmp_path).stdout
    assert f"process {os.getpid()}" not in ucm("inspect", tmp_path).stdout


@pytest.mark.parametrize("make", ["nothing", "file", "empty", "foreign"])
def test_what_is_no_store_is_refused_with_the_reason(tmp_path, make):
    path = tmp_path / "it"
    if make == "file":
        path.write_text("text")
    elif make != "nothing":
        path.mkdir()
    if make == "foreign":
        (path / "FORMAT.json").write_text('{"format": "other", "version": 1}')
    result = ucm("inspect", path)
    assert result.exit_code == 1
    wanted = {"nothing": "does not exist", "file": "is a file"}.get(make, "holds no store of ucm")
    assert wanted in result.stderr
