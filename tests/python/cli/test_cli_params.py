# SPDX-License-Identifier: Apache-2.0
"""Sizes, counts and ages."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ucm.cli.params import AGE, COUNT, SIZE, SizeType, age_text, bytes_text


@pytest.mark.parametrize(
    ("text", "value"),
    [("4096", 4096), ("256K", 256 << 10), ("2MiB", 2 << 20), ("1.5G", 3 << 29), ("1 TiB", 1 << 40)],
)
def test_sizes_count_in_powers_of_1024(text, value):
    assert SIZE.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("text", "value"), [("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("2w", 1209600)]
)
def test_ages_are_seconds(text, value):
    assert AGE.convert(text, None, None) == value


@pytest.mark.parametrize(("text", "value"), [("500", 500), ("100k", 100_000), ("1.5M", 1_500_000)])
def test_counts_count_in_powers_of_1000(text, value):
    assert COUNT.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (SIZE, "0"),
        (SIZE, "-1"),
        (SIZE, "lots"),
        (AGE, "7"),
        (AGE, "7y"),
        (COUNT, "0"),
        (COUNT, "x"),
    ],
)
def test_what_is_no_size_age_or_count_is_refused_with_what_is_expected(kind, text):
    with pytest.raises(click.BadParameter, match="expected"):
        kind.convert(text, None, None)


def test_a_size_may_be_zero_where_that_makes_sense():
    assert SizeType(minimum=0).convert("0", None, None) == 0


@given(st.integers(0, 1 << 60))
def test_a_shown_size_is_close_to_the_size(value):
    shown = bytes_text(value)
    number, unit = shown.split()
    factor = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB").index(unit)
    assert abs(float(number) * factor - value) <= 0.05 * value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (864000, "10 d")],
)
def test_an_age_is_shown_in_its_largest_unit(seconds, text):
    assert age_text(seconds) == text
