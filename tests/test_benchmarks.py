"""The scripts of benchmarks/ import what exists, and describe their options."""

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
HELP = """
import os, runpy, sys
for script in sys.argv[1:]:
    sys.path[0] = os.path.dirname(script)  # as in `python SCRIPT`: some use a neighbor
    sys.argv[:] = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
        if not error.code:
            continue
    sys.exit(f"{script}: --help does not work")
"""


def _needs_torch(path: Path) -> bool:
    return any(
        isinstance(node, ast.Import) and node.names[0].name == "torch" for node in ast.parse(path.read_text()).body
    )


@pytest.mark.slow
def test_every_benchmark_starts_and_explains_itself() -> None:
    scripts = [str(path) for path in SCRIPTS if find_spec("torch") or not _needs_torch(path)]
    result = subprocess.run(
        [sys.executable, "-c", HELP, *scripts], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("usage: ") == len(scripts) > 10


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_first_lines_say_how_to_run_it(path: Path) -> None:
    usage = f"python benchmarks/{path.name}"
    document = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert usage in document or f"python -m benchmarks.{path.stem}" in document
