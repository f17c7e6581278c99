# SPDX-License-Identifier: Apache-2.0
"""`ucm doctor`: the checklist before production."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ucm.cli import check_config, check_host, check_network, check_software, check_storage
from ucm.cli.findings import FAIL, Finding, Subject, as_dicts, count, show
from ucm.cli.output import write_json
from ucm.cli.params import json_option
from ucm.errors import UcmError

Check = Callable[[Subject], Iterator[Finding]]

SECTIONS: dict[str, Check] = {
    "Configuration": check_config.check,
    "Storage": check_storage.check,
    "Machine": check_host.check,
    "Network": check_network.check,
    "Software": check_software.check,
}


@click.command(epilog="Example: ucm doctor --config ucm_config.yaml")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="A configuration; by default the one that $UCM_CONFIG_FILE names, if any.",
)
@click.option(
    "--path",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A directory for blocks; may be given several times.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8000,
    show_default=True,
    help="Port the engine's API will listen on.",
)
@json_option()
def doctor(file: Path | None, paths: tuple[Path, ...], port: int, as_json: bool) -> None:
    """Check everything that ucm needs, one line each; exit code 1 when something fails.

    Looks at the configuration, storage paths, permissions, space, O_DIRECT, io_uring, limits, huge
    pages, ports, platforms and versions. Writes nothing but a probe file that it removes.
    """
    logging.getLogger("ucm").setLevel(logging.CRITICAL)
    named = os.environ.get("UCM_CONFIG_FILE")
    subject = Subject(None, file or (Path(named) if named else None), [], port)
    sections = {"Configuration": check_config.load(subject)}
    subject.paths = _paths(subject, paths)
    for section, check in SECTIONS.items():
        sections.setdefault(section, []).extend(_run(section, check, subject))
    if as_json:
        write_json(as_dicts(sections))
    else:
        show(sections)
    if count(sections)[FAIL]:
        raise click.exceptions.Exit(1)


def _paths(subject: Subject, given: tuple[Path, ...]) -> list[Path]:
    """Directories of the configuration, then those of the command line, each once."""
    configured: list[str] = []
    if subject.config is not None:
        try:
            configured = subject.config.store.core_options().get("storage_backends", [])
        except UcmError:
            configured = []  # the section Configuration says why
    absolute = [Path(each) for each in configured] + [each.absolute() for each in given]
    return list(dict.fromkeys(absolute))


def _run(section: str, check: Check, subject: Subject) -> list[Finding]:
    """A check that breaks is a finding of its own; the others still run."""
    findings: list[Finding] = []
    try:
        findings.extend(check(subject))
    except (OSError, UcmError, ValueError) as error:
        findings.append(
            Finding(FAIL, section.lower(), f"could not be examined: {error}", "see the text before")
        )
    return findings
