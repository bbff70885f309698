"""The public interface: its names, their signatures, their docstrings and the examples in them."""

import ast
import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import srlib

ROOT = Path(__file__).parents[1]
CALLABLES = sorted(set(srlib.__all__) - {"__version__", "SrlibError"})
SECTIONS = ("Args:", "Returns:", "Raises:", "Example:")
# No arguments; nothing that can be wrong.
LEFT_OUT = {
    "shipped_models": {"Args:", "Raises:"},
    "write_image": {"Returns:"},
    "Upscaler": {"Returns:"},
    "upscale_film": {"Returns:"},
    "upscale_raster": {"Returns:"},
}


def test_names_are_few_and_sorted() -> None:
    assert len(srlib.__all__) <= 20
    assert srlib.__all__ == sorted(srlib.__all__)
    assert dir(srlib) == srlib.__all__


def test_every_name_can_be_imported_from_its_module() -> None:
    lazy = srlib._MODULES
    assert set(lazy) == set(CALLABLES)
    for name, module in lazy.items():
        assert f"{getattr(srlib, name).__module__}.".startswith(f"{module}.")


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(srlib.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == srlib._MODULES
    assert (Path(srlib.__file__).parent / "py.typed").exists()


def test_an_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'upscaler'; public names: SrlibError, Upscaler"):
        srlib.upscaler  # noqa: B018


def python(code: str, **environment: str) -> str:
    known = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_srlib_imports_nothing_heavy() -> None:
    heavy = {"numpy", "PIL", "cv2", "openvino", "keras", "tensorflow", "pydantic", "yaml", "rich", "typer"}
    assert python(f"import sys, srlib; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_a_missing_package_is_named() -> None:
    code = (
        "import sys; sys.modules['cv2'] = None\nimport srlib\n"
        "try:\n    srlib.psnr_y\nexcept srlib.SrlibError as error:\n    print(error)"
    )
    assert python(code) == f"srlib.psnr_y needs cv2: {sys.executable} -m pip install 'srlib[pipeline]'"


@pytest.mark.parametrize("name", CALLABLES)
def test_options_are_keyword_only(name: str) -> None:
    parameters = list(inspect.signature(getattr(srlib, name)).parameters.values())
    for parameter in parameters[1:]:
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.kind == inspect.Parameter.KEYWORD_ONLY, parameter.name


@pytest.mark.parametrize("name", CALLABLES)
def test_docstrings_have_all_sections(name: str) -> None:
    text = inspect.getdoc(getattr(srlib, name)) or ""
    first, _, rest = text.partition("\n")
    assert first.endswith("."), "one sentence on the first line"
    for section in set(SECTIONS) - LEFT_OUT.get(name, set()):
        assert f"\n{section}\n" in rest, section
    documented = set(re.findall(r"^    (\w+):", rest.partition("Args:")[2].partition("\n\n")[0], re.MULTILINE))
    assert documented == set(inspect.signature(getattr(srlib, name)).parameters)


@pytest.mark.parametrize("name", CALLABLES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()  # the real one is the user's to change
    shutil.copy(ROOT / "tests/recipe.yaml", tmp_path / "recipes/quickstart.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    value = getattr(srlib, name)
    names = dict(vars(sys.modules[value.__module__]))
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(value) or "", names, name, None, None)
    assert test.examples
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


def test_the_reference_lists_every_name() -> None:
    text = (ROOT / "docs/reference/api.md").read_text()
    assert sorted(re.findall(r"^::: srlib\.(\w+)$", text, re.MULTILINE)) == sorted({*CALLABLES, "SrlibError"})
    assert all(f"`{name}`" in text for name in srlib.__all__)
    assert "may change without notice" in text


def test_the_version_has_one_source() -> None:
    assert 'version = { attr = "srlib.__version__" }' in (ROOT / "pyproject.toml").read_text()
    heading = re.search(r"^## \[(.+)\] – (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heading
    version, date = heading.groups()
    assert srlib.__version__ == (f"{version}.dev0" if date == "unreleased" else version)
