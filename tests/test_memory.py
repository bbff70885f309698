"""Free and total memory within the limits of a container, from folders that stand for control groups."""

from pathlib import Path

import pytest

from srlib import memory

V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
MB = 2**20

# A machine with less memory than these limits would decide instead of them.
LIMIT, USE, CACHE = 64 * MB, 48 * MB, 40 * MB


def group(
    folder: Path, names: tuple[str, str, str], *, limit: str = str(LIMIT), use: int = USE, cache: int | None = CACHE
) -> tuple[Path, str, str, str]:
    """Write the files of a control group; return its entry in the list of limits."""
    folder.mkdir()
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{use}\n")
    if cache is not None:
        others = "cache 1\ninactive_file 1\n" if names == V1 else "file 1\nactive_file 1\n"
        (folder / "memory.stat").write_text(f"{others}{names[2]} {cache}\nunevictable 0\n")
    return (folder, *names)


@pytest.mark.parametrize("names", [V1, V2])
class TestLimits:
    def test_cached_files_count_as_free(self, tmp_path, monkeypatch, names):
        monkeypatch.setattr(memory, "_LIMITS", (group(tmp_path / "group", names),))
        assert memory.free_memory() == LIMIT - (USE - CACHE)
        assert memory.total_memory() == LIMIT

    def test_without_statistics_all_use_counts(self, tmp_path, monkeypatch, names):
        monkeypatch.setattr(memory, "_LIMITS", (group(tmp_path / "group", names, cache=None),))
        assert memory.free_memory() == LIMIT - USE
        (tmp_path / "group/memory.stat").write_text("anon 5\n\n")
        assert memory.free_memory() == LIMIT - USE

    def test_free_lies_between_nothing_and_the_limit(self, tmp_path, monkeypatch, names):
        over = group(tmp_path / "over", names, use=LIMIT + MB, cache=0)
        monkeypatch.setattr(memory, "_LIMITS", (over,))
        assert memory.free_memory() == 0
        more_cache = group(tmp_path / "cache", names, cache=USE + MB)
        monkeypatch.setattr(memory, "_LIMITS", (more_cache,))
        assert memory.free_memory() == LIMIT

    def test_no_limit_leaves_what_the_machine_has(self, tmp_path, monkeypatch, names):
        whole = 2**60
        monkeypatch.setattr(memory, "_LIMITS", ())
        total = memory.total_memory()
        for number, limit in enumerate(("max", str(whole))):
            monkeypatch.setattr(memory, "_LIMITS", (group(tmp_path / str(number), names, limit=limit),))
            free = memory.free_memory()
            assert memory.total_memory() == total
            assert free is None or total is None or 0 < free <= total


def test_the_tightest_group_decides(tmp_path, monkeypatch):
    loose, tight = group(tmp_path / "a", V1), group(tmp_path / "b", V2, cache=CACHE - MB)
    monkeypatch.setattr(memory, "_LIMITS", (loose, tight))
    assert memory.free_memory() == LIMIT - (USE - CACHE + MB)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs /proc/meminfo")
def test_never_more_than_the_machine_has_available(tmp_path, monkeypatch):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 900 kB\nMemAvailable: 700 kB\n")
    monkeypatch.setattr(memory, "Path", lambda path: info if path == "/proc/meminfo" else Path(path))
    monkeypatch.setattr(memory, "_LIMITS", (group(tmp_path / "group", V2),))
    assert memory.free_memory() == 700 * 1024
