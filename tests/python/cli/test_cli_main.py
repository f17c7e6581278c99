# SPDX-License-Identifier: Apache-2.0
"""The group of commands: help, version, errors."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from cli_runs import ucm

import ucm as package
from ucm import _core
from ucm.cli import main
from ucm.cli.main import cli

LEAVES = [
    ["serve"],
    ["doctor"],
    ["bench", "store"],
    ["bench", "lookup"],
    ["bench", "transport"],
    ["plan"],
    ["inspect"],
    ["gc"],
    ["clear"],
    ["deploy"],
]


def test_version_is_the_one_of_the_native_core():
    result = ucm("--version")
    assert result.stdout == f"ucm {_core.version()}\n"
    assert package.__version__ == _core.version()


def test_every_listed_command_exists():
    result = ucm("--help")
    assert result.exit_code == 0
    for name in cli.list_commands(click.Context(cli)):
        assert f"  {name} " in result.stdout


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_help_has_an_example_and_every_command_has_json(words):
    text = ucm(*words, "--help").stdout
    assert f"ucm {' '.join(words)}" in text[text.index("Example") :]
    assert "--json" in text


def test_a_mistyped_command_is_answered_with_the_nearest_one():
    result = ucm("inspct", "/tmp")
    assert result.exit_code == 2
    assert "did you mean 'inspect'?" in result.stderr


def test_an_error_of_the_library_is_one_sentence_without_a_traceback(tmp_path):
    file = tmp_path / "ucm.yaml"
    file.write_text("store_pipeline: Cache|Posx\n")
    result = ucm("serve", "model", "--ucm-config", file)
    assert result.exit_code == 1
    assert "Posix" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_a_path_that_may_not_be_read_is_an_error_of_one_sentence(tmp_path):
    result = ucm("deploy", "grafana", "--out", tmp_path / ("a" * 300))
    assert result.exit_code == 1
    assert "File name too long" in result.stderr


def test_ctrl_c_ends_quietly(monkeypatch):
    @click.command()
    def stuck() -> None:
        raise KeyboardInterrupt

    module = sys.modules[__name__]
    monkeypatch.setattr(module, "stuck", stuck, raising=False)
    monkeypatch.setitem(main._COMMANDS, "stuck", (__name__, "stuck"))
    result = ucm("stuck")
    assert (result.exit_code, result.output) == (130, "")


def test_the_commands_load_neither_torch_nor_vllm():
    code = (
        "import sys, ucm.cli.main as m; ctx = m.click.Context(m.cli)\n"
        "[m.cli.get_command(ctx, name) for name in m.cli.list_commands(ctx)]\n"
        "print({'torch', 'vllm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
