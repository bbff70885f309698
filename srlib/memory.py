"""Memory of the machine or the container: what there is, and what is free."""

import os
from pathlib import Path

from srlib.errors import SrlibError

_LIMITS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Folder of a control group, its limit, its use, and the part of that use in memory.stat that is freed on demand."""


def total_memory() -> int | None:
    """Return the bytes of memory that there are, within a container's limits; None where unknown."""
    candidates = []
    if "SC_PHYS_PAGES" in os.sysconf_names:
        candidates.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder, name, *_ in _LIMITS:
        if (folder / name).exists() and (text := (folder / name).read_text().strip()).isdigit():
            candidates.append(int(text))
    return min(candidates, default=None)


def free_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, within a container's limits; None where unknown."""
    candidates = []
    info = Path("/proc/meminfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text(encoding="ascii").splitlines())
        candidates.append(int(lines["MemAvailable"].split()[0]) * 1024)
    for folder, limit_name, usage_name, cache_name in _LIMITS:
        limit = folder / limit_name
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            # Files that were read or written stay in memory until somebody else needs it.
            usage, cache = int((folder / usage_name).read_text()), _statistic(folder / "memory.stat", cache_name)
            candidates.append(max(0, int(text) - max(0, usage - cache)))
    if not candidates and "SC_PHYS_PAGES" in os.sysconf_names:
        # macOS reports only the total.
        candidates.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(candidates, default=None)


def check_memory(task: str, needed: float) -> None:
    """Refuse a task that needs more memory than there is.

    Args:
        task: What would be done, such as `a.png: 100×50 to 400×200 pixels`.
        needed: Bytes that it needs.

    Raises:
        SrlibError: Fewer bytes are free.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise SrlibError(
            f"{task} needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; "
            "cut the image, or ask for a smaller size"
        )


def _statistic(path: Path, name: str) -> int:
    """Return one number of a control group's statistics, 0 where there is none."""
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
