import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
from keras import ops

from srlib.errors import SrlibError
from srlib.evaluation.methods import upscale_function
from srlib.files import file_hash
from srlib.imaging import color as color
from srlib.imaging.input_range import CLEAN
from srlib.imaging.metrics import psnr_y, to_uint8
from srlib.imaging.resize import resize
from srlib.inference.upscaler import open_model
from srlib.models import (
    CONFIG,
    MODELS,
    WEIGHTS,
    ModelConfig,
    build,
    load_model,
    model_options,
    read_config,
    save_model,
    super_resolve,
)
from srlib.params import Params, StartFrom
from srlib.training import mesh
from srlib.training.equivariance import is_equivariant, make_equivariant
from srlib.training.gan.trainer import FinetuneInputs, finetune
from srlib.training.metric_log import MetricLog
from srlib.training.pretrain import PixelTrainer, _load_start, pixel_trainer, pretrain
from srlib.training.samples import detailed_patches
from srlib.training.types import Sample

from .conftest import plain_update

LUMA = [name for name, architecture in MODELS.items() if architecture.channels != "rgb"]
SMALL = {"blocks": 1, "filters": 8}


def small(name: str) -> dict:
    return {key: value for key, value in SMALL.items() if key in model_options(name, {})}


def recipe(scale: int = 4, **section) -> Params:
    pretraining = {
        "model": {"name": "edsr", **SMALL},
        "lr_patch": 12,
        "batch": 4,
        "steps": 2,
        "learning_rate": {"peak": 1e-3},
        **section,
    }
    finetuning = {"lr_patch": 12, "steps": 1, "learning_rate": {"peak": 1e-3}, "features": {"weights": "random"}}
    return Params.model_validate(
        {
            "scale": scale,
            "seed": 5,
            "download": {"train": "sample", "test": ["sample"], "features": "none"},
            "prepare": {"images": "x", "patch": 24},
            "pretrain": pretraining,
            "finetune": None if pretraining["model"]["name"] in LUMA else finetuning,
            "evaluate": {"images": "x"},
        }
    )


def run(folder: Path, patches: Path, params: Params, samples: list | None = None):
    log = MetricLog(
        folder / "log", report_sample=lambda sample, step: None if samples is None else samples.append(sample)
    )
    return pretrain(params, patches, folder / "model", resume=folder / "resume", log=log)


def saved(folder: Path, config: ModelConfig) -> dict[str, str]:
    """A model with fresh weights, as `start_from` names it."""
    save_model(build(config), config, folder)
    return {"folder": str(folder), "sha256": file_hash(folder / WEIGHTS)}


@pytest.mark.parametrize(("noise", "inputs"), [(0, CLEAN), (9, None)])
def test_what_given_lr_images_are_for(noise: int, inputs: object, patches: Path, tmp_path: Path) -> None:
    """LR images of a camera are not known to be clean, so no image counts as outside of their range."""
    shutil.copytree(patches, tmp_path / "patches")
    for path in (tmp_path / "patches").glob("*_lr*.npy"):
        lr = np.load(path)
        signs = np.random.default_rng(1).choice([-noise, noise], lr.shape)
        np.save(path, np.clip(lr + signs, 0, 255).astype(np.uint8))
    content = recipe().model_dump(mode="json")
    params = Params.model_validate(content | {"prepare": content["prepare"] | {"lr": "given"}})
    run(tmp_path, tmp_path / "patches", params)
    assert read_config(tmp_path / "model").inputs == inputs


def test_a_fine_tuning_that_cannot_be_divided(patches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "device_count", lambda: 5)
    with pytest.raises(
        SrlibError, match=r"^finetune\.batch: expected a multiple of the number of devices \(5\), got 16"
    ):
        run(tmp_path, patches, recipe(batch=5))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("rate", "line"),
    [
        ({"warmup": 6}, "warmup: expected fewer than the steps of `epochs` (6), got 6; lower it, or raise `epochs`"),
        (
            {"schedule": "steps", "milestones": [3, 9]},
            "milestones: expected steps below the steps of `epochs` (6), got 9; remove it",
        ),
    ],
)
def test_a_schedule_beyond_the_steps_of_the_epochs(rate: dict, line: str, patches: Path, tmp_path: Path) -> None:
    """12 patches in batches of 4 are 3 steps per epoch."""
    params = recipe(steps=None, epochs=2, learning_rate={"peak": 1e-3, **rate})
    with pytest.raises(SrlibError) as caught:
        run(tmp_path, patches, params)
    assert str(caught.value) == f"pretrain.learning_rate.{line}"
    assert not (tmp_path / "model").exists()


class TestLuma:
    @pytest.mark.parametrize("name", LUMA)
    def test_validation_equals_use_after_training(self, name: str, patches: Path, tmp_path: Path) -> None:
        samples: list[Sample] = []
        _, result = run(tmp_path, patches, recipe(model={"name": name}), samples)
        model, config = load_model(tmp_path / "model")
        assert config.channels == "luma-studio"
        lr, hr = (np.load(patches / f"validation_{kind}.npy") for kind in ("lr", "hr"))
        sr = [upscale_function(model)(image) for image in lr]
        scores = [psnr_y(h, s, scale=4) for h, s in zip(hr, sr, strict=True)]
        assert result.metrics["psnr_y"] == pytest.approx(np.mean(scores), rel=1e-5)
        rows = detailed_patches(patches, range(len(lr)))
        difference = samples[-1].sr.astype(int) - np.stack([sr[row] for row in rows])
        assert np.abs(difference).max() <= 1, "kernels may add up in another order in a batch"

    @pytest.mark.parametrize(("name", "channels"), [("fsrcnn", "luma-studio"), ("edsr", "rgb")])
    def test_training_and_inference_see_the_same_values(self, name: str, channels: str, patches: Path) -> None:
        trainer = PixelTrainer(build(ModelConfig(name, 4, small(name))), "mse")
        lr, hr = (np.load(patches / f"train_{kind}.npy")[:3] for kind in ("lr", "hr"))
        np.testing.assert_allclose(
            ops.convert_to_numpy(trainer.to_network(lr)), color.network_input(lr, channels), atol=2e-7
        )
        sr = trainer(lr)
        expected = np.mean((color.network_input(hr, channels) - ops.convert_to_numpy(sr)) ** 2)
        assert float(trainer.compute_loss(lr, hr, sr)) == pytest.approx(expected, rel=1e-4)

    @pytest.mark.slow
    def test_training_beats_bicubic(self, patches: Path, tmp_path: Path) -> None:
        rate = {"schedule": "cosine", "peak": 0.01, "warmup": 20}
        section = {"model": {"name": "espcn"}, "steps": 400, "validate_every": 400, "lr_patch": 24, "ema_decay": 0.9}
        _, result = run(tmp_path, patches, recipe(**section, learning_rate=rate, clip_norm=1.0))
        lr, hr = (np.load(patches / f"validation_{kind}.npy") for kind in ("lr", "hr"))
        bicubic = np.mean([psnr_y(h, resize(image, 4), scale=4) for h, image in zip(hr, lr, strict=True)])
        assert result.metrics["psnr_y"] > bicubic + 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("name", LUMA)
    def test_bfloat16_gives_nearly_the_same_loss(self, name: str, patches: Path) -> None:
        lr, hr = (np.load(patches / f"train_{kind}.npy")[:3] for kind in ("lr", "hr"))
        losses = []
        for dtype in ("float32", "mixed_bfloat16"):
            keras.utils.set_random_seed(1)
            trainer = PixelTrainer(build(ModelConfig(name, 4), dtype=dtype), "mae")
            trainer.compile_with([plain_update(trainer.network)])
            losses.append([float(trainer.train_on_batch(lr, hr)) for _ in range(3)])
        np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)

    @pytest.mark.parametrize("name", LUMA)
    def test_finetuning_refuses_it_first(self, name: str, tmp_path: Path) -> None:
        saved(tmp_path / "start", ModelConfig(name, 4, small(name)))
        message = f"start: {name} works on luma; an SRGAN needs color: set pretrain.model to one of edsr, srresnet"
        gone, out = tmp_path / "gone", tmp_path / "out"
        with pytest.raises(SrlibError, match=message):
            finetune(recipe(), FinetuneInputs(gone, gone, tmp_path / "start"), out, resume=gone, log=MetricLog(out))
        assert not out.exists()


class TestStartFrom:
    @pytest.mark.parametrize("name", MODELS)
    def test_another_scale_replaces_only_the_upsampling(self, name: str, tmp_path: Path) -> None:
        config = ModelConfig(name, 2, small(name))
        earlier = build(config)
        for variable in earlier.variables:
            variable.assign(np.random.default_rng(0).random(variable.shape))
        save_model(earlier, config, tmp_path)
        config = ModelConfig(name, 4, small(name))
        network = build(config)
        _load_start(network, config, StartFrom(folder=str(tmp_path), sha256=file_hash(tmp_path / WEIGHTS)))
        for layer in (layer for layer in network.layers if layer.weights):
            before = earlier.get_layer(layer.name).get_weights() if not layer.name.startswith("upsample2") else []
            same = [np.array_equal(*pair) for pair in zip(before, layer.get_weights(), strict=False)]
            assert any(same) != layer.name.startswith("upsample") and len(set(same)) <= 1, layer.name

    @pytest.mark.parametrize("scale", [2, 3])
    def test_the_layers_taken_and_the_new_ones_are_printed(self, scale: int, capsys) -> None:
        """The shipped ×4 weights, for the other scales."""
        folder = Path("srlib/weights/psnr-x4/keras")
        config = replace(read_config(folder), scale=scale)
        network = build(config)
        _load_start(network, config, StartFrom(folder=str(folder), sha256=file_hash(folder / WEIGHTS)))
        count = sum(bool(layer.weights) for layer in network.layers)
        layers = f"{count - 1} of {count} layers; new, since they are for ×4: upsample_conv"
        assert capsys.readouterr().out == f"pretrain: starts from {folder}: {layers}\n"

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (ModelConfig("srresnet", 4, SMALL), r"holds srresnet .*, but pretrain.model is edsr"),
            (ModelConfig("fsrcnn", 4), r"holds fsrcnn .*, but pretrain.model is edsr"),
            (
                ModelConfig("edsr", 4, {"blocks": 2, "filters": 8}),
                r"holds edsr {'blocks': 2.*, but .* edsr {'blocks': 1",
            ),
            (
                ModelConfig("edsr", 4, SMALL | {"residual_scaling": 0.1}),
                r"'residual_scaling': 0.1.*, but pretrain.model",
            ),
        ],
    )
    def test_another_network_is_refused(self, config: ModelConfig, message: str, patches: Path, tmp_path: Path) -> None:
        start = saved(tmp_path / "start", config)
        self.refused(message, recipe(start_from=start), patches, tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"scale": 2}, "do not fit the network edsr: unexpected array of shape .*"),
            ({"scale": 5}, "scale: edsr works with 2 or 3 or 4, got 5"),
            ({"channels": "luma-studio"}, "channels: edsr works with rgb, got 'luma-studio'"),
            ({"value_range": [0, 255]}, r"value_range: edsr works with \(0.0, 1.0\), got \(0.0, 255.0\)"),
            ({"training": "quick"}, "training: edsr works with pixel or gan, got 'quick'"),
            ({"options": {"depth": 3}}, "options.depth: unknown key"),
            ({"options": {"blocks": "1"}}, "options.blocks: expected an integer, got '1'"),
            ({"options": 3}, "not a model's config"),
            ({"name": "vdsr"}, "name: expected one of edsr, .* got 'vdsr'"),
            ({"date": "today"}, "not a model's config"),
        ],
    )
    def test_a_changed_config_is_refused(self, change: dict, message: str, patches: Path, tmp_path: Path) -> None:
        start = saved(tmp_path / "start", ModelConfig("edsr", 4, SMALL))
        path = tmp_path / "start" / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        self.refused(message, recipe(start_from=start), patches, tmp_path)

    def test_weights_of_another_shape_are_refused(self, patches: Path, tmp_path: Path) -> None:
        saved(tmp_path / "start", ModelConfig("edsr", 4, SMALL))
        build(ModelConfig("edsr", 4, {"blocks": 2, "filters": 8})).save_weights(tmp_path / "start" / WEIGHTS)
        start = {"folder": str(tmp_path / "start"), "sha256": file_hash(tmp_path / "start" / WEIGHTS)}
        message = r"do not fit the network edsr: unexpected array of shape \(.*\)"
        self.refused(message, recipe(start_from=start), patches, tmp_path)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_weights_that_are_not_finite_are_refused(self, value: float, patches: Path, tmp_path: Path) -> None:
        config = ModelConfig("edsr", 4, SMALL)
        model = build(config)
        bias = model.get_layer("body").bias
        bias.assign(np.where(np.arange(8) == 3, value, 0))
        save_model(model, config, tmp_path / "start")
        start = {"folder": str(tmp_path / "start"), "sha256": file_hash(tmp_path / "start" / WEIGHTS)}
        self.refused("body/bias has values that are not finite", recipe(start_from=start), patches, tmp_path)

    def test_another_hash_or_a_missing_file_is_refused(self, patches: Path, tmp_path: Path) -> None:
        start = saved(tmp_path / "start", ModelConfig("edsr", 4, SMALL))
        other = start | {"sha256": "0" * 64}
        self.refused(
            f"has the SHA-256 {start['sha256']}; write this SHA-256", recipe(start_from=other), patches, tmp_path
        )
        (tmp_path / "start" / WEIGHTS).unlink()
        self.refused("model.weights.h5: no such file", recipe(start_from=start), patches, tmp_path)
        gone = start | {"folder": str(tmp_path / "gone")}
        self.refused(
            "gone: expected a model .*; DVC removes a stage's outputs", recipe(start_from=gone), patches, tmp_path
        )

    def refused(self, message: str, params: Params, patches: Path, folder: Path) -> None:
        with pytest.raises(SrlibError, match=message) as error:
            run(folder / "run", patches, params)
        assert str(error.value).startswith("pretrain.start_from: ")
        assert len(str(error.value).splitlines()) == 1
        assert not (folder / "run").exists()


def trained(optimizer: dict, patches: Path, folder: Path) -> keras.Model:
    """Return the network after one step."""
    run(folder, patches, recipe(steps=1, learning_rate={"peak": 0.01}, **optimizer))
    return load_model(folder / "model")[0]


@pytest.fixture(scope="module")
def by_adam(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> keras.Model:
    return trained({}, patches, tmp_path_factory.mktemp("adam"))


def untrained() -> keras.Model:
    keras.utils.set_random_seed(recipe().seed)
    return build(ModelConfig("edsr", 4, SMALL))


def test_adamw_reaches_the_weights(by_adam: keras.Model, patches: Path, tmp_path: Path) -> None:
    by_adamw = trained({"optimizer": "adamw", "weight_decay": 0.5}, patches, tmp_path)
    models = (untrained(), by_adam, by_adamw)
    for start, plain, decayed in zip(*(m.trainable_variables for m in models), strict=True):
        expected = ops.convert_to_numpy(plain) - 0.01 * 0.5 * ops.convert_to_numpy(start) * (start.name == "kernel")
        np.testing.assert_allclose(ops.convert_to_numpy(decayed), expected, atol=1e-6)


def test_muon_reaches_the_weights(by_adam: keras.Model, patches: Path, tmp_path: Path) -> None:
    """Its first step moves a hidden kernel by the length of the polar factor, and other variables as Adam does."""
    moved = {}
    begun = {v.path: ops.convert_to_numpy(v) for v in untrained().trainable_variables}
    for name, model in {"adam": by_adam, "muon": trained({"optimizer": "muon"}, patches, tmp_path)}.items():
        moved[name] = {v.path: ops.convert_to_numpy(v) - begun[v.path] for v in model.trainable_variables}
    for path, step in moved["muon"].items():
        if path.endswith("kernel") and not path.startswith(("head", "tail")):
            # Less than 1 where the gradient has a lower rank than the kernel, as behind the pixel shuffle.
            assert 0.5 < np.sqrt(np.mean(step**2)) / (0.01 * 0.2) < 1.2, path
        else:
            np.testing.assert_array_equal(step, moved["adam"][path])


def test_training_can_start_from_the_shipped_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the network that `srlib upscale` uses."""
    monkeypatch.chdir(Path(__file__).parents[2])
    folder = Path("srlib/weights/psnr-x4/keras")
    start = {"folder": str(folder), "sha256": file_hash(folder / WEIGHTS)}
    trainer = pixel_trainer(recipe(model={"name": "large_kernel", "filters": 48, "every": 2}, start_from=start))
    lr = resize(skimage.data.chelsea(), (60, 90))
    shipped = open_model("psnr-x4", precision="float32")(lr)
    off = np.abs(to_uint8(super_resolve(trainer.network, lr[None])[0]).astype(int) - shipped)
    assert off.max() <= 1 and off.mean() < 1e-3, "but for ties in rounding"


def test_a_large_kernel_network_starts_as_the_compact_one(patches: Path, tmp_path: Path, capsys) -> None:
    """Equal at first, since the last layer of each added block is zero; then every layer learns."""
    config = ModelConfig("compact", 4, {"blocks": 4, "filters": 16})
    compact = build(config)
    make_equivariant(compact)
    save_model(compact, config, tmp_path / "start")
    start = {"folder": str(tmp_path / "start"), "sha256": file_hash(tmp_path / "start" / WEIGHTS)}
    model = {"name": "large_kernel", **config.options, "every": 2, "size": 5, "large_filters": 8}
    params = recipe(model=model, equivariant=True, optimizer="muon", start_from=start, steps=3)
    begun = pixel_trainer(params).network
    assert "11 of 17 layers; 6 are new and change nothing yet" in capsys.readouterr().out
    lr = resize(skimage.data.chelsea(), (30, 45))[None]
    np.testing.assert_array_equal(super_resolve(begun, lr), super_resolve(compact, lr))
    network, _ = run(tmp_path / "run", patches, params)
    assert is_equivariant(network)
    for before, after in zip(begun.trainable_variables, network.trainable_variables, strict=True):
        assert not np.array_equal(ops.convert_to_numpy(before), ops.convert_to_numpy(after)), before.path


def test_other_sizes_do_not_start_a_large_kernel_network(patches: Path, tmp_path: Path) -> None:
    start = saved(tmp_path / "start", ModelConfig("compact", 4, {"blocks": 4, "filters": 8}))
    model = {"name": "large_kernel", "blocks": 4, "filters": 16}
    with pytest.raises(SrlibError, match=r"holds compact {'blocks': 4, 'filters': 8}, but pretrain.model is large"):
        run(tmp_path / "run", patches, recipe(start_from=start, model=model))
