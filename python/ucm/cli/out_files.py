# SPDX-License-Identifier: Apache-2.0
"""Files that a command writes: looked at before the work begins, written whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

_PICTURES = (".png", ".svg", ".pdf")
_DEVICES = ("/dev/", "/proc/")


class OutFile(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A file that can be written when the command ends: proven by writing beside it at the start.

    Args:
        suffixes: What its name may end in; empty for anything.
    """

    name = "file"

    def __init__(self, suffixes: tuple[str, ...] = ()) -> None:
        self.suffixes = suffixes

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        path = Path(value)
        if self.suffixes and path.suffix.lower() not in self.suffixes:
            self.fail(f"{path}: a name that ends in {', '.join(self.suffixes)}", param, ctx)
        try:
            if path.is_dir():
                self.fail(f"{path} is a directory", param, ctx)
            if _is_replaced(path):
                with _aside(path).open("wb"):
                    pass
                _aside(path).unlink()
            else:
                with path.open("ab"):
                    pass
        except OSError as error:
            self.fail(f"{path} can not be written: {error.strerror}", param, ctx)
        return path


OUT_FILE = OutFile()
PICTURE = OutFile(_PICTURES)


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Where to write what becomes the file `path` at the end; nothing is left when that fails.

    Devices and pipes are written as they are.
    """
    if not _is_replaced(path):
        yield path
        return
    aside = _aside(path)
    try:
        yield aside
        aside.replace(path.resolve())
    finally:
        aside.unlink(missing_ok=True)


def label_sizes(axes: Any, sizes: Iterable[int], text: Callable[[float], str]) -> None:
    """A logarithmic axis with one label for each size of a plot.

    Args:
        axes: Of matplotlib.
        sizes: Where its points lie.
        text: A size in words.
    """
    ticks = sorted(set(sizes))
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [text(each) for each in ticks], rotation=40, ha="right")
    axes.minorticks_off()


def _is_replaced(path: Path) -> bool:
    """Whether another file may take its place: not that of /dev/null."""
    return not str(path).startswith(_DEVICES) and (path.is_file() or not path.exists())


def _aside(path: Path) -> Path:
    target = path.resolve()
    return target.with_name(f".{target.name}.part")
