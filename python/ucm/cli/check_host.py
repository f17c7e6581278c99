# SPDX-License-Identifier: Apache-2.0
"""The machine: processors, memory, limits, huge pages, /dev/shm, NUMA."""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from ucm.cli.findings import FAIL, INFO, OK, WARN, Finding, Subject
from ucm.cli.params import bytes_text, count_text

_GIB = 1 << 30
_ENOUGH_FILES = 4096
_FEW_FILES = 256
_CAP_IPC_LOCK = 14


def check(subject: Subject) -> Iterator[Finding]:
    """Every property of the machine."""
    memory = meminfo()
    yield from _processors()
    yield from _memory(memory, subject)
    yield from _memlock(subject)
    yield from _open_files()
    yield from _huge_pages(memory, subject)
    yield from _shared_memory()
    yield from _numa()


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; counts of pages as they are."""
    values: dict[str, int] = {}
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        match = re.match(r"(\S+):\s+(\d+)( kB)?", line)
        if match:
            values[match[1]] = int(match[2]) * (1024 if match[3] else 1)
    return values


def _processors() -> Iterator[Finding]:
    usable = len(os.sched_getaffinity(0))
    if usable < 8:
        yield Finding(WARN, "processors", f"{usable}", "8 or more are recommended")
    else:
        yield Finding(OK, "processors", f"{usable}")


def _cache_bytes(subject: Subject) -> int:
    """Bytes the configuration lets the Cache take; 0 when it counts blocks of unknown size."""
    store = subject.config.store if subject.config else None
    if store is None or "Cache" not in store.spec:
        return 0
    limits = [store.pinned_pool_size, store.max_pinned_size]
    if store.block_bytes:
        slots = [store.buffer_number, store.cache_capacity]
        limits += [each * store.block_bytes if each else None for each in slots]
    return min((each for each in limits if each), default=0)


def _memory(memory: dict[str, int], subject: Subject) -> Iterator[Finding]:
    total, free = memory["MemTotal"], memory["MemAvailable"]
    text = f"{bytes_text(free)} available of {bytes_text(total)}"
    cache = _cache_bytes(subject)
    if cache > total:
        yield Finding(
            FAIL,
            "memory",
            f"{text}; the Cache asks for {bytes_text(cache)}",
            "lower max_pinned_size",
        )
    elif cache > free // 2:
        yield Finding(
            WARN,
            "memory",
            f"{text}; the Cache asks for {bytes_text(cache)} and gets at most half of that",
            "lower max_pinned_size, or free some memory",
        )
    elif total < 30 * _GIB:
        yield Finding(WARN, "memory", text, "32 GiB or more are recommended")
    else:
        yield Finding(OK, "memory", text)


def _may_lock() -> bool:
    """Whether this process has CAP_IPC_LOCK."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return bool(match and int(match[1], 16) >> _CAP_IPC_LOCK & 1)


def _memlock(subject: Subject) -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY:
        yield Finding(OK, "locked memory", "unlimited (RLIMIT_MEMLOCK)")
    elif _may_lock():
        yield Finding(OK, "locked memory", "unlimited for this user (CAP_IPC_LOCK)")
    elif soft >= max(_cache_bytes(subject), _GIB):
        yield Finding(OK, "locked memory", f"up to {bytes_text(soft)} (RLIMIT_MEMLOCK)")
    else:
        yield Finding(
            WARN,
            "locked memory",
            f"up to {bytes_text(soft)} (RLIMIT_MEMLOCK): little for pinned buffers",
            "ulimit -l unlimited; systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1",
        )


def _open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = "unlimited" if soft == resource.RLIM_INFINITY else count_text(soft)
    if soft == resource.RLIM_INFINITY or soft >= _ENOUGH_FILES:
        yield Finding(OK, "open files", f"{text} (RLIMIT_NOFILE)")
        return
    limit = "unlimited" if hard == resource.RLIM_INFINITY else count_text(hard)
    yield Finding(
        FAIL if soft < _FEW_FILES else WARN,
        "open files",
        f"{text} (RLIMIT_NOFILE, at most {limit})",
        "ulimit -n 65536; systemd: LimitNOFILE=65536",
    )


def transparent() -> str:
    """The state of transparent huge pages: always, madvise, never, or unknown."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    try:
        match = re.search(r"\[(\w+)\]", path.read_text(encoding="ascii"))
    except OSError:
        return "unknown"
    return match[1] if match else "unknown"


def _huge_pages(memory: dict[str, int], subject: Subject) -> Iterator[Finding]:
    size = memory.get("Hugepagesize", 2 << 20)
    reserved, free = memory.get("HugePages_Total", 0), memory.get("HugePages_Free", 0)
    state = transparent()
    store = subject.config.store if subject.config else None
    off = store is not None and store.huge_pages == "off"
    if reserved:
        yield Finding(
            OK,
            "huge pages",
            f"{count_text(free)} of {count_text(reserved)} reserved pages of {bytes_text(size)} "
            f"are free; transparent: {state}",
        )
    elif state in ("always", "madvise") or off:
        yield Finding(OK, "huge pages", f"none reserved; transparent: {state}")
    else:
        yield Finding(
            WARN,
            "huge pages",
            f"none reserved, transparent: {state}; the Cache uses pages of 4 KiB",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )


def _shared_memory() -> Iterator[Finding]:
    try:
        total = shutil.disk_usage("/dev/shm").total
    except OSError:
        yield Finding(WARN, "/dev/shm", "is not there", "mount a tmpfs at /dev/shm")
        return
    if total < _GIB:
        yield Finding(
            WARN,
            "/dev/shm",
            f"{bytes_text(total)}: little for an engine with several workers",
            "docker: --shm-size=8g; Kubernetes: an emptyDir with medium: Memory",
        )
    else:
        yield Finding(OK, "/dev/shm", bytes_text(total))


def _numa() -> Iterator[Finding]:
    nodes = len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1
    yield Finding(INFO, "NUMA nodes", str(nodes))
