"""The function that a recorded model is: images in, larger ones out, as bytes or as arrays."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srlib.errors import SrlibError
from srlib.imaging.metrics import to_uint8
from srlib.inference import served
from srlib.models import ModelConfig, build, load_model, save_model, super_resolve

RANDOM = np.random.default_rng(3)
IMAGE = RANDOM.integers(0, 256, (9, 14, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "model"
    config = ModelConfig("edsr", 2, {"blocks": 1, "filters": 8})
    save_model(build(config), config, path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> served.ServedModel:
    return served._load_pyfunc(str(folder))


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def decoded(content: object) -> np.ndarray:
    assert isinstance(content, bytes)
    return np.asarray(Image.open(io.BytesIO(content)))


def test_an_array_gives_what_the_network_gives(model: served.ServedModel, folder: Path) -> None:
    network, _ = load_model(folder)
    expected = to_uint8(super_resolve(network, IMAGE[None])[0])
    sr = model.predict(IMAGE)
    assert sr.dtype == np.uint8 and sr.shape == (18, 28, 3)
    assert np.abs(sr.astype(int) - expected).max() <= 1
    assert np.array_equal(decoded(model.predict(png(IMAGE))), sr), "a file gives the same"


def test_each_kind_is_returned_as_it_was_given(model: served.ServedModel) -> None:
    sr = model.predict(IMAGE)
    for dtype in (np.float32, np.float64):
        values = model.predict((IMAGE / 255).astype(dtype))
        assert values.dtype == dtype and values.min() >= 0 and values.max() <= 1, "clamped"
        assert np.abs(values * 255 - sr).max() < 0.51
    assert model.predict(IMAGE.astype(np.uint16)).dtype == np.uint16
    assert model.predict(IMAGE[..., 0]).shape == (18, 28)
    assert model.predict(np.dstack([IMAGE, IMAGE[..., 0]])).shape == (18, 28, 4)
    assert np.array_equal(model.predict(np.stack([IMAGE, IMAGE]))[1], sr)
    assert np.array_equal(np.array(model.predict(IMAGE.tolist())), sr)
    lists = model.predict([(IMAGE / 255).tolist()])
    assert isinstance(lists[0][0][0][0], float) and np.abs(np.array(lists[0]) * 255 - sr).max() < 0.51
    mixed = [[[0, 0.5, 1]]]  # a program in JavaScript writes 0.0 as 0
    assert np.array_equal(model.predict(mixed), np.round(model.predict(np.array(mixed)), 6))
    text = model.predict([base64.b64encode(png(IMAGE)).decode(), png(IMAGE)])
    assert base64.b64decode(text[0]) == text[1]
    assert model.predict({"image": [png(IMAGE)]}) == [text[1]]
    pandas = pytest.importorskip("pandas")
    assert model.predict(pandas.DataFrame({"image": [png(IMAGE)]})) == [text[1]]


def test_tiles_have_no_seams(model: served.ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    image = RANDOM.integers(0, 256, (70, 90, 3), np.uint8)
    whole = model.predict(image)
    monkeypatch.setattr(model._network, "_largest", 40 * 40)
    assert np.abs(model.predict(image).astype(int) - whole).max() <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (IMAGE.astype(float), "expected floats in [0, 1], got 0 to 255; divide by 255, or give uint8"),
        (IMAGE.astype(np.int64), "expected uint8, uint16 or floats in [0, 1], got int64; try image.astype('uint8')"),
        (np.full((3, 3, 3), np.nan), "expected floats in [0, 1], got values that are not finite"),
        (np.zeros((0, 3, 3), np.uint8), "expected an image, uint8 or uint16 [height, width, 3], got uint8 (0, 3, 3)"),
        (
            np.zeros((3, 3, 2), np.uint8),
            "expected an image, gray [h, w], RGB [h, w, 3] or RGBA [h, w, 4], got (3, 3, 2)",
        ),
        ([png(IMAGE), b"text"], "image 1: "),
        (
            ["photo.jpg"],
            "image 0: expected an image file in Base64, got a text that is not; for a path, give its bytes",
        ),
        (
            7,
            'expected the bytes of an image file or an array, got int; for a file, give open("photo.jpg", "rb").read()',
        ),
        ([[[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]]], "image 0: expected lists of one length for the rows of an image"),
        ([[[[1, 2, 300]]]], "image 0: expected whole numbers from 0 to 255, or floats in [0, 1], in the rows of an"),
        (
            [[[-7, 2, 300]]],
            "expected whole numbers from 0 to 255, or floats in [0, 1], in the rows of an image, got -7",
        ),
        ([[[0.5, 2.5, 3]]], "expected floats in [0, 1], got 0.5 to 3; divide by 255, or give uint8"),
        (
            [[[1, 2, "x"]]],
            "expected whole numbers from 0 to 255, or floats in [0, 1], in the rows of an image, got [[[1,",
        ),
    ],
)
def test_anything_else_is_one_line(model: served.ServedModel, data: object, message: str) -> None:
    with pytest.raises(SrlibError) as error:
        model.predict(data)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_huge_images_are_refused(model: served.ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "LARGEST_IMAGE", 100)
    with pytest.raises(SrlibError, match="got 14×9 pixels"):
        model.predict(png(IMAGE))
