# SPDX-License-Identifier: Apache-2.0
"""Files that commands write: refused before the work begins, and written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_runs import ucm

from ucm.cli.main import cli
from ucm.cli.out_files import OutFile

COMMANDS = {
    ("replay", "--plot"): ["replay", "{trace}"],
    ("bench store", "--out"): ["bench", "store"],
    ("bench lookup", "--out"): ["bench", "lookup"],
    ("bench transport", "--out"): ["bench", "transport"],
    ("bench transport", "--plot"): ["bench", "transport", "--fragmented"],
}
"""Every option of a command that names a file to write, and what to call it with."""
READ = ("--path", "--config", "--ucm-config")


def options(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Options of all commands that take the name of a file to write."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from options(command.get_command(context, name), (*words, name))
        return
    for param in command.params:
        named = isinstance(param.type, click.Path) and not param.type.exists
        written = isinstance(param.type, OutFile) or (named and param.type.file_okay)
        if written and isinstance(param, click.Option) and param.opts[0] not in READ:
            yield " ".join(words), param.opts[0]


def test_the_table_has_every_option_that_names_a_file_to_write():
    assert set(options(cli)) == set(COMMANDS)


@pytest.fixture(params=["no folder", "a folder", "below a file", "too long", "no space to write"])
def bad(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A name ending in .png under which nothing can be written."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("mine")
    return {
        "no folder": tmp_path / "none" / "x.png",
        "a folder": tmp_path / "folder.png",
        "below a file": tmp_path / "file" / "x.png",
        "too long": tmp_path / ("a" * 300 + ".png"),
        "no space to write": Path("/proc/x.png"),
    }[request.param]


@pytest.mark.parametrize("option", COMMANDS, ids=" ".join)
def test_a_name_that_can_not_be_written_is_refused_before_the_work_begins(tmp_path, option, bad):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "hash_ids": [1, 2]}\n')
    words = [word.format(trace=trace) for word in COMMANDS[option]]
    result = ucm(*words, option[1], bad)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: ")  # nothing was measured before it
    assert str(bad) in result.stderr.replace("\n", "")
    assert {each.name for each in tmp_path.iterdir()} == {"folder.png", "file", "trace.jsonl"}


@pytest.mark.parametrize("option", [each for each in COMMANDS if each[1] == "--plot"], ids=" ".join)
def test_a_picture_of_a_kind_that_is_not_drawn_is_refused(tmp_path, option):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "hash_ids": [1, 2]}\n')
    words = [word.format(trace=trace) for word in COMMANDS[option]]
    for name in ("rates.txt", "rates"):
        result = ucm(*words, "--plot", tmp_path / name)
        assert result.exit_code == 2
        assert ".png, .svg, .pdf" in result.stderr


TRANSPORT = ("bench", "transport", "--platform", "cpu", "--size", "64KiB", "--rounds", "1")


def test_a_device_is_written_and_not_replaced(tmp_path):
    null = tmp_path / "null"
    os.mkfifo(null)
    reader = os.open(null, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert ucm(*TRANSPORT, "--out", null).exit_code == 0
        assert stat.S_ISFIFO(null.stat().st_mode)
        assert json.loads(os.read(reader, 1 << 16))["benchmark"] == "transport"
    finally:
        os.close(reader)


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    target, link = tmp_path / "elsewhere.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    assert ucm(*TRANSPORT, "--out", link).exit_code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["benchmark"] == "transport"


def test_a_run_that_fails_leaves_what_was_there(tmp_path):
    out = tmp_path / "figures.json"
    out.write_text("old")
    assert ucm("bench", "store", "--size", "100", "--out", out).exit_code == 2
    assert [each.name for each in tmp_path.iterdir()] == ["figures.json"]
    assert out.read_text() == "old"
