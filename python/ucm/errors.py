# SPDX-License-Identifier: Apache-2.0
"""Every exception of ucm. Each class is also the built-in one that callers expect."""

from __future__ import annotations

from collections.abc import Iterable


class UcmError(Exception):
    """Root of all errors of ucm.

    Args:
        message: One sentence that names the noun, the key, the size, the path and the errno.
        failed_rows: Row numbers of the batch that failed; empty when the whole call failed.
    """

    code = "internal"

    def __init__(self, message: object = "", *, failed_rows: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.message = str(message)
        self.failed_rows: list[int] = [int(row) for row in failed_rows]

    def __str__(self) -> str:
        return self.message


class InvalidArgument(UcmError, ValueError):
    """A call or a configuration that can not be right."""

    code = "invalid_argument"


class NotFound(UcmError, KeyError):
    """A block that was asked for is not stored."""

    code = "not_found"


class IoError(UcmError, OSError):
    """Storage answered an error."""

    code = "io_error"


class NoSpace(IoError):
    """Storage or the pool is full; older blocks stay readable."""

    code = "no_space"


class Corruption(IoError):
    """Stored bytes did not pass verification; they are never handed out."""

    code = "corruption"


class OutOfMemory(UcmError, MemoryError):
    """Host memory could not be had."""

    code = "out_of_memory"


class DeviceError(UcmError, RuntimeError):
    """The accelerator or its driver answered an error."""

    code = "device_error"


class Timeout(UcmError, TimeoutError):
    """The time limit passed; the transfer may still be under way."""

    code = "timeout"


class Cancelled(UcmError):
    """The transfer was cancelled before it started."""

    code = "cancelled"


class Unavailable(UcmError, ConnectionError):
    """A device, a platform or a closed store can not be used now."""

    code = "unavailable"


class Unsupported(UcmError, NotImplementedError):
    """This version does not offer what was asked for; the text says what to use."""

    code = "unsupported"


class InternalError(UcmError, RuntimeError):
    """A defect of ucm itself; please report it with the text."""

    code = "internal"


_LONGEST_TEXT = 1000


class ConfigError(InvalidArgument):
    """A configuration that can not be used.

    Args:
        message: What is wrong and what to write instead.
        file: File the configuration came from, if any.
        line: Line in that file, counted from 1.
        key: Dotted name of the key that is wrong.
        nearest: The known key whose name is closest, for an unknown key.
    """

    def __init__(
        self,
        message: object = "",
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        nearest: str | None = None,
    ) -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        text = str(message)
        if len(text) > _LONGEST_TEXT:  # a value that nobody wants to read
            text = f"{text[: _LONGEST_TEXT // 2]} ... {text[-_LONGEST_TEXT // 4 :]}"
        super().__init__(where + text)
        self.file = file
        self.line = line
        self.key = key
        self.nearest = nearest


_CLASSES: tuple[type[UcmError], ...] = (
    InvalidArgument,
    NotFound,
    NoSpace,
    OutOfMemory,
    IoError,
    DeviceError,
    Timeout,
    Cancelled,
    Unavailable,
    Unsupported,
    Corruption,
    InternalError,
)
BY_CODE: dict[str, type[UcmError]] = {cls.code: cls for cls in _CLASSES}
"""The class that belongs to each code of the native core."""
