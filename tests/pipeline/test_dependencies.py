"""dvc.yaml must name each file whose change could change a stage's bytes, and no other: DVC does not follow imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from srlib.pipeline.dependencies import LEFT_OUT, code_of, is_left_out, main, updated

from .conftest import Repository

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def listed_code(stage: str) -> list[str]:
    """The entries of a stage's dependencies in dvc.yaml that are code."""
    return [entry for entry in STAGES[stage]["deps"] if entry.startswith(("srlib/", "stages/"))]


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_in_dvc_yaml_is_what_the_stage_imports(stage: str) -> None:
    listed, computed = set(listed_code(stage)), set(code_of(f"stages/{stage}.py", ROOT))
    advice = "run: python -m srlib.pipeline.dependencies --write"
    assert not computed - listed, f"{stage}: missing in dvc.yaml; {advice}"
    assert not listed - computed, f"{stage}: superfluous in dvc.yaml; {advice}"


def test_only_files_are_listed() -> None:
    assert all((ROOT / entry).is_file() for stage in STAGES for entry in listed_code(stage))


def test_each_exception_exists_and_has_a_reason() -> None:
    for name, reason in LEFT_OUT.items():
        assert (ROOT / name).exists() and reason, name


@pytest.mark.parametrize(
    ("stage", "inside", "outside"),
    [
        (
            "pretrain",
            ["srlib/engine.py", "srlib/training/loop.py", "srlib/models/networks/edsr.py"],
            ["srlib/training/gan/"],
        ),
        ("finetune", ["srlib/engine.py", "srlib/training/gan/"], ["srlib/training/pretrain.py", "srlib/evaluation/"]),
        ("evaluate", ["srlib/engine.py", "srlib/report/templates/"], ["srlib/survey/", "srlib/training/"]),
        ("prepare", ["srlib/imaging/resize.py"], ["srlib/engine.py", "srlib/models/", "srlib/inference/"]),
        (
            "download",
            ["srlib/data/selfexsr.sha256"],
            ["srlib/formats/decode.py", "srlib/formats/png.py", "srlib/models/"],
        ),
    ],
)
def test_landmarks(stage: str, inside: list[str], outside: list[str]) -> None:
    code = listed_code(stage)
    for name in inside:
        assert any(entry.startswith(name) for entry in code), name
    for name in outside:
        assert not any(entry.startswith(name) for entry in code), name


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one stage with every kind of import, and a dvc.yaml that lists nothing but the script."""
    files = {
        "dvc.yaml": "stages:\n  train:\n    cmd: x\n    deps:\n      - data # patches\n      - stages/train.py\n"
        "      - srlib/gone.py\n    outs:\n      - model\n",
        "stages/train.py": "from srlib.net import layers\ndef f():\n    import srlib.lazy\n    import srlib.progress\n",
        "srlib/__init__.py": "x = 1\n",
        "srlib/net/__init__.py": '"""Networks."""\n',
        "srlib/net/layers.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import srlib.types\n"
        'NAMES = "names.txt"\n',
        "srlib/net/names.txt": "",
        "srlib/net/README.md": "",
        "srlib/net/templates/page.html": "",
        "srlib/lazy.py": "",
        "srlib/types.py": "x = 1\n",
        "srlib/progress.py": "import srlib.behind\n",
        "srlib/behind.py": "x = 1\n",
    }
    files["srlib/lazy.py"] = "import srlib.net.layers\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_code_of_follows_lazy_imports_and_skips_exceptions(project: Path) -> None:
    assert code_of("stages/train.py", project) == [
        "srlib/lazy.py",
        "srlib/net/layers.py",
        "srlib/net/names.txt",
        "srlib/net/templates/page.html",
        "stages/train.py",
    ]


def test_write_changes_code_entries_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    messages = capsys.readouterr().err
    assert "dvc.yaml: missing: srlib/lazy.py" in messages and "dvc.yaml: superfluous: srlib/gone.py" in messages
    assert main(["--write"]) == 0
    assert main([]) == 0
    content = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["train"]
    assert content["deps"] == [
        "data",
        "stages/train.py",
        "srlib/lazy.py",
        "srlib/net/layers.py",
        "srlib/net/names.txt",
        "srlib/net/templates/page.html",
    ]
    assert content["outs"] == ["model"]
    assert "data # patches" in Path("dvc.yaml").read_text()
    assert updated(Path("dvc.yaml").read_text(), project) == Path("dvc.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("      - stages/train.py\n", "", "expected stages/train.py under `deps`; add it and run this again"),
        ("train", "test", "expected a script stages/test.py, but there is none"),
    ],
)
def test_a_stage_without_its_script(
    old: str, new: str, line: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("dvc.yaml").read_text().replace(old, new)
    Path("dvc.yaml").write_text(before)
    assert main(["--write"]) == 1
    assert capsys.readouterr().err == f"error: dvc.yaml: stage {'test' if new else 'train'}: {line}\n"
    assert Path("dvc.yaml").read_text() == before


@pytest.mark.parametrize("stage", STAGES)
def test_each_module_loaded_in_a_real_run_is_listed_or_excepted(repository: Repository, stage: str) -> None:
    code = listed_code(stage)
    loaded = [name for file in repository.loaded.glob(f"{stage}*") for name in file.read_text().splitlines()]
    assert "srlib/stage.py" in loaded
    behind = set(_behind_what_is_left_out())
    missing = {name for name in loaded if not (name in code or is_left_out(name) or _is_empty(ROOT / name))} - behind
    assert not missing, f"{stage}: loaded in a run but not in dvc.yaml"


def _behind_what_is_left_out() -> Iterator[str]:
    """Yield what the modules of LEFT_OUT import: the models of params.yaml load the networks' options, for instance."""
    for name in LEFT_OUT.keys() - {"srlib/__init__.py", "srlib/evaluation/champions.py"}:
        for file in [ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"):
            for module in _modules(file):
                path = ROOT / Path(*module.split("."))
                for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                    if module.startswith("srlib") and candidate.is_file():
                        script = candidate.relative_to(ROOT).as_posix()
                        yield from {script, *code_of(script, ROOT)}


def _is_empty(file: Path) -> bool:
    return file.name == "__init__.py" and len(ast.parse(file.read_text()).body) <= 1


@pytest.fixture
def touched(repository: Repository, request: pytest.FixtureRequest) -> Iterator[set[str]]:
    """The stages that `dvc status` names after a comment was added to a file."""
    file = repository.path / request.param
    before = file.read_text()
    file.write_text(before + "\n# a comment\n")
    try:
        yield repository.changed()
    finally:
        file.write_text(before)


@pytest.mark.parametrize(
    ("touched", "changed"),
    [
        ("srlib/training/gan/trainer.py", {"finetune"}),
        ("srlib/training/gan/discriminator.py", {"finetune"}),
        ("srlib/training/pretrain.py", {"pretrain"}),
        ("srlib/survey/page.py", set()),
        ("srlib/survey/score.py", set()),
        ("srlib/report/html.py", {"evaluate"}),
        ("srlib/report/templates/report.css", {"evaluate"}),
        ("srlib/engine.py", {"pretrain", "finetune", "evaluate"}),
        ("srlib/tracking/run.py", set()),
        ("srlib/progress.py", set()),
        ("srlib/cli/__init__.py", set()),
    ],
    indirect=["touched"],
)
def test_a_changed_file_concerns_its_stages_alone(touched: set[str], changed: set[str]) -> None:
    assert touched == changed


def test_paths_stand_in_dvc_yaml_only() -> None:
    for file in {*ROOT.glob("stages/*.py"), *ROOT.glob("srlib/**/*.py")} - {*ROOT.glob("srlib/cli/*.py")}:
        tree = ast.parse(file.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                assert not node.value.startswith(("data/raw/", "data/patches", "models/pretrained", "results/")), file


def test_each_stage_has_a_description() -> None:
    assert all(stage["desc"] for stage in STAGES.values())


def test_stage_scripts_are_short() -> None:
    for file in ROOT.glob("stages/*.py"):
        assert len(file.read_text().splitlines()) <= 60, file


def test_srlib_does_not_import_stages() -> None:
    for file in ROOT.glob("srlib/**/*.py"):
        assert "stages" not in {name.split(".")[0] for name in _modules(file)}, file


def test_modules_do_not_import_the_public_names() -> None:
    """Which modules these come from could not be seen in the imports."""
    for file in ROOT.glob("srlib/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "srlib":
                for name in {alias.name for alias in node.names} - {"__version__"}:
                    is_module = (ROOT / "srlib" / f"{name}.py").exists() or (ROOT / "srlib" / name).is_dir()
                    assert is_module, f"{file}: import {name} from its own module"


def _modules(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_the_data_package_needs_no_tensorflow() -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(['tensorflow', 'keras', 'mlflow', 'dvc'])\n"
        "import srlib.data.batches, srlib.data.patches, srlib.imaging.resize, srlib.imaging.metrics, srlib.cli"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
