# SPDX-License-Identifier: Apache-2.0
"""The tree of exceptions."""

from __future__ import annotations

import pickle

import pytest

from ucm import errors

BUILT_IN = {
    "invalid_argument": ValueError,
    "not_found": KeyError,
    "no_space": OSError,
    "out_of_memory": MemoryError,
    "io_error": OSError,
    "device_error": RuntimeError,
    "timeout": TimeoutError,
    "cancelled": errors.UcmError,
    "unavailable": ConnectionError,
    "unsupported": NotImplementedError,
    "corruption": errors.IoError,
    "internal": RuntimeError,
}


def test_every_code_of_the_core_has_a_class():
    assert set(errors.BY_CODE) == set(BUILT_IN)


@pytest.mark.parametrize("code", BUILT_IN)
def test_each_class_is_also_the_built_in_one(code):
    error = errors.BY_CODE[code]("disk: slot 7", failed_rows=[2, 5])
    assert isinstance(error, errors.UcmError) and isinstance(error, BUILT_IN[code])
    assert (error.code, str(error), error.failed_rows) == (code, "disk: slot 7", [2, 5])


@pytest.mark.parametrize("code", BUILT_IN)
def test_errors_travel_between_processes(code):
    error = pickle.loads(pickle.dumps(errors.BY_CODE[code]("text", failed_rows=[1])))
    assert (str(error), error.failed_rows, error.code) == ("text", [1], code)


def test_a_configuration_error_keeps_its_place_between_processes():
    error = errors.ConfigError("wrong", file="f", line=3, key="a.b", nearest="c")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == "f:3: wrong"
    assert (copy.file, copy.line, copy.key, copy.nearest) == ("f", 3, "a.b", "c")


def test_no_space_and_corruption_are_storage_errors():
    assert issubclass(errors.NoSpace, errors.IoError)
    assert issubclass(errors.Corruption, errors.IoError)
