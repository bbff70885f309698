"""A few damaged files of each kind; benchmarks/fuzz_files.py does this by the thousand."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz_files.py"

spec = importlib.util.spec_from_file_location("fuzz_files", SCRIPT)
assert spec and spec.loader
fuzz = importlib.util.module_from_spec(spec)
sys.modules["fuzz_files"] = fuzz  # dataclasses look their module up
spec.loader.exec_module(fuzz)

COUNTS = {"exported": 8, "keras weights": 8, "graph": 12, "features": 8}
"""Beginning of a kind's name → files, where reading one takes long; 100 of the others."""


@pytest.mark.slow
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    problems = []
    for kind in fuzz.kinds(tmp_path):
        count = next((count for name, count in COUNTS.items() if kind.name.startswith(name)), 100)
        path = tmp_path / f"damaged-{kind.name.replace(' ', '-')}"
        for damage, content in fuzz.damaged(kind, count, 1):
            _, problem = fuzz.attempt(kind, content, path, 60)
            problems += [f"{kind.name}, {damage}: {problem}"] if problem else []
    assert not problems
