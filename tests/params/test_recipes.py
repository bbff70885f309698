"""The recipes that come with srlib. recipes/ and params.yaml are the user's to change: these tests run in CI only."""

import os
import re
from pathlib import Path

import pytest
import yaml

from srlib.files import file_hash
from srlib.models import WEIGHTS
from srlib.params import Params, load_params

ROOT = Path(__file__).parents[2]
NAMES = ("clean-x4", "clean-x2", "fast-x4", "photo-x4", "quickstart", "div2k-x4", "edsr-paper", "srgan-paper", "photos")

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ, reason="recipes/ is yours to change: the recipes that come with srlib are tested with CI=1"
)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_valid(name: str) -> None:
    assert isinstance(load_params(ROOT / f"recipes/{name}.yaml", stage=None), Params)


def test_every_recipe_is_tested_and_in_the_readme() -> None:
    assert sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml")) == sorted(NAMES)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"recipes/{name}.yaml" in text for name in NAMES)


def test_the_recipe_in_use_is_the_quick_start() -> None:
    assert (ROOT / "params.yaml").read_text() == (ROOT / "recipes/quickstart.yaml").read_text()


def test_the_article_recipe_has_the_figures_of_the_article() -> None:
    params = load_params(ROOT / "recipes/div2k-x4.yaml")
    assert (params.scale, params.prepare.patch * params.scale) == (4, 256)
    assert (params.pretrain.batch, params.pretrain.epochs, params.pretrain.loss) == (32, 150, "mae")
    finetune = params.finetune_section()
    assert (finetune.batch, finetune.steps) == (16, 200_000)
    assert (finetune.perceptual_scale, finetune.adversarial_weight) == (0.00615, 0.001)
    assert finetune.perceptual_scale == pytest.approx(1 / 12.75**2, rel=1e-3)


def test_the_photos_recipe_names_the_shipped_weights() -> None:
    pattern = r"^  # (start_from:).*\n  # (  folder: .*)\n  # (  sha256: .*)\n"
    lines = re.search(pattern, (ROOT / "recipes/photos.yaml").read_text(), re.M)
    assert lines
    start = yaml.safe_load("\n".join(lines.groups()))["start_from"]
    assert start == {
        "folder": "srlib/weights/free-x4/keras",
        "sha256": file_hash(ROOT / "srlib/weights/free-x4/keras" / WEIGHTS),
    }
