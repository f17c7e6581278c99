# SPDX-License-Identifier: Apache-2.0
"""One value of the configuration -> its typed form, or a sentence that says what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from ucm.config.backends import split_paths
from ucm.config.fields import Alias, Key

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SHARE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*%\s*$")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB])?\s*$")


_LARGEST = (1 << 63) - 1


class Mismatch(Exception):
    """A value that does not fit; the text says what was expected."""


def shown(value: Any) -> str:
    """A value as an error shows it."""
    try:
        return repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return f"a number of {value.bit_length()} bits"


def convert(value: Any, entry: Key, alias: Alias | None = None) -> Any:
    """The typed form of a value.

    Args:
        value: As YAML or the program gave it.
        entry: The key.
        alias: The other name it was written with, if any.

    Raises:
        Mismatch: The value does not fit.
    """
    kind = (alias.kind if alias else None) or entry.kind
    if kind not in _KINDS:
        raise Mismatch(f"a {kind} is expected")
    typed = _KINDS[kind](value)
    if alias is not None and alias.convert is not None:
        typed = alias.convert(typed)
    if entry.choices:
        typed = _choice(typed, entry.choices)
    _check_range(typed, entry)
    return typed


def _choice(value: Any, choices: tuple[str, ...]) -> str:
    for choice in choices:
        if str(value).lower() == choice.lower():
            return choice
    raise Mismatch(f"one of {', '.join(choices)} is expected, not {shown(value)}")


def _check_range(value: Any, entry: Key) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    low, high = entry.minimum, entry.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"{low:g} or more" if high is None else f"{low:g} to {high:g}"
        unit = f" {entry.unit}" if entry.unit else ""
        raise Mismatch(f"{bounds}{unit} is expected, not {shown(value)}")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in (0, 1) and isinstance(value, int):
        return bool(value)
    raise Mismatch(f"true or false is expected, not {shown(value)}")


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return _fitting(value)
    raise Mismatch(f"a whole number is expected, not {shown(value)}")


def _fitting(value: int) -> int:
    """A whole number that the native core can take."""
    if not -_LARGEST <= value <= _LARGEST:
        raise Mismatch(f"less than 2^63 is expected, not {shown(value)}")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        typed = float(_fitting(value)) if isinstance(value, int) else value
        if math.isfinite(typed):
            return typed
    raise Mismatch(f"a number is expected, not {shown(value)}")


def _str(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return _plain(value)
    raise Mismatch(f"a text is expected, not {shown(value)}")


def _plain(text: str) -> str:
    """A text that other languages and the system can take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Mismatch(f"UTF-8 text is expected, not {shown(text)}") from None
    if "\0" in text:
        raise Mismatch(f"a text without NUL is expected, not {shown(text)}")
    return text


def _bytes(value: Any) -> int:
    if isinstance(value, str):
        match = _SIZE.match(value)
        if match is None:
            raise Mismatch(f"bytes are expected, as a number or as 4GiB, not {shown(value)}")
        number = float(match[1]) * _UNITS[match[2].lower()]
        return _fitting(int(min(number, 2.0**64)))
    if isinstance(value, int) and not isinstance(value, bool):
        return _fitting(value)
    raise Mismatch(f"bytes are expected, as a number or as 4GiB, not {shown(value)}")


def _mode(value: Any) -> int:
    if isinstance(value, str):
        try:
            value = int(value.lower().removeprefix("0o"), 8)
        except ValueError:
            raise Mismatch(f'permissions such as "0700" are expected, not {shown(value)}') from None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 0o777:
        raise Mismatch(f'permissions such as "0700" are expected, not {shown(value)}')
    return int(value)


def _paths(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = split_paths(value)
    if not isinstance(value, list | tuple) or not value:
        raise Mismatch(f"a directory or a list of directories is expected, not {shown(value)}")
    for each in value:
        if not isinstance(each, str) or not each.strip():
            raise Mismatch(f"a directory is expected, not {shown(each)}")
        _plain(each)
    if len(set(value)) != len(value):
        raise Mismatch(f"a directory stands twice: {list(value)}")
    return tuple(value)


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise Mismatch(f"a list of whole numbers is expected, not {shown(value)}")
    for each in value:
        if isinstance(each, bool) or not isinstance(each, int) or each < 0:
            raise Mismatch(f"whole numbers are expected, not {shown(each)}")
        _fitting(each)
    return tuple(value)


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise Mismatch(f"a mapping `key: value` is expected, not {shown(value)}")


def _quotas(value: Any) -> tuple[str, ...]:
    """Entries `name=40%` and `name=BYTES`, as the native core takes them."""
    if not isinstance(value, dict):
        raise Mismatch(
            f"a mapping `namespace: 40%` or `namespace: 20GiB` is expected, not {shown(value)}"
        )
    entries = []
    shares = 0.0
    for name, quota in value.items():
        if not isinstance(name, str) or not _NAMESPACE.fullmatch(name):
            raise Mismatch(
                "a namespace is 1 to 64 letters, digits, `.`, `-` and `_`, and begins with a "
                f"letter or a digit, not {shown(name)}"
            )
        share = _SHARE.match(quota) if isinstance(quota, str) else None
        if share is not None:
            shares += float(share[1])
            if not 0 < float(share[1]) <= 100:
                raise Mismatch(
                    f"{name}: more than 0% and at most 100% is expected, not {shown(quota)}"
                )
            entries.append(f"{name}={share[1]}%")
            continue
        try:
            entries.append(f"{name}={_bytes(quota)}")
        except Mismatch:
            raise Mismatch(
                f"{name}: a share such as 40% or bytes such as 20GiB are expected, not "
                f"{shown(quota)}"
            ) from None
    if shares > 100:
        raise Mismatch(f"the shares are {shares:g}% together, more than 100%")
    # A mapping has no order.
    return tuple(sorted(entries))


_KINDS: dict[str, Callable[[Any], Any]] = {
    "bool": _bool,
    "int": _int,
    "float": _float,
    "str": _str,
    "bytes": _bytes,
    "mode": _mode,
    "paths": _paths,
    "sizes": _sizes,
    "mapping": _mapping,
    "quotas": _quotas,
}
