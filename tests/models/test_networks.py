"""Every network: registered once, built as published, of any size, with named layers."""

import re
from functools import cache
from pathlib import Path
from typing import get_args

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops, utils

from srlib.errors import SrlibError
from srlib.models import MODELS, ModelConfig, Network, build, model_options
from srlib.models.registry import network_of

ROOT = Path(__file__).parents[2]
SMALL = {"blocks": 2, "filters": 8}


def small(name: str, scale: int = 4) -> ModelConfig:
    """A small network of any kind."""
    options = {key: value for key, value in SMALL.items() if key in model_options(name, {})}
    return ModelConfig(name, scale, options)


@pytest.mark.parametrize("name", MODELS)
def test_a_network_describes_itself(name: str) -> None:
    network = MODELS[name]
    assert issubclass(network, Network)
    assert get_args(network.model_fields["name"].annotation) == (name,) and network().name == name
    assert network.title and network.channels in ("rgb", "luma-studio")
    count = f"{build(ModelConfig(name, 4)).count_params():,}"
    assert count in re.findall(r"\d[\d,]*\d", network.__doc__ or ""), (
        f"write into the docstring: {count} by default at ×4"
    )
    assert all(field.description for key, field in network.model_fields.items() if key != "name")


def test_all_networks_are_registered() -> None:
    classes = {network for network in Network.__subclasses__() if network.__module__.startswith("srlib.")}
    assert set(MODELS.values()) == classes
    files = {path.stem for path in (ROOT / "srlib/models/networks").glob("[!_]*.py")}
    assert {network.__module__.rsplit(".", 1)[-1] for network in classes} == files, "one file per network"
    assert {"edsr": "EDSR", "srresnet": "SRResNet"}.items() <= {key: one.title for key, one in MODELS.items()}.items()


def test_the_how_to_describes_a_network_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    code, line, test = re.findall(
        r"```python\n(\S.*?)```", (ROOT / "docs/how-to/add-a-network.md").read_text(), re.DOTALL
    )
    namespace: dict = {"__name__": "how_to"}
    exec(code, namespace)
    monkeypatch.setitem(MODELS, "vdsr", namespace["Vdsr"])
    exec(test, namespace)
    namespace["test_vdsr_has_the_layers_of_the_paper"]()
    assert f"{build(ModelConfig('vdsr', 2)).count_params():,}" in namespace["Vdsr"].__doc__
    assert "_NETWORKS" in line


def test_networks_that_can_be_equivariant() -> None:
    able = {name for name, network in MODELS.items() if network().equivariant_width is not None}
    assert {"edsr", "compact"} <= able and not {"srresnet", "srcnn"} & able
    assert network_of("compact", {"filters": 48}).equivariant_width == 48


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("edrs", {}, "name: expected one of edsr, srresnet, .*, got 'edrs'"),
        ("edsr", {"layers": 3}, "options.layers: unknown key"),
        ("edsr", {"blocks": 1.5}, "options.blocks: expected an integer, got 1.5"),
        ("edsr", {"blocks": 0, "filters": "a"}, "options.blocks: .* got 0; options.filters: .*, got 'a'"),
    ],
)
def test_wrong_options_are_one_line(name: str, options: dict, line: str) -> None:
    with pytest.raises(SrlibError, match=line):
        model_options(name, options)


@pytest.mark.parametrize(
    ("name", "scale", "options", "parameters"),
    [
        ("edsr", 4, {}, 1_517_571),
        ("edsr", 2, {}, 1_369_859),
        ("edsr", 3, {}, 1_554_499),
        ("edsr", 4, {"blocks": 32, "filters": 256, "residual_scaling": 0.1}, 43_089_923),
        ("srresnet", 4, {}, 1_554_883),
        ("compact", 4, {}, 1_248_112),
        ("srcnn", 4, {}, 57_281),
        ("espcn", 4, {}, 24_752),
        ("fsrcnn", 4, {}, 12_809),
    ],
)
def test_parameter_counts(name: str, scale: int, options: dict, parameters: int) -> None:
    assert build(ModelConfig(name, scale, options)).count_params() == parameters


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_the_formulas_of_the_docstrings(data: st.DataObject) -> None:
    scale, f, b = data.draw(st.sampled_from([2, 3, 4])), data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    s, m, u, n = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([1, 3, 5])), {2: 4, 3: 9, 4: 8}[scale], 1
    n = 2 if scale == 4 else 1
    body = {"blocks": b, "filters": f}
    even = 2 * f
    for name, options, count in (
        ("edsr", body, 28 * f + (2 * b + 1 + u) * (9 * f + 1) * f + 3 * (9 * f + 1)),
        ("srresnet", body, (2 * b + 1 + u) * (9 * f + 1) * f + (9 * b + 492 + n) * f + 3),
        ("compact", body, 28 * f + (2 * b + 1) * (9 * f + 1) * f + 3 * scale**2 * (9 * f + 1)),
        ("srcnn", {"filters": even, "middle": m}, 95 * even + m**2 * even**2 // 2 + 1),
        ("espcn", {"filters": even}, 26 * even + (9 * even + 1) * even // 2 + (9 * even // 2 + 1) * scale**2),
        ("fsrcnn", body | {"shrink": s}, 110 * f + 2 * f * s + 2 * s + b * (9 * s + 2) * s + 1),
    ):
        assert build(ModelConfig(name, scale, options)).count_params() == count, name


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_nearest_skip_starts_at_the_nearest_upscaling(scale: int) -> None:
    utils.set_random_seed(3)
    plain, skip = (build(ModelConfig("edsr", scale, {**SMALL, "skip": skip})) for skip in ("none", "nearest"))
    assert plain.count_params() == skip.count_params()
    lr = np.random.default_rng(0).random((1, 9, 7, 3), np.float32)
    nearest = cv2.resize(lr[0], None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    difference = ops.convert_to_numpy(skip(lr, training=False))[0] - nearest
    assert 0 < np.abs(difference).max() < 0.1


def test_srresnet_has_the_layers_of_the_paper() -> None:
    model = build(ModelConfig("srresnet", 4))
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    head, tail, prelu = 9 * 9 * 3 * 64 + 64, 9 * 9 * 64 * 3 + 3, 64
    block = 2 * (9 * 64 * 64 + 64) + 2 * 2 * 64 + prelu
    body = 9 * 64 * 64 + 64 + 2 * 64
    upsampling = 2 * (9 * 64 * 256 + 256 + prelu)
    assert trainable == head + prelu + 16 * block + body + upsampling + tail
    assert trainable // 100_000 == 15, "1.5 M in Lim et al. 2017, table 1"


@cache
def small_model(name: str, scale: int) -> keras.Model:
    """Build a network once for all sizes of images."""
    return build(small(name, scale))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [2, 3, 4])
@settings(max_examples=5, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20))
def test_images_of_any_size(name: str, scale: int, height: int, width: int) -> None:
    model = small_model(name, scale)
    channels = 3 if MODELS[name].channels == "rgb" else 1
    sr = model(np.zeros((1, height, width, channels), np.float32), training=False)
    assert tuple(sr.shape) == (1, height * scale, width * scale, channels)


@pytest.mark.parametrize("name", MODELS)
def test_named_layers_and_a_float32_output(name: str) -> None:
    model, again = (build(small(name), dtype="mixed_bfloat16") for _ in range(2))
    # Keras numbers unnamed layers through the whole process; weights would then be stored under other names.
    names = [layer.name for layer in model.layers if layer.weights]
    assert names == [layer.name for layer in again.layers if layer.weights]
    assert model.output.dtype == "float32"
    assert all(v.dtype == "float32" for v in model.variables)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    models: list[keras.Model] = []
    for _ in range(2):
        utils.set_random_seed(7)
        models.append(build(small(name)))
    for one, other in zip(models[0].weights, models[1].weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))
