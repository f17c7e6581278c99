# SPDX-License-Identifier: Apache-2.0
"""`ucm`: the commands, and how their errors reach a person."""

from __future__ import annotations

import difflib
import logging
from importlib import import_module
from typing import Any

import click

from ucm.errors import UcmError

_COMMANDS = {
    "serve": ("ucm.cli.serve", "serve"),
    "doctor": ("ucm.cli.doctor", "doctor"),
    "bench": ("ucm.cli.bench", "bench"),
    "plan": ("ucm.cli.plan", "plan"),
    "replay": ("ucm.cli.replay", "replay_command"),
    "inspect": ("ucm.cli.inspect", "inspect"),
    "gc": ("ucm.cli.gc", "gc"),
    "clear": ("ucm.cli.clear", "clear"),
    "deploy": ("ucm.cli.deploy", "deploy"),
}
"""Command -> where it is; a module is imported when its command is used."""
_INTERRUPTED = 130


class Commands(click.Group):
    """The group `ucm`. Errors of a user's doing are one sentence, Ctrl-C ends quietly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
        if close and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no such command {args[0]!r}; did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            raise click.exceptions.Exit(_INTERRUPTED) from None
        except UcmError as error:
            raise click.ClickException(str(error)) from error
        except ImportError as error:
            if error.name != "ucm._core":
                raise
            raise click.ClickException(
                f"the native core of ucm can not be loaded ({error}); install ucm again: "
                "pip install --force-reinstall . in a checkout"
            ) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError) or not error.strerror:
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror}") from error


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import ucm

        click.echo(f"ucm {ucm.__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has its own help: ucm bench store --help",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print the version and exit.",
)
def cli() -> None:
    """KV blocks of LLM inference outside the engine's memory, and back.

    Exit codes: 0 fine, 1 something was found or failed, 2 the command line is wrong.
    """
    logging.getLogger("ucm").setLevel(logging.ERROR)


def main() -> None:
    """The console script."""
    cli(prog_name="ucm")
