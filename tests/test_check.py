"""What is wrong with a recipe is found before the first stage, with the images and networks that it names."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import yaml
from PIL import Image

from srlib import check
from srlib.check import check_recipe
from srlib.errors import SrlibError
from srlib.evaluation import methods
from srlib.evaluation.benchmark import Metric
from srlib.evaluation.methods import content_hash
from srlib.files import file_hash, tree_hash
from srlib.models import WEIGHTS, ModelConfig, build, save_model
from srlib.params import check_params, load_params
from srlib.training.memory import least_memory

ROOT = Path(__file__).parents[1]
TRAIN, TEST, STORE = Path("data/raw/train"), Path("data/raw/test"), Path(".store")
Lines = Callable[[dict[str, object]], list[str]]


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Return the lines about the quick start with some keys changed, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def lines(changes: dict[str, object]) -> list[str]:
        content = yaml.safe_load((ROOT / "tests/recipe.yaml").read_text())
        for key, value in changes.items():
            *sections, last = key.split(".")
            section = content
            for name in sections:
                section = section[name]
            section[last] = value
        try:
            check_recipe(check_params(content, "params.yaml"), train=TRAIN, test=TEST, store=STORE)
        except SrlibError as error:
            assert all(line.startswith("params.yaml: ") for line in str(error).splitlines())
            return [line.removeprefix("params.yaml: ") for line in str(error).splitlines()]
        return []

    return lines


def images(folder: Path, count: int = 3, side: int = 200) -> Path:
    """Write different images of noise."""
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def test_the_quick_start_has_no_mistake(lines: Lines) -> None:
    assert lines({}) == []


@pytest.mark.parametrize("key", ["prepare.images", "evaluate.images"])
def test_a_misspelled_folder(key: str, lines: Lines) -> None:
    expected = f"{key}: expected a folder of images, got data/raw/trian, which does not exist"
    assert lines({key: "data/raw/trian"}) == [expected]
    Path("a.zip").touch()
    assert lines({key: "a.zip"}) == [f"{key}: expected a folder of images, got a.zip, which is none"]


class TestTrainingImages:
    def test_images_of_ones_own(self, lines: Lines) -> None:
        images(Path("mine"))
        assert lines({"prepare.images": "mine"}) == []

    def test_a_name_that_is_not_in_utf_8(self, lines: Lines) -> None:
        folder = images(Path("photos"))
        (folder / "0.png").rename(folder / os.fsdecode(b"\xff.png"))
        expected = "prepare.images: photos/\\udcff.png: DVC needs names in UTF-8; rename it"
        assert lines({"prepare.images": "photos"}) == [expected]

    def test_without_a_download(self, lines: Lines) -> None:
        expected = "prepare.images: expected a folder of your own with `download.train: none`, got data/raw/train"
        assert lines({"download.train": "none"}) == [expected]

    def test_a_folder_without_images(self, lines: Lines) -> None:
        Path("mine").mkdir()
        assert lines({"prepare.images": "mine"}) == ["prepare.images: mine: no images found (prepare.images)"]

    def test_images_smaller_than_a_patch(self, lines: Lines) -> None:
        images(Path("mine"), side=100)
        first, *others = lines({"prepare.images": "mine"})
        assert first == "prepare.images: expected at least two images that patches can be cut from, got 0"
        assert others[0] == "prepare.images: mine/0.png: 100×100 pixels; a patch needs 192×192"

    def test_a_single_scene(self, lines: Lines) -> None:
        images(Path("mine"), 1)
        shutil.copy("mine/0.png", "mine/same.png")
        (line,) = lines({"prepare.images": "mine"})
        assert line.startswith("prepare.images: expected at least two usable images of different scenes")

    def test_lr_images_that_are_missing(self, lines: Lines) -> None:
        images(Path("mine/HR"))
        (line,) = lines({"prepare.images": "mine", "prepare.lr": "given"})
        assert line.startswith("prepare.images: mine: expected the folder HR with images")
        images(Path("mine/LR"), 2, side=50)
        (line,) = lines({"prepare.images": "mine", "prepare.lr": "given"})
        assert line.startswith("prepare.images: mine/HR/2.png: no LR image")

    @pytest.mark.parametrize("source", ["mine", "data/raw/train"])
    def test_a_warm_up_beyond_the_epochs(self, source: str, lines: Lines) -> None:
        """Three patches, 20 times, in batches of 16 are four steps; the bundled sample has 321 patches."""
        epochs = {"pretrain.steps": None, "pretrain.epochs": 20, "prepare.images": source}
        images(Path("mine"))
        (Path("mine") / "note.png").write_text("no image")
        limit = 4 if source == "mine" else 402
        allowed = {"prepare.unusable": "skip", "pretrain.learning_rate.warmup": limit - 1}
        assert lines(epochs | allowed) == []
        assert lines(epochs | allowed | {"pretrain.learning_rate.warmup": limit}) == [
            f"pretrain.learning_rate.warmup: expected fewer than the steps of `epochs` (at most {limit}), got {limit}; "
            "lower it, or raise `epochs`"
        ]

    def test_patches_larger_than_the_sample(self, lines: Lines) -> None:
        first, *others = lines({"prepare.patch": 1000})
        assert first.startswith("prepare.patch: expected at least two images") and len(others) == 6

    def test_the_sample_has_no_lr_images(self, lines: Lines) -> None:
        (line,) = lines({"prepare.lr": "given"})
        assert line.startswith("prepare.lr: expected make with `download.train: sample`")


class TestMemory:
    """Trainings that do not fit into the memory of the machine."""

    HUGE: ClassVar = {"pretrain.model": {"name": "edsr", "blocks": 32, "filters": 4096}, "pretrain.equivariant": False}

    def test_a_network_that_does_not_fit(self, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "total_memory", lambda: 24 * 10**9)
        first, second = lines(self.HUGE)
        # 11,023,155,203 weights, with gradient, two moments and average
        parts = "220.5 GB for weights and optimizer, 13.0 GB for a batch of 16 × 24²"
        expected = f"pretrain: needs at least 233.4 GB of memory ({parts}), and this machine has 24.0 GB; lower `batch`"
        assert first.startswith(expected) and second.startswith("finetune: needs at least 22")

    def test_a_batch_that_does_not_fit(self, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "total_memory", lambda: 24 * 10**9)
        (line,) = lines({"pretrain.batch": 16_000})
        assert line.startswith("pretrain: needs at least ") and "for a batch of 16000 × 24²)" in line

    def test_a_network_that_is_too_deep(self, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        def build_all_blocks(*arguments: object) -> None:
            raise RecursionError

        monkeypatch.setattr("srlib.training.memory.least_memory", build_all_blocks)  # it takes minutes
        line = "the network has too many layers for Keras; lower `blocks`"
        changes = {"pretrain.model": {"name": "edsr", "blocks": 1000}, "pretrain.batch": 1000}
        assert lines(changes) == [f"{name}: {line}" for name in ("pretrain", "finetune")]

    def test_memory_that_others_use(
        self, lines: Lines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(check, "total_memory", lambda: 10**12)
        monkeypatch.setattr(check, "free_memory", lambda: 10**9)
        assert lines(self.HUGE) == []
        first, second = capsys.readouterr().err.splitlines()
        assert first.startswith("warning: params.yaml: pretrain: needs at least 233.4 GB of memory")
        assert first.endswith("and 1.0 GB are free now") and second.startswith("warning: params.yaml: finetune: needs")

    @pytest.mark.skipif("CI" not in os.environ, reason="recipes/ is yours to change")
    def test_a_peak_that_may_not_fit(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(check, "total_memory", lambda: 8 * 10**9)
        monkeypatch.setattr(check, "free_memory", lambda: 7 * 10**9)
        assert list(check._memory(load_params(ROOT / "recipes/div2k-x4.yaml", stage=None))) == []
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            "warning: params.yaml: finetune: may need up to 8.4 GB of memory, and 7.0 GB are free now;"
        )

    @pytest.mark.parametrize("name", ["edsr", "espcn", "fsrcnn", "large_kernel", "srcnn", "srresnet"])
    def test_the_quick_estimate_is_never_below_the_exact_one(self, name: str) -> None:
        """It decides whether Keras is loaded at all."""
        recipe = yaml.safe_load((ROOT / "tests/recipe.yaml").read_text())
        recipe["pretrain"] |= {"model": {"name": name}, "equivariant": False, "batch": 16, "lr_patch": 24}
        finetune = recipe["finetune"] | {"discriminator_filters": 64}
        if name in ("espcn", "fsrcnn", "srcnn"):
            recipe |= {"finetune": None, "evaluate": {"images": "images"}}
        elif name == "edsr":
            recipe["finetune"] = finetune | {"discriminator": "unet"}
        else:
            recipe["finetune"] = finetune
        params = check_params(recipe, "params.yaml")
        for section in (params.pretrain, *([params.finetune] if params.finetune else [])):
            assert check._most_memory(params, section) >= least_memory(params, section).total

    @pytest.mark.skipif("CI" not in os.environ, reason="recipes/ is yours to change")
    @pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
    def test_usual_recipes_do_not_load_keras(self, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "free_memory", lambda: 14 * 10**9)
        monkeypatch.setattr("srlib.training.memory.least_memory", lambda *arguments: pytest.fail("measured"))
        assert list(check._memory(load_params(recipe, stage=None))) == []


class TestSets:
    def test_sets_of_ones_own(self, lines: Lines) -> None:
        images(Path("sets/mine"))
        rules = {name: {"set": "mine", "metric": "psnr_y"} for name in ("pretrained", "gan")}
        assert lines({"evaluate.images": "sets", "evaluate.champion": rules}) == []
        assert lines({"evaluate.images": "sets"}) == [
            f"evaluate.champion.{name}.set: expected one of mine, got sample" for name in ("pretrained", "gan")
        ]

    def test_a_folder_without_sets_or_images(self, lines: Lines) -> None:
        Path("sets").mkdir()
        (line,) = lines({"evaluate.images": "sets", "evaluate.champion": {}})
        assert line.startswith("evaluate.images: sets: expected one folder per test set")
        Path("sets/mine").mkdir()
        (line,) = lines({"evaluate.images": "sets", "evaluate.champion": {}})
        assert line == "evaluate.images: sets/mine: expected images, found none"

    def test_images_that_are_too_small(self, lines: Lines) -> None:
        images(Path("sets/mine"), 30, side=12)
        *first, last = lines({"evaluate.images": "sets", "evaluate.champion": {}})
        assert len(first) == 10 and all(line.startswith("evaluate.images: sets/mine/") for line in first)
        assert last == "evaluate.images: and 20 more lines like these"


class TestNetworks:
    @pytest.fixture
    def model(self, lines: Lines) -> Path:
        config = ModelConfig("edsr", 2, {"blocks": 1, "filters": 8, "skip": "nearest"})
        save_model(build(config), config, Path("model"))
        return Path("model")

    def test_weights_to_start_from(self, model: Path, lines: Lines) -> None:
        changes: dict[str, object] = {
            "pretrain.model": {"name": "edsr", "blocks": 1, "filters": 8, "skip": "nearest"},
            "pretrain.equivariant": False,
            "pretrain.start_from": {"folder": "model", "sha256": file_hash(model / WEIGHTS)},
        }
        assert lines(changes) == []
        (line,) = lines({**changes, "pretrain.equivariant": True})
        assert line.startswith("pretrain.start_from: model was not trained with pretrain.equivariant: true")
        (model / WEIGHTS).write_bytes(b"no weights")
        changes["pretrain.start_from"] = {"folder": "model", "sha256": file_hash(model / WEIGHTS)}
        (line,) = lines(changes)
        assert line.startswith(f"pretrain.start_from: model/{WEIGHTS}: not a readable weights file")

    def test_a_method_of_another_scale(self, model: Path, lines: Lines) -> None:
        method = {"name": "a", "file": "model", "sha256": tree_hash(model)}
        (line,) = lines({"evaluate.methods": [method]})
        assert line == "evaluate.methods[0]: model: expected a model for ×4, got one for ×2"
        (line,) = lines({"evaluate.methods": [{**method, "sha256": "0" * 64}]})
        assert "expected the SHA-256 000" in line

    def test_a_network_from_a_file_is_run(self, lines: Lines) -> None:
        shipped = ROOT / "srlib/weights/psnr-x4"
        shutil.copytree(shipped, "own")
        method = {"name": "a", "file": "own/model.xml", "sha256": content_hash(Path("own/model.xml"))}
        assert lines({"evaluate.methods": [method]}) == []
        (line,) = lines({"evaluate.methods": [method], "scale": 2})
        assert line.startswith("evaluate.methods[0]: own/model.xml: returned an output of shape (1, 96, 128, 3)")
        (line,) = lines({"evaluate.methods": [{**method, "channels": "luma"}]})
        assert line.startswith("evaluate.methods[0]: own/model.xml: expected an input of 1 channels")

    def test_finished_images_that_do_not_fit_the_sets(self, lines: Lines) -> None:
        images(Path("sets/mine"))
        images(Path("finished"), 2)
        method = {"name": "a", "file": "finished", "sha256": tree_hash(Path("finished"))}
        (line,) = lines({"evaluate.methods": [method], "evaluate.images": "sets", "evaluate.champion": {}})
        assert line == "evaluate.methods[0]: finished: no image for mine/2; expected 2.png"

    def test_feature_weights_of_another_network(self, lines: Lines) -> None:
        import h5py

        with h5py.File("own.h5", "w") as file:
            file.create_group("conv1").attrs["weight_names"] = []
        changes: dict[str, object] = {
            "download.features": {"file": "own.h5", "sha256": file_hash(Path("own.h5"))},
            "finetune.features": {"network": "squeezenet", "layer": "fire5"},
        }
        (line,) = lines(changes)
        assert line.startswith("download.features: own.h5: conv1: expected")
        assert lines({**changes, "finetune": None}) == []

    def test_weights_of_lpips(self, lines: Lines) -> None:
        Path("a.h5").write_bytes(b"no weights")
        file = {"file": "a.h5", "sha256": file_hash(Path("a.h5"))}
        (line,) = lines({"evaluate.lpips": {"backbone": file, "linear": file}})
        assert line.startswith("evaluate.lpips: a.h5: expected an HDF5 file of Keras weights")

    def test_images_too_small_for_lpips(self, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        metric = Metric("LPIPS (SqueezeNet)", "", 4, "lower", lambda hr, sr, scale: 0.0, min_side=35)
        monkeypatch.setattr(methods, "recipe_metrics", lambda section: {"lpips": metric})
        images(Path("data/own/Small"), 2, side=40)
        file = {"file": str(images(Path("weights"), 1) / "0.png"), "sha256": file_hash(Path("weights/0.png"))}
        changes = {"evaluate.images": "data/own", "evaluate.champion": {}, "scale": 2}
        changes |= {"evaluate.lpips": {"backbone": file, "linear": file}}
        assert lines(changes) == []
        changes["scale"] = 4
        assert lines(changes) == [
            "evaluate.lpips: data/own/Small/0.png: LPIPS (SqueezeNet) needs 43×43 pixels, got 40×40"
        ]


def test_a_survey_that_cannot_be_read(lines: Lines) -> None:
    Path("mine").mkdir()
    assert lines({"evaluate.survey": "mine"}) == []
    Path("mine/mos.json").write_text("{}")
    (line,) = lines({"evaluate.survey": "mine"})
    assert line.startswith(
        "evaluate.survey: mine/mos.json: expected the scores of a survey, found survey: Field required"
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("{a}", "a}: DVC cannot work below a folder with { or } in its name; rename it"),
        ("a'b\"", 'b": MLflow cannot work below a folder with \' and " in its name; rename it'),
    ],
)
def test_a_repository_where_others_cannot_work(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(SrlibError, match=re.escape(line)):
        check_recipe(
            check_params(yaml.safe_load((ROOT / "tests/recipe.yaml").read_text()), "params.yaml"),
            train=TRAIN,
            test=TEST,
            store=STORE,
        )


def test_a_backend_that_is_not_installed(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("srlib.engine.find_spec", lambda name: None)
    with pytest.raises(SrlibError, match=r"^KERAS_BACKEND=jax: jax is not installed in this environment$"):
        check_recipe(
            check_params(yaml.safe_load((ROOT / "tests/recipe.yaml").read_text()), "params.yaml"),
            train=TRAIN,
            test=TEST,
            store=STORE,
        )


@pytest.mark.parametrize(
    ("launcher", "backend", "line"),
    [
        ("srun", "tensorflow", "training in several processes needs KERAS_BACKEND=jax, got tensorflow"),
        ("no-such-launcher -n 2", "jax", "cannot run no-such-launcher: no such command"),
        ("'", "jax", "expected a command such as `srun`"),
        (" ", "tensorflow", None),
        ("sh -c", "jax", None),
    ],
)
def test_a_launcher_that_cannot_train(
    launcher: str, backend: str, line: str | None, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named before images are fetched and before DVC removes what an earlier training made."""
    monkeypatch.setenv("SRLIB_LAUNCHER", launcher)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    if line is None:
        assert lines({}) == []
        return
    recipe = check_params(yaml.safe_load((ROOT / "tests/recipe.yaml").read_text()), "params.yaml")
    with pytest.raises(SrlibError, match=f"^SRLIB_LAUNCHER: {re.escape(line)}"):
        check_recipe(recipe, train=TRAIN, test=TEST, store=STORE)


def test_no_fine_tuning_and_a_run_of_the_whole_pipeline(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines({"finetune": None}) == []
    monkeypatch.setattr("srlib.check.runs_finetune", lambda: True)
    assert lines({}) == []
    assert lines({"finetune": None}) == [
        "finetune: expected the parameters of an SRGAN, got null; copy them from a recipe, or run `dvc repro pretrain`"
    ]


@pytest.mark.parametrize("section", ["pretrain", "finetune"])
def test_micro_batches_with_another_backend(section: str, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    expected = f"{section}.micro_batches: expected 1 with the backend tensorflow, got 4; set KERAS_BACKEND=jax"
    assert lines({f"{section}.micro_batches": 4}) == [expected]
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert lines({f"{section}.micro_batches": 4}) == []


def test_the_stage_prints_a_line_per_mistake_and_writes_nothing(lines: Lines, tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "tests/recipe.yaml").read_text())
    content["evaluate"]["images"] = "data/raw/tset"
    Path("params.yaml").write_text(json.dumps(content))
    places = ["data/params.checked", str(TRAIN), str(TEST), str(STORE)]
    command = [sys.executable, str(ROOT / "stages/check.py"), *places]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    expected = "evaluate.images: expected a folder of images, got data/raw/tset, which does not exist"
    assert (done.returncode, done.stderr) == (1, f"error: params.yaml: {expected}\n")
    assert os.listdir() == ["params.yaml"]
