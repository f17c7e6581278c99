# SPDX-License-Identifier: Apache-2.0
"""`ucm gc` on real stores."""

from __future__ import annotations

import os
import time

import pytest
from cli_runs import SIZE, STAGES, fill, key, opened, snapshot, stored, ucm, ucm_json

BLOCK = {"Posix": SIZE + 4096, "Disk": SIZE}


@pytest.mark.parametrize("stage", STAGES)
def test_capacity_keeps_the_newest_blocks(tmp_path, stage):
    fill(stage, tmp_path, 8)
    code, report = ucm_json("gc", tmp_path, "--capacity", 3 * BLOCK[stage])
    assert code == 0
    assert report == {
        "dry_run": False,
        "blocks": 8,
        "bytes": 8 * BLOCK[stage],
        "removed_blocks": 5,
        "removed_bytes": 5 * BLOCK[stage],
    }
    assert stored(stage, tmp_path, 8) == [5, 6, 7]


@pytest.mark.parametrize("stage", STAGES)
def test_older_than_removes_what_was_written_before_that_time(tmp_path, monkeypatch, stage):
    fill(stage, tmp_path, 3)
    time.sleep(0.3)  # a Disk store tells quarters of a second apart
    fill(stage, tmp_path, 2, first=3)
    records = ucm_json("inspect", tmp_path, "--blocks")[1]["stores"][0]["records"]
    written = {each["key"]: each["written_ns"] for each in records}
    an_hour_after_block_3 = written[key(3).hex()] + 3600 * 10**9
    monkeypatch.setattr("ucm.cli.gc.time.time_ns", lambda: an_hour_after_block_3)
    assert ucm_json("gc", tmp_path, "--older-than", "2h")[1]["removed_blocks"] == 0
    assert ucm_json("gc", tmp_path, "--older-than", "1h")[1]["removed_blocks"] == 3
    assert stored(stage, tmp_path, 5) == [3, 4]


@pytest.mark.parametrize("stage", STAGES)
def test_dry_run_says_the_same_and_removes_nothing(tmp_path, stage):
    fill(stage, tmp_path, 4)
    before = snapshot(tmp_path)
    code, report = ucm_json("gc", tmp_path, "--capacity", "0", "--dry-run")
    assert (code, report["removed_blocks"]) == (0, 4)
    assert "would remove 4 of 4 blocks" in ucm("gc", tmp_path, "--capacity", 0, "--dry-run").stdout
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_left_can_be_written_and_read_as_before(tmp_path, stage):
    fill(stage, tmp_path, 6)
    assert ucm("gc", tmp_path, "--capacity", 2 * BLOCK[stage]).exit_code == 0
    fill(stage, tmp_path, 2)
    assert stored(stage, tmp_path, 6) == [0, 1, 4, 5]


def test_blocks_of_namespaces_leave_by_their_age_too(tmp_path):
    fill("Posix", tmp_path, 3, more={"namespace": "a"})
    fill("Posix", tmp_path, 3, first=3)
    fill("Posix", tmp_path, 1, first=6, more={"namespace": "a"})
    report = ucm_json("gc", tmp_path, "--capacity", 3 * BLOCK["Posix"])[1]
    assert (report["blocks"], report["removed_blocks"]) == (7, 4)
    assert stored("Posix", tmp_path, 7) == [4, 5]
    assert stored("Posix", tmp_path, 7, more={"namespace": "a"}) == [6]


def test_a_disk_store_keeps_its_shape_and_its_neighbours_of_other_block_sizes(tmp_path):
    fill("Disk", tmp_path, 4)
    fill("Disk", tmp_path, 3, size=64 * SIZE)
    format_before = (tmp_path / str(SIZE) / "FORMAT.json").read_bytes()
    neighbour = snapshot(tmp_path / str(64 * SIZE))
    assert ucm("gc", tmp_path / str(SIZE), "--capacity", SIZE).exit_code == 0
    assert (tmp_path / str(SIZE) / "FORMAT.json").read_bytes() == format_before
    assert snapshot(tmp_path / str(64 * SIZE)) == neighbour
    assert stored("Disk", tmp_path, 4) == [3]


def test_the_oldest_leave_over_all_ranks_together(tmp_path):
    fill("Disk", tmp_path, 3, rank=0)
    fill("Disk", tmp_path, 3, rank=1)
    assert ucm_json("gc", tmp_path, "--capacity", 2 * SIZE)[1]["removed_blocks"] == 4
    assert stored("Disk", tmp_path, 3, rank=0) == []
    assert stored("Disk", tmp_path, 3, rank=1) == [1, 2]


def test_a_disk_store_that_is_being_written_is_refused_with_its_writer(tmp_path):
    fill("Disk", tmp_path, 3)
    with opened("Disk", tmp_path):
        result = ucm("gc", tmp_path, "--capacity", "0")
    assert result.exit_code == 1
    assert f"process {os.getpid()}" in result.stderr
    assert stored("Disk", tmp_path, 3) == [0, 1, 2]


def test_a_writer_that_comes_in_between_is_refused_too(tmp_path, monkeypatch):
    fill("Disk", tmp_path, 3)
    monkeypatch.setattr("ucm.cli.gc.writer_of", lambda root: None)
    with opened("Disk", tmp_path):
        result = ucm("gc", tmp_path, "--capacity", "0")
    assert result.exit_code == 1
    assert f"{tmp_path}/{SIZE} is open for writing by process {os.getpid()}" in result.stderr
    assert stored("Disk", tmp_path, 3) == [0, 1, 2]


def test_without_a_limit_it_is_a_wrong_command_line(tmp_path):
    fill("Posix", tmp_path, 1)
    result = ucm("gc", tmp_path)
    assert result.exit_code == 2
    assert "--capacity" in result.stderr
