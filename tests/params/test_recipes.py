"""The recipes that come with srlib."""

from pathlib import Path

import pytest

from srlib.params import Params, load_params

ROOT = Path(__file__).parents[2]
NAMES = ("quickstart", "div2k-x4", "edsr-paper", "srgan-paper", "photos")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_valid(name: str) -> None:
    assert isinstance(load_params(ROOT / f"recipes/{name}.yaml", stage=None), Params)


def test_the_article_recipe_has_the_figures_of_the_article() -> None:
    params = load_params(ROOT / "recipes/div2k-x4.yaml")
    assert (params.scale, params.prepare.patch * params.scale) == (4, 256)
    assert (params.pretrain.batch, params.pretrain.epochs, params.pretrain.loss) == (32, 150, "mae")
    finetune = params.finetune_section()
    assert (finetune.batch, finetune.steps) == (16, 200_000)
    assert (finetune.perceptual_scale, finetune.adversarial_weight) == (0.00615, 0.001)
    assert finetune.perceptual_scale == pytest.approx(1 / 12.75**2, rel=1e-3)
