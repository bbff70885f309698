"""The memory of a training, estimated from below."""

import math
from pathlib import Path

import keras
import pytest
import yaml

from srlib.models import build
from srlib.models.features import feature_network
from srlib.params import Params, check_params
from srlib.training.gan.discriminator import build_discriminator
from srlib.training.memory import least_memory
from srlib.training.pretrain import model_config

ROOT = Path(__file__).parents[2]


def recipe(**pretrain: object) -> Params:
    content = yaml.safe_load((ROOT / "tests/recipe.yaml").read_text(encoding="utf-8"))
    content["pretrain"] |= {"ema_decay": 0.0, "equivariant": False, **pretrain}
    if content["pretrain"]["model"]["name"] == "srcnn":  # on luma
        content["finetune"] = None
    return check_params(content, "params.yaml")


def trainable(network: keras.Model) -> int:
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_weights_moments_and_the_inputs_of_convolutions(precision: str) -> None:
    params = recipe(model={"name": "srcnn", "filters": 5, "middle": 3}, batch=2, lr_patch=10, precision=precision)
    memory = least_memory(params, params.pretrain)
    assert memory.weights == trainable(build(model_config(params))) * 4 * 4
    assert memory.batch == 2 * 40 * 40 * (1 + 5 + 2) * (4 if precision == "float32" else 2)


def test_the_moving_average_is_counted() -> None:
    params, averaged = recipe(), recipe(ema_decay=0.9)
    weights = least_memory(params, params.pretrain).weights
    assert least_memory(averaged, averaged.pretrain).weights == weights // 4 * 5


@pytest.mark.parametrize("discriminator", ["patch", "unet", "features"])
def test_fine_tuning_has_a_discriminator_too(discriminator: str) -> None:
    params = recipe()
    assert params.finetune is not None
    section = params.finetune.model_copy(update={"discriminator": discriminator, "ema_decay": 0.0})
    params = params.model_copy(update={"finetune": section})
    features = feature_network(section.features.network, section.features.layers)
    networks = build(model_config(params)), build_discriminator(section, features, [1.0])
    assert least_memory(params, section).weights == sum(map(trainable, networks)) * 4 * 4
    assert least_memory(params, section).batch > 2 * section.batch * (section.lr_patch * params.scale) ** 2 * 3 * 4


def test_a_network_that_fits_into_no_memory_is_only_measured() -> None:
    params = recipe(model={"name": "edsr", "blocks": 16, "filters": 4096})
    assert least_memory(params, params.pretrain).total > 7 * 10**10


def test_the_measured_network_never_takes_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras gives every variable that waits for a value one at the end of the next stateless call."""
    params = recipe(model={"name": "edsr", "blocks": 2, "filters": 7})
    least_memory(params, params.pretrain)

    def refuse(self: object, shape: tuple[int, ...], dtype: object = None) -> None:
        raise AssertionError(f"a variable of shape {shape} was given a value")

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", refuse)
    with keras.StatelessScope():
        pass
