# SPDX-License-Identifier: Apache-2.0
"""Sizes, counts and ages on the command line: read and written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from ucm.config.fields import Key
from ucm.config.values import Mismatch, convert

_AGE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_COUNT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kKmM]?)\s*$")
_THOUSANDS = {"": 1, "k": 1000, "m": 1_000_000}
_MOST_COUNT = 10**15
_MOST_GB = 1e9
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class SizeType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Bytes: 4096, 256K, 2MiB, 1.5G. Units are powers of 1024, as in the configuration."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            text = int(value) if str(value).isdigit() else value
            return int(convert(text, Key("bytes", "", minimum=self.minimum)))
        except Mismatch as error:
            self.fail(str(error), param, ctx)

    def __init__(self, minimum: int = 1) -> None:
        self.minimum = minimum


class AgeType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Seconds: 90s, 30m, 12h, 7d, 2w."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        match = _AGE.match(str(value))
        if match is None:
            self.fail(
                f"an age such as 90s, 30m, 12h, 7d or 2w is expected, not {value!r}", param, ctx
            )
        return float(match[1]) * _SECONDS[match[2]]


class CountType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number: 500, 100k, 1M. Units are powers of 1000."""

    name = "count"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        match = _COUNT.match(str(value))
        count = float(match[1]) * _THOUSANDS[match[2].lower()] if match else 0
        if not 1 <= count <= _MOST_COUNT:
            self.fail(f"a number such as 500, 100k or 1M is expected, not {value!r}", param, ctx)
        return int(count)


class GigabytesType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """GB: 64, 0.5. Neither infinite nor negative."""

    name = "GB"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= _MOST_GB:  # not a number is neither
            self.fail(f"a number from 0 to {_MOST_GB:g} is expected, not {value!r}", param, ctx)
        return number


SIZE = SizeType()
GIGABYTES = GigabytesType()
AGE = AgeType()
COUNT = CountType()

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def json_option() -> Decorator:
    """The option every command has."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")


def bytes_text(count: float) -> str:
    """Bytes for people: `2 MiB`, `1.5 GiB`."""
    size, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size == int(size) or size >= 100 else f"{size:.1f} {unit}"


def age_text(seconds: float) -> str:
    """A duration for people: `4 s`, `12 min`, `3.5 h`, `9 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            value = seconds / length
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{max(0, seconds):.0f} s"


def count_text(count: float, noun: str = "") -> str:
    """A count with separators: `1,234`, `1 block`, `2 blocks`."""
    text = f"{int(count):,}"
    return f"{text} {noun}{'' if int(count) == 1 else 's'}" if noun else text
