"""Networks from files: our own models, frozen graphs, OpenVINO models; luma, self-ensemble, costs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
import yaml
from openvino import opset13 as opset

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import Cost, Method, interpolation
from srlib.evaluation.methods import content_hash, from_file, from_model, recipe_methods, self_ensemble
from srlib.imaging.metrics import psnr_y, to_uint8
from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale, resize
from srlib.imaging.write import write_png
from srlib.params import Evaluate, OtherMethod

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    import skimage.data

    return skimage.data.chelsea()[40:120, 100:196]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small networks as folders, `pixel` and `gan`."""
    import keras

    from srlib.models import ModelConfig, build, save_model

    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(1)
    for training in ("pixel", "gan"):
        config = ModelConfig("edsr", 4, {"blocks": 1, "filters": 8}, training=training)
        save_model(build(config), config, folder / training)
    return folder


def frozen_graph(path: Path, channels: int, *, nchw: bool = False, pyramid: bool = False, scale: int = 4) -> Path:
    """A graph that repeats each pixel `scale` times each way: nearest neighbor by a convolution and depth-to-space."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        lr = tf.compat.v1.placeholder(tf.float32, [None, None, None, channels], name="any_name")
        kernel = np.zeros((1, 1, channels, channels * scale**2), np.float32)
        for index in range(scale**2):
            kernel[0, 0, :, index * channels : (index + 1) * channels] = np.eye(channels)
        out = tf.nn.depth_to_space(tf.nn.conv2d(lr, tf.constant(kernel), 1, "SAME"), scale)
        if pyramid:
            half = tf.nn.depth_to_space(tf.nn.conv2d(lr, tf.constant(kernel[..., : channels * 4]), 1, "SAME"), 2)
            tf.identity(half, name="a_smaller_image")
        out = tf.transpose(out, [0, 3, 1, 2]) if nchw else out
        tf.identity(out, name="sr")
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def rgb_chroma(image: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2ycbcr

    return rgb2ycbcr(image)[..., 1:]


class TestTrained:
    def test_named_by_architecture_and_training(self, models: Path, image: np.ndarray) -> None:
        edsr, srgan = from_model(models / "pixel", 4), from_model(models / "gan", 4)
        assert (edsr.name, srgan.name) == ("EDSR", "SRGAN")
        assert edsr.upscale is not None and edsr.cost is not None
        assert edsr.upscale(image, 4).shape == (320, 384, 3)
        assert from_model(models / "pixel", 4, "mine").name == "mine"

    def test_what_it_costs_by_hand(self, models: Path) -> None:
        cost = from_model(models / "pixel", 4).cost
        assert cost is not None
        weights = [9 * 3 * 8, 9 * 8 * 8, 9 * 8 * 8, 9 * 8 * 8, 9 * 8 * 32, 9 * 8 * 32, 9 * 8 * 3]
        biases = [8, 8, 8, 8, 32, 32, 3]
        assert cost.parameters == sum(weights) + sum(biases)
        pixels = [1, 1, 1, 1, 1, 4, 16]  # the second upsampling works at ×2, the last convolution at ×4
        assert cost.multiply_adds(10, 7) == 70 * sum(w * p for w, p in zip(weights, pixels, strict=True))

    def test_another_scale_is_named(self, models: Path) -> None:
        with pytest.raises(SrlibError, match="expected a model for ×2, got one for ×4"):
            from_model(models / "pixel", 2)


class TestFrozenGraphs:
    @pytest.mark.parametrize("nchw", [False, True])
    def test_rgb_of_both_layouts(self, tmp_path: Path, image: np.ndarray, nchw: bool) -> None:
        path = frozen_graph(tmp_path / "net.pb", 3, nchw=nchw)
        method = from_file("theirs", path, 4, sha256=content_hash(path))
        assert method.name == "theirs" and method.upscale is not None and method.cost is not None
        np.testing.assert_array_equal(method.upscale(image, 4), resize(image, 4, kernel="nearest"))
        assert method.cost.parameters == 3 * 48
        assert method.cost.multiply_adds(10, 7) == 70 * 3 * 48

    def test_the_largest_output_of_a_pyramid(self, tmp_path: Path, image: np.ndarray) -> None:
        path = frozen_graph(tmp_path / "net.pb", 3, pyramid=True)
        method = from_file("theirs", path, 4, sha256=content_hash(path))
        assert method.upscale is not None
        np.testing.assert_array_equal(method.upscale(image, 4), resize(image, 4, kernel="nearest"))

    @pytest.mark.parametrize("channels", ["luma", "luma-studio"])
    def test_luma_from_the_network_and_chroma_from_bicubic(
        self, tmp_path: Path, image: np.ndarray, channels: Any
    ) -> None:
        from skimage.color import rgb2ycbcr

        path = frozen_graph(tmp_path / "net.pb", 1)
        method = from_file("theirs", path, 4, sha256=content_hash(path), channels=channels)
        assert method.upscale is not None
        gray = np.repeat(image[..., :1], 3, axis=2)
        np.testing.assert_array_equal(method.upscale(gray, 4), resize(gray, 4, kernel="nearest"))
        soft = image // 4 + 96  # far from black and white: nothing is clamped
        sr = rgb2ycbcr(method.upscale(soft, 4))
        np.testing.assert_allclose(sr[..., 0], rgb2ycbcr(resize(soft, 4, kernel="nearest"))[..., 0], atol=0.6)
        np.testing.assert_allclose(sr[..., 1:], rgb2ycbcr(resize(soft, 4))[..., 1:], atol=0.6)

    def test_a_network_that_wants_levels(self, tmp_path: Path, image: np.ndarray) -> None:
        path = frozen_graph(tmp_path / "net.pb", 3)
        method = from_file("theirs", path, 4, sha256=content_hash(path), value_range=255)
        assert method.upscale is not None
        np.testing.assert_array_equal(method.upscale(image, 4), resize(image, 4, kernel="nearest"))

    def test_another_scale_is_named(self, tmp_path: Path, image: np.ndarray) -> None:
        path = frozen_graph(tmp_path / "net.pb", 3, scale=2)
        method = from_file("theirs", path, 4, sha256=content_hash(path))
        assert method.upscale is not None
        with pytest.raises(SrlibError, match=r"output of shape \(1, 160, 192, 3\), expected \(1, 320, 384, 3\)"):
            method.upscale(image, 4)

    @pytest.mark.parametrize(("name", "least"), [("ESPCN", 1.0), ("FSRCNN", 1.0), ("LapSRN", 0.7)])
    def test_published_luma_networks_beat_bicubic(self, shared: Path, name: str, least: float) -> None:
        path = shared / f"peers/{name}_x2.pb"
        method = from_file(name, path, 2, sha256=content_hash(path), channels="luma")
        assert method.upscale is not None
        gains = []
        for file in sorted((shared / "mirror/SelfExSR/data/Set5/image_SRF_2").glob("*_HR.png")):
            hr = read_image(file)
            lr = downscale(hr, 2)
            gains.append(psnr_y(hr, method.upscale(lr, 2), scale=2) - psnr_y(hr, resize(lr, 2), scale=2))
        assert np.mean(gains) > least


class TestOpenVINO:
    @pytest.mark.parametrize("nchw", [False, True])
    def test_both_layouts(self, tmp_path: Path, image: np.ndarray, nchw: bool) -> None:
        lr = opset.parameter([1, 3, -1, -1] if nchw else [1, -1, -1, 3], np.float32)
        x = lr if nchw else opset.transpose(lr, [0, 3, 1, 2])
        kernel = np.repeat(np.eye(3, dtype=np.float32), 16, axis=0).reshape(48, 3, 1, 1)
        x = opset.convolution(x, opset.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
        x = opset.depth_to_space(x, "depth_first", 4)
        x = x if nchw else opset.transpose(x, [0, 2, 3, 1])
        path = tmp_path / "net.xml"
        ov.save_model(ov.Model([x], [lr]), path, compress_to_fp16=False)
        method = from_file("theirs", path, 4, sha256=content_hash(path))
        assert method.upscale is not None and method.cost is not None
        np.testing.assert_array_equal(method.upscale(image, 4), resize(image, 4, kernel="nearest"))
        assert method.cost.multiply_adds(10, 7) == 70 * 3 * 48
        assert method.cost.parameters == 3 * 48

    def test_an_onnx_file(self, tmp_path: Path, image: np.ndarray) -> None:
        make = onnx.helper
        kernel = np.repeat(np.eye(3, dtype=np.float32), 16, axis=0).reshape(48, 3, 1, 1)
        nodes = [
            make.make_node("Conv", ["lr", "kernel"], ["x"]),
            make.make_node("DepthToSpace", ["x"], ["sr"], blocksize=4, mode="CRD"),
        ]
        lr, sr = (
            make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, f"{name}h", f"{name}w"])
            for name in ("lr", "sr")
        )
        graph = make.make_graph(nodes, "net", [lr], [sr], [onnx.numpy_helper.from_array(kernel, "kernel")])
        path = tmp_path / "net.onnx"
        path.write_bytes(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)]).SerializeToString())
        method = from_file("theirs", path, 4, sha256=content_hash(path))
        assert method.upscale is not None and method.cost is not None
        np.testing.assert_array_equal(method.upscale(image, 4), resize(image, 4, kernel="nearest"))
        assert (method.cost.parameters, method.cost.multiply_adds(10, 7)) == (144, 70 * 144)

    def test_a_changed_weights_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "net.xml").write_text("<net/>")
        (tmp_path / "net.bin").write_bytes(b"1")
        before = content_hash(tmp_path / "net.xml")
        (tmp_path / "net.bin").write_bytes(b"2")
        with pytest.raises(SrlibError, match=f"expected the SHA-256 {before}, found"):
            from_file("theirs", tmp_path / "net.xml", 4, sha256=before)


class TestGiven:
    def test_our_own_folder(self, models: Path, image: np.ndarray) -> None:
        method = from_file("older", models / "pixel", 4, sha256=content_hash(models / "pixel"))
        own = from_model(models / "pixel", 4)
        assert method.name == "older" and method.upscale is not None and own.upscale is not None
        np.testing.assert_array_equal(method.upscale(image, 4), own.upscale(image, 4))

    def test_the_weights_that_come_with_srlib_are_those_of_the_docs(self, image: np.ndarray) -> None:
        blocks = (ROOT / "docs/reference/protocol.md").read_text().split("```yaml\n")
        section = next(yaml.safe_load(block.split("```")[0]) for block in blocks if "srlib/weights" in block)
        lr = downscale(image, 4)
        bicubic = psnr_y(image, resize(lr, image.shape[:2]), scale=4)
        for item in Evaluate(images="x", **section["evaluate"]).methods:
            method = from_file(item.name, ROOT / item.file, 4, sha256=item.sha256)
            assert method.upscale is not None
            gain = psnr_y(image, method.upscale(lr, 4), scale=4) - bicubic
            assert gain > (1 if item.name == "psnr-x4" else 0)

    @pytest.mark.slow
    def test_every_network_of_ours_side_by_side(self, tmp_path: Path, image: np.ndarray) -> None:
        import keras

        from srlib.models import MODELS, ModelConfig, build, save_model

        chosen = [(name, "pixel") for name in MODELS] + [("srresnet", "gan")]
        methods = []
        for name, training in chosen:
            keras.utils.set_random_seed(1)
            config, folder = ModelConfig(name, 2, training=training), tmp_path / f"{name}-{training}"
            save_model(build(config), config, folder)
            methods.append(OtherMethod(name=folder.name, file=str(folder), sha256=content_hash(folder)))
        section = Evaluate(images="x", interpolations=["bicubic"], methods=methods)
        listed = recipe_methods(section, 2, tmp_path / "edsr-pixel", tmp_path / "srresnet-gan")
        names = [method.name for method in methods]
        assert [method.name for method in listed] == ["bicubic", *names, "EDSR", "SRGAN"]
        luma_alone = {"srcnn-pixel", "espcn-pixel", "fsrcnn-pixel"}
        soft = image[:24, :30] // 4 + 96
        chroma = rgb_chroma(resize(soft, 2))
        for method in listed[1:]:
            assert method.upscale is not None and method.cost is not None
            sr = method.upscale(soft, 2)
            assert sr.shape == (48, 60, 3) and sr.dtype == np.uint8
            if method.name in luma_alone and sr.min() > 0 and sr.max() < 255:
                np.testing.assert_allclose(rgb_chroma(sr), chroma, atol=0.6)

    def test_a_folder_of_images(self, tmp_path: Path, image: np.ndarray) -> None:
        write_png(tmp_path / "theirs/a.png", image)
        folder = tmp_path / "theirs"
        assert from_file("theirs", folder, 4, sha256=content_hash(folder)).folder == folder

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("net.pb", b"\xff\xff\xff", "not a frozen TensorFlow graph"),
            ("net.pb", b"", "expected one input and an output"),
            ("net.h5", b"anything", "expected a .pb, .onnx, .xml file"),
        ],
    )
    def test_a_file_of_no_use_is_named(self, tmp_path: Path, name: str, content: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SrlibError, match=message):
            from_file("theirs", tmp_path / name, 4, sha256=content_hash(tmp_path / name))

    def test_nothing_there_or_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(SrlibError, match=r"evaluate.methods, theirs: .*none.pb: no such file"):
            from_file("theirs", tmp_path / "none.pb", 4, sha256="0" * 64)
        (tmp_path / "net.pb").write_bytes(b"1")
        with pytest.raises(SrlibError, match="expected the SHA-256 0000"):
            from_file("theirs", tmp_path / "net.pb", 4, sha256="0" * 64)
        (tmp_path / "empty").mkdir()
        with pytest.raises(SrlibError, match="expected a model or images, found neither"):
            from_file("theirs", tmp_path / "empty", 4, sha256=content_hash(tmp_path / "empty"))


class TestEnsemble:
    def test_the_mean_over_eight_views_by_hand(self, image: np.ndarray) -> None:
        def lopsided(lr: np.ndarray, scale: int) -> np.ndarray:
            return np.roll(resize(lr, scale), 3, axis=0)  # every view of it comes out another

        views = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
        backs = [lambda x: x, lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x[::-1, ::-1]]
        mean = np.zeros((320, 384, 3))
        for view, back in zip(views, backs, strict=True):
            mean += back(lopsided(view, 4)).astype(float)
            turned = lopsided(np.ascontiguousarray(view.transpose(1, 0, 2)), 4)
            mean += back(turned.transpose(1, 0, 2)).astype(float)
        method = self_ensemble(Method("net", lopsided, cost=Cost(5, lambda h, w: h * w)))
        assert method.name == "net+" and method.upscale is not None and method.cost is not None
        np.testing.assert_array_equal(method.upscale(image, 4), to_uint8(mean / (8 * 255)))
        assert method.cost.parameters == 5 and method.cost.multiply_adds(3, 4) == 96

    def test_a_symmetric_method_is_left_as_it_is(self, image: np.ndarray) -> None:
        single = interpolation("bicubic")
        eight = self_ensemble(single)
        assert single.upscale is not None and eight.upscale is not None
        assert np.abs(eight.upscale(image, 4).astype(int) - single.upscale(image, 4)).max() <= 1


def test_the_rows_of_a_recipe(models: Path, tmp_path: Path) -> None:
    path = frozen_graph(tmp_path / "net.pb", 3)
    theirs = OtherMethod(name="theirs", file=str(path), sha256=content_hash(path))
    section = Evaluate(images="x", interpolations=["bicubic"], self_ensemble=True, methods=[theirs])
    listed = [method.name for method in recipe_methods(section, 4, models / "pixel", models / "gan")]
    assert listed == ["bicubic", "theirs", "EDSR", "EDSR+", "SRGAN"]


def test_a_given_row_may_not_be_named_like_one_of_the_recipe(models: Path) -> None:
    mine = OtherMethod(name="EDSR", file=str(models / "pixel"), sha256=content_hash(models / "pixel"))
    with pytest.raises(SrlibError, match=r"evaluate.methods: EDSR: the recipe's own network already has this name"):
        recipe_methods(Evaluate(images="x", methods=[mine]), 4, models / "pixel", models / "gan")
