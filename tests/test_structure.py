"""The structure of the package: which module may import which, and how large packages and functions may grow."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import srlib

ROOT = Path(__file__).resolve().parents[1]
MODULES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "srlib").rglob("*.py"))}

FLOORS = (
    (
        "arrays",
        "atomic",
        "cluster",
        "cluster_worker",
        "errors",
        "files",
        "memory",
        "progress",
        "signals",
        "parts",
        "parallel",
        "engine",
        "schema",
        "webpage",
    ),
    ("formats",),
    ("imaging",),
    ("models",),
    ("params",),
    ("data",),
    ("training",),
    ("pipeline", "tracking"),
    ("inference",),
    ("calibration", "films", "rasters"),
    ("evaluation",),
    ("report", "survey", "demo"),
    ("check", "stage"),
    ("cli",),
)
"""Packages from the bottom up: a module imports from its own floor and from those below."""

LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
LONGEST_FUNCTION = 50
MOST_ANY = 60
MOST_PUBLIC_NAMES = 20
LARGEST_SHARE = 0.15
LONGEST_NETWORK = 50
LONGEST_CALLBACK = 40


def package(path: Path) -> str:
    """Return the name of a file's package or module below srlib; a package counts with the packages inside it."""
    return path.relative_to(ROOT / "srlib").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[Path]:
    """Yield the files of srlib that a file imports, at its top or inside a function."""
    for node in ast.walk(MODULES[path]):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = [name for a in node.names if _file(name := f"{node.module}.{a.name}")]
            names = submodules or [node.module]
        yield from (file for name in names if (file := _file(name)) and file != path)


def _file(name: str) -> Path | None:
    path = ROOT / Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file in MODULES), None)


def test_imports_point_down() -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
        for path in MODULES
        for other in imports(path)
        if package(path) != "__init__" and package(other) != "__init__" and _level(other) > _level(path)
    ]
    assert not upward, "\n".join(upward)


def _level(path: Path) -> int:
    return LEVEL[package(path)]


def test_contributing_lists_the_packages_from_the_bottom_up() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [re.findall(r"\bsrlib/(\w+)", line) for line in page.splitlines() if line.startswith("srlib/")]
    packages = [[name for name in floor if (ROOT / "srlib" / name).is_dir()] for floor in FLOORS]
    assert [set(row) for row in rows] == [set(floor) for floor in packages if floor]


def test_contributing_lists_the_modules_outside_packages() -> None:
    _, table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| module of srlib/ |", 1)
    rows = table.split("\n\n", 1)[0].splitlines()[2:]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "srlib").glob("*.py") if path.stem != "__init__")


def test_no_import_cycle() -> None:
    graph = {path: set(imports(path)) for path in MODULES if package(path) != "__init__"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(str(path.relative_to(ROOT)) for path in error.args[1]))


def test_no_long_function() -> None:
    long = [f"{name}: {lines} lines" for name, lines in function_lines() if lines > LONGEST_FUNCTION]
    assert not long, "\n".join(long)


def function_lines() -> Iterator[tuple[str, int]]:
    """Yield each function with the number of lines of its body, without its docstring."""
    for path, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines


def test_few_uses_of_any() -> None:
    uses = Counter(
        path.relative_to(ROOT).as_posix()
        for path, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "Any"
    )
    assert uses.total() <= MOST_ANY, uses.most_common()


def test_few_public_names() -> None:
    assert 0 < len(srlib.__all__) <= MOST_PUBLIC_NAMES


def test_networks_are_short_files() -> None:
    networks = (ROOT / "srlib/models/networks").glob("*.py")
    long = {path.name: lines for path in networks if (lines := _lines(path)) > LONGEST_NETWORK}
    assert not long


def test_callbacks_are_short_classes() -> None:
    classes = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for path in ("srlib/training/callbacks.py", "srlib/training/gan/gradient_shares.py")
        for node in MODULES[ROOT / path].body
        if isinstance(node, ast.ClassDef) and ("Callback" in map(ast.unparse, node.bases) or node.name == "Callback")
    }
    assert len(classes) == 6 and max(classes.values()) <= LONGEST_CALLBACK, classes


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_large_package() -> None:
    lines: Counter[str] = Counter()
    for path in MODULES:
        lines[package(path)] += _lines(path)
    shares = {name: count / lines.total() for name, count in lines.items()}
    large = {name: f"{share:.1%}" for name, share in shares.items() if share > LARGEST_SHARE}
    assert not large
