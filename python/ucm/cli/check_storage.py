# SPDX-License-Identifier: Apache-2.0
"""Directories for blocks: existence, permissions, space, file system, O_DIRECT, io_uring."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from ucm.cli.findings import FAIL, INFO, OK, WARN, Finding, Subject
from ucm.cli.params import bytes_text
from ucm.cli.roots import read_root, writer_of
from ucm.errors import UcmError

_NETWORK = ("nfs", "nfs4", "cifs", "fuse", "lustre", "ceph", "gpfs", "beegfs")
_SMALL = 10 << 30
_PATIENCE_S = 20.0


def check(subject: Subject) -> Iterator[Finding]:
    """Every directory."""
    config = subject.config
    if not subject.paths:
        needed = config is not None and any(s in config.store.spec for s in ("Posix", "Disk"))
        if not needed:
            yield Finding(INFO, "storage", "no directory to check", "name one with --path DIR")
        return
    for path in subject.paths:
        yield from _within(_PATIENCE_S, path, subject)


def _within(seconds: float, path: Path, subject: Subject) -> list[Finding]:
    """The findings of a path; a storage that hangs is a finding and holds nobody up."""
    findings: list[Finding] = []
    errors: list[Exception] = []

    def look() -> None:
        try:
            findings.extend(_check_path(path, subject))
        except (OSError, UcmError) as error:
            errors.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        advice = "check the mount and its server"
        return [Finding(FAIL, "path", f"{path} does not answer within {seconds:g} s", advice)]
    if errors:
        found = f"{path} could not be examined: {errors[0]}"
        return [*findings, Finding(FAIL, "path", found, "check its permissions and its mount")]
    return findings


def _check_path(path: Path, subject: Subject) -> Iterator[Finding]:
    place = next(each for each in [path, *path.parents] if each.exists())
    if not place.is_dir():
        yield Finding(FAIL, "path", f"{place} is a file", "give storage_backends a directory")
        return
    problem = probe(place)
    if problem:
        yield Finding(
            FAIL,
            "path",
            f"{path} {'is not writable' if place == path else 'can not be made'}: {problem}",
            f"sudo install -d -m 0700 -o $USER {path}",
        )
        return
    made = "exists and can be written" if place == path else f"will be made (in {place})"
    yield Finding(OK, "path", f"{path} {made}")
    if place == path:
        yield from _permissions(path, subject)
        yield from _writer(path)
    yield from _space(path, place, subject)
    yield from _file_system(place)
    yield from _transfers(place, subject)


def probe(folder: Path) -> str:
    """Writes, reads and removes a file; why that failed, or nothing."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".ucm-doctor-", dir=folder) as file:
            text = os.urandom(4096)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            return "" if file.read() == text else "a probe file came back different"
    except OSError as error:
        return error.strerror or str(error)


def _permissions(path: Path, subject: Subject) -> Iterator[Finding]:
    info = path.stat()
    mode = stat.S_IMODE(info.st_mode)
    store = subject.config.store if subject.config else None
    wanted = store.dir_mode if store and store.dir_mode is not None else 0o700
    owner = "" if info.st_uid == os.geteuid() else f", owned by uid {info.st_uid}"
    if mode & 0o077 & ~wanted:
        yield Finding(
            WARN,
            "  permissions",
            f"{mode:04o}{owner}: others may enter, and blocks hold what users wrote",
            f"chmod {wanted:04o} {path}, or say dir_mode in the configuration",
        )
    else:
        yield Finding(OK, "  permissions", f"{mode:04o}{owner}")


def _writer(path: Path) -> Iterator[Finding]:
    folders = [path, *(each for each in path.glob("*") if each.is_dir())]
    folders += [each for each in path.glob("rank-*/*") if each.is_dir()]
    for folder in folders:
        root = read_root(folder)
        holder = writer_of(root) if root else None
        if holder:
            yield Finding(INFO, "  in use", f"{folder} is open for writing by {holder}")


def _space(path: Path, place: Path, subject: Subject) -> Iterator[Finding]:
    usage = shutil.disk_usage(place)
    text = f"{bytes_text(usage.free)} free of {bytes_text(usage.total)}"
    store = subject.config.store if subject.config else None
    capacity = store.capacity_bytes if store else None
    if usage.free < 1 << 20:
        yield Finding(FAIL, "  space", f"{text}: nothing can be stored", "free some space")
    elif capacity and capacity > usage.total:
        yield Finding(
            FAIL,
            "  space",
            f"{text}: less than capacity_bytes ({bytes_text(capacity)})",
            "lower capacity_bytes or use a larger disk",
        )
    elif capacity and capacity > usage.free + _held(path):
        yield Finding(
            WARN,
            "  space",
            f"{text}: capacity_bytes ({bytes_text(capacity)}) will not fit beside the rest",
            "lower capacity_bytes or free some space",
        )
    elif usage.free < _SMALL:
        yield Finding(WARN, "  space", f"{text}: little for KV blocks", "use a larger disk")
    elif store and not capacity and "Posix" in store.spec:
        yield Finding(
            WARN,
            "  space",
            f"{text}; no capacity_bytes: the store grows until the disk is full",
            "set capacity_bytes",
        )
    else:
        yield Finding(OK, "  space", text)


def _held(path: Path) -> int:
    """Bytes that a store in this directory takes already."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue  # an engine removed it meanwhile
    return total


def mount_of(path: Path) -> tuple[str, str, str]:
    """(mount point, type, options) of the file system a directory lies on."""
    from ucm.config.backends import read_mounts

    real = os.path.realpath(path)
    points = [point for _, point in read_mounts()]
    best = max((each for each in points if _inside(real, each)), key=len, default="/")
    kind, options = "unknown", ""
    with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            words = line.split()
            if len(words) >= 4 and words[1].replace("\\040", " ") == best:
                kind, options = words[2], words[3]
    return best, kind, options


def _inside(path: str, point: str) -> bool:
    return point == "/" or path == point or path.startswith(point.rstrip("/") + "/")


def _file_system(place: Path) -> Iterator[Finding]:
    point, kind, options = mount_of(place)
    text = f"{kind} on {point}"
    if kind in ("tmpfs", "ramfs"):
        yield Finding(
            WARN, "  file system", f"{text}: blocks are gone after a reboot", "use a disk"
        )
    elif kind == "overlay":
        yield Finding(
            WARN,
            "  file system",
            f"{text}: blocks are gone with the container, and no O_DIRECT speed",
            "mount a volume there",
        )
    elif kind.startswith(_NETWORK) and "soft" in options.split(","):
        yield Finding(
            WARN, "  file system", f"{text}, soft: writes may be lost", "mount it with `hard`"
        )
    else:
        yield Finding(OK, "  file system", text)


def direct_problem(folder: Path) -> str:
    """Why O_DIRECT does not work in a directory; empty when it does."""
    from ucm import _core

    return str(_core.io_capabilities(str(folder))["direct_reason"])


def _transfers(place: Path, subject: Subject) -> Iterator[Finding]:
    from ucm import _core

    found = _core.io_capabilities(str(place))
    store = subject.config.store if subject.config else None
    if found["o_direct"]:
        yield Finding(OK, "  O_DIRECT", f"works, {found['direct_alignment']}-byte aligned")
    else:
        wanted = store is not None and store.io_direct is True
        yield Finding(
            WARN if wanted else INFO,
            "  O_DIRECT",
            f"{found['direct_reason']}: transfers are buffered",
            "use ext4 or xfs, or io_direct: false" if wanted else "",
        )
    if found["io_uring"]:
        yield Finding(OK, "  io_uring", "works")
        return
    wanted = store is None or ("Disk" in store.spec and store.use_io_uring is not False)
    yield Finding(
        WARN if wanted else INFO,
        "  io_uring",
        f"{found['io_uring_reason']}: Disk works with threads instead",
        "sysctl kernel.io_uring_disabled=0; in a container allow it in seccomp" if wanted else "",
    )
