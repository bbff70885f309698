"""dvc.yaml must name every module whose change could change a stage's bytes, since DVC does not follow imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

LEFT_OUT = {
    "srlib/__init__.py": "holds the version alone",
    "srlib/errors.py": "the wording of errors",
    "srlib/files.py": "how files are written, not what is in them; the pipeline's own tests compare the bytes",
    "srlib/params": "what reaches the bytes are the parameters, which DVC compares by value",
    "srlib/progress.py": "shows progress",
    "srlib/parallel.py": "spreads work over threads; a test compares the bytes of any number of workers",
    "srlib/signals.py": "ends a process properly",
    "srlib/stage.py": "records runs and handles signals",
    "srlib/pipeline/dvc.py": "reads what DVC knows",
    "srlib/pipeline/resume.py": "finds the folder of the resume state",
    "srlib/engine.py": "threads and determinism, recorded with each run",
    "srlib/tracking": "records runs",
}


def imports(file: Path) -> set[Path]:
    """The project's files that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            path = ROOT / Path(*name.split("."))
            for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                if name.startswith("srlib") and candidate.is_file():
                    found.add(candidate)
                    if path.parent != ROOT / "srlib" and (path.parent / "__init__.py").is_file():
                        found.add(path.parent / "__init__.py")
    return found


def closure(file: Path) -> set[str]:
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        for other in imports(current) - seen:
            relative = other.relative_to(ROOT).as_posix()
            if not any(relative == name or relative.startswith(f"{name}/") for name in LEFT_OUT):
                seen.add(other)
                waiting.append(other)
    return {path.relative_to(ROOT).as_posix() for path in seen}


@pytest.mark.parametrize("stage", STAGES)
def test_every_module_that_a_stage_imports_is_its_dependency(stage: str) -> None:
    named = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("srlib", "stages"))]
    assert f"stages/{stage}.py" in named
    missing = {
        module
        for module in closure(ROOT / f"stages/{stage}.py")
        if not any(module == dep or module.startswith(f"{dep}/") for dep in named)
        and (ROOT / module).read_text().count("\n") > 1
    }
    assert not missing, f"dvc.yaml, stage {stage}: deps lacks {sorted(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_dependency_is_imported(stage: str) -> None:
    used = closure(ROOT / f"stages/{stage}.py")
    for dep in STAGES[stage]["deps"]:
        if dep.startswith("srlib") and not dep.endswith(".sha256"):
            assert any(module == dep or module.startswith(f"{dep}/") for module in used), f"{stage}: {dep} is not used"


def test_paths_stand_in_dvc_yaml_only() -> None:
    for file in {*ROOT.glob("stages/*.py"), *ROOT.glob("srlib/**/*.py")} - {ROOT / "srlib/cli/__init__.py"}:
        tree = ast.parse(file.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                assert not node.value.startswith(("data/raw/", "data/patches", "models/pretrained", "results/")), file


def test_every_stage_says_what_it_does() -> None:
    assert all(stage["desc"] for stage in STAGES.values())


def test_stage_scripts_are_short() -> None:
    for file in ROOT.glob("stages/*.py"):
        assert len(file.read_text().splitlines()) <= 60, file


def test_srlib_does_not_import_stages() -> None:
    for file in ROOT.glob("srlib/**/*.py"):
        assert "stages" not in {name.split(".")[0] for name in _modules(file)}, file


def _modules(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_the_data_room_needs_no_tensorflow() -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(['tensorflow', 'keras', 'mlflow', 'dvc'])\n"
        "import srlib.data.batches, srlib.data.patches, srlib.imaging.resize, srlib.imaging.metrics, srlib.cli"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
