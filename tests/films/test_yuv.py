"""Networks that return the samples of 4:2:0 frames: those of their RGB, converted."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: pip install 'srlib[films]'")

import openvino
from openvino import opset13

import srlib
from srlib.errors import SrlibError
from srlib.films.color import Color, from_rgb
from srlib.films.yuv import UnsuitableGraphError, YuvEnding, YuvUpscaler, frame_of_blocks
from srlib.inference.runtime import Values

from .conftest import FRAMES, frames, image, make_film, run

LR = image(0, 22, 34)
COLORS = [Color(1, False), Color(6, True), Color(9, False)]


@pytest.fixture(scope="module")
def upscaler() -> srlib.Upscaler:
    return srlib.open_model("fast-x4", precision="float32", threads=1)


def samples(frame) -> np.ndarray:
    return frame.to_ndarray().astype(int)


def assert_equal_but_for_rounding(got: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(got - expected).max() <= 1
    luma, chroma = np.split(got - expected, [got.shape[0] * 2 // 3])
    assert max(abs(luma.mean()), abs(chroma.mean())) < 0.02, "no shift"
    assert (luma != 0).mean() < 0.25 and (chroma != 0).mean() < 0.15


@pytest.mark.parametrize("color", COLORS)
def test_the_samples_are_those_of_rgb(upscaler, color):
    frame = YuvUpscaler(upscaler, color)(LR)
    expected = from_rgb(upscaler(LR), color)
    assert (frame.width, frame.height, frame.format.name) == (136, 88, "yuv420p")
    assert (frame.colorspace, frame.color_range) == (expected.colorspace, expected.color_range)
    assert_equal_but_for_rounding(samples(frame), samples(expected))


def test_tiles_give_the_samples_of_the_whole():
    whole, tiled = (srlib.open_model("fast-x4", precision="float32", threads=1, tile=side) for side in (None, 20))
    lr, done = image(0, 60, 70), []
    assert tiled.tiles(60, 70) == 2
    ending = YuvEnding(COLORS[0])
    assert np.array_equal(whole.with_ending(lr, ending), tiled.with_ending(lr, ending, on_pixels=done.append)), (
        "chroma depends on the pixels to its left too"
    )
    assert sum(done) == 60 * 70


def sub_pixel_network(side: int, mode: str) -> openvino.Model:
    """Return a network of a convolution with random weights and a sub-pixel step."""
    weights = np.random.default_rng(0).normal(1 / 27, 0.05, (3 * side**2, 3, 3, 3)).astype(np.float32)
    lr = opset13.parameter([1, -1, -1, 3], np.float32)
    values = opset13.convolution(opset13.transpose(lr, np.array([0, 3, 1, 2])), weights, [1, 1], [1, 1], [1, 1], [1, 1])
    moved = opset13.depth_to_space(values, mode, side)
    return openvino.Model([opset13.transpose(moved, np.array([0, 2, 3, 1]))], [lr], "network")


@pytest.mark.parametrize("is_full_range", [False, True])
@pytest.mark.parametrize("rgb", [(2, -1, -1), (-1, 2, -1), (-1, -1, 2), (2, 2, 2), (-1, -1, -1)])
def test_colors_beyond_the_range_are_clamped(rgb, is_full_range):
    lr = opset13.parameter([1, -1, -1, 3], np.float32)
    values = opset13.transpose(opset13.tile(opset13.add(lr, np.array(rgb, np.float32)), [1, 1, 1, 4]), [0, 3, 1, 2])
    moved = opset13.depth_to_space(values, "blocks_first", 2)
    graph = openvino.Model([opset13.transpose(moved, np.array([0, 2, 3, 1]))], [lr], "network")
    color = Color(1, is_full_range)
    YuvEnding(color)(graph, 2)
    blocks, _ = outputs(graph, np.zeros((6, 8, 3), np.float32))
    flat = np.broadcast_to(np.clip(rgb, 0, 1) * 255, (12, 16, 3)).astype(np.uint8)
    assert np.array_equal(samples(frame_of_blocks(blocks[0], color)), samples(from_rgb(flat, color)))


def outputs(graph: openvino.Model, lr: Values) -> list[np.ndarray]:
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled(lr[None]).values())


@pytest.mark.parametrize("mode", ["blocks_first", "depth_first"])
@pytest.mark.parametrize("side", [2, 4])
def test_every_order_of_sub_pixels(side, mode):
    lr = LR.astype(np.float32) / np.float32(255)
    graph, color = sub_pixel_network(side, mode), COLORS[0]
    rgb = outputs(graph, lr)[0][0]
    assert YuvEnding(color)(graph, side) == 1
    blocks, total = outputs(graph, lr)
    expected = from_rgb(np.floor(np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8), color)
    assert_equal_but_for_rounding(samples(frame_of_blocks(blocks[0], color)), samples(expected))
    assert total == pytest.approx(rgb.sum(), rel=1e-3)


@pytest.mark.parametrize("side", [3, 1])
def test_other_networks_are_refused(side):
    graph = sub_pixel_network(side, "blocks_first")
    with pytest.raises(UnsuitableGraphError, match="sub-pixel step of an even factor"):
        YuvEnding(COLORS[0])(graph, side)


class Other:
    """Takes the place of a model whose network ends in something else."""

    def __init__(self) -> None:
        self.calls = 0

    def with_ending(self, rgb, ending, *, on_pixels=None):
        self.calls += 1
        raise UnsuitableGraphError("other")


def test_what_the_network_cannot_is_tried_once(upscaler):
    model = Other()
    to_yuv = YuvUpscaler(model, COLORS[0])
    assert [to_yuv(LR), to_yuv(LR), model.calls] == [None, None, 1]
    assert srlib.open_model("fast-x4", ensemble=True).with_ending(LR, YuvEnding(COLORS[0])) is None
    assert upscaler.with_ending(LR.astype(np.uint16), YuvEnding(COLORS[0])) is None


def test_a_film_holds_the_frames_of_the_network(tmp_path: Path, upscaler, monkeypatch):
    source = make_film(tmp_path / "a.mp4")
    run(source, tmp_path / "b.mp4", model=upscaler)
    monkeypatch.setattr(YuvUpscaler, "__call__", lambda *_, **__: None)
    run(source, tmp_path / "c.mp4", model=upscaler)
    got, expected = frames(tmp_path / "b.mp4"), frames(tmp_path / "c.mp4")
    assert [tick for tick, _ in got] == [tick for tick, _ in expected] and len(got) == FRAMES
    difference = np.array([a.astype(float) - b for (_, a), (_, b) in zip(got, expected, strict=True)])
    assert np.abs(difference).mean() < 1.5, "another rounding, encoded at quality 95"
    assert np.abs(difference.mean((0, 1, 2))).max() < 0.2


def test_a_network_that_has_diverged_is_an_error(upscaler):
    lr = LR.astype(np.float32)
    network = upscaler._compiled("float32", YuvEnding(COLORS[0]), LR.shape[:2])
    network(lr / 255)
    with pytest.raises(SrlibError, match="not finite"):
        network(np.full_like(lr, np.nan))
