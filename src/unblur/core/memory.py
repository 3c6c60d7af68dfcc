"""How much memory this process may still take."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

_GROUPS = (  # cgroups version 2 and 1, as a container sees its own: limit, use, and the counter of droppable pages
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
     "total_inactive_file"),
)  # fmt: skip


def available_bytes() -> int:
    """The least of what the system, the container and the limit of the process (`ulimit -v`) leave."""
    left = [int(psutil.virtual_memory().available)]
    if sys.platform == "linux":
        left += [room for group in _GROUPS if (room := _group_room(*group)) is not None]
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            left.append(limit - psutil.Process().memory_info().vms)
    return max(0, min(left))


def resident_bytes() -> int:
    """What this process holds."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The most that this process ever held.

    On Linux of this program alone: what getrusage says is also of the program that started it.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def gigabytes(count: float) -> str:
    """For people: "5.5 GB", in powers of ten."""
    return f"{count / 1e9:.1f} GB"


def _group_room(limit: str, use: str, droppable: str) -> int | None:
    try:
        stated, used = Path(limit).read_text().strip(), int(Path(use).read_text())
        counters = dict(line.split() for line in Path(limit).with_name("memory.stat").read_text().splitlines())
        return None if stated == "max" else int(stated) - used + int(counters.get(droppable, 0))
    except (OSError, ValueError):  # no such group here
        return None
