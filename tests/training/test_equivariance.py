from itertools import product
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.models import WEIGHTS, ModelConfig, build, load_model, save_model, super_resolve
from srlib.training.equivariance import OrbitProjection, is_equivariant, kernel_orbits, make_equivariant
from srlib.training.pretrain import pixel_trainer

from .conftest import KilledError, killer, recipe, run_pretrain

NETWORKS = [
    ModelConfig("compact", 4, {"blocks": 1, "filters": 16}),
    ModelConfig("compact", 4, {"blocks": 1, "filters": 48}),  # as many channels as sub-pixels
    ModelConfig("compact", 3, {"blocks": 1, "filters": 8}),
    ModelConfig("large_kernel", 2, {"blocks": 1, "filters": 8, "every": 1, "size": 5, "large_filters": 8}),
    ModelConfig("edsr", 4, {"blocks": 1, "filters": 16}),
    ModelConfig("edsr", 3, {"blocks": 1, "filters": 8, "skip": "nearest"}),
    ModelConfig("edsr", 2, {"blocks": 1, "filters": 24, "residual_scaling": 0.1}),
]


def turned(images: np.ndarray) -> list[np.ndarray]:
    """[B, h, w, 3] in all eight orientations."""
    return [
        np.ascontiguousarray(np.rot90(seen, turns, axes=(1, 2)))
        for seen, turns in product((images, images[:, :, ::-1]), range(4))
    ]


def network(config: ModelConfig, seed: int = 0) -> keras.Model:
    """A network whose biases are not 0."""
    keras.utils.set_random_seed(seed)
    made, random = build(config), np.random.default_rng(seed)
    for variable in made.trainable_variables:
        if variable.name == "bias":
            variable.assign(random.normal(size=variable.shape) / 10)
    return made


def arrays(variables: list) -> list[np.ndarray]:
    return [ops.convert_to_numpy(variable) for variable in variables]


@pytest.mark.parametrize("config", NETWORKS, ids=lambda c: f"{c.name}-x{c.scale}-{c.options['filters']}")
def test_upscaling_commutes_with_flips_and_rotations(config: ModelConfig) -> None:
    lr = skimage.data.chelsea()[100:111, 100:107][None]

    def worst(made: keras.Model) -> float:
        results = [np.asarray(super_resolve(made, image)) for image in turned(lr)]
        expected = turned(np.asarray(super_resolve(made, lr)))
        return max(float(np.abs(a - b).max()) for a, b in zip(results, expected, strict=True))

    made = network(config)
    assert worst(made) > 0.01 and not is_equivariant(made)
    before = [values.std() for values in arrays(made.trainable_variables) if values.size > 100]
    make_equivariant(made)
    assert worst(made) < 1e-6 and is_equivariant(made)
    after = [values.std() for values in arrays(made.trainable_variables) if values.size > 100]
    np.testing.assert_allclose(after, before, rtol=0.2, err_msg="initial values keep their variance")


@given(st.sampled_from(NETWORKS), st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_averaging_over_orbits_is_a_projection(config: ModelConfig, seed: int) -> None:
    made = build(config)
    projection, random = OrbitProjection(made), np.random.default_rng(seed)
    values = [random.normal(size=v.shape).astype(np.float32) for v in made.trainable_variables]
    once = arrays(projection.project([ops.convert_to_tensor(v) for v in values]))
    for value, mean, orbits in zip(values, once, kernel_orbits(made), strict=True):
        assert mean.shape == value.shape and mean.mean() == pytest.approx(value.mean(), abs=1e-5)
        for number in np.unique(orbits.number)[:5]:
            places = orbits.number == number
            assert len(set(mean.reshape(-1)[places])) == 1
            assert mean.reshape(-1)[places][0] == pytest.approx(value.reshape(-1)[places].mean(), abs=1e-6)
    twice = arrays(projection.project([ops.convert_to_tensor(v) for v in once]))
    for first, second in zip(once, twice, strict=True):
        np.testing.assert_allclose(second, first, atol=1e-6)


@pytest.mark.parametrize("model", [{"name": "compact"}, {"name": "edsr", "skip": "nearest"}], ids=lambda m: m["name"])
def test_the_gradient_is_that_of_all_eight_orientations(model: dict) -> None:
    """Adam's first moment after one step is a tenth of the gradient, projected or not."""
    section = {"model": {**model, "blocks": 1, "filters": 8}, "loss": "mse", "clip_norm": 0.0}
    hr = skimage.data.coffee()[100:148, 200:248][None]
    lr = hr[:, ::4, ::4]
    ours = pixel_trainer(recipe(pretrain={**section, "equivariant": True}))
    plain = pixel_trainer(recipe(pretrain=section))
    for theirs, shared in zip(plain.network.variables, ours.network.variables, strict=True):
        theirs.assign(shared)
    ours.train_on_batch(lr, hr)
    plain.train_on_batch(np.concatenate(turned(lr)), np.concatenate(turned(hr)))
    moments = [arrays(trainer.optimizer.updates[0].optimizer._momentums) for trainer in (ours, plain)]
    for actual, expected in zip(*moments, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        assert np.abs(expected).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_training_keeps_weights_exactly_equivariant(optimizer: str, patches: Path, tmp_path: Path) -> None:
    params = recipe(pretrain={"equivariant": True, "optimizer": optimizer})
    run_pretrain(tmp_path / "whole", patches, params)
    with pytest.raises(KilledError):
        run_pretrain(tmp_path / "killed", patches, params, killer(9))
    run_pretrain(tmp_path / "killed", patches, params)
    trained, _ = load_model(tmp_path / "whole/model")
    assert is_equivariant(trained)
    assert file_hash(tmp_path / "whole/model" / WEIGHTS) == file_hash(tmp_path / "killed/model" / WEIGHTS)


def test_training_starts_from_equivariant_weights_only(tmp_path: Path) -> None:
    def start(folder: str, *, shared: bool) -> dict:
        config = ModelConfig("edsr", 4, {"blocks": 1, "filters": 8})
        made = build(config)
        if shared:
            make_equivariant(made)
        save_model(made, config, tmp_path / folder)
        return {"folder": str(tmp_path / folder), "sha256": file_hash(tmp_path / folder / WEIGHTS)}

    alike, other = start("alike", shared=True), start("other", shared=False)
    assert is_equivariant(pixel_trainer(recipe(pretrain={"equivariant": True, "start_from": alike})).network)
    assert is_equivariant(pixel_trainer(recipe(pretrain={"start_from": alike})).network), "the constraint is dropped"
    with pytest.raises(SrlibError, match=r"^pretrain.start_from: .*other was not trained with pretrain.equivariant"):
        pixel_trainer(recipe(pretrain={"equivariant": True, "start_from": other}))
