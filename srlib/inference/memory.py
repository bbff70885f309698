"""Free memory of the machine or the container."""

import os
from pathlib import Path


def free_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, within a container's limits; None where unknown."""
    candidates = []
    info = Path("/proc/meminfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text(encoding="ascii").splitlines())
        candidates.append(int(lines["MemAvailable"].split()[0]) * 1024)
    for folder, limit_name, usage_name in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit = folder / limit_name
        if limit.exists() and (text := limit.read_text().strip()).isdigit():
            candidates.append(max(0, int(text) - int((folder / usage_name).read_text())))
    if not candidates and "SC_PHYS_PAGES" in os.sysconf_names:
        # macOS reports only the total.
        candidates.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(candidates, default=None)
