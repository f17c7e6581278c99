# SPDX-License-Identifier: Apache-2.0
"""The configuration: syntax, keys, metrics file, log file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ucm.cli.findings import FAIL, INFO, OK, WARN, Finding, Subject
from ucm.config import UcmConfig, load_config
from ucm.errors import UcmError


def load(subject: Subject) -> list[Finding]:
    """Reads the configuration into the subject."""
    if subject.file is None:
        return [
            Finding(INFO, "configuration", "none given", "check one with --config FILE"),
        ]
    try:
        subject.config = load_config(subject.file)
        subject.config.store.core_options()
    except UcmError as error:
        return [Finding(FAIL, "configuration", str(error), "correct it")]
    return [Finding(OK, "configuration", f"{subject.file}: {subject.config.store.store_pipeline}")]


def check(subject: Subject) -> Iterator[Finding]:
    """What the configuration says beside the store."""
    config = subject.config
    if config is None:
        return
    for each in config.notes:
        yield Finding(WARN, "key without effect", each, "leave it out")
    yield from _stages(config)
    yield from _block_size(config)
    yield from _metrics_file(config)
    yield from _log_file(config)


def _stages(config: UcmConfig) -> Iterator[Finding]:
    from ucm import _core

    known = _core.stage_names()
    absent = [stage for stage in config.store.spec.split("|") if stage not in known]
    if absent:
        yield Finding(
            FAIL,
            "pipeline",
            f"{', '.join(absent)}: not in this build, which has {', '.join(known)}",
            "change store_pipeline, or install a build that has it",
        )
    elif config.store.spec in ("Null", "Cache|Null"):
        yield Finding(WARN, "pipeline", "stores nothing below the Cache", "use Cache|Disk")


def _block_size(config: UcmConfig) -> Iterator[Finding]:
    size = config.store.block_size
    if size is not None:
        yield Finding(
            INFO,
            "block_size",
            f"{size} tokens: the engine's must be equal",
            f"start it with ucm serve, or with --block-size {size}",
        )


def _metrics_file(config: UcmConfig) -> Iterator[Finding]:
    path = config.metrics_config_path
    if path is None:
        return
    if not os.path.exists(path):
        yield Finding(
            WARN,
            "metrics file",
            f"{path} does not exist: all metrics are offered",
            "make it, or leave metrics_config_path out",
        )
        return
    from ucm.metrics.settings import read_metrics_file

    try:
        read_metrics_file(path)
    except UcmError as error:
        yield Finding(FAIL, "metrics file", str(error), "correct it")
    else:
        yield Finding(OK, "metrics file", path)


def _log_file(config: UcmConfig) -> Iterator[Finding]:
    file = config.log.file
    if not file:
        yield Finding(INFO, "log", "to stderr only; level " + (config.log.level or "INFO"))
        return
    path = Path(file).absolute()
    target = path if path.exists() else _existing(path)
    if path.is_file() and os.access(path, os.W_OK):
        yield Finding(OK, "log file", f"{path} can be written")
    elif not path.is_file() and target.is_dir() and os.access(target, os.W_OK | os.X_OK):
        yield Finding(OK, "log file", f"{path} can be made")
    else:
        yield Finding(
            FAIL,
            "log file",
            f"{path} can not be written: no permission for {target}",
            f"sudo install -d -o $USER {path.parent}, or name another under logging.file",
        )


def _existing(path: Path) -> Path:
    return next(each for each in [path, *path.parents] if each.exists())
