"""Networks of other authors: what is found out about a file, and what is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import srlib
from srlib.errors import SrlibError
from srlib.inference.model_file import read_model_file
from srlib.inference.shipped import SHIPPED

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def nearest(scale: int, channels: int = 3, kernel: int = 1) -> np.ndarray:
    """Return convolution weights that repeat each pixel, for DepthToSpace; a larger kernel averages its corners too."""
    weights = np.zeros((channels * scale**2, channels, kernel, kernel), np.float32)
    for channel in range(channels):
        weights[channel::channels, channel, kernel // 2, kernel // 2] = 1 if kernel == 1 else 0.6
        if kernel > 1:
            weights[channel::channels, channel, :: kernel - 1, :: kernel - 1] = 0.1
    return weights


def save(
    path: str,
    *,
    scale: int = 4,
    channels: int = 3,
    kernel: int = 1,
    size: tuple[int | str, int | str] = ("h", "w"),
    before: tuple[tuple[str, dict], ...] = (),
    clip: tuple[float, float] | None = None,
    invert: bool = False,
) -> Path:
    """Write an NCHW network: optional layers, a convolution, and depth to space."""
    nodes, name = [], "image"
    for number, (kind, attributes) in enumerate(before):
        nodes.append(helper.make_node(kind, [name], [f"before{number}"], **attributes))
        name = f"before{number}"
    constants = [numpy_helper.from_array(nearest(scale, channels, kernel), "weights")]
    pads = [kernel // 2] * 4
    nodes.append(helper.make_node("Conv", [name, "weights"], ["wide"], pads=pads))
    nodes.append(helper.make_node("DepthToSpace", ["wide"], ["large"], blocksize=scale))
    name = "large"
    if clip:
        constants += [numpy_helper.from_array(np.float32(value), f"clip{value}") for value in clip]
        nodes.append(helper.make_node("Clip", [name, *(f"clip{value}" for value in clip)], ["clipped"]))
        name = "clipped"
    if invert:
        nodes.append(helper.make_node("Neg", [name], ["inverted"]))
        name = "inverted"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, *size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, "H", "W"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, path)
    return Path(path)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def repeated(lr: np.ndarray, scale: int) -> np.ndarray:
    return lr.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_onnx_file_is_a_model(folder, capfd, scale):
    save("other.onnx", scale=scale)
    upscaler = srlib.open_model("other.onnx", precision="float32")
    assert (upscaler.scale, upscaler.receptive_field) == (scale, 1)
    lr = noise(9, 14, 3)
    np.testing.assert_array_equal(upscaler(lr), repeated(lr, scale))
    message = f"other.onnx: ×{scale}, RGB, values from 0 to 1, any size, tiles overlap by 1 pixels"
    assert capfd.readouterr().err.strip() == message


def test_names_with_odd_characters(folder, capfd):
    """A line break, and bytes that are not UTF-8."""
    for name, lines in (("two\nlines.onnx", r"two\nlines.onnx"), (os.fsdecode(b"\xff.onnx"), r"\udcff.onnx")):
        save("other.onnx").rename(name)
        assert read_model_file(Path(name)).config.title == lines
        assert capfd.readouterr().err.startswith(f"{lines}: ×4, RGB")


def test_a_file_of_one_size_takes_any(folder):
    save("fixed.onnx", size=(32, 48))
    lr = noise(7, 11, 3)
    np.testing.assert_array_equal(srlib.open_model("fixed.onnx", precision="float32")(lr), repeated(lr, 4))


def save_fixed(path: str, scale: int = 3, side: int = 40) -> None:
    """Write a network whose layers hold the numbers of one size, as old exports of a pixel shuffle do."""
    shapes = {"split": [1, 3, scale, scale, side, side], "joined": [1, 3, scale * side, scale * side]}
    constants = [numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in shapes.items()]
    weights = nearest(scale, kernel=3).reshape(scale**2, 3, 3, 3, 3).transpose(1, 0, 2, 3, 4).reshape(-1, 3, 3, 3)
    constants.append(numpy_helper.from_array(np.ascontiguousarray(weights), "weights"))
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["wide"], pads=[1] * 4),
        helper.make_node("Reshape", ["wide", "split"], ["six"]),
        helper.make_node("Transpose", ["six"], ["moved"], perm=[0, 1, 4, 2, 5, 3]),
        helper.make_node("Reshape", ["moved", "joined"], ["large"]),
    ]
    size, large = [1, 3, side, side], [1, 3, scale * side, scale * side]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("large", TensorProto.FLOAT, large)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.mark.parametrize("size", [(40, 40), (7, 11), (41, 95), (130, 20)])
def test_a_network_for_one_size_only_gives_the_same_pixels(folder, capfd, size):
    save_fixed("fixed.onnx")
    save("free.onnx", scale=3, kernel=3)
    fixed, free = (srlib.open_model(name, precision="float32") for name in ("fixed.onnx", "free.onnx"))
    message = "fixed.onnx: ×3, RGB, values from 0 to 1, cut into 40×40 pixels, which it is made for, tiles overlap by 2"
    assert message in capfd.readouterr().err
    for lr in (noise(*size, 3), noise(*size, 3).astype(np.uint16) * 257):
        expected = free(lr)
        inner = np.s_[
            : expected.shape[0] - (3 if size[0] < 40 else 0), : expected.shape[1] - (3 if size[1] < 40 else 0)
        ]
        np.testing.assert_array_equal(fixed(lr)[inner], expected[inner])  # padded images see their border repeated


def test_levels_up_to_255(folder, capfd):
    save("levels.onnx", clip=(16.0, 240.0))
    lr = noise(9, 9, 3)
    np.testing.assert_array_equal(
        srlib.open_model("levels.onnx", precision="float32")(lr), repeated(lr, 4).clip(16, 240)
    )
    assert "values from 0 to 255" in capfd.readouterr().err


def test_values_from_minus_one(folder, capfd):
    save("signed.onnx", clip=(-0.9, 0.3))
    srlib.open_model("signed.onnx", precision="float32")
    assert "values from -1 to 1" in capfd.readouterr().err


def test_sizes_that_must_be_multiples_are_padded(folder, capfd):
    layers = (("SpaceToDepth", {"blocksize": 2}), ("DepthToSpace", {"blocksize": 2, "mode": "DCR"}))
    save("even.onnx", before=layers)
    lr = noise(9, 13, 3)
    np.testing.assert_array_equal(srlib.open_model("even.onnx", precision="float32")(lr), repeated(lr, 4))
    assert "padded to multiples of 2 pixels" in capfd.readouterr().err


def test_half_precision_and_channels_last(folder, capfd):
    weights = numpy_helper.from_array(nearest(2).astype(np.float16), "weights")
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "weights"], ["wide"]),
        helper.make_node("DepthToSpace", ["wide"], ["large"], blocksize=2),
        helper.make_node("Transpose", ["large"], ["last"], perm=[0, 2, 3, 1]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["batch", *sides, 3])
        for name, sides in (("image", ("h", "w")), ("last", ("H", "W")))
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "half.onnx")
    lr = noise(9, 13, 3)
    np.testing.assert_array_equal(srlib.open_model("half.onnx", precision="float32")(lr), repeated(lr, 2))
    assert "×2, RGB, values from 0 to 1, any size" in capfd.readouterr().err


def test_one_channel_is_luma(folder, capfd):
    save("luma.onnx", channels=1)
    assert srlib.open_model("luma.onnx", precision="float32")(noise(9, 13, 3)).shape == (36, 52, 3)
    assert "×4, luma, values from 0 to 1" in capfd.readouterr().err


def test_tiles_overlap_by_what_was_measured(folder):
    save("wide.onnx", kernel=7)
    upscaler = srlib.open_model("wide.onnx", precision="float32", tile=16)
    assert upscaler.receptive_field == 4
    lr = noise(40, 44, 3)
    whole = srlib.open_model("wide.onnx", precision="float32", tile=100)(lr)
    assert upscaler.tiles(40, 44) > 4
    np.testing.assert_array_equal(upscaler(lr), whole)


def test_a_shipped_model_by_its_file(folder):
    """What is found out agrees with the configuration that is left aside here."""
    for name in ("model.xml", "model.bin"):
        shutil.copy(SHIPPED / "psnr-x4" / name, name)
    model = read_model_file(Path("model.xml"))
    known = srlib.open_model("psnr-x4", precision="float32")
    assert (model.config.scale, model.config.channels) == (4, "rgb")
    assert 4 <= model.config.receptive_field <= known.receptive_field + 1
    lr = noise(16, 12, 3)
    np.testing.assert_array_equal(srlib.open_model("model.xml", precision="float32")(lr), known(lr))


def test_a_constant_larger_than_any_memory_is_refused(folder):
    image, large = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in ("image", "large")
    )
    nodes = [
        helper.make_node("Expand", ["zero", "size"], ["expanded"]),
        helper.make_node("ReduceSum", ["expanded"], ["sum"], keepdims=0),
        helper.make_node("Add", ["image", "sum"], ["large"]),
    ]
    constants = [numpy_helper.from_array(np.zeros((1, 1), np.float32), "zero")]
    constants.append(numpy_helper.from_array(np.array([2**23, 2**23], np.int64), "size"))
    graph = helper.make_graph(nodes, "network", [image], [large], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, "large.onnx")
    with pytest.raises(SrlibError, match=r"^large\.onnx: OpenVINO cannot (run|read) it \("):
        read_model_file(Path("large.onnx"))


def test_what_does_not_upscale_is_refused(folder):
    save("inverted.onnx", invert=True)
    with pytest.raises(SrlibError, match=r"^inverted.onnx: not a network that upscales images: its result, downscaled"):
        srlib.open_model("inverted.onnx")
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 3, "h", "w"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "two.onnx")
    with pytest.raises(SrlibError, match=r"^two.onnx: expected one image in and one image out"):
        srlib.open_model("two.onnx")
    classes = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["a"], ["c"])],
        "network",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 3, 1, 1])],
    )
    onnx.save(helper.make_model(classes, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "classes.onnx")
    with pytest.raises(SrlibError, match=r"^classes.onnx: not a network that upscales images of any size by a whole"):
        srlib.open_model("classes.onnx")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.onnx", b"no network", "a.onnx: OpenVINO cannot read it"),
        ("a.onnx", b"", "a.onnx: OpenVINO cannot read it"),
        ("a.onnx", b"version https://git-lfs.github.com/spec/v1\n", "a.onnx: a pointer of Git LFS"),
        ("a.onnx", b"\x0a\x08location", "a.onnx: expected weights inside the file"),
        ("a.xml", b"<net/>", "a.xml: expected its weights in a.bin beside it"),
        (
            "a.tflite",
            b"",
            "a.tflite: expected a file that ends in .onnx, .xml, .pth, .pt, .ckpt, .safetensors; convert",
        ),
    ],
)
def test_other_files_are_refused_in_one_line(folder, name, content, message):
    Path(name).write_bytes(content)
    with pytest.raises(SrlibError, match=f"^{message}") as refused:
        srlib.open_model(name)
    assert "\n" not in str(refused.value)
