"""Test sets, methods and metrics that cannot be used are found before the first stage."""

import shutil
from pathlib import Path

import pytest

from srlib.evaluation import methods
from srlib.evaluation.benchmark import Metric
from srlib.evaluation.methods import content_hash
from srlib.files import file_hash, tree_hash
from srlib.models import ModelConfig, build, save_model

from ..conftest import Lines, noise_images

ROOT = Path(__file__).parents[2]


class TestSets:
    def test_sets_of_ones_own(self, check_lines: Lines) -> None:
        noise_images(Path("sets/mine"))
        rules = {name: {"set": "mine", "metric": "psnr_y"} for name in ("pretrained", "gan")}
        assert check_lines({"evaluate.images": "sets", "evaluate.champion": rules}) == []
        assert check_lines({"evaluate.images": "sets"}) == [
            f"evaluate.champion.{name}.set: expected one of mine, got sample" for name in ("pretrained", "gan")
        ]

    def test_a_folder_without_sets_or_images(self, check_lines: Lines) -> None:
        Path("sets").mkdir()
        (line,) = check_lines({"evaluate.images": "sets", "evaluate.champion": {}})
        assert line.startswith("evaluate.images: sets: expected one folder per test set")
        Path("sets/mine").mkdir()
        (line,) = check_lines({"evaluate.images": "sets", "evaluate.champion": {}})
        assert line == "evaluate.images: sets/mine: expected images, found none"

    def test_images_that_are_too_small(self, check_lines: Lines) -> None:
        noise_images(Path("sets/mine"), 30, side=12)
        *first, last = check_lines({"evaluate.images": "sets", "evaluate.champion": {}})
        assert len(first) == 10 and all(line.startswith("evaluate.images: sets/mine/") for line in first)
        assert last == "evaluate.images: and 20 more lines like these"


class TestNetworks:
    @pytest.fixture
    def model(self, check_lines: Lines) -> Path:
        config = ModelConfig("edsr", 2, {"blocks": 1, "filters": 8, "skip": "nearest"})
        save_model(build(config), config, Path("model"))
        return Path("model")

    def test_a_method_of_another_scale(self, model: Path, check_lines: Lines) -> None:
        method = {"name": "a", "file": "model", "sha256": tree_hash(model)}
        (line,) = check_lines({"evaluate.methods": [method]})
        assert line == "evaluate.methods[0]: model: expected a model for ×4, got one for ×2"
        (line,) = check_lines({"evaluate.methods": [{**method, "sha256": "0" * 64}]})
        assert "expected the SHA-256 000" in line

    def test_a_network_from_a_file_is_run(self, check_lines: Lines) -> None:
        shipped = ROOT / "srlib/weights/psnr-x4"
        shutil.copytree(shipped, "own")
        method = {"name": "a", "file": "own/model.xml", "sha256": content_hash(Path("own/model.xml"))}
        assert check_lines({"evaluate.methods": [method]}) == []
        (line,) = check_lines({"evaluate.methods": [method], "scale": 2})
        assert line.startswith("evaluate.methods[0]: own/model.xml: returned an output of shape (1, 96, 128, 3)")
        (line,) = check_lines({"evaluate.methods": [{**method, "channels": "luma"}]})
        assert line.startswith("evaluate.methods[0]: own/model.xml: expected an input of 1 channels")

    def test_finished_images_that_do_not_fit_the_sets(self, check_lines: Lines) -> None:
        noise_images(Path("sets/mine"))
        noise_images(Path("finished"), 2)
        method = {"name": "a", "file": "finished", "sha256": tree_hash(Path("finished"))}
        (line,) = check_lines({"evaluate.methods": [method], "evaluate.images": "sets", "evaluate.champion": {}})
        assert line == "evaluate.methods[0]: finished: no image for mine/2; expected 2.png"

    def test_weights_of_lpips(self, check_lines: Lines) -> None:
        Path("a.h5").write_bytes(b"no weights")
        file = {"file": "a.h5", "sha256": file_hash(Path("a.h5"))}
        (line,) = check_lines({"evaluate.lpips": {"backbone": file, "linear": file}})
        assert line.startswith("evaluate.lpips: a.h5: expected an HDF5 file of Keras weights")

    def test_images_too_small_for_lpips(self, check_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
        metric = Metric("LPIPS (SqueezeNet)", "", 4, "lower", lambda hr, sr, scale: 0.0, min_side=35)
        monkeypatch.setattr(methods, "recipe_metrics", lambda section: {"lpips": metric})
        noise_images(Path("data/own/Small"), 2, side=40)
        file = {"file": str(noise_images(Path("weights"), 1) / "0.png"), "sha256": file_hash(Path("weights/0.png"))}
        changes = {"evaluate.images": "data/own", "evaluate.champion": {}, "scale": 2}
        changes |= {"evaluate.lpips": {"backbone": file, "linear": file}}
        assert check_lines(changes) == []
        changes["scale"] = 4
        assert check_lines(changes) == [
            "evaluate.lpips: data/own/Small/0.png: LPIPS (SqueezeNet) needs 43×43 pixels, got 40×40"
        ]
