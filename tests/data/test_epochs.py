"""A training by epochs is compared with its images before patches are cut."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from srlib.data.epochs import check_epochs
from srlib.errors import SrlibError
from srlib.imaging.write import write_png
from srlib.params import Params, check_params

ROOT = Path(__file__).parents[2]
LINE = (
    "params.yaml: pretrain.learning_rate.warmup: expected fewer than the steps of `epochs` (at most {0}), got {0}; "
    "lower it, or raise `epochs`"
)


def recipe(epochs: int | None, warmup: int, **prepare: object) -> Params:
    content = yaml.safe_load((ROOT / "tests/recipe.yaml").read_text())
    steps = None if epochs else 300
    content["pretrain"] |= {"steps": steps, "epochs": epochs, "learning_rate": {"peak": 0.1, "warmup": warmup}}
    content["prepare"] |= {"images": "photos", "patch": 24, **prepare}
    return check_params(content, "params.yaml")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images of 4 patches with 24×24 LR pixels each, 5 with a copy of half the size, and a damaged file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in "ab":
        write_png(tmp_path / "photos" / f"{name}.png", np.zeros((192, 192, 3), np.uint8))
    (tmp_path / "photos" / "c.png").write_bytes(b"damaged")
    return Path("photos")


@pytest.mark.parametrize(("prepare", "steps"), [({}, 16), ({"sizes": [1.0, 0.5]}, 20)])
def test_a_warm_up_beyond_all_patches_is_one_line(photos: Path, prepare: dict, steps: int) -> None:
    check_epochs(recipe(32, steps - 1, **prepare), photos)
    with pytest.raises(SrlibError) as caught:
        check_epochs(recipe(32, steps, **prepare), photos)
    assert str(caught.value) == LINE.format(steps)


def test_no_file_is_read_where_none_is_needed(photos: Path) -> None:
    check_epochs(recipe(None, 299), Path("nowhere"))
    for name in "ab":
        (photos / f"{name}.png").write_bytes(b"damaged")
    check_epochs(recipe(1, 0), photos)


@pytest.mark.slow
def test_the_prepare_stage_begins_with_it(photos: Path, tmp_path: Path) -> None:
    """Images that were downloaded are known only then."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(recipe(32, 16).model_dump(mode="json")))
    for name in ("dvc.yaml", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "stages/prepare.py", "data/patches"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (1, [f"error: {LINE.format(16)}"])
    assert not (tmp_path / "data").exists()
