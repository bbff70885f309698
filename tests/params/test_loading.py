import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from srlib.errors import SrlibError
from srlib.params import load_params
from srlib.params.loading import LARGEST

ROOT = Path(__file__).parents[2]
Write = Callable[[dict[str, object]], Path]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"scale: [", r", line 1: not valid YAML"),
        (b"a: 1\nb:\n\t- c\n", ", line 3: not valid YAML"),
        (b"- scale", "expected sections such as `prepare:`, got list"),
        (b"", "expected sections such as `prepare:`, got NoneType"),
        (b"scale: 4\nscale: 2\n", ", line 2: not valid YAML: duplicate key `scale`"),
        (b"scale: 4\nseed: 010\n", ", line 2: not valid YAML: 010 is another number in YAML 1.1 than in 1.2"),
        (b"seed: 1:30\n", ", line 1: not valid YAML: 1:30 is another number in YAML 1.1 than in 1.2"),
        (b"? [a]\n: b\n", "not valid YAML"),
        (b"scale: !!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"seed: 2026-13-45", "not valid YAML"),
        (b"[" * 5000, ", line 1: not valid YAML: more than 20 brackets and braces inside each other"),
        (b"{a: " * 5000, ", line 1: not valid YAML: more than 20 brackets and braces inside each other"),
        (b"".join(b" " * n + b"a:\n" for n in range(1200)), "not valid YAML"),
        (b"a: \xff", "not valid YAML"),
        (b"a: \x07", "not valid YAML"),
        (b"#" * (LARGEST + 1), "expected at most 1,048,576 bytes"),
    ],
    ids=range(16),
)
def test_a_file_that_is_no_recipe(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(SrlibError, match=words) as caught:
        load_params(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SrlibError, match="no such file; copy a recipe"):
        load_params(tmp_path / "params.yaml")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "zero"):
        with pytest.raises(SrlibError, match="expected a regular file"):
            load_params(path)


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "1E-4", "0.0001", ".0001", "1.e-4"])
def test_numbers_are_read_as_dvc_reads_them(text: str, write: Write) -> None:
    path = write({"finetune.learning_rate": {"peak": "PEAK"}})
    path.write_text(path.read_text().replace("PEAK", text))
    assert load_params(path).finetune_section().learning_rate.peak == 1e-4


def test_merged_keys_are_no_duplicates(write: Write) -> None:
    path = write({})
    text = path.read_text().replace("finetune:\n", "finetune:\n  <<: {batch: 4, clip_norm: 0.5}\n")
    path.write_text(text)
    assert load_params(path).finetune_section().clip_norm == 1.0


def test_neither_params_nor_command_line_import_keras() -> None:
    code = (
        "import sys, srlib.params, srlib.models, srlib.models.features, srlib.cli\n"
        "srlib.params.load_params('tests/recipe.yaml')\n"
        "print({'keras', 'tensorflow', 'jax', 'torch', 'h5py', 'mlflow', 'dvc'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
