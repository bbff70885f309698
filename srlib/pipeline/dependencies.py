"""The code dependencies of each stage in dvc.yaml, computed from the imports of its script.

DVC does not follow imports, so dvc.yaml names each file whose change could change the bytes of an output. After a
module was added, moved or removed, run

    python -m srlib.pipeline.dependencies --write

It rewrites the entries below `srlib/` and `stages/`; data, parameters, outputs and comments stay as they are. Without
`--write` it prints what would change and exits with status 1.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from srlib.errors import SrlibError
from srlib.files import write_text

CODE = ("srlib/", "stages/")
ENGINE = "srlib/engine.py"

LEFT_OUT = {
    "srlib/__init__.py": "re-exports public names",
    "srlib/check.py": "refuses a recipe; what it accepts gives the same file each time",
    "srlib/cluster_worker.py": "checks the workers of a cluster",
    "srlib/cluster.py": "spreads work over hosts; a test compares the bytes",
    "srlib/data/epochs.py": "refuses a recipe before patches are cut",
    "srlib/errors.py": "the type of error that users read",
    "srlib/evaluation/champions.py": "decides about aliases in MLflow; no output holds them",
    "srlib/arrays.py": "names of array types",
    "srlib/atomic.py": "how files are written, not what is in them",
    "srlib/files.py": "checks and hashes files",
    "srlib/inference/process.py": "starts a process",
    "srlib/memory.py": "refuses what memory cannot hold, and sizes tiles",
    "srlib/parallel.py": "spreads work over cores; a test compares the bytes for any number of workers",
    "srlib/params/": "DVC compares the parameters themselves",
    "srlib/pipeline/": "reads what DVC knows, finds the resume state",
    "srlib/progress.py": "shows progress",
    "srlib/report/__init__.py": "holds no code",
    "srlib/report/samples.py": "draws samples for MLflow",
    "srlib/schema.py": "checks the parameters, which DVC compares itself",
    "srlib/signals.py": "ends a process properly",
    "srlib/stage.py": "prepares and ends a stage",
    "srlib/tracking/": "records runs in MLflow",
    "srlib/training/checkpoint.py": "saves and restores a training exactly; kill tests compare the bytes",
    "srlib/training/distributed.py": "starts, joins and ends processes; what each computes is in mesh.py",
    "srlib/training/samples.py": "chooses samples for MLflow",
    "srlib/training/types.py": "names of types",
}
"""File or package (with a slash at its end) that cannot change the bytes of an output → reason."""


def code_of(script: str, root: Path) -> list[str]:
    """Return the files whose change could change what a stage script writes, sorted, with the script itself.

    These are the modules that it imports, directly or through others, at the top of a file or inside a function, except
    those of `LEFT_OUT` and empty `__init__.py`; the data files of their packages; and, for a script that passes
    `keras=True` to `stage_run`, the engine, which decides the last bits of what Keras computes.

    Args:
        script: Path of the script, relative to `root`.
        root: The repository.
    """
    starts = [script, ENGINE] if "keras=True" in (root / script).read_text(encoding="utf-8") else [script]
    reached = {file for start in starts for file in imported_files(start, root, tuple(LEFT_OUT))}
    code = {module for module in reached if _has_code(root / module)}
    return sorted(code | {file for module in reached for file in _data_files(root / module, root)})


def is_left_out(module: str) -> bool:
    """Return whether `LEFT_OUT` names a file or the package it lies in."""
    return module.startswith(tuple(LEFT_OUT))


def imported_files(module: str, root: Path, without: tuple[str, ...] = ()) -> list[str]:
    """Return a module and the files that it imports, directly or through others, at the top or inside a function.

    Args:
        module: Path of the module, relative to `root`.
        root: The folder that holds the package.
        without: Files and packages (with a slash at their end) that are left out.
    """
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        file = waiting.pop()
        if file not in reached and not file.startswith(without):
            reached.add(file)
            waiting += _imported_modules(root / file, root)
    return sorted(reached)


def _imported_modules(file: Path, root: Path) -> Iterator[str]:
    """Yield the project's files that a file imports, except those for type checkers alone."""
    for node in _nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == "srlib":
                yield from _files_of(name, root)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node below `tree`, but none inside `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield node
            yield from _nodes(node)


def _files_of(name: str, root: Path) -> Iterator[str]:
    """Yield the file of a dotted module name and the `__init__.py` of each package above it."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = Path(*parts[:length])
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if (root / candidate).is_file():
                yield candidate.as_posix()


def _has_code(file: Path) -> bool:
    """Return whether a module holds more than a docstring."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def _data_files(module: Path, root: Path) -> Iterator[str]:
    """Yield a package's data: the files beside `module` that it names, and those in folders such as templates/."""
    package = module.parent
    if package in (root / "srlib", root / "stages"):
        return
    text = module.read_text(encoding="utf-8")
    for file in package.rglob("*"):
        is_data = file.is_file() and file.suffix not in (".py", ".pyc", ".pyi")
        is_in_package = file.parent == package or not (file.parent / "__init__.py").exists()
        if is_data and is_in_package and (file.parent != package or f'"{file.name}"' in text):
            yield file.relative_to(root).as_posix()


def updated(text: str, root: Path) -> str:
    """Return the text of dvc.yaml with the code dependencies of each stage as `code_of` computes them.

    Args:
        text: The text of dvc.yaml; its stages are indented by two spaces, as DVC writes them.
        root: The repository.

    Raises:
        SrlibError: A stage has no script of its name in stages/, or does not list it.
    """
    lines: list[str] = []
    stage, in_stages, in_deps = "", False, False
    unlisted: set[str] = set()
    for line in text.splitlines():
        content = "" if line.startswith("#") else line.partition(" #")[0].rstrip()
        depth = len(content) - len(content.lstrip())
        if content and depth == 0:
            in_stages = content == "stages:"
        if depth == 2 and content.endswith(":"):
            stage = content.strip(" :")
            unlisted |= {stage} if in_stages else set()
        if content and depth <= 4:
            in_deps = content == "    deps:"
        if in_deps and content.startswith("      - "):
            entry = content[8:].strip()
            if entry == f"stages/{stage}.py":
                unlisted.discard(stage)
                lines += [f"      - {file}" for file in _code_of_stage(stage, root)]
            if entry.startswith(CODE):
                continue
        lines.append(line)
    if unlisted:
        stage = min(unlisted)
        raise SrlibError(f"dvc.yaml: stage {stage}: expected stages/{stage}.py under `deps`; add it and run this again")
    return "\n".join(lines) + "\n"


def _code_of_stage(stage: str, root: Path) -> list[str]:
    script = f"stages/{stage}.py"
    if not (root / script).is_file():
        raise SrlibError(f"dvc.yaml: stage {stage}: expected a script {script}, but there is none")
    return [script, *(file for file in code_of(script, root) if file != script)]


def main(arguments: list[str]) -> int:
    """Compare dvc.yaml in the working folder with the imports, or rewrite it; return the exit status."""
    root = Path.cwd()
    before = (root / "dvc.yaml").read_text(encoding="utf-8")
    try:
        after = updated(before, root)
    except SrlibError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if before == after:
        return 0
    if "--write" in arguments:
        write_text(root / "dvc.yaml", after)
        return 0
    old, new = set(before.splitlines()), set(after.splitlines())
    for line in sorted(new ^ old):
        print(f"dvc.yaml: {'missing' if line in new else 'superfluous'}: {line.strip(' -')}", file=sys.stderr)
    print("run: python -m srlib.pipeline.dependencies --write", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
