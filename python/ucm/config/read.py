# SPDX-License-Identifier: Apache-2.0
"""One mapping of a configuration -> typed values of the model, with every word accounted for."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Any

from ucm.config import answers
from ucm.config.fields import keys_of, names_of
from ucm.config.model import (
    PrometheusConfig,
    StoreConfig,
    TransportConfig,
    UcmConfig,
)
from ucm.config.source import KeyPath, Origin
from ucm.config.values import Mismatch, convert

STAGE_PREFIXES = ("cache", "posix", "disk", "fake")
_GIVEN = "_given"


def _no_answer(name: str) -> str | None:
    return None


@dataclasses.dataclass
class Reader:
    """Reads one layer: a file, the environment, or what the program passed.

    Args:
        origin: Where the layer came from.
        notes: Receives a sentence for each key without effect.
    """

    origin: Origin
    notes: list[str]

    def section(
        self,
        cls: type,
        values: Any,
        path: KeyPath,
        answer: Callable[[str], str | None] = _no_answer,
        elsewhere: Callable[[str], str | None] = _no_answer,
    ) -> dict[str, Any]:
        """Typed values of one model class.

        Args:
            cls: The model class.
            values: The mapping; None counts as empty.
            path: Where it stands.
            answer: The sentence for a known key without effect.
            elsewhere: Where a key belongs that is known in another place.

        Raises:
            ConfigError: An unknown key, or a value that does not fit.
        """
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise self.origin.error(
                f"`{path[-1]}`: a mapping `key: value` is expected, not {values!r}", path
            )
        names, entries = names_of(cls), keys_of(cls)
        typed: dict[str, Any] = {}
        written: dict[str, str] = {}
        for name, value in values.items():
            here = (*path, name)
            check_key(name, here, self.origin)
            if name not in names:
                self._answered_or_unknown(name, here, list(names), answer, elsewhere)
                continue
            field, alias = names[name]
            if value is None:
                self.note(here, f"`{name}` has no value; its default is used")
                continue
            try:
                if entries[field].kind == "section":
                    new = self._nested(entries[field].section, value, here)
                else:
                    new = convert(value, entries[field], alias)
            except Mismatch as mismatch:
                raise self.origin.error(f"`{name}`: {mismatch}", here) from None
            if field in typed and typed[field] != new:
                raise self.origin.error(
                    f"`{written[field]}` and `{name}` are two names of one key and differ; "
                    f"keep `{field}`",
                    here,
                )
            typed[field], written[field] = new, name
        return typed

    def _nested(self, cls: type | None, value: Any, path: KeyPath) -> Any:
        assert cls is not None
        known: dict[type, Callable[[str], str | None]] = {
            PrometheusConfig: answers.PROMETHEUS.get,
            TransportConfig: answers.store_answer,
        }
        answer = known.get(cls, _no_answer)
        typed = self.section(cls, value, path, answer)
        made = cls(**typed)
        object.__setattr__(made, _GIVEN, tuple(typed))
        return made

    def note(self, path: KeyPath, sentence: str) -> None:
        """Remembers a sentence, once."""
        text = self.origin.place(path) + sentence
        if text not in self.notes:
            self.notes.append(text)

    def _answered_or_unknown(
        self,
        name: str,
        path: KeyPath,
        names: Iterable[str],
        answer: Callable[[str], str | None],
        elsewhere: Callable[[str], str | None],
    ) -> None:
        sentence = answer(name)
        if sentence is not None:
            self.note(path, f"`{name}` {sentence}. It has no effect here")
            return
        place = elsewhere(name)
        if place is not None:
            raise self.origin.error(f"`{name}` {place}", path)
        nearest = nearest_key(name, names)
        hint = f"; did you mean `{nearest}`?" if nearest else "; see docs/configuration.md"
        raise self.origin.error(f"unknown key `{'.'.join(map(str, path))}`{hint}", path, nearest)


def check_key(name: Any, path: KeyPath, origin: Origin) -> None:
    """Refuses a key of a dict that is no text; a file has none."""
    if not isinstance(name, str):
        raise origin.error(f"the key {name!r} is {type(name).__name__}: a text is expected", path)


def given_keys(section: Any) -> tuple[str, ...]:
    """Which keys of a section were written down, be it with the value of their default."""
    names: tuple[str, ...] = getattr(section, _GIVEN, ())
    return names


def nearest_key(name: object, known: Iterable[str]) -> str | None:
    """The known key whose name is closest, if any is close."""
    lowered = {each.lower(): each for each in known}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


def top_keys() -> dict[str, Any]:
    """Names of the keys that stand at the top, besides the store."""
    return names_of(UcmConfig)


def is_store_key(name: str) -> bool:
    """Whether a key belongs into a store's section."""
    prefix, dot, _ = name.partition(".")
    return (
        name in names_of(StoreConfig)
        or name in DERIVED
        or answers.store_answer(name) is not None
        or bool(dot and prefix in STAGE_PREFIXES)
    )


def read_store(
    reader: Reader, values: dict[str, Any], path: KeyPath, *, bytes_door: bool = False
) -> dict[str, Any]:
    """Typed values of a store's section.

    Args:
        reader: The layer.
        values: The mapping.
        path: Where it stands.
        bytes_door: `block_size` is bytes, as in configurations of released UCM.

    Raises:
        ConfigError: As `Reader.section`.
    """
    if not isinstance(values, dict):
        raise reader.origin.error(
            f"`{path[-1]}`: a mapping `key: value` is expected, not {values!r}", path
        )
    plain: dict[str, Any] = {}
    derived: list[tuple[str, Any]] = []
    overrides: dict[str, Any] = {}
    for name, value in values.items():
        check_key(name, (*path, name), reader.origin)
        if name in DERIVED:
            derived.append((name, value))
        elif "." in name and name.partition(".")[0].lower() in STAGE_PREFIXES:
            overrides.update(_override(reader, name, value, (*path, name)))
        elif name == "block_size" and bytes_door:
            plain["block_bytes"] = value
        else:
            plain[name] = value
    typed = reader.section(StoreConfig, plain, path, answers.store_answer, _belongs_to_top)
    for name, value in derived:
        try:
            DERIVED[name](typed, value)
        except Mismatch as mismatch:
            raise reader.origin.error(f"`{name}`: {mismatch}", (*path, name)) from None
    if overrides:
        typed["overrides"] = overrides
    return typed


def _belongs_to_top(name: str) -> str | None:
    if name in top_keys() or name in answers.TOP:
        return "belongs to the top level of the configuration, beside `ucm_connectors`"
    return None


def _override(reader: Reader, name: str, value: Any, path: KeyPath) -> dict[str, Any]:
    stage, _, rest = name.partition(".")
    entries = keys_of(StoreConfig)
    names = names_of(StoreConfig)
    owners = entries[names[rest][0]].stages if rest in names else ()
    if stage.capitalize() not in owners:
        fitting = [each for each, entry in entries.items() if stage.capitalize() in entry.stages]
        nearest = nearest_key(rest, fitting)
        hint = f"; did you mean `{stage}.{nearest}`?" if nearest else ""
        raise reader.origin.error(
            f"the stage {stage.capitalize()} has no key `{rest}`{hint}", path, nearest
        )
    field, alias = names[rest]
    try:
        return {f"{stage.lower()}.{field}": convert(value, entries[field], alias)}
    except Mismatch as mismatch:
        raise reader.origin.error(f"`{name}`: {mismatch}", path) from None


def _collect_switch(typed: dict[str, Any], value: Any) -> None:
    if value not in (0, 1, True, False):
        raise Mismatch(f"true or false is expected, not {value!r}")
    if not value:
        typed["capacity_bytes"] = 0


def _collect_share(typed: dict[str, Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise Mismatch(f"a share between 0 and 1 is expected, not {value!r}")
    high = typed.get("eviction_high", 0.7)
    typed.setdefault("eviction_high", high)
    typed.setdefault("eviction_low", round(high * (1 - value), 6))


def _role(typed: dict[str, Any], value: Any) -> None:
    if value not in ("scheduler", "worker"):
        raise Mismatch(f"scheduler or worker is expected, not {value!r}")
    if value == "scheduler":
        typed["device_id"] = -1


def _platform(typed: dict[str, Any], value: Any) -> None:
    entries = keys_of(StoreConfig)
    if not isinstance(value, dict):
        typed["platform"] = convert(value, entries["platform"])
        return
    for name in value:
        if name not in ("type", "device_ids"):
            raise Mismatch(f"`type` and `device_ids` are known here, not {name!r}")
    if value.get("type") is not None:
        typed["platform"] = convert(value["type"], entries["platform"])
    if value.get("device_ids") is not None:
        typed["device_ids"] = convert(value["device_ids"], entries["device_ids"])


DERIVED: dict[str, Callable[[dict[str, Any], Any], None]] = {
    "posix_gc_enable": _collect_switch,
    "recycle_enable": _collect_switch,
    "posix_gc_recycle_percent": _collect_share,
    "role": _role,
    "platform": _platform,
}
"""Keys that say something about other keys. Later names win over earlier ones."""
