# SPDX-License-Identifier: Apache-2.0
"""One tree of loggers for Python and the core."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from ucm import _core, log
from ucm.config import LoggingConfig
from ucm.errors import ConfigError


@pytest.fixture(autouse=True)
def restore():
    logger = logging.getLogger("ucm")
    level = logger.level
    yield
    log.configure(LoggingConfig(level="WARNING"), {})
    for handler in list(log._ours):
        logger.removeHandler(handler)
        handler.close()
    log._ours.clear()
    logger.setLevel(level)
    _core.set_log_sink(None, "warning")


@pytest.mark.parametrize(
    ("environ", "settings", "level"),
    [
        ({}, None, logging.INFO),
        ({}, LoggingConfig(level="ERROR"), logging.ERROR),
        ({"UNIFIED_CACHE_LOG_LEVEL": "debug"}, LoggingConfig(level="ERROR"), logging.DEBUG),
        ({"UC_LOGGER_LEVEL": "warning"}, None, logging.WARNING),
        ({"UNIFIED_CACHE_LOG_LEVEL": "INFO", "UC_LOGGER_LEVEL": "error"}, None, logging.INFO),
    ],
)
def test_the_level_comes_from_the_environment_then_the_configuration(environ, settings, level):
    assert log.configure(settings, environ).level == level


def test_an_unknown_level_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'LOUD': one of DEBUG, INFO"):
        log.configure(None, {"UC_LOGGER_LEVEL": "loud"})


@pytest.mark.parametrize("text", ["%(foo", "%(nope)s %(message)s", "plain", "{message}", "%d"])
def test_a_format_that_can_not_be_used_is_refused(text):
    with pytest.raises(ConfigError, match="log format"):
        log.configure(LoggingConfig(format=text), {})


@pytest.mark.parametrize("name", ["UCM_LOG_MAX_SIZE", "UCM_LOG_MAX_FILES"])
@pytest.mark.parametrize("text", ["abc", "-5", "1.5", "9" * 5000])
def test_a_limit_of_log_files_that_is_no_number_names_its_variable(tmp_path, name, text):
    with pytest.raises(ConfigError, match=f"{name}=.*a whole number"):
        log.configure(LoggingConfig(file=str(tmp_path / "ucm.log")), {name: text})


def test_lines_of_the_core_arrive_in_the_tree_and_in_the_file(tmp_path, make_store, caplog):
    file = tmp_path / "log" / "ucm.log"
    log.configure(LoggingConfig(level="DEBUG", file=str(file)), {})
    with caplog.at_level(logging.DEBUG, logger="ucm"):
        store = make_store("Cache", layout=([4096], 1))
        store.wait(store.dump([b"a"], 0, np.zeros(4096, np.uint8)))
        store.close()
    lines = [record for record in caplog.records if record.name == "ucm.core"]
    assert any("slots" in record.getMessage() for record in lines)
    assert "ucm.core" in file.read_text()


def test_a_directory_for_logs_gets_a_file_per_process(tmp_path):
    logger = log.configure(None, {"UCM_LOG_PATH": str(tmp_path), "UNIFIED_CACHE_LOG_LEVEL": "INFO"})
    logger.info("here")
    (file,) = tmp_path.rglob("ucm.log")
    assert "here" in file.read_text()


def test_a_file_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"can not be written.*monitoring\.logging\.file"):
        log.configure(LoggingConfig(file=str(tmp_path / "file" / "x.log")), {})


def test_setting_up_twice_writes_each_line_once(tmp_path):
    for _ in range(3):
        logger = log.configure(LoggingConfig(file=str(tmp_path / "ucm.log")), {})
    logger.info("once")
    assert (tmp_path / "ucm.log").read_text().count("once") == 1
