import inspect
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from srlib.models.features import LAYERS, feature_network
from srlib.params import Features, Finetune
from srlib.tracking.keys import curve_key
from srlib.training.gan.terms import LossInputs, all_terms, loss_terms, perceptual

from .test_trainer import SECTION, losses

ROOT = Path(__file__).parents[3]


def test_every_weight_of_the_recipe_belongs_to_a_term() -> None:
    section = SECTION.model_copy(update={"checkerboard_weight": 0.5})
    weights = {name.removesuffix("_weight"): value for name, value in section if name.endswith("_weight")}
    assert {term.name: term.weight for term in all_terms(section)} == weights


def test_optional_terms_are_computed_only_with_a_weight() -> None:
    names = [term.name for term in loss_terms(SECTION)]
    assert names == ["perceptual", "pixel", "checkerboard", "adversarial"], "weights of 0 are still logged for these"
    section = SECTION.model_copy(update={"consistency_weight": 0.5})
    assert [term.name for term in loss_terms(section)] == [*names, "consistency"]


def test_the_automatic_checkerboard_weight_follows_the_features() -> None:
    """SqueezeNet's strides hide a pattern of their period; the paper has VGG19 and no such term."""
    for network, weight in (("vgg19", 0.0), ("squeezenet", 3.0)):
        section = SECTION.model_copy(update={"features": Features(network=network, layer=LAYERS[network][-1])})
        assert {term.name: term.weight for term in loss_terms(section)}["checkerboard"] == weight


def test_mlflow_shows_every_term_beside_the_others() -> None:
    assert {curve_key(term.name) for term in all_terms(SECTION)} == {f"gan/{t.name}_loss" for t in all_terms(SECTION)}
    gan = losses()
    groups = {name: curve_key(name).split("/")[0] for name in (*gan.means, "loss", "discriminator_learning_rate")}
    assert {name for name, group in groups.items() if group == "train"} == {"loss", "discriminator_learning_rate"}


def test_calibration_keys_are_keys_of_the_recipe() -> None:
    assert {term.calibration_key for term in all_terms(SECTION)} <= set(Finetune.model_fields)


def terms_table(section: Finetune) -> str:
    """Return the table of the terms in Markdown."""
    rows = ["| term | weight | calibrated by | what it measures |", "|---|---|---|---|"]
    for term in all_terms(section):
        description = (inspect.getdoc(term.function) or "").splitlines()[0].rstrip(".")
        weight = f"`{term.name}_weight`{', optional' if term.optional else ''}"
        rows.append(f"| `{term.name}` | {weight} | `{term.calibration_key}` | {description} |")
    return "\n".join(rows) + "\n"


def test_the_documented_table_is_up_to_date() -> None:
    text, table = (ROOT / "docs/reference/loss-terms.md").read_text(encoding="utf-8"), terms_table(SECTION)
    assert table in text, f"write this table into docs/reference/loss-terms.md:\n{table}"


def test_the_perceptual_loss_of_layers_is_their_mean() -> None:
    """Each layer with its own factor."""
    random = np.random.default_rng(1)
    hr, sr = (ops.convert_to_tensor(random.random((1, 32, 32, 3), np.float32)) for _ in range(2))
    discriminator = losses().discriminator

    def loss(*layers: str) -> float:
        features = Features(network="squeezenet", weights="random", layer=list(layers))
        section = SECTION.model_copy(update={"features": features, "perceptual_scale": "auto"})
        network = feature_network("squeezenet", layers, seed=1)
        inputs = LossInputs(hr, sr, discriminator(hr), 4, network, [1.0] * len(layers), discriminator, section)
        return float(perceptual(inputs))

    assert loss("conv1", "fire5") == pytest.approx((loss("conv1") + loss("fire5")) / 2, rel=1e-4)


@pytest.mark.parametrize("name", [term.name for term in all_terms(SECTION) if term.name != "adversarial"])
def test_a_perfect_image_has_no_loss(name: str) -> None:
    gan = losses()
    hr = ops.convert_to_tensor(np.random.default_rng(0).random((1, 32, 32, 3), np.float32))
    inputs = LossInputs(hr, hr, gan.discriminator(hr), 4, gan.features, gan.magnitudes, gan.discriminator, gan.section)
    term = next(term for term in all_terms(gan.section) if term.name == name)
    assert float(term.function(inputs)) == 0
