# SPDX-License-Identifier: Apache-2.0
"""Directories for blocks: existence, permissions, space, file system, O_DIRECT, io_uring."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ucm.cli.findings import FAIL, INFO, OK, WARN, Finding, Subject
from ucm.cli.params import bytes_text
from ucm.cli.roots import read_root, writer_of

_NETWORK = ("nfs", "nfs4", "cifs", "fuse", "lustre", "ceph", "gpfs", "beegfs")
_SMALL = 10 << 30


def check(subject: Subject) -> Iterator[Finding]:
    """Every directory."""
    config = subject.config
    if not subject.paths:
        needed = config is not None and any(s in config.store.spec for s in ("Posix", "Disk"))
        if not needed:
            yield Finding(INFO, "storage", "no directory to check", "name one with --path DIR")
        return
    for path in subject.paths:
        yield from _check_path(path, subject)


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


def capabilities(folder: Path) -> dict[str, Any]:
    """What the native core says about a directory; {} where it can not say."""
    from ucm import _core

    ask = getattr(_core, "io_capabilities", None)
    return dict(ask(str(folder))) if ask is not None else {}


def direct_problem(folder: Path) -> str:
    """Why O_DIRECT does not work in a directory; empty when it does."""
    name = os.path.join(folder, f".ucm-doctor-direct-{os.getpid()}")
    try:
        file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_DIRECT, 0o600)
        os.close(file)
        return ""
    except OSError as error:
        refused = error.errno == errno.EINVAL
        return "the file system refuses it" if refused else error.strerror or str(error)
    finally:
        if os.path.exists(name):
            os.unlink(name)


def _transfers(place: Path, subject: Subject) -> Iterator[Finding]:
    found = capabilities(place)
    store = subject.config.store if subject.config else None
    wants_direct = bool(store and store.io_direct)
    if found.get("o_direct", not direct_problem(place)):
        alignment = found.get("direct_alignment")
        yield Finding(
            OK, "  O_DIRECT", f"works, {alignment}-byte aligned" if alignment else "works"
        )
    else:
        yield Finding(
            WARN if wants_direct else INFO,
            "  O_DIRECT",
            f"{found.get('direct_reason') or direct_problem(place)}: transfers are buffered",
            "use ext4 or xfs, or io_direct: false" if wants_direct else "",
        )
    if not found:
        yield Finding(INFO, "  io_uring", "this build of the native core does not say")
    elif found["io_uring"]:
        yield Finding(OK, "  io_uring", "works")
    else:
        needed = store is None or ("Disk" in store.spec and store.use_io_uring is not False)
        yield Finding(
            WARN if needed else INFO,
            "  io_uring",
            f"{found.get('io_uring_reason', '')}: Disk works with threads instead",
            "sysctl kernel.io_uring_disabled=0; in a container allow io_uring in seccomp"
            if needed
            else "",
        )
