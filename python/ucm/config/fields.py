# SPDX-License-Identifier: Apache-2.0
"""What the model says about each key: kind, unit, limits, other names, meaning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Alias:
    """Another documented name of a key.

    Args:
        name: The other name.
        convert: Turns a value under the other name into one of the key; None keeps it.
        kind: Kind of the value under the other name when it differs from the key's.
        unit: Unit of the value under the other name when it differs from the key's.
    """

    name: str
    convert: Callable[[Any], Any] | None = None
    kind: str | None = None
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Key:
    """Everything that is known about one key of the configuration."""

    kind: str
    doc: str
    unit: str = ""
    default_text: str = ""
    aliases: tuple[Alias, ...] = ()
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    env: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    section: type | None = None


def key(
    kind: str,
    doc: str,
    *,
    default: Any = None,
    aliases: tuple[Alias | str, ...] = (),
    **rest: Any,
) -> Any:
    """A dataclass field that carries a `Key`.

    Args:
        kind: bool, int, float, str, bytes, paths, sizes, mode, strings, mapping, quotas
            or section.
        doc: One sentence: what the key is for.
        default: Value when the key is absent; None leaves the choice to the stage.
        aliases: Other documented names.
        rest: The other members of `Key`.
    """
    named = tuple(Alias(each) if isinstance(each, str) else each for each in aliases)
    if "default_text" not in rest and default is not None and kind != "section":
        rest["default_text"] = default_text(default)
    entry = Key(kind=kind, doc=doc, aliases=named, **rest)
    return dataclasses.field(default=default, metadata={"key": entry})


def default_text(value: Any) -> str:
    """How a default is written in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(str(each) for each in value) + "]"
    return str(value)


def keys_of(cls: type) -> dict[str, Key]:
    """Name -> Key of a model class, in the order of the model."""
    return {
        each.name: each.metadata["key"]
        for each in dataclasses.fields(cls)
        if "key" in each.metadata
    }


def names_of(cls: type) -> dict[str, tuple[str, Alias | None]]:
    """Every name a key may be written with -> (its name in the model, the alias used)."""
    names: dict[str, tuple[str, Alias | None]] = {}
    for name, entry in keys_of(cls).items():
        names[name] = (name, None)
        for alias in entry.aliases:
            names[alias.name] = (name, alias)
    return names
