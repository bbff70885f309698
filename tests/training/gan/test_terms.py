from pathlib import Path

import numpy as np
import pytest
from keras import ops

from srlib.models.features import LAYERS
from srlib.params import Features, Finetune
from srlib.training.gan.terms import LossInputs, loss_terms, terms_table

from .test_trainer import SECTION, batch, trainer

ROOT = Path(__file__).parents[3]


def test_every_weight_of_the_recipe_belongs_to_a_term() -> None:
    section = SECTION.model_copy(update={"checkerboard_weight": 0.5})
    weights = {name.removesuffix("_weight"): value for name, value in section if name.endswith("_weight")}
    assert {term.name: term.weight for term in loss_terms(section)} == weights


def test_the_automatic_checkerboard_weight_follows_the_features() -> None:
    """SqueezeNet's strides hide a pattern of their period; the paper has VGG19 and no such term."""
    for network, weight in (("vgg19", 0.0), ("squeezenet", 3.0)):
        section = SECTION.model_copy(update={"features": Features(network=network, layer=LAYERS[network][-1])})
        assert {term.name: term.weight for term in loss_terms(section)}["checkerboard"] == weight


def test_calibration_keys_are_keys_of_the_recipe() -> None:
    assert {term.calibration_key for term in loss_terms(SECTION)} <= set(Finetune.model_fields)


def test_all_log_columns_derive_from_the_table() -> None:
    gan = trainer()
    names = {term.name for term in loss_terms(gan.section)}
    assert names <= set(gan.train_on_batch(*batch(), return_dict=True))
    assert set(gan.gradient_shares(*batch())) == {f"share_{name}" for name in names}


def test_the_documented_table_is_up_to_date() -> None:
    text, table = (ROOT / "docs/reference/loss-terms.md").read_text(encoding="utf-8"), terms_table(SECTION)
    assert table in text, f"write this table into docs/reference/loss-terms.md:\n{table}"


@pytest.mark.parametrize("name", ["perceptual", "pixel", "checkerboard"])
def test_a_perfect_image_has_no_loss(name: str) -> None:
    gan = trainer()
    hr = ops.convert_to_tensor(np.random.default_rng(0).random((1, 32, 32, 3), np.float32))
    inputs = LossInputs(hr, hr, gan.discriminator(hr), 4, gan.features, gan.discriminator, gan.section)
    term = next(term for term in loss_terms(gan.section) if term.name == name)
    assert float(term.function(inputs)) == 0
