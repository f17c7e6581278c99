# SPDX-License-Identifier: Apache-2.0
"""One tree of loggers, `ucm`, for Python and the native core. Importing it sets nothing up."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ucm.errors import ConfigError

if TYPE_CHECKING:
    from ucm.config import LoggingConfig

ROOT = "ucm"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LEVEL_VARIABLES = ("UNIFIED_CACHE_LOG_LEVEL", "UC_LOGGER_LEVEL")
_CORE_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_CORE_NUMBERS = tuple(_CORE_LEVELS.values())
_lock = threading.Lock()
_ours: list[logging.Handler] = []


def configure(
    settings: LoggingConfig | None = None, environ: Mapping[str, str] | None = None
) -> logging.Logger:
    """Sets the level and the file, and leads the lines of the native core into the tree.

    The environment (UNIFIED_CACHE_LOG_LEVEL, UC_LOGGER_LEVEL, UCM_LOG_PATH) wins over the
    settings. A program that has given the logger `ucm` or the root a handler keeps its own; else
    lines go to stderr. May be called again; the last call counts.

    Args:
        settings: The logging section of a configuration.
        environ: Environment variables; os.environ when absent.

    Returns:
        The logger `ucm`.

    Raises:
        ConfigError: The level is unknown or the file can not be written.
    """
    environ = os.environ if environ is None else environ
    name = next((environ[each] for each in _LEVEL_VARIABLES if environ.get(each)), None)
    name = (name or (settings.level if settings else None) or "INFO").upper()
    level = logging.getLevelName({"WARN": "WARNING", "CRITIC": "CRITICAL"}.get(name, name))
    if not isinstance(level, int):
        raise ConfigError(
            f"log level {name!r}: one of DEBUG, INFO, WARNING, ERROR, CRITICAL is expected",
            key="logging.level",
        )
    file = environ.get("UCM_LOG_PATH") or (settings.file if settings else None)
    formatter = _formatter((settings.format if settings else None) or FORMAT)
    logger = logging.getLogger(ROOT)
    with _lock:
        for handler in _ours:
            logger.removeHandler(handler)
            handler.close()
        _ours.clear()
        if not logger.handlers and not logging.getLogger().handlers:
            _add(logger, logging.StreamHandler(sys.stderr), formatter)
        if file:
            _add(logger, _file_handler(file, environ), formatter)
        logger.setLevel(level)
    _lead_core(level)
    return logger


def _formatter(text: str) -> logging.Formatter:
    try:
        formatter = logging.Formatter(text)
        formatter.format(logging.LogRecord(ROOT, logging.INFO, "", 0, "", (), None))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"log format {text!r}: {error}; fields are those of Python's logging: {FORMAT}",
            key="logging.format",
        ) from None
    return formatter


def _add(logger: logging.Logger, handler: logging.Handler, formatter: logging.Formatter) -> None:
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    _ours.append(handler)


def _file_handler(file: str, environ: Mapping[str, str]) -> logging.Handler:
    if os.path.isdir(file) or not os.path.splitext(file)[1]:
        file = os.path.join(file, str(os.getpid()), "ucm.log")
    size = _number("UCM_LOG_MAX_SIZE", "5", environ) << 20
    count = _number("UCM_LOG_MAX_FILES", "10", environ)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
        return logging.handlers.RotatingFileHandler(
            file, maxBytes=size, backupCount=max(0, count - 1), encoding="utf-8"
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(
            f"the log file {file!r} can not be written: {error}; name another under "
            "monitoring.logging.file",
            key="logging.file",
        ) from error


def _number(variable: str, otherwise: str, environ: Mapping[str, str]) -> int:
    text = environ.get(variable) or otherwise
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ConfigError(f"environment variable {variable}={text!r}: a whole number is expected")
    return int(text)


def _lead_core(level: int) -> None:
    from ucm import _core

    word = next((name for name, number in _CORE_LEVELS.items() if level <= number), "error")
    _core.set_log_sink(_sink, word)


def _sink(level: int, message: str) -> None:
    logging.getLogger(ROOT + ".core").log(_CORE_NUMBERS[level], "%s", message)
