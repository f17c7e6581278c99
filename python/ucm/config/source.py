# SPDX-License-Identifier: Apache-2.0
"""YAML with line numbers: a mapping, and where each of its keys stands."""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml

from ucm.errors import ConfigError

KeyPath = tuple[Any, ...]
_MOST_VALUES = 100_000
_MOST_LEVELS = 64


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a configuration came from.

    Args:
        file: Its path, or None for a dict.
        lines: Path of a key -> line, counted from 1.
    """

    file: str | None = None
    lines: dict[KeyPath, int] = dataclasses.field(default_factory=dict)

    def line(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest key above it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return None

    def error(self, message: str, path: KeyPath = (), nearest: str | None = None) -> ConfigError:
        """A ConfigError that names the place of a key."""
        key = ".".join(str(each) for each in path) or None
        return ConfigError(message, file=self.file, line=self.line(path), key=key, nearest=nearest)

    def named_error(self, message: str, name: str) -> ConfigError:
        """A ConfigError about a key that is known by its last word only."""
        paths = [path for path in self.lines if path and path[-1] == name]
        return self.error(message, paths[-1] if paths else (name,))

    def place(self, path: KeyPath) -> str:
        """`file:line: ` for a log line, or nothing for a dict."""
        line = self.line(path)
        return f"{self.file}:{line}: " if self.file and line else ""


@dataclasses.dataclass
class Document:
    """What was read: the mapping, its origin, and remarks about the text itself."""

    values: dict[str, Any]
    origin: Origin
    notes: list[str] = dataclasses.field(default_factory=list)


def read_yaml(text: str, file: str | None = None) -> Document:
    """Reads one YAML mapping and remembers the line of every key.

    Args:
        text: The YAML.
        file: Its path, for messages.

    Returns:
        The document. Of a key that stands twice the last one counts, with a note.

    Raises:
        ConfigError: The text is no YAML, or no mapping.
    """
    origin = Origin(file)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise ConfigError(f"nested deeper than {_MOST_LEVELS} levels", file=file) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"not valid YAML: {problem}", file=file, line=mark.line + 1 if mark else None
        ) from error
    if node is None:
        return Document({}, origin)
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            "a mapping `key: value` is expected at the top", file=file, line=_line(node)
        )
    _weigh(node, file, {})
    document = Document({}, origin)
    document.values = _mapping(node, (), document)
    return document


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _weigh(
    node: yaml.Node, file: str | None, known: dict[int, tuple[int, int] | None]
) -> tuple[int, int]:
    """How many values a node stands for, and how deep they are nested; both are limited.

    An alias is one word that stands for everything below its anchor, which may be aliases again.

    Raises:
        ConfigError: There are too many, or an alias stands within its own anchor.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1, 0
    if id(node) in known:
        weight = known[id(node)]
        if weight is None:
            raise ConfigError("an alias stands within its own anchor", file=file, line=_line(node))
        return weight
    known[id(node)] = None
    inner = [each for entry in node.value for each in (entry if type(entry) is tuple else (entry,))]
    weights = [_weigh(each, file, known) for each in inner]
    values = 1 + sum(weight for weight, _ in weights)
    levels = 1 + max((level for _, level in weights), default=0)
    for count, most, what in (
        (values, _MOST_VALUES, "more than {} values, with those that aliases stand for"),
        (levels, _MOST_LEVELS, "nested deeper than {} levels"),
    ):
        if count > most:
            raise ConfigError(what.format(most), file=file, line=_line(node))
    known[id(node)] = values, levels
    return values, levels


def _mapping(node: yaml.MappingNode, path: KeyPath, document: Document) -> dict[str, Any]:
    loader = yaml.SafeLoader("")
    try:
        loader.flatten_mapping(node)
    except yaml.YAMLError as error:
        raise document.origin.error(
            f"`<<` on line {_line(node)}: a mapping, or a list of mappings, is expected", path
        ) from error
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _value(key_node, path, document)
        if not isinstance(key, str):
            raise document.origin.error(
                f"the key {key!r} is no text; YAML reads it as {type(key).__name__}: quote it",
                (*path, key) if path else (),
            )
        here = (*path, key)
        if key in values:
            document.notes.append(
                f"{document.origin.file or 'configuration'}:{_line(key_node)}: "
                f"`{'.'.join(map(str, here))}` stands on line {document.origin.lines[here]} "
                "already; the last one counts"
            )
        document.origin.lines[here] = _line(key_node)
        values[key] = _value(value_node, here, document)
    return values


def _value(node: yaml.Node, path: KeyPath, document: Document) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        values = []
        for index, each in enumerate(node.value):
            document.origin.lines[(*path, index)] = _line(each)
            values.append(_value(each, (*path, index), document))
        return values
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        # What a tag promises, `!!timestamp` and the like, the text may not keep.
        raise document.origin.error(f"can not be read: {node.value!r}", path) from error
